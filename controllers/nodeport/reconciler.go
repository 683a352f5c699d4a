// Package nodeport is about the node ports that the API server's allocator leaves to people. It keeps the NodePortPools,
// numbers the Services that draw from them, mends ports that two Services have, and numbers the LoadBalancer Services
// that switched the API server's numbering off (allocateLoadBalancerNodePorts: false) and whose LoadBalancerClass asks
// for node ports all the same (nodePorts: Auto).
//
// The API server stays the arbiter: a port is chosen by package portalloc from the Services that the cache knows, and
// where the server refuses it another one is tried. No Service loses a port that it has, but for a duplicate whose pool
// wants that. A node port that a user removes is followed by another one, not by the same, since it may have been in
// the way; who wants none uses a class with nodePorts: None. Which programs of nodes listen where a node port is served it
// is told by the node agents, and says on the Services; it looks for none itself.
package nodeport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/portalloc"
)

// FieldManager of everything that this controller writes.
const FieldManager = "fairlead-nodeport"

const (
	// attempts with other ports before the server's refusal is believed to be about something else.
	attempts = 8
	// waitExhausted is how long to wait for somebody to give a port back.
	waitExhausted = time.Minute
)

// Reconciler numbers node ports.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Reader reads from the API server. SetupWithManager sets it where it is nil.
	Reader client.Reader
	// Range is the API server's --service-node-port-range. Zero: portalloc.DefaultRange.
	Range portalloc.Range
	// Book knows who has which port. SetupWithManager makes it of Range where it is nil.
	Book *Book
	// WebhookConfiguration is the name of the MutatingWebhookConfiguration by which the API server asks Webhook. Empty: the
	// manager does not serve it. Where it does not, or is not asked, no pool is enforced: every Service would be refused.
	WebhookConfiguration string
	// Reports are what node agents tell of programs that listen on node ports.
	Reports Reports
	// Coexist says that somebody else serves Services without a class.
	Coexist bool
	// Intn returns a random number from 0 to n-1. Nil: math/rand/v2.
	Intn func(n int) int
}

// +kubebuilder:rbac:groups="",resources=namespaces,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=services,verbs=list;watch;patch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups=fairlead.dev,resources=loadbalancerclasses;loadbalancerrecords,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile gives the ports of one Service the node ports that they lack.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	svc := &corev1.Service{}
	if err := r.Client.Get(ctx, req.NamespacedName, svc); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !r.Book.ready() { // what it does not know it would hand out again
		return ctrl.Result{RequeueAfter: statusEvery}, nil
	}
	asked, err := r.asked(ctx, svc)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !asked {
		return ctrl.Result{}, r.report(ctx, svc, nil)
	}
	err = r.number(ctx, svc)
	switch exhausted, full := errors.AsType[*portalloc.ExhaustedError](err); {
	case err == nil:
		return ctrl.Result{}, r.report(ctx, svc, &metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllocated,
			Message: "Every port has a node port"})
	case full:
		return ctrl.Result{RequeueAfter: waitExhausted}, r.report(ctx, svc, &metav1.Condition{Status: metav1.ConditionFalse,
			Reason: v1alpha1.ReasonExhausted, Message: exhausted.Error()})
	case refused(err):
		return ctrl.Result{RequeueAfter: waitExhausted}, r.report(ctx, svc, &metav1.Condition{Status: metav1.ConditionFalse,
			Reason: v1alpha1.ReasonRefused, Message: "The API server refused the node ports: " + causes(err)})
	}
	return quietly(err)
}

// quietly turns conflicts, which the next pass resolves by itself, into a short wait.
func quietly(err error) (ctrl.Result, error) {
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, err
}

// asked reports whether the Service's class wants the ports numbered that the API server was told to leave.
func (r *Reconciler) asked(ctx context.Context, svc *corev1.Service) (bool, error) {
	if !candidate(svc) || svc.DeletionTimestamp != nil {
		return false, nil
	}
	var classes v1alpha1.LoadBalancerClassList
	if err := r.Client.List(ctx, &classes); err != nil {
		return false, fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	record := &v1alpha1.LoadBalancerRecord{}
	if err := r.Client.Get(ctx, client.ObjectKeyFromObject(svc), record); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading the LoadBalancerRecord: %w", err)
	}
	class := classOf(svc, record, classes.Items, r.Coexist)
	return class != nil && class.Spec.NodePorts == v1alpha1.NodePortsAuto, nil
}

// candidate reports whether the API server leaves the Service's node ports alone.
func candidate(svc *corev1.Service) bool {
	allocate := svc.Spec.AllocateLoadBalancerNodePorts
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && allocate != nil && !*allocate
}

// classOf returns the class that serves the Service by its record, or else the one that is to.
func classOf(svc *corev1.Service, record *v1alpha1.LoadBalancerRecord, classes []v1alpha1.LoadBalancerClass, coexist bool) *v1alpha1.LoadBalancerClass {
	if record.Status.ServiceUID == svc.UID && record.Status.Provider != "" {
		i := slices.IndexFunc(classes, func(c v1alpha1.LoadBalancerClass) bool { return c.Name == record.Status.LoadBalancerClass })
		if i < 0 {
			return nil // the configuration serves it, or its class is gone
		}
		return &classes[i]
	}
	return cloud.SelectClass(svc, classes, coexist)
}

// number chooses ports and writes them, again with others where the API server knows better. svc becomes what the
// server has.
func (r *Reconciler) number(ctx context.Context, svc *corev1.Service) error {
	if !slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == 0 }) {
		return nil
	}
	namespace := &corev1.Namespace{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: svc.Namespace}, namespace); err != nil {
		return fmt.Errorf("reading the Namespace: %w", err)
	}
	var refusal error
	for i := range attempts {
		// What was refused stays promised to a name of its own, so that the next choice is another.
		name := portalloc.Key{Namespace: svc.Namespace, Name: svc.Name + "#" + strconv.Itoa(i)}
		chosen, err := r.Book.assign(portalloc.Request{Service: svc, Name: name, NodePorts: true, Recall: true}, namespace.Labels, r.Intn)
		if err != nil {
			return err
		}
		if refusal = r.write(ctx, svc, chosen); refusal == nil {
			allocations.WithLabelValues(r.Book.poolOf(chosen), scopeDynamic).Add(float64(len(chosen.Ports)))
			return nil
		}
		if !refused(refusal) {
			r.Book.withdraw(name)
			return refusal
		}
	}
	return refusal
}

// write sends the chosen ports.
func (r *Reconciler) write(ctx context.Context, svc *corev1.Service, chosen portalloc.Assignment) error {
	changed := svc.DeepCopy()
	chosen.Apply(changed)
	patch := client.MergeFromWithOptions(svc, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing node ports: %w", err)
	}
	*svc = *changed
	return nil
}

// refused reports whether the API server, or who is asked by it, does not want the node ports, rather than could not write
// them.
func refused(err error) bool { return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) }

// causes is the server's refusal without what differs from Service to Service.
func causes(err error) string {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		return err.Error()
	}
	if status.ErrStatus.Details == nil || len(status.ErrStatus.Details.Causes) == 0 {
		return status.ErrStatus.Message
	}
	texts := make([]string, len(status.ErrStatus.Details.Causes))
	for i, cause := range status.ErrStatus.Details.Causes {
		detail := cause.Message
		if cause.Type == metav1.CauseTypeFieldValueInvalid {
			// "Invalid value: 30001: detail". The next try has another value, and what it is would be said for ever anew.
			parts := strings.SplitN(detail, ": ", 3)
			detail = parts[len(parts)-1]
		}
		texts[i] = cause.Field + ": " + detail
	}
	return strings.Join(texts, "; ")
}

// findCondition returns our condition on the Service; nil: none.
func findCondition(svc *corev1.Service) *metav1.Condition {
	return meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePortsAllocated)
}
