package endpointslice

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons and actions of events on Services.
const (
	EventPortsMissing  = "TargetPortMissing"
	EventPortsResolved = "TargetPortsResolved"
	EventFailed        = "FailedToUpdateEndpointSlices"
	EventConflict      = "SliceOwnershipConflict"
	EventConflictOver  = "SliceOwnershipResumed"

	actionResolve = "ResolvePorts"
	actionWrite   = "WriteEndpointSlices"
)

// recordCondition makes an event of a change of a condition's status.
func (r *Reconciler) recordCondition(service *corev1.Service, kind *conditionKind, before, after *metav1.Condition) {
	was := before != nil && before.Status == kind.bad
	is := after != nil && after.Status == kind.bad
	switch {
	case is && !was:
		r.Recorder.Eventf(service, nil, corev1.EventTypeWarning, kind.badEvent, kind.action, "%s", after.Message)
	case was && !is && after != nil:
		r.Recorder.Eventf(service, nil, corev1.EventTypeNormal, kind.goodEvent, kind.action, "%s", after.Message)
	}
}

// recordFailure makes an event of the first of several failures.
func (r *Reconciler) recordFailure(service *corev1.Service, st *state, err error) {
	if err != nil && !st.failing {
		r.Recorder.Eventf(service, nil, corev1.EventTypeWarning, EventFailed, actionWrite, "%s", err.Error())
	}
	st.failing = err != nil
}
