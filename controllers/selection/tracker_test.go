package selection

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m, apiserver.Options{}) }

// world is an API server's namespace for one test, a cache of it, and a Tracker on that.
type world struct {
	*apiserver.World
	cache    cache.Cache
	tracker  *Tracker
	requests *apiserver.Requests
}

func newWorld(t *testing.T, opts Options) *world {
	t.Helper()
	w := &world{World: apiserver.New(t), tracker: New(opts)}
	w.requests = w.Count()
	var err error
	w.cache, err = cache.New(w.Config, w.Alone())
	w.Must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.cache.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the cache ended with: %v", err)
		}
	})
	return w
}

func (w *world) service(name string, selector map[string]string) *corev1.Service {
	w.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	w.Make(s)
	return s
}

func (w *world) pod(name, node string, set map[string]string) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name, Labels: set},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	w.Make(p)
	return p
}

// listener is a subscriber that writes down what it is told.
type listener struct {
	w     *world
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	wake  bool

	mu    sync.Mutex
	marks map[string]struct{}
}

// subscribe starts a listener and waits until it has synced.
func (w *world) subscribe(wake bool) *listener {
	w.Helper()
	l := &listener{w: w, wake: wake, marks: map[string]struct{}{}}
	l.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	w.Cleanup(l.queue.ShutDown)
	source := w.tracker.Source(w.cache, l.mark)
	if err := source.Start(w.Context(), l.queue); err != nil {
		w.Fatal(err)
	}
	if err := source.WaitForSync(w.Context()); err != nil {
		w.Fatal(err)
	}
	return l
}

func (l *listener) mark(service types.NamespacedName, pod string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks[service.Name+"/"+pod] = struct{}{}
	return l.wake
}

// expect waits until exactly these marks, Service/Pod, were given since the last call.
func (l *listener) expect(want ...string) {
	l.w.Helper()
	slices.Sort(want)
	for deadline := time.Now().Add(2 * time.Minute); ; {
		l.mu.Lock()
		got := slices.Sorted(maps.Keys(l.marks))
		diff := cmp.Diff(want, got)
		if diff == "" {
			clear(l.marks)
		}
		l.mu.Unlock()
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			l.w.Fatalf("still, after two minutes: -want +got:\n%s", diff)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// has fails unless these are the Pods of a Service.
func (w *world) has(service string, want ...string) {
	w.Helper()
	var got []string
	for _, pod := range w.tracker.Pods(types.NamespacedName{Namespace: w.Namespace, Name: service}) {
		got = append(got, pod.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("the Pods of %s: -want +got:\n%s", service, diff)
	}
}

var web, other = map[string]string{"app": "web"}, map[string]string{"app": "other"}

func TestTracker(t *testing.T) {
	const counts = "example.com/counts"
	w := newWorld(t, Options{ServiceAnnotations: []string{counts}})
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}
	w.Make(node)
	t.Cleanup(func() { _ = w.Delete(context.Background(), node) })
	service := w.service("web", web)
	w.service("other", other)
	w.pod("one", node.Name, web)
	first := w.subscribe(true)
	first.expect("web/", "other/")
	w.has("web", "one")
	w.has("other")
	second := w.subscribe(false)
	second.expect("web/", "other/")

	step := func(reason string, do func() error, marks ...string) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatalf("%s: %v", reason, err)
		}
		first.expect(marks...)
		second.expect(marks...)
	}
	two := &corev1.Pod{}
	step("a new Pod", func() error { two = w.pod("two", node.Name, web); return nil }, "web/two")
	step("a Pod that changes hands", func() error {
		two.Labels = other
		return w.Update(t.Context(), two)
	}, "web/two", "other/two")
	w.has("web", "one")
	w.has("other", "two")
	step("a node that gets its zone", func() error {
		node.Labels = map[string]string{corev1.LabelTopologyZone: "zone-a"}
		return w.Update(t.Context(), node)
	}, "web/one", "other/two")
	if zone := w.tracker.Zone(node.Name); zone.Name != "zone-a" {
		t.Errorf("the node is in %q", zone.Name)
	}
	step("a Service whose selector changes", func() error {
		service.Spec.Selector = other
		return w.Update(t.Context(), service)
	}, "web/")
	w.has("web", "two")
	if s := w.tracker.Service(client.ObjectKeyFromObject(service)); s == nil || s.Spec.Selector["app"] != "other" {
		t.Errorf("the Service is not what its mark was for: %v", s)
	}
	step("a Service whose conditions somebody writes", func() error {
		service.Status.Conditions = []metav1.Condition{{Type: "x", Status: metav1.ConditionTrue, Reason: "X", LastTransitionTime: metav1.Now()}}
		return w.Status().Update(t.Context(), service)
	}, "web/")
	step("an annotation that endpoints are made from", func() error {
		service.Annotations = map[string]string{counts: "yes"}
		return w.Update(t.Context(), service)
	}, "web/")
	// What concerns no endpoint marks nothing: had it done so, the step after it would show it.
	service.Annotations["example.com/note"] = "text"
	if err := w.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	// A Pod goes by two events, of which the first gives the marks already: that the second has come, the next Pod shows.
	step("a Pod that goes", func() error {
		err := w.Delete(t.Context(), two, client.GracePeriodSeconds(0))
		w.pod("three", node.Name, other)
		return err
	}, "web/two", "other/two", "web/three", "other/three")
	w.has("other", "three")
	step("a Service that goes", func() error { return w.Delete(t.Context(), service) }, "web/")
	if s := w.tracker.Service(client.ObjectKeyFromObject(service)); s != nil {
		t.Errorf("it is still there: %v", s)
	}
	if n := first.queue.Len(); n != 2 {
		t.Errorf("want both Services queued, got %d", n)
	}
	if n := second.queue.Len(); n != 0 {
		t.Errorf("%d Services were queued that want no pass", n)
	}
}

// TestGivenSelectors: a Service without a selector has the Pods that it is given, and one with its own has none where
// selectors are someone else's.
func TestGivenSelectors(t *testing.T) {
	w := newWorld(t, Options{IgnoreSelectors: true})
	w.service("web", web)
	given := client.ObjectKeyFromObject(w.service("given", nil))
	w.pod("one", "n1", web)
	l := w.subscribe(true)
	l.expect("web/", "given/")
	w.has("web")
	if pods, nodes := w.requests.Of("GET", "pods"), w.requests.Of("GET", "nodes"); pods+nodes > 0 {
		t.Errorf("%d requests for Pods and %d for Nodes were made before anybody wanted them", pods, nodes)
	}
	w.tracker.Follow()
	l.expect("web/", "given/") // Once more, since Pods are known now.
	if !w.tracker.Follow() {
		t.Error("Pods are not known after the marks that say so")
	}
	w.tracker.PutSelectors(given, []labels.Selector{labels.SelectorFromSet(web)})
	l.expect("given/")
	w.has("given", "one")
	w.pod("two", "n1", web)
	l.expect("given/two")
	w.tracker.PutSelectors(given, nil)
	l.expect("given/")
	w.has("given")
}
