package loadbalancer

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead/fairlead/cloud"
)

// subsystem begins the names of upstream's metrics (k8s.io/cloud-provider v0.37), which are kept with their types and
// buckets, so that dashboards and alerts go on working.
const subsystem = "service_controller"

var (
	syncs = prometheus.NewCounter(prometheus.CounterOpts{Subsystem: subsystem, Name: "loadbalancer_sync_total",
		Help: "Number of load balancers whose targets were sent because nodes changed"})
	nodeSyncErrors = prometheus.NewCounter(prometheus.CounterOpts{Subsystem: subsystem, Name: "nodesync_error_total",
		Help: "Number of load balancers whose targets could not be sent when nodes changed"})
	nodeSyncLatency = histogram("nodesync_latency_seconds", "How long it took to send the targets of all load balancers after a change of nodes")
	updateLatency   = histogram("update_loadbalancer_host_latency_seconds",
		"How long it took to send the targets of a load balancer, in one call with those of others")
)

// These have no like upstream.
var (
	drifted = counters("fairlead_loadbalancer_drift_total",
		"Number of resources in the cloud that a sweep found otherwise than they had been left", "provider", "kind")
	orphansFound = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_loadbalancer_orphans",
		Help: "Number of resources that carry the mark of this cluster and belong to Services that are gone, or have no balancer there any more"}, []string{"provider"})
	requests = counters("fairlead_cloud_requests_total",
		"Number of requests of the core to a provider, by how they ended: OK or the class of the error", "provider", "method", "class")
	requestTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fairlead_cloud_request_duration_seconds",
		Help:    "How long such requests took, the wait for the account's limit included",
		Buckets: prometheus.ExponentialBuckets(0.01, 4, 8)}, []string{"provider", "method"})
	calls  = counters("fairlead_cloud_calls_total", "Number of calls that the account's limit let go, by kind: read or write", "provider", "kind")
	waits  = counters("fairlead_cloud_limit_wait_seconds_total", "How long these waited for the limit, together", "provider", "kind")
	queued = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_cloud_limit_queue",
		Help: "Number of calls that wait for the account's limit"}, []string{"provider", "kind"})
	throttled = counters("fairlead_cloud_throttled_seconds_total",
		"For how long the cloud had asked to send nothing of the kind, counted when it asks", "provider", "kind")
)

func init() {
	metrics.Registry.MustRegister(syncs, nodeSyncErrors, nodeSyncLatency, updateLatency, drifted, orphansFound, requests, requestTime, calls, waits, queued, throttled, services)
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Subsystem: subsystem, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(1, 2, 15),
	})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func countDrift(provider, kind string) { drifted.WithLabelValues(provider, kind).Inc() }

// countSync counts targets of one balancer that were sent.
func countSync(took time.Duration, failed bool) {
	syncs.Inc()
	updateLatency.Observe(took.Seconds())
	if failed {
		nodeSyncErrors.Inc()
	}
}

// meter counts a provider's calls.
type meter string

var _ cloud.Meter = meter("")

// Meter counts the calls of the provider of that name.
func Meter(provider string) cloud.Meter { return meter(provider) }

// Done implements cloud.Meter.
func (m meter) Done(method string, took time.Duration, class cloud.Class) {
	requests.WithLabelValues(string(m), method, string(cmp.Or(class, "OK"))).Inc()
	requestTime.WithLabelValues(string(m), method).Observe(took.Seconds())
}

// Spent implements cloud.Meter.
func (m meter) Spent(kind cloud.CallKind, waited time.Duration) {
	calls.WithLabelValues(string(m), kind.String()).Inc()
	waits.WithLabelValues(string(m), kind.String()).Add(waited.Seconds())
}

// Queued implements cloud.Meter.
func (m meter) Queued(kind cloud.CallKind, more int) {
	queued.WithLabelValues(string(m), kind.String()).Add(float64(more))
}

// Closed implements cloud.Meter.
func (m meter) Closed(kind cloud.CallKind, longer time.Duration) {
	throttled.WithLabelValues(string(m), kind.String()).Add(longer.Seconds())
}
