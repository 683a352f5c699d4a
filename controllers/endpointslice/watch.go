package endpointslice

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Names of the cache's indexes. They begin with the controller's, since all controllers share one cache.
const (
	indexByService = "endpointslice/service"
	indexByNode    = "endpointslice/node"
)

// addFieldIndexes lets the cache find the slices of a Service, and the Pods of a node, without looking at the others.
func addFieldIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &discoveryv1.EndpointSlice{}, indexByService, func(obj client.Object) []string {
		return servicesOf(obj.(*discoveryv1.EndpointSlice))
	})
	if err != nil {
		return fmt.Errorf("indexing EndpointSlices by Service: %w", err)
	}
	err = indexer.IndexField(ctx, &corev1.Pod{}, indexByNode, func(obj client.Object) []string {
		if node := obj.(*corev1.Pod).Spec.NodeName; node != "" {
			return []string{node}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing Pods by node: %w", err)
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

func enqueue(q queue, namespace string, names ...string) {
	for _, name := range names {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
}

// serviceHandler keeps the selector index and wakes a Service when what slices show of it changes. Status does not,
// but for the conditions, of which one is ours to repair.
func (r *Reconciler) serviceHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			r.index.Put(e.Object.(*corev1.Service))
			enqueue(q, e.Object.GetNamespace(), e.Object.GetName())
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			old, service := e.ObjectOld.(*corev1.Service), e.ObjectNew.(*corev1.Service)
			r.index.Put(service)
			if old.UID == service.UID && maps.Equal(old.Labels, service.Labels) &&
				(old.DeletionTimestamp == nil) == (service.DeletionTimestamp == nil) &&
				apiequality.Semantic.DeepEqual(old.Spec, service.Spec) &&
				apiequality.Semantic.DeepEqual(old.Status.Conditions, service.Status.Conditions) {
				return
			}
			enqueue(q, service.Namespace, service.Name)
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

// nodeHandler wakes the Services that have Pods on a node that appears or changes zone, so that no endpoint stays
// without its zone because a label came late (the class of kubernetes/kubernetes#123401). A node that goes does not:
// its Pods serve until they are deleted, and a Node object that is replaced must not take them out in between.
func (r *Reconciler) nodeHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList { // Then the Pods' own events wake the same Services.
				r.enqueueNode(ctx, e.Object.GetName(), q)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetLabels()[corev1.LabelTopologyZone] != e.ObjectNew.GetLabels()[corev1.LabelTopologyZone] {
				r.enqueueNode(ctx, e.ObjectNew.GetName(), q)
			}
		},
	}
}

func (r *Reconciler) enqueueNode(ctx context.Context, node string, q queue) {
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.MatchingFields{indexByNode: node}, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Failed to list the Pods of a node from the cache", "Node", node)
		return
	}
	for i := range pods.Items {
		enqueue(q, pods.Items[i].Namespace, r.index.Matching(pods.Items[i].Namespace, pods.Items[i].Labels)...)
	}
}

// sliceHandler wakes a Service when someone else changes its slices. All slices are watched, not those with our label
// alone: from a watch by label, a slice whose label was taken off would seem deleted.
func (r *Reconciler) sliceHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			r.sliceEvent(q, e.Object, nil, false)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			r.sliceEvent(q, e.ObjectNew, e.ObjectOld, false)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			r.sliceEvent(q, e.Object, nil, true)
		},
	}
}

func (r *Reconciler) sliceEvent(q queue, obj, oldObj client.Object, deleted bool) {
	slice := obj.(*discoveryv1.EndpointSlice)
	names := servicesOf(slice)
	managed := slice.Labels[discoveryv1.LabelManagedBy] == ManagedBy
	if old, ok := oldObj.(*discoveryv1.EndpointSlice); ok {
		if old.ResourceVersion == slice.ResourceVersion {
			return
		}
		managed = managed || old.Labels[discoveryv1.LabelManagedBy] == ManagedBy
		names = append(names, servicesOf(old)...)
	}
	echo := false
	for _, name := range names {
		echo = r.written.event(types.NamespacedName{Namespace: slice.Namespace, Name: name}, slice, deleted) || echo
	}
	if managed && !echo {
		enqueue(q, slice.Namespace, names...)
	}
}
