package loadbalancer

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// adopting reports whether a balancer that is not the Service's yet may become so: until then what another controller
// published for the Service is right, or nobody published anything.
func adopting(out cloud.Outcome) bool {
	left := out.Left
	if slices.ContainsFunc(left.Operations, func(op cloud.Operation) bool { return op.Action == cloud.ActionAdopt }) {
		return true
	}
	// With nothing of the Service's own in the cloud, what is waited for is what it is to adopt.
	return len(out.Observed) == 0 && (len(left.Operations) == 0 && len(left.Waiting) > 0 ||
		slices.ContainsFunc(left.Blocked, func(b cloud.Block) bool {
			return b.Reason == cloud.BlockAdoption || b.Reason == cloud.BlockOffered
		}))
}

// eventsOfAdoption tells of balancers that became the Service's, or were let go. The balancer itself counts, not its parts.
func (r *Reconciler) eventsOfAdoption(svc *corev1.Service, done []cloud.Operation) {
	for _, op := range done {
		switch {
		case op.Action == cloud.ActionAdopt && (op.Resource.Lent && op.Resource.ID == op.Resource.Adopted || op.Observed.Adopted == op.Resource.ID):
			r.event(svc, corev1.EventTypeNormal, EventAdopted, actionEnsure, "Adopted the load balancer "+op.Resource.ID)
		case op.Action == cloud.ActionUpdate && op.Observed.Lent && !op.Resource.Lent && op.Observed.ID == op.Observed.Adopted:
			r.event(svc, corev1.EventTypeNormal, EventReleased, actionDelete,
				"Let go of the load balancer "+op.Observed.ID+", which was adopted and stays in the cloud")
		}
	}
}

// eventLeft tells of a balancer that another controller made for a Service which is deleted before anybody decided about
// it: that controller, if it still runs, or somebody by hand, has to see to it.
func (r *Reconciler) eventLeft(svc *corev1.Service, last *metav1.Condition) {
	if last != nil && last.Reason == v1alpha1.ReasonAdoptionOffered {
		r.event(svc, corev1.EventTypeWarning, EventLeft, actionDelete, "Left in the cloud, since it was not taken over: "+last.Message)
	}
}
