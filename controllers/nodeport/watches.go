package nodeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

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
	if r.Reader == nil {
		r.Reader = mgr.GetAPIReader()
	}
	if r.Range == (portalloc.Range{}) {
		r.Range = portalloc.DefaultRange
	}
	if r.Book == nil {
		r.Book = NewBook(r.Range, time.Now)
	}
	if r.Intn == nil {
		r.Intn = rand.IntN
	}
	if err := r.setupPools(mgr); err != nil {
		return err
	}
	if err := r.setupWebhook(mgr); err != nil {
		return err
	}
	if err := r.setupReports(mgr); err != nil {
		return err
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

// setupWebhook serves the webhook, on every replica. One that does not know yet who has which port is not ready to be asked.
func (r *Reconciler) setupWebhook(mgr ctrl.Manager) error {
	if r.WebhookConfiguration == "" {
		return nil
	}
	hook := &Webhook{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Book: r.Book, Intn: r.Intn}
	mgr.GetWebhookServer().Register(WebhookPath, &webhook.Admission{Handler: hook})
	err := mgr.AddReadyzCheck("node-ports", func(*http.Request) error {
		if !r.Book.ready() {
			return errors.New("Services and NodePortPools are still being listed")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adding the readiness check of the webhook: %w", err)
	}
	return nil
}

// setupPools has the book follow the manager's cache, on every replica, and adds the controller nodeportpool.
func (r *Reconciler) setupPools(mgr ctrl.Manager) error {
	changes := make(chan event.GenericEvent, 1)
	r.Book.changed = func() {
		select {
		case changes <- event.GenericEvent{Object: &v1alpha1.NodePortPool{}}:
		default: // it knows already
		}
	}
	if err := r.Book.follow(context.Background(), mgr.GetCache(), r.WebhookConfiguration); err != nil {
		return err
	}
	// All pools are one request, which waits for more to happen.
	soon := handler.Funcs{GenericFunc: func(_ context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[ctrl.Request]) {
		q.AddAfter(allPools, statusEvery)
	}}
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request { return []ctrl.Request{allPools} })
	b := ctrl.NewControllerManagedBy(mgr).Named("nodeportpool").
		WatchesRawSource(source.Channel(changes, soon)).
		Watches(&corev1.Namespace{}, one, builder.WithPredicates(predicate.LabelChangedPredicate{}))
	if r.WebhookConfiguration != "" {
		ours := builder.WithPredicates(predicate.NewPredicateFuncs(func(object client.Object) bool { return object.GetName() == PolicyName }))
		b = b.Watches(&admissionregistrationv1.ValidatingAdmissionPolicy{}, one, ours).
			Watches(&admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, one, ours)
	}
	return b.Complete(&poolReconciler{client: r.Client, reader: r.Reader, recorder: r.Recorder, book: r.Book, intn: r.Intn,
		serves: r.WebhookConfiguration != ""})
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
