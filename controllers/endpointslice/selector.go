package endpointslice

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// SelectorManagedBy marks the slices of Services that an EndpointSelector has, in either mode.
const SelectorManagedBy = "fairlead.dev"

// indexBySelector is the name of the cache's index of EndpointSelectors by the Service that they name.
const indexBySelector = "endpointslice/selector"

// +kubebuilder:rbac:groups=fairlead.dev,resources=endpointselectors,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=endpointselectors/status,verbs=patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=list;watch

// chosen is what is remembered between passes of the EndpointSelector that has a Service.
type chosen struct {
	uid types.UID
	// version tells what it was read from: its spec, and what is allowed.
	version string
	filter  endpoints.AddressFilter
	// choice and census are nil, and unreadable is not, where it could not be read.
	choice     *choice
	census     *census
	unreadable *refusal
	// holding is not nil while it is not accepted.
	holding *holding
}

// refused says why it is not accepted; nil: it is.
func (c *chosen) refused() *refusal {
	if c.unreadable != nil {
		return c.unreadable
	}
	return c.census.refused()
}

// selectors match the Pods that have to be looked at.
func (c *chosen) selectors() []labels.Selector {
	if c.holding != nil {
		return c.holding.selectors()
	}
	return c.choice.selectors()
}

// selectorDemand returns what a Service is to have by the EndpointSelector that has it: of those that name it, which
// are sorted by age, the oldest. Where there is none, or the Service cannot have one, that is nothing.
func (r *Reconciler) selectorDemand(ctx context.Context, service *corev1.Service, st *state, naming []*v1alpha1.EndpointSelector) (demand, error) {
	key := client.ObjectKeyFromObject(service)
	if len(naming) == 0 || judgeService(service, service.Name) != nil {
		r.unchoose(key, st)
		return demand{}, nil
	}
	filter, err := r.filter(ctx)
	if err != nil {
		return demand{}, err
	}
	before := st.chosen
	r.choose(naming[0], filter, st, key)
	c := st.chosen
	switch refused := c.refused(); {
	case refused == nil && c.holding != nil:
		c.holding = nil
		r.Tracker.PutSelectors(key, c.selectors())
	case refused != nil && c.holding == nil:
		last, err := r.lastEndpoints(ctx, service, st, before)
		if err != nil {
			return demand{}, err
		}
		c.holding = hold(last, filter)
		r.Tracker.PutSelectors(key, c.selectors())
	}
	return c.demand(), nil
}

// demand is what the EndpointSelector demands for its Service.
func (c *chosen) demand() demand {
	switch {
	case c.holding == nil:
		return demand{managedBy: SelectorManagedBy, options: c.choice.options(), version: c.version}
	case len(c.holding.pods) > 0:
		return demand{managedBy: SelectorManagedBy, options: c.holding.options(), version: c.version + "/held"}
	}
	return demand{}
}

// choose brings what is remembered of a Service's EndpointSelector up to date, at the cost of the Pods that are marked
// where it is the same one, unchanged.
func (r *Reconciler) choose(es *v1alpha1.EndpointSelector, filter endpoints.AddressFilter, st *state, key types.NamespacedName) {
	version := fmt.Sprintf("%s/%d/%v", es.UID, es.Generation, filter)
	if st.chosen != nil && st.chosen.version == version {
		if st.chosen.census != nil {
			for name := range st.mail.pods {
				st.chosen.count(name, r.Tracker.Pod(key, name))
			}
		}
		return
	}
	c := &chosen{uid: es.UID, version: version, filter: filter}
	if c.choice, c.unreadable = compile(es, filter); c.unreadable == nil {
		c.census = newCensus(c.choice)
		r.Tracker.PutSelectors(key, c.selectors())
		for _, pod := range r.Tracker.Pods(key) {
			c.census.put(pod)
		}
	}
	st.chosen = c
}

// count counts a Pod as it is; nil: it is not there any more.
func (c *chosen) count(name string, pod *corev1.Pod) {
	if pod == nil {
		c.census.delete(name)
		return
	}
	c.census.put(pod)
}

// unchoose forgets the EndpointSelector of a Service.
func (r *Reconciler) unchoose(key types.NamespacedName, st *state) {
	if st.chosen != nil {
		st.chosen = nil
		r.Tracker.PutSelectors(key, nil)
	}
}

// lastEndpoints returns the last good endpoints of the EndpointSelector that a Service has now, given what had it
// before: those that its slices should hold or, after a start, those that they hold.
func (r *Reconciler) lastEndpoints(ctx context.Context, service *corev1.Service, st *state, before *chosen) ([]*discoveryv1.Endpoint, error) {
	var last []*discoveryv1.Endpoint
	switch {
	case st.set != nil && before != nil && before.uid == st.chosen.uid:
		for _, family := range st.set.Families() {
			last = append(last, st.set.Endpoints(family)...)
		}
	case st.set == nil && before == nil:
		ours, err := r.ourSlices(ctx, service, st)
		if err != nil {
			return nil, err
		}
		for _, slice := range ours {
			if slice.Labels[discoveryv1.LabelManagedBy] != SelectorManagedBy {
				continue
			}
			for i := range slice.Endpoints {
				last = append(last, &slice.Endpoints[i])
			}
		}
	}
	return last, nil
}

// naming returns the EndpointSelectors that name a Service, the oldest first. They belong to the cache.
func (r *Reconciler) naming(ctx context.Context, service types.NamespacedName, st *state) ([]*v1alpha1.EndpointSelector, error) {
	if st.named = st.inbox.takeRenamed() || st.named; !st.named {
		return nil, nil
	}
	var list v1alpha1.EndpointSelectorList
	err := r.Client.List(ctx, &list, client.InNamespace(service.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingFields{indexBySelector: service.Name})
	if err != nil {
		return nil, fmt.Errorf("listing EndpointSelectors: %w", err)
	}
	st.named = len(list.Items) > 0
	return byAge(list.Items), nil
}

// filter returns which addresses on secondary networks may be served.
func (r *Reconciler) filter(ctx context.Context) (endpoints.AddressFilter, error) {
	if len(r.AllowedCIDRs) == 0 {
		return endpoints.AddressFilter{}, nil
	}
	var list networkingv1.ServiceCIDRList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return endpoints.AddressFilter{}, fmt.Errorf("listing ServiceCIDRs: %w", err)
	}
	filter := endpoints.AddressFilter{Allowed: r.AllowedCIDRs}
	for i := range list.Items {
		for _, text := range list.Items[i].Spec.CIDRs {
			if cidr, err := netip.ParsePrefix(text); err == nil { // The API server has checked it.
				filter.Denied = append(filter.Denied, cidr)
			}
		}
	}
	slices.SortFunc(filter.Denied, netip.Prefix.Compare)
	return filter, nil
}
