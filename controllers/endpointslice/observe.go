package endpointslice

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

// demand is what slices a Service is to have from us.
type demand struct {
	// managedBy marks them. Empty: it is to have none, and those that we wrote are deleted.
	managedBy string
	// options are for the set; version tells two demands apart whose options differ, for one Service as it is.
	options endpoints.SetOptions
	version string
	// policy is what hints go by.
	policy topology.Policy
}

// demandOf returns what a Service is to have: by its own selector, or else by the oldest EndpointSelector of those that
// name it.
func (r *Reconciler) demandOf(ctx context.Context, service *corev1.Service, st *state, naming []*v1alpha1.EndpointSelector) (demand, error) {
	d, err := r.selectorDemand(ctx, service, st, naming)
	if err != nil {
		return d, err
	}
	if !r.Coexist && endpoints.Selected(service) {
		d = demand{managedBy: ManagedBy}
	}
	d.policy = r.policyOf(service)
	d.options.Hints = topology.Local(d.policy)
	return d, nil
}

// manages says whether a slice has a mark of ours. In coexist mode upstream's is upstream's.
func (r *Reconciler) manages(slice *discoveryv1.EndpointSlice) bool {
	managedBy := slice.Labels[discoveryv1.LabelManagedBy]
	return managedBy == SelectorManagedBy || managedBy == ManagedBy && !r.Coexist
}

// observe brings what is remembered of a Service up to date with its mail, at the cost of what that is. A Service
// that nothing is known of is read whole, and one that has changed itself gets a new set.
func (r *Reconciler) observe(ctx context.Context, service *corev1.Service, st *state, d demand, now time.Time) error {
	if st.managedBy != d.managedBy {
		st.drop()
		st.managedBy = d.managedBy
	}
	if st.layout == nil {
		ours, err := r.ourSlices(ctx, service, st)
		if err != nil {
			return err
		}
		st.layout = endpoints.NewLayout(endpoints.Options{
			ManagedBy: d.managedBy, MaxEndpoints: r.MaxEndpointsPerSlice,
			Taken: func(name string) bool { return r.exists(service.Namespace, name) },
		})
		for _, slice := range ours {
			st.layout.Observe(slice)
			st.known.put(slice)
		}
		st.hints.standOn(ours)
	} else {
		r.observeSlices(service, st, st.mail.slices, now)
	}
	switch {
	case st.set == nil, st.version != d.version, st.hints.policy != d.policy, st.mail.service && differs(st.set.Service(), service):
		r.fill(service, st, d)
	case len(st.mail.pods) > 0:
		for name := range st.mail.pods {
			r.put(st, name, r.Tracker.Pod(client.ObjectKeyFromObject(service), name))
		}
	default:
		return nil
	}
	st.changed = now
	if logger := log.FromContext(ctx).V(1); logger.Enabled() {
		if waiting := st.set.Waiting(); len(waiting) > 0 {
			logger.Info("Left out Pods whose nodes are not known", "pods", waiting)
		}
	}
	return nil
}

// differs says whether a set made for old does not do for service.
func differs(old, service *corev1.Service) bool {
	return old != service && (old.UID != service.UID || !maps.Equal(old.Labels, service.Labels) ||
		(old.DeletionTimestamp == nil) != (service.DeletionTimestamp == nil) ||
		!apiequality.Semantic.DeepEqual(old.Spec, service.Spec))
}

// fill makes a new set of all Pods of a Service.
func (r *Reconciler) fill(service *corev1.Service, st *state, d demand) {
	st.hints.begin(st.set, d.policy)
	st.inbox.goByCapacities(d.policy.Whole())
	st.set, st.version = endpoints.NewSet(service, d.options), d.version
	pods := r.Tracker.Pods(client.ObjectKeyFromObject(service))
	st.trigger.Only(pods)
	for _, pod := range pods {
		r.put(st, pod.Name, pod)
	}
}

// put makes one Pod in the set what it is; nil where the Service does not have it any more.
func (r *Reconciler) put(st *state, name string, pod *corev1.Pod) {
	st.hints.touch(name)
	if pod == nil {
		st.set.Delete(name)
		st.trigger.Gone(name)
		return
	}
	st.set.Put(pod, r.Tracker.Zone(pod.Spec.NodeName))
	st.trigger.Note(pod)
}

// observeSlices takes over events of slices, and notes those that someone else caused. A slice that someone else
// changed several times since the last pass counts as changed once, and so do all that they created.
func (r *Reconciler) observeSlices(service *corev1.Service, st *state, events []sliceEvent, now time.Time) {
	foreign := map[string]string{}
	for _, e := range events {
		uid := e.slice.UID
		before, had := st.known.get(uid)
		if e.deleted || !r.isOurs(service, e.slice, had) {
			st.layout.Remove(uid)
			st.known.forget(uid)
			st.rerouted = true
			switch {
			case !had || !endpoints.OwnedBy(e.slice, service) && e.deleted:
			case e.deleted:
				foreign[before.name] = ""
			default:
				foreign[before.name] = foreignWriter(before.managers, e.slice.ManagedFields, FieldManager)
			}
			continue
		}
		observation := st.layout.Observe(e.slice)
		if observation == endpoints.Stale {
			continue
		}
		st.known.put(e.slice)
		st.rerouted = st.rerouted || observation == endpoints.Changed
		if writer := foreignWriter(before.managers, e.slice.ManagedFields, FieldManager); observation == endpoints.Changed && writer != FieldManager {
			foreign[before.name] = writer // Without a name where it was created.
		}
	}
	if service.DeletionTimestamp != nil {
		return // The garbage collector is no rival.
	}
	for _, name := range slices.Sorted(maps.Keys(foreign)) {
		if foreign[name] != FieldManager {
			st.ownership.foreign(name, foreign[name], now)
		}
	}
}

// ourSlices returns the slices of a Service in the cache that this controller, or upstream's, wrote for it. They
// belong to the cache.
func (r *Reconciler) ourSlices(ctx context.Context, service *corev1.Service, st *state) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := r.Client.List(ctx, &list, client.InNamespace(service.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingFields{indexByService: service.Name})
	if err != nil {
		return nil, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	var ours []*discoveryv1.EndpointSlice
	for i := range list.Items {
		slice := &list.Items[i]
		if r.isOurs(service, slice, st.known.has(slice.UID)) {
			ours = append(ours, slice)
		}
	}
	return ours, nil
}

// isOurs says whether a slice is this controller's to keep. A slice that was ours stays ours when someone changes its
// labels: it would otherwise stay behind with endpoints that nobody updates.
func (r *Reconciler) isOurs(service *corev1.Service, slice *discoveryv1.EndpointSlice, before bool) bool {
	managed := r.manages(slice)
	if !managed && slice.Labels[discoveryv1.LabelManagedBy] == ManagedBy {
		return false // In coexist mode it is upstream's, even one that we made in replace mode.
	}
	if managed && slice.Labels[discoveryv1.LabelServiceName] == service.Name {
		return true
	}
	return endpoints.OwnedBy(slice, service) && (managed || before || endpoints.HasOwnName(service, slice))
}

// exists says whether the cache has a slice of this name, whoever's it is.
func (r *Reconciler) exists(namespace, name string) bool {
	var slice discoveryv1.EndpointSlice
	key := types.NamespacedName{Namespace: namespace, Name: name}
	return r.Client.Get(context.Background(), key, &slice, client.UnsafeDisableDeepCopy) == nil
}
