package loadbalancer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// toPods makes a class send to Pods, whose health is known a second after they are registered.
func toPods(spec *v1alpha1.LoadBalancerClassSpec) {
	spec.Targets = v1alpha1.TargetsPods
	spec.Parameters = &v1alpha1.Parameters{Fake: &v1alpha1.FakeParameters{HealthCheckIntervalSeconds: 1, UnhealthyThreshold: 1}}
}

// withoutNodePorts is a Service as those are that send to Pods.
func withoutNodePorts(s *corev1.Service) {
	s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
	s.Spec.Selector = map[string]string{"app": s.Name}
}

// pod makes a Pod of a Service with a gate for it, and says what its kubelet would: it has an address, and its containers
// are ready or not.
func (w *world) pod(name, service string, ready bool) *corev1.Pod {
	w.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name, Labels: map[string]string{"app": service}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "none"}},
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: gateOf(service)}}}}
	w.Make(pod)
	w.contain(pod, ready)
	return pod
}

// contain says whether the containers of a Pod are ready.
func (w *world) contain(pod *corev1.Pod, ready bool) {
	w.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	w.Eventually(func() error {
		if err := w.Get(w.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.ContainersReady })
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.ContainersReady, Status: status, LastTransitionTime: metav1.Now()})
		return w.Status().Update(w.Context(), pod)
	})
}

// at is an endpoint of a slice: where a Pod is, and whether it is ready, waiting or terminating.
type at struct {
	address, state string
	pod            *corev1.Pod
}

// publish has the only EndpointSlice of a Service hold these endpoints, all with one port.
func (w *world) publish(service string, port int32, endpoints ...at) {
	w.Helper()
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: service,
		Labels: map[string]string{discoveryv1.LabelServiceName: service}}, AddressType: discoveryv1.AddressTypeIPv4}
	fill := func(s *discoveryv1.EndpointSlice) {
		s.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: &port, Protocol: ptr.To(corev1.ProtocolTCP)}}
		s.Endpoints = []discoveryv1.Endpoint{}
		for _, e := range endpoints {
			made := discoveryv1.Endpoint{Addresses: []string{e.address}, Conditions: discoveryv1.EndpointConditions{
				Ready: ptr.To(e.state == "ready"), Serving: ptr.To(e.state != "waiting"), Terminating: ptr.To(e.state == "terminating")}}
			if e.pod != nil {
				made.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: w.Namespace, Name: e.pod.Name, UID: e.pod.UID}
			}
			s.Endpoints = append(s.Endpoints, made)
		}
	}
	if err := w.Get(w.Context(), client.ObjectKeyFromObject(slice), &discoveryv1.EndpointSlice{}); err != nil {
		fill(slice)
		w.Make(slice)
		return
	}
	apiserver.Change(w.World, slice, fill)
}

// sentTo are the targets of the target sets, by the Service.
func (w *world) sentTo() map[string]string {
	all := map[string]string{}
	for _, o := range w.objects() {
		if o.Kind == fake.KindTargetSet {
			_, service, _ := strings.Cut(o.Tags["fairlead.dev/service"], "/")
			all[service] = strings.Join(o.Targets, " ")
		}
	}
	return all
}

func (w *world) expectTargets(want map[string]string) {
	w.Helper()
	w.Eventually(func() error {
		if diff := cmp.Diff(want, w.sentTo()); diff != "" {
			return fmt.Errorf("targets (-want +got):\n%s", diff)
		}
		return nil
	})
}

// TestPodsAreTargets: a Service without node ports is served by its Pods, and follows them without a look at the cloud, as
// many Services at once as change together.
func TestPodsAreTargets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	const services = 5
	var served []*corev1.Service
	want := map[string]string{}
	publish := func(ready int, others ...at) {
		for i, svc := range served {
			address := fmt.Sprintf("10.1.%d.%d", i, ready)
			w.publish(svc.Name, 8080, append(others, at{address: address, state: "ready"})...)
			want[svc.Name] = address + ":8080"
		}
	}
	for i := range services {
		served = append(served, w.service(fmt.Sprintf("cart-%d", i), withoutNodePorts))
	}
	publish(1, at{address: "10.2.0.1", state: "waiting"})
	w.expectTargets(want)
	for _, svc := range served {
		w.ready(svc.Name)
	}
	publish(2, at{address: "10.2.0.2", state: "terminating"})
	w.expectTargets(want)
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(served[0]), served[0]))
	if port := served[0].Spec.Ports[0].NodePort; port != 0 {
		t.Errorf("it has node port %d", port)
	}

	w.stop() // from here on they change together, however slow this machine is
	p := w.begin(served...)
	p.run()
	publish(3)
	for _, svc := range served {
		p.endpointsChanged(client.ObjectKeyFromObject(svc))
	}
	reads, writes := w.countReads(), w.countWrites()
	p.syncNodes(t.Context(), fake.Name, nil)
	w.expectTargets(want)
	if reads, writes = w.countReads()-reads, w.countWrites()-writes; reads != 0 || writes != 1 {
		t.Errorf("new Pods of %d Services took %d looks at the cloud and %d calls, want none and one", services, reads, writes)
	}
}

// ready waits until a Service has what it asks for.
func (w *world) ready(name string) {
	w.Helper()
	w.Eventually(func() error {
		svc := &corev1.Service{}
		if err := w.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, svc); err != nil {
			return err
		}
		for _, c := range svc.Status.Conditions {
			if c.Type == v1alpha1.ConditionLoadBalancerReady && c.Status == metav1.ConditionTrue && c.ObservedGeneration == svc.Generation {
				return nil
			}
		}
		return fmt.Errorf("Service %s is not ready: %+v", name, svc.Status.Conditions)
	})
}

// TestChangeOver: from nodes to Pods and back the address stays.
func TestChangeOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.node("n1", "172.30.0.11", nil)
	svc := w.service("cart", nil)
	w.publish("cart", 8080, at{address: "10.1.0.1", state: "ready"})
	w.expectTargets(map[string]string{"cart": "172.30.0.11"})
	address := func() string {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if len(svc.Status.LoadBalancer.Ingress) != 1 {
			return ""
		}
		return svc.Status.LoadBalancer.Ingress[0].IP
	}
	w.ready("cart")
	before := address()
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationTargets: "Pods"} })
	w.expectTargets(map[string]string{"cart": "10.1.0.1:8080"})
	apiserver.Change(w.World, svc, func(s *corev1.Service) { delete(s.Annotations, v1alpha1.AnnotationTargets) })
	w.expectTargets(map[string]string{"cart": "172.30.0.11"})
	w.ready("cart")
	if after := address(); before == "" || after != before {
		t.Errorf("the address was %q and is %q", before, after)
	}
}

// TestStoppedAnywhereWithPods stops the manager after every single call that a life with Pods makes, and starts another one:
// the balancer has the right Pods in the end, those that wait pass, and nothing is left.
func TestStoppedAnywhereWithPods(t *testing.T) {
	t.Parallel()
	clock := fake.NewClock()
	w := newWorld(t, fake.Options{Now: clock.Now}, toPods)
	w.stop()
	for n := 1; ; n++ {
		if n > 60 {
			t.Fatal("a life takes more than 60 calls")
		}
		name := fmt.Sprintf("cart-%03d", n)
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}
		pod := w.pod(name, name, true)
		calls, stopped := 0, false
		// Every call of every step counts on.
		live := func() {
			for again := true; again; {
				p := w.begin(svc)
				p.setHook(func(call fake.Call) error {
					if !call.After {
						calls++
					}
					if calls == n && call.After && !stopped {
						stopped = true
						p.kill()
					}
					if p.ctx.Err() != nil {
						return errStopped
					}
					return nil
				})
				p.run()
				clock.Advance(time.Second)
				_, _ = (&gateReconciler{Reconciler: p.Reconciler}).Reconcile(p.ctx, named(w.Namespace, name))
				again = p.ctx.Err() != nil
				p.kill()
			}
			w.setHook(nil)
		}
		svc.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class.Spec.ClassName, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}
		withoutNodePorts(svc)
		w.Make(svc)
		w.publish(name, 8080, at{"10.1.0.1", "ready", nil}, at{"10.1.0.2", "waiting", pod})
		live()
		if diff := cmp.Diff(map[string]string{name: "10.1.0.1:8080 10.1.0.2:8080"}, w.sentTo()); diff != "" {
			t.Errorf("stopped at call %d (-want +got):\n%s", n, diff)
		}
		w.publish(name, 8080, at{"10.1.0.1", "terminating", nil}, at{"10.1.0.2", "waiting", pod})
		live()
		if diff := cmp.Diff(map[string]string{name: "10.1.0.2:8080"}, w.sentTo()); diff != "" {
			t.Errorf("stopped at call %d, then without the first Pod (-want +got):\n%s", n, diff)
		}
		if got := w.gate(pod, name); got != "True Healthy" {
			t.Errorf("stopped at call %d: the gate is %q", n, got)
		}
		w.Must(w.Delete(context.Background(), svc))
		live()
		if left := w.describe(); len(left) > 0 {
			t.Fatalf("stopped at call %d, leaks %q", n, left)
		}
		if !stopped {
			t.Logf("stopped %d times", n-1)
			return
		}
	}
}

// TestPodsWhereTheProviderCannot: the class is not accepted, and a Service that asks for it by itself keeps its balancer,
// which goes on to follow the nodes.
func TestPodsWhereTheProviderCannot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.edits = append(w.edits, func(caps *cloud.Capabilities) { caps.PodTargets = false })
	w.start()
	w.node("n1", "172.30.0.11", nil)
	svc := w.service("cart", nil)
	w.ready("cart")
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationTargets: "Pods"} })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady); c == nil || c.Reason != v1alpha1.ReasonInvalidService {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	w.node("n2", "172.30.0.12", nil)
	w.expectTargets(map[string]string{"cart": "172.30.0.11 172.30.0.12"})
	apiserver.Change(w.World, w.class, func(c *v1alpha1.LoadBalancerClass) { c.Spec.Targets = v1alpha1.TargetsPods })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(w.class), w.class))
		if c := meta.FindStatusCondition(w.class.Status.Conditions, v1alpha1.ConditionAccepted); c == nil || c.Reason != v1alpha1.ReasonInvalidParameters {
			return fmt.Errorf("the class's condition is %+v", c)
		}
		return nil
	})
}

// TestPodsWithATypingMistake: the Service says so, and its balancer follows the Pods all the same.
func TestPodsWithATypingMistake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationTargets: "Pods"} })
	w.publish("cart", 8080, at{address: "10.1.0.1", state: "ready"})
	w.expectTargets(map[string]string{"cart": "10.1.0.1:8080"})
	w.ready("cart")
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations[v1alpha1.AnnotationTargets] = "pods" })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady); c == nil || c.Reason != v1alpha1.ReasonInvalidService {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	w.publish("cart", 8080, at{address: "10.1.0.2", state: "ready"})
	w.expectTargets(map[string]string{"cart": "10.1.0.2:8080"})
}

// TestPodsThrottled: what the cloud did not take is sent again.
func TestPodsThrottled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	w.stop()
	svc := w.service("cart", withoutNodePorts)
	w.publish("cart", 8080, at{address: "10.1.0.1", state: "ready"})
	p := w.begin(svc)
	p.run()
	w.publish("cart", 8080, at{address: "10.1.0.2", state: "ready"})
	p.endpointsChanged(client.ObjectKeyFromObject(svc))
	w.cloud.Inject(fake.Fault{Method: "SyncTargets", Err: &fake.Error{Code: fake.CodeThrottled, Message: "slow down", RetryAfterSeconds: 1}})
	began := time.Now()
	if wait, least := p.syncNodes(t.Context(), fake.Name, nil), time.Second-time.Since(began); wait < least {
		t.Errorf("it is to be called again after %v, want a second, of which no more than %v are left", wait, least)
	}
	w.Eventually(func() error {
		if wait := p.syncNodes(t.Context(), fake.Name, nil); wait > 0 {
			return fmt.Errorf("throttled for %v", wait)
		}
		return nil
	})
	if diff := cmp.Diff(map[string]string{"cart": "10.1.0.2:8080"}, w.sentTo()); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

// TestPassTellsOfPods: a pass that sends other Pods says so, as a round of targets does.
func TestPassTellsOfPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	w.stop()
	svc := w.service("cart", withoutNodePorts)
	p, told := w.begin(svc), &sayings{}
	p.Recorder = told
	p.run()
	w.publish("cart", 8080, at{address: "10.1.0.1", state: "ready"})
	annotate(w, svc, "example.com/look", "again")
	_, err := p.Reconcile(t.Context(), named(svc.Namespace, svc.Name))
	w.Must(err)
	if got := told.of(EventUpdated); !slices.Equal(got, []string{messageUpdatedPods}) {
		t.Errorf("it is told %q", got)
	}
}
