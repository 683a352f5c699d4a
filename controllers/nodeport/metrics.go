package nodeport

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// subsystem begins the names. They are upstream's, kube_apiserver_nodeport_allocator_*, under our prefix and for each
// pool: pool "" is what the pools leave of the range.
const subsystem = "fairlead_nodeport_allocator"

// Scopes of an allocation, as upstream has them.
const (
	scopeDynamic = "dynamic"
	scopeStatic  = "static"
)

var (
	allocatedPorts = gauges("allocated_ports", "Number of node ports of the pool that Services have")
	availablePorts = gauges("available_ports", "Number of node ports of the pool that are neither had nor kept")
	reservedPorts  = gauges("reserved_ports", "Number of node ports of the pool that are kept for Services that were deleted")
	duplicatePorts = gauges("duplicate_ports", "Number of node ports of the pool that more than one Service has")
	allocations    = counters("allocation_total", "Number of node ports that were chosen (dynamic) or named by a Service (static)")
	failures       = counters("allocation_errors_total", "Number of Services that got no node port, or not the one that they named")
	repairs        = prometheus.NewCounter(prometheus.CounterOpts{Subsystem: subsystem, Name: "repairs_total",
		Help: "Number of Services that were moved from a node port that an older Service has"})

	listenersFound = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_nodeport_clashes",
		Help: "Number of programs on nodes that listen where a node port or healthCheckNodePort is served"})
	reportsHeard = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_nodeport_reporting_nodes",
		Help: "Number of nodes that tell what listens on node ports"})
)

func init() {
	metrics.Registry.MustRegister(allocatedPorts, availablePorts, reservedPorts, duplicatePorts, allocations, failures, repairs,
		listenersFound, reportsHeard)
}

func gauges(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help}, []string{"pool"})
}

func counters(name, help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, []string{"pool", "scope"})
}

// publish sets the gauges to what was counted. Those of pools that are gone go.
func (r *poolReconciler) publish(c *census) {
	duplicates := map[string]int{}
	for _, claim := range c.claims {
		if len(claim.Services) > 1 {
			duplicates[c.poolOf[claim.Port]]++
		}
	}
	now := map[string]bool{}
	for pool, u := range c.usage {
		now[pool] = true
		allocatedPorts.WithLabelValues(pool).Set(float64(u.Used))
		availablePorts.WithLabelValues(pool).Set(float64(u.Free))
		reservedPorts.WithLabelValues(pool).Set(float64(u.Kept))
		duplicatePorts.WithLabelValues(pool).Set(float64(duplicates[pool]))
	}
	for pool := range r.published {
		if !now[pool] {
			for _, vec := range []*prometheus.GaugeVec{allocatedPorts, availablePorts, reservedPorts, duplicatePorts} {
				vec.DeleteLabelValues(pool)
			}
		}
	}
	r.published = now
}
