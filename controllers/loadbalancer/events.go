package loadbalancer

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// The reasons of events are those of the upstream service controller, which alerts and people know. Ours are sent when
// something changed, never merely because a pass ran.
const (
	EventEnsuring     = "EnsuringLoadBalancer"
	EventEnsured      = "EnsuredLoadBalancer"
	EventSyncFailed   = "SyncLoadBalancerFailed"
	EventUnavailable  = "UnAvailableLoadBalancer"
	EventUpdated      = "UpdatedLoadBalancer"
	EventUpdateFailed = "UpdateLoadBalancerFailed"
	EventDeleting     = "DeletingLoadBalancer"
	EventDeleted      = "DeletedLoadBalancer"
	EventDeleteFailed = "DeleteLoadBalancerFailed"
	// EventTargetUnhealthy is on a Pod that waits for its balancer.
	EventTargetUnhealthy = "LoadBalancerTargetUnhealthy"
)

// Reasons of events that upstream has no word for. Those of orphans are on the LoadBalancerClass.
const (
	EventAdoptionOffered = "LoadBalancerAdoptionOffered"
	EventAdopted         = "AdoptedLoadBalancer"
	EventReleased        = "ReleasedLoadBalancer"
	EventLeft            = "LeftLoadBalancer"
	EventOrphans         = "FoundOrphans"
	EventOrphansDeleted  = "DeletedOrphans"
	EventOrphansKept     = "DeleteOrphansFailed"
)

const (
	actionEnsure = "EnsureLoadBalancer"
	actionDelete = "DeleteLoadBalancer"
	actionSweep  = "SweepLoadBalancers"
)

// maxNote is the most bytes that the API server takes as the note of an Event. It takes 32 KiB as the message of a condition,
// which nobody reads; a mistake quotes what is wrong, however long that is.
const (
	maxNote    = 1024
	maxMessage = 4096
)

func (r *Reconciler) event(svc *corev1.Service, kind, reason, action, message string) {
	r.Recorder.Eventf(svc, nil, kind, reason, action, "%s", note(message))
}

func note(message string) string { return cut(message, maxNote) }

// cut returns as much of a message as fits.
func cut(message string, most int) string {
	if len(message) > most {
		return strings.ToValidUTF8(message[:most-3], "") + "..."
	}
	return message
}

func (r *Reconciler) eventEnsuring(svc *corev1.Service) {
	r.event(svc, corev1.EventTypeNormal, EventEnsuring, actionEnsure, "Ensuring the load balancer")
}

// syncedService is a Service whose balancer sends to so many targets since they changed.
type syncedService struct {
	name       types.NamespacedName
	uid        types.UID
	podTargets bool
	targets    int
}

// eventSynced tells that the targets of a balancer are those of other nodes, or Pods, now.
func (r *Reconciler) eventSynced(s syncedService) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.name.Namespace, Name: s.name.Name, UID: s.uid}}
	r.event(svc, corev1.EventTypeNormal, EventUpdated, actionEnsure, updated(s.podTargets))
	if s.targets == 0 {
		w := unavailable(s.podTargets)
		r.event(svc, corev1.EventTypeWarning, w.reason, actionEnsure, w.message)
	}
}

const (
	messageUpdated = "Updated the load balancer with new nodes"
	messageNoNodes = "There are no available nodes for the load balancer"

	messageUpdatedPods = "Updated the load balancer with new Pods"
	messageNoPods      = "There are no ready Pods for the load balancer"
)

// eventsOfEnsure sends what changed from the last Ready condition to this pass.
func (r *Reconciler) eventsOfEnsure(svc *corev1.Service, last *metav1.Condition, res result) {
	changed := last == nil || last.Status != res.status || last.Reason != res.reason || last.Message != res.message
	done, targetsOnly := len(res.outcome.Done) > 0, true
	for _, op := range res.outcome.Done {
		targetsOnly = targetsOnly && op.Action == cloud.ActionSyncTargets
	}
	wasReady := last != nil && last.Status == metav1.ConditionTrue
	r.eventsOfAdoption(svc, res.outcome.Done)
	switch {
	case res.reason == v1alpha1.ReasonAdoptionOffered && changed:
		r.event(svc, corev1.EventTypeNormal, EventAdoptionOffered, actionEnsure, res.message)
	case res.status == metav1.ConditionTrue && done && targetsOnly && wasReady:
		r.event(svc, corev1.EventTypeNormal, EventUpdated, actionEnsure, updated(res.podTargets))
	case res.status == metav1.ConditionTrue && (done || changed):
		r.event(svc, corev1.EventTypeNormal, EventEnsured, actionEnsure, "Ensured the load balancer")
	case res.failure() && changed && wasReady && res.targetsFailed():
		r.event(svc, corev1.EventTypeWarning, EventUpdateFailed, actionEnsure, res.message)
	case res.failure() && changed:
		r.event(svc, corev1.EventTypeWarning, EventSyncFailed, actionEnsure, res.message)
	}
	if changed || done {
		for _, w := range res.warnings {
			r.event(svc, corev1.EventTypeWarning, w.reason, actionEnsure, w.message)
		}
	}
}
