package loadbalancer

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestPodsOfAClassThatIsGone: a balancer that sends to Pods goes on to follow them without its class, across a restart, and Pods wait for it.
func TestPodsOfAClassThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	w.node("n1", "172.30.0.11", nil)
	svc := w.service("cart", withoutNodePorts)
	w.publish("cart", 8080, at{"10.1.0.1", "ready", nil})
	w.expectTargets(map[string]string{"cart": "10.1.0.1:8080"})
	w.ready("cart")
	w.Must(w.Delete(t.Context(), w.class))
	w.reason(svc, v1alpha1.ReasonClassNotAccepted)
	for _, address := range []string{"10.1.0.2", "10.1.0.3"} {
		pod := w.pod("cart-"+address, "cart", true)
		w.cloud.SetAnswering(address+":8080", false)
		w.publish("cart", 8080, at{address, "waiting", pod})
		w.expectTargets(map[string]string{"cart": address + ":8080"})
		w.expectGate(pod, "cart", "False Unhealthy")
		w.stop()
		w.start()
		w.reason(svc, v1alpha1.ReasonClassNotAccepted)
	}
	w.expectTargets(map[string]string{"cart": "10.1.0.3:8080"})
}

// TestParametersOfAClassThatIsGone: the targets of a balancer are made from the parameters that it was made from, also once the class is
// another one, or gone.
func TestParametersOfAClassThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, func(c *v1alpha1.LoadBalancerClassSpec) {
		c.Parameters = &v1alpha1.Parameters{Fake: &v1alpha1.FakeParameters{UnhealthyThreshold: 7}}
	})
	w.stop()
	svc := w.service("cart", nil)
	parameters := func() string {
		t.Helper()
		p := w.begin()
		for range 2 {
			_, err := p.Reconcile(t.Context(), named(svc.Namespace, svc.Name))
			w.Must(err)
		}
		return string(p.ledger.of(svc.UID).spec.Parameters)
	}
	before := parameters()
	if !strings.Contains(before, "7") {
		t.Fatalf("the balancer is made from %q", before)
	}
	w.Must(w.Delete(t.Context(), w.class))
	if got := parameters(); got != before {
		t.Errorf("the class is gone: the targets are made from %q, want %q", got, before)
	}
	w.class = nil
	w.makeClass(func(c *v1alpha1.LoadBalancerClassSpec) { c.ClassName += "-renamed" })
	if got := parameters(); got != before {
		t.Errorf("the class is another one: the targets are made from %q, want %q", got, before)
	}
}

// TestTypingMistakeOverARestart: a manager that has just started knows what the balancer sent to.
func TestTypingMistakeOverARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.node("n1", "172.30.0.11", nil)
	svc := w.service("cart", withAnnotation(v1alpha1.AnnotationTargets, "Pods"))
	w.publish("cart", 8080, at{address: "10.1.0.1", state: "ready"})
	w.expectTargets(map[string]string{"cart": "10.1.0.1:8080"})
	w.ready("cart")
	w.stop()
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations[v1alpha1.AnnotationTargets] = "pods" })
	w.start()
	w.reason(svc, v1alpha1.ReasonInvalidService)
	w.publish("cart", 8080, at{address: "10.1.0.2", state: "ready"})
	w.expectTargets(map[string]string{"cart": "10.1.0.2:8080"})
}
