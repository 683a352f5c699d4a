package adapter_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/adapter"
)

// manager drives a provider as the controller does for one Service.
type manager struct {
	t        *testing.T
	provider cloud.Provider
	service  *corev1.Service
	nodes    []*corev1.Node
}

func newService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "7f3e0c1a-0000-4000-8000-000000000001",
			Labels: map[string]string{"app": "cart"}, Annotations: map[string]string{"example.com/size": "small"}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "cart"},
			Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}}},
	}
}

func newNodes(n int) []*corev1.Node {
	var nodes []*corev1.Node
	for i := range n {
		nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i), Labels: map[string]string{"pool": "a"}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.30.0.%d", i+1)}}}})
	}
	return nodes
}

func newManager(t *testing.T, b cloudprovider.LoadBalancer, m cloud.Memory) *manager {
	return &manager{t: t, provider: adapter.New(b, m, adapter.Options{}), service: newService(), nodes: newNodes(2)}
}

// pass ensures the Service.
func (m *manager) pass() (cloud.Outcome, error) {
	m.t.Helper()
	spec, options, err := cloud.BuildSpec(cloud.Input{ClusterID: "blue", Service: m.service, Nodes: m.nodes, Capabilities: m.provider.Capabilities()})
	if err != nil {
		m.t.Fatal(err)
	}
	desired, err := m.provider.Desired(spec)
	if err != nil {
		m.t.Fatal(err)
	}
	return cloud.Converge(m.t.Context(), m.provider, spec.Owner, desired, options)
}

// release deletes what it has.
func (m *manager) release() (cloud.Outcome, error) {
	owner := cloud.OwnerOf("blue", m.service)
	owner.Service = m.service
	return cloud.Converge(m.t.Context(), m.provider, owner, nil, cloud.Options{})
}

func (m *manager) settled(out cloud.Outcome, err error) cloud.Outcome {
	m.t.Helper()
	if err != nil || !out.Left.Empty() {
		m.t.Fatalf("the pass ended with %v and left %+v", err, out.Left)
	}
	return out
}

func (b *balancers) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := b.takeCalls(); !slices.Equal(got, want) {
		t.Errorf("%s made the calls %q, want %q", what, got, want)
	}
}

func TestLife(t *testing.T) {
	b, kept := newBalancers(), newMemory()
	m := newManager(t, b, kept)
	out := m.settled(m.pass())
	b.expect(t, "the first pass", "ensure cart")
	if diff := cmp.Diff([]cloud.Ingress{{IP: "198.51.100.1"}}, cloud.Ingresses(out.Observed)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	name := cloudprovider.DefaultLoadBalancerName(m.service)
	if diff := cmp.Diff(m.service, b.services[name]); diff != "" {
		t.Errorf("the provider got another Service (-is +got):\n%s", diff)
	}
	if diff := cmp.Diff(m.nodes, b.nodes[name]); diff != "" {
		t.Errorf("the provider got other Nodes (-is +got):\n%s", diff)
	}

	m.service = m.service.DeepCopy()
	m.service.Labels, m.service.Spec.Selector = nil, map[string]string{"app": "other"}
	m.service.Annotations[v1alpha1.AnnotationPolicy], m.service.Annotations[v1alpha1.AnnotationServedBy] = "Apply", "provider=p"
	m.nodes[0].Labels = nil
	m.settled(m.pass())
	b.expect(t, "a change of nothing that a balancer depends on")

	m.nodes = newNodes(3)
	m.settled(m.pass())
	b.expect(t, "another node", "update cart")

	m.service.Annotations["example.com/size"] = "large"
	m.nodes = newNodes(4)
	m.settled(m.pass())
	b.expect(t, "an annotation and another node", "ensure cart")

	m.provider = adapter.New(b, kept, adapter.Options{})
	out = m.settled(m.pass())
	b.expect(t, "a restart")
	if len(cloud.Ingresses(out.Observed)) == 0 {
		t.Error("the addresses are lost after a restart")
	}

	m.provider = adapter.New(b, nil, adapter.Options{})
	m.settled(m.pass())
	b.expect(t, "a restart without a memory", "ensure cart")

	m.settled(m.release())
	b.expect(t, "the deletion", "delete cart")
	if left := b.snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestDeletedWhateverIsKnown: the balancer of a Service that this manager has never heard of, which another controller
// may have made, is deleted with the Service as it is; one of a Service that is gone, as it was told.
func TestDeletedWhateverIsKnown(t *testing.T) {
	b, kept := newBalancers(), newMemory()
	m := newManager(t, b, kept)
	m.settled(m.release())
	b.expect(t, "the deletion of an unknown Service", "delete cart")
	name := cloudprovider.DefaultLoadBalancerName(m.service)
	if got := b.services[name]; got.Annotations["example.com/size"] != "small" {
		t.Errorf("the provider got the annotations %v", got.Annotations)
	}

	m.provider = adapter.New(b, newMemory(), adapter.Options{})
	m.settled(m.pass())
	b.takeCalls()
	gone := cloud.Owner{ClusterID: "blue", ServiceUID: string(m.service.UID), Namespace: "shop", Name: "cart"}
	m.settled(cloud.Converge(t.Context(), m.provider, gone, nil, cloud.Options{}))
	b.expect(t, "the deletion of a Service that is gone", "delete cart")
	if got := b.services[name]; got.Annotations["example.com/size"] != "small" || len(got.Spec.Ports) != 1 || got.UID != m.service.UID {
		t.Errorf("the provider got %+v", got)
	}

	// The one of the same name that comes next has nothing to do with it.
	m.service = newService()
	for _, uid := range []types.UID{"after a deletion", "after one that was retained"} {
		m.service.UID = uid
		m.settled(m.pass())
		b.expect(t, "the next Service of the name, "+string(uid), "ensure cart")
	}
}

func TestImplementedElsewhere(t *testing.T) {
	cases := map[string]error{
		"Plain":   cloudprovider.ImplementedElsewhere,
		"Wrapped": fmt.Errorf("ensuring: %w", fmt.Errorf("asked of another: %w", cloudprovider.ImplementedElsewhere)),
	}
	for name, refusal := range cases {
		t.Run(name, func(t *testing.T) {
			b, kept := newBalancers(), newMemory()
			m := newManager(t, b, kept)
			m.settled(m.pass())
			b.takeCalls()
			b.fail = func(method string, svc *corev1.Service) error {
				if method != "delete" && svc.Annotations["example.com/size"] == "external" {
					return refusal
				}
				return nil
			}
			m.service = m.service.DeepCopy()
			m.service.Annotations["example.com/size"] = "external"
			m.service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "other.example.com"}}
			for range 2 {
				out, err := m.pass()
				if !cloud.IsClass(err, cloud.UserError) || !errors.Is(err, cloudprovider.ImplementedElsewhere) {
					t.Fatalf("the error is %v, want ImplementedElsewhere of class UserError", err)
				}
				if diff := cmp.Diff([]cloud.Ingress{{Hostname: "other.example.com"}}, cloud.Ingresses(out.Observed)); diff != "" {
					t.Errorf("the other controller's addresses are not left alone (-want +got):\n%s", diff)
				}
			}
			b.expect(t, "two passes", "ensure cart")

			// The balancer from before is deleted with the Service, as what it is.
			m.provider = adapter.New(b, kept, adapter.Options{})
			m.settled(m.release())
			b.expect(t, "the deletion", "delete cart")
			if got := b.services[cloudprovider.DefaultLoadBalancerName(m.service)]; got.Annotations["example.com/size"] != "small" {
				t.Errorf("the balancer was made for %q and is deleted for %q", "small", got.Annotations["example.com/size"])
			}
		})
	}
}

func TestRetryError(t *testing.T) {
	for _, method := range []string{"ensure", "update", "delete"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBalancers()
				m := newManager(t, b, newMemory())
				pass := m.pass
				switch method {
				case "update":
					m.settled(m.pass())
					m.nodes = newNodes(3)
				case "delete":
					m.settled(m.pass())
					pass = m.release
				}
				b.takeCalls()
				started := time.Now()
				b.fail = func(string, *corev1.Service) error {
					if time.Since(started) >= 40*time.Second {
						return nil
					}
					return fmt.Errorf("still at it: %w", api.NewRetryError("provisioning", 20*time.Second))
				}
				// Whoever wakes the Service in between, the provider is asked every 20 s.
				for {
					out, err := pass()
					if err == nil {
						m.settled(out, err)
						break
					}
					if e := cloud.Classify(err); e.Class != cloud.RetryAfter || e.After <= 0 || e.After > 20*time.Second {
						t.Fatalf("the error is %v of class %s after %v", err, e.Class, e.After)
					}
					time.Sleep(3 * time.Second)
				}
				b.expect(t, "42 s", method+" cart", method+" cart", method+" cart")
				if took := time.Since(started); took != 42*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestChangedMeanwhile: a Service that its user put right is not held back.
func TestChangedMeanwhile(t *testing.T) {
	b := newBalancers()
	m := newManager(t, b, newMemory())
	b.fail = func(_ string, svc *corev1.Service) error {
		if svc.Annotations["example.com/size"] == "small" {
			return api.NewRetryError("no room for a small one", time.Hour)
		}
		return nil
	}
	if _, err := m.pass(); !cloud.IsClass(err, cloud.RetryAfter) {
		t.Fatalf("the error is %v", err)
	}
	m.service = m.service.DeepCopy()
	m.service.Annotations["example.com/size"] = "large"
	m.settled(m.pass())
	b.expect(t, "both", "ensure cart", "ensure cart")
}

// TestErrors: the text of an error that comes again is the same, on one line, and a failed change leaves the addresses.
func TestErrors(t *testing.T) {
	b := newBalancers()
	m := newManager(t, b, newMemory())
	m.settled(m.pass())
	ids := []string{"0a1b2c3d-1111-4222-8333-444455556666", "99999999-1111-4222-8333-444455556666"}
	b.fail = func(string, *corev1.Service) error {
		id := ids[0]
		ids = ids[1:]
		return fmt.Errorf("quota exceeded,\n request id: %s", id)
	}
	m.service = m.service.DeepCopy()
	m.service.Spec.Ports[0].Port = 81
	m.service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}}
	first, err := m.pass()
	_, again := m.pass()
	if !cloud.IsClass(err, cloud.Retry) || err.Error() != again.Error() || strings.Contains(err.Error(), "\n") {
		t.Errorf("the errors are %q and %q", err, again)
	}
	if diff := cmp.Diff([]cloud.Ingress{{IP: "198.51.100.1"}}, cloud.Ingresses(first.Observed)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// TestMemoryFails: nothing is called that could not be remembered.
func TestMemoryFails(t *testing.T) {
	b, kept := newBalancers(), newMemory()
	m := newManager(t, b, kept)
	kept.fail = errors.New("no API server")
	if _, err := m.pass(); !errors.Is(err, kept.fail) {
		t.Errorf("the error is %v", err)
	}
	b.expect(t, "a pass without a memory to write to")
	kept.fail = nil
	m.settled(m.pass())
	b.expect(t, "the pass after it", "ensure cart")
}

func TestParametersAreRefused(t *testing.T) {
	p := adapter.New(newBalancers(), nil, adapter.Options{})
	if _, err := p.Desired(cloud.Spec{Parameters: []byte(`{"size": 1}`)}); !cloud.IsClass(err, cloud.UserError) {
		t.Errorf("the error is %v, want one of class UserError", err)
	}
}

// TestUpstreamFake drives k8s.io/cloud-provider's own fake, through its registry and ours.
func TestUpstreamFake(t *testing.T) {
	config := cloud.Config{Memory: newMemory()}
	providers := cloud.NewProviders(func(string) (cloud.Config, error) { return config, nil }, nil)
	config.File = []byte("refuse")
	for name, want := range map[string]string{
		"upstream-fake":     "refused",
		"unregistered":      `knows no provider "moon"`,
		"without-balancers": "has no load balancers",
	} {
		if _, err := providers.Get(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the provider %s: %v, want %s", name, err, want)
		}
	}
	config.File = nil
	provider, err := providers.Get("upstream-fake")
	if err != nil {
		t.Fatal(err)
	}
	upstream.Calls, upstream.UpdateCalls = nil, nil
	m := newManager(t, nil, nil)
	m.provider = provider
	out := m.settled(m.pass())
	if diff := cmp.Diff([]cloud.Ingress{{IP: "198.51.100.9", IPMode: "Proxy"}}, cloud.Ingresses(out.Observed)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	m.settled(m.pass())
	m.nodes = newNodes(3)
	m.settled(m.pass())
	m.settled(m.release())
	calls := slices.DeleteFunc(slices.Clone(upstream.Calls), func(call string) bool { return call == "get-zone" })
	if want := []string{"create", "update", "delete"}; !slices.Equal(calls, want) {
		t.Errorf("the calls are %q, want %q", calls, want)
	}
	if got := len(upstream.UpdateCalls[0].Hosts); got != 3 {
		t.Errorf("the update had %d nodes", got)
	}
}
