package loadbalancer

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	fairleadac "github.com/fairlead/fairlead/applyconfiguration/api/v1alpha1"
)

// applyRecord makes the record of a Service; owned: it goes with the Service.
func (r *Reconciler) applyRecord(ctx context.Context, svc *corev1.Service, owned bool) error {
	record := fairleadac.LoadBalancerRecord(svc.Name, svc.Namespace)
	if owned {
		record.WithOwnerReferences(metav1ac.OwnerReference().WithAPIVersion("v1").WithKind("Service").
			WithName(svc.Name).WithUID(svc.UID).WithController(true))
	}
	if err := r.Client.Apply(ctx, record, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the LoadBalancerRecord: %w", err)
	}
	return nil
}

// written is the status that was last written of a record, and the resourceVersion that the record got by it.
type written struct {
	status  v1alpha1.LoadBalancerRecordStatus
	version string
}

// before reports whether a record is newer than the write: somebody else edited it.
func (w *written) before(record *v1alpha1.LoadBalancerRecord) bool {
	order, err := resourceversion.CompareResourceVersion(w.version, record.ResourceVersion)
	return err == nil && order < 0
}

// applyRecordStatus writes the whole status, whoever wrote of it before, and returns the record's resourceVersion.
func (r *Reconciler) applyRecordStatus(ctx context.Context, svc *corev1.Service, status *v1alpha1.LoadBalancerRecordStatus) (string, error) {
	apply := fairleadac.LoadBalancerRecordStatus().WithServiceUID(status.ServiceUID).WithProvider(status.Provider)
	if status.ServiceFingerprint != "" {
		apply.WithServiceFingerprint(status.ServiceFingerprint)
	}
	if status.LoadBalancerClass != "" {
		apply.WithLoadBalancerClass(status.LoadBalancerClass)
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
	for _, op := range status.Plan {
		apply.WithPlan(fairleadac.PlannedOperation().WithAction(op.Action).WithKind(op.Kind).WithKey(op.Key).WithReason(op.Reason))
	}
	if d := status.Drift; d != nil {
		apply.WithDrift(applyDrift(d))
	}
	for _, c := range status.Conditions {
		apply.WithConditions(applyCondition(c))
	}
	record := fairleadac.LoadBalancerRecord(svc.Name, svc.Namespace).WithStatus(apply)
	if err := r.Client.Status().Apply(ctx, record, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return "", fmt.Errorf("applying the status of the LoadBalancerRecord: %w", err)
	}
	return ptr.Deref(record.ResourceVersion, ""), nil
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
