// Package health tells others how a node's dataplane is: load balancers, whether the node serves a Service
// (healthCheckNodePort) or anything at all (/healthz); the kubelet, whether the agent is stuck (/livez) and whether it has
// come so far as to write all rules (/readyz); and Prometheus, by the metric names that kube-proxy made known. It observes a
// sync.Loop and decides nothing.
package health

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

// Timeout is how long a change may wait to be written before the dataplane counts as unhealthy: twice kube-proxy's
// default syncPeriod, as it does it. It is longer where changes are made to wait for minutes.
const Timeout = time.Minute

// taintToBeDeleted is set by the cluster autoscaler on a node that it is about to remove.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Health is the observer of a sync.Loop. The zero value is not usable; see New.
type Health struct {
	now      func() time.Time
	timeout  time.Duration
	metrics  *metrics
	flows    *flowMetrics
	services *serviceServers

	mu       sync.Mutex
	updated  time.Time // last successful pass
	waiting  time.Time // since when a change waits; zero: none does
	eligible bool
	known    bool // the Node was seen
}

var _ dpsync.Observer = (*Health)(nil)

// New makes a Health whose healthCheckNodePort servers log to log. minInterval is the loop's: a change that waits for
// it is not stuck. Close it at the end.
func New(log logr.Logger, minInterval time.Duration) *Health {
	h := &Health{now: time.Now, timeout: max(Timeout, 2*minInterval), metrics: newMetrics(), eligible: true}
	h.flows = newFlowMetrics(h.metrics.registry)
	h.services = newServiceServers(log, h.Healthy)
	return h
}

// Close ends the healthCheckNodePort servers.
func (h *Health) Close() { h.services.close() }

// Register adds to what /metrics serves.
func (h *Health) Register(more ...prometheus.Collector) { h.metrics.registry.MustRegister(more...) }

// Changed counts an event.
func (h *Health) Changed(kind dpsync.Kind) { h.metrics.changed(kind) }

// Queued starts the clock of a change that waits, unless one waits already.
func (h *Health) Queued() {
	now := h.now()
	h.startWaiting(now)
	h.metrics.queued(now)
}

func (h *Health) startWaiting(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting.IsZero() {
		h.waiting = now
	}
}

// Synced stops that clock after a success, and brings metrics and health check servers up to date. A failure starts
// it: the first write and the periodic ones are nobody's change.
func (h *Health) Synced(r dpsync.Result) {
	now := h.now()
	h.metrics.synced(now, r)
	if r.Err != nil {
		h.startWaiting(now)
		return
	}
	h.mu.Lock()
	h.updated = now
	h.waiting = time.Time{}
	h.mu.Unlock()
	h.services.sync(r.HealthChecks, r.NodePorts)
}

// Node takes this node's Node: load balancers should look elsewhere when it is being deleted, is gone, or is marked
// by the cluster autoscaler. Until it is known, the node is taken to stay.
func (h *Health) Node(node *corev1.Node) {
	eligible := node != nil && node.DeletionTimestamp.IsZero()
	if node != nil {
		for _, taint := range node.Spec.Taints {
			eligible = eligible && taint.Key != taintToBeDeleted
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eligible = eligible
	h.known = h.known || node != nil
}

// Healthy is true while no change has waited too long to be written.
func (h *Health) Healthy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.healthy()
}

func (h *Health) healthy() bool {
	return h.waiting.IsZero() || h.now().Sub(h.waiting) < h.timeout
}

// report is the body of all three, in kube-proxy's form.
type report struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible *bool     `json:"nodeEligible,omitempty"`
	Healthy      bool      `json:"healthy"`
	// Status is by family. It is missing before the first write.
	Status map[string]familyReport `json:"status,omitempty"`
}

type familyReport struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// probe is what a path asks for beside health.
type probe struct {
	// node: that it stays. written: that all rules were written at least once, and the Node seen.
	node, written bool
	answers       *prometheus.CounterVec // nil: not counted
}

// Handler serves /livez; /healthz, which is 503 also when the node is about to go; and /readyz, which is 503 also until this
// process has written all rules and seen the Node, without which node ports are not served, and which kube-proxy does not
// have. Until then rules of a former run may serve, so that load balancers, who ask /healthz, have no reason to leave; a
// rollout has one to stop. The handler is meant for port 10256.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, p := range map[string]probe{
		"/healthz": {node: true, answers: h.metrics.healthz},
		"/livez":   {answers: h.metrics.livez},
		"/readyz":  {written: true},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { h.answer(w, p) })
	}
	return mux
}

func (h *Health) answer(w http.ResponseWriter, p probe) {
	h.mu.Lock()
	eligible, known := h.eligible, h.known
	r := report{LastUpdated: h.updated, CurrentTime: h.now(), Healthy: h.healthy()}
	h.mu.Unlock()
	if p.written && (r.LastUpdated.IsZero() || !known) {
		r.Healthy = false
	}
	if !r.LastUpdated.IsZero() {
		// One write serves both families.
		r.Status = map[string]familyReport{}
		for _, name := range families {
			r.Status[name] = familyReport{LastUpdated: r.LastUpdated, Healthy: r.Healthy}
		}
	}
	ok := r.Healthy
	if p.node {
		r.NodeEligible = &eligible
		ok = ok && eligible
	}
	if ok {
		// Readers compare lastUpdated with currentTime; nothing to write for an hour is not stale.
		r.LastUpdated = r.CurrentTime
	}
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	if p.answers != nil {
		p.answers.WithLabelValues(strconv.Itoa(code)).Inc()
	}
	body, err := json.Marshal(r)
	if err != nil {
		// Times beyond the year 9999, that is a broken clock.
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, code, body)
}

func writeJSON(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	// A client that has gone cannot be told.
	_, _ = w.Write(body)
}
