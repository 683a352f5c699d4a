package topology

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

// Reasons and action of events on Services.
const (
	EventHinted  = "TopologyHintsSet"
	EventNoHints = "TopologyHintsOff"

	actionAssign = "AssignTopologyHints"
)

// verdict is what the condition says of a Service's hints. Message is not compared: its figures change more often than
// there is anything to tell.
type verdict struct {
	hinted          bool
	reason, message string
}

// Explain takes over what the hints of a Service come to. Its condition follows where the reason changes.
func (r *Reconciler) Explain(service types.NamespacedName, report topology.Report) {
	if r.report(service, &report) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.queue != nil {
			r.queue.Add(ctrl.Request{NamespacedName: service})
		}
	}
}

// report keeps a report, or forgets it, and says whether its reason is news.
func (r *Reconciler) report(service types.NamespacedName, report *topology.Report) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	showFigures(service, report)
	before, was := r.reports[service]
	if report == nil {
		delete(r.reports, service)
		return was
	}
	hintChanges.Add(float64(report.Changed))
	r.reports[service] = *report
	return !was || before.Reason != report.Reason || before.Hinted != report.Hinted
}

func (r *Reconciler) lastReport(service types.NamespacedName) *topology.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if report, known := r.reports[service]; known {
		return &report
	}
	return nil
}

// listening is the source by which Explain wakes the controller. What was explained before, its Services' first events
// find.
type listening struct{ r *Reconciler }

// Start keeps the queue.
func (l listening) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.r.queue = queue
	return nil
}

// explain makes the condition of a Service say what its hints come to.
func (r *Reconciler) explain(ctx context.Context, service *corev1.Service, st *state, policy topology.Policy, wrong error) error {
	key := client.ObjectKeyFromObject(service)
	if !policy.Whole() {
		r.report(key, nil) // It is another's that the Service had before.
	}
	is, known := r.judge(service, policy, wrong, r.lastReport(key), st.beside.resting(r.Clock.Now()))
	if !known {
		return nil
	}
	reason := ""
	if is != nil {
		reason = is.reason
	}
	countReason(st.counted, reason)
	st.counted = reason
	return r.writeCondition(ctx, service, st, is)
}

// judge returns what the condition should say; nil: there should be none. It is not known where the hints are yet to be
// assigned.
func (r *Reconciler) judge(service *corev1.Service, policy topology.Policy, wrong error, report *topology.Report, resting bool) (is *verdict, known bool) {
	beside := r.Coexist && endpoints.Selected(service)
	switch {
	case beside && !labelled(service) && asksForOurs(service):
		return &verdict{reason: v1alpha1.ReasonNotLabelled, message: fmt.Sprintf(
			"kube-controller-manager does not know this topology mode: give the Service the label %s=true", v1alpha1.LabelTopologyHints)}, true
	case beside && !labelled(service):
		return nil, true
	case wrong != nil:
		return &verdict{reason: string(topology.UnknownMode), message: wrong.Error()}, true
	case !policy.Whole():
		return nil, true
	case beside && resting:
		return &verdict{reason: v1alpha1.ReasonHintsRemoved, message: "hints are taken off again as soon as they are written: " +
			"see whether the API server reaches the manager's webhook; they are tried again in ten minutes"}, true
	case report == nil:
		return nil, false
	}
	return &verdict{hinted: report.Hinted, reason: string(report.Reason), message: report.Message}, true
}

// asksForOurs says whether a Service has a topology mode of ours, which nobody else serves.
func asksForOurs(service *corev1.Service) bool {
	mode, old := service.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !old {
		mode = service.Annotations[corev1.AnnotationTopologyMode]
	}
	return strings.HasPrefix(mode, topology.Prefix)
}

// writeCondition applies the condition where its reason changes, with an event where hints come or go for another reason
// than that the Service has no endpoints.
func (r *Reconciler) writeCondition(ctx context.Context, service *corev1.Service, st *state, is *verdict) error {
	var was *verdict
	current := meta.FindStatusCondition(service.Status.Conditions, v1alpha1.ConditionTopologyHints)
	if current != nil {
		was = &verdict{hinted: current.Status == metav1.ConditionTrue, reason: current.Reason}
	}
	if st.writtenAt == service.ResourceVersion {
		was = st.written
	}
	if was == nil && is == nil || was != nil && is != nil && was.hinted == is.hinted && was.reason == is.reason {
		return nil
	}
	status := applycorev1.ServiceStatus()
	if is != nil {
		value, since := metav1.ConditionFalse, metav1.NewTime(r.Clock.Now())
		if is.hinted {
			value = metav1.ConditionTrue
		}
		if current != nil && current.Status == value {
			since = current.LastTransitionTime
		}
		status.WithConditions(applymetav1.Condition().WithType(v1alpha1.ConditionTopologyHints).WithStatus(value).
			WithReason(is.reason).WithMessage(is.message).WithLastTransitionTime(since))
	}
	// The UID keeps the condition from going to another Service of the same name.
	object := applycorev1.Service(service.Name, service.Namespace).WithUID(service.UID).WithStatus(status)
	err := r.Client.Status().Apply(ctx, object, client.FieldOwner(FieldManager), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // It is gone, and its successor comes by itself.
	}
	if err != nil {
		return fmt.Errorf("applying the condition of the Service: %w", err)
	}
	st.written, st.writtenAt = is, service.ResourceVersion
	r.record(service, was, is)
	return nil
}

// record makes an event of a change of the condition.
func (r *Reconciler) record(service *corev1.Service, was, is *verdict) {
	switch {
	case is == nil || is.reason == string(topology.NoEndpoints):
	case !is.hinted:
		r.Recorder.Eventf(service, nil, corev1.EventTypeWarning, EventNoHints, actionAssign, "%s: %s", is.reason, is.message)
	case was != nil && !was.hinted && was.reason != string(topology.NoEndpoints):
		r.Recorder.Eventf(service, nil, corev1.EventTypeNormal, EventHinted, actionAssign, "%s: %s", is.reason, is.message)
	}
}
