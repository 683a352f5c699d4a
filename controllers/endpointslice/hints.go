package endpointslice

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

// Topology is what hints need that depend on all endpoints of a Service together.
type Topology interface {
	// Capacities are those of the zones now.
	Capacities() topology.Capacities
	// Source calls changed with the controller's queue whenever capacities change. It has synced once every node has been
	// seen.
	Source(informers cache.Informers, changed func(queue)) source.SyncingSource
	// Explain is told what the hints of a Service come to, in its primary family.
	Explain(service types.NamespacedName, report topology.Report)
}

// hinting is what is remembered of a Service's hints between passes. An event costs what it changes here, too; a Service
// whose hints depend on each endpoint alone, or that has none, has only a policy.
type hinting struct {
	policy topology.Policy
	// families are the assignments. Nil: there is none yet, and standing are the hints to begin with.
	families map[discoveryv1.AddressType]*topology.Assignment
	standing map[discoveryv1.AddressType]map[string]*discoveryv1.EndpointHints
	// touched are the Pods that were looked at since the last assignment.
	touched map[string]struct{}
	// serving is what the set said then, by which ranks are wanted.
	serving endpoints.Serving
	// seen are the capacities that the last assignment was made with, or held against.
	seen topology.Capacities
}

// policyOf returns what hints of a Service go by. What cannot be read asks for nothing; who says so is told elsewhere.
func (r *Reconciler) policyOf(service *corev1.Service) topology.Policy {
	policy, err := topology.Parse(service)
	if err != nil || policy.Whole() && r.Topology == nil {
		return topology.None
	}
	return policy
}

// standOn notes the hints that stand on slices.
func (h *hinting) standOn(slices []*discoveryv1.EndpointSlice) {
	h.standing = map[discoveryv1.AddressType]map[string]*discoveryv1.EndpointHints{}
	for _, slice := range slices {
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; e.Hints != nil && e.TargetRef != nil {
				h.stand(slice.AddressType, e.TargetRef.Name, e.Hints)
			}
		}
	}
}

func (h *hinting) stand(family discoveryv1.AddressType, name string, is *discoveryv1.EndpointHints) {
	if h.standing[family] == nil {
		h.standing[family] = map[string]*discoveryv1.EndpointHints{}
	}
	h.standing[family][name] = is
}

// begin starts anew for a set that is about to be filled, from what the one before it has; nil: from slices.
func (h *hinting) begin(before *endpoints.Set, policy topology.Policy) {
	standing := h.standing
	*h = hinting{policy: policy}
	if !policy.Whole() {
		return
	}
	h.touched = map[string]struct{}{}
	if h.standing = standing; before == nil {
		return
	}
	h.standing = map[discoveryv1.AddressType]map[string]*discoveryv1.EndpointHints{}
	for _, family := range before.Families() {
		for _, e := range before.Endpoints(family) {
			if e.TargetRef != nil {
				h.stand(family, e.TargetRef.Name, e.Hints)
			}
		}
	}
}

// touch notes that a Pod was looked at.
func (h *hinting) touch(name string) {
	if h.policy.Whole() {
		h.touched[name] = struct{}{}
	}
}

// hint gives the endpoints of a Service the hints that depend on all of them, if it asks for such and anything changed.
func (r *Reconciler) hint(service *corev1.Service, st *state) {
	h := &st.hints
	if !h.policy.Whole() {
		return
	}
	capacities := r.Topology.Capacities()
	if serving := st.set.Serving(); serving.Rank != h.serving.Rank || serving.Any != h.serving.Any {
		// Other Pods are endpoints now than those that were looked at.
		for _, pod := range r.Tracker.Pods(client.ObjectKeyFromObject(service)) {
			h.touch(pod.Name)
		}
		h.serving = serving
	}
	if h.families != nil && len(h.touched) == 0 && h.seen.Equal(capacities) {
		return
	}
	if h.families == nil {
		h.families = map[discoveryv1.AddressType]*topology.Assignment{}
	}
	for i, family := range st.set.Families() {
		report := r.assign(st, family, capacities)
		if i == 0 {
			r.Topology.Explain(client.ObjectKeyFromObject(service), report)
		}
	}
	h.touched, h.seen, h.standing = map[string]struct{}{}, capacities, nil
}

// assign brings the hints of one family up to date.
func (r *Reconciler) assign(st *state, family discoveryv1.AddressType, capacities topology.Capacities) topology.Report {
	h := &st.hints
	a := h.families[family]
	if a == nil {
		a = topology.NewAssignment(h.policy, capacities)
		h.families[family] = a
	}
	for name := range h.touched {
		e := st.set.Endpoint(name, family)
		if e == nil || !*e.Conditions.Ready {
			a.Delete(name)
			continue
		}
		in := topology.Endpoint{Key: name, Hints: h.standing[family][name]}
		if e.Zone != nil {
			in.Zone = *e.Zone
		}
		a.Put(in)
	}
	changes, report := a.Follow(capacities)
	for name := range h.touched {
		st.set.Hint(name, family, a.Hints(name)) // The set lost them when the Pod was put.
	}
	for _, change := range changes {
		st.set.Hint(change.Key, family, change.Hints)
	}
	return report
}

// capacitiesChanged wakes the Services whose hints go by the zones' capacities.
func (r *Reconciler) capacitiesChanged(q queue) {
	r.states.Each(func(key types.NamespacedName, st *state) {
		if st.inbox.measure() {
			q.Add(reconcile.Request{NamespacedName: key})
		}
	})
}
