package endpointslice

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// addSelectorIndex lets the cache find the EndpointSelectors that name a Service.
func addSelectorIndex(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.EndpointSelector{}, indexBySelector, func(obj client.Object) []string {
		return []string{obj.(*v1alpha1.EndpointSelector).Spec.Fairlead.ServiceName}
	})
	if err != nil {
		return fmt.Errorf("indexing EndpointSelectors by Service: %w", err)
	}
	return nil
}

// selectorHandler wakes the Service that an EndpointSelector names, or named before, when it comes, goes or changes.
// Its status does where it is not what we wrote.
func (r *Reconciler) selectorHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			r.wake(q, e.Object.(*v1alpha1.EndpointSelector))
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			old, es := e.ObjectOld.(*v1alpha1.EndpointSelector), e.ObjectNew.(*v1alpha1.EndpointSelector)
			if old.UID == es.UID && old.Generation == es.Generation && (old.DeletionTimestamp == nil) == (es.DeletionTimestamp == nil) &&
				(equality.Semantic.DeepEqual(&old.Status, &es.Status) || !r.reports.edited(es)) {
				return
			}
			r.wake(q, old)
			r.wake(q, es)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			es := e.Object.(*v1alpha1.EndpointSelector)
			r.reports.forget(es.UID)
			r.wake(q, es)
		},
	}
}

// cidrHandler wakes all Services that EndpointSelectors name when the ranges of cluster IPs change.
func (r *Reconciler) cidrHandler() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		var list v1alpha1.EndpointSelectorList
		if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			log.FromContext(ctx).Error(err, "Failed to list EndpointSelectors from the cache")
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			key := serviceOf(&list.Items[i])
			if r.mark(key, "") {
				requests = append(requests, reconcile.Request{NamespacedName: key})
			}
		}
		return requests
	})
}

// wake wakes the Service that an EndpointSelector names. The first one of all has Pods followed, by standbys as well.
func (r *Reconciler) wake(q queue, es *v1alpha1.EndpointSelector) {
	r.Tracker.Follow()
	key := serviceOf(es)
	if st := r.states.Find(key); st != nil {
		st.inbox.rename()
	}
	if r.mark(key, "") {
		q.Add(reconcile.Request{NamespacedName: key})
	}
}

func serviceOf(es *v1alpha1.EndpointSelector) types.NamespacedName {
	return types.NamespacedName{Namespace: es.Namespace, Name: es.Spec.Fairlead.ServiceName}
}
