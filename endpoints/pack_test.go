package endpoints

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestNewSlice(t *testing.T) {
	service := newService(func(s *corev1.Service) {
		s.Labels = map[string]string{
			"app": "web", discoveryv1.LabelServiceName: "lie", discoveryv1.LabelManagedBy: "lie", corev1.IsHeadlessService: "lie",
		}
		s.Annotations = map[string]string{"note": "not copied"}
	})
	plan := NewLayout(opts(100)).Plan(setOf(service, []*corev1.Pod{newPod(1)}), Pass{Trigger: epoch})
	tcp := corev1.ProtocolTCP
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: sliceName(service, discoveryv1.AddressTypeIPv4, 0),
			Labels: map[string]string{
				"app": "web", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: managedBy,
			},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-02T03:04:05Z"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Service", Name: "web", UID: "service-uid",
				Controller: new(true), BlockOwnerDeletion: new(true),
			}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: &tcp}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{"10.244.0.2"},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "pod-0001", UID: "uid-0001"},
			NodeName:   new("n1"), Zone: new("zone-1"),
		}},
	}
	if diff := cmp.Diff(Plan{Writes: []Write{{Verb: Create, Slice: want}}, Endpoints: 1, Slices: 1, Added: 1, Ideal: 1}, plan); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHeadlessLabel(t *testing.T) {
	service := newService(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	plan := Pack(NewSet(service, SetOptions{}), nil, opts(100))
	if value, ok := plan.Writes[0].Slice.Labels[corev1.IsHeadlessService]; !ok || value != "" {
		t.Errorf("want the label with an empty value, got %q, %v", value, ok)
	}
}

// TestPlanCounts: what is moved between slices is neither added nor removed.
func TestPlanCounts(t *testing.T) {
	service := newService()
	type counts struct{ Endpoints, Slices, Added, Removed, Ideal int }
	cases := map[string]struct {
		before, after []*corev1.Pod
		want          counts
	}{
		"Nothing":   {nil, nil, counts{0, 1, 0, 0, 1}},
		"First":     {nil, newPods(0, 25), counts{25, 3, 25, 0, 3}},
		"Same":      {newPods(0, 25), newPods(0, 25), counts{25, 3, 0, 0, 3}},
		"Replaced":  {newPods(0, 25), newPods(5, 30), counts{25, 3, 5, 5, 3}},
		"Compacted": {newPods(0, 30), slices.Concat(newPods(0, 3), newPods(10, 12), newPods(20, 22)), counts{7, 1, 0, 23, 1}},
		"Last":      {newPods(0, 5), nil, counts{0, 1, 0, 5, 1}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			plan := Pack(setOf(service, tc.after), packed(t, service, tc.before, 10), opts(10))
			got := counts{plan.Endpoints, plan.Slices, plan.Added, plan.Removed, plan.Ideal}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// packed returns the slices of a Service after its Pods were packed from nothing.
func packed(t *testing.T, service *corev1.Service, pods []*corev1.Pod, limit int) []*discoveryv1.EndpointSlice {
	t.Helper()
	return apply(t, nil, Pack(setOf(service, pods), nil, opts(limit)), nil)
}

func TestPack(t *testing.T) {
	service := newService()
	full := packed(t, service, newPods(0, 10), 10)
	changed := func(change func(*discoveryv1.EndpointSlice)) []*discoveryv1.EndpointSlice {
		s := packed(t, service, newPods(0, 3), 10)[0].DeepCopy()
		change(s)
		return []*discoveryv1.EndpointSlice{s}
	}
	cases := map[string]struct {
		reason   string
		service  *corev1.Service
		pods     []*corev1.Pod
		existing []*discoveryv1.EndpointSlice
		want     []string
	}{
		"Empty": {
			reason: "A Service without endpoints has one empty slice.",
			want:   []string{"Create 0"},
		},
		"EmptyStays": {
			reason:   "The empty slice is not written again.",
			existing: packed(t, service, nil, 10),
			want:     []string{},
		},
		"EmptyPerFamily": {
			reason:  "Each family has its own.",
			service: newService(withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol)),
			want:    []string{"Create 0", "Create 0"},
		},
		"NoChange": {
			reason: "What is right is not written.",
			pods:   newPods(0, 10), existing: full,
			want: []string{},
		},
		"New": {
			reason: "Slices are filled to the limit.",
			pods:   newPods(0, 25),
			want:   []string{"Create 10", "Create 10", "Create 5"},
		},
		"InPlace": {
			reason: "A change of one endpoint rewrites its slice alone.",
			pods:   append(newPods(0, 14), newPod(14, setReady(false))), existing: packed(t, service, newPods(0, 15), 10),
			want: []string{"Update 5"},
		},
		"SameNameNewUID": {
			reason: "A Pod that comes back under its name and address replaces the endpoint in place.",
			pods: append(newPods(0, 9), newPod(9, func(p *corev1.Pod) {
				p.UID = "another"
			})), existing: full,
			want: []string{"Update 10"},
		},
		"RemovedAndAdded": {
			reason: "New endpoints take the room that others leave.",
			pods:   newPods(5, 15), existing: full,
			want: []string{"Update 10"},
		},
		"LastOneGone": {
			reason:   "The last slice becomes the empty one.",
			existing: full,
			want:     []string{"Update 0"},
		},
		"BestFit": {
			reason: "The rest goes where it fits best.",
			pods:   newPods(0, 16),
			existing: slices.Concat(
				renamed(packed(t, service, newPods(0, 6), 10), "a"),
				renamed(packed(t, service, newPods(6, 14), 10), "b"),
			),
			want: []string{"Update 10"},
		},
		"Emptied": {
			reason: "A slice without endpoints is deleted.",
			pods:   newPods(0, 10), existing: packed(t, service, newPods(0, 15), 10),
			want: []string{"Delete 5"},
		},
		"Compacted": {
			reason: "A whole slice of free room: the smaller slice is emptied into the other, which is written first.",
			pods:   newPods(0, 10),
			existing: slices.Concat(
				renamed(packed(t, service, newPods(0, 6), 10), "a"),
				renamed(packed(t, service, newPods(6, 10), 10), "b"),
			),
			want: []string{"Update 10", "Delete 4 moves"},
		},
		"CompactedBesideOtherPorts": {
			reason:  "A slice that compaction empties is not used for other endpoints before its own are elsewhere.",
			service: newService(withPorts(servicePort("http", 80, intstr.FromString("web")))),
			pods: append(newPods(0, 10), newPod(10, withPodPorts(
				corev1.ContainerPort{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP}))),
			existing: slices.Concat(
				renamed(packed(t, service, newPods(0, 6), 10), "a"),
				renamed(packed(t, service, newPods(6, 10), 10), "b"),
			),
			want: []string{"Create 1", "Update 10", "Delete 4 moves"},
		},
		"NotCompacted": {
			reason: "Less than a whole slice of free room is left alone.",
			pods:   newPods(0, 11),
			existing: slices.Concat(
				renamed(packed(t, service, newPods(0, 6), 10), "a"),
				renamed(packed(t, service, newPods(6, 11), 10), "b"),
			),
			want: []string{},
		},
		"Interrupted": {
			reason: "An endpoint in two slices stays in the fuller one.",
			pods:   newPods(0, 8),
			existing: slices.Concat(
				renamed(packed(t, service, newPods(5, 8), 10), "a"),
				renamed(packed(t, service, newPods(0, 8), 10), "b"),
			),
			want: []string{"Delete 3 moves"},
		},
		"LimitLowered": {
			reason: "What is above the limit moves, and is written elsewhere first.",
			pods:   newPods(0, 14), existing: packed(t, service, newPods(0, 14), 20),
			want: []string{"Create 4", "Update 10 moves"},
		},
		"OtherPorts": {
			reason:  "All endpoints get other ports: the slice is updated, not replaced.",
			service: newService(withPorts(servicePort("http", 80, intstr.FromInt32(9090)))),
			pods:    newPods(0, 10), existing: full,
			want: []string{"Update 10 moves"},
		},
		"TwoSetsOfPorts": {
			reason:  "Pods that resolve a name differently are in different slices.",
			service: newService(withPorts(servicePort("http", 80, intstr.FromString("web")))),
			pods: append(newPods(0, 3), newPods(3, 5, withPodPorts(
				corev1.ContainerPort{Name: "web", ContainerPort: 9090, Protocol: corev1.ProtocolTCP}))...),
			want: []string{"Create 3", "Create 2"},
		},
		"FamilyGone": {
			reason:  "Slices of a family that is not served any more are deleted.",
			service: newService(withFamilies(corev1.IPv6Protocol)),
			pods:    newPods(0, 10), existing: full,
			want: []string{"Create 10", "Delete 10 moves"},
		},
		"AnotherOwner": {
			reason: "A slice of an earlier Service of this name is deleted, not adopted.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				s.Name, s.OwnerReferences[0].UID = "old", "another"
			}),
			want: []string{"Create 3", "Delete 3 moves"},
		},
		"BeingDeleted": {
			reason: "A slice that is being deleted is as good as gone, but for its name.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				s.DeletionTimestamp = new(metav1.NewTime(epoch))
			}),
			want: []string{"Create 3"},
		},
		"ServiceBeingDeleted": {
			reason: "A Service that is being deleted gets no new slices; what is there is kept right.",
			service: newService(func(s *corev1.Service) {
				s.DeletionTimestamp = new(metav1.NewTime(epoch))
			}),
			pods: append(newPods(0, 9), newPods(10, 14)...), existing: full,
			want: []string{"Update 10"},
		},
		"ServiceBeingDeletedFull": {
			reason: "What finds no room is left out then, and a slice is not emptied into one that will not be made.",
			service: newService(func(s *corev1.Service) {
				s.DeletionTimestamp = new(metav1.NewTime(epoch))
			}),
			pods: newPods(0, 14), existing: full,
			want: []string{},
		},
		"ForeignLabel": {
			reason: "A label that the Service does not have is taken off again.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				s.Labels["foreign"] = "true"
			}),
			want: []string{"Update 3"},
		},
		"ReservedLabel": {
			reason: "A reserved label is put back, unlike upstream.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				s.Labels[discoveryv1.LabelManagedBy] = "someone-else"
			}),
			want: []string{"Update 3"},
		},
		"ForeignEndpoint": {
			reason: "An endpoint that nothing stands behind is removed.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}})
			}),
			want: []string{"Update 3"},
		},
		"ForeignHint": {
			reason: "A hint that nobody asked for is removed.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				s.Endpoints[1].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}}}
			}),
			want: []string{"Update 3"},
		},
		"ForeignPort": {
			reason: "A port that was changed is put back.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				s.Ports[0].Port = new(int32(1))
			}),
			want: []string{"Update 3 moves"},
		},
		"ForeignAnnotation": {
			reason: "Annotations of others are not ours to judge.",
			pods:   newPods(0, 3),
			existing: changed(func(s *discoveryv1.EndpointSlice) {
				metav1.SetMetaDataAnnotation(&s.ObjectMeta, "foreign", "true")
			}),
			want: []string{},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.service == nil {
				tc.service = service
			}
			plan := Pack(setOf(tc.service, tc.pods), tc.existing, opts(10))
			if diff := cmp.Diff(tc.want, describe(plan)); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
			after := apply(t, tc.existing, plan, nil)
			if plan := Pack(setOf(tc.service, tc.pods), after, opts(10)); len(plan.Writes) != 0 {
				t.Errorf("a second plan writes again: %v", describe(plan))
			}
		})
	}
}

// renamed returns one slice under another name.
func renamed(all []*discoveryv1.EndpointSlice, name string) []*discoveryv1.EndpointSlice {
	s := all[0].DeepCopy()
	s.Name = name
	return []*discoveryv1.EndpointSlice{s}
}

func TestAnnotations(t *testing.T) {
	service := newService()
	existing := packed(t, service, newPods(0, 3), 10)
	metav1.SetMetaDataAnnotation(&existing[0].ObjectMeta, "foreign", "kept")
	metav1.SetMetaDataAnnotation(&existing[0].ObjectMeta, corev1.EndpointsLastChangeTriggerTime, "old")
	plan := Pack(setOf(service, newPods(0, 4)), existing, opts(10))
	want := map[string]string{"foreign": "kept"}
	if diff := cmp.Diff(want, plan.Writes[0].Slice.Annotations); diff != "" {
		t.Errorf("a trigger that is not known removes the annotation and leaves the others\n-want +got:\n%s", diff)
	}
}

func TestNamesTaken(t *testing.T) {
	service := newService()
	first, second := sliceName(service, discoveryv1.AddressTypeIPv4, 0), sliceName(service, discoveryv1.AddressTypeIPv4, 1)
	o := opts(10)
	o.Taken = func(name string) bool { return name == first }
	plan := Pack(setOf(service, newPods(0, 3)), nil, o)
	if got := plan.Writes[0].Slice.Name; got != second {
		t.Errorf("want the second name %s, got %s", second, got)
	}
}

// TestScaleDown: a Service that shrinks does not keep its slices, and no plan moves more than a slice's worth.
func TestScaleDown(t *testing.T) {
	service := newService()
	existing := packed(t, service, newPods(0, 1000), 100)
	var pods []*corev1.Pod
	for i := 0; i < 1000; i += 10 {
		pods = append(pods, newPod(i))
	}
	for range 10 {
		plan := Pack(setOf(service, pods), existing, opts(100))
		existing = apply(t, existing, plan, nil)
		if !plan.More {
			break
		}
	}
	if len(existing) != 1 || len(existing[0].Endpoints) != 100 {
		t.Errorf("want one slice of 100, got %d slices", len(existing))
	}
	if plan := Pack(setOf(service, pods), existing, opts(100)); plan.More || len(plan.Writes) > 0 {
		t.Errorf("there is no end: %v", describe(plan))
	}
}

func TestCompactionIsBounded(t *testing.T) {
	service := newService()
	var existing []*discoveryv1.EndpointSlice
	for i := range 6 {
		existing = append(existing, renamed(packed(t, service, newPods(i*5, i*5+4), 10), string(rune('a'+i)))...)
	}
	var pods []*corev1.Pod
	for i := range 6 {
		pods = append(pods, newPods(i*5, i*5+4)...)
	}
	plan := Pack(setOf(service, pods), existing, opts(10))
	want := []string{"Update 10", "Update 6", "Delete 4 moves", "Delete 4 moves"}
	if diff := cmp.Diff(want, describe(plan)); diff != "" || !plan.More {
		t.Errorf("more: %v, writes:\n%s", plan.More, diff)
	}
}

func TestRelease(t *testing.T) {
	service := newService()
	ours := packed(t, service, newPods(0, 3), 10)
	foreign := renamed(ours, "foreign")
	foreign[0].OwnerReferences = nil
	plan := Release(service, slices.Concat(foreign, ours))
	if len(plan.Writes) != 1 || plan.Writes[0].Verb != Delete || plan.Writes[0].Slice.Name != ours[0].Name {
		t.Errorf("want our slice deleted, got %v", describe(plan))
	}
}

func TestRemovedFamilyKeepsOther(t *testing.T) {
	dual := newService(withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol))
	existing := packed(t, dual, newPods(0, 3), 10)
	families := map[discoveryv1.AddressType]int{}
	for _, s := range existing {
		families[s.AddressType] += len(s.Endpoints)
	}
	if want := (map[discoveryv1.AddressType]int{discoveryv1.AddressTypeIPv4: 3, discoveryv1.AddressTypeIPv6: 3}); !maps.Equal(want, families) {
		t.Errorf("want %v, got %v", want, families)
	}
	plan := Pack(setOf(newService(), newPods(0, 3)), existing, opts(10))
	if diff := cmp.Diff([]string{"Delete 3 moves"}, describe(plan)); diff != "" {
		t.Error(diff)
	}
}

func TestHasOwnName(t *testing.T) {
	service := newService()
	for _, slice := range packed(t, service, newPods(0, 50), 10) {
		if !HasOwnName(service, slice) {
			t.Errorf("%s is not recognised", slice.Name)
		}
	}
	other := newService(func(s *corev1.Service) { s.UID = "another" })
	for _, slice := range slices.Concat(packed(t, other, nil, 10), renamed(packed(t, service, nil, 10), "web-x7k2p")) {
		if HasOwnName(service, slice) {
			t.Errorf("%s is taken for ours", slice.Name)
		}
	}
}
