package mirroring

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/controllers/work"
)

type queue = work.Queue

func enqueue(q queue, keys ...types.NamespacedName) {
	for _, key := range keys {
		q.Add(reconcile.Request{NamespacedName: key})
	}
}

// serviceHandler wakes Endpoints when their Service comes, goes, or gets or loses its selector. Nothing else of a
// Service shows in mirrored slices.
func (r *Reconciler) serviceHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if selectless(e.Object) {
				r.held.setSelectless(client.ObjectKeyFromObject(e.Object), true)
				enqueue(q, client.ObjectKeyFromObject(e.Object))
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if is := selectless(e.ObjectNew); is != selectless(e.ObjectOld) {
				r.held.setSelectless(client.ObjectKeyFromObject(e.ObjectNew), is)
				enqueue(q, client.ObjectKeyFromObject(e.ObjectNew))
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			if key := client.ObjectKeyFromObject(e.Object); r.held.isSelectless(key) {
				r.held.setSelectless(key, false)
				enqueue(q, key)
			}
		},
	}
}

func selectless(obj client.Object) bool { return obj.(*corev1.Service).Spec.Selector == nil }

// endpointsHandler wakes Endpoints that change, but not those of Services with a selector, which are by far the most:
// a Service that loses it wakes them itself.
func (r *Reconciler) endpointsHandler() handler.EventHandler {
	wake := func(obj client.Object, q queue) {
		if key := client.ObjectKeyFromObject(obj); r.held.isSelectless(key) {
			enqueue(q, key)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { wake(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() {
				wake(e.ObjectNew, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { wake(e.Object, q) },
	}
}

// sliceHandler wakes Endpoints when someone else changes their slices. All slices are watched, not those with our label
// alone: from a watch by label, a slice whose label was taken off would seem deleted.
func (r *Reconciler) sliceHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			enqueue(q, r.held.observe(e.Object.(*discoveryv1.EndpointSlice))...)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			enqueue(q, r.held.observe(e.ObjectNew.(*discoveryv1.EndpointSlice))...)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			enqueue(q, r.held.remove(e.Object.GetUID())...)
		},
	}
}
