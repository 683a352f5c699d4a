package health

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/dataplane/model"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

// newHealth has a clock that stands still until it is moved.
func newHealth(t *testing.T) (*Health, *time.Time) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h := New(logr.Discard(), 0)
	h.now = func() time.Time { return clock }
	t.Cleanup(h.Close)
	return h, &clock
}

func get(t *testing.T, handler http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestHealthz(t *testing.T) {
	failed := dpsync.Result{Err: errors.New("no")}
	tests := map[string]struct {
		reason         string
		do             func(h *Health, pass func(time.Duration))
		healthz, livez int
		eligible       bool
		written        bool // ready if live, and there is a status for each family
		unknown        bool // the Node is not seen, so that it is not ready
	}{
		"Start": {
			reason: "nothing to write yet: rules of a former run may serve",
			do:     func(*Health, func(time.Duration)) {}, healthz: 200, livez: 200, eligible: true,
		},
		"Waiting": {
			reason:  "a change waits, not for long",
			do:      func(h *Health, pass func(time.Duration)) { h.Queued(); pass(Timeout - time.Second) },
			healthz: 200, livez: 200, eligible: true,
		},
		"TooLong": {
			reason: "later changes do not start the clock anew",
			do: func(h *Health, pass func(time.Duration)) {
				h.Queued()
				pass(Timeout - time.Second)
				h.Queued()
				pass(time.Second)
			}, healthz: 503, livez: 503, eligible: true,
		},
		"FailureIsNoProgress": {
			reason: "trying is not writing",
			do: func(h *Health, pass func(time.Duration)) {
				h.Queued()
				pass(Timeout)
				h.Synced(failed)
			}, healthz: 503, livez: 503, eligible: true,
		},
		"FailingUnasked": {
			reason: "the first write and the periodic one fail though nobody queued a change",
			do: func(h *Health, pass func(time.Duration)) {
				h.Synced(failed)
				pass(Timeout)
				h.Synced(failed)
			}, healthz: 503, livez: 503, eligible: true,
		},
		"Recovered": {
			reason: "written at last",
			do: func(h *Health, pass func(time.Duration)) {
				h.Queued()
				pass(Timeout)
				h.Synced(failed)
				h.Synced(dpsync.Result{Wrote: true, Full: true})
			}, healthz: 200, livez: 200, eligible: true, written: true,
		},
		"Quiet": {
			reason: "nothing to write for long is healthy",
			do: func(h *Health, pass func(time.Duration)) {
				h.Queued()
				h.Synced(dpsync.Result{})
				pass(24 * time.Hour)
			}, healthz: 200, livez: 200, eligible: true, written: true,
		},
		"StuckLater": {
			reason: "it was written once; lastUpdated tells when, and does not move while a change waits for too long",
			do: func(h *Health, pass func(time.Duration)) {
				h.Synced(dpsync.Result{})
				h.Queued()
				pass(Timeout)
			}, healthz: 503, livez: 503, eligible: true, written: true,
		},
		"Tainted": {
			reason: "the autoscaler removes the node: load balancers go, the kubelet does not restart us",
			do: func(h *Health, _ func(time.Duration)) {
				h.Node(&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "one"}, {Key: taintToBeDeleted}, {Key: "other"}}}})
			}, healthz: 503, livez: 200,
		},
		"OtherTaint": {
			reason: "not our business",
			do: func(h *Health, _ func(time.Duration)) {
				h.Node(&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "other"}}}})
			}, healthz: 200, livez: 200, eligible: true,
		},
		"Deleting": {
			reason: "the node is being deleted",
			do: func(h *Health, _ func(time.Duration)) {
				h.Node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: time.Now()}}})
			}, healthz: 503, livez: 200,
		},
		"Gone": {reason: "no Node", do: func(h *Health, _ func(time.Duration)) { h.Node(nil) }, healthz: 503, livez: 200},
		"TaintedWritten": {
			reason: "a node that is about to go does not hold up a rollout",
			do: func(h *Health, _ func(time.Duration)) {
				h.Synced(dpsync.Result{Wrote: true, Full: true})
				h.Node(&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taintToBeDeleted}}}})
			}, healthz: 503, livez: 200, written: true,
		},
		"WrongName": {
			reason:  "there is no Node of the agent's name, and so no node port is served",
			do:      func(h *Health, _ func(time.Duration)) { h.Synced(dpsync.Result{Wrote: true, Full: true}) },
			healthz: 200, livez: 200, eligible: true, written: true, unknown: true,
		},
		"GoneLater": {
			reason: "rules go on with what the Node said last",
			do: func(h *Health, _ func(time.Duration)) {
				h.Synced(dpsync.Result{Wrote: true, Full: true})
				h.Node(nil)
			}, healthz: 503, livez: 200, written: true,
		},
		"Back": {
			reason: "the taint is lifted",
			do:     func(h *Health, _ func(time.Duration)) { h.Node(nil); h.Node(&corev1.Node{}) }, healthz: 200, livez: 200, eligible: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			h, clock := newHealth(t)
			if !tc.unknown {
				h.Node(&corev1.Node{})
			}
			tc.do(h, func(d time.Duration) { *clock = clock.Add(d) })
			readyz := tc.livez
			ready := tc.written && !tc.unknown
			if !ready {
				readyz = 503
			}
			for path, want := range map[string]int{"/healthz": tc.healthz, "/livez": tc.livez, "/readyz": readyz} {
				w := get(t, h.Handler(), path)
				if w.Code != want {
					t.Errorf("%s: %s answers %d, want %d", tc.reason, path, w.Code, want)
				}
				if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s: headers %v", path, w.Header())
				}
				var body struct {
					LastUpdated, CurrentTime time.Time
					NodeEligible             *bool
					Healthy                  bool
					Status                   map[string]struct{ Healthy bool }
				}
				if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
					t.Fatalf("%s: %v: %s", path, err, w.Body)
				}
				if !body.CurrentTime.Equal(*clock) || body.Healthy != (tc.livez == 200 && (path != "/readyz" || ready)) {
					t.Errorf("%s: %s", path, w.Body)
				}
				for _, family := range []string{"IPv4", "IPv6"} {
					if got, ok := body.Status[family]; ok != tc.written || ok && got.Healthy != body.Healthy {
						t.Errorf("%s: status of %s in %s", path, family, w.Body)
					}
				}
				if tc.written && tc.livez == 503 && !body.LastUpdated.Equal(clock.Add(-Timeout)) {
					t.Errorf("%s: lastUpdated %v of a node that is stuck, want when it was last written", path, body.LastUpdated)
				}
				if want == 200 && !body.LastUpdated.Equal(*clock) {
					t.Errorf("%s: lastUpdated %v of a healthy node, want now", path, body.LastUpdated)
				}
				if (path == "/healthz") != (body.NodeEligible != nil) || body.NodeEligible != nil && *body.NodeEligible != tc.eligible {
					t.Errorf("%s: nodeEligible in %s, want %v on /healthz alone", path, w.Body, tc.eligible)
				}
			}
		})
	}
}

// TestDaemonSetProbes: what the DaemonSet's probes ask for does not restart an agent that waits for the API server, and keeps
// a rollout waiting for it.
func TestDaemonSetProbes(t *testing.T) {
	text, err := os.ReadFile("../../config/node-agent/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var daemonSet appsv1.DaemonSet
	if err := yaml.Unmarshal(text, &daemonSet); err != nil {
		t.Fatal(err)
	}
	container := daemonSet.Spec.Template.Spec.Containers[0]
	live, ready := container.LivenessProbe.HTTPGet, container.ReadinessProbe.HTTPGet
	h, _ := newHealth(t)
	expect := func(when string, probe *corev1.HTTPGetAction, code int) {
		t.Helper()
		if w := get(t, h.Handler(), probe.Path); w.Code != code || probe.Port.IntValue() != 10256 {
			t.Errorf("%s: %s of port %s answers %d, want %d", when, probe.Path, probe.Port.String(), w.Code, code)
		}
	}
	expect("before the first write", live, 200)
	expect("before the first write", ready, 503)
	h.Synced(dpsync.Result{Err: errors.New("no")})
	expect("after a failed write", ready, 503)
	h.Synced(dpsync.Result{Wrote: true, Full: true})
	expect("before the Node is seen", ready, 503)
	h.Node(&corev1.Node{})
	expect("after a write", live, 200)
	expect("after a write", ready, 200)
}

// loopback is the handler of the metrics server.
func loopback(t *testing.T, h *Health, l Loopback) http.Handler {
	t.Helper()
	handler, err := h.MetricsHandler(l)
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func TestMetrics(t *testing.T) {
	h, _ := newHealth(t)
	h.Changed(dpsync.Services)
	h.Changed(dpsync.EndpointSlices)
	h.Changed(dpsync.EndpointSlices)
	h.Changed(dpsync.Nodes)
	h.Queued()
	metrics := func() string { return get(t, loopback(t, h, Loopback{}), "/metrics").Body.String() }
	expect := func(when string, lines ...string) {
		t.Helper()
		text := metrics()
		for _, line := range lines {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("%s: no line %q", when, line)
			}
		}
	}
	expect("before a write",
		"kubeproxy_sync_proxy_rules_endpoint_changes_pending 2", "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
		"kubeproxy_sync_proxy_rules_service_changes_pending 1", "kubeproxy_sync_proxy_rules_service_changes_total 1",
		`kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1.7672256e+09`)
	h.Synced(dpsync.Result{Err: errors.New("no")})
	expect("after a failure", "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2",
		`kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv6"} 1`)
	if strings.Contains(metrics(), "\nkubeproxy_sync_proxy_rules_last_timestamp_seconds{") {
		t.Error("a failure has the time of a success")
	}
	h.Synced(dpsync.Result{Wrote: true, Full: true, Took: 3 * time.Millisecond,
		Latencies: map[uint8][]time.Duration{4: {300 * time.Millisecond, 90 * time.Second}, 6: {time.Minute}},
		Unserved:  map[uint8]model.Unserved{4: {Internal: 1, External: 2}}})
	h.Synced(dpsync.Result{Wrote: true, Took: 3 * time.Millisecond, Damage: 2})
	h.Synced(dpsync.Result{})
	get(t, h.Handler(), "/healthz")
	h.Node(nil)
	get(t, h.Handler(), "/healthz")
	get(t, h.Handler(), "/livez")
	expect("after a full and a partial write",
		"fairlead_dataplane_foreign_changes_total 2", "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0", "kubeproxy_sync_proxy_rules_service_changes_pending 0",
		`kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2`,
		`kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1`,
		`kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="0.004"} 1`,
		`kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 1.7672256e+09`,
		`kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.5"} 1`,
		`kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="90"} 2`,
		`kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv6",le="0.5"} 0`,
		`kubeproxy_network_programming_duration_seconds_count{ip_family="IPv6"} 1`,
		`kubeproxy_proxy_healthz_total{code="200"} 1`, `kubeproxy_proxy_healthz_total{code="503"} 1`, `kubeproxy_proxy_livez_total{code="200"} 1`)
	h.Synced(dpsync.Result{Unserved: map[uint8]model.Unserved{4: {Internal: 1, External: 2}}})
	expect("unserved ports",
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 1`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 2`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"} 0`)
}
