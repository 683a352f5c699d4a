package loadbalancer

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// subsystem begins the names of upstream's metrics (k8s.io/cloud-provider v0.37), which are kept with their types and
// buckets, so that dashboards and alerts go on working.
const subsystem = "service_controller"

var (
	syncs = prometheus.NewCounter(prometheus.CounterOpts{Subsystem: subsystem, Name: "loadbalancer_sync_total",
		Help: "Number of load balancers whose targets were changed because nodes changed"})
	nodeSyncErrors = prometheus.NewCounter(prometheus.CounterOpts{Subsystem: subsystem, Name: "nodesync_error_total",
		Help: "Number of load balancers whose targets could not be changed when nodes changed"})
	nodeSyncLatency = histogram("nodesync_latency_seconds", "How long it took to send the targets of all load balancers after a change of nodes")
	updateLatency   = histogram("update_loadbalancer_host_latency_seconds",
		"How long it took to send the targets of one load balancer, with those that are sent in the same call")

	// These have no like upstream.
	drifted = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_loadbalancer_drift_total",
		Help: "Number of resources in the cloud that a sweep found otherwise than they had been left"}, []string{"provider", "kind"})
	orphansFound = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_loadbalancer_orphans",
		Help: "Number of resources that carry the mark of this cluster and belong to Services that are gone"}, []string{"provider"})
)

func init() {
	metrics.Registry.MustRegister(syncs, nodeSyncErrors, nodeSyncLatency, updateLatency, drifted, orphansFound)
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Subsystem: subsystem, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(1, 2, 15),
	})
}

func countDrift(provider, kind string) { drifted.WithLabelValues(provider, kind).Inc() }
