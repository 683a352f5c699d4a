package loadbalancer

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// report writes what a pass came to, where it differs: the record, the Service's conditions and addresses, events.
func (r *Reconciler) report(ctx context.Context, v *view, res result) (ctrl.Result, error) {
	last := r.lastCondition(v)
	condition := newCondition(v.service, last, res)
	var drift *v1alpha1.Drift
	if status := r.lastStatus(v); status != nil {
		drift = status.Drift
	}
	if v.record != nil || r.lastStatus(v) != nil {
		if err := r.writeRecordStatus(ctx, v, recordStatus(r.lastStatus(v), v, res, condition)); err != nil {
			return ctrl.Result{}, err
		}
	} else {
		// Nothing was begun, so nothing is bound, and the Service alone says why.
		last = meta.FindStatusCondition(v.service.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
	}
	// Addresses first: whoever waits for the condition can rely on them.
	if res.observed {
		if err := r.writeIngress(ctx, v.service, published(v.service, res.outcome)); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.writeConditions(ctx, v.service, condition, res.portsError); err != nil {
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
	status.ServiceFingerprint = cloud.Fingerprint(v.service)
	status.Conditions = []metav1.Condition{condition}
	status.Drift = driftAfter(status.Drift, res)
	if !res.observed {
		return status
	}
	status.Resources, status.Addresses = nil, nil
	for _, o := range res.outcome.Observed {
		status.Resources = append(status.Resources, v1alpha1.OwnedResource{Kind: o.Kind, Key: o.Key, ID: o.ID, Lent: o.Lent})
	}
	for _, in := range cloud.Ingresses(res.outcome.Observed) {
		status.Addresses = append(status.Addresses, in.IP+in.Hostname)
	}
	slices.Sort(status.Addresses)
	status.Plan = planned(res.outcome.Left)
	return status
}

// writeBinding makes the record, if there is none, and has it name the class, the provider and the policy. Under Retain
// the record is not the Service's, so that it outlives it.
func (r *Reconciler) writeBinding(ctx context.Context, v *view) error {
	owned := v.binding.policy != v1alpha1.PolicyRetain
	if v.record == nil || owned != metav1.IsControlledBy(v.record, v.service) {
		if err := r.applyRecord(ctx, v.service, owned); err != nil {
			return err
		}
	}
	status := v1alpha1.LoadBalancerRecordStatus{}
	if last := r.lastStatus(v); last != nil {
		status = *last.DeepCopy()
	}
	status.ServiceUID = v.service.UID
	status.LoadBalancerClass, status.Provider, status.Policy = v.binding.className, v.binding.provider, v.binding.policy
	return r.writeRecordStatus(ctx, v, status)
}

// writeRecordStatus writes where the status differs from what was last written.
func (r *Reconciler) writeRecordStatus(ctx context.Context, v *view, status v1alpha1.LoadBalancerRecordStatus) error {
	if last := r.lastStatus(v); v.record != nil && last != nil && equality.Semantic.DeepEqual(*last, status) {
		return nil
	}
	version, err := r.applyRecordStatus(ctx, v.service, &status)
	if err != nil {
		return err
	}
	r.last.Store(v.service.UID, &written{status: status, version: version})
	return nil
}

// writeConditions applies our conditions on the Service, where they differ from what it has.
func (r *Reconciler) writeConditions(ctx context.Context, svc *corev1.Service, ready metav1.Condition, portsError string) error {
	ready.Type = v1alpha1.ConditionLoadBalancerReady
	want := []metav1.Condition{ready}
	if portsError != "" {
		want = append(want, metav1.Condition{Type: corev1.LoadBalancerPortsError, Status: metav1.ConditionTrue, Reason: portsError,
			Message: ready.Message, ObservedGeneration: ready.ObservedGeneration, LastTransitionTime: ready.LastTransitionTime})
	}
	same := portsError != "" || meta.FindStatusCondition(svc.Status.Conditions, corev1.LoadBalancerPortsError) == nil
	for i := range want {
		have := meta.FindStatusCondition(svc.Status.Conditions, want[i].Type)
		if have != nil && have.Status == want[i].Status {
			want[i].LastTransitionTime = have.LastTransitionTime
		}
		same = same && have != nil && equality.Semantic.DeepEqual(*have, want[i])
	}
	if same {
		return nil
	}
	return r.applyConditions(ctx, svc, want)
}

// applyConditions has the Service hold these conditions of ours, and no other of ours.
func (r *Reconciler) applyConditions(ctx context.Context, svc *corev1.Service, conditions []metav1.Condition) error {
	status := corev1ac.ServiceStatus()
	for _, c := range conditions {
		status.WithConditions(applyCondition(c))
	}
	apply := corev1ac.Service(svc.Name, svc.Namespace).WithUID(svc.UID).WithStatus(status)
	if err := r.Client.Status().Apply(ctx, apply, client.FieldOwner(FieldManager), client.ForceOwnership); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("applying the conditions of the Service: %w", err)
	}
	return nil
}

func applyCondition(c metav1.Condition) *metav1ac.ConditionApplyConfiguration {
	return metav1ac.Condition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(c.Message).
		WithObservedGeneration(c.ObservedGeneration).WithLastTransitionTime(c.LastTransitionTime)
}

// published returns the addresses to publish: those of a balancer that is complete, if not all that is asked for; until
// it is, of those published already the ones that still exist, so that what works stays known.
func published(svc *corev1.Service, out cloud.Outcome) []corev1.LoadBalancerIngress {
	if adopting(out) {
		return svc.Status.LoadBalancer.Ingress // another controller published it, and it serves
	}
	var observed []corev1.LoadBalancerIngress
	for _, in := range cloud.Ingresses(out.Observed) {
		ingress := corev1.LoadBalancerIngress{IP: in.IP, Hostname: in.Hostname}
		if in.IP != "" {
			mode := corev1.LoadBalancerIPModeVIP
			if in.IPMode != "" {
				mode = corev1.LoadBalancerIPMode(in.IPMode)
			}
			ingress.IPMode = &mode
		}
		observed = append(observed, ingress)
	}
	complete := len(out.Left.Operations)+len(out.Left.Waiting) == 0 &&
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

// writeIngress publishes addresses, where they differ. A merge patch rather than an apply: the field may be another
// controller's from before, and has to be emptied all the same.
func (r *Reconciler) writeIngress(ctx context.Context, svc *corev1.Service, ingress []corev1.LoadBalancerIngress) error {
	if equality.Semantic.DeepEqual(svc.Status.LoadBalancer.Ingress, ingress) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": svc.UID},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": ingress}},
	})
	if err != nil {
		return fmt.Errorf("writing the addresses: %w", err)
	}
	err = r.Client.Status().Patch(ctx, svc.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(FieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("publishing the addresses: %w", err)
	}
	return nil
}
