package endpointslice

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
)

// editAs changes a slice under a field manager and returns what the API server made of it.
func (w *world) editAs(manager, name string, mutate func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	w.Helper()
	slice := &discoveryv1.EndpointSlice{}
	w.Eventually(func() error {
		if err := w.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, slice); err != nil {
			return err
		}
		mutate(slice)
		return w.Update(w.Context(), slice, client.FieldOwner(manager))
	})
	return slice
}

// conflict returns the condition SliceOwnershipConflict of a Service, or nil.
func (w *world) conflict(service *corev1.Service) *metav1.Condition {
	w.Helper()
	if err := w.Get(w.Context(), client.ObjectKeyFromObject(service), service); err != nil {
		w.Fatal(err)
	}
	return meta.FindStatusCondition(service.Status.Conditions, v1alpha1.ConditionSliceOwnershipConflict)
}

func withoutEndpoints(s *discoveryv1.EndpointSlice) { s.Endpoints = nil }

// TestSecondWriter: one that overwrites slices three times within a minute has them for ten, and no longer.
func TestSecondWriter(t *testing.T) {
	w := newWorld(t)
	others := resting(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	w.start(&Reconciler{Clock: clock, MaxBatchDelay: -1})
	n := w.node("a", "zone-a")
	service := w.service(nil)
	pod := w.pod("one", n.Name, "10.244.0.1")
	one := shown{"10.244.0.1", "one", "zone-a", up, ""}
	w.expect(one)
	name := w.slices()[0].Name
	for range conflictWrites - 1 {
		w.editAs("rival", name, withoutEndpoints)
		w.expect(one)
	}
	if c := w.conflict(service); c != nil {
		t.Fatalf("two foreign writes are a conflict: %v", c)
	}
	last := w.editAs("rival", name, withoutEndpoints)
	w.Eventually(func() error {
		if c := w.conflict(service); c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "rival") {
			return fmt.Errorf("want a conflict with the rival, got %v", c)
		}
		return nil
	})
	w.Eventually(func() error {
		var list eventsv1.EventList
		if err := w.List(t.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
			return err
		}
		if !slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Reason == EventConflict && e.Type == corev1.EventTypeWarning }) {
			return fmt.Errorf("there is no event of it among %d", len(list.Items))
		}
		return nil
	})

	if got := resting(t) - others; got != 1 {
		t.Errorf("%v Services are counted as resting, not 1", got)
	}

	// Almost ten minutes on it still rests, whatever happens to the Pods and whatever the rival does.
	clock.SetTime(clock.Now().Add(conflictRest - time.Second))
	last = w.editAs("rival", name, func(s *discoveryv1.EndpointSlice) { s.Endpoints = last.Endpoints; s.Labels["rival"] = "true" })
	looked := apiserver.Passes(t, "requeue_after")
	w.ready(pod, false)
	w.Eventually(func() error {
		if apiserver.Passes(t, "requeue_after") == looked {
			return fmt.Errorf("the change of the Pod was not looked at")
		}
		return nil
	})
	if all := w.slices(); len(all) != 1 || all[0].ResourceVersion != last.ResourceVersion {
		t.Errorf("slices were written during the rest: %v", all)
	}

	clock.SetTime(clock.Now().Add(time.Second))
	w.ready(pod, true)
	w.expect(one)
	w.Eventually(func() error {
		if c := w.conflict(service); c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonResumed {
			return fmt.Errorf("want the end of the conflict, got %v", c)
		}
		return nil
	})
	if got := resting(t) - others; got != 0 {
		t.Errorf("%v Services are counted as resting, not 0", got)
	}
	w.editAs("rival", name, withoutEndpoints)
	w.expect(one)
}

// resting is what the metric says of how many Services rest.
func resting(t *testing.T) float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "fairlead_endpointslice_ownership_conflicts" {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("there is no such metric")
	return 0
}

// TestDeletedOverAndOver: who deletes the slices over and over is a second writer, too.
func TestDeletedOverAndOver(t *testing.T) {
	w := newWorld(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	w.start(&Reconciler{Clock: clock, MaxBatchDelay: -1})
	n := w.node("a", "zone-a")
	service := w.service(nil)
	w.pod("one", n.Name, "10.244.0.1")
	one := shown{"10.244.0.1", "one", "zone-a", up, ""}
	for range conflictWrites {
		w.expect(one)
		slice := w.slices()[0]
		if err := w.Delete(t.Context(), &slice); err != nil {
			t.Fatal(err)
		}
	}
	w.Eventually(func() error {
		if c := w.conflict(service); c == nil || c.Status != metav1.ConditionTrue {
			return fmt.Errorf("want a conflict, got %v", c)
		}
		return nil
	})
	if n := len(w.slices()); n != 0 {
		t.Errorf("%d slices were made again", n)
	}
}

// TestNoSecondWriter: who annotates a slice over and over, and an earlier leader of ours, fight with nobody.
func TestNoSecondWriter(t *testing.T) {
	cases := map[string]struct {
		manager string
		edit    func(s *discoveryv1.EndpointSlice, i int)
		// repaired: it is written again after each edit.
		repaired bool
	}{
		"Annotation": {"kubectl-annotate", func(s *discoveryv1.EndpointSlice, i int) {
			metav1.SetMetaDataAnnotation(&s.ObjectMeta, "example.com/note", fmt.Sprint(i))
		}, false},
		"EarlierLeader": {FieldManager, func(s *discoveryv1.EndpointSlice, _ int) { s.Endpoints = nil }, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start(&Reconciler{MaxBatchDelay: -1})
			n := w.node("a", "zone-a")
			service := w.service(nil)
			w.pod("one", n.Name, "10.244.0.1")
			one, two := shown{"10.244.0.1", "one", "zone-a", up, ""}, shown{"10.244.0.2", "two", "zone-a", up, ""}
			w.expect(one)
			slice := w.slices()[0].Name
			for i := range 2 * conflictWrites {
				last := w.editAs(tc.manager, slice, func(s *discoveryv1.EndpointSlice) { tc.edit(s, i) })
				w.expect(one)
				if rewritten := w.slices()[0].ResourceVersion != last.ResourceVersion; rewritten != tc.repaired {
					t.Fatalf("edit %d: written again: %v, want %v", i, rewritten, tc.repaired)
				}
			}
			// What comes later is still written, and the edits before it have been seen by then.
			w.pod("two", n.Name, "10.244.0.2")
			w.expect(one, two)
			if c := w.conflict(service); c != nil {
				t.Errorf("that is no conflict: %v", c)
			}
		})
	}
}
