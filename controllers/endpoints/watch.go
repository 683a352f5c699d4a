package endpoints

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/controllers/work"
)

type queue = work.Queue

// mark is the selection.Mark of the controller.
func (r *Reconciler) mark(service types.NamespacedName, _ string) (wake bool) {
	if st := r.states.Find(service); st != nil {
		return st.inbox.mark()
	}
	return true
}

// endpointsHandler wakes a Service when someone else changes its Endpoints. At the start it wakes those whose Service
// went while nobody watched, too: Endpoints have the name of their Service and no owner that would collect them.
func (r *Reconciler) endpointsHandler() handler.EventHandler {
	wake := func(q queue, obj client.Object, news func(*inbox) bool) {
		key := client.ObjectKeyFromObject(obj)
		if st := r.states.Find(key); st == nil || news(&st.inbox) {
			q.Add(reconcile.Request{NamespacedName: key})
		}
	}
	changed := func(q queue, obj client.Object) {
		wake(q, obj, func(b *inbox) bool { return b.changed(obj.GetResourceVersion()) })
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { changed(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() {
				changed(q, e.ObjectNew)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			wake(q, e.Object, func(b *inbox) bool { return b.deleted(e.Object.GetResourceVersion()) })
		},
	}
}
