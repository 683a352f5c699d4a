package endpoints

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var mirrorOptions = MirrorOptions{ManagedBy: managedBy, MaxEndpoints: 4}

func newSource(subsets ...corev1.EndpointSubset) *corev1.Endpoints {
	return &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "endpoints-uid", Labels: map[string]string{"team": "a"}},
		Subsets:    subsets,
	}
}

// sub returns a subset with the ports, as name:number, and addresses, those that begin with ! not ready.
func sub(ports string, addresses ...string) corev1.EndpointSubset {
	var subset corev1.EndpointSubset
	for _, port := range strings.Fields(ports) {
		p := corev1.EndpointPort{Protocol: corev1.ProtocolTCP}
		p.Name, _, _ = strings.Cut(port, ":")
		_, _ = fmt.Sscanf(port[len(p.Name):], ":%d", &p.Port)
		subset.Ports = append(subset.Ports, p)
	}
	for _, address := range addresses {
		if ip, notReady := strings.CutPrefix(address, "!"); notReady {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
		} else {
			subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: ip})
		}
	}
	return subset
}

// showMirrored returns one line for each slice: its family, ports, and addresses as sub takes them, sorted.
func showMirrored(all []*discoveryv1.EndpointSlice) []string {
	lines := []string{}
	for _, slice := range all {
		line := string(slice.AddressType)
		for _, port := range slice.Ports {
			line += fmt.Sprintf(" %s:%d", *port.Name, *port.Port)
		}
		var addresses []string
		for _, e := range slice.Endpoints {
			address := e.Addresses[0]
			if !*e.Conditions.Ready {
				address = "!" + address
			}
			addresses = append(addresses, address)
		}
		slices.Sort(addresses)
		lines = append(lines, line+" = "+strings.Join(addresses, " "))
	}
	slices.Sort(lines)
	return lines
}

// carryOut returns the slices after a plan, as an API server would store them.
func carryOut(all []*discoveryv1.EndpointSlice, writes []Write) []*discoveryv1.EndpointSlice {
	for _, write := range writes {
		all = carryOutOne(all, write)
	}
	return all
}

func carryOutOne(all []*discoveryv1.EndpointSlice, write Write) []*discoveryv1.EndpointSlice {
	after := slices.DeleteFunc(slices.Clone(all), func(s *discoveryv1.EndpointSlice) bool { return s.Name == write.Slice.Name })
	if write.Verb == Delete {
		return after
	}
	if write.Verb == Create {
		if len(after) != len(all) {
			panic("creating " + write.Slice.Name + ", which exists")
		}
		write.Slice.UID = types.UID("uid-of-" + write.Slice.Name)
	}
	return append(after, write.Slice)
}

func verbs(writes []Write) string {
	var all []string
	for _, write := range writes {
		all = append(all, string(write.Verb))
	}
	return strings.Join(all, " ")
}

func TestMirrorContent(t *testing.T) {
	for name, tc := range map[string]struct {
		reason           string
		subsets          []corev1.EndpointSubset
		want             []string
		invalid, skipped int
	}{
		"Empty":        {"unlike a Service with a selector, nothing has no slice", nil, []string{}, 0, 0},
		"NoAddresses":  {"ports alone are nothing", []corev1.EndpointSubset{sub("pg:5432")}, []string{}, 0, 0},
		"One":          {"", []corev1.EndpointSubset{sub("pg:5432", "1.1.1.1", "!1.1.1.2")}, []string{"IPv4 pg:5432 = !1.1.1.2 1.1.1.1"}, 0, 0},
		"NoPorts":      {"a headless Service may have none", []corev1.EndpointSubset{sub("", "1.1.1.1")}, []string{"IPv4 = 1.1.1.1"}, 0, 0},
		"TwoFamilies":  {"one subset, a slice for each family", []corev1.EndpointSubset{sub("pg:1", "1.1.1.1", "fd00:0::1")}, []string{"IPv4 pg:1 = 1.1.1.1", "IPv6 pg:1 = fd00::1"}, 0, 0},
		"Odd":          {"addresses are written in the usual form", []corev1.EndpointSubset{sub("pg:1", "010.1.1.1", "::ffff:1.1.1.2")}, []string{"IPv4 pg:1 = 1.1.1.2 10.1.1.1"}, 0, 0},
		"Invalid":      {"what is no address is left out and counted", []corev1.EndpointSubset{sub("pg:1", "db.example.com", "1.1.1.1", "!300.1.1.1")}, []string{"IPv4 pg:1 = 1.1.1.1"}, 2, 0},
		"TooMany":      {"ready ones first, over both families", []corev1.EndpointSubset{sub("pg:1", "fd00::1", "1.1.1.3", "!1.1.1.1", "!1.1.1.2", "!fd00::2")}, []string{"IPv4 pg:1 = !1.1.1.1 !1.1.1.2 1.1.1.3", "IPv6 pg:1 = fd00::1"}, 0, 1},
		"TooManyEach":  {"the limit is each subset's", []corev1.EndpointSubset{sub("a:1", "1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5"), sub("b:2", "2.1.1.1", "2.1.1.2", "2.1.1.3", "2.1.1.4")}, []string{"IPv4 a:1 = 1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4", "IPv4 b:2 = 2.1.1.1 2.1.1.2 2.1.1.3 2.1.1.4"}, 0, 1},
		"InvalidNoUse": {"what is left out for its form takes no room", []corev1.EndpointSubset{sub("a:1", "(none)", "1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4")}, []string{"IPv4 a:1 = 1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4"}, 1, 0},
		"Merged":       {"subsets with the same ports are one slice", []corev1.EndpointSubset{sub("a:1 b:2", "1.1.1.1"), sub("b:2 a:1", "!1.1.1.2")}, []string{"IPv4 a:1 b:2 = !1.1.1.2 1.1.1.1"}, 0, 0},
		"Joined":       {"ports with the same addresses are one slice", []corev1.EndpointSubset{sub("a:1", "1.1.1.1"), sub("b:2", "1.1.1.1")}, []string{"IPv4 a:1 b:2 = 1.1.1.1"}, 0, 0},
		"Overlapping":  {"a port that more addresses have is one of its own", []corev1.EndpointSubset{sub("a:1 b:2", "1.1.1.1"), sub("b:2", "1.1.1.2")}, []string{"IPv4 a:1 = 1.1.1.1", "IPv4 b:2 = 1.1.1.1 1.1.1.2"}, 0, 0},
		"TwiceUnready": {"not ready wins", []corev1.EndpointSubset{sub("a:1", "1.1.1.1"), sub("a:1", "!1.1.1.1")}, []string{"IPv4 a:1 = !1.1.1.1"}, 0, 0},
		"ByReadiness":  {"ports whose addresses differ in readiness stay apart", []corev1.EndpointSubset{sub("a:1", "1.1.1.1"), sub("b:2", "!1.1.1.1")}, []string{"IPv4 a:1 = 1.1.1.1", "IPv4 b:2 = !1.1.1.1"}, 0, 0},
		"PortTwice":    {"a port is listed once", []corev1.EndpointSubset{sub("a:1 a:1", "1.1.1.1")}, []string{"IPv4 a:1 = 1.1.1.1"}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			source := newSource(tc.subsets...)
			before := source.DeepCopy()
			plan := Mirror(source, nil, mirrorOptions)
			after := carryOut(nil, plan.Writes)
			if diff := cmp.Diff(tc.want, showMirrored(after)); diff != "" {
				t.Errorf("%s: slices (-want +got):\n%s", tc.reason, diff)
			}
			if plan.Skipped != tc.skipped || plan.Invalid != tc.invalid {
				t.Errorf("%d invalid and %d skipped, want %d and %d", plan.Invalid, plan.Skipped, tc.invalid, tc.skipped)
			}
			if diff := cmp.Diff(before, source); diff != "" {
				t.Errorf("the source was changed:\n%s", diff)
			}
			if again := Mirror(source, after, mirrorOptions); len(again.Writes) > 0 {
				t.Errorf("a second plan writes %s", verbs(again.Writes))
			}
		})
	}
}

// TestMirrorAppProtocol: a port with an appProtocol is the subset's own, as upstream, or taking over from it would move
// endpoints between slices; but subsets with the same ports still share a slice.
func TestMirrorAppProtocol(t *testing.T) {
	h2c := func(subset corev1.EndpointSubset) corev1.EndpointSubset {
		subset.Ports[0].AppProtocol = new("kubernetes.io/h2c")
		return subset
	}
	source := newSource(h2c(sub("a:1 b:2", "1.1.1.1")), h2c(sub("a:1", "1.1.1.2")), h2c(sub("a:1", "!1.1.1.2")), h2c(sub("a:1", "1.1.1.3")))
	after := carryOut(nil, Mirror(source, nil, mirrorOptions).Writes)
	want := []string{"IPv4 a:1 = !1.1.1.2 1.1.1.3", "IPv4 a:1 b:2 = 1.1.1.1"}
	if diff := cmp.Diff(want, showMirrored(after)); diff != "" {
		t.Errorf("slices (-want +got):\n%s", diff)
	}
	if got := after[0].Ports[0].AppProtocol; got == nil || *got != "kubernetes.io/h2c" {
		t.Errorf("the appProtocol is %v", got)
	}
}

// TestMirrorFields: everything that a slice carries, field by field.
func TestMirrorFields(t *testing.T) {
	target := &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "ns", Name: "p", UID: "u", ResourceVersion: "7", FieldPath: "f"}
	source := newSource(corev1.EndpointSubset{
		Addresses: []corev1.EndpointAddress{{IP: "1.1.1.1", Hostname: "h", NodeName: new("n"), TargetRef: target}},
		Ports:     []corev1.EndpointPort{{Name: "", Port: 1, Protocol: corev1.ProtocolUDP, AppProtocol: new("x")}},
	})
	source.Labels = map[string]string{"team": "a", corev1.IsHeadlessService: "", discoveryv1.LabelManagedBy: "me", discoveryv1.LabelServiceName: "other"}
	source.Annotations = map[string]string{
		"note": "kept", corev1.EndpointsOverCapacity: "truncated",
		corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z", corev1.LastAppliedConfigAnnotation: "{}",
	}
	got := Mirror(source, nil, mirrorOptions).Writes[0].Slice
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: sliceName(source, discoveryv1.AddressTypeIPv4, 0),
			Labels: map[string]string{
				"team": "a", corev1.IsHeadlessService: "",
				"kubernetes.io/service-name": "db", "endpointslice.kubernetes.io/managed-by": managedBy,
			},
			Annotations: map[string]string{"note": "kept", "endpoints.kubernetes.io/over-capacity": "truncated"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Endpoints", Name: "db", UID: "endpoints-uid", Controller: new(true), BlockOwnerDeletion: new(true),
			}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(1)), Protocol: new(corev1.ProtocolUDP), AppProtocol: new("x")}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"1.1.1.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			Hostname: new("h"), NodeName: new("n"), TargetRef: target,
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the slice (-want +got):\n%s", diff)
	}
}

func TestMirrored(t *testing.T) {
	plain := &corev1.Service{}
	for name, tc := range map[string]struct {
		service *corev1.Service
		change  func(*corev1.Endpoints)
		want    bool
	}{
		"Plain":        {plain, nil, true},
		"NoService":    {nil, nil, false},
		"Selector":     {&corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"a": "b"}}}, nil, false},
		"Matches all":  {&corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{}}}, nil, false},
		"ExternalName": {&corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName}}, nil, true},
		"Skip":         {plain, func(e *corev1.Endpoints) { e.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"} }, false},
		"DoNotSkip":    {plain, func(e *corev1.Endpoints) { e.Labels = map[string]string{discoveryv1.LabelSkipMirror: "false"} }, true},
		"Lock": {plain, func(e *corev1.Endpoints) {
			e.Annotations = map[string]string{"control-plane.alpha.kubernetes.io/leader": "{}"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			source := newSource()
			if tc.change != nil {
				tc.change(source)
			}
			if got := Mirrored(tc.service, source); got != tc.want {
				t.Errorf("mirrored: %t", got)
			}
			if Mirrored(tc.service, nil) {
				t.Error("nothing was mirrored")
			}
		})
	}
}

// TestMirrorChange: from slices that show one object to those that show another, or that somebody edited.
func TestMirrorChange(t *testing.T) {
	one := []corev1.EndpointSubset{sub("a:1", "1.1.1.1", "1.1.1.2")}
	edit := func(mutate func(*discoveryv1.EndpointSlice)) func([]*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
		return func(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
			mutate(all[0])
			return all
		}
	}
	for name, tc := range map[string]struct {
		reason        string
		before, after []corev1.EndpointSubset
		edit          func([]*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice
		want          string
	}{
		"SameInOtherOrder": {"the layout of the object is no change", one, []corev1.EndpointSubset{sub("a:1", "1.1.1.2"), sub("a:1", "1.1.1.1")}, nil, ""},
		"OtherOrder":       {"nor is the order in a slice", one, one, edit(func(s *discoveryv1.EndpointSlice) { slices.Reverse(s.Endpoints) }), ""},
		"AddressAdded":     {"in place", one, []corev1.EndpointSubset{sub("a:1", "1.1.1.1", "1.1.1.2", "1.1.1.3")}, nil, "Update"},
		"NotReady":         {"in place", one, []corev1.EndpointSubset{sub("a:1", "1.1.1.1", "!1.1.1.2")}, nil, "Update"},
		"PortChanged":      {"one update rather than a create and a delete", one, []corev1.EndpointSubset{sub("a:2", "1.1.1.1", "1.1.1.2")}, nil, "Update"},
		"FamilyChanged":    {"a slice cannot change its family", one, []corev1.EndpointSubset{sub("a:1", "fd00::1")}, nil, "Create Delete"},
		"Emptied":          {"", one, nil, nil, "Delete"},
		"Split":            {"the new one first", []corev1.EndpointSubset{sub("a:1 b:2", "1.1.1.1")}, []corev1.EndpointSubset{sub("a:1", "1.1.1.1"), sub("b:2", "!1.1.1.1")}, nil, "Create Update"},
		"Joined":           {"the one that gains first", []corev1.EndpointSubset{sub("a:1", "1.1.1.1"), sub("b:2", "!1.1.1.1")}, []corev1.EndpointSubset{sub("a:1 b:2", "1.1.1.1")}, nil, "Update Delete"},
		"Exchange": {"two that exchange addresses cannot be written one after the other",
			[]corev1.EndpointSubset{sub("a:1", "1.1.1.1"), sub("a:1 b:2", "1.1.1.2"), sub("c:3 d:4", "1.1.1.9")},
			[]corev1.EndpointSubset{sub("a:1 c:3", "1.1.1.1"), sub("b:2 d:4", "1.1.1.2"), sub("a:1 d:4", "1.1.1.9")}, nil, ""},
		"Hints":     {"hints are somebody else's", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Hints = &discoveryv1.EndpointHints{} }), ""},
		"Zone":      {"a zone is repaired", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Zone = new("z") }), "Update"},
		"Serving":   {"so are conditions", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Serving = new(true) }), "Update"},
		"Label":     {"", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.Labels["x"] = "y" }), "Update"},
		"ManagedBy": {"", one, one, edit(func(s *discoveryv1.EndpointSlice) { delete(s.Labels, discoveryv1.LabelManagedBy) }), "Update"},
		"Annotation": {"", one, one, edit(func(s *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z"}
		}), "Update"},
		"OwnerGone":  {"", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.OwnerReferences = nil }), "Update"},
		"OtherOwner": {"adopted from an earlier object, not deleted", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.OwnerReferences[0].UID = "earlier" }), "Update"},
		"Twice":      {"", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.Endpoints = append(s.Endpoints, s.Endpoints[0]) }), "Update"},
		"Duplicate": {"the right one of two stays", one, one, func(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
			wrong := all[0].DeepCopy()
			wrong.Name, wrong.Endpoints = "a-first-by-name", wrong.Endpoints[:1]
			mislabelled := all[0].DeepCopy()
			mislabelled.Name, mislabelled.Labels = "b-second-by-name", nil
			return append(all, wrong, mislabelled)
		}, "Delete Delete"},
		"Deleting": {"one that is being deleted is not there", one, one, edit(func(s *discoveryv1.EndpointSlice) { s.DeletionTimestamp = &metav1.Time{Time: epoch} }), "Create"},
	} {
		t.Run(name, func(t *testing.T) {
			source := newSource(tc.before...)
			existing := carryOut(nil, Mirror(source, nil, mirrorOptions).Writes)
			if tc.edit != nil {
				existing = tc.edit(existing)
			}
			source.Subsets = tc.after
			plan := Mirror(source, existing, mirrorOptions)
			if name != "Exchange" && verbs(plan.Writes) != tc.want {
				t.Errorf("%s: writes are %q, want %q", tc.reason, verbs(plan.Writes), tc.want)
			}
			checkOrder(t, existing, plan.Writes)
			after := carryOut(existing, plan.Writes)
			if again := Mirror(source, after, mirrorOptions); len(again.Writes) > 0 {
				t.Errorf("a second plan writes %s", verbs(again.Writes))
			}
		})
	}
}

// TestMirrorKeepsHints: an endpoint that stays as it is keeps the hints that somebody gave it, while another changes.
func TestMirrorKeepsHints(t *testing.T) {
	source := newSource(sub("a:1", "1.1.1.1", "1.1.1.2"))
	existing := carryOut(nil, Mirror(source, nil, mirrorOptions).Writes)
	for i := range existing[0].Endpoints {
		existing[0].Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}}}
	}
	source.Subsets = []corev1.EndpointSubset{sub("a:1", "1.1.1.1", "!1.1.1.2")}
	plan := Mirror(source, existing, mirrorOptions)
	if len(plan.Writes) != 1 {
		t.Fatalf("writes are %q", verbs(plan.Writes))
	}
	for _, e := range plan.Writes[0].Slice.Endpoints {
		if hinted := e.Hints != nil; hinted != *e.Conditions.Ready {
			t.Errorf("%s has hints: %v", e.Addresses[0], hinted)
		}
	}
}

// TestMirrorSameEndpoint: of two addresses that make one endpoint, as a Pod and its successor do for a while, the later
// one stands for both.
func TestMirrorSameEndpoint(t *testing.T) {
	address := func(uid types.UID, node string) corev1.EndpointAddress {
		return corev1.EndpointAddress{IP: "1.1.1.1", NodeName: &node,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "db-0", UID: uid}}
	}
	subset := sub("a:1")
	subset.Addresses = []corev1.EndpointAddress{address("a", "n1"), address("b", "n2")}
	plan := Mirror(newSource(subset), nil, mirrorOptions)
	if len(plan.Writes) != 1 || len(plan.Writes[0].Slice.Endpoints) != 1 || *plan.Writes[0].Slice.Endpoints[0].NodeName != "n2" {
		t.Errorf("want the later one alone, got %+v", plan.Writes)
	}
}

// reach returns what can be reached by slices, as address and port, and whether any endpoint of it is ready.
func reach(all []*discoveryv1.EndpointSlice) map[string]int {
	found := map[string]int{}
	for _, slice := range all {
		for _, e := range slice.Endpoints {
			for _, port := range slice.Ports {
				found[fmt.Sprintf("%s %s:%d", e.Addresses[0], *port.Name, *port.Port)]++
			}
			if len(slice.Ports) == 0 {
				found[e.Addresses[0]]++
			}
		}
	}
	return found
}

// checkOrder wants what can be reached before and after to be reached after each write, and those writes that would
// break it if one before them failed to say so.
func checkOrder(t *testing.T, existing []*discoveryv1.EndpointSlice, writes []Write) {
	t.Helper()
	before, after := reach(existing), reach(carryOut(existing, writes))
	check := func(when string, now map[string]int) {
		t.Helper()
		for r := range before {
			if after[r] > 0 && now[r] == 0 {
				t.Errorf("%s: %s is gone for a while", when, r)
			}
		}
	}
	all := existing
	for i, write := range writes {
		all = carryOutOne(all, write)
		check(fmt.Sprintf("after write %d of %s", i+1, verbs(writes)), reach(all))
	}
	for failing := range writes {
		all := existing
		for i, write := range writes {
			if i == failing || i > failing && write.Moves {
				continue
			}
			all = carryOutOne(all, write)
		}
		check(fmt.Sprintf("write %d of %s failed", failing+1, verbs(writes)), reach(all))
	}
}

// TestMirrorDeleting: an object that is being deleted gets no new slices, but those that it has are kept right.
func TestMirrorDeleting(t *testing.T) {
	source := newSource(sub("a:1", "1.1.1.1"))
	existing := carryOut(nil, Mirror(source, nil, mirrorOptions).Writes)
	source.DeletionTimestamp = &metav1.Time{Time: epoch}
	source.Subsets = []corev1.EndpointSubset{sub("a:1", "1.1.1.2", "fd00::1")}
	after := carryOut(existing, Mirror(source, existing, mirrorOptions).Writes)
	if diff := cmp.Diff([]string{"IPv4 a:1 = 1.1.1.2"}, showMirrored(after)); diff != "" {
		t.Errorf("slices (-want +got):\n%s", diff)
	}
}

// TestMirrorNames: two plans from the same state choose the same names, none that is taken, and ours are recognised.
func TestMirrorNames(t *testing.T) {
	source := newSource(sub("a:1", "1.1.1.1", "fd00::1"), sub("b:1", "1.1.1.2"))
	names := func(opts MirrorOptions) []string {
		var all []string
		for _, write := range Mirror(source, nil, opts).Writes {
			if !HasOwnName(source, write.Slice) {
				t.Errorf("%s is not recognised", write.Slice.Name)
			}
			all = append(all, write.Slice.Name)
		}
		return all
	}
	first := names(mirrorOptions)
	if second := names(mirrorOptions); !slices.Equal(first, second) {
		t.Errorf("names are %v, then %v", first, second)
	}
	opts := mirrorOptions
	opts.Taken = func(name string) bool { return name == first[0] }
	if third := names(opts); slices.Contains(third, first[0]) {
		t.Errorf("%s is taken, and in %v", first[0], third)
	}
}

func TestUnmirror(t *testing.T) {
	existing := carryOut(nil, Mirror(newSource(sub("a:1", "1.1.1.1", "fd00::1"), sub("b:1", "1.1.1.2")), nil, mirrorOptions).Writes)
	existing[0].DeletionTimestamp = &metav1.Time{Time: epoch}
	if got := verbs(Unmirror(existing).Writes); got != "Delete Delete" {
		t.Errorf("writes are %q, want those two deleted that are not yet", got)
	}
}

// TestMirrorManySubsets: names are not looked for from the first one again for each slice, or Endpoints with thousands
// of subsets would keep a worker busy for minutes.
func TestMirrorManySubsets(t *testing.T) {
	source := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid"}}
	for i := range 500 {
		source.Subsets = append(source.Subsets, corev1.EndpointSubset{
			Addresses: []corev1.EndpointAddress{{IP: fmt.Sprintf("10.0.%d.%d", i/250, i%250)}},
			Ports:     []corev1.EndpointPort{{Port: int32(i + 1), Protocol: corev1.ProtocolTCP}},
		})
	}
	asked := 0
	plan := Mirror(source, nil, MirrorOptions{ManagedBy: managedBy, Taken: func(string) bool { asked++; return asked%2 == 0 }})
	names := map[string]struct{}{}
	for _, write := range plan.Writes {
		names[write.Slice.Name] = struct{}{}
	}
	if len(names) != 500 || asked > 1000 {
		t.Errorf("%d slices have %d names, for which %d were tried", len(plan.Writes), len(names), asked)
	}
}
