package loadbalancer

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// Delays between two attempts of one Service after errors.
const (
	minRetry = time.Second
	maxRetry = 5 * time.Minute
)

// SetupWithManager adds the controllers loadbalancer and loadbalancerclass to mgr.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Providers == nil || r.ClusterID == "" {
		return errors.New("the controller needs Providers and a ClusterID")
	}
	if r.Client == nil {
		r.Client = mgr.GetClient()
	}
	if r.Recorder == nil {
		r.Recorder = mgr.GetEventRecorder(FieldManager)
	}
	if r.Concurrency == 0 {
		r.Concurrency = 4
	}
	if r.Resync == 0 {
		r.Resync = 10 * time.Minute
	}
	err := ctrl.NewControllerManagedBy(mgr).Named("loadbalancerclass").
		For(&v1alpha1.LoadBalancerClass{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(&classReconciler{client: r.Client, providers: r.Providers})
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("loadbalancer").
		For(&corev1.Service{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: serviceChanged})).
		Watches(&v1alpha1.LoadBalancerRecord{}, r.recordHandler()).
		Watches(&v1alpha1.LoadBalancerClass{}, handler.EnqueueRequestsFromMapFunc(r.allServices),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.allServices),
			builder.WithPredicates(predicate.Funcs{UpdateFunc: nodeChanged})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Concurrency,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minRetry, maxRetry),
		}).
		Complete(r)
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// recordHandler wakes the Service of a record that is there at the start, when it may be all that is left of the
// Service, and of one that somebody else edited or deleted.
func (r *Reconciler) recordHandler() handler.EventHandler {
	enqueue := func(q queue, record client.Object) {
		q.Add(ctrl.Request{NamespacedName: client.ObjectKeyFromObject(record)})
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { enqueue(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			old, record := e.ObjectOld.(*v1alpha1.LoadBalancerRecord), e.ObjectNew.(*v1alpha1.LoadBalancerRecord)
			uid := cmp.Or(old.Status.ServiceUID, record.Status.ServiceUID)
			// An event of ours that is faster than the answer to our write costs a pass that finds nothing to do.
			if last, ok := r.last.Load(uid); ok && last.(*written).before(record) {
				enqueue(q, record)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			r.last.Delete(e.Object.(*v1alpha1.LoadBalancerRecord).Status.ServiceUID)
			enqueue(q, e.Object)
		},
	}
}

// allServices returns every Service of the type.
func (r *Reconciler) allServices(ctx context.Context, _ client.Object) []ctrl.Request {
	var services corev1.ServiceList
	if err := r.Client.List(ctx, &services); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Failed to list Services")
		return nil
	}
	var requests []ctrl.Request
	for i := range services.Items {
		if services.Items[i].Spec.Type == corev1.ServiceTypeLoadBalancer {
			requests = append(requests, ctrl.Request{NamespacedName: types.NamespacedName{
				Namespace: services.Items[i].Namespace, Name: services.Items[i].Name}})
		}
	}
	return requests
}

// serviceChanged leaves out what we write ourselves.
func serviceChanged(e event.UpdateEvent) bool {
	a, ok := e.ObjectOld.(*corev1.Service)
	b, ok2 := e.ObjectNew.(*corev1.Service)
	if !ok || !ok2 {
		return false
	}
	return a.UID != b.UID || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		hasFinalizer(a) && !hasFinalizer(b) || hasCondition(a) && !hasCondition(b) ||
		!equality.Semantic.DeepEqual(a.Spec, b.Spec) || !equality.Semantic.DeepEqual(a.Annotations, b.Annotations) ||
		lost(a.Status.LoadBalancer.Ingress, b.Status.LoadBalancer.Ingress)
}

// lost reports whether an address that was published is so no more.
func lost(before, after []corev1.LoadBalancerIngress) bool {
	return slices.ContainsFunc(before, func(in corev1.LoadBalancerIngress) bool {
		return !slices.ContainsFunc(after, func(other corev1.LoadBalancerIngress) bool {
			return equality.Semantic.DeepEqual(in, other)
		})
	})
}

func nodeChanged(e event.UpdateEvent) bool {
	a, ok := e.ObjectOld.(*corev1.Node)
	b, ok2 := e.ObjectNew.(*corev1.Node)
	return ok && ok2 && !cloud.SameForBalancers(a, b)
}
