package endpointslice

import (
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/test/apiserver"
)

// TestBlindCache: the controller goes on with what it wrote itself while no event of a slice reaches its cache.
func TestBlindCache(t *testing.T) {
	w := newWorld(t)
	var gate sync.RWMutex
	w.onSlice = func() {
		gate.RLock()
		defer gate.RUnlock()
	}
	stop := w.start(&Reconciler{MaxEndpointsPerSlice: 2})
	n := w.node("a", "zone-a")
	gate.Lock()
	open := sync.OnceFunc(gate.Unlock)
	t.Cleanup(open)
	w.service(nil)
	one, two := w.pod("one", n.Name, "10.244.0.1"), w.pod("two", n.Name, "10.244.0.2")
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""}, shown{"10.244.0.2", "two", "zone-a", up, ""})
	w.ready(one, false)
	w.expect(shown{"10.244.0.1", "one", "zone-a", down, ""}, shown{"10.244.0.2", "two", "zone-a", up, ""})
	three := shown{"10.244.0.3", "three", "zone-a", up, ""}
	w.pod("three", n.Name, "10.244.0.3")
	w.expect(shown{"10.244.0.1", "one", "zone-a", down, ""}, shown{"10.244.0.2", "two", "zone-a", up, ""}, three)
	for _, pod := range []*corev1.Pod{one, two} {
		if err := w.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(three)
	w.Eventually(func() error {
		if n := len(w.slices()); n != 1 {
			return fmt.Errorf("one endpoint is in %d slices", n)
		}
		return nil
	})
	before := w.versions()
	open()
	w.pod("four", n.Name, "10.244.0.4")
	w.expect(three, shown{"10.244.0.4", "four", "zone-a", up, ""})
	stop()
	if after := w.versions(); len(after) != len(before) {
		t.Errorf("want the slice of before, got %v after %v", after, before)
	}
}

// TestTwoManagers: two that work at the same time, each from a cache that does not see the other's writes at once,
// make no duplicates and lose nothing.
func TestTwoManagers(t *testing.T) {
	w := newWorld(t)
	n := w.node("a", "zone-a")
	for range 2 {
		w.start(&Reconciler{MaxEndpointsPerSlice: 3, MaxBatchDelay: -1})
	}
	w.service(nil)
	var want []shown
	var pods []*corev1.Pod
	for i := range 20 {
		ip := fmt.Sprintf("10.244.0.%d", i+1)
		pods = append(pods, w.pod(fmt.Sprintf("p%d", i), n.Name, ip))
		want = append(want, shown{ip, fmt.Sprintf("p%d", i), "zone-a", up, ""})
	}
	w.expect(want...)
	for _, pod := range pods[5:] {
		if err := w.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(want[:5]...)
	w.Eventually(func() error {
		if n := len(w.slices()); n != 2 {
			return fmt.Errorf("5 endpoints in slices of 3 are in %d slices", n)
		}
		return nil
	})
}

// TestCoalesced: the first change does not wait, those that follow are written together, and the last is not lost. The
// clock stands still until the test moves it.
func TestCoalesced(t *testing.T) {
	w := newWorld(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	n := w.node("a", "zone-a")
	pod := w.pod("one", n.Name, "10.244.0.1")
	w.service(nil)
	w.start(&Reconciler{Clock: clock})
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
	for i := range 10 {
		w.ready(pod, i%2 == 1)
	}
	w.ready(pod, false)
	waited := apiserver.Passes(t, "requeue_after")
	w.Eventually(func() error {
		if n := apiserver.Passes(t, "requeue_after") - waited; n < 3 {
			return fmt.Errorf("the changes were not looked at: %v passes", n)
		}
		return nil
	})
	if generation := w.slices()[0].Generation; generation != 1 {
		t.Errorf("no time has gone by, and %d more writes were done", generation-1)
	}
	clock.SetTime(clock.Now().Add(DefaultMaxBatchDelay))
	w.expect(shown{"10.244.0.1", "one", "zone-a", down, ""})
	if generation := w.slices()[0].Generation; generation != 2 {
		t.Errorf("11 changes were written in %d writes", generation-1)
	}
}

// TestIdle: what changes nothing for traffic waits for a second, unless something that does comes before. The clock
// stands still until the test moves it.
func TestIdle(t *testing.T) {
	cases := map[string]struct {
		reason string
		then   func(w *world, clock *clocktesting.FakePassiveClock, one *corev1.Pod)
		want   shown
	}{
		"Alone": {"After a second it is written by itself.",
			func(_ *world, clock *clocktesting.FakePassiveClock, _ *corev1.Pod) {
				clock.SetTime(clock.Now().Add(idle))
			},
			shown{"10.244.0.1", "one", "zone-a", up, ""}},
		"Together": {"Something comes that matters, and takes it along.",
			func(w *world, _ *clocktesting.FakePassiveClock, one *corev1.Pod) { w.ready(one, false) },
			shown{"10.244.0.1", "one", "zone-a", down, ""}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			clock := clocktesting.NewFakePassiveClock(time.Now())
			n := w.node("a", "zone-a")
			one, two := w.pod("one", n.Name, "10.244.0.1"), w.pod("two", n.Name, "10.244.0.2")
			w.ready(two, false)
			service := w.service(nil)
			r := &Reconciler{Clock: clock}
			w.startAndLook(r) // The write shows before the pass is over, and its pause begins.
			w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""}, shown{"10.244.0.2", "two", "zone-a", down, ""})
			clock.SetTime(clock.Now().Add(time.Minute)) // So that nothing waits for a pause.

			w.Remove(two)
			w.Eventually(func() error {
				if r.Tracker.Pod(client.ObjectKeyFromObject(service), two.Name) != nil {
					return fmt.Errorf("the deletion is not known")
				}
				return nil
			})
			waited := apiserver.Passes(t, "requeue_after")
			w.Eventually(func() error {
				// One may have begun before it was known.
				if apiserver.Passes(t, "requeue_after") < waited+2 {
					return fmt.Errorf("the deletion was not looked at")
				}
				return nil
			})
			if generation := w.slices()[0].Generation; generation != 1 {
				t.Errorf("that a Pod is gone that was not ready was written at once")
			}
			tc.then(w, clock, one)
			w.expect(tc.want)
			if generation := w.slices()[0].Generation; generation != 2 {
				t.Errorf("%s It took %d writes.", tc.reason, generation-1)
			}
		})
	}
}

// TestVersionsThatGoBack: where the API server's versions are older than what is remembered, as after etcd was restored
// from a backup, every write is refused, until what is remembered is forgotten.
func TestVersionsThatGoBack(t *testing.T) {
	w := newWorld(t)
	r := &Reconciler{MaxBatchDelay: -1}
	w.start(r)
	n := w.node("a", "zone-a")
	service := w.service(nil)
	pod := w.pod("one", n.Name, "10.244.0.1")
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
	later := w.slices()[0].DeepCopy()
	later.ResourceVersion = "999999999999"
	st := r.states.Find(client.ObjectKeyFromObject(service))
	st.inbox.mu.Lock()
	st.inbox.slices = append(st.inbox.slices, sliceEvent{slice: later})
	st.inbox.mu.Unlock()
	w.ready(pod, false)
	w.expect(shown{"10.244.0.1", "one", "zone-a", down, ""})
}
