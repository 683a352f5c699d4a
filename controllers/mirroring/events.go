package mirroring

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/endpoints"
)

// Reasons and actions of events on Endpoints. The reasons are upstream's.
const (
	EventInvalidAddress   = "InvalidIPAddress"
	EventTooManyAddresses = "TooManyAddressesToMirror"
	EventFailed           = "FailedToUpdateEndpointSlices"

	actionMirror = "MirrorEndpoints"
)

// recordLeftOut makes an event where addresses are left out, and another when it is more or fewer of them.
func (r *Reconciler) recordLeftOut(source *corev1.Endpoints, st *state, plan endpoints.MirrorPlan) {
	if plan.Invalid > 0 && plan.Invalid != st.invalid {
		r.Recorder.Eventf(source, nil, corev1.EventTypeWarning, EventInvalidAddress, actionMirror,
			"Left out %d addresses that are no IP addresses", plan.Invalid)
	}
	if plan.Skipped > 0 && plan.Skipped != st.skipped {
		r.Recorder.Eventf(source, nil, corev1.EventTypeWarning, EventTooManyAddresses, actionMirror,
			"Left out %d addresses: of each subset the first %d are mirrored, ready ones first; spread them over Services, or write EndpointSlices instead of Endpoints",
			plan.Skipped, endpoints.MirrorCapacity)
	}
	st.invalid, st.skipped = plan.Invalid, plan.Skipped
}

// recordFailure makes an event of the first of several failures.
func (r *Reconciler) recordFailure(source *corev1.Endpoints, st *state, err error) {
	if err != nil && !st.failing {
		r.Recorder.Eventf(source, nil, corev1.EventTypeWarning, EventFailed, actionMirror, "%s", err.Error())
	}
	st.failing = err != nil
}
