# Everything people do with this repository. `make help` lists the targets.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Programs are static; only the race detector needs a C compiler (see test-race).
export CGO_ENABLED ?= 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMG     ?= fairlead/manager:$(VERSION)
AGENT_IMG ?= fairlead/node-agent:$(VERSION)
BIN     := bin
TOOL    := go tool -modfile=go.tools.mod
KUBECTL ?= kubectl
PROGRAMS := manager node-agent playground kubectl-fairlead

# The manifests with the images of this build.
RENDER = $(TOOL) kustomize build config/default | sed -e 's|image: fairlead/manager:latest|image: $(IMG)|' -e 's|image: fairlead/node-agent:latest|image: $(AGENT_IMG)|'

# The folder of the control plane's programs. They are looked for when a recipe runs, not when make starts.
ASSETS = $$(cd test/controlplane && go run .)
# The same with kube-proxy, with which tests and benchmarks compare the node agent.
PEERS = $$(cd test/controlplane && go run . -with kube-proxy)

# The modules beside the product's own.
MODULES := examples/hostlb test/cloudproviders test/controlplane test/oracle test/peers/servicecontroller

# How many packages are tested at once. Most wait, for leases, resyncs and packets, more than they compute.
PARALLEL ?= 4

# How long make fuzz takes.
FUZZTIME ?= 1m

# Packages whose tests need or deserve the race detector.
RACE ?= ./api/... ./cloud ./cloud/adapter/... ./cloud/cloudtest/... ./cloud/fake/... ./cloud/plugin/... ./cmd/manager/... ./cmd/node-agent/... ./controllers/... ./dataplane/... ./endpoints/... ./portalloc/... ./topology/...
RACE_CLOUDS ?= ./cloud/aws/... ./cloud/azure/... ./cloud/gcp/...

##@ General

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*##"; printf "Usage: make \033[36m<target>\033[0m\n"} \
	  /^[a-zA-Z0-9_-]+:.*?##/ {printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)}' $(MAKEFILE_LIST)

##@ Try it

.PHONY: playground
playground: build ## Bring up a control plane, three nodes and real packets; Ctrl-C ends it.
	@assets=$(ASSETS) && exec $(BIN)/playground up --assets "$$assets"

.PHONY: playground-down
playground-down: ## End the playgrounds of this user.
	@if [ -x $(BIN)/playground ]; then $(BIN)/playground down; else echo "no playground was ever built here"; fi

##@ Development

.PHONY: manifests
manifests: ## Generate CRDs and the manager's role from the code.
	$(TOOL) controller-gen crd paths=./api/v1alpha1/... output:crd:dir=config/crd/bases
	$(TOOL) controller-gen rbac:roleName=fairlead-manager paths=./controllers/... paths=./cmd/manager/... output:rbac:dir=config/rbac

.PHONY: generate
generate: ## Generate deep copies, apply configurations and the wire format of plugins.
	$(TOOL) controller-gen object paths=./api/...
	$(TOOL) controller-gen applyconfiguration paths=./api/v1alpha1/...
	go run -modfile=go.tools.mod cloud/plugin/v1alpha1/generate.go

.PHONY: fmt
fmt: ## Format the code.
	gofmt -w $$(git ls-files '*.go')

.PHONY: vet
vet: ## Run go vet, on the end-to-end tests too.
	go vet -tags e2e ./...
	@set -e; for module in $(MODULES); do (set -x; cd $$module && go vet ./...); done

.PHONY: lint
lint: ## Run golangci-lint, which runs go vet too.
	$(TOOL) golangci-lint run ./...
	@set -e; linter=$$($(TOOL) -n golangci-lint); for module in $(MODULES); do (set -x; cd $$module && "$$linter" run ./...); done

.PHONY: tidy
tidy: ## Tidy the modules.
	go mod tidy
	@set -e; for module in $(MODULES); do (set -x; cd $$module && go mod tidy); done

.PHONY: verify
verify: generate manifests tidy lint ## Generate, tidy, lint, check import rules and docs; the tree must stay clean.
	go test ./test/imports/ ./test/docs/
	@git diff --exit-code || { echo "verify: commit what was generated above"; exit 1; }
	@test -z "$$(git status --porcelain)" || { git status --short; echo "verify: add or remove the files above"; exit 1; }

##@ Test

.PHONY: controlplane
controlplane: ## Find, download or build the control plane's programs; print their folder.
	@echo "$(ASSETS)"

.PHONY: test
test: test-unit test-e2e ## Run all tests: unit, integration with a real API server, packets in the playground.

.PHONY: test-unit
test-unit: build ## Run the tests of all packages, with a real API server and a real kube-proxy.
	@assets=$(PEERS) && KUBEBUILDER_ASSETS="$$assets" go test -p $(PARALLEL) -timeout 20m $(GOTEST_FLAGS) ./...
	cd test/controlplane && go test $(GOTEST_FLAGS) ./...
	cd test/oracle && go test -count=1 $(GOTEST_FLAGS) ./...
	cd test/peers/servicecontroller && go test $(GOTEST_FLAGS) ./...
	cd examples/hostlb && go test -count=1 $(GOTEST_FLAGS) -skip '^Test(Suite|Live)$$' ./...
	# Apart: what the provider does not declare is skipped by design.
	cd examples/hostlb && go test -count=1 -run '^Test(Suite|Live)$$' .
	cd test/cloudproviders && go test -count=1 $(GOTEST_FLAGS) ./...

.PHONY: packets
packets: ## Print what becomes of packets, case by case, with the node agent and with kube-proxy.
	@assets=$(PEERS) && table=$$(mktemp) && trap 'rm -f "$$table"' EXIT && \
	  KUBEBUILDER_ASSETS="$$assets" go test -count=1 -timeout 20m ./test/proxies -markdown "$$table" >&2 && cat "$$table"

.PHONY: fuzz
fuzz: ## Play random streams of events to upstream's code and to ours until FUZZTIME is over.
	cd test/oracle && go test -run '^$$' -fuzz FuzzEndpoints -fuzztime $(FUZZTIME) -fuzzminimizetime 10x .

.PHONY: test-e2e
test-e2e: build $(BIN)/e2e.test ## Run the packet tests in a playground.
	@assets=$(ASSETS) && $(BIN)/playground up --assets "$$assets" --run '$(CURDIR)/$(BIN)/e2e.test -test.v -test.timeout 15m $(E2E_FLAGS)'

.PHONY: $(BIN)/e2e.test
$(BIN)/e2e.test:
	go test -tags e2e -c -o $@ ./test/e2e

.PHONY: test-race
test-race: ## Run the tests under the race detector (needs gcc).
	# Not the suite that plays against a plugin's process in real time: it would take ten minutes, and all else of plugins is tried.
	@assets=$(ASSETS) && CGO_ENABLED=1 KUBEBUILDER_ASSETS="$$assets" go test -race -p $(PARALLEL) -timeout 20m \
	  -skip '^TestProvider$$/^Live' $(RACE)
	# Nor the whole suite on each cloud's emulator, for the same reason.
	CGO_ENABLED=1 go test -race -p $(PARALLEL) -timeout 20m -skip '^Test(Provider|ManyServices)$$' $(RACE_CLOUDS)

.PHONY: bench
bench: ## Run the benchmarks.
	go test -run '^$$' -bench . -benchmem ./endpoints/... ./topology/... ./dataplane/...

.PHONY: bench-endpoints
bench-endpoints: build ## Measure the manager against kube-controller-manager (BENCH_FLAGS=-quick for a look).
	go build -o $(BIN)/peers ./test/peers
	@assets=$(ASSETS) && exec $(BIN)/peers -assets "$$assets" $(BENCH_FLAGS)

# The agent is built without the commit's name: results are kept for as long as the program is the same.
.PHONY: bench-dataplane
bench-dataplane: ## Measure the node agent against kube-proxy (BENCH_FLAGS=-quick for a look, "-for 5m" for a portion).
	@mkdir -p $(BIN)
	go build -trimpath -buildvcs=false -ldflags '-s -w' -o $(BIN)/measured-node-agent ./cmd/node-agent
	go build -o $(BIN)/dataplane ./test/peers/dataplane
	@assets=$(PEERS) && exec $(BIN)/dataplane -assets "$$assets" -agent $(BIN)/measured-node-agent $(BENCH_FLAGS)

.PHONY: bench-loadbalancer
bench-loadbalancer: build ## Measure the manager against upstream's service controller; write docs/loadbalancer-figures.md.
	cd test/peers/servicecontroller && go build -o ../../../$(BIN)/servicecontroller .
	go build -o $(BIN)/loadbalancer ./test/peers/loadbalancer
	@assets=$(ASSETS) && exec $(BIN)/loadbalancer -assets "$$assets" -page docs/loadbalancer-figures.md $(BENCH_FLAGS)

.PHONY: bench-topology
bench-topology: ## Play random Services to upstream's topology hints and to ours; write docs/topology-figures.md and its plots.
	cd test/oracle && go run ./topology -docs ../../docs

##@ Build and deploy

.PHONY: build
build: ## Build the programs into bin/.
	@mkdir -p $(BIN)
	go build -trimpath -ldflags '-s -w' -o $(BIN)/ $(addprefix ./cmd/,$(PROGRAMS))

.PHONY: run
run: ## Run the manager, in mode Replace, against the cluster of your kubeconfig.
	go run ./cmd/manager

.PHONY: install
install: ## Install the CRDs into the cluster of your kubeconfig.
	$(TOOL) kustomize build config/crd | $(KUBECTL) apply --server-side -f -

.PHONY: uninstall
uninstall: ## Remove the CRDs.
	$(TOOL) kustomize build config/crd | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: deploy
deploy: ## Install everything (config/default) into the cluster of your kubeconfig.
	$(RENDER) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: ## Remove everything that deploy installed.
	$(TOOL) kustomize build config/default | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: build-installer
build-installer: ## Render config/default into dist/install.yaml.
	@mkdir -p dist
	$(RENDER) > dist/install.yaml

.PHONY: clean
clean: ## Remove what was built here (not the cache of the control plane).
	rm -rf $(BIN) dist
