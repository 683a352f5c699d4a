package endpointslice

import (
	"context"
	"errors"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// admit puts a patch, in CEL, on all slices that are written in the test's namespace, and waits until it is in force.
func (w *world) admit(patch string, changed func(*discoveryv1.EndpointSlice) bool) {
	w.t.Helper()
	policy := &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.namespace}},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{"discovery.k8s.io"}, APIVersions: []string{"v1"}, Resources: []string{"endpointslices"}},
				}}},
			},
			Mutations: []admissionv1.Mutation{{PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: patch}}},
		},
	}
	binding := &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace}, Spec: admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: policy.Name},
	}
	w.create(policy)
	w.create(binding)
	w.t.Cleanup(func() {
		_, _ = w.client.Delete(context.Background(), binding), w.client.Delete(context.Background(), policy)
	})
	w.eventually(func() error {
		probe := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: w.namespace, Name: "probe", Labels: map[string]string{"probe": "true"}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.9.9"}}},
		}
		if err := w.client.Create(w.t.Context(), probe, client.DryRunAll); err != nil {
			return err
		}
		if !changed(probe) {
			return errors.New("the policy is not in force")
		}
		return nil
	})
}

// TestAdmissionLabels: where an admission policy adds a label to all slices, a change writes the slice that it concerns
// and no other.
func TestAdmissionLabels(t *testing.T) {
	w := newWorld(t)
	w.admit(`[JSONPatch{op: "add", path: "/metadata/labels/policy", value: "was-here"}]`,
		func(s *discoveryv1.EndpointSlice) bool { return s.Labels["policy"] == "was-here" })
	w.start(&Reconciler{MaxEndpointsPerSlice: 1, MaxBatchDelay: -1})
	n := w.node("a", "zone-a")
	w.service(nil)
	pods := map[string]*corev1.Pod{}
	want := []shown{}
	for name, ip := range map[string]string{"one": "10.244.0.1", "two": "10.244.0.2", "three": "10.244.0.3"} {
		pods[name] = w.pod(name, n.Name, ip)
		want = append(want, shown{ip, name, "zone-a", up, ""})
	}
	w.expect(want...)
	before := w.versions()
	// Later by more than a second, so that each slice that is written gets another time, and a version with it.
	two := pods["two"]
	two.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Add(time.Minute)),
	}}
	if err := w.client.Status().Update(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if want[i].Pod == "two" {
			want[i].Conditions = down
		}
	}
	w.expect(want...)
	after := w.versions()
	changed := 0
	for uid, version := range after {
		if before[uid] != version {
			changed++
		}
	}
	if len(after) != 3 || changed != 1 {
		t.Errorf("of %d slices %d were written, not 1 of 3", len(after), changed)
	}
}
