package nodeport

import (
	"context"
	"encoding/json"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// written is what was last written of the policy. Its zero value says that nothing was.
type written struct {
	text                string
	policy, bindingSeen int64
}

// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies;validatingadmissionpolicybindings,resourceNames=fairlead-node-ports,verbs=create;delete;get;list;patch;watch

// enforce keeps the policy and its binding while a pool says Enforce, and takes them away after that. Both are written
// whole, and again when somebody else changed them, which their generations tell: applied, they would keep what others
// added, which can be all it takes to refuse nothing. A manager that does not serve the webhook needs no rights to either, and
// leaves them alone. Where the API server is not told to ask it, they are taken away.
func (r *poolReconciler) enforce(ctx context.Context) error {
	if !r.serves {
		return nil
	}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: PolicyName}}
	bound := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: PolicyName}}
	for _, object := range []client.Object{policy, bound} {
		if err := r.client.Get(ctx, client.ObjectKeyFromObject(object), object); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading what refuses Services: %w", err)
		}
	}
	want := r.book.policy()
	if want == nil {
		return r.unenforce(ctx, bound, policy)
	}
	text, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("writing down the policy: %w", err)
	}
	if policy.UID != "" && bound.UID != "" && r.enforced == (written{string(text), policy.Generation, bound.Generation}) {
		return nil
	}
	// The policy first: a binding without one refuses nothing, but says so.
	newPolicy, newBound := policy.DeepCopy(), bound.DeepCopy()
	newPolicy.Spec, newBound.Spec = *want, binding()
	if err := r.put(ctx, policy, newPolicy); err != nil {
		return fmt.Errorf("writing the ValidatingAdmissionPolicy: %w", err)
	}
	if err := r.put(ctx, bound, newBound); err != nil {
		return fmt.Errorf("writing the ValidatingAdmissionPolicyBinding: %w", err)
	}
	r.enforced = written{string(text), newPolicy.Generation, newBound.Generation}
	return nil
}

// put makes of an object, which need not be there, another. want gets the generation that the API server gives it.
func (r *poolReconciler) put(ctx context.Context, have, want client.Object) error {
	want.SetLabels(map[string]string{"app.kubernetes.io/part-of": "fairlead"})
	if have.GetUID() != "" {
		return r.client.Patch(ctx, want, client.MergeFrom(have), client.FieldOwner(FieldManager))
	}
	// Made by an apply, since a right to create what has this one name says yes to no other request.
	kind, err := r.client.GroupVersionKindFor(want)
	if err != nil {
		return fmt.Errorf("finding out its kind: %w", err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		return fmt.Errorf("encoding it: %w", err)
	}
	made := &unstructured.Unstructured{Object: content}
	made.SetGroupVersionKind(kind)
	err = r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(made), client.FieldOwner(FieldManager), client.ForceOwnership)
	want.SetGeneration(made.GetGeneration())
	return err
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
