package endpointslice

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
)

const (
	up    = "ready=true serving=true terminating=false"
	down  = "ready=false serving=false terminating=false"
	going = "ready=false serving=true terminating=true"
)

// expect waits until the slices of the namespace hold exactly these endpoints.
func (w *world) expect(want ...shown) {
	w.Helper()
	byAddress := map[string]shown{}
	for _, s := range want {
		byAddress[s.Address] = s
	}
	w.Eventually(func() error {
		got, err := w.show()
		if err != nil {
			return err
		}
		if diff := cmp.Diff(byAddress, got); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
}

func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	a, b := w.node("a", "zone-a"), w.node("b", "zone-b")
	service := w.service(nil)
	w.Eventually(func() error {
		if n := len(w.slices()); n != 1 {
			return fmt.Errorf("want one empty slice, got %d", n)
		}
		return nil
	})
	one, two := w.pod("one", a.Name, "10.244.0.1"), w.pod("two", b.Name, "10.244.1.1")
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""}, shown{"10.244.1.1", "two", "zone-b", up, ""})

	slice := w.slices()[0]
	wantLabels := map[string]string{"team": "a", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: ManagedBy}
	if diff := cmp.Diff(wantLabels, slice.Labels); diff != "" {
		t.Errorf("labels: %s", diff)
	}
	if !metav1.IsControlledBy(&slice, service) {
		t.Errorf("the Service is not the controller: %v", slice.OwnerReferences)
	}
	if slice.Annotations[corev1.EndpointsLastChangeTriggerTime] == "" {
		t.Errorf("no trigger time: %v", slice.Annotations)
	}
	if manager := slice.ManagedFields[0].Manager; manager != FieldManager {
		t.Errorf("field manager %q", manager)
	}

	w.ready(two, false)
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""}, shown{"10.244.1.1", "two", "zone-b", down, ""})

	if err := w.Delete(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	w.expect(shown{"10.244.0.1", "one", "zone-a", going, ""}, shown{"10.244.1.1", "two", "zone-b", down, ""})
	if err := w.Delete(t.Context(), one, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	w.expect(shown{"10.244.1.1", "two", "zone-b", down, ""})

	two.Status.Phase = corev1.PodFailed
	w.ready(two, false)
	w.expect()

	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Labels = map[string]string{"team": "b"} })
	w.Eventually(func() error {
		if got := w.slices()[0].Labels["team"]; got != "b" {
			return fmt.Errorf("the Service's label is %q on the slice", got)
		}
		return nil
	})
}

func TestDualStack(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	service := w.service(func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	})
	w.pod("one", n.Name, "10.244.0.1", "fd00:244::1")
	v4, v6 := shown{"10.244.0.1", "one", "zone-a", up, ""}, shown{"fd00:244::1", "one", "zone-a", up, ""}
	w.expect(v4, v6)
	apiserver.Change(w.World, service, func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = new(corev1.IPFamilyPolicySingleStack), s.Spec.IPFamilies[:1]
		s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
	})
	w.expect(v4)
	w.Eventually(func() error {
		if n := len(w.slices()); n != 1 {
			return fmt.Errorf("%d slices are left of one family", n)
		}
		return nil
	})
}

// TestZones: hints follow a zone label that comes late, and a Pod whose node comes late joins.
func TestZones(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	service := w.service(func(s *corev1.Service) {
		s.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferClose)
	})
	late := w.node("late", "")
	w.pod("one", late.Name, "10.244.0.1")
	w.pod("two", w.Namespace+"-missing", "10.244.0.2")
	w.expect(shown{"10.244.0.1", "one", "", up, ""})

	apiserver.Change(w.World, late, func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelTopologyZone: "zone-a"} })
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, "zone zone-a"})

	missing := w.node("missing", "zone-b")
	one, two := shown{"10.244.0.1", "one", "zone-a", up, "zone zone-a"}, shown{"10.244.0.2", "two", "zone-b", up, "zone zone-b"}
	w.expect(one, two)

	apiserver.Change(w.World, service, func(s *corev1.Service) {
		s.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameNode)
	})
	one.Hints += " node " + late.Name
	two.Hints += " node " + missing.Name
	w.expect(one, two)

	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.TrafficDistribution = nil })
	one.Hints, two.Hints = "", ""
	w.expect(one, two)
}

func TestReleased(t *testing.T) {
	cases := map[string]func(*corev1.Service){
		"Selectorless": func(s *corev1.Service) { s.Spec.Selector = nil },
		"ExternalName": func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}
		},
	}
	for name, mutate := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start(&Reconciler{})
			n := w.node("a", "zone-a")
			service := w.service(nil)
			w.pod("one", n.Name, "10.244.0.1")
			w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
			w.Make(foreignSlice(w, service))
			apiserver.Change(w.World, service, mutate)
			w.Eventually(func() error {
				if all := w.slices(); len(all) != 1 || all[0].Name != "foreign" {
					return fmt.Errorf("want the foreign slice alone, got %d slices", len(all))
				}
				return nil
			})
		})
	}
}

func foreignSlice(w *world, service *corev1.Service) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.Namespace, Name: "foreign",
			Labels: map[string]string{discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: "someone.example.com"},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}},
	}
}

// TestCoexist: where kube-controller-manager serves Services with a selector, nothing is written for any Service.
func TestCoexist(t *testing.T) {
	w := newWorld(t)
	n := w.node("a", "zone-a")
	w.pod("one", n.Name, "10.244.0.1")
	service := w.service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("nowhere") })
	stop := w.startAndLook(&Reconciler{Coexist: true})
	if n := len(w.slices()); n != 0 {
		t.Errorf("%d slices were written", n)
	}
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil {
		t.Fatal(err)
	}
	if len(service.Status.Conditions) != 0 {
		t.Errorf("a condition was written: %v", service.Status.Conditions)
	}
	stop()
	// The same Service, the same state, in replace mode: the silence above was not for want of work.
	stop = w.start(&Reconciler{})
	w.expect(shown{"10.244.0.1", "one", "zone-a", up, ""})
	w.Eventually(func() error {
		if err := w.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil {
			return err
		}
		if len(service.Status.Conditions) != 1 {
			return fmt.Errorf("want one condition, got %v", service.Status.Conditions)
		}
		return nil
	})
	stop()
	// Back in coexist mode the slices are kube-controller-manager's, whatever name we gave them.
	before := w.versions()
	w.startAndLook(&Reconciler{Coexist: true})
	if diff := cmp.Diff(before, w.versions()); diff != "" {
		t.Errorf("slices were written (-before +after):\n%s", diff)
	}
}

func TestPortsResolved(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	service := w.service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("htpp") })
	w.pod("one", n.Name, "10.244.0.1")
	expect := func(status metav1.ConditionStatus, words ...string) {
		t.Helper()
		w.Eventually(func() error {
			if err := w.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil {
				return err
			}
			c := meta.FindStatusCondition(service.Status.Conditions, v1alpha1.ConditionPortsResolved)
			if c == nil || c.Status != status {
				return fmt.Errorf("want %s, got %v", status, c)
			}
			for _, word := range words {
				if !strings.Contains(c.Message, word) {
					return fmt.Errorf("the message does not name %s: %s", word, c.Message)
				}
			}
			return nil
		})
	}
	expect(metav1.ConditionFalse, `"http"`, `"htpp"`, "web/8080/TCP")
	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") })
	expect(metav1.ConditionTrue)
	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.Selector = nil })
	w.Eventually(func() error {
		if err := w.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil {
			return err
		}
		if len(service.Status.Conditions) > 0 {
			return fmt.Errorf("the condition stays: %v", service.Status.Conditions)
		}
		return nil
	})
}

// TestNamespaceTerminating: that nothing can be created any more is no error.
func TestNamespaceTerminating(t *testing.T) {
	w := newWorld(t)
	w.service(nil)
	if err := w.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}); err != nil {
		t.Fatal(err)
	}
	failed := apiserver.Passes(t, "error")
	w.startAndLook(&Reconciler{})()
	if n := apiserver.Passes(t, "error") - failed; n != 0 {
		t.Errorf("%v passes failed", n)
	}
	if n := len(w.slices()); n != 0 {
		t.Errorf("%d slices were created", n)
	}
}

// TestEvents: one event when ports are missing, one when they are found, none in between.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	service := w.service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("htpp") })
	w.pod("one", n.Name, "10.244.0.1")
	events := func(want ...string) {
		t.Helper()
		w.Eventually(func() error {
			var list eventsv1.EventList
			if err := w.List(t.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
				return err
			}
			var got []string
			for _, e := range list.Items {
				if e.ReportingController == FieldManager { // The API server's own repair loops make some, too.
					got = append(got, fmt.Sprintf("%s %s of %s, seen again: %v", e.Type, e.Reason, e.Regarding.Name, e.Series != nil))
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				return fmt.Errorf("-want +got:\n%s", diff)
			}
			return nil
		})
	}
	missing, found := "Warning TargetPortMissing of web, seen again: false", "Normal TargetPortsResolved of web, seen again: false"
	events(missing)
	w.pod("two", n.Name, "10.244.0.2")
	w.Eventually(func() error {
		if all, err := w.show(); err != nil || len(all) != 2 {
			return fmt.Errorf("want two endpoints, got %v: %w", all, err)
		}
		return nil
	})
	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") })
	events(found, missing)
}
