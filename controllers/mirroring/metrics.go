package mirroring

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead/fairlead/endpoints"
)

// subsystem begins the names of upstream's metrics (Kubernetes 1.37), which are kept with their labels and buckets, so
// that dashboards and alerts go on working.
const subsystem = "endpoint_slice_mirroring_controller"

var (
	endpointsAdded   = histogram("endpoints_added_per_sync", "Number of endpoints added on each Endpoints sync", 2)
	endpointsUpdated = histogram("endpoints_updated_per_sync", "Number of endpoints updated on each Endpoints sync", 2)
	endpointsRemoved = histogram("endpoints_removed_per_sync", "Number of endpoints removed on each Endpoints sync", 2)
	addressesSkipped = histogram("addresses_skipped_per_sync", "Number of addresses left out on each Endpoints sync, invalid or too many", 2)
	syncDuration     = histogram("endpoints_sync_duration", "Duration of a sync of one Endpoints object in seconds", 0.001)
	endpointsDesired = gauge("endpoints_desired", "Number of endpoints desired")
	numSlices        = gauge("num_endpoint_slices", "Number of EndpointSlices")
	desiredSlices    = gauge("desired_endpoint_slices", "Number of EndpointSlices that would exist with perfect endpoint allocation")
	changes          = prometheus.NewCounterVec(prometheus.CounterOpts{
		Subsystem: subsystem, Name: "changes", Help: "Number of EndpointSlice changes",
	}, []string{"operation"})

	changesByVerb = map[endpoints.Verb]prometheus.Counter{
		endpoints.Create: changes.WithLabelValues("create"),
		endpoints.Update: changes.WithLabelValues("update"),
		endpoints.Delete: changes.WithLabelValues("delete"),
	}
)

func init() {
	metrics.Registry.MustRegister(endpointsAdded, endpointsUpdated, endpointsRemoved, addressesSkipped, syncDuration,
		endpointsDesired, numSlices, desiredSlices, changes)
}

// histogram has 15 buckets, each twice as wide as the one before, from first on.
func histogram(name, help string, first float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Subsystem: subsystem, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(first, 2, 15),
	})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help})
}

func observeChanges(plan endpoints.MirrorPlan) {
	endpointsAdded.Observe(float64(plan.Added))
	endpointsUpdated.Observe(float64(plan.Updated))
	endpointsRemoved.Observe(float64(plan.Removed))
	addressesSkipped.Observe(float64(plan.Invalid + plan.Skipped))
}

// share is what one Endpoints object adds to the gauges, which are sums over all. A set of ports and family never has
// more than one slice, so that there are as many as there would be with perfect allocation.
type share struct {
	endpoints, slices int
}

// become changes the gauges from what the object added before to what it adds now.
func (s *share) become(next share) {
	endpointsDesired.Add(float64(next.endpoints - s.endpoints))
	numSlices.Add(float64(next.slices - s.slices))
	desiredSlices.Add(float64(next.slices - s.slices))
	*s = next
}
