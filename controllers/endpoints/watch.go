package endpoints

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func enqueue(q queue, namespace string, names ...string) {
	for _, name := range names {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
}

// serviceHandler keeps the selector index and wakes a Service when what its Endpoints show of it changes.
func (r *Reconciler) serviceHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			r.index.Put(e.Object.(*corev1.Service))
			enqueue(q, e.Object.GetNamespace(), e.Object.GetName())
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			old, service := e.ObjectOld.(*corev1.Service), e.ObjectNew.(*corev1.Service)
			r.index.Put(service)
			if old.UID != service.UID || !maps.Equal(old.Labels, service.Labels) || !apiequality.Semantic.DeepEqual(old.Spec, service.Spec) {
				enqueue(q, service.Namespace, service.Name)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			r.index.Delete(client.ObjectKeyFromObject(e.Object))
			enqueue(q, e.Object.GetNamespace(), e.Object.GetName())
		},
	}
}

// podHandler wakes the Services whose endpoints a Pod's event changes.
func (r *Reconciler) podHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			enqueue(q, e.Object.GetNamespace(), r.index.Affected(nil, e.Object.(*corev1.Pod))...)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			enqueue(q, e.ObjectNew.GetNamespace(), r.index.Affected(e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod))...)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			pod := e.Object.(*corev1.Pod)
			enqueue(q, pod.Namespace, r.index.Affected(pod, pod)...)
		},
	}
}

// endpointsHandler wakes a Service when its Endpoints change, by whomever. At the start it wakes those whose Service
// went while nobody watched, too: Endpoints have the name of their Service and no owner that would collect them.
func (r *Reconciler) endpointsHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			enqueue(q, e.Object.GetNamespace(), e.Object.GetName())
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() {
				enqueue(q, e.ObjectNew.GetNamespace(), e.ObjectNew.GetName())
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			enqueue(q, e.Object.GetNamespace(), e.Object.GetName())
		},
	}
}
