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

	actionResolve = "ResolvePorts"
	actionWrite   = "WriteEndpointSlices"
)

// recordPorts makes an event of a change of the condition's status.
func (r *Reconciler) recordPorts(service *corev1.Service, before, after *metav1.Condition) {
	was := before != nil && before.Status == metav1.ConditionFalse
	is := after != nil && after.Status == metav1.ConditionFalse
	switch {
	case is && !was:
		r.Recorder.Eventf(service, nil, corev1.EventTypeWarning, EventPortsMissing, actionResolve, "%s", after.Message)
	case was && !is && after != nil:
		r.Recorder.Eventf(service, nil, corev1.EventTypeNormal, EventPortsResolved, actionResolve, "%s", after.Message)
	}
}

// recordFailure makes an event of the first of several failures.
func (r *Reconciler) recordFailure(service *corev1.Service, st *state, err error) {
	if err != nil && !st.failing {
		r.Recorder.Eventf(service, nil, corev1.EventTypeWarning, EventFailed, actionWrite, "%s", err.Error())
	}
	st.failing = err != nil
}
