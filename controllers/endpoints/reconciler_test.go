package endpoints

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairlead/fairlead/endpoints"
)

// api is the API server that all tests of the package share; each works in a namespace of its own.
var api *rest.Config

func TestMain(m *testing.M) {
	log.SetLogger(klog.Background())
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		os.Exit(m.Run())
	}
	env := &envtest.Environment{}
	var err error
	if api, err = env.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "starting the API server:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := env.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		code = 1
	}
	os.Exit(code)
}

// world is one test's namespace and its view of the API server, past every cache.
type world struct {
	t         *testing.T
	client    client.Client
	namespace string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Asked here, not by way of api: only what is read after the tests began makes a cached result stale.
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("no API server: run `make controlplane` and set KUBEBUILDER_ASSETS to the folder that it prints")
	}
	c, err := client.New(api, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}
	w := &world{t: t, client: c}
	w.create(ns)
	w.namespace = ns.Name
	return w
}

// start runs the controller for this test's namespace until stop is called or the test ends.
func (w *world) start(r *Reconciler) (stop func()) {
	w.t.Helper()
	mgr, err := ctrl.NewManager(api, ctrl.Options{
		Metrics: metricsserver.Options{BindAddress: "0"},
		// Every test names its controller alike.
		Controller: config.Controller{SkipNameValidation: new(true)},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{w.namespace: {}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.SetupWithManager(mgr); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		w.t.Fatal("the cache does not fill")
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the manager ended with: %v", err)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// passes counts the controller's passes so far, of all tests, by how they ended: success, requeue_after, error.
func passes(t *testing.T, result string) float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != "controller_runtime_reconcile_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "result" && label.GetValue() == result {
					total += m.GetCounter().GetValue()
				}
			}
		}
	}
	return total
}

// startAndLook starts the controller and waits until it has looked at the only Service there is.
func (w *world) startAndLook(r *Reconciler) (stop func()) {
	w.t.Helper()
	before := passes(w.t, "success")
	stop = w.start(r)
	w.eventually(func() error {
		if passes(w.t, "success") == before {
			return fmt.Errorf("the controller has not looked at anything")
		}
		return nil
	})
	return stop
}

func (w *world) create(obj client.Object) {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), obj); err != nil {
		w.t.Fatalf("creating %T: %v", obj, err)
	}
}

// eventually polls until check has nothing to say.
func (w *world) eventually(check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("still, after a minute: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) service() *corev1.Service {
	w.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	w.create(s)
	return s
}

func (w *world) pod(name, ip string) *corev1.Pod {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	w.create(p)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	w.ready(p, true)
	return p
}

func (w *world) ready(p *corev1.Pod, ready bool) {
	w.t.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	if err := w.client.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatalf("writing the status of %s: %v", p.Name, err)
	}
}

// get returns the Endpoints named web, or nil.
func (w *world) get() *corev1.Endpoints {
	w.t.Helper()
	var e corev1.Endpoints
	err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "web"}, &e)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &e
}

// expect waits until the Endpoints hold exactly these addresses.
func (w *world) expect(ready, notReady []string) {
	w.t.Helper()
	w.eventually(func() error {
		e := w.get()
		if e == nil {
			return fmt.Errorf("there are no Endpoints")
		}
		var gotReady, gotNotReady []string
		for _, s := range e.Subsets {
			for _, a := range s.Addresses {
				gotReady = append(gotReady, a.IP)
			}
			for _, a := range s.NotReadyAddresses {
				gotNotReady = append(gotNotReady, a.IP)
			}
		}
		if diff := cmp.Diff(ready, gotReady) + cmp.Diff(notReady, gotNotReady); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
}

func (w *world) gone() {
	w.t.Helper()
	w.eventually(func() error {
		if w.get() != nil {
			return fmt.Errorf("the Endpoints are still there")
		}
		return nil
	})
}

func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	service := w.service()
	w.expect(nil, nil)
	one := w.pod("one", "10.244.0.1")
	w.pod("two", "10.244.0.2")
	w.expect([]string{"10.244.0.1", "10.244.0.2"}, nil)
	w.ready(one, false)
	w.expect([]string{"10.244.0.2"}, []string{"10.244.0.1"})

	e := w.get()
	want := map[string]string{"team": "a", endpoints.ClassicManagedByLabel: endpoints.ClassicManagedBy}
	if diff := cmp.Diff(want, e.Labels); diff != "" {
		t.Error(diff)
	}
	if manager := e.ManagedFields[0].Manager; manager != FieldManager {
		t.Errorf("field manager %q", manager)
	}

	e.Subsets = nil
	if err := w.client.Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.expect([]string{"10.244.0.2"}, []string{"10.244.0.1"})

	if err := w.client.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	w.gone()
}

// TestAdditionsWait: what only adds addresses waits three times as long as other changes, and no longer than these when
// such a one comes. The clock stands still until the test moves it.
func TestAdditionsWait(t *testing.T) {
	const delay = 100 * time.Millisecond
	w := newWorld(t)
	begin := time.Now()
	clock := clocktesting.NewFakePassiveClock(begin)
	w.service()
	one := w.pod("one", "10.244.0.1")
	w.startAndLook(&Reconciler{Clock: clock, MaxBatchDelay: delay})
	w.expect([]string{"10.244.0.1"}, nil)

	w.pod("two", "10.244.0.2")
	clock.SetTime(begin.Add(2 * delay))
	waited := passes(t, "requeue_after")
	w.eventually(func() error {
		if n := passes(t, "requeue_after") - waited; n < 2 {
			return fmt.Errorf("the addition was not looked at: %v passes", n)
		}
		return nil
	})
	w.expect([]string{"10.244.0.1"}, nil)
	clock.SetTime(begin.Add(additionsWait * delay))
	w.expect([]string{"10.244.0.1", "10.244.0.2"}, nil)

	w.pod("three", "10.244.0.3")
	w.ready(one, false)
	clock.SetTime(begin.Add((additionsWait + 1) * delay))
	w.expect([]string{"10.244.0.2", "10.244.0.3"}, []string{"10.244.0.1"})
}

func TestSelectorTakenAway(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	service := w.service()
	w.pod("one", "10.244.0.1")
	w.expect([]string{"10.244.0.1"}, nil)
	service.Spec.Selector = nil
	if err := w.client.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	w.gone()
}

// TestLeftAlone: Endpoints without our label, with or without a Service, are someone else's.
func TestLeftAlone(t *testing.T) {
	w := newWorld(t)
	service := w.service()
	service.Spec.Selector = nil
	if err := w.client.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "orphan"} {
		w.create(&corev1.Endpoints{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
			Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}},
		})
	}
	before := passes(t, "success")
	w.start(&Reconciler{})
	w.eventually(func() error {
		if n := passes(t, "success") - before; n < 2 {
			return fmt.Errorf("want both looked at, got %v passes", n)
		}
		return nil
	})
	for _, name := range []string{"web", "orphan"} {
		key := client.ObjectKey{Namespace: w.namespace, Name: name}
		var e corev1.Endpoints
		if err := w.client.Get(t.Context(), key, &e); err != nil || len(e.Subsets) != 1 {
			t.Errorf("%s was touched: %v %v", name, err, e.Subsets)
		}
	}
}

// TestServiceGoneMeanwhile: Endpoints of a Service that was deleted while nobody watched are found at the start.
func TestServiceGoneMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.create(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.namespace, Name: "web", Labels: map[string]string{endpoints.ClassicManagedByLabel: endpoints.ClassicManagedBy},
	}})
	w.start(&Reconciler{})
	w.gone()
}

func TestNothingToWrite(t *testing.T) {
	w := newWorld(t)
	stop := w.start(&Reconciler{})
	w.service()
	w.pod("one", "10.244.0.1")
	w.expect([]string{"10.244.0.1"}, nil)
	stop()
	before := w.get().ResourceVersion
	w.startAndLook(&Reconciler{})()
	if after := w.get().ResourceVersion; after != before {
		t.Error("written, though nothing differs")
	}
}

func TestCoexist(t *testing.T) {
	w := newWorld(t)
	service := w.service()
	w.pod("one", "10.244.0.1")
	r := &Reconciler{Client: w.client, Coexist: true}
	w.start(r)
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(service)}); err != nil {
		t.Fatal(err)
	}
	if e := w.get(); e != nil {
		t.Errorf("Endpoints were written: %v", e)
	}
	w.start(&Reconciler{})
	w.expect([]string{"10.244.0.1"}, nil)
}
