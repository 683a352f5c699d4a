package nodeport

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestFillsTheRange: 32 clients at once get every port there is, and the next one is told which pool is full.
func TestFillsTheRange(t *testing.T) {
	h := newHooked(t)
	h.manage()
	h.everywhere(enforce)
	h.enforced()
	const clients = 32
	size := portalloc.DefaultRange.Size()
	var next atomic.Int32
	var all sync.WaitGroup
	problems := make(chan error, clients)
	for range clients {
		all.Go(func() {
			for i := next.Add(1); int(i) <= size; i = next.Add(1) {
				svc := nodePort(fmt.Sprint("s", i), 0)
				svc.Namespace = "web"
				if err := h.Create(t.Context(), svc); err != nil {
					problems <- fmt.Errorf("Service %d: %w", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
	var services corev1.ServiceList
	h.Must(h.List(t.Context(), &services, client.InNamespace("web")))
	ports := map[int32]bool{}
	for _, svc := range services.Items {
		ports[svc.Spec.Ports[0].NodePort] = true
	}
	if len(ports) != size || len(services.Items) != size {
		t.Fatalf("%d Services have %d ports, want %d", len(services.Items), len(ports), size)
	}
	last := nodePort("last", 0)
	last.Namespace = "web"
	if err := h.Create(t.Context(), last); err == nil || !strings.Contains(err.Error(), `every port of 30000-32767 of NodePortPool "everywhere" is taken`) {
		t.Errorf("the next one got %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.times) <= size { // the API server would have filled the range by itself
		t.Errorf("the webhook was asked %d times for %d Services", len(h.times), size+1)
	}
	slices.Sort(h.times)
	t.Logf("the handler took %s in the middle, %s at p99, %s at most, of %d requests", h.times[len(h.times)/2], h.times[len(h.times)*99/100], h.times[len(h.times)-1], len(h.times))
}

// TestComesBack: within the delay a name gets its port back, and nobody else gets it meanwhile, neither by asking for any
// nor by name, nor in another namespace.
func TestComesBack(t *testing.T) {
	h := newHooked(t)
	stop := h.manage()
	p := h.pool("small", 30010, 30012, func(s *v1alpha1.NodePortPoolSpec) { enforce(s); s.Sticky = true })
	h.enforced()
	cart := h.create("cart", 0)
	had := cart.Spec.Ports[0].NodePort
	if had < 30010 || had > 30012 {
		t.Fatalf("it got %d", had)
	}
	again := func() {
		t.Helper()
		h.Must(h.Delete(t.Context(), cart))
		cart = h.create("cart", 0) // at once: the event of its end may still be on its way
		if got := cart.Spec.Ports[0].NodePort; got != had {
			t.Errorf("it got %d back, had %d", got, had)
		}
	}
	again()
	again()
	h.Must(h.Delete(t.Context(), cart))
	h.becomes(p, func() string {
		if len(p.Status.Reservations) != 1 {
			return "not kept"
		}
		return ""
	})
	for _, other := range []*corev1.Service{h.create("a", 0), h.create("b", 0)} {
		if other.Spec.Ports[0].NodePort == had {
			t.Error("another got it")
		}
	}
	named := nodePort("named", had)
	named.Namespace = "web"
	if err := h.Create(t.Context(), named); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "is kept for Service web/cart until") {
		t.Errorf("who names it got %v", err)
	}
	// Nor by a Service that wants no others: the API server leaves it alone, and the policy sees only that it is in the range.
	named.Spec.Type, named.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, ptr.To(false)
	if err := h.Create(t.Context(), named); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "is kept for Service web/cart until") {
		t.Errorf("a balancer without node ports that names it got %v", err)
	}
	third := nodePort("c", 0)
	third.Namespace = "web"
	// How many are kept it says, too, and counts those that were promised until it sees them taken.
	if err := h.Create(t.Context(), third); err == nil || !strings.Contains(err.Error(), `"small" is taken or kept (`) {
		t.Errorf("the third got %v", err)
	}
	// The next manager knows.
	stop()
	h.manage()
	cart = h.create("cart", 0)
	if got := cart.Spec.Ports[0].NodePort; got != had {
		t.Errorf("after a restart it got %d back, had %d", got, had)
	}
}

// TestNumbers: what becomes of Services of all kinds, pool or none, while the webhook answers.
func TestNumbers(t *testing.T) {
	h := newHooked(t)
	h.manage()
	p := h.pool("web", 31000, 31009, nil)
	h.becomes(p, func() string {
		if p.Status.Size == nil {
			return "no status"
		}
		return ""
	})
	in := func(port int32) bool { return 31000 <= port && port <= 31009 }

	dry := nodePort("dry", 0)
	dry.Namespace = "web"
	h.Must(h.Create(t.Context(), dry, client.DryRunAll))
	if !in(dry.Spec.Ports[0].NodePort) {
		t.Errorf("a dry run shows %d", dry.Spec.Ports[0].NodePort)
	}
	dns := nodePort("dns", 0)
	dns.Namespace = "web"
	dns.Spec.Type, dns.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	dns.Spec.Ports = []corev1.ServicePort{{Name: "tcp", Port: 53, Protocol: "TCP"}, {Name: "udp", Port: 53, Protocol: "UDP"}}
	h.Must(h.Create(t.Context(), dns))
	tcp, udp, health := dns.Spec.Ports[0].NodePort, dns.Spec.Ports[1].NodePort, dns.Spec.HealthCheckNodePort
	if !in(tcp) || tcp != udp || !in(health) || health == tcp {
		t.Errorf("TCP has %d, UDP %d, the health check %d", tcp, udp, health)
	}
	// A PUT that leaves the numbers out gets the same, a port that is added gets one of the pool.
	put := dns.DeepCopy()
	put.Spec.HealthCheckNodePort = 0
	for i := range put.Spec.Ports {
		put.Spec.Ports[i].NodePort = 0
	}
	put.Spec.Ports = append(put.Spec.Ports, corev1.ServicePort{Name: "http", Port: 80, Protocol: "TCP"})
	h.Must(h.Update(t.Context(), put))
	if got := put.Spec; got.Ports[0].NodePort != tcp || got.Ports[1].NodePort != tcp || !in(got.Ports[2].NodePort) || got.HealthCheckNodePort != health {
		t.Errorf("after a PUT without numbers it has %+v and %d", got.Ports, got.HealthCheckNodePort)
	}
	generated := nodePort("", 0)
	generated.Namespace, generated.GenerateName = "web", "g-"
	second := generated.DeepCopy()
	h.Must(errors.Join(h.Create(t.Context(), generated), h.Create(t.Context(), second)))
	if a, b := generated.Spec.Ports[0].NodePort, second.Spec.Ports[0].NodePort; !in(a) || !in(b) || a == b {
		t.Errorf("those with generated names have %d and %d", a, b)
	}
	foreign := nodePort("foreign", 0)
	foreign.Namespace = "other"
	h.Must(h.Create(t.Context(), foreign))
	flagged := nodePort("flagged", 0)
	flagged.Namespace, flagged.Spec.Type, flagged.Spec.AllocateLoadBalancerNodePorts = "web", corev1.ServiceTypeLoadBalancer, ptr.To(false)
	h.Must(h.Create(t.Context(), flagged))
	if got := flagged.Spec.Ports[0].NodePort; got != 0 {
		t.Errorf("one that wants none has %d", got)
	}
	h.warnings.take()
	named := h.create("named", 30500)
	if got := named.Spec.Ports[0].NodePort; got != 30500 {
		t.Errorf("one that names a port elsewhere has %d", got)
	}
	// Full: without Enforce the API server takes one from elsewhere, and says so.
	for i := range 5 {
		if got := h.create(fmt.Sprint("fill", i), 0).Spec.Ports[0].NodePort; !in(got) {
			t.Errorf("number %d of 10 got %d: the dry run is remembered", 6+i, got)
		}
	}
	h.warnings.take()
	full := h.create("full", 0)
	if in(full.Spec.Ports[0].NodePort) {
		t.Fatal("the pool was not full")
	}
	if text := h.warnings.take(); !strings.Contains(text, `NodePortPool "web" is taken`) {
		t.Errorf("the warning is %q", text)
	}
	h.becomes(p, func() string {
		if c := conditionOf(p, v1alpha1.ConditionExclusive); c == nil || c.Reason != v1alpha1.ReasonPortsElsewhere {
			return "the violation is not reported"
		}
		return ""
	})
}

// TestOutage: while nobody answers, a pool that is enforced stays so.
func TestOutage(t *testing.T) {
	h := newHooked(t)
	stop := h.manage()
	h.pool("web", 31000, 31009, enforce)
	h.enforced()
	running := h.create("running", 0)
	odd := nodePort("odd", 0)
	odd.Namespace = "other"
	h.Must(h.Create(t.Context(), odd))
	if got := odd.Spec.Ports[0].NodePort; 31000 <= got && got <= 31009 {
		t.Errorf("a Service of no pool got %d", got)
	}
	had, rest := running.Spec.Ports[0].NodePort, int32(30500)
	free := func(n int32) int32 { return 31000 + (had-31000+n)%10 } // the n-th after what runs
	if got := odd.Spec.Ports[0].NodePort; got == rest || got == rest+1 {
		rest += 10
	}
	h.Eventually(func() error {
		return h.Get(t.Context(), client.ObjectKey{Name: PolicyName}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{})
	})
	stop()
	probe := nodePort("probe", rest)
	probe.Namespace = "web"
	h.Eventually(func() error { // the API server takes its time to read the policy
		if err := h.Create(t.Context(), probe.DeepCopy(), client.DryRunAll); err == nil || !strings.Contains(err.Error(), PolicyName) {
			return fmt.Errorf("the probe was answered with: %w", err)
		}
		return nil
	})
	mine := func(port int32) bool { return 31000 <= port && port <= 31009 }
	cases := map[string]struct {
		reason, namespace string
		port              int32
		refused           string
	}{
		"Named":      {"in the range", "web", free(1), ""},
		"Outside":    {"not its range", "web", rest, "31000-31009"},
		"Others":     {"the pool's", "other", free(2), "30000-30999, 31010-32767"},
		"NamedOther": {"in what pools leave", "other", rest + 1, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			svc := nodePort(strings.ToLower(name), tc.port)
			svc.Namespace = tc.namespace
			err := h.Create(t.Context(), svc)
			if tc.refused == "" && err != nil || tc.refused != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.refused)) {
				t.Errorf("%s: got %v, want %q", tc.reason, err, tc.refused)
			}
		})
	}
	// What nobody numbers the API server does, at random: what does not fit is refused.
	for i := range 20 {
		for _, namespace := range []string{"web", "other"} {
			svc := nodePort(fmt.Sprint("unnumbered", i), 0)
			svc.Namespace = namespace
			if err := h.Create(t.Context(), svc); err != nil && !strings.Contains(err.Error(), PolicyName) || err == nil && mine(svc.Spec.Ports[0].NodePort) != (namespace == "web") {
				t.Errorf("one of %s got %d, %v", namespace, svc.Spec.Ports[0].NodePort, err)
			}
		}
	}
	// What runs can be changed, with and without its number, and made another type and deleted.
	put := running.DeepCopy()
	put.Labels, put.Spec.Ports[0].NodePort = map[string]string{"a": "b"}, 0
	h.Must(h.Update(t.Context(), put))
	if put.Spec.Ports[0].NodePort != had {
		t.Errorf("a PUT without the number made it %d", put.Spec.Ports[0].NodePort)
	}
	put.Spec.Type, put.Spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0
	h.Must(h.Update(t.Context(), put))
	put.Spec.Type = corev1.ServiceTypeNodePort
	if err := h.Update(t.Context(), put.DeepCopy()); err != nil && !strings.Contains(err.Error(), PolicyName) {
		t.Errorf("a Service that came to need a node port: %v", err)
	}
	h.Must(h.Delete(t.Context(), put))
	// Without Enforce everything is as it was.
	h.manage()
	apiserver.Change(h.World, &v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, func(p *v1alpha1.NodePortPool) {
		p.Spec.Enforcement = v1alpha1.EnforcementBestEffort
	})
	port := int32(30600)
	h.Eventually(func() error {
		port++ // one may be taken by an unnumbered Service
		outside := nodePort("outside", port)
		outside.Namespace = "web"
		return h.Create(t.Context(), outside, client.DryRunAll)
	})
}

func conditionOf(p *v1alpha1.NodePortPool, name string) *metav1.Condition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == name {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// TestSelects: a selector as an expression. What the API server makes of it is in TestOutage.
func TestSelects(t *testing.T) {
	for text, want := range map[string]string{
		"":                   `true`,
		"team=web":           `("team" in variables.labels && variables.labels["team"] in ["web"])`,
		"team in (b, a),!x":  `!("x" in variables.labels) && ("team" in variables.labels && variables.labels["team"] in ["a", "b"])`,
		"team notin (a),x/y": `!("team" in variables.labels && variables.labels["team"] in ["a"]) && ("x/y" in variables.labels)`,
	} {
		selector, err := labels.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := selects(selector); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	if got := selects(labels.Nothing()); got != "false" {
		t.Errorf("nothing is %s", got)
	}
}
