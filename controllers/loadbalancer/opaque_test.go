package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	cloudprovider "k8s.io/cloud-provider"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/adapter"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// old is a provider of k8s.io/cloud-provider that writes down what it is told.
type old struct {
	mu    sync.Mutex
	calls []string
	// hook, if not nil, is called by UpdateLoadBalancer.
	hook func()
}

func (o *old) told(call string, svc *corev1.Service, nodes []*corev1.Node) {
	var names []string
	for _, n := range nodes {
		name := n.Name[strings.LastIndex(n.Name, "-")+1:]
		if disk := n.Labels["disk"]; disk != "" {
			name += "+" + disk
		}
		names = append(names, name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", call, svc.Name, svc.Annotations["example.com/size"], strings.Join(names, ","))))
}

func (o *old) GetLoadBalancer(context.Context, string, *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	return nil, false, nil
}

func (o *old) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return cloudprovider.DefaultLoadBalancerName(svc)
}

func (o *old) EnsureLoadBalancer(_ context.Context, _ string, svc *corev1.Service, nodes []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	o.told("ensure", svc, nodes)
	return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{Hostname: svc.Name + ".example.com"}}}, nil
}

func (o *old) UpdateLoadBalancer(_ context.Context, _ string, svc *corev1.Service, nodes []*corev1.Node) error {
	o.told("update", svc, nodes)
	if o.hook != nil {
		o.hook()
	}
	return nil
}

func (o *old) EnsureLoadBalancerDeleted(_ context.Context, _ string, svc *corev1.Service) error {
	o.told("delete", svc, nil)
	return nil
}

// opaqueWorld is a world whose provider is the old one.
type opaqueWorld struct {
	*world
	provider *old
}

// newOpaqueWorld makes the world, without a manager.
func newOpaqueWorld(t *testing.T, o *old) *opaqueWorld {
	w := &opaqueWorld{&world{World: apiserver.New(t), cloud: fake.New(fake.Options{}), stop: func() {}}, o}
	w.caches = w.see()
	w.makeClass(nil)
	t.Cleanup(func() { w.stop() })
	return w
}

// restart ends the manager, if there is one, and starts another.
func (w *opaqueWorld) restart() { w.startWith(w.provider) }

// startWith is restart with another provider.
func (w *opaqueWorld) startWith(b cloudprovider.LoadBalancer) {
	w.Helper()
	w.stop()
	p := adapter.New(b, &Memory{Client: w.Client}, adapter.Options{})
	r := &Reconciler{Providers: providers{cloud.Limited(p, p.Capabilities().Limits)}, ClusterID: "test", Coexist: true}
	w.stop = w.Start(w.caches, r.SetupWithManager)
}

// expect waits until the provider was told this and nothing else, in this order.
func (o *old) expect(w *world, want ...string) {
	w.Helper()
	w.Eventually(func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !slices.Equal(o.calls, want) {
			return fmt.Errorf("the provider was told %q, want %q", o.calls, want)
		}
		return nil
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = nil
}

func TestOpaque(t *testing.T) {
	t.Parallel()
	o := &old{}
	w := newOpaqueWorld(t, o)
	w.restart()
	w.node("n1", "172.30.0.11", func(n *corev1.Node) { n.Labels = map[string]string{"disk": "ssd"} })
	svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{"example.com/size": "small"} })
	w.reason(svc, v1alpha1.ReasonEnsured)
	if diff := cmp.Diff([]corev1.LoadBalancerIngress{{Hostname: "cart.example.com"}}, svc.Status.LoadBalancer.Ingress); diff != "" {
		t.Errorf("published addresses (-want +got):\n%s", diff)
	}
	o.expect(w.world, "ensure cart small n1+ssd")

	// After a restart it is told nothing; it hears of what happens then, once each.
	w.restart()
	w.node("n2", "172.30.0.12", nil)
	o.expect(w.world, "update cart small n1+ssd,n2")
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations["example.com/size"] = "large" })
	o.expect(w.world, "ensure cart large n1+ssd,n2")
	w.reason(svc, v1alpha1.ReasonEnsured)

	w.Must(w.Delete(t.Context(), svc))
	w.gone(svc)
	o.expect(w.world, "delete cart large")
}

// misnamed is an old provider that gives a balancer a name that no Service can publish.
type misnamed struct{ old }

func (*misnamed) EnsureLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}, {Hostname: "my_lb.example.com"}}}, nil
}

// TestAddressThatCannotBePublished: the API server would refuse it, with all else that the status says. The Service and its record say so,
// and what can be published is.
func TestAddressThatCannotBePublished(t *testing.T) {
	t.Parallel()
	o := &misnamed{}
	w := newOpaqueWorld(t, &o.old)
	w.startWith(o)
	svc := w.service("cart", nil)
	c := w.reason(svc, v1alpha1.ReasonCloudError)
	if !strings.Contains(c.Message, `"my_lb.example.com"`) {
		t.Errorf("the message is %q", c.Message)
	}
	vip := corev1.LoadBalancerIPModeVIP
	if diff := cmp.Diff([]corev1.LoadBalancerIngress{{IP: "198.51.100.1", IPMode: &vip}}, svc.Status.LoadBalancer.Ingress); diff != "" {
		t.Errorf("published addresses (-want +got):\n%s", diff)
	}
	if of := w.record(svc).Status.Conditions; len(of) != 1 || of[0].Status != metav1.ConditionFalse || of[0].Message != c.Message {
		t.Errorf("the record says %+v", of)
	}
	w.event(svc, EventSyncFailed)
}

// TestNodesOfManyServices: where one UpdateLoadBalancer for each Service takes longer than a pass may, the rest comes with
// the next.
func TestNodesOfManyServices(t *testing.T) {
	t.Parallel()
	o := &old{}
	w := newOpaqueWorld(t, o)
	p := adapter.New(o, nil, adapter.Options{})
	r := &Reconciler{Client: seeing{w.Client, w.Namespace}, Recorder: events.NewFakeRecorder(10), Providers: providers{p}, ClusterID: "test", Coexist: true}
	r.prepare()
	r.wake, r.wakeNodes, r.wakeSweep = func(types.NamespacedName, priority) {}, func() {}, func(string, time.Duration) {}
	for _, name := range []string{"a", "b"} {
		svc := w.service(name, nil)
		spec, options, err := cloud.BuildSpec(cloud.Input{ClusterID: "test", Service: svc, Capabilities: p.Capabilities()})
		w.Must(err)
		desired, err := p.Desired(spec)
		w.Must(err)
		e := r.ledger.begin(svc.UID, client.ObjectKeyFromObject(svc), fake.Name, false)
		out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, options)
		w.Must(err)
		e.remember(spec, options, out, nil)
		r.end(e)
	}
	o.expect(w.world, "ensure a", "ensure b")
	w.node("n1", "172.30.0.11", nil)
	nodes := &nodeReconciler{Reconciler: r}
	ctx, cancel := context.WithCancel(t.Context())
	o.hook = cancel
	if _, err := nodes.Reconcile(ctx, named("", fake.Name)); !errors.Is(err, context.Canceled) {
		t.Errorf("a pass that ran out of time says %v", err)
	}
	o.hook = nil
	nodes.last.Clear()
	_, err := nodes.Reconcile(t.Context(), named("", fake.Name))
	w.Must(err)
	o.expect(w.world, "update a  n1", "update b  n1")
}

// TestOpaqueTakenOver: what another controller made of a Service that is being deleted when we take over is deleted,
// though nothing is known of it.
func TestOpaqueTakenOver(t *testing.T) {
	t.Parallel()
	o := &old{}
	w := newOpaqueWorld(t, o)
	svc := w.service("cart", func(s *corev1.Service) {
		s.Annotations = map[string]string{"example.com/size": "small"}
		s.Finalizers = []string{v1alpha1.FinalizerLoadBalancer}
	})
	w.Must(w.Delete(t.Context(), svc))
	w.restart()
	w.gone(svc)
	o.expect(w.world, "delete cart small")
}

// refusing is an old provider whose cloud refuses.
type refusing struct {
	old
	err error
}

func (r *refusing) EnsureLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	return nil, r.err
}

// TestOpaqueCloudIsACluster: what an API server says that is the cloud is not taken for an answer to what we wrote: it is said, and
// retried with a growing delay.
func TestOpaqueCloudIsACluster(t *testing.T) {
	t.Parallel()
	o := &refusing{}
	w := newOpaqueWorld(t, &o.old)
	r := w.alone(w.Client, discard{})
	r.Providers = providers{adapter.New(o, &Memory{Client: w.Client}, adapter.Options{})}
	svc := w.service("cart", nil)
	machines := schema.GroupResource{Resource: "virtualmachineservices"}
	terminating := apierrors.NewForbidden(machines, "cart", errors.New("it is going"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for _, refusal := range []error{apierrors.NewNotFound(machines, "cart"), apierrors.NewConflict(machines, "cart", errors.New("changed")), terminating} {
		o.err = refusal
		result, err := r.Reconcile(t.Context(), named(svc.Namespace, svc.Name))
		if err == nil {
			t.Errorf("%q is answered by %+v, want a retry by the rate limiter", refusal, result)
		}
		if c := w.reason(svc, v1alpha1.ReasonCloudError); !strings.Contains(c.Message, refusal.Error()) {
			t.Errorf("%q is told as %q", refusal, c.Message)
		}
	}
}
