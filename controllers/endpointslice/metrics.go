package endpointslice

import (
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

// subsystem begins the names of upstream's metrics (k8s.io/endpointslice v0.37), which are kept with their labels and
// buckets, so that dashboards and alerts go on working.
const subsystem = "endpoint_slice_controller"

// Results of a pass.
const (
	resultSuccess = "success"
	resultStale   = "stale"
	resultError   = "error"
)

var (
	endpointsAdded   = histogram("endpoints_added_per_sync", "Number of endpoints added on each Service sync")
	endpointsRemoved = histogram("endpoints_removed_per_sync", "Number of endpoints removed on each Service sync")
	endpointsDesired = gauge("endpoints_desired", "Number of endpoints desired")
	numSlices        = gauge("num_endpoint_slices", "Number of EndpointSlices")
	desiredSlices    = gauge("desired_endpoint_slices", "Number of EndpointSlices that would exist with perfect endpoint allocation")
	sliceChanges     = counters("changes", "Number of EndpointSlice changes", "operation")
	syncs            = counters("syncs", "Number of EndpointSlice syncs", "result")
	slicesChanged    = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Subsystem: subsystem, Name: "endpointslices_changed_per_sync", Help: "Number of EndpointSlices changed on each Service sync",
	}, []string{"topology", "traffic_distribution"})
	servicesByDistribution = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Subsystem: subsystem, Name: "services_count_by_traffic_distribution",
		Help: "Number of Services using some specific trafficDistribution",
	}, []string{"traffic_distribution"})

	// conflicts has no like upstream.
	conflicts = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fairlead_endpointslice_ownership_conflicts",
		Help: "Number of Services whose EndpointSlices are not written for a while because someone else overwrites them",
	})

	changesByVerb = map[endpoints.Verb]prometheus.Counter{
		endpoints.Create: sliceChanges.WithLabelValues("create"),
		endpoints.Update: sliceChanges.WithLabelValues("update"),
		endpoints.Delete: sliceChanges.WithLabelValues("delete"),
	}
)

func init() {
	metrics.Registry.MustRegister(endpointsAdded, endpointsRemoved, endpointsDesired, numSlices, desiredSlices, sliceChanges, syncs,
		slicesChanged, servicesByDistribution, conflicts)
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Subsystem: subsystem, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(2, 2, 15),
	})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help})
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, []string{label})
}

// share is what one Service adds to the gauges, which are sums over all. Its zero value adds nothing.
type share struct {
	endpoints, slices, desired int
	distribution               string
	conflict                   bool
}

// become changes the gauges from what the Service added before to what it adds now.
func (s *share) become(next share) {
	if *s == next {
		return
	}
	endpointsDesired.Add(float64(next.endpoints - s.endpoints))
	numSlices.Add(float64(next.slices - s.slices))
	desiredSlices.Add(float64(next.desired - s.desired))
	if s.distribution != next.distribution {
		if s.distribution != "" {
			servicesByDistribution.WithLabelValues(s.distribution).Dec()
		}
		if next.distribution != "" {
			servicesByDistribution.WithLabelValues(next.distribution).Inc()
		}
	}
	if s.conflict != next.conflict {
		if next.conflict {
			conflicts.Inc()
		} else {
			conflicts.Dec()
		}
	}
	*s = next
}

// rest says whether the Service rests because of another owner.
func (s *share) rest(is bool) {
	next := *s
	next.conflict = is
	s.become(next)
}

// countPass counts what a pass did. Verbs are the writes that were done.
func countPass(service *corev1.Service, st *state, plan endpoints.Plan, verbs map[endpoints.Verb]int, outdated bool, err error) {
	written := 0
	for verb, n := range verbs {
		changesByVerb[verb].Add(float64(n))
		written += n
	}
	switch {
	case err != nil:
		syncs.WithLabelValues(resultError).Inc()
		return
	case outdated:
		syncs.WithLabelValues(resultStale).Inc()
		return
	}
	syncs.WithLabelValues(resultSuccess).Inc()
	mode, distribution := "Disabled", ""
	switch policy := st.hints.policy; {
	case policy.Whole():
		mode = "Auto"
	case policy != topology.None:
		distribution = *service.Spec.TrafficDistribution
	}
	slicesChanged.WithLabelValues(mode, distribution).Observe(float64(written))
	endpointsAdded.Observe(float64(plan.Added))
	endpointsRemoved.Observe(float64(plan.Removed))
	st.share.become(share{endpoints: plan.Endpoints, slices: plan.Slices, desired: plan.Ideal, distribution: distribution})
}
