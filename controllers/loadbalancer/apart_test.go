package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// second is the name of a provider beside fake, later in the alphabet.
const second = "second"

// several has a second provider, which starts once that is allowed.
type several struct {
	providers
	second cloud.Provider
	starts <-chan struct{}
}

func (s several) Get(name string) (cloud.Provider, error) {
	if name != second {
		return s.providers.Get(name)
	}
	<-s.starts
	return s.second, nil
}

// TestProvidersAreKeptApart: a cloud that does not answer holds up neither the targets nor the first sweep of another.
func TestProvidersAreKeptApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	other := fake.New(fake.Options{Pools: pools})
	start := func(starts <-chan struct{}) {
		r := &Reconciler{Providers: several{w.providers(), fake.NewProvider(other), starts}, ClusterID: "test", Coexist: true}
		w.stop = w.Start(w.caches, r.SetupWithManager)
	}
	// hang has calls of a method wait until the answer is given.
	hang := func(method string) (hanging <-chan struct{}, answer func()) {
		hangs, answers := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w.setHook(func(call fake.Call) error {
			if call.Method == method && !call.After {
				once.Do(func() { close(hangs) })
				<-answers
			}
			return nil
		})
		answer = sync.OnceFunc(func() { close(answers) })
		t.Cleanup(answer)
		return hangs, answer
	}
	sent := func(want string) {
		t.Helper()
		w.Eventually(func() error {
			for _, o := range other.Objects() {
				if o.Kind == fake.KindTargetSet && slices.Contains(o.Targets, want) {
					return nil
				}
			}
			return fmt.Errorf("the other cloud does not have %s", want)
		})
	}
	at := make(chan struct{})
	close(at)
	start(at)
	class := &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-second"},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + w.Namespace + "-second", Provider: second}}
	w.mine(class)
	w.Make(class)
	t.Cleanup(func() { w.Must(w.Delete(context.Background(), class)) })
	w.node("n1", "172.30.0.11", nil)
	w.service("cart", nil)
	w.service("other", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class.Spec.ClassName })
	w.ready("cart")
	w.ready("other")

	hanging, answer := hang("SyncTargets")
	w.node("n2", "172.30.0.12", nil)
	<-hanging
	sent("172.30.0.12")
	answer()
	w.targets("172.30.0.11", "172.30.0.12")

	// The second provider starts when the first sweep of the other hangs.
	w.stop()
	hanging, answer = hang("List")
	start(hanging)
	t.Cleanup(answer) // before the manager is stopped, which waits for it
	<-hanging
	w.node("n3", "172.30.0.13", nil)
	sent("172.30.0.13")
}

// prioritized notes the priority of lists.
type prioritized struct {
	cloud.Provider
	lists []cloud.Priority
}

func (p *prioritized) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	p.lists = append(p.lists, cloud.PriorityOf(ctx))
	return p.Provider.List(ctx, clusterID)
}

// TestFirstListIsNotLast: Services wait for the first list, which would otherwise come after everything that is made.
func TestFirstListIsNotLast(t *testing.T) {
	m := newMany(t, 1, 1, fake.Options{})
	provider, err := m.Providers.Get(fake.Name)
	if err != nil {
		t.Fatal(err)
	}
	p := &prioritized{Provider: provider}
	for range 2 {
		if _, err := (&sweepReconciler{m.Reconciler}).list(t.Context(), fake.Name, p); err != nil {
			t.Fatal(err)
		}
	}
	if want := []cloud.Priority{cloud.PriorityNormal, cloud.PriorityDrift}; !slices.Equal(p.lists, want) {
		t.Errorf("the lists have the priorities %v, want %v", p.lists, want)
	}
}

// TestOrphansWithoutAClass: a cloud of which nothing but the configuration speaks is looked through from the start.
func TestOrphansWithoutAClass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.orphan("gone", nil)
	w.Must(w.Delete(t.Context(), w.class))
	r := &Reconciler{Providers: w.providers(), ClusterID: "test", DefaultProvider: fake.Name}
	w.stop = w.Start(w.caches, r.SetupWithManager)
	w.Eventually(func() error {
		if seen, ok := r.sightings.Load(fake.Name); !ok || len(seen.(map[cloud.Ref]sighting)) == 0 {
			return errors.New("nobody has seen what is left")
		}
		return nil
	})
}
