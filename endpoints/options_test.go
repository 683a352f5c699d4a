package endpoints

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// names lists the endpoints of a set by Pod or, where there is none, address.
func names(set *Set) string {
	var all []string
	for _, e := range set.Endpoints(discoveryv1.AddressTypeIPv4) {
		name := e.Addresses[0]
		if e.TargetRef != nil {
			name = e.TargetRef.Name
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func TestRank(t *testing.T) {
	steps := []struct {
		reason string
		pod    *corev1.Pod
		gone   string
		want   string
	}{
		{reason: "Alone, a standby serves.", pod: newPod(21), want: "pod-0021"},
		{reason: "While the active one is not ready, both are there.", pod: newPod(1, setReady(false)), want: "pod-0001 pod-0021"},
		{reason: "It gets ready, and the standby goes.", pod: newPod(1), want: "pod-0001"},
		{reason: "A middle rank is not wanted either.", pod: newPod(11), want: "pod-0001"},
		{reason: "A second active one that is not ready is.", pod: newPod(2, setReady(false)), want: "pod-0001 pod-0002"},
		{reason: "The active one ends: the next rank takes over.", pod: newPod(1, terminating), want: "pod-0001 pod-0002 pod-0011"},
		{reason: "It is replaced under its name.", pod: newPod(1), want: "pod-0001 pod-0002"},
		{reason: "Both higher ranks go.", gone: "pod-0011", want: "pod-0001 pod-0002"},
		{reason: "The last ready one goes, and the standby serves.", gone: "pod-0001", want: "pod-0002 pod-0021"},
	}
	set := NewSet(newService(), SetOptions{Rank: func(pod *corev1.Pod) int { return int(pod.Name[len(pod.Name)-2] - '0') }})
	layout := NewLayout(opts(10))
	var existing []*discoveryv1.EndpointSlice
	for _, step := range steps {
		if step.pod != nil {
			set.Put(step.pod, Zone{})
		} else {
			set.Delete(step.gone)
		}
		if diff := cmp.Diff(step.want, names(set)); diff != "" {
			t.Errorf("%s\n-want +got:\n%s", step.reason, diff)
		}
		plan := layout.Plan(set, Pass{})
		existing = apply(t, existing, plan, nil)
		for _, write := range plan.Writes {
			layout.Wrote(write, write.Slice)
		}
		if n := len(existing[0].Endpoints); n != len(strings.Fields(step.want)) {
			t.Errorf("%s\nThe slice holds %d endpoints.", step.reason, n)
		}
	}
}

func TestPutEndpoint(t *testing.T) {
	endpoint := func(addresses ...string) discoveryv1.Endpoint { return discoveryv1.Endpoint{Addresses: addresses} }
	cases := map[string]struct {
		endpoint discoveryv1.Endpoint
		want     string
	}{
		"None":        {endpoint(), "putting endpoint vm: it has no address"},
		"NoAddress":   {endpoint("vm.example.com"), `putting endpoint vm: "vm.example.com" is no IP address`},
		"Mixed":       {endpoint("192.0.2.1", "fd00::1"), "putting endpoint vm: 192.0.2.1 and fd00::1 are of two families; put them under two names"},
		"OtherFamily": {endpoint("fd00::1"), "putting endpoint vm: its addresses are IPv6, the Service has [IPv4]"},
		"Right":       {endpoint("192.0.2.1", "192.0.2.2"), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			set := NewSet(newService(), SetOptions{})
			got := ""
			if err := set.PutEndpoint("vm", tc.endpoint, nil); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestSameEndpointTwice: of two members with one identity the one of the lesser name shows, and the other one takes over.
func TestSameEndpointTwice(t *testing.T) {
	node := func(name string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}, NodeName: &name}
	}
	set := NewSet(newService(), SetOptions{})
	steps := []struct {
		what string
		do   func()
		want string
	}{
		{"b comes", func() { _ = set.PutEndpoint("b", node("b"), nil) }, "b"},
		{"c comes", func() { _ = set.PutEndpoint("c", node("c"), nil) }, "b"},
		{"a comes", func() { _ = set.PutEndpoint("a", node("a"), nil) }, "a"},
		{"b changes", func() { _ = set.PutEndpoint("b", node("b2"), nil) }, "a"},
		{"a goes", func() { set.Delete("a") }, "b2"},
		{"b goes", func() { set.Delete("b") }, "c"},
	}
	for _, step := range steps {
		step.do()
		all := set.Endpoints(discoveryv1.AddressTypeIPv4)
		if len(all) != 1 || *all[0].NodeName != step.want {
			t.Errorf("%s: want %s, got %d endpoints", step.what, step.want, len(all))
		}
	}
	set.Delete("c")
	if len(set.groups) > 0 {
		t.Errorf("an empty set has %d groups", len(set.groups))
	}
}

// TestHint: hints that change rewrite the slice of their endpoint and no others.
func TestHint(t *testing.T) {
	set := setOf(newService(), newPods(0, 30))
	layout := NewLayout(opts(10))
	for _, write := range layout.Plan(set, Pass{}).Writes {
		layout.Wrote(write, write.Slice)
	}
	set.Rerouted()
	ipv4 := discoveryv1.AddressTypeIPv4
	before := set.Endpoints(ipv4)[15]
	name := before.TargetRef.Name
	hints := &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}}}
	set.Hint(name, discoveryv1.AddressTypeIPv6, hints)
	set.Hint("missing", ipv4, hints)
	if plan := layout.Plan(set, Pass{}); len(plan.Writes) > 0 || set.Rerouted() {
		t.Errorf("hints of nobody are written: %v", describe(plan))
	}
	set.Hint(name, ipv4, hints)
	if !set.Rerouted() {
		t.Error("hints of a ready endpoint do not reroute")
	}
	plan := layout.Plan(set, Pass{})
	if diff := cmp.Diff([]string{"Update 10"}, describe(plan)); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	if got := plan.Writes[0].Slice.Endpoints[5].Hints; got != hints {
		t.Errorf("want the hint, got %v", got)
	}
	if before.Hints != nil {
		t.Error("an endpoint that was handed out was changed")
	}
	layout.Wrote(plan.Writes[0], plan.Writes[0].Slice)
	set.Hint(name, ipv4, hints.DeepCopy())
	if plan := layout.Plan(set, Pass{}); len(plan.Writes) > 0 || set.Rerouted() {
		t.Errorf("the same hints are written again: %v", describe(plan))
	}
	set.Delete(name)
	set.Hint(name, ipv4, nil)
	if set.Endpoint(name, ipv4) != nil {
		t.Error("an endpoint came back for a hint")
	}
}

func TestObservations(t *testing.T) {
	version := func(n int, change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		slice := packed(t, newService(), newPods(0, 3), 10)[0].DeepCopy()
		slice.UID, slice.ResourceVersion = "a", fmt.Sprint(n)
		if change != nil {
			change(slice)
		}
		return slice
	}
	cases := map[string]struct {
		reason string
		slice  *discoveryv1.EndpointSlice
		want   Observation
	}{
		"Older":      {"What is older than what is held is nothing new.", version(9, func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil }), Stale},
		"Same":       {"Neither is the same version.", version(10, nil), Stale},
		"Metadata":   {"What others write is not what we write.", version(11, func(s *discoveryv1.EndpointSlice) { s.Annotations = map[string]string{"a": "b"} }), Unchanged},
		"Label":      {"A label is.", version(11, func(s *discoveryv1.EndpointSlice) { delete(s.Labels, "app") }), Changed},
		"Owner":      {"So is the owner.", version(11, func(s *discoveryv1.EndpointSlice) { s.OwnerReferences = nil }), Changed},
		"Port":       {"So are the ports.", version(11, func(s *discoveryv1.EndpointSlice) { s.Ports = nil }), Changed},
		"Endpoint":   {"So is an endpoint.", version(11, func(s *discoveryv1.EndpointSlice) { s.Endpoints[1].Zone = nil }), Changed},
		"Emptied":    {"So is having none.", version(11, func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil }), Changed},
		"Deletion":   {"So is going away.", version(11, func(s *discoveryv1.EndpointSlice) { s.DeletionTimestamp = newPod(1, terminating).DeletionTimestamp }), Changed},
		"AnotherOne": {"So is another object under the name.", version(11, func(s *discoveryv1.EndpointSlice) { s.UID = "b" }), Changed},
		"EarlierOne": {"Unless it was there before.", version(9, func(s *discoveryv1.EndpointSlice) { s.UID = "b" }), Stale},
		"DeletedOne": {"What we deleted does not come back.", version(11, func(s *discoveryv1.EndpointSlice) { s.UID, s.Name = "deleted", "web-other" }), Stale},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			layout := NewLayout(opts(10))
			layout.Observe(version(10, nil))
			layout.Plan(setOf(newService(), newPods(0, 3)), Pass{})
			layout.Wrote(Write{Verb: Delete, Slice: version(5, func(s *discoveryv1.EndpointSlice) { s.UID, s.Name = "deleted", "web-other" })}, nil)
			if got := layout.Observe(tc.slice); got != tc.want {
				t.Errorf("%s Want %s, got %s.", tc.reason, tc.want, got)
			}
			if layout.Remove("deleted") {
				t.Error("a slice that we deleted is held until its event comes")
			}
			if tc.want != Stale && !layout.Remove(tc.slice.UID) {
				t.Error("the slice is not held")
			}
		})
	}
}

// TestObservationsOfEmptySlice: a Service without endpoints has a slice, too, whose labels somebody may change.
func TestObservationsOfEmptySlice(t *testing.T) {
	layout := NewLayout(opts(10))
	slice := packed(t, newService(), nil, 10)[0].DeepCopy()
	slice.UID, slice.ResourceVersion = "a", "10"
	layout.Observe(slice)
	layout.Plan(setOf(newService(), nil), Pass{})
	noted := slice.DeepCopy()
	noted.ResourceVersion, noted.Annotations = "11", map[string]string{"a": "b"}
	if got := layout.Observe(noted); got != Unchanged {
		t.Errorf("an annotation is not what we write, got %s", got)
	}
	relabelled := slice.DeepCopy()
	relabelled.ResourceVersion = "12"
	delete(relabelled.Labels, "app")
	if got := layout.Observe(relabelled); got != Changed {
		t.Errorf("a label is, got %s", got)
	}
	if diff := cmp.Diff([]string{"Update 0"}, describe(layout.Plan(setOf(newService(), nil), Pass{}))); diff != "" {
		t.Errorf("the label is put back: -want +got:\n%s", diff)
	}
}

// TestLayoutForgets: what is gone leaves nothing behind in a layout that is kept.
func TestLayoutForgets(t *testing.T) {
	layout, version := NewLayout(opts(2)), 0
	write := func(plan Plan) {
		for _, w := range plan.Writes {
			if w.Verb == Delete {
				layout.Wrote(w, nil)
				layout.Remove(w.Slice.UID)
				continue
			}
			version++
			made := w.Slice.DeepCopy()
			if made.ResourceVersion = fmt.Sprint(version); made.UID == "" {
				made.UID = types.UID(made.ResourceVersion)
			}
			layout.Wrote(w, made)
		}
	}
	set := setOf(newService(withPorts(servicePort("http", 80, intstr.FromString("web")))), nil)
	for port := int32(1); port <= 20; port++ {
		for _, pod := range newPods(0, 10, withPodPorts(corev1.ContainerPort{Name: "web", ContainerPort: port, Protocol: corev1.ProtocolTCP})) {
			set.Put(pod, zoneOf(pod))
		}
		write(layout.Plan(set, Pass{}))
	}
	for i := range 10 {
		set.Delete(newPod(i).Name)
	}
	write(layout.Plan(set, Pass{}))
	if plan := layout.Plan(set, Pass{}); len(plan.Writes) > 0 {
		t.Errorf("more is to be written: %v", describe(plan))
	}
	if len(layout.bins) != 1 || len(layout.byUID) != 1 || len(layout.shelves)+len(layout.deleted)+len(layout.work)+len(set.groups) > 0 {
		t.Errorf("a layout with one empty slice keeps %d slices, %d UIDs, %d shelves, %d deleted, %d pieces of work and %d groups",
			len(layout.bins), len(layout.byUID), len(layout.shelves), len(layout.deleted), len(layout.work), len(set.groups))
	}
}

// TestNamesOfAnother: a Service that takes the place of one of its name has slices of names of its own, by which they are
// known as its.
func TestNamesOfAnother(t *testing.T) {
	layout := NewLayout(opts(10))
	layout.Plan(setOf(newService(), newPods(0, 1)), Pass{})
	other := newService(func(s *corev1.Service) { s.UID = "another" })
	plan := layout.Plan(setOf(other, newPods(0, 1)), Pass{})
	if len(plan.Writes) != 1 || !HasOwnName(other, plan.Writes[0].Slice) {
		t.Errorf("want one slice with a name of its own, got %v", describe(plan))
	}
}

// TestOverfull: from a slice that holds more than it may, as after a restart with a lower limit, no more is taken than
// that: what leaves it anyway makes room.
func TestOverfull(t *testing.T) {
	layout := NewLayout(opts(3))
	layout.Observe(packed(t, newService(), newPods(0, 5), 5)[0])
	plan := layout.Plan(setOf(newService(), newPods(2, 5)), Pass{})
	if diff := cmp.Diff([]string{"Update 3"}, describe(plan)); diff != "" || plan.Added != 0 || plan.Removed != 2 {
		t.Errorf("want two removed and none added, got %d and %d: -want +got:\n%s", plan.Removed, plan.Added, diff)
	}
}

// TestOneCopy: once the cache has what we wrote, its object is the one that is held.
func TestOneCopy(t *testing.T) {
	layout := NewLayout(opts(10))
	plan := layout.Plan(setOf(newService(), newPods(0, 3)), Pass{})
	answer := plan.Writes[0].Slice.DeepCopy()
	answer.UID, answer.ResourceVersion = "a", "1"
	layout.Wrote(plan.Writes[0], answer)
	cached := answer.DeepCopy()
	layout.Observe(cached)
	if layout.bins[answer.Name].slice != cached {
		t.Error("the answer is held beside the cache's object")
	}
}
