package loadbalancer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestRefusedReplacement: an address that the cloud would not give takes nothing down, though replacement is allowed. The targets
// follow the nodes, and an address that can be had is taken.
func TestRefusedReplacement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, func(c *v1alpha1.LoadBalancerClassSpec) { c.Replacement = v1alpha1.ReplacementRecreate })
	svc, other := w.service("cart", nil), w.service("other", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	w.reason(other, v1alpha1.ReasonEnsured)
	address, taken := svc.Status.LoadBalancer.Ingress[0].IP, other.Status.LoadBalancer.Ingress[0].IP
	before := w.objects()
	for _, wrong := range []string{"192.0.2.1", taken} {
		apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.LoadBalancerIP = wrong })
		w.Eventually(func() error {
			if c := w.reason(svc, v1alpha1.ReasonReplacementRefused); !strings.Contains(c.Message, wrong) {
				return fmt.Errorf("the message is %q", c.Message)
			}
			return nil
		})
		if diff := cmp.Diff(before, w.objects()); diff != "" {
			t.Errorf("refused %s, what there was changed (-before +after):\n%s", wrong, diff)
		}
		if got := svc.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != address {
			t.Errorf("refused %s, published is %+v, want %s", wrong, got, address)
		}
	}
	w.event(svc, EventSyncFailed)
	w.node("n1", "172.30.0.11", nil)
	w.targets("172.30.0.11")
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.77" })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if got := svc.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != "198.51.100.77" {
			return fmt.Errorf("published is %+v", got)
		}
		return nil
	})
	w.reason(svc, v1alpha1.ReasonEnsured)
}

// TestReplacementPlan: what a replacement would do stands in the record for as long as it is not allowed.
func TestReplacementPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.77" })
	w.reason(svc, v1alpha1.ReasonReplacementNeeded)
	record := w.record(svc)
	var steps []string
	for _, op := range record.Status.ReplacementPlan {
		steps = append(steps, op.Action+" "+op.Kind)
	}
	if want := []string{"Delete Listener", "Delete Balancer", "Delete Address", "Create Address", "Create Balancer", "Create Listener"}; !cmp.Equal(want, steps) {
		t.Errorf("the replacement is planned as %q, want %q", steps, want)
	}
	if len(record.Status.Plan) > 0 {
		t.Errorf("to be done is %+v", record.Status.Plan)
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.LoadBalancerIP = "" })
	w.reason(svc, v1alpha1.ReasonEnsured)
	if plan := w.record(svc).Status.ReplacementPlan; len(plan) > 0 {
		t.Errorf("still planned: %+v", plan)
	}
}
