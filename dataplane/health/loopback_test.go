package health

import (
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	clientmetrics "k8s.io/client-go/tools/metrics"

	"github.com/fairlead/fairlead/dataplane/conntrack"
	"github.com/fairlead/fairlead/dataplane/model"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

func TestLoopback(t *testing.T) {
	h, _ := newHealth(t)
	l := Loopback{Mode: "nftables", Configz: map[string]any{"group": map[string]int{"field": 7}},
		NodePorts: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("clashes")) })}
	const plain, json = "text/plain; charset=utf-8", "application/json"
	tests := map[string]struct {
		code            int
		kind, body, any string
	}{
		"/healthz":      {code: 200, kind: plain, body: "ok"},
		"/proxyMode":    {code: 200, kind: plain, body: "nftables"},
		"/configz":      {code: 200, kind: json, body: `{"group":{"field":7}}`},
		"/nodeports":    {code: 200, body: "clashes"},
		"/metrics":      {code: 200, any: "kubeproxy_sync_proxy_rules_service_changes_total"},
		"/debug/pprof/": {code: 404},
		"/":             {code: 404},
	}
	for path, tc := range tests {
		w := get(t, loopback(t, h, l), path)
		if w.Code != tc.code || tc.body != "" && w.Body.String() != tc.body || !strings.Contains(w.Body.String(), tc.any) {
			t.Errorf("%s: %d %q, want %d %q", path, w.Code, w.Body, tc.code, tc.body+tc.any)
		}
		if tc.kind != "" && (w.Header().Get("Content-Type") != tc.kind || w.Header().Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: headers %v, want %s", path, w.Header(), tc.kind)
		}
	}
	l = Loopback{Profiling: true}
	for path, code := range map[string]int{"/debug/pprof": 302, "/debug/pprof/": 200, "/debug/pprof/goroutine": 200, "/nodeports": 404} {
		if w := get(t, loopback(t, h, l), path); w.Code != code {
			t.Errorf("with profiling, %s: %d, want %d", path, w.Code, code)
		}
	}
}

// kubeProxyMetrics are the names and labels of kube-proxy 1.37 in mode nftables (pkg/proxy/metrics).
var kubeProxyMetrics = map[string]string{
	"kubeproxy_conntrack_reconciler_deleted_entries_total":       "COUNTER ip_family",
	"kubeproxy_conntrack_reconciler_sync_duration_seconds":       "HISTOGRAM ip_family",
	"kubeproxy_network_programming_duration_seconds":             "HISTOGRAM ip_family",
	"kubeproxy_proxy_healthz_total":                              "COUNTER code",
	"kubeproxy_proxy_livez_total":                                "COUNTER code",
	"kubeproxy_sync_full_proxy_rules_duration_seconds":           "HISTOGRAM ip_family",
	"kubeproxy_sync_partial_proxy_rules_duration_seconds":        "HISTOGRAM ip_family",
	"kubeproxy_sync_proxy_rules_duration_seconds":                "HISTOGRAM ip_family",
	"kubeproxy_sync_proxy_rules_endpoint_changes_pending":        "GAUGE ",
	"kubeproxy_sync_proxy_rules_endpoint_changes_total":          "COUNTER ",
	"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds":   "GAUGE ip_family",
	"kubeproxy_sync_proxy_rules_last_timestamp_seconds":          "GAUGE ip_family",
	"kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total": "COUNTER ip_family",
	"kubeproxy_sync_proxy_rules_nftables_sync_failures_total":    "COUNTER ip_family",
	"kubeproxy_sync_proxy_rules_no_local_endpoints_total":        "GAUGE ip_family traffic_policy",
	"kubeproxy_sync_proxy_rules_service_changes_pending":         "GAUGE ",
	"kubeproxy_sync_proxy_rules_service_changes_total":           "COUNTER ",
}

// TestMetricNames makes everything happen once, so that every metric has a value.
func TestMetricNames(t *testing.T) {
	h, _ := newHealth(t)
	h.Register(prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_more", Help: "More."}))
	h.Queued()
	latency := []time.Duration{time.Second}
	h.Synced(dpsync.Result{Wrote: true, Full: true, Latencies: map[uint8][]time.Duration{4: latency, 6: latency}})
	h.Synced(dpsync.Result{Wrote: true})
	h.Synced(dpsync.Result{Err: errors.New("no")})
	h.Synced(dpsync.Result{Err: &model.CleanupError{Family: 6, Err: errors.New("no")}})
	h.FlowsCleaned(conntrack.Report{Family: 4, Deleted: 1})
	get(t, h.Handler(), "/healthz")
	get(t, h.Handler(), "/livez")
	families, err := h.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	others := map[string]bool{}
	for _, f := range families {
		var labels []string
		for _, pair := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		if strings.HasPrefix(f.GetName(), "kubeproxy_") {
			got[f.GetName()] = f.GetType().String() + " " + strings.Join(labels, " ")
		}
		others[f.GetName()] = true
	}
	want := map[string]string{}
	for name, shape := range kubeProxyMetrics {
		want[name] = shape
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"fairlead_more", "go_goroutines", "process_cpu_seconds_total"} {
		if !others[name] {
			t.Errorf("no %s", name)
		}
	}
}

// TestCleanupFailure: what could not be removed is no failure to write, but is not taken for a success either.
func TestCleanupFailure(t *testing.T) {
	h, clock := newHealth(t)
	h.Synced(dpsync.Result{Err: &model.CleanupError{Family: 4, Err: errors.New("busy")}})
	text := get(t, loopback(t, h, Loopback{}), "/metrics").Body.String()
	if !strings.Contains(text, "\nkubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family=\"IPv4\"} 1\n") ||
		strings.Contains(text, "nftables_sync_failures_total{") {
		t.Errorf("metrics do not tell the two kinds of failures apart:\n%s", text)
	}
	*clock = clock.Add(Timeout)
	if h.Healthy() {
		t.Error("healthy though it could not be made right for long")
	}
}

// TestSlowPace: changes that are made to wait for minutes are not stuck.
func TestSlowPace(t *testing.T) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h := New(logr.Discard(), 5*time.Minute)
	t.Cleanup(h.Close)
	h.now = func() time.Time { return clock }
	h.Queued()
	clock = clock.Add(5 * time.Minute)
	if !h.Healthy() {
		t.Error("unhealthy at the first moment at which it could have written")
	}
	clock = clock.Add(5 * time.Minute)
	if h.Healthy() {
		t.Error("healthy though a change has waited for twice the interval")
	}
}

// TestHardFail: an address in use ends Serve with an error where that is asked for.
func TestHardFail(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	h, _ := newHealth(t)
	err = Server{Address: listener.Addr().String(), Handler: h.Handler(), HardFail: true}.Serve(t.Context(), logr.Discard())
	for _, want := range []string{listener.Addr().String(), "ss -ltnp", "healthzBindAddress"} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("error %v does not say %s, once", err, want)
		}
	}
}

// TestRequestMetrics: what client-go tells of its requests is counted.
func TestRequestMetrics(t *testing.T) {
	h, _ := newHealth(t)
	host := rand.Text() // the counters outlive the test
	clientmetrics.RequestResult.Increment(t.Context(), "200", "GET", host)
	clientmetrics.RequestLatency.Observe(t.Context(), "LIST", url.URL{Host: host}, 3*time.Second)
	text := get(t, loopback(t, h, Loopback{}), "/metrics").Body.String()
	for _, line := range []string{
		`rest_client_requests_total{code="200",host="` + host + `",method="GET"} 1`,
		`rest_client_request_duration_seconds_bucket{host="` + host + `",verb="LIST",le="2"} 0`,
		`rest_client_request_duration_seconds_bucket{host="` + host + `",verb="LIST",le="4"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}
