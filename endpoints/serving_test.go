package endpoints

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestServing: groups of Pods stand by for one another, and come back, whatever the order of events.
func TestServing(t *testing.T) {
	inRank := func(rank string) podOption {
		return func(p *corev1.Pod) { p.Labels = map[string]string{"rank": rank} }
	}
	service := newService(withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol))
	set := NewSet(service, SetOptions{Rank: func(pod *corev1.Pod) int { return strings.Index("abc", pod.Labels["rank"]) }})
	steps := []struct {
		reason string
		pods   []*corev1.Pod
		gone   string
		want   Serving
		names  string
	}{
		{"nothing is ready, so all is published", []*corev1.Pod{newPod(0, inRank("a"), setReady(false)), newPod(1, inRank("b"), setReady(false))}, "",
			Serving{0, false, 2, 0, 0}, "pod-0000 pod-0001"},
		{"the second group serves beside what the first could be", []*corev1.Pod{newPod(1, inRank("b")), newPod(2, inRank("c"))}, "",
			Serving{1, true, 2, 1, 1}, "pod-0000 pod-0001"},
		{"the first takes over", []*corev1.Pod{newPod(0, inRank("a"))}, "", Serving{0, true, 1, 1, 2}, "pod-0000"},
		{"a group may be larger", []*corev1.Pod{newPod(3, inRank("a"), setReady(false))}, "", Serving{0, true, 2, 1, 2}, "pod-0000 pod-0003"},
		{"one that goes away is not ready", []*corev1.Pod{newPod(0, inRank("a"), terminating)}, "", Serving{1, true, 3, 1, 1}, "pod-0000 pod-0001 pod-0003"},
		{"the third stands by for the second", nil, "pod-0001", Serving{2, true, 3, 1, 0}, "pod-0000 pod-0002 pod-0003"},
		{"a Pod changes its group", []*corev1.Pod{newPod(2, inRank("a"))}, "", Serving{0, true, 3, 1, 0}, "pod-0000 pod-0002 pod-0003"},
	}
	for _, step := range steps {
		for _, pod := range step.pods {
			set.Put(pod, zoneOf(pod))
		}
		set.Delete(step.gone)
		for _, family := range set.Families() {
			var names []string
			for _, e := range set.Endpoints(family) {
				names = append(names, e.TargetRef.Name)
			}
			if got := strings.Join(names, " "); got != step.names {
				t.Errorf("%s: %s has %s, want %s", step.reason, family, got, step.names)
			}
		}
		got := set.Serving()
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.reason, diff)
		}
	}
}

// TestAddresses: where addresses are from elsewhere, a Pod without any there is none of the Service's.
func TestAddresses(t *testing.T) {
	service := newService(withPorts(servicePort("http", 80, intstr.FromString("nowhere"))))
	set := NewSet(service, SetOptions{Addresses: func(pod *corev1.Pod) []string {
		return map[string][]string{"pod-0001": {"fd00:20::1", "10.20.0.1"}, "pod-0002": {"fd00:20::2"}}[pod.Name]
	}})
	for _, pod := range newPods(0, 3) {
		set.Put(pod, zoneOf(pod))
	}
	var got []string
	for _, e := range set.Endpoints(discoveryv1.AddressTypeIPv4) {
		got = append(got, e.Addresses...)
	}
	if diff := cmp.Diff([]string{"10.20.0.1"}, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if got := set.Serving().Published; got != 1 {
		t.Errorf("%d Pods are endpoints, want the one with an IPv4 address", got)
	}
	if _, pods := set.UnresolvedPorts(); pods != 2 {
		t.Errorf("ports are judged by %d Pods, want those that are reached somewhere", pods)
	}
}

// TestRegrouped: a Pod whose labels move it from one group of a Service to another has to be looked at, though the
// Service had it before and has it still.
func TestRegrouped(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "web"}
	x := NewIndex()
	x.PutSelectors(key, []labels.Selector{labels.SelectorFromSet(labels.Set{"rank": "a"}), labels.SelectorFromSet(labels.Set{"rank": "b"})})
	x.PutSelectors(types.NamespacedName{Namespace: "ns", Name: "all"}, []labels.Selector{labels.SelectorFromSet(labels.Set{"app": "web"})})
	x.Seed()
	put := func(labels map[string]string) string {
		return strings.Join(x.PutPod(newPod(0, func(p *corev1.Pod) { p.Labels = labels })), " ")
	}
	for i, step := range []struct {
		labels map[string]string
		want   string
	}{
		{map[string]string{"app": "web", "rank": "a"}, "all web"},
		{map[string]string{"app": "web", "rank": "a"}, ""},
		{map[string]string{"app": "web", "rank": "b"}, "web"},
		{map[string]string{"app": "db", "rank": "b"}, "all web"},
		{map[string]string{"app": "db"}, "web"},
		{map[string]string{"app": "other"}, ""},
	} {
		if got := put(step.labels); got != step.want {
			t.Errorf("step %d: %q have to look, want %q", i, got, step.want)
		}
	}
}
