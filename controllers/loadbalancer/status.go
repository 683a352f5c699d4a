package loadbalancer

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// report writes what a pass came to, where it differs: the record, the Service's conditions and addresses, events.
func (r *Reconciler) report(ctx context.Context, v *view, e *entry, res result) (ctrl.Result, error) {
	last := r.lastCondition(v)
	if err := unpublished(res.outcome); err != nil && res.status == metav1.ConditionTrue {
		res.status, res.reason, res.message = metav1.ConditionFalse, v1alpha1.ReasonCloudError, err.Error()
		res.requeue, res.lasts = waitBlocked, true
	}
	res.requeue = e.wait(&res)
	res.message = cut(res.message, maxMessage)
	condition := newCondition(v.service, last, res)
	var drift *v1alpha1.Drift
	if status := r.lastStatus(v); status != nil {
		drift = status.Drift
	}
	if v.record != nil || r.lastStatus(v) != nil {
		if err := r.writeRecord(ctx, v, recordStatus(r.lastStatus(v), v, res, condition)); err != nil {
			return ctrl.Result{}, err
		}
	} else {
		// Nothing was begun, so nothing is bound, and the Service alone says why.
		last = meta.FindStatusCondition(v.service.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
	}
	ingress := v.service.Status.LoadBalancer.Ingress
	if res.observed {
		ingress = published(v.service, res.outcome)
	}
	if err := r.writeStatus(ctx, v.service, ingress, conditionsOf(condition, res.portsError)); err != nil {
		return ctrl.Result{}, err
	}
	r.eventDrift(v.service, drift, res, v.binding.policy)
	r.eventsOfEnsure(v.service, last, res)
	switch {
	case res.requeue == 0:
	case res.reason == v1alpha1.ReasonPending:
		res.requeue = patience(condition.LastTransitionTime.Time)
	default:
		res.requeue += rand.N(res.requeue/10 + 1) // not all of them at once
	}
	if res.err != nil {
		return ctrl.Result{}, fmt.Errorf("ensuring the load balancer: %w", res.err)
	}
	return ctrl.Result{RequeueAfter: res.requeue}, nil
}

// newCondition is the Ready condition after a pass. Its time is the last one's while its status stays.
func newCondition(svc *corev1.Service, last *metav1.Condition, res result) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: res.status, Reason: res.reason, Message: res.message,
		ObservedGeneration: svc.Generation, LastTransitionTime: metav1.Now().Rfc3339Copy()}
	if last != nil && last.Status == c.Status {
		c.LastTransitionTime = last.LastTransitionTime
	}
	return c
}

// recordStatus is the record's status after a pass. What the pass did not see stays as it was last written.
func recordStatus(last *v1alpha1.LoadBalancerRecordStatus, v *view, res result, condition metav1.Condition) v1alpha1.LoadBalancerRecordStatus {
	status := v1alpha1.LoadBalancerRecordStatus{}
	if last != nil {
		status = *last.DeepCopy()
	}
	status.ServiceUID = v.service.UID
	status.LoadBalancerClass, status.Provider, status.Policy = v.binding.className, v.binding.provider, v.binding.policy
	if !v.binding.releaseOnly {
		status.ServiceClass = ptr.Deref(v.service.Spec.LoadBalancerClass, "")
	}
	status.ServiceFingerprint = cloud.Fingerprint(v.service)
	status.Conditions = []metav1.Condition{condition}
	if condition.Status == metav1.ConditionTrue {
		status.TakesBackFrom = ""
	}
	status.Drift = driftAfter(status.Drift, res)
	if !res.observed {
		return status
	}
	showObserved(&status, res.outcome.Observed)
	status.Plan, status.ReplacementPlan = planned(res.outcome.Left.Operations), planned(res.outcome.Allowed)
	return status
}

// showObserved has a record's status say what there is in the cloud.
func showObserved(status *v1alpha1.LoadBalancerRecordStatus, observed []cloud.Resource) {
	status.Resources, status.Addresses = nil, nil
	for _, o := range observed {
		status.Resources = append(status.Resources, v1alpha1.OwnedResource{Kind: o.Kind, Key: o.Key, ID: o.ID, Lent: o.Lent})
	}
	for _, in := range cloud.Ingresses(observed) {
		status.Addresses = append(status.Addresses, in.IP+in.Hostname)
	}
	slices.Sort(status.Addresses)
	status.Addresses = slices.Compact(status.Addresses)
}

// writeBinding has the record, which is made if there is none, name the class, what of it counts, the provider and the policy.
func (r *Reconciler) writeBinding(ctx context.Context, v *view) error {
	status := v1alpha1.LoadBalancerRecordStatus{}
	if last := r.lastStatus(v); last != nil && last.Provider == v.binding.provider && last.LoadBalancerClass == v.binding.className {
		status = *last.DeepCopy()
	}
	status.ServiceUID = v.service.UID
	status.LoadBalancerClass, status.Provider, status.Policy = v.binding.className, v.binding.provider, v.binding.policy
	status.ServiceClass = ptr.Deref(v.service.Spec.LoadBalancerClass, "")
	status.TakesBackFrom, status.MadeFrom = v.takesBackFrom, v.binding.written()
	return r.writeRecord(ctx, v, status)
}

// conditionsOf returns the Service's conditions that say what the record's does.
func conditionsOf(ready metav1.Condition, portsError string) []metav1.Condition {
	ready.Type = v1alpha1.ConditionLoadBalancerReady
	all := []metav1.Condition{ready}
	if portsError != "" {
		all = append(all, metav1.Condition{Type: corev1.LoadBalancerPortsError, Status: metav1.ConditionTrue, Reason: portsError,
			Message: ready.Message, ObservedGeneration: ready.ObservedGeneration, LastTransitionTime: ready.LastTransitionTime})
	}
	return all
}

// writeStatus has a Service publish these addresses and hold these conditions, and no other of the kinds that are ours; what
// differs is written, in one request, so that whoever waits for the condition finds the addresses. A patch rather than an
// apply: the fields may be another controller's from before, and have to be emptied all the same.
func (r *Reconciler) writeStatus(ctx context.Context, svc *corev1.Service, ingress []corev1.LoadBalancerIngress, want []metav1.Condition) error {
	status := map[string]any{}
	if !equality.Semantic.DeepEqual(svc.Status.LoadBalancer.Ingress, ingress) {
		status["loadBalancer"] = map[string]any{"ingress": ingress}
	}
	if conditions := conditionsPatch(svc.Status.Conditions, want); len(conditions) > 0 {
		status["conditions"] = conditions
	}
	if len(status) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": svc.UID}, "status": status})
	if err != nil {
		return fmt.Errorf("writing the status of the Service: %w", err)
	}
	written := svc.DeepCopy()
	err = r.Client.Status().Patch(ctx, written, client.RawPatch(types.StrategicMergePatchType, patch), client.FieldOwner(FieldManager))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("patching the status of the Service: %w", err)
	}
	r.fresh.keep(written)
	return nil
}

// conditionsPatch is what leads from a Service's conditions to those of ours, by type.
func conditionsPatch(have, want []metav1.Condition) []any {
	var patch []any
	for _, kind := range []string{v1alpha1.ConditionLoadBalancerReady, corev1.LoadBalancerPortsError} {
		is, to := meta.FindStatusCondition(have, kind), meta.FindStatusCondition(want, kind)
		switch {
		case to == nil && is != nil:
			patch = append(patch, map[string]any{"$patch": "delete", "type": kind})
		case to != nil:
			next := *to
			if is != nil && is.Status == next.Status {
				next.LastTransitionTime = is.LastTransitionTime
			}
			if is == nil || !equality.Semantic.DeepEqual(*is, next) {
				patch = append(patch, next)
			}
		}
	}
	return patch
}

// unpublished says which addresses no Service can publish: with one of them the API server would refuse all of the status, and nobody would
// hear of it. Nil: it takes all.
func unpublished(out cloud.Outcome) error {
	var wrong []error
	for _, in := range cloud.Ingresses(out.Observed) {
		if _, err := in.Published(); err != nil {
			wrong = append(wrong, err)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("the cloud has what the Service asks for, but it cannot be published: %w", cloud.UserErrors(wrong...))
}

// published returns the addresses to publish: those of a balancer that is complete, if not all that is asked for, or has all but
// some of its targets; until it is, of those published already the ones that still exist, so that what works stays known.
func published(svc *corev1.Service, out cloud.Outcome) []corev1.LoadBalancerIngress {
	if adopting(out) {
		return svc.Status.LoadBalancer.Ingress // another controller published it, and it serves
	}
	var observed []corev1.LoadBalancerIngress
	for _, in := range cloud.Ingresses(out.Observed) {
		if ingress, err := in.Published(); err == nil {
			observed = append(observed, ingress)
		}
	}
	complete := (len(out.Left.Operations) == 0 || out.Left.Serves()) && len(out.Left.Waiting) == 0 && !out.Left.Lacking &&
		!slices.ContainsFunc(out.Left.Blocked, func(b cloud.Block) bool { return b.Reason == cloud.BlockForeign })
	if complete {
		return observed
	}
	return slices.DeleteFunc(observed, func(in corev1.LoadBalancerIngress) bool {
		return !slices.ContainsFunc(svc.Status.LoadBalancer.Ingress, func(have corev1.LoadBalancerIngress) bool {
			return have.IP == in.IP && have.Hostname == in.Hostname
		})
	})
}
