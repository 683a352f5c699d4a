package endpointslice

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/endpoints"
)

// Of the condition in status.conditions of a Service.
const (
	// ConditionPortsResolved is False while a named targetPort of the Service is on none, or not on all, of its Pods.
	// A Service that never had such a port has no such condition.
	ConditionPortsResolved = "PortsResolved"
	// ReasonPortsMissing: the message names Service port, targetPort, and the ports that the Pods have.
	ReasonPortsMissing = "TargetPortMissing"
	// ReasonPortsResolved: every Pod has every targetPort.
	ReasonPortsResolved = "Resolved"
)

// wantedCondition is what the condition should be.
type wantedCondition struct {
	// none: it should not be there.
	none bool
	// unknown: there are no Pods to judge by, so it stays as it is.
	unknown bool
	// message says what is missing; empty: nothing.
	message string
}

// portsCondition judges the named ports of a Service by its Pods.
func portsCondition(set *endpoints.Set) wantedCondition {
	unresolved, pods := set.UnresolvedPorts()
	if len(unresolved) == 0 {
		return wantedCondition{unknown: pods == 0}
	}
	messages := make([]string, len(unresolved))
	for i, u := range unresolved {
		messages[i] = u.String()
	}
	return wantedCondition{message: strings.Join(messages, ". ")}
}

// writeCondition makes the Service's condition what it should be, if it is not. Outdated: the API server refused since
// the Service has changed meanwhile.
func (r *Reconciler) writeCondition(ctx context.Context, service *corev1.Service, st *state, wanted wantedCondition) (outdated bool, err error) {
	current := meta.FindStatusCondition(service.Status.Conditions, ConditionPortsResolved)
	if st.conditionAt == service.ResourceVersion {
		current = asCondition(st.condition)
	}
	next := nextCondition(service, current, wanted, metav1.NewTime(r.Clock.Now()))
	if same(current, next) {
		return false, nil
	}
	status := applycorev1.ServiceStatus()
	var applied *applymetav1.ConditionApplyConfiguration
	if next != nil {
		applied = applymetav1.Condition().
			WithType(next.Type).WithStatus(next.Status).WithReason(next.Reason).WithMessage(next.Message).
			WithObservedGeneration(next.ObservedGeneration).WithLastTransitionTime(next.LastTransitionTime)
		status.WithConditions(applied)
	}
	// The UID keeps the condition from going to another Service of the same name.
	object := applycorev1.Service(service.Name, service.Namespace).WithUID(service.UID).WithStatus(status)
	err = r.Client.Status().Apply(ctx, object, client.FieldOwner(FieldManager), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("applying the condition %s: %w", ConditionPortsResolved, err)
	}
	st.condition, st.conditionAt = applied, service.ResourceVersion
	r.recordPorts(service, current, next)
	return false, nil
}

// nextCondition returns the condition to write; nil: none.
func nextCondition(service *corev1.Service, current *metav1.Condition, wanted wantedCondition, now metav1.Time) *metav1.Condition {
	next := &metav1.Condition{
		Type: ConditionPortsResolved, ObservedGeneration: service.Generation, LastTransitionTime: now,
		Status: metav1.ConditionFalse, Reason: ReasonPortsMissing, Message: wanted.message,
	}
	switch {
	case wanted.none:
		return nil
	case wanted.unknown:
		return current
	case wanted.message == "" && current == nil:
		return nil
	case wanted.message == "":
		next.Status, next.Reason, next.Message = metav1.ConditionTrue, ReasonPortsResolved, "every Pod has every targetPort"
	}
	if current != nil && current.Status == next.Status {
		next.LastTransitionTime = current.LastTransitionTime
	}
	return next
}

// same compares conditions but for the time, which follows from the status.
func same(a, b *metav1.Condition) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message && a.ObservedGeneration == b.ObservedGeneration
}

func asCondition(applied *applymetav1.ConditionApplyConfiguration) *metav1.Condition {
	if applied == nil {
		return nil
	}
	return &metav1.Condition{
		Type: *applied.Type, Status: *applied.Status, Reason: *applied.Reason, Message: *applied.Message,
		ObservedGeneration: *applied.ObservedGeneration, LastTransitionTime: *applied.LastTransitionTime,
	}
}
