package integration

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// repository is the module's root as seen from here.
const repository = "../.."

// seed is that of everything that is made at random: the same every time, so that who breaks something sees it, and nobody else.
var seed = flag.Uint64("seed", 1, "the seed of what is made at random")

// suite is what the tests of this package share: one API server with config/default applied, and the manager's binary.
var suite struct {
	admin   client.Client
	config  *rest.Config
	manager string
	// warnings are those that the API server gave while config/default was applied.
	warnings []string
	warner   warnings
	// audit is the API server's audit log.
	audit string
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return m.Run(), nil // every test skips, naming the remedy: see needsAPIServer
	}
	if err := noteSources(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "fairlead-integration-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	suite.manager = filepath.Join(dir, "manager")
	build := exec.Command("go", "build", "-o", suite.manager, "./cmd/manager")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the manager: %w: %s", err, out)
	}
	ctrl.SetLogger(logr.Discard()) // or controller-runtime complains that nobody did
	environment, err := startAPIServer(dir)
	defer func() { err = errors.Join(err, environment.Stop()) }()
	if err != nil {
		return 0, err
	}
	if err := install(context.Background()); err != nil {
		return 0, fmt.Errorf("applying config/default: %w", err)
	}
	return m.Run(), nil
}

// noteSources looks at the folders that the manager and the manifests are built from. `go test` would otherwise print
// the cached result of a test of other sources: it knows the files that a test opens, not those of the programs it runs.
func noteSources() error {
	for _, folder := range []string{"api", "cloud", "cmd/manager", "config", "controllers", "endpoints", "portalloc", "topology"} {
		err := filepath.WalkDir(filepath.Join(repository, folder), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return fmt.Errorf("looking at the sources: %w", err)
		}
	}
	return nil
}

// startAPIServer starts etcd and kube-apiserver, dual stack and with an audit log of what service accounts ask for.
func startAPIServer(dir string) (*envtest.Environment, error) {
	environment := &envtest.Environment{ControlPlaneStartTimeout: waitFor, ControlPlaneStopTimeout: waitFor}
	policy := filepath.Join(dir, "audit-policy.yaml")
	suite.audit = filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return environment, err
	}
	environment.ControlPlane.GetAPIServer().Configure().
		Set("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112").
		Set("audit-policy-file", policy).
		Set("audit-log-path", suite.audit)
	var err error
	if suite.config, err = environment.Start(); err != nil {
		return environment, fmt.Errorf("starting the API server of KUBEBUILDER_ASSETS=%s: %w", os.Getenv("KUBEBUILDER_ASSETS"), err)
	}
	suite.config.WarningHandlerWithContext = &suite.warner
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, fairleadv1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return environment, err
		}
	}
	suite.admin, err = client.New(suite.config, client.Options{Scheme: scheme})
	return environment, err
}

// warnings collect what the API server warns of, one test after the other.
type warnings []string

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	*w = append(*w, text)
}

// needsAPIServer skips a test that has no control plane to run against. The Makefile always gives one.
func needsAPIServer(t *testing.T) {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: `make test-unit` sets it, or set it to the folder that `make controlplane` prints")
	}
}

// install creates the objects of config/default, refusing unknown fields, and waits until the custom resources are served.
// Webhooks are the tests' to install: without a proxy the API server would look for the manager's cluster IP in the
// network of this machine.
func install(ctx context.Context) error {
	objects, err := kustomize("config/default")
	if err != nil {
		return err
	}
	for _, object := range objects {
		if object.GetKind() == "MutatingWebhookConfiguration" {
			continue
		}
		if err := suite.admin.Create(ctx, object, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
			return fmt.Errorf("creating %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	suite.warnings = slices.Clone(suite.warner)
	for end := time.Now().Add(waitFor); ; time.Sleep(100 * time.Millisecond) {
		err := suite.admin.List(ctx, &fairleadv1alpha1.LoadBalancerRecordList{})
		if err == nil {
			err = suite.admin.List(ctx, &fairleadv1alpha1.LoadBalancerClassList{})
		}
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// kustomize builds a folder of the repository with the tool that the Makefile uses.
func kustomize(folder string) ([]*unstructured.Unstructured, error) {
	cmd := exec.Command("go", "tool", "-modfile=go.tools.mod", "kustomize", "build", folder)
	cmd.Dir = repository
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kustomize build %s: %w: %s", folder, err, stderr.String())
	}
	return parse(out)
}

// parse reads the objects of a YAML file.
func parse(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}

// sample reads config/samples/file.
func sample(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "config/samples", file))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := parse(data)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return objects
}

const (
	pollEvery = 50 * time.Millisecond
	// quietPolls in a row that find nothing new take two seconds. They are counted, since time goes by also on a machine that
	// stands still.
	quietPolls = int(2*time.Second/pollEvery) + 1
)

// eventually polls until check says nothing is missing. It names the last thing that was.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(pollEvery) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, within, err)
}
