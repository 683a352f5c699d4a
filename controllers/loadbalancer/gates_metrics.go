package loadbalancer

import (
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	gatesWaiting = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_readiness_gates_waiting",
		Help: "Number of readiness gates that Pods have not passed yet"})
	gateWait = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fairlead_readiness_gate_wait_seconds",
		Help:    "Time from a Pod's containers being ready to its passing a readiness gate",
		Buckets: []float64{1, 2, 4, 8, 15, 30, 60, 120, 300, 600}})
	gatesInjected = prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_readiness_gates_injected_total",
		Help: "Number of readiness gates that new Pods were given"})
)

func init() { metrics.Registry.MustRegister(gatesWaiting, gateWait, gatesInjected) }

// count sets how many Pods wait for a Service.
func (r *gateReconciler) count(service types.NamespacedName, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[types.NamespacedName]int{}
	}
	gatesWaiting.Add(float64(n - r.waiting[service]))
	if r.waiting[service] = n; n == 0 {
		delete(r.waiting, service)
	}
}

// gone reports whether a Pod went, or was replaced by one of its name, before it was written.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }
