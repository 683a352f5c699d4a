package endpointslice

import (
	"context"
	"fmt"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/controllers/work"
)

type queue = work.Queue

// indexByService is the name of the cache's index. It begins with the controller's, since all controllers share one
// cache.
const indexByService = "endpointslice/service"

// addFieldIndex lets the cache find the slices of a Service without looking at the others.
func addFieldIndex(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &discoveryv1.EndpointSlice{}, indexByService, func(obj client.Object) []string {
		return servicesOf(obj.(*discoveryv1.EndpointSlice))
	})
	if err != nil {
		return fmt.Errorf("indexing EndpointSlices by Service: %w", err)
	}
	return nil
}

// servicesOf names the Services that a slice says it is of, by its label and by its owners. The two differ only after
// a foreign edit.
func servicesOf(slice *discoveryv1.EndpointSlice) []string {
	var names []string
	byLabel := slice.Labels[discoveryv1.LabelServiceName]
	if byLabel != "" {
		names = append(names, byLabel)
	}
	for _, ref := range slice.OwnerReferences {
		if ref.Kind == "Service" && ref.APIVersion == "v1" && ref.Name != byLabel {
			names = append(names, ref.Name)
		}
	}
	return names
}

// mark is the selection.Mark of the controller.
func (r *Reconciler) mark(service types.NamespacedName, pod string) (wake bool) {
	if st := r.states.Find(service); st != nil {
		return st.inbox.mark(pod)
	}
	return true
}

// sliceHandler wakes a Service when someone else changes its slices. All slices are watched, not those with our label
// alone: from a watch by label, a slice whose label was taken off would seem deleted.
func (r *Reconciler) sliceHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			r.sliceEvent(q, sliceEvent{slice: e.Object.(*discoveryv1.EndpointSlice)}, nil)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() {
				r.sliceEvent(q, sliceEvent{slice: e.ObjectNew.(*discoveryv1.EndpointSlice)}, e.ObjectOld.(*discoveryv1.EndpointSlice))
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			r.sliceEvent(q, sliceEvent{slice: e.Object.(*discoveryv1.EndpointSlice), deleted: true}, nil)
		},
	}
}

// sliceEvent gives an event to the Services that it concerns: those that the slice says it is of, or said before.
func (r *Reconciler) sliceEvent(q queue, e sliceEvent, old *discoveryv1.EndpointSlice) {
	managed := r.manages(e.slice)
	names := servicesOf(e.slice)
	if old != nil {
		managed = managed || r.manages(old)
		names = append(names, servicesOf(old)...)
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		key := types.NamespacedName{Namespace: e.slice.Namespace, Name: name}
		st := r.states.Find(key)
		ours := managed || st != nil && st.known.has(e.slice.UID)
		if ours && (st == nil || st.inbox.event(e)) {
			q.Add(reconcile.Request{NamespacedName: key})
		}
	}
}
