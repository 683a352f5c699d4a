package loadbalancer

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// services counts Services and records when it is asked, in the cache: nothing has to be kept in step, and a restart
// loses nothing. Only the manager that leads counts.
var services = &census{of: map[*Reconciler]bool{}}

type census struct {
	mu sync.Mutex
	of map[*Reconciler]bool
}

var _ prometheus.Collector = (*census)(nil)

var (
	servicesDesc = prometheus.NewDesc("fairlead_loadbalancer_services",
		"Number of Services by status and reason of the condition fairlead.dev/LoadBalancerReady", []string{"ready", "reason"}, nil)
	driftedDesc = prometheus.NewDesc("fairlead_loadbalancer_drifted_services",
		"Number of Services whose load balancer somebody else changed, and that is still not what they ask for", []string{"provider"}, nil)
)

// countServices has the Services of a manager counted until ctx ends.
func (r *Reconciler) countServices(ctx context.Context) error {
	services.put(r, true)
	<-ctx.Done()
	services.put(r, false)
	return nil
}

func (c *census) put(r *Reconciler, present bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if present {
		c.of[r] = true
	} else {
		delete(c.of, r)
	}
}

// Describe implements prometheus.Collector.
func (c *census) Describe(descs chan<- *prometheus.Desc) {
	descs <- servicesDesc
	descs <- driftedDesc
}

// Collect implements prometheus.Collector. What cannot be listed is left out, rather than all other metrics with it.
func (c *census) Collect(found chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c.mu.Lock()
	reconcilers := slices.Collect(maps.Keys(c.of))
	c.mu.Unlock()
	byReason, byProvider := map[[2]string]int{}, map[string]int{}
	for _, r := range reconcilers {
		r.countByReason(ctx, byReason)
		r.countDrifted(ctx, byProvider)
	}
	for key, n := range byReason {
		found <- prometheus.MustNewConstMetric(servicesDesc, prometheus.GaugeValue, float64(n), key[0], key[1])
	}
	for provider, n := range byProvider {
		found <- prometheus.MustNewConstMetric(driftedDesc, prometheus.GaugeValue, float64(n), provider)
	}
}

func (r *Reconciler) countByReason(ctx context.Context, sums map[[2]string]int) {
	var list corev1.ServiceList
	if r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy) != nil { // nothing of it is changed
		return
	}
	for i := range list.Items {
		if ready := meta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.ConditionLoadBalancerReady); ready != nil {
			sums[[2]string{string(ready.Status), ready.Reason}]++
		}
	}
}

// countDrifted counts also none, by provider: a gauge that vanishes is no zero.
func (r *Reconciler) countDrifted(ctx context.Context, sums map[string]int) {
	var list v1alpha1.LoadBalancerRecordList
	if r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy) != nil {
		return
	}
	for i := range list.Items {
		status := &list.Items[i].Status
		if status.Provider == "" {
			continue
		}
		n := sums[status.Provider]
		if status.Drift != nil && status.Drift.State == v1alpha1.DriftFound {
			n++
		}
		sums[status.Provider] = n
	}
}
