package nodeport

import (
	"context"
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

// SetupWithManager adds the controller, named nodeport, to mgr.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Client == nil {
		r.Client = mgr.GetClient()
	}
	if r.Recorder == nil {
		r.Recorder = mgr.GetEventRecorder(FieldManager)
	}
	if r.Range == (portalloc.Range{}) {
		r.Range = portalloc.DefaultRange
	}
	if r.Intn == nil {
		r.Intn = rand.IntN
	}
	concerned := predicate.NewPredicateFuncs(func(object client.Object) bool {
		svc, ok := object.(*corev1.Service)
		return ok && (candidate(svc) || findCondition(svc) != nil)
	})
	// One Service at a time: two at once would rather choose the same port.
	return ctrl.NewControllerManagedBy(mgr).Named("nodeport").
		For(&corev1.Service{}, builder.WithPredicates(concerned)).
		Watches(&v1alpha1.LoadBalancerClass{}, handler.EnqueueRequestsFromMapFunc(r.candidates),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}

// candidates returns every Service whose node ports the API server leaves alone.
func (r *Reconciler) candidates(ctx context.Context, _ client.Object) []ctrl.Request {
	var services corev1.ServiceList
	if err := r.Client.List(ctx, &services); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Failed to list Services")
		return nil
	}
	var requests []ctrl.Request
	for i := range services.Items {
		if svc := &services.Items[i]; candidate(svc) {
			requests = append(requests, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}})
		}
	}
	return requests
}

// report writes our condition on the Service where it differs, with an event when something is wrong that was not
// before. Nil takes the condition away.
func (r *Reconciler) report(ctx context.Context, svc *corev1.Service, want *metav1.Condition) error {
	have := findCondition(svc)
	status := corev1ac.ServiceStatus()
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
	default:
		since := metav1.Now().Rfc3339Copy()
		if have != nil && have.Status == want.Status {
			if have.Reason == want.Reason && have.Message == want.Message {
				return nil
			}
			since = have.LastTransitionTime
		}
		status.WithConditions(metav1ac.Condition().WithType(v1alpha1.ConditionNodePortsAllocated).WithStatus(want.Status).
			WithReason(want.Reason).WithMessage(want.Message).WithObservedGeneration(svc.Generation).WithLastTransitionTime(since))
	}
	apply := corev1ac.Service(svc.Name, svc.Namespace).WithUID(svc.UID).WithStatus(status)
	err := r.Client.Status().Apply(ctx, apply, client.FieldOwner(FieldManager), client.ForceOwnership)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("applying the condition of the Service: %w", err)
	}
	if want != nil && want.Status == metav1.ConditionFalse && (have == nil || have.Reason != want.Reason) {
		r.Recorder.Eventf(svc, nil, corev1.EventTypeWarning, "NodePorts"+want.Reason, "AllocateNodePorts", "%s", want.Message)
	}
	return nil
}
