package nodeport

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
	"github.com/fairlead/fairlead/test/apiserver"
)

// step is a change of a Service and what its ports have after it, in the words of told.
type step struct {
	change func(*corev1.ServiceSpec)
	want   string
}

// told says what each port of a Service has: "-" nothing, "&a" what port a has, too, "=" what the port of that name had
// before, "+" another port of the pool, "!" one from elsewhere. "health" is the healthCheckNodePort, where there is one.
func told(p *v1alpha1.NodePortPool, before, after *corev1.ServiceSpec) string {
	had, names, texts := map[string]int32{"health": before.HealthCheckNodePort}, map[int32]string{}, []string(nil)
	for _, port := range before.Ports {
		had[port.Name] = port.NodePort
	}
	tell := func(name string, port int32) {
		is := "+"
		switch ranges := p.Spec.Ranges[0]; {
		case port == 0:
			is = "-"
		case names[port] != "":
			is = "&" + names[port]
		case port == had[name]:
			is = "="
		case port < ranges.First || port > ranges.Last:
			is = "!"
		}
		names[port] = name
		texts = append(texts, name+" "+is)
	}
	for _, port := range after.Ports {
		tell(port.Name, port.NodePort)
	}
	if after.HealthCheckNodePort != 0 {
		tell("health", after.HealthCheckNodePort)
	}
	return strings.Join(texts, ", ")
}

// lives are Services that become others.
func lives() map[string][]step {
	is := func(kind corev1.ServiceType) func(*corev1.ServiceSpec) {
		return func(s *corev1.ServiceSpec) { s.Type = kind }
	}
	policy := func(policy corev1.ServiceExternalTrafficPolicy) func(*corev1.ServiceSpec) {
		return func(s *corev1.ServiceSpec) { s.ExternalTrafficPolicy = policy }
	}
	families := func(policy corev1.IPFamilyPolicy) func(*corev1.ServiceSpec) {
		return func(s *corev1.ServiceSpec) {
			s.IPFamilyPolicy = &policy
			if policy == corev1.IPFamilyPolicySingleStack {
				s.IPFamilies, s.ClusterIPs = s.IPFamilies[:1], s.ClusterIPs[:1]
			}
		}
	}
	udp := corev1.ServicePort{Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP}
	leftOut := func(s *corev1.ServiceSpec) {
		for i := range s.Ports {
			s.Ports[i].NodePort = 0
		}
		s.HealthCheckNodePort = 0
	}
	return map[string][]step{
		"ProtocolsShare": {
			{is(corev1.ServiceTypeNodePort), "tcp +"},
			{func(s *corev1.ServiceSpec) { s.Ports = append(s.Ports, udp) }, "tcp =, udp &tcp"},
			{leftOut, "tcp =, udp &tcp"},
			{func(s *corev1.ServiceSpec) { s.Ports = s.Ports[1:] }, "udp ="},
			{func(s *corev1.ServiceSpec) {
				s.Ports = append(s.Ports, corev1.ServicePort{Name: "other", Port: 81, Protocol: corev1.ProtocolTCP})
			}, "udp =, other +"},
		},
		"Ports": {
			{is(corev1.ServiceTypeNodePort), "tcp +"},
			{func(s *corev1.ServiceSpec) { s.Ports[0].Port, s.Ports[0].NodePort = 8080, 0 }, "tcp ="},
			{func(s *corev1.ServiceSpec) { s.Ports[0].Name, s.Ports[0].NodePort = "http", 0 }, "http +"},
		},
		"Types": {
			{is(corev1.ServiceTypeClusterIP), "tcp -"},
			{is(corev1.ServiceTypeNodePort), "tcp +"},
			{is(corev1.ServiceTypeExternalName), "tcp -"},
			{is(corev1.ServiceTypeNodePort), "tcp +"},
			{is(corev1.ServiceTypeLoadBalancer), "tcp ="},
			{policy(corev1.ServiceExternalTrafficPolicyLocal), "tcp =, health +"},
			{leftOut, "tcp =, health ="},
			{is(corev1.ServiceTypeNodePort), "tcp ="},
			{is(corev1.ServiceTypeLoadBalancer), "tcp =, health +"},
			{policy(corev1.ServiceExternalTrafficPolicyCluster), "tcp ="},
			{is(corev1.ServiceTypeClusterIP), "tcp -"},
		},
		"Families": {
			{is(corev1.ServiceTypeNodePort), "tcp +"},
			{families(corev1.IPFamilyPolicyPreferDualStack), "tcp ="},
			{leftOut, "tcp ="},
			{families(corev1.IPFamilyPolicySingleStack), "tcp ="},
		},
		"WithoutNodePorts": {
			{func(s *corev1.ServiceSpec) {
				s.Type, s.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, new(false)
				s.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}, "tcp -, health +"},
			{func(s *corev1.ServiceSpec) { s.AllocateLoadBalancerNodePorts = new(true) }, "tcp +, health ="},
			{func(s *corev1.ServiceSpec) { s.AllocateLoadBalancerNodePorts = new(false) }, "tcp =, health ="},
			{leftOut, "tcp -, health ="},
			{func(s *corev1.ServiceSpec) { s.AllocateLoadBalancerNodePorts = new(true) }, "tcp +, health ="},
		},
	}
}

// TestTransitions: a Service that becomes another has ports of its pool whenever it needs some, and those that it had
// wherever the API server would leave them. Two managers are asked in turn, each of which has often not seen the last change.
func TestTransitions(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	f := w.newFront()
	f.turns = true
	p := w.pool("web", 30600, 30649, enforce)
	w.replica(f, nil)
	w.replica(f, nil)
	w.becomes(p, func() string {
		if c := conditionOf(p, v1alpha1.ConditionAccepted); c == nil || c.Status != metav1.ConditionTrue {
			return "it is not accepted"
		}
		return ""
	})
	w.Eventually(func() error { return w.Create(t.Context(), w.probe(0), client.DryRunAll) }) // a policy of before may still refuse it
	for name, steps := range lives() {
		t.Run(name, func(t *testing.T) {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: strings.ToLower(name)}, Spec: corev1.ServiceSpec{
				ExternalName: "example.com", Ports: []corev1.ServicePort{{Name: "tcp", Port: 80, Protocol: corev1.ProtocolTCP}}}}
			for i, s := range steps {
				before := svc.Spec.DeepCopy()
				w.insist(func() error {
					s.change(&svc.Spec)
					if i == 0 {
						return w.Create(t.Context(), svc)
					}
					return w.Update(t.Context(), svc)
				}, func() { before.DeepCopyInto(&svc.Spec) })
				if got := told(p, before, &svc.Spec); got != s.want {
					t.Fatalf("after step %d it has %q, want %q", i, got, s.want)
				}
			}
			w.Must(w.Delete(t.Context(), svc))
		})
	}
	// What the API server refuses for another reason holds nothing.
	headless := nodePort("headless", 0)
	headless.Namespace, headless.Spec.Type, headless.Spec.ClusterIP = w.Namespace, corev1.ServiceTypeClusterIP, corev1.ClusterIPNone
	w.Make(headless)
	headless.Spec.Type = corev1.ServiceTypeNodePort
	if err := w.Update(t.Context(), headless); !apierrors.IsInvalid(err) || strings.Contains(err.Error(), "already allocated") {
		t.Errorf("a headless Service with node ports: %v", err)
	}
	w.becomes(p, is(p, 50, 0, 0, v1alpha1.ReasonAccepted, v1alpha1.ReasonAvailable, v1alpha1.ReasonExclusive))
}

// notOf returns the first port from one on that a Service does not have.
func notOf(svc *corev1.Service, port int32) int32 {
	for slices.Contains(portalloc.PortsOf(svc), int(port)) {
		port++
	}
	return port
}

// probe is a Service that is made to see whether it is refused.
func (w *world) probe(port int32) *corev1.Service {
	svc := nodePort("probe", port)
	svc.Namespace = w.Namespace
	return svc
}

// insist writes again, from the start, where the two managers chose what another has.
func (w *world) insist(write func() error, again func()) {
	w.Helper()
	for range 20 {
		err := write()
		if err == nil {
			return
		}
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "already allocated") {
			w.Fatal(err)
		}
		again()
	}
	w.Fatal("it is always refused")
}

// TestPoolGoes: while pools are enforced, a Service whose pool is narrowed under it, or deleted, keeps its port through every
// update, and what it gets in addition is what its namespace may have now.
func TestPoolGoes(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	p := w.pool("web", 30660, 30669, enforce)
	// Another one keeps the enforcement up.
	w.pool("zone", 30670, 30670, func(s *v1alpha1.NodePortPoolSpec) {
		enforce(s)
		s.NamespaceSelector = metav1.LabelSelector{MatchLabels: map[string]string{"team": "nobody"}}
	})
	f := w.newFront()
	_, stop := w.replica(f, nil)
	probe := func(port int32) error { return w.Create(t.Context(), w.probe(port), client.DryRunAll) }
	refuses := func(port int32, by string) {
		t.Helper()
		w.Eventually(func() error {
			if err := probe(port); err == nil || !strings.Contains(err.Error(), by) {
				return fmt.Errorf("a Service with port %d is answered with: %w", port, err)
			}
			return nil
		})
	}
	refuses(30671, "")
	w.Eventually(func() error { return probe(30665) }) // a policy of before may still refuse it
	cart := w.create("cart", 30665)
	// update adds a port and leaves all numbers out.
	update := func(mine func(int32) bool) {
		t.Helper()
		n := int32(len(cart.Spec.Ports))
		cart.Spec.Ports[0].Name = "first"
		for i := range cart.Spec.Ports[1:] {
			cart.Spec.Ports[1+i].NodePort = 0
		}
		cart.Spec.Ports = append(cart.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", n), Port: 80 + n, Protocol: corev1.ProtocolTCP})
		before := cart.DeepCopy()
		w.Must(w.Update(t.Context(), cart))
		if got := cart.Spec.Ports[0].NodePort; got != 30665 {
			t.Errorf("its port is %d now", got)
		}
		if got := cart.Spec.Ports[n].NodePort; !mine(got) || len(cart.Spec.Ports) != len(before.Spec.Ports) {
			t.Errorf("in addition it got %d", got)
		}
	}
	update(func(port int32) bool { return 30660 <= port && port <= 30669 })
	lost := notOf(cart, 30663) // by the pool, and free
	apiserver.Change(w.World, p, func(p *v1alpha1.NodePortPool) { p.Spec.Ranges[0].Last = 30662 })
	refuses(lost, "")
	update(func(port int32) bool { return 30660 <= port && port <= 30662 })
	w.becomes(p, func() string {
		if c := conditionOf(p, v1alpha1.ConditionExclusive); c == nil || c.Reason != v1alpha1.ReasonPortsElsewhere || !strings.Contains(c.Message, "30665 (") {
			return "it is not told that a Service has a port outside"
		}
		return ""
	})
	w.Eventually(func() error {
		policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
		w.Must(w.Get(t.Context(), client.ObjectKey{Name: PolicyName}, policy))
		if text := fmt.Sprint(policy.Spec.Variables); !strings.Contains(text, "[30660, 30662]") {
			return fmt.Errorf("the policy is still %s", text)
		}
		return nil
	})
	w.keepsWithoutWebhook(cart, stop, func() { refuses(lost, "the ranges of the namespace are: 30660-30662") })
	w.replica(f, nil)
	w.Must(w.Delete(t.Context(), p))
	refuses(30670, "")
	w.Eventually(func() error { return probe(lost) }) // what pools leave has its ports again
	update(func(port int32) bool { return port != 30670 && serverPorts.Contains(int(port)) })
	cart.Spec.Ports[0].NodePort = 30670
	if err := w.Update(t.Context(), cart.DeepCopy()); err == nil {
		t.Error("it may have the port of a pool that is not its own")
	}
}

// keepsWithoutWebhook ends the manager: the policy alone lets a Service keep what it has, and refuses other ports, those of
// health checks with them.
func (w *world) keepsWithoutWebhook(cart *corev1.Service, stop, refuses func()) {
	w.Helper()
	stop()
	refuses()
	put := cart.DeepCopy()
	put.Labels = map[string]string{"a": "b"}
	for i := range put.Spec.Ports {
		put.Spec.Ports[i].NodePort = 0
	}
	w.Must(w.Update(w.Context(), put))
	if got := put.Spec.Ports[0].NodePort; got != cart.Spec.Ports[0].NodePort {
		w.Errorf("without the webhook its port became %d", got)
	}
	put.DeepCopyInto(cart)
	for port, refused := range map[int32]bool{notOf(cart, 30660): false, notOf(cart, 30666): true} {
		svc := nodePort("checked", 0)
		svc.Namespace, svc.Spec.Type, svc.Spec.AllocateLoadBalancerNodePorts = w.Namespace, corev1.ServiceTypeLoadBalancer, new(false)
		svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, port
		if err := w.Create(w.Context(), svc, client.DryRunAll); (err != nil) != refused || refused && !strings.Contains(err.Error(), PolicyName) {
			w.Errorf("a health check on %d: %v", port, err)
		}
	}
}
