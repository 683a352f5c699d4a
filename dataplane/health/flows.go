package health

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/dataplane/conntrack"
)

// flowMetrics tell of the cleaning of flows; those that kube-proxy has bear its names.
type flowMetrics struct {
	seconds                   *prometheus.HistogramVec
	deleted, resets, failures *prometheus.CounterVec
}

var _ conntrack.Observer = (*Health)(nil)

func newFlowMetrics(registry *prometheus.Registry) *flowMetrics {
	labels := []string{"ip_family"}
	counter := func(subsystem, name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	m := &flowMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Subsystem: subsystem, Name: "conntrack_reconciler_sync_duration_seconds",
			Help:    "Time of a look for flows that lead to nobody, in seconds.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, labels),
		deleted:  counter(subsystem, "conntrack_reconciler_deleted_entries_total", "Flows that the kernel was made to forget."),
		resets:   counter("fairlead", "conntrack_resets_total", "Connections to ended Pods that were reset."),
		failures: counter("fairlead", "conntrack_failures_total", "Looks for flows that failed, and were tried again."),
	}
	registry.MustRegister(m.seconds, m.deleted, m.resets, m.failures)
	for _, name := range families {
		for _, vec := range []*prometheus.CounterVec{m.deleted, m.resets, m.failures} {
			vec.WithLabelValues(name)
		}
	}
	return m
}

// FlowsCleaned counts what a look for stale flows did.
func (h *Health) FlowsCleaned(r conntrack.Report) {
	name := families[r.Family]
	h.flows.seconds.WithLabelValues(name).Observe(r.Took.Seconds())
	h.flows.deleted.WithLabelValues(name).Add(float64(r.Deleted))
	h.flows.resets.WithLabelValues(name).Add(float64(r.Reset))
	if r.Err != nil {
		h.flows.failures.WithLabelValues(name).Inc()
	}
}
