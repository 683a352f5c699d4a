package loadbalancer

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	fairleadac "github.com/fairlead/fairlead/applyconfiguration/api/v1alpha1"
)

// written is a record as it was last written, or read where somebody else wrote it later.
type written struct {
	uid types.UID
	// owned: it goes with the Service.
	owned   bool
	status  v1alpha1.LoadBalancerRecordStatus
	version string
}

// before reports whether a record is newer than the write: somebody else edited it.
func (w *written) before(record *v1alpha1.LoadBalancerRecord) bool {
	order, err := resourceversion.CompareResourceVersion(w.version, record.ResourceVersion)
	return err == nil && order < 0
}

// lastWritten returns the record as it was last written, by us or, after that, by somebody else; nil: never.
func (r *Reconciler) lastWritten(v *view) *written {
	if last, ok := r.last.Load(v.service.UID); ok && (v.record == nil || !last.(*written).before(v.record)) {
		return last.(*written)
	}
	if v.record == nil {
		return nil
	}
	return &written{uid: v.record.UID, owned: metav1.IsControlledBy(v.record, v.service), status: v.record.Status,
		version: v.record.ResourceVersion}
}

// lastStatus returns the status that was last written; nil: none yet.
func (r *Reconciler) lastStatus(v *view) *v1alpha1.LoadBalancerRecordStatus {
	if last := r.lastWritten(v); last != nil {
		return &last.status
	}
	return nil
}

// lastCondition returns the Ready condition that was last written; nil: none yet.
func (r *Reconciler) lastCondition(v *view) *metav1.Condition {
	if status := r.lastStatus(v); status != nil {
		return meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	}
	return nil
}

// writeRecord makes the record, or writes it where it differs from what was last written. Under Retain it is not the
// Service's, so that it outlives it; nor is it as long as it is all that tells what an earlier one left.
func (r *Reconciler) writeRecord(ctx context.Context, v *view, status v1alpha1.LoadBalancerRecordStatus) error {
	next := &written{owned: v.binding.policy != v1alpha1.PolicyRetain && status.TakesBackFrom == "", status: status}
	if last := r.lastWritten(v); last != nil {
		if last.owned == next.owned && equality.Semantic.DeepEqual(last.status, status) {
			return nil
		}
		next.uid = last.uid
	}
	if err := r.applyRecord(ctx, v.service, next); err != nil {
		return err
	}
	r.last.Store(v.service.UID, next)
	return nil
}

// applyRecord writes all of a record, whoever wrote of it before, in one request. One that is gone is not made again, but is a
// conflict: its Service may be gone, too.
func (r *Reconciler) applyRecord(ctx context.Context, svc *corev1.Service, w *written) error {
	record := fairleadac.LoadBalancerRecord(svc.Name, svc.Namespace).WithStatus(applyStatus(&w.status))
	if w.uid != "" {
		record.WithUID(w.uid)
	}
	if w.owned {
		record.WithOwnerReferences(metav1ac.OwnerReference().WithAPIVersion("v1").WithKind("Service").
			WithName(svc.Name).WithUID(svc.UID).WithController(true))
	}
	if err := r.Client.Apply(ctx, record, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the LoadBalancerRecord: %w", err)
	}
	w.uid, w.version = ptr.Deref(record.UID, ""), ptr.Deref(record.ResourceVersion, "")
	return nil
}

func applyStatus(status *v1alpha1.LoadBalancerRecordStatus) *fairleadac.LoadBalancerRecordStatusApplyConfiguration {
	apply := fairleadac.LoadBalancerRecordStatus().WithServiceUID(status.ServiceUID).WithProvider(status.Provider)
	if status.ServiceFingerprint != "" {
		apply.WithServiceFingerprint(status.ServiceFingerprint)
	}
	if status.TakesBackFrom != "" {
		apply.WithTakesBackFrom(status.TakesBackFrom)
	}
	if status.LoadBalancerClass != "" {
		apply.WithLoadBalancerClass(status.LoadBalancerClass)
	}
	if status.ServiceClass != "" {
		apply.WithServiceClass(status.ServiceClass)
	}
	if status.MadeFrom != "" {
		apply.WithMadeFrom(status.MadeFrom)
	}
	if status.Policy != "" {
		apply.WithPolicy(status.Policy)
	}
	apply.WithAddresses(status.Addresses...)
	for _, o := range status.Resources {
		resource := fairleadac.OwnedResource().WithKind(o.Kind).WithKey(o.Key).WithID(o.ID)
		if o.Lent {
			resource.WithLent(true)
		}
		apply.WithResources(resource)
	}
	apply.WithPlan(applyPlan(status.Plan)...).WithReplacementPlan(applyPlan(status.ReplacementPlan)...)
	if d := status.Drift; d != nil {
		apply.WithDrift(applyDrift(d))
	}
	for _, c := range status.Conditions {
		apply.WithConditions(applyCondition(c))
	}
	return apply
}

func applyPlan(plan []v1alpha1.PlannedOperation) []*fairleadac.PlannedOperationApplyConfiguration {
	var apply []*fairleadac.PlannedOperationApplyConfiguration
	for _, op := range plan {
		apply = append(apply, fairleadac.PlannedOperation().WithAction(op.Action).WithKind(op.Kind).WithKey(op.Key).WithReason(op.Reason))
	}
	return apply
}

func applyCondition(c metav1.Condition) *metav1ac.ConditionApplyConfiguration {
	apply := metav1ac.Condition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(c.Message).
		WithLastTransitionTime(c.LastTransitionTime)
	if c.ObservedGeneration > 0 { // what has no generation, as a Service, observes none
		apply.WithObservedGeneration(c.ObservedGeneration)
	}
	return apply
}

func applyDrift(d *v1alpha1.Drift) *fairleadac.DriftApplyConfiguration {
	apply := fairleadac.Drift().WithState(d.State).WithFoundAt(d.FoundAt)
	if d.RepairedAt != nil {
		apply.WithRepairedAt(*d.RepairedAt)
	}
	for _, one := range d.Resources {
		apply.WithResources(fairleadac.DriftedResource().WithKind(one.Kind).WithKey(one.Key).WithDifference(one.Difference))
	}
	if d.More > 0 {
		apply.WithMore(d.More)
	}
	return apply
}
