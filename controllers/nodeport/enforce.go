package nodeport

import (
	"context"
	"encoding/json"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// written is what was last written of the policy. Its zero value says that nothing was.
type written struct {
	text                string
	policy, bindingSeen int64
}

// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies;validatingadmissionpolicybindings,resourceNames=fairlead-node-ports,verbs=create;delete;get;list;patch;watch

// enforce keeps the policy and its binding while a pool says Enforce, and takes them away after that. Both are written
// again when somebody else changed them, which their generations tell. A manager that does not serve the webhook needs no
// rights to either, and leaves them alone. Where the API server is not told to ask it, they are taken away.
func (r *poolReconciler) enforce(ctx context.Context) error {
	if !r.serves {
		return nil
	}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
	for _, object := range []client.Object{policy, binding} {
		if err := r.client.Get(ctx, client.ObjectKey{Name: PolicyName}, object); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading what refuses Services: %w", err)
		}
	}
	want := r.book.policy()
	if want == nil {
		return r.unenforce(ctx, binding, policy)
	}
	text, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("writing down the policy: %w", err)
	}
	if policy.UID != "" && binding.UID != "" && r.enforced == (written{string(text), policy.Generation, binding.Generation}) {
		return nil
	}
	// The policy first: a binding without one refuses nothing, but says so.
	if err := r.client.Apply(ctx, want, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the ValidatingAdmissionPolicy: %w", err)
	}
	if err := r.client.Apply(ctx, bindingOf(), client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the ValidatingAdmissionPolicyBinding: %w", err)
	}
	for _, object := range []client.Object{policy, binding} {
		if err := r.reader.Get(ctx, client.ObjectKey{Name: PolicyName}, object); err != nil {
			return fmt.Errorf("reading what was applied: %w", err)
		}
	}
	r.enforced = written{string(text), policy.Generation, binding.Generation}
	return nil
}

// unenforce deletes what is there, the binding first: from then on nothing is refused.
func (r *poolReconciler) unenforce(ctx context.Context, objects ...client.Object) error {
	r.enforced = written{}
	for _, object := range objects {
		if object.GetUID() == "" {
			continue
		}
		err := r.client.Delete(ctx, object, client.Preconditions{UID: new(object.GetUID())}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting what refuses Services: %w", err)
		}
	}
	return nil
}
