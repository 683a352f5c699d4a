package loadbalancer

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// group puts a Service into the group "web", on a port of its own.
func group(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{v1alpha1.AnnotationShare: "web"}
		s.Spec.Ports[0].Port = port
	}
}

func (w *world) kinds() map[string]int {
	w.Helper()
	counts := map[string]int{}
	for _, o := range w.objects() {
		counts[o.Kind]++
	}
	return counts
}

// TestShare: two Services on one balancer; a third whose port is taken is told, and the others are not disturbed.
func TestShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	first, second := w.service("first", group(80)), w.service("second", group(443))
	w.reason(first, v1alpha1.ReasonEnsured)
	w.reason(second, v1alpha1.ReasonEnsured)
	address := first.Status.LoadBalancer.Ingress[0].IP
	if got := second.Status.LoadBalancer.Ingress[0].IP; got != address {
		t.Errorf("the addresses are %s and %s", address, got)
	}
	if counts := w.kinds(); counts[fake.KindBalancer] != 1 || counts[fake.KindAddress] != 1 || counts[fake.KindListener] != 2 {
		t.Errorf("the cloud has %v", counts)
	}
	third := w.service("third", group(443))
	if c := w.reason(third, v1alpha1.ReasonConflict); !strings.Contains(c.Message, "443") {
		t.Errorf("the message does not name the port: %s", c.Message)
	}
	if len(third.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("an address is published for a port that is not its: %+v", third.Status.LoadBalancer)
	}
	// Another port is free.
	apiserver.Change(w.World, third, func(s *corev1.Service) { s.Spec.Ports[0].Port = 8443 })
	w.reason(third, v1alpha1.ReasonEnsured)

	for _, svc := range []*corev1.Service{first, third} {
		w.Must(w.Delete(t.Context(), svc))
	}
	w.Eventually(func() error {
		if counts := w.kinds(); counts[fake.KindListener] != 1 || counts[fake.KindBalancer] != 1 {
			return fmt.Errorf("the cloud has %v", counts)
		}
		return nil
	})
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(second), second))
	if got := second.Status.LoadBalancer.Ingress[0].IP; got != address {
		t.Errorf("whoever stays has the address %s, before it was %s", got, address)
	}
	w.Must(w.Delete(t.Context(), second))
	w.gone(second)
}

// TestJoiningNeedsConsent: a Service that has an address does not lose it to an annotation.
func TestJoiningNeedsConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	first, second := w.service("first", group(80)), w.service("second", func(s *corev1.Service) { s.Spec.Ports[0].Port = 443 })
	w.reason(first, v1alpha1.ReasonEnsured)
	w.reason(second, v1alpha1.ReasonEnsured)
	before := second.Status.LoadBalancer.Ingress[0].IP
	apiserver.Change(w.World, second, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationShare: "web"} })
	w.reason(second, v1alpha1.ReasonReplacementNeeded)
	if got := second.Status.LoadBalancer.Ingress[0].IP; got != before {
		t.Errorf("the address changed from %s to %s without consent", before, got)
	}
	apiserver.Change(w.World, second, func(s *corev1.Service) {
		s.Annotations[v1alpha1.AnnotationReplacement] = string(v1alpha1.ReplacementRecreate)
	})
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(second), second))
		ingress := second.Status.LoadBalancer.Ingress
		if counts := w.kinds(); len(ingress) != 1 || ingress[0].IP != first.Status.LoadBalancer.Ingress[0].IP || counts[fake.KindBalancer] != 1 {
			return fmt.Errorf("the address is %+v, the cloud has %v", ingress, counts)
		}
		return nil
	})
	w.reason(second, v1alpha1.ReasonEnsured)
}

// TestSharedFamily: a Service that gives up a family that it alone had gives up the address, and the balancer goes on with the other one.
func TestSharedFamily(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	first, second := w.service("first", group(80)), w.service("second", func(s *corev1.Service) {
		group(443)(s)
		s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	})
	w.reason(first, v1alpha1.ReasonEnsured)
	w.reason(second, v1alpha1.ReasonEnsured)
	if counts := w.kinds(); counts[fake.KindAddress] != 2 || counts[fake.KindBalancer] != 1 {
		t.Fatalf("the cloud has %v", counts)
	}
	apiserver.Change(w.World, second, func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack) })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(second), second))
		if counts := w.kinds(); counts[fake.KindAddress] != 1 || len(second.Status.LoadBalancer.Ingress) != 1 {
			return fmt.Errorf("the cloud has %v, published is %+v, the conditions are %+v", counts, second.Status.LoadBalancer, second.Status.Conditions)
		}
		return nil
	})
	w.reason(second, v1alpha1.ReasonEnsured)
}
