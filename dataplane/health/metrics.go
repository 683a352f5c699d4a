package health

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fairlead/fairlead/dataplane/model"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

// families are the values of the label ip_family. kube-proxy programs each by itself; here one write serves both and
// is recorded under both, so that queries that pick a family keep working.
var families = map[uint8]string{4: "IPv4", 6: "IPv6"}

// metrics bear kube-proxy's names (all start with kubeproxy_), for the dashboards and alerts that people have.
type metrics struct {
	registry *prometheus.Registry
	started  time.Time

	syncSeconds, fullSeconds, partialSeconds *prometheus.HistogramVec
	last, lastQueued                         *prometheus.GaugeVec
	networkProgramming                       *prometheus.HistogramVec
	pending                                  map[dpsync.Kind]prometheus.Gauge
	total                                    map[dpsync.Kind]prometheus.Counter
	failures, cleanupFailures                *prometheus.CounterVec
	noLocalEndpoints                         *prometheus.GaugeVec
	foreignChanges                           prometheus.Counter
	healthz, livez                           *prometheus.CounterVec
}

const subsystem = "kubeproxy"

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), started: time.Now()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registerRequests(m.registry)
	milliseconds := prometheus.ExponentialBuckets(0.001, 2, 15)
	m.syncSeconds = m.histogram("sync_proxy_rules_duration_seconds", "Time to write rules, in seconds.", milliseconds)
	m.fullSeconds = m.histogram("sync_full_proxy_rules_duration_seconds", "Time to write all rules, in seconds.", milliseconds)
	m.partialSeconds = m.histogram("sync_partial_proxy_rules_duration_seconds", "Time to write changed rules, in seconds.", milliseconds)
	m.networkProgramming = m.histogram("network_programming_duration_seconds",
		"Time from the change of a Pod or Service until it was written, in seconds.", programmingBuckets())
	m.last = m.gauge("sync_proxy_rules_last_timestamp_seconds", "When rules were last written with success.", "ip_family")
	m.lastQueued = m.gauge("sync_proxy_rules_last_queued_timestamp_seconds", "When a change was last queued.", "ip_family")
	m.noLocalEndpoints = m.gauge("sync_proxy_rules_no_local_endpoints_total",
		"Service ports with a Local traffic policy that have endpoints, but none on this node.", "traffic_policy", "ip_family")
	m.failures = m.counter("sync_proxy_rules_nftables_sync_failures_total", "Failed writes of rules.", "ip_family")
	m.cleanupFailures = m.counter("sync_proxy_rules_nftables_cleanup_failures_total",
		"Failures to delete chains and sets that nothing uses any more.", "ip_family")
	m.foreignChanges = prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_dataplane_foreign_changes_total",
		Help: "Reports of changes that other programs made to our rules."})
	m.registry.MustRegister(m.foreignChanges)
	m.healthz = m.counter("proxy_healthz_total", "Answers of /healthz by status code.", "code")
	m.livez = m.counter("proxy_livez_total", "Answers of /livez by status code.", "code")
	m.pending = map[dpsync.Kind]prometheus.Gauge{
		dpsync.EndpointSlices: m.gauge("sync_proxy_rules_endpoint_changes_pending", "EndpointSlice events not yet written.").WithLabelValues(),
		dpsync.Services:       m.gauge("sync_proxy_rules_service_changes_pending", "Service events not yet written.").WithLabelValues(),
	}
	m.total = map[dpsync.Kind]prometheus.Counter{
		dpsync.EndpointSlices: m.counter("sync_proxy_rules_endpoint_changes_total", "EndpointSlice events seen.").WithLabelValues(),
		dpsync.Services:       m.counter("sync_proxy_rules_service_changes_total", "Service events seen.").WithLabelValues(),
	}
	return m
}

// programmingBuckets are kube-proxy's: up to 5 minutes, finest in the first one.
func programmingBuckets() []float64 {
	return slices.Concat([]float64{0, 0.25, 0.5}, prometheus.LinearBuckets(1, 1, 59),
		prometheus.LinearBuckets(60, 5, 12), prometheus.LinearBuckets(120, 30, 7))
}

func (m *metrics) histogram(name, help string, buckets []float64) *prometheus.HistogramVec {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: help, Buckets: buckets}, []string{"ip_family"})
	m.registry.MustRegister(vec)
	return vec
}

func (m *metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return vec
}

func (m *metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return vec
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ProcessStartTime: m.started})
}

func (m *metrics) changed(kind dpsync.Kind) {
	if total, ok := m.total[kind]; ok {
		total.Inc()
		m.pending[kind].Inc()
	}
}

func (m *metrics) queued(now time.Time) {
	for _, name := range families {
		m.lastQueued.WithLabelValues(name).Set(seconds(now))
	}
}

func (m *metrics) synced(now time.Time, r dpsync.Result) {
	m.foreignChanges.Add(float64(r.Damage))
	leftovers := (*model.CleanupError)(nil)
	if errors.As(r.Err, &leftovers) {
		m.cleanupFailures.WithLabelValues(families[leftovers.Family]).Inc()
		return
	}
	for family, name := range families {
		if r.Err != nil {
			m.failures.WithLabelValues(name).Inc()
			continue
		}
		if r.Wrote {
			m.syncSeconds.WithLabelValues(name).Observe(r.Took.Seconds())
			kind := m.partialSeconds
			if r.Full {
				kind = m.fullSeconds
			}
			kind.WithLabelValues(name).Observe(r.Took.Seconds())
		}
		m.last.WithLabelValues(name).Set(seconds(now))
		for _, latency := range r.Latencies[family] {
			m.networkProgramming.WithLabelValues(name).Observe(latency.Seconds())
		}
		m.noLocalEndpoints.WithLabelValues("internal", name).Set(float64(r.Unserved[family].Internal))
		m.noLocalEndpoints.WithLabelValues("external", name).Set(float64(r.Unserved[family].External))
	}
	if r.Err == nil {
		for _, pending := range m.pending {
			pending.Set(0)
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
