package endpointslice

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// conditionKind is a condition in status.conditions of a Service that something is wrong. A Service with which nothing
// ever was wrong has no such condition.
type conditionKind struct {
	name string
	// bad is the status that says so.
	bad                  metav1.ConditionStatus
	badReason            string
	goodReason, goodText string
	// events of the change to bad and back.
	badEvent, goodEvent, action string
}

var (
	portsResolved = &conditionKind{
		name: v1alpha1.ConditionPortsResolved, bad: metav1.ConditionFalse, badReason: v1alpha1.ReasonTargetPortMissing,
		goodReason: v1alpha1.ReasonResolved, goodText: "every Pod has every targetPort",
		badEvent: EventPortsMissing, goodEvent: EventPortsResolved, action: actionResolve,
	}
	ownershipConflict = &conditionKind{
		name: v1alpha1.ConditionSliceOwnershipConflict, bad: metav1.ConditionTrue, badReason: v1alpha1.ReasonOverwritten,
		goodReason: v1alpha1.ReasonResumed, goodText: "the EndpointSlices are kept again",
		badEvent: EventConflict, goodEvent: EventConflictOver, action: actionWrite,
	}
)

// wantedCondition is what a condition should be.
type wantedCondition struct {
	kind *conditionKind
	// none: it should not be there.
	none bool
	// unknown: there is nothing to judge by, so it stays as it is.
	unknown bool
	// message says what is wrong; empty: nothing.
	message string
}

// portsCondition judges the named ports of a Service by its Pods.
func portsCondition(set *endpoints.Set) wantedCondition {
	unresolved, pods := set.UnresolvedPorts()
	if len(unresolved) == 0 {
		return wantedCondition{kind: portsResolved, unknown: pods == 0}
	}
	messages := make([]string, len(unresolved))
	for i, u := range unresolved {
		messages[i] = u.String()
	}
	return wantedCondition{kind: portsResolved, message: strings.Join(messages, ". ")}
}

// conflictCondition says whether someone else owns the slices, too.
func conflictCondition(o *ownership, now time.Time) wantedCondition {
	if !o.resting(now) {
		return wantedCondition{kind: ownershipConflict}
	}
	return wantedCondition{kind: ownershipConflict, message: fmt.Sprintf(
		"%s overwrote an EndpointSlice %d times within %s, so that none of this Service is written until %s: stop the other writer",
		o.other, conflictWrites, conflictWindow, o.until.UTC().Format(time.RFC3339))}
}

// writeConditions makes the Service's conditions what they should be, if they are not. Outdated: the API server refused
// since the Service has changed meanwhile. All are applied at once, or those left out would be taken off.
func (r *Reconciler) writeConditions(ctx context.Context, service *corev1.Service, st *state, wanted []wantedCondition) (outdated bool, err error) {
	seen := service.Status.Conditions
	if st.conditionsAt == service.ResourceVersion {
		seen = st.conditions
	}
	status := applycorev1.ServiceStatus()
	var next []metav1.Condition
	differ := false
	for _, w := range wanted {
		was := meta.FindStatusCondition(seen, w.kind.name)
		is := nextCondition(service, was, w, metav1.NewTime(r.Clock.Now()))
		differ = differ || !same(was, is)
		if is != nil {
			next = append(next, *is)
			status.WithConditions(applymetav1.Condition().
				WithType(is.Type).WithStatus(is.Status).WithReason(is.Reason).WithMessage(is.Message).
				WithObservedGeneration(is.ObservedGeneration).WithLastTransitionTime(is.LastTransitionTime))
		}
	}
	if !differ {
		return false, nil
	}
	// The UID keeps the conditions from going to another Service of the same name.
	object := applycorev1.Service(service.Name, service.Namespace).WithUID(service.UID).WithStatus(status)
	err = r.Client.Status().Apply(ctx, object, client.FieldOwner(FieldManager), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("applying conditions: %w", err)
	}
	st.conditions, st.conditionsAt = next, service.ResourceVersion
	for _, w := range wanted {
		r.recordCondition(service, w.kind, meta.FindStatusCondition(seen, w.kind.name), meta.FindStatusCondition(next, w.kind.name))
	}
	return false, nil
}

// nextCondition returns the condition to write; nil: none.
func nextCondition(service *corev1.Service, current *metav1.Condition, wanted wantedCondition, now metav1.Time) *metav1.Condition {
	kind := wanted.kind
	next := &metav1.Condition{
		Type: kind.name, ObservedGeneration: service.Generation, LastTransitionTime: now,
		Status: kind.bad, Reason: kind.badReason, Message: wanted.message,
	}
	switch {
	case wanted.none:
		return nil
	case wanted.unknown:
		return current
	case wanted.message == "" && current == nil:
		return nil
	case wanted.message == "":
		next.Status, next.Reason, next.Message = opposite(kind.bad), kind.goodReason, kind.goodText
	}
	if current != nil && current.Status == next.Status {
		next.LastTransitionTime = current.LastTransitionTime
	}
	return next
}

func opposite(status metav1.ConditionStatus) metav1.ConditionStatus {
	if status == metav1.ConditionTrue {
		return metav1.ConditionFalse
	}
	return metav1.ConditionTrue
}

// same compares conditions but for the time, which follows from the status.
func same(a, b *metav1.Condition) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message && a.ObservedGeneration == b.ObservedGeneration
}
