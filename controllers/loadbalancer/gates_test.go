package loadbalancer

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// gate is the condition of a Pod's readiness gate: status and reason; empty: it has none.
func (w *world) gate(pod *corev1.Pod, service string) string {
	w.Helper()
	now := &corev1.Pod{}
	w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(pod), now))
	if c := podCondition(now, gateOf(service)); c != nil {
		return string(c.Status) + " " + c.Reason
	}
	return ""
}

func (w *world) expectGate(pod *corev1.Pod, service, want string) {
	w.Helper()
	w.Eventually(func() error {
		if got := w.gate(pod, service); got != want {
			return fmt.Errorf("the gate of Pod %s is %q, want %q", pod.Name, got, want)
		}
		return nil
	})
}

// TestReadinessGate: a Pod waits for the balancer's word, has it once, and keeps it.
func TestReadinessGate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	w.service("cart", withoutNodePorts)
	w.expectTargets(map[string]string{"cart": ""})
	pod := w.pod("cart-1", "cart", false)
	w.publish("cart", 8080, at{"10.1.0.1", "waiting", pod})
	w.expectGate(pod, "cart", "False ContainersNotReady")
	w.cloud.SetAnswering("10.1.0.1:8080", false)
	w.contain(pod, true)
	// Not ready for anybody else, and offered to the balancer all the same.
	w.expectTargets(map[string]string{"cart": "10.1.0.1:8080"})
	w.expectGate(pod, "cart", "False Unhealthy")
	w.cloud.SetAnswering("10.1.0.1:8080", true)
	w.expectGate(pod, "cart", "True Healthy")

	// Its health is the balancer's business from now on, and no other manager asks again.
	w.cloud.SetAnswering("10.1.0.1:8080", false)
	asked := 0
	w.setHook(func(call fake.Call) error {
		if call.Method == "DescribeTargets" && !call.After {
			w.mu.Lock()
			defer w.mu.Unlock()
			asked++
		}
		return nil
	})
	w.stop()
	w.start()
	other := w.pod("cart-2", "cart", true)
	w.publish("cart", 8080, at{"10.1.0.1", "ready", pod}, at{"10.1.0.2", "waiting", other})
	w.expectGate(other, "cart", "True Healthy")
	w.expectGate(pod, "cart", "True Healthy")
	w.mu.Lock()
	defer w.mu.Unlock()
	if asked == 0 {
		t.Error("the second Pod passed without the balancer being asked")
	}
}

// TestNobodyIsAwaited: no Pod hangs on a balancer that does not send to it.
func TestNobodyIsAwaited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	w.node("n1", "172.30.0.11", nil)
	svc := w.service("cart", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "cart"} })
	w.ready("cart")
	pod := w.pod("cart-1", "cart", true)
	other := w.pod("cart-2", "none", true)
	w.expectGate(other, "none", "True NotAwaited")
	w.expectGate(pod, "cart", "False NotRegistered")
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationTargets: "Nodes"} })
	w.expectGate(pod, "cart", "True NotAwaited")
}

// TestGatesAskNobodyForNothing: the balancer is asked about Pods that wait and could have passed, and never else.
func TestGatesAskNobodyForNothing(t *testing.T) {
	t.Parallel()
	clock := fake.NewClock()
	w := newWorld(t, fake.Options{Now: clock.Now}, toPods)
	w.stop()
	svc := w.service("cart", withoutNodePorts)
	pod := w.pod("cart-1", "cart", false)
	w.publish("cart", 8080, at{"10.1.0.1", "waiting", pod})
	p := w.begin(svc)
	requests := w.Count()
	var err error
	p.Client, err = client.New(w.Config, client.Options{Scheme: apiserver.Scheme})
	w.Must(err)
	gates := &gateReconciler{Reconciler: p.Reconciler}
	pass := func(want string, reads int, again bool) {
		t.Helper()
		p.run()
		before := w.countReads()
		result, err := gates.Reconcile(t.Context(), named(w.Namespace, "cart"))
		w.Must(err)
		if got := w.gate(pod, "cart"); got != want || w.countReads()-before != reads || (result.RequeueAfter > 0) != again {
			t.Errorf("the gate is %q after %d reads, again after %v; want %q, %d, %t", got, w.countReads()-before, result.RequeueAfter, want, reads, again)
		}
	}
	pass("False ContainersNotReady", 0, false)
	w.contain(pod, true)
	p.services[client.ObjectKeyFromObject(svc)] = true
	pass("False HealthUnknown", 1, true)
	was := requests.Of("PATCH", "pods")
	pass("False HealthUnknown", 1, true)
	if got := requests.Of("PATCH", "pods"); was != 2 || got != was {
		t.Errorf("%d writes, and %d more for a condition that did not change", was, got-was)
	}
	look := func() time.Duration {
		t.Helper()
		result, err := gates.Reconcile(t.Context(), named(w.Namespace, "cart"))
		w.Must(err)
		if got := w.gate(pod, "cart"); got != "False HealthUnknown" {
			t.Errorf("the gate is %q", got)
		}
		return result.RequeueAfter
	}
	// Whoever sends targets has what is known of the Service: nothing has changed for the Pod.
	e := p.ledger.resume(p.ledger.of(svc.UID), owesNothing)
	if after := look(); after != minPoll {
		t.Errorf("the Pods are looked at again after %v while their Service is worked on", after)
	}
	if owed := p.ledger.end(e); owed != owesNothing {
		t.Errorf("to look at a Pod costs its Service something: %v", owed)
	}
	w.setHook(func(fake.Call) error { return &cloud.Error{Class: cloud.Retry, Err: errors.New("out of order")} })
	if after := look(); after != maxPoll {
		t.Errorf("the Pods are looked at again after %v when the cloud is out of order", after)
	}
	w.setHook(nil)
	linked := p.Providers
	p.Providers = &later{}
	if after := look(); after != waitPlugin {
		t.Errorf("the Pods are looked at again after %v while the plugin is away", after)
	}
	p.Providers = linked
	clock.Advance(time.Second)
	pass("True Healthy", 1, false)
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	if !slices.ContainsFunc(pod.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == GateFieldManager && e.Subresource == "status"
	}) {
		t.Errorf("the condition is not %s's: %+v", GateFieldManager, pod.ManagedFields)
	}
	w.cloud.SetAnswering("10.1.0.1:8080", false)
	pass("True Healthy", 0, false)
}

// TestPodsAreToldNoHealth: without TargetHealth a Pod passes once it is registered.
func TestPodsAreToldNoHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	w.stop()
	w.edits = append(w.edits, func(caps *cloud.Capabilities) { caps.TargetHealth = false })
	w.start()
	w.service("cart", withoutNodePorts)
	pod := w.pod("cart-1", "cart", true)
	w.cloud.SetAnswering("10.1.0.1:8080", false)
	w.publish("cart", 8080, at{"10.1.0.1", "waiting", pod})
	w.expectGate(pod, "cart", "True Registered")
}
