package endpointslice

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/test/apiserver"
)

func TestForeignEdits(t *testing.T) {
	cases := map[string]func(*discoveryv1.EndpointSlice){
		"Endpoints": func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil },
		"Hint": func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "nowhere"}}}
		},
		"Ports":       func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = new(int32(1)) },
		"Label":       func(s *discoveryv1.EndpointSlice) { s.Labels["foreign"] = "true" },
		"ManagedBy":   func(s *discoveryv1.EndpointSlice) { delete(s.Labels, discoveryv1.LabelManagedBy) },
		"ServiceName": func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelServiceName] = "another" },
	}
	for name, mutate := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start(&Reconciler{})
			n := w.node("a", "zone-a")
			w.service(nil)
			w.pod("one", n.Name, "10.244.0.1")
			w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
			before := w.slices()[0]
			edited := before.DeepCopy()
			apiserver.Change(w.World, edited, mutate)
			w.Eventually(func() error {
				all := w.slices()
				if len(all) != 1 {
					return fmt.Errorf("there are %d slices", len(all))
				}
				if diff := cmp.Diff(before.Labels, all[0].Labels) + cmp.Diff(before.Ports, all[0].Ports) +
					cmp.Diff(before.Endpoints, all[0].Endpoints); diff != "" {
					return fmt.Errorf("not repaired:\n%s", diff)
				}
				return nil
			})
		})
	}
}

func TestForeignDeletion(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	w.service(nil)
	w.pod("one", n.Name, "10.244.0.1")
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
	before := w.slices()[0]
	if err := w.Delete(t.Context(), &before); err != nil {
		t.Fatal(err)
	}
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
}

// TestTakeOver: slices as kube-controller-manager leaves them are kept as they are, name and all; another manager that
// takes over from ours rewrites nothing either.
func TestTakeOver(t *testing.T) {
	w := newWorld(t)
	n := w.node("a", "zone-a")
	service := w.service(nil)
	pod := w.pod("one", n.Name, "10.244.0.1")
	tcp := corev1.ProtocolTCP
	w.Make(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.Namespace, Name: "web-x7k2p", GenerateName: "web-",
			Labels:          map[string]string{"team": "a", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: ManagedBy},
			Annotations:     map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-02T03:04:05Z"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: &tcp}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{"10.244.0.1"},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: w.Namespace, Name: "one", UID: pod.UID},
			NodeName:   &n.Name, Zone: new("zone-a"),
		}},
	})
	before := w.versions()
	for range 2 {
		w.startAndLook(&Reconciler{})()
		if after := w.versions(); !maps.Equal(before, after) {
			t.Fatalf("something was written: %v, then %v", before, after)
		}
	}
}

// TestSecondService: the slices of a Service that was deleted are not taken over by one of the same name.
func TestSecondService(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	first := w.service(nil)
	w.pod("one", n.Name, "10.244.0.1")
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
	old := w.slices()[0]
	// Nothing collects garbage here, so that the first slice stays.
	if err := w.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := w.service(nil)
	w.Eventually(func() error {
		all := w.slices()
		if len(all) != 1 || all[0].UID == old.UID || !metav1.IsControlledBy(&all[0], second) {
			return fmt.Errorf("want a new slice of the new Service, got %d", len(all))
		}
		return nil
	})
}

// TestForeignEditsInARow: a slice that somebody takes our label off is followed all the same, so that what happens to it
// before it is repaired does not keep it from being repaired.
func TestForeignEditsInARow(t *testing.T) {
	cases := map[string]func(w *world, name string){
		"Edited": func(w *world, name string) { w.editAs("rival", name, withoutEndpoints) },
		"Deleted": func(w *world, name string) {
			if err := w.Delete(w.Context(), &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}); err != nil {
				w.Fatal(err)
			}
		},
	}
	for name, then := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			// After a write there is time for two edits before the next one.
			w.start(&Reconciler{MaxBatchDelay: 20 * time.Second})
			n := w.node("a", "zone-a")
			w.service(nil)
			w.pod("one", n.Name, "10.244.0.1")
			one := shown{"10.244.0.1", "one", "zone-a", up, ""}
			w.expect(one)
			slice := w.slices()[0].Name
			w.editAs("rival", slice, func(s *discoveryv1.EndpointSlice) { delete(s.Labels, discoveryv1.LabelManagedBy) })
			then(w, slice)
			w.expect(one)
			if n := len(w.slices()); n != 1 {
				t.Errorf("there are %d slices", n)
			}
		})
	}
}
