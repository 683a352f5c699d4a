package endpoints

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m, apiserver.Options{}) }

// world is an API server's namespace for one test.
type world struct{ *apiserver.World }

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{apiserver.New(t)}
}

// start runs the controller for this test's namespace until stop is called or the test ends.
func (w *world) start(r *Reconciler) (stop func()) {
	w.Helper()
	return w.Start(w.Alone(), r.SetupWithManager)
}

// startAndLook starts the controller and waits until it has looked at the only Service there is.
func (w *world) startAndLook(r *Reconciler) (stop func()) {
	w.Helper()
	before := apiserver.Passes(w.T, "success")
	stop = w.start(r)
	w.Eventually(func() error {
		if apiserver.Passes(w.T, "success") == before {
			return fmt.Errorf("the controller has not looked at anything")
		}
		return nil
	})
	return stop
}

func (w *world) service() *corev1.Service {
	w.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	w.Make(s)
	return s
}

func (w *world) pod(name, ip string) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	w.Make(p)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	w.ready(p, true)
	return p
}

func (w *world) ready(p *corev1.Pod, ready bool) {
	w.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	if err := w.Status().Update(w.Context(), p); err != nil {
		w.Fatalf("writing the status of %s: %v", p.Name, err)
	}
}

// get returns the Endpoints named web, or nil.
func (w *world) get() *corev1.Endpoints {
	w.Helper()
	var e corev1.Endpoints
	err := w.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: "web"}, &e)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.Fatal(err)
	}
	return &e
}

// expect waits until the Endpoints hold exactly these addresses.
func (w *world) expect(ready, notReady []string) {
	w.Helper()
	w.Eventually(func() error {
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
	w.Helper()
	w.Eventually(func() error {
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
	if err := w.Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.expect([]string{"10.244.0.2"}, []string{"10.244.0.1"})

	if err := w.Delete(t.Context(), service); err != nil {
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
	waited := apiserver.Passes(t, "requeue_after")
	w.Eventually(func() error {
		if n := apiserver.Passes(t, "requeue_after") - waited; n < 2 {
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
	if err := w.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	w.gone()
}

// TestLeftAlone: Endpoints without our label, with or without a Service, are someone else's.
func TestLeftAlone(t *testing.T) {
	w := newWorld(t)
	service := w.service()
	service.Spec.Selector = nil
	if err := w.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "orphan"} {
		w.Make(&corev1.Endpoints{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name},
			Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}},
		})
	}
	before := apiserver.Passes(t, "success")
	w.start(&Reconciler{})
	w.Eventually(func() error {
		if n := apiserver.Passes(t, "success") - before; n < 2 {
			return fmt.Errorf("want both looked at, got %v passes", n)
		}
		return nil
	})
	for _, name := range []string{"web", "orphan"} {
		key := client.ObjectKey{Namespace: w.Namespace, Name: name}
		var e corev1.Endpoints
		if err := w.Get(t.Context(), key, &e); err != nil || len(e.Subsets) != 1 {
			t.Errorf("%s was touched: %v %v", name, err, e.Subsets)
		}
	}
}

// TestServiceGoneMeanwhile: Endpoints of a Service that was deleted while nobody watched are found at the start.
func TestServiceGoneMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.Make(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.Namespace, Name: "web", Labels: map[string]string{endpoints.ClassicManagedByLabel: endpoints.ClassicManagedBy},
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

// TestNamespaceTerminating: that nothing can be created any more is no error.
func TestNamespaceTerminating(t *testing.T) {
	w := newWorld(t)
	w.service()
	w.Must(w.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}))
	failed := apiserver.Passes(t, "error")
	w.startAndLook(&Reconciler{})()
	if n := apiserver.Passes(t, "error") - failed; n != 0 {
		t.Errorf("%v passes failed", n)
	}
	if e := w.get(); e != nil {
		t.Errorf("Endpoints were created: %v", e)
	}
}

func TestCoexist(t *testing.T) {
	w := newWorld(t)
	service := w.service()
	w.pod("one", "10.244.0.1")
	r := &Reconciler{Client: w.Client, Coexist: true}
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
