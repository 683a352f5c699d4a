package endpointslice

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/test/apiserver"
)

// selectorless makes a Service without a selector.
func (w *world) selectorless(mutate func(*corev1.Service)) *corev1.Service {
	w.Helper()
	return w.service(func(s *corev1.Service) {
		s.Spec.Selector = nil
		if mutate != nil {
			mutate(s)
		}
	})
}

// selector makes an EndpointSelector of Service web.
func (w *world) selector(name string, selector metav1.LabelSelector, change func(*v1alpha1.EndpointSelectorExtension)) *v1alpha1.EndpointSelector {
	w.Helper()
	es := newSelector(selector, change)
	es.Namespace, es.Name = w.Namespace, name
	w.Make(es)
	return es
}

// podOf makes a running, ready Pod with these labels.
func (w *world) podOf(name, node string, labels map[string]string, ip ...string) *corev1.Pod {
	w.Helper()
	pod := w.pod(name, node, ip...)
	apiserver.Change(w.World, pod, func(p *corev1.Pod) { p.Labels = labels })
	return pod
}

// served returns the endpoints of the slices that EndpointSelectors made of Service web, by address, as "pod" or "pod
// down", and fails on one that is there twice.
func (w *world) served() (map[string]string, error) {
	all := map[string]string{}
	for _, s := range w.slices() {
		if s.Labels[discoveryv1.LabelManagedBy] != SelectorManagedBy {
			continue
		}
		for _, e := range s.Endpoints {
			if _, twice := all[e.Addresses[0]]; twice || len(e.Addresses) != 1 {
				return nil, fmt.Errorf("%v is there twice, or not alone", e.Addresses)
			}
			all[e.Addresses[0]] = e.TargetRef.Name
			if !*e.Conditions.Ready {
				all[e.Addresses[0]] += " down"
			}
		}
	}
	return all, nil
}

// expectServed waits until exactly these are served.
func (w *world) expectServed(want map[string]string) {
	w.Helper()
	w.Eventually(func() error {
		got, err := w.served()
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
}

// expectSlices waits until there are that many slices with this mark.
func (w *world) expectSlices(managedBy string, n int) {
	w.Helper()
	w.Eventually(func() error {
		got := 0
		for _, s := range w.slices() {
			if s.Labels[discoveryv1.LabelManagedBy] == managedBy {
				got++
			}
		}
		if got != n {
			return fmt.Errorf("%d slices of %s, want %d", got, managedBy, n)
		}
		return nil
	})
}

// expectStatus waits until the conditions have these reasons and the status, in words, is want.
func (w *world) expectStatus(es *v1alpha1.EndpointSelector, accepted, programmed, want string) {
	w.Helper()
	w.Eventually(func() error {
		if err := w.Get(w.Context(), client.ObjectKeyFromObject(es), es); err != nil {
			return err
		}
		for name, reason := range map[string]string{v1alpha1.ConditionAccepted: accepted, v1alpha1.ConditionProgrammed: programmed} {
			c := meta.FindStatusCondition(es.Status.Conditions, name)
			if c == nil || c.Reason != reason || (c.Status == metav1.ConditionTrue) != (reason == name) || c.ObservedGeneration != es.Generation {
				return fmt.Errorf("%s is %+v, want %s of generation %d", name, c, reason, es.Generation)
			}
		}
		if got := inWords(&es.Status); got != want {
			return fmt.Errorf("status %q, want %q", got, want)
		}
		return nil
	})
}

func inWords(s *v1alpha1.EndpointSelectorStatus) string {
	var words []string
	add := func(name string, n *int32) {
		if n != nil {
			words = append(words, fmt.Sprintf("%d %s", *n, name))
		}
	}
	add("pods", s.Pods)
	add("endpoints", s.Endpoints)
	add("ready", s.ReadyEndpoints)
	add("excluded", s.ExcludedAddresses)
	if s.ActiveGroup != "" {
		words = append(words, "group "+s.ActiveGroup)
	}
	return strings.Join(words, ", ")
}

// expectEvent waits for an event of a reason on an EndpointSelector.
func (w *world) expectEvent(es *v1alpha1.EndpointSelector, reason string) {
	w.Helper()
	w.Eventually(func() error {
		var list eventsv1.EventList
		if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
			return err
		}
		var reasons []string
		for _, e := range list.Items {
			if e.Regarding.Kind == "EndpointSelector" && e.Regarding.Name == es.Name {
				if e.Reason == reason {
					return nil
				}
				reasons = append(reasons, e.Reason)
			}
		}
		return fmt.Errorf("no event %s, but %v", reason, reasons)
	})
}

var blueOrGreen = expression("track", "In", "blue", "green")

// TestSelector: what a Service cannot say itself, said for it; from the first Pod to the end.
func TestSelector(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	service := w.selectorless(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") })
	users := foreignSlice(w, service)
	w.Make(users)
	es := w.selector("web", blueOrGreen, nil)
	w.expectStatus(es, "Accepted", "Programmed", "0 pods, 0 endpoints, 0 ready")

	blue := w.podOf("blue", n.Name, map[string]string{"track": "blue"}, "10.244.0.1")
	w.podOf("green", n.Name, map[string]string{"track": "green"}, "10.244.0.2")
	w.podOf("canary", n.Name, map[string]string{"track": "canary"}, "10.244.0.3")
	w.expectServed(map[string]string{"10.244.0.1": "blue", "10.244.0.2": "green"})
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 2 endpoints, 2 ready")
	for _, s := range w.slices() {
		if s.Name == users.Name {
			continue
		}
		if want := map[string]string{"team": "a", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: SelectorManagedBy}; cmp.Diff(want, s.Labels) != "" {
			t.Errorf("labels %v", s.Labels)
		}
		if !metav1.IsControlledBy(&s, service) || *s.Ports[0].Port != 8080 || *s.Endpoints[0].Zone != "zone-a" {
			t.Errorf("owners %v, ports %v, endpoints %v", s.OwnerReferences, s.Ports, s.Endpoints)
		}
	}

	es.Status.ActiveGroup = "forged"
	if err := w.Status().Update(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	w.ready(blue, false)
	w.expectServed(map[string]string{"10.244.0.1": "blue down", "10.244.0.2": "green"})
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 2 endpoints, 1 ready")

	apiserver.Change(w.World, es, func(es *v1alpha1.EndpointSelector) { es.Spec.Selector = matchLabels("track", "canary") })
	w.expectServed(map[string]string{"10.244.0.3": "canary"})
	w.expectStatus(es, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready")

	if err := w.Delete(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	w.expectSlices(SelectorManagedBy, 0)
	if len(w.slices()) != 1 {
		t.Errorf("the slice that is not ours is gone: %v", w.slices())
	}
}

// TestSelectorService: what becomes of an EndpointSelector follows what becomes of its Service, and back.
func TestSelectorService(t *testing.T) {
	w := newWorld(t)
	stop := w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	w.podOf("blue", n.Name, map[string]string{"track": "blue"}, "10.244.0.1")
	w.podOf("own", n.Name, map[string]string{"app": "web"}, "10.244.0.2")
	es := w.selector("web", blueOrGreen, nil)
	w.expectStatus(es, v1alpha1.ReasonServiceNotFound, v1alpha1.ReasonNotAccepted, "")
	w.expectEvent(es, v1alpha1.ReasonServiceNotFound)

	service := w.selectorless(nil)
	w.expectStatus(es, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready")
	w.expectServed(map[string]string{"10.244.0.1": "blue"})
	w.expectEvent(es, v1alpha1.ReasonAccepted)

	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
	w.expectStatus(es, v1alpha1.ReasonServiceHasSelector, v1alpha1.ReasonNotAccepted, "")
	w.expect(shown{"10.244.0.2", "own", "zone-a", up, ""})
	w.expectSlices(SelectorManagedBy, 0)

	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.Selector = nil })
	w.expectServed(map[string]string{"10.244.0.1": "blue"})
	w.expectSlices(ManagedBy, 0)

	apiserver.Change(w.World, service, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, "example.com", "", nil
	})
	w.expectStatus(es, v1alpha1.ReasonServiceIsExternalName, v1alpha1.ReasonNotAccepted, "")
	w.expectSlices(SelectorManagedBy, 0)

	if err := w.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	w.expectStatus(es, v1alpha1.ReasonServiceNotFound, v1alpha1.ReasonNotAccepted, "")
	w.selectorless(nil)
	w.expectServed(map[string]string{"10.244.0.1": "blue"})
	w.expectStatus(es, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready")

	// It moves to another Service. After a start nothing but that wakes the one before.
	stop()
	w.startAndLook(&Reconciler{})
	w.selectorless(func(s *corev1.Service) { s.Name = "other" })
	apiserver.Change(w.World, es, func(es *v1alpha1.EndpointSelector) { es.Spec.Fairlead.ServiceName = "other" })
	w.Eventually(func() error {
		for _, s := range w.slices() {
			if s.Labels[discoveryv1.LabelServiceName] != "other" {
				return fmt.Errorf("slice %s is left behind", s.Name)
			}
		}
		_, err := w.served()
		return err
	})
	w.expectServed(map[string]string{"10.244.0.1": "blue"})
}

// TestSelectorHolds: while an EndpointSelector cannot be read, what is there stays for as long as its Pods do, also
// over a restart; nothing is added.
func TestSelectorHolds(t *testing.T) {
	w := newWorld(t)
	stop := w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	w.selectorless(nil)
	es := w.selector("web", blueOrGreen, nil)
	one := w.podOf("one", n.Name, map[string]string{"track": "blue"}, "10.244.0.1")
	two := w.podOf("two", n.Name, map[string]string{"track": "blue"}, "10.244.0.2")
	w.expectServed(map[string]string{"10.244.0.1": "one", "10.244.0.2": "two"})

	apiserver.Change(w.World, es, func(es *v1alpha1.EndpointSelector) { es.Spec.Selector = expression("not a key", "Exists") })
	w.expectStatus(es, v1alpha1.ReasonInvalidSelector, v1alpha1.ReasonNotAccepted, "2 endpoints, 2 ready")
	w.expectEvent(es, v1alpha1.ReasonInvalidSelector)
	w.podOf("three", n.Name, map[string]string{"track": "blue"}, "10.244.0.3")
	w.ready(one, false)
	w.expectServed(map[string]string{"10.244.0.1": "one down", "10.244.0.2": "two"})

	stop()
	stop = w.start(&Reconciler{})
	w.ready(one, true)
	w.expectServed(map[string]string{"10.244.0.1": "one", "10.244.0.2": "two"})
	if err := w.Delete(t.Context(), two, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	w.expectServed(map[string]string{"10.244.0.1": "one"})
	w.expectStatus(es, v1alpha1.ReasonInvalidSelector, v1alpha1.ReasonNotAccepted, "1 endpoints, 1 ready")

	apiserver.Change(w.World, es, func(es *v1alpha1.EndpointSelector) { es.Spec.Selector = blueOrGreen })
	w.expectServed(map[string]string{"10.244.0.1": "one", "10.244.0.3": "three"})
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 2 endpoints, 2 ready")

	// Deleted while nobody looks: the slices go at the next start.
	stop()
	if err := w.Delete(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	w.start(&Reconciler{})
	w.expectSlices(SelectorManagedBy, 0)
}

// TestSelectorValidation: what the API server refuses, in words that say what to write.
func TestSelectorValidation(t *testing.T) {
	w := newWorld(t)
	cases := map[string]struct {
		selector metav1.LabelSelector
		change   func(*v1alpha1.EndpointSelectorExtension)
		// refused is a word of the answer; empty: it is taken.
		refused string
	}{
		"Good":        {blueOrGreen, onNetwork("storage/fast_1.x"), ""},
		"Empty":       {metav1.LabelSelector{}, nil, "selector must not be empty"},
		"EmptyLabels": {metav1.LabelSelector{MatchLabels: map[string]string{}}, nil, "selector must not be empty"},
		"Operator":    {expression("a", "Near", "b"), nil, "operator is one of"},
		"InNothing":   {expression("a", "In"), nil, "operator is one of"},
		"ExistsValue": {expression("a", "Exists", "b"), nil, "operator is one of"},
		"NoService":   {blueOrGreen, func(e *v1alpha1.EndpointSelectorExtension) { e.ServiceName = "" }, "serviceName"},
		"ServiceName": {blueOrGreen, func(e *v1alpha1.EndpointSelectorExtension) { e.ServiceName = "a.b" }, "serviceName"},
		"Network":     {blueOrGreen, onNetwork("a/b/c"), "network"},
		"EmptyGroups": {blueOrGreen, inGroups(), ""},
		"RestGroup":   {blueOrGreen, inGroups(v1alpha1.EndpointGroup{Name: "a", Selector: matchLabels("x", "y")}, v1alpha1.EndpointGroup{Name: "rest"}), ""},
		"SameGroup":   {blueOrGreen, inGroups(v1alpha1.EndpointGroup{Name: "a"}, v1alpha1.EndpointGroup{Name: "a"}), "Duplicate"},
		"GroupValues": {blueOrGreen, inGroups(v1alpha1.EndpointGroup{Name: "a", Selector: expression("a", "DoesNotExist", "b")}), "operator is one of"},
		"Values":      {expression("a", "In", values(256)...), nil, ""},
		"TooMany":     {expression("a", "NotIn", values(257)...), nil, "at most 256 values"},
		"GroupTooMany": {blueOrGreen, inGroups(v1alpha1.EndpointGroup{Name: "a", Selector: expression("a", "In", values(257)...)}),
			"at most 256 values"},
		"NamelessOne": {blueOrGreen, inGroups(v1alpha1.EndpointGroup{}), "name"},
		"FiveGroups":  {blueOrGreen, inGroups(v1alpha1.EndpointGroup{Name: "a"}, v1alpha1.EndpointGroup{Name: "b"}, v1alpha1.EndpointGroup{Name: "c"}, v1alpha1.EndpointGroup{Name: "d"}, v1alpha1.EndpointGroup{Name: "e"}), "4"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			es := newSelector(tc.selector, tc.change)
			es.Namespace, es.Name = w.Namespace, strings.ToLower(name)
			err := w.Create(t.Context(), es)
			if tc.refused == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("answered %v, want a refusal with %q", err, tc.refused)
			}
		})
	}
}

func values(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("v", i)
	}
	return all
}

// onFast makes a Pod that claims these addresses on network fast.
func (w *world) onFast(name, node string, ips ...string) *corev1.Pod {
	w.Helper()
	pod := w.pod(name, node, "10.244.1."+name[len(name)-1:], "fd00:244::"+name[len(name)-1:])
	w.claim(pod, "fast", ips...)
	return pod
}

func (w *world) claim(pod *corev1.Pod, network string, ips ...string) {
	w.Helper()
	apiserver.Change(w.World, pod, func(p *corev1.Pod) {
		p.Annotations = map[string]string{endpoints.NetworkStatusAnnotation: fmt.Sprintf(
			`[{"name":"cbr0","ips":["%s"],"default":true},{"name":"%s/%s","interface":"net1","ips":["%s"]}]`,
			p.Status.PodIP, w.Namespace, network, strings.Join(ips, `","`))}
	})
}

// TestSelectorNetwork: addresses on a secondary network, of both families, and none that is not allowed.
func TestSelectorNetwork(t *testing.T) {
	w := newWorld(t)
	stop := w.start(&Reconciler{AllowedCIDRs: secondary.Allowed})
	n := w.node("a", "zone-a")
	w.selectorless(func(s *corev1.Service) { s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack) })
	es := w.selector("web", matchLabels("app", "web"), onNetwork("fast"))
	w.expectStatus(es, "Accepted", "Programmed", "0 pods, 0 endpoints, 0 ready, 0 excluded")

	one := w.onFast("p1", n.Name, "10.20.0.1", "fd00:20::1")
	w.expectServed(map[string]string{"10.20.0.1": "p1", "fd00:20::1": "p1"})
	w.expectStatus(es, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready, 0 excluded")

	// What a tenant may try: the metadata service, a node, a cluster IP, an IPv6 disguise.
	two := w.onFast("p2", n.Name, "169.254.169.254", "192.0.2.1", "10.96.0.1", "::ffff:10.20.0.2", "fd00:20::2")
	w.expectServed(map[string]string{"10.20.0.1": "p1", "fd00:20::1": "p1", "fd00:20::2": "p2"})
	w.expectStatus(es, "Accepted", v1alpha1.ReasonAddressesExcluded, "2 pods, 2 endpoints, 2 ready, 4 excluded")
	w.expectEvent(es, v1alpha1.ReasonAddressesExcluded)

	// The annotation alone changes.
	w.claim(two, "fast", "10.20.0.2")
	w.expectServed(map[string]string{"10.20.0.1": "p1", "fd00:20::1": "p1", "10.20.0.2": "p2"})
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 2 endpoints, 2 ready, 0 excluded")
	w.claim(two, "slow", "10.20.0.2")
	w.expectServed(map[string]string{"10.20.0.1": "p1", "fd00:20::1": "p1"})
	w.expectStatus(es, "Accepted", v1alpha1.ReasonPodsLeftOut, "2 pods, 1 endpoints, 1 ready, 0 excluded")

	// A network that nobody is on: what is there stays, and goes with its Pod.
	apiserver.Change(w.World, es, func(es *v1alpha1.EndpointSelector) { es.Spec.Fairlead.Network = "fsat" })
	w.expectStatus(es, v1alpha1.ReasonNetworkUnknown, v1alpha1.ReasonNotAccepted, "2 pods, 1 endpoints, 1 ready, 0 excluded")
	w.expectEvent(es, v1alpha1.ReasonNetworkUnknown)
	w.expectServed(map[string]string{"10.20.0.1": "p1", "fd00:20::1": "p1"})
	w.claim(two, "fsat", "10.20.0.2")
	w.expectServed(map[string]string{"10.20.0.2": "p2"})
	w.expectStatus(es, "Accepted", v1alpha1.ReasonPodsLeftOut, "2 pods, 1 endpoints, 1 ready, 0 excluded")

	apiserver.Change(w.World, es, func(es *v1alpha1.EndpointSelector) { es.Spec.Fairlead.Network = w.Namespace + "/fast" })
	w.expectServed(map[string]string{"10.20.0.1": "p1", "fd00:20::1": "p1"})
	w.claim(one, "gone", "10.20.0.1")
	w.expectStatus(es, v1alpha1.ReasonNetworkUnknown, v1alpha1.ReasonNotAccepted, "2 pods, 1 endpoints, 1 ready, 0 excluded")
	w.expectServed(map[string]string{"10.20.0.1": "p1"})
	w.claim(one, "fast", "10.20.0.1", "fd00:20::1")
	w.expectServed(map[string]string{"10.20.0.1": "p1", "fd00:20::1": "p1"})

	// The administrator closes it: what is not allowed does not stay.
	stop()
	w.start(&Reconciler{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("fd00:20::/64")}})
	w.expectServed(map[string]string{"fd00:20::1": "p1"})
}

// TestSelectorNetworkNotAllowed: without any allowed range there are no secondary networks, and what was there goes.
func TestSelectorNetworkNotAllowed(t *testing.T) {
	w := newWorld(t)
	stop := w.start(&Reconciler{AllowedCIDRs: secondary.Allowed})
	n := w.node("a", "zone-a")
	w.selectorless(nil)
	es := w.selector("web", matchLabels("app", "web"), onNetwork("fast"))
	w.onFast("p1", n.Name, "10.20.0.1")
	w.expectServed(map[string]string{"10.20.0.1": "p1"})
	stop()
	w.start(&Reconciler{})
	w.expectStatus(es, v1alpha1.ReasonNetworksNotAllowed, v1alpha1.ReasonNotAccepted, "0 endpoints, 0 ready")
	w.expectServed(map[string]string{})
	if c := meta.FindStatusCondition(es.Status.Conditions, "Accepted"); !strings.Contains(c.Message, "allowedCIDRs") {
		t.Errorf("%q does not say what to do", c.Message)
	}
}

// TestSelectorServiceCIDR: a range of cluster IPs that is added later is closed from then on.
func TestSelectorServiceCIDR(t *testing.T) {
	w := newWorld(t)
	r := func() *Reconciler {
		return &Reconciler{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.30.0.0/16")}}
	}
	stop := w.start(r())
	n := w.node("a", "zone-a")
	w.selectorless(nil)
	es := w.selector("web", matchLabels("app", "web"), onNetwork("fast"))
	w.onFast("p1", n.Name, "10.30.1.1")
	w.expectStatus(es, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready, 0 excluded")
	w.expectServed(map[string]string{"10.30.1.1": "p1"})
	stop()
	w.startAndLook(r()) // So that nothing but the range wakes the Service.
	cidr := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.30.1.0/24"}}}
	w.Make(cidr)
	t.Cleanup(func() { _ = w.Delete(context.Background(), cidr) })
	w.expectServed(map[string]string{})
	w.expectStatus(es, "Accepted", v1alpha1.ReasonAddressesExcluded, "1 pods, 0 endpoints, 0 ready, 1 excluded")
}

// TestSelectorTwo: the oldest has the Service, whatever the names; the next takes over in place.
func TestSelectorTwo(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	w.podOf("blue", n.Name, map[string]string{"track": "blue"}, "10.244.0.1")
	w.podOf("green", n.Name, map[string]string{"track": "green"}, "10.244.0.2")
	w.selectorless(nil)
	older := w.selector("z", matchLabels("track", "blue"), nil)
	var younger *v1alpha1.EndpointSelector
	w.Eventually(func() error { // The API server's times are whole seconds.
		younger = w.selector("a", matchLabels("track", "green"), nil)
		if younger.CreationTimestamp.After(older.CreationTimestamp.Time) {
			return nil
		}
		if err := w.Delete(t.Context(), younger); err != nil {
			return err
		}
		return fmt.Errorf("both are of one second")
	})
	w.expectStatus(younger, v1alpha1.ReasonServiceTaken, v1alpha1.ReasonNotAccepted, "")
	w.expectStatus(older, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready")
	w.expectServed(map[string]string{"10.244.0.1": "blue"})
	before := w.slices()
	if err := w.Delete(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	w.expectServed(map[string]string{"10.244.0.2": "green"})
	w.expectStatus(younger, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready")
	if after := w.slices(); len(after) != 1 || after[0].UID != before[0].UID {
		t.Errorf("the slice was replaced: %v, %v", before, after)
	}
}

// TestSelectorStandby: the second group serves only while the first cannot, and the first comes back.
func TestSelectorStandby(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	w.selectorless(nil)
	first := w.podOf("first", n.Name, map[string]string{"app": "db", "role": "active"}, "10.244.0.1")
	second := w.podOf("second", n.Name, map[string]string{"app": "db"}, "10.244.0.2")
	es := w.selector("web", matchLabels("app", "db"), inGroups(
		v1alpha1.EndpointGroup{Name: "active", Selector: matchLabels("role", "active")}, v1alpha1.EndpointGroup{Name: "standby"}))
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 1 endpoints, 1 ready, group active")
	w.expectServed(map[string]string{"10.244.0.1": "first"})

	w.ready(first, false)
	w.expectServed(map[string]string{"10.244.0.1": "first down", "10.244.0.2": "second"})
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 2 endpoints, 1 ready, group standby")
	w.expectEvent(es, EventActiveGroup)

	w.ready(second, false)
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 2 endpoints, 0 ready")
	w.expectEvent(es, EventNoActiveGroup)

	w.ready(first, true)
	w.expectServed(map[string]string{"10.244.0.1": "first"})
	w.expectStatus(es, "Accepted", "Programmed", "2 pods, 1 endpoints, 1 ready, group active")

	// The roles change places, by their labels.
	w.ready(second, true)
	apiserver.Change(w.World, second, func(p *corev1.Pod) { p.Labels["role"] = "active" })
	w.expectServed(map[string]string{"10.244.0.1": "first", "10.244.0.2": "second"})
	apiserver.Change(w.World, first, func(p *corev1.Pod) { delete(p.Labels, "role") })
	w.expectServed(map[string]string{"10.244.0.2": "second"})
}

// TestSelectorCoexist: beside kube-controller-manager EndpointSelectors are all that is served, and all that is ours.
func TestSelectorCoexist(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{Coexist: true})
	n := w.node("a", "zone-a")
	w.podOf("blue", n.Name, map[string]string{"track": "blue"}, "10.244.0.1")
	service := w.selectorless(nil)
	theirs := foreignSlice(w, service)
	theirs.Name, theirs.Labels[discoveryv1.LabelManagedBy] = "theirs", ManagedBy
	theirs.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))}
	w.Make(theirs)
	es := w.selector("web", blueOrGreen, nil)
	w.expectStatus(es, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready")
	w.expectServed(map[string]string{"10.244.0.1": "blue"})

	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.Selector = map[string]string{"track": "blue"} })
	w.expectStatus(es, v1alpha1.ReasonServiceHasSelector, v1alpha1.ReasonNotAccepted, "")
	w.expectSlices(SelectorManagedBy, 0)
	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.Selector = nil })
	w.expectServed(map[string]string{"10.244.0.1": "blue"})
	if got := w.slices(); !slices.ContainsFunc(got, func(s discoveryv1.EndpointSlice) bool {
		return s.UID == theirs.UID && s.ResourceVersion == theirs.ResourceVersion
	}) {
		t.Errorf("kube-controller-manager's slice was touched: %v", got)
	}
}

// TestCoexistWithoutSelectors: in coexist mode nobody asks for Pods and Nodes before there is an EndpointSelector, and
// after a restart slices do not lose their endpoints while these are being learnt.
func TestCoexistWithoutSelectors(t *testing.T) {
	w := newWorld(t)
	requests := w.Count()
	n := w.node("a", "zone-a")
	w.podOf("blue", n.Name, map[string]string{"track": "blue"}, "10.244.0.1")
	w.service(func(s *corev1.Service) { s.Name = "theirs" })
	before := apiserver.Passes(t, "success")
	stop := w.start(&Reconciler{Coexist: true})
	w.selectorless(nil)
	w.Eventually(func() error {
		if apiserver.Passes(t, "success") < before+2 {
			return fmt.Errorf("the Services were not looked at")
		}
		return nil
	})
	for _, resource := range []string{"pods", "nodes"} {
		if n := requests.Of("GET", resource); n > 0 {
			t.Errorf("%d requests for %s were made, for nothing", n, resource)
		}
	}
	es := w.selector("web", blueOrGreen, nil)
	w.expectStatus(es, "Accepted", "Programmed", "1 pods, 1 endpoints, 1 ready")
	w.expectServed(map[string]string{"10.244.0.1": "blue"})

	stop()
	generations := func() (all []int64) {
		for _, slice := range w.slices() {
			all = append(all, slice.Generation)
		}
		return all
	}
	written := generations()
	w.start(&Reconciler{Coexist: true})
	w.podOf("green", n.Name, map[string]string{"track": "green"}, "10.244.0.2")
	w.expectServed(map[string]string{"10.244.0.1": "blue", "10.244.0.2": "green"})
	if got := generations(); len(got) != 1 || got[0] != written[0]+1 {
		t.Errorf("one endpoint came, and the slices went from generation %v to %v", written, got)
	}
}

// TestForgedStatus: a status that somebody else writes is put right, at once and after a restart.
func TestForgedStatus(t *testing.T) {
	w := newWorld(t)
	stop := w.start(&Reconciler{})
	n := w.node("a", "zone-a")
	w.selectorless(nil)
	w.podOf("one", n.Name, map[string]string{"app": "web"}, "10.244.0.1")
	es := w.selector("web", metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, nil)
	const want = "1 pods, 1 endpoints, 1 ready"
	w.expectStatus(es, v1alpha1.ReasonAccepted, v1alpha1.ReasonProgrammed, want)
	forge := func() {
		w.Eventually(func() error {
			if err := w.Get(t.Context(), client.ObjectKeyFromObject(es), es); err != nil {
				return err
			}
			es.Status.Endpoints, es.Status.ActiveGroup = new(int32(99)), "none"
			es.Status.Conditions = es.Status.Conditions[:1]
			return w.Status().Update(t.Context(), es)
		})
	}
	for range 2 {
		forge()
		w.expectStatus(es, v1alpha1.ReasonAccepted, v1alpha1.ReasonProgrammed, want)
	}
	stop()
	forge()
	w.start(&Reconciler{})
	w.expectStatus(es, v1alpha1.ReasonAccepted, v1alpha1.ReasonProgrammed, want)
	forge()
	w.expectStatus(es, v1alpha1.ReasonAccepted, v1alpha1.ReasonProgrammed, want)
}
