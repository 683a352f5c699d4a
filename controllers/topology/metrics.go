package topology

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead/fairlead/topology"
)

// The figures of single Services are there for those alone that ask for a topology mode, by an annotation, so that their
// number is the users' to choose.
var (
	servicesByReason = gauges("services", "Number of Services with a topology mode, by the reason of their condition TopologyHints", "reason")
	crossZone        = gauges("cross_zone_ratio", "Share of a Service's traffic that crosses zones by its hints, from 0 to 1", "namespace", "service")
	overload         = gauges("overload_ratio", "How much more than an even share the endpoint with most traffic gets by a Service's hints: 0.2 is 20% more",
		"namespace", "service")
	leftOut = gauges("nodes_left_out", "Number of nodes that count for no zone's capacity, by reason", "reason")

	hintChanges = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fairlead_topology_hint_changes_total", Help: "Number of endpoints whose hints became others, new endpoints included",
	})
	hintWrites = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fairlead_topology_slice_writes_total", Help: "Number of EndpointSlices whose hints were written beside kube-controller-manager",
	})
)

func init() {
	metrics.Registry.MustRegister(servicesByReason, crossZone, overload, leftOut, hintChanges, hintWrites)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "fairlead", Subsystem: "topology", Name: name, Help: help}, labels)
}

// countNodes counts the nodes that are left out.
func countNodes(nodes map[string]topology.Node) {
	byReason := map[topology.Exclusion]int{}
	for _, n := range nodes {
		byReason[n.Exclusion]++
	}
	for _, reason := range topology.Exclusions {
		leftOut.WithLabelValues(string(reason)).Set(float64(byReason[reason]))
	}
}

// showFigures makes a report's figures those of a Service; nil: it has none.
func showFigures(service types.NamespacedName, report *topology.Report) {
	if report == nil || !report.Hinted {
		crossZone.DeleteLabelValues(service.Namespace, service.Name)
		overload.DeleteLabelValues(service.Namespace, service.Name)
		return
	}
	crossZone.WithLabelValues(service.Namespace, service.Name).Set(report.CrossZone)
	overload.WithLabelValues(service.Namespace, service.Name).Set(report.Overload)
}

// countReason counts a Service under a reason in place of the one before; empty: under none.
func countReason(before, after string) {
	if before == after {
		return
	}
	if before != "" {
		servicesByReason.WithLabelValues(before).Dec()
	}
	if after != "" {
		servicesByReason.WithLabelValues(after).Inc()
	}
}
