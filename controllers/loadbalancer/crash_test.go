package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// process is a manager's life, driven by hand, so that it can be stopped at any call to the cloud: from then on neither
// the cloud nor the API server hears of it.
type process struct {
	*world
	*Reconciler
	ctx  context.Context
	kill context.CancelFunc

	services map[types.NamespacedName]bool
	nodes    bool
	sweep    bool
}

var errStopped = errors.New("the manager was stopped here")

// begin starts a process that knows nothing: everything there is gets a pass, as after a start.
func (w *world) begin(services ...*corev1.Service) *process {
	p := &process{world: w, services: map[types.NamespacedName]bool{}, nodes: true}
	p.ctx, p.kill = context.WithCancel(w.Context())
	p.Reconciler = w.alone(w.Client, discard{})
	p.wake = func(name types.NamespacedName, _ priority) { p.services[name] = true }
	p.wakeNodes = func() { p.nodes = true }
	p.wakeSweep = func(string, time.Duration) { p.sweep = true }
	for _, svc := range services {
		p.services[client.ObjectKeyFromObject(svc)] = true
	}
	return p
}

// stopAt ends the process after the n-th call, whose answer it never gets.
func (p *process) stopAt(n int) {
	calls := 0
	p.setHook(func(call fake.Call) error {
		if !call.After {
			calls++
		}
		if calls == n && call.After {
			p.kill()
		}
		if p.ctx.Err() != nil {
			return errStopped
		}
		return nil
	})
}

func (w *world) setHook(hook func(fake.Call) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

// run goes on until nobody has anything to do, and reports whether it came so far.
func (p *process) run() bool {
	p.Helper()
	for range 100 {
		if p.ctx.Err() != nil {
			return false
		}
		if len(p.services) == 0 && !p.nodes && !p.sweep {
			return true
		}
		names := make([]types.NamespacedName, 0, len(p.services))
		for name := range p.services {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) })
		clear(p.services)
		for _, name := range names {
			result, err := p.Reconcile(p.ctx, ctrl.Request{NamespacedName: name})
			if err != nil || result.RequeueAfter > 0 {
				p.services[name] = true
			}
		}
		if p.sweep {
			_, err := (&sweepReconciler{p.Reconciler}).Reconcile(p.ctx, named("", fake.Name))
			p.sweep = err != nil
		}
		if p.nodes {
			nodes, err := p.listNodes(p.ctx)
			p.nodes = err != nil || p.syncNodes(p.ctx, fake.Name, cloud.EligibleNodes(nodes)) > 0
		}
	}
	p.Fatalf("after 100 rounds there is still something to do: %v", p.services)
	return false
}

// describe tells what is in the cloud without what differs from one run to the next.
func (w *world) describe() []string {
	var lines []string
	for _, o := range w.objects() {
		var fields []string
		for name, value := range o.Fields {
			// Node ports are the API server's choice.
			if name != "port" || o.Kind == fake.KindListener {
				fields = append(fields, name+"="+value)
			}
		}
		slices.Sort(fields)
		lines = append(lines, fmt.Sprintf("%s %s %s %v owners:%d", o.Kind, o.Tags["fairlead.dev/key"], strings.Join(fields, ","), o.Targets, owners(o)))
	}
	slices.Sort(lines)
	return lines
}

func owners(o fake.Object) int {
	n := 0
	for tag := range o.Tags {
		if strings.HasPrefix(tag, "fairlead.dev/owner/") {
			n++
		}
	}
	return n
}

// TestStoppedAnywhere stops the manager after every single call that creation, change, a new node and deletion make, of a
// Service by itself and of one that shares its balancer, and starts another one.
func TestStoppedAnywhere(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"Alone": false, "Shared": true} {
		for target, step := range []string{"Create", "Change", "AddNode", "Delete"} {
			t.Run(name+"_"+step, func(t *testing.T) {
				t.Parallel()
				testStoppedAnywhere(t, shared, target)
			})
		}
	}
}

// testStoppedAnywhere stops it in the step of that number.
func testStoppedAnywhere(t *testing.T, shared bool, target int) {
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.node("n1", "172.30.0.11", nil)
	var annotations map[string]string
	if shared {
		annotations = map[string]string{v1alpha1.AnnotationShare: "web"}
	}
	var beside []*corev1.Service
	if shared {
		other := w.service("other", func(s *corev1.Service) { s.Annotations, s.Spec.Ports[0].Port = annotations, 8080 })
		beside = append(beside, other)
		w.begin(other).run()
	}
	empty := w.describe()
	var node *corev1.Node
	steps := []func(svc *corev1.Service){
		func(svc *corev1.Service) { w.Make(svc) },
		func(svc *corev1.Service) {
			apiserver.Change(w.World, svc, func(s *corev1.Service) {
				s.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443}}
				s.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"}
			})
		},
		func(*corev1.Service) { node = w.node("n2", "172.30.0.12", nil) },
		func(svc *corev1.Service) { w.Must(w.Delete(w.Context(), svc)) },
	}
	var want []string
	// The 0th time nothing is stopped: that is what the others have to come to.
	for n := 0; ; n++ {
		if n > 60 {
			t.Fatal("it takes more than 60 calls")
		}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: fmt.Sprintf("cart-%03d", n), Annotations: annotations},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class.Spec.ClassName,
				Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		all := append(slices.Clone(beside), svc)
		stopped := false
		for i := 0; i <= target; i++ {
			steps[i](svc)
			p := w.begin(all...)
			if i == target && n > 0 {
				p.stopAt(n)
				stopped = !p.run()
				w.setHook(nil)
				p.kill()
				p = w.begin(all...)
			}
			p.run()
		}
		switch got := w.describe(); {
		case n == 0:
			want = got
		case cmp.Diff(want, got) != "":
			t.Errorf("stopped after call %d, it ends up different (-want +got):\n%s", n, cmp.Diff(want, got))
		}
		w.Must(client.IgnoreNotFound(w.Delete(w.Context(), svc)))
		w.begin(all...).run()
		if err := w.absent(svc.Namespace, svc.Name, &corev1.Service{}); err != nil {
			t.Errorf("stopped after call %d: %v", n, err)
		}
		if node != nil {
			w.Must(w.Delete(w.Context(), node))
			node = nil
			w.begin(beside...).run()
		}
		if diff := cmp.Diff(empty, w.describe()); diff != "" {
			t.Fatalf("stopped after call %d, it leaks (-want +got):\n%s", n, diff)
		}
		if n > 0 && !stopped {
			t.Logf("stopped %d times", n-1)
			if n == 1 {
				t.Error("it made no call at all")
			}
			return
		}
	}
}

// deletedUnseen is a world where the manager was stopped right after it made something, the Service was deleted, another manager runs,
// and the cloud does not show yet what there is.
func deletedUnseen(t *testing.T, edit func(*corev1.Service)) (*world, *corev1.Service) {
	lag := 2 * time.Second
	w := newWorld(t, fake.Options{ReadLag: lag}, nil)
	w.stop()
	w.edits = append(w.edits, func(caps *cloud.Capabilities) { caps.ReadLag = lag })
	svc := w.service("cart", edit)
	p := w.begin(svc)
	p.stopAt(2) // a look for a balancer that is there already, and a creation
	if p.run() || len(w.objects()) != 1 {
		t.Fatalf("the cloud has %+v, want what the first creation made", w.objects())
	}
	w.setHook(nil)
	w.Must(w.Delete(t.Context(), svc))
	w.start()
	return w, svc
}

// TestDeletedBeforeItIsSeen: that nothing is seen must not count as nothing being there, as long as the cloud may not show it yet.
func TestDeletedBeforeItIsSeen(t *testing.T) {
	t.Parallel()
	w, svc := deletedUnseen(t, nil)
	w.gone(svc)
	if n := w.events("cart")[EventDeleteFailed]; n > 0 {
		t.Errorf("%d events call a deletion failed that is merely looked at twice", n)
	}
}
