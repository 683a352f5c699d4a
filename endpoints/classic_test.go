package endpoints

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// show writes subsets as ports: ready addresses | others.
func showSubsets(e *corev1.Endpoints) []string {
	if e == nil {
		return nil
	}
	lines := []string{}
	for _, s := range e.Subsets {
		line := ""
		for _, p := range s.Ports {
			line += fmt.Sprintf("%s=%d/%s ", p.Name, p.Port, p.Protocol)
		}
		line += ":"
		for _, a := range s.Addresses {
			line += " " + a.IP
		}
		line += " |"
		for _, a := range s.NotReadyAddresses {
			line += " " + a.IP
		}
		lines = append(lines, line)
	}
	return lines
}

func TestClassic(t *testing.T) {
	cases := map[string]struct {
		reason  string
		service *corev1.Service
		pods    []*corev1.Pod
		want    []string
	}{
		"Empty": {
			reason:  "A Service without Pods has an object without subsets.",
			service: newService(), want: []string{},
		},
		"Readiness": {
			reason:  "Ready and not ready addresses stand apart; those going away are left out.",
			service: newService(), pods: []*corev1.Pod{newPod(3, terminating), newPod(2, setReady(false)), newPod(1)},
			want: []string{"http=8080/TCP : 10.244.0.2 | 10.244.0.3"},
		},
		"PublishNotReady": {
			reason:  "With publishNotReadyAddresses all are ready, even those going away.",
			service: newService(publishNotReady), pods: []*corev1.Pod{newPod(3, terminating), newPod(2, setReady(false)), newPod(1)},
			want: []string{"http=8080/TCP : 10.244.0.2 10.244.0.3 10.244.0.4 |"},
		},
		"Ended": {
			reason:  "Pods that ended are never in.",
			service: newService(publishNotReady), pods: []*corev1.Pod{newPod(1, withPhase(corev1.PodFailed))},
			want: []string{},
		},
		"PrimaryFamily": {
			reason:  "Only the primary family.",
			service: newService(withFamilies(corev1.IPv6Protocol, corev1.IPv4Protocol)), pods: newPods(0, 1),
			want: []string{"http=8080/TCP : fd00::1 |"},
		},
		"FamilyNotSaid": {
			reason:  "A headless Service from before there were families has the family of each Pod.",
			service: newService(withFamilies(), func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }),
			pods:    []*corev1.Pod{newPod(1), newPod(2, func(p *corev1.Pod) { slices.Reverse(p.Status.PodIPs) })},
			want:    []string{"http=8080/TCP : 10.244.0.2 fd00::3 |"},
		},
		"SubsetsByPorts": {
			reason:  "Pods that resolve a name differently are in different subsets, those that lack it in none.",
			service: newService(withPorts(servicePort("http", 80, intstr.FromString("web")))),
			pods: []*corev1.Pod{newPod(1), newPod(3, withPodPorts()), newPod(2, withPodPorts(
				corev1.ContainerPort{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP}))},
			want: []string{"http=81/TCP : 10.244.0.3 |", "http=8080/TCP : 10.244.0.2 |"},
		},
		"HeadlessWithoutPorts": {
			reason:  "Addresses without ports.",
			service: newService(withPorts(), func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), pods: newPods(0, 2),
			want: []string{": 10.244.0.1 10.244.0.2 |"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Classic(tc.service, tc.pods, nil, epoch)
			if diff := cmp.Diff(tc.want, showSubsets(got)); diff != "" {
				t.Fatalf("%s\n-want +got:\n%s", tc.reason, diff)
			}
			if got.Labels[ClassicManagedByLabel] != ClassicManagedBy {
				t.Errorf("the label is missing: %v", got.Labels)
			}
			slices.Reverse(tc.pods)
			if again := Classic(tc.service, tc.pods, got, time.Time{}); again != nil {
				t.Errorf("the same Pods in another order are written again: %v", showSubsets(again))
			}
		})
	}
}

func TestClassicAddress(t *testing.T) {
	pod := newPod(1, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "pod-1", "web" })
	want := []corev1.EndpointAddress{{
		IP: "10.244.0.2", Hostname: "pod-1", NodeName: new("n1"),
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "pod-0001", UID: "uid-0001"},
	}}
	got := Classic(newService(), []*corev1.Pod{pod}, nil, epoch)
	if diff := cmp.Diff(want, got.Subsets[0].Addresses); diff != "" {
		t.Error(diff)
	}
}

// TestClassicOrder: upstream sorts by hashes that differ between its versions; that order is as good as ours.
func TestClassicOrder(t *testing.T) {
	pods := newPods(0, 5)
	current := Classic(newService(), pods, nil, epoch)
	slices.Reverse(current.Subsets[0].Addresses)
	if again := Classic(newService(), pods, current, epoch); again != nil {
		t.Error("the same content in another order is written again")
	}
}

// TestClassicLayout: a port stands with all Pods that have it, and ports that the same Pods have stand together, as
// upstream's controller has it, which would rewrite any other layout.
func TestClassicLayout(t *testing.T) {
	service := newService(withPorts(servicePort("http", 80, intstr.FromInt32(8080)), servicePort("admin", 81, intstr.FromInt32(8081)),
		servicePort("named", 82, intstr.FromString("extra"))))
	extra := withPodPorts(corev1.ContainerPort{Name: "extra", ContainerPort: 9000, Protocol: corev1.ProtocolTCP})
	got := Classic(service, slices.Concat(newPods(0, 2), newPods(2, 3, extra)), nil, epoch)
	var layout []string
	for _, subset := range got.Subsets {
		line := ""
		for _, port := range subset.Ports {
			line += port.Name + " "
		}
		for _, address := range subset.Addresses {
			line += address.TargetRef.Name + " "
		}
		layout = append(layout, strings.TrimSpace(line))
	}
	want := []string{"admin http pod-0000 pod-0001 pod-0002", "named pod-0002"}
	if diff := cmp.Diff(want, layout); diff != "" {
		t.Error(diff)
	}
}

func TestClassicCapacity(t *testing.T) {
	two := newService(withPorts(servicePort("http", 80, intstr.FromString("web"))))
	other := withPodPorts(corev1.ContainerPort{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP})
	pods := slices.Concat(newPods(0, 900), newPods(900, 1200, other), newPods(1200, 1300, setReady(false)))
	over := Classic(two, pods, nil, epoch)
	ready, others := 0, 0
	for _, s := range over.Subsets {
		ready += len(s.Addresses)
		others += len(s.NotReadyAddresses)
	}
	if ready != ClassicCapacity || others != 0 {
		t.Errorf("want %d ready addresses and no others, got %d and %d", ClassicCapacity, ready, others)
	}
	if n := len(over.Subsets[0].Addresses); n < 250 || n > 251 {
		t.Errorf("the smaller subset's part of 1000 is 250, got %d", n)
	}
	if over.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("the annotation is missing: %v", over.Annotations)
	}
	if again := Classic(two, pods, over, epoch); again != nil {
		t.Error("a truncated object is written again, as upstream does on every sync")
	}
	theirs, all := over.DeepCopy(), classicSubsets(two, pods)
	for i, n := range []int{251, 749} { // Rounded otherwise, as upstream may.
		theirs.Subsets[i].Addresses = all[i].Addresses[:n]
	}
	if again := Classic(two, pods, theirs, epoch); again != nil {
		t.Error("an object that upstream truncated as fairly is written again")
	}
	foreign := over.DeepCopy()
	foreign.Subsets = append(foreign.Subsets, corev1.EndpointSubset{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []corev1.EndpointPort{{Name: "x", Port: 1, Protocol: corev1.ProtocolTCP}},
	})
	if again := Classic(two, pods, foreign, epoch); again == nil || len(again.Subsets) != len(over.Subsets) {
		t.Error("a subset that somebody added to a truncated object stays")
	}
	if under := Classic(two, newPods(0, 1000), over, epoch); under == nil || under.Annotations[corev1.EndpointsOverCapacity] != "" {
		t.Errorf("the annotation goes when there is room again: %v", under)
	}
	mixed := Classic(newService(), slices.Concat(newPods(0, 990), newPods(1000, 1100, setReady(false))), nil, epoch)
	if s := mixed.Subsets[0]; len(s.Addresses) != 990 || len(s.NotReadyAddresses) != 10 {
		t.Errorf("ready ones first: want 990 and 10, got %d and %d", len(s.Addresses), len(s.NotReadyAddresses))
	}
}

func TestClassicLeftAlone(t *testing.T) {
	lock := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Annotations: map[string]string{leaderAnnotation: "{}"}, Labels: map[string]string{ClassicManagedByLabel: ClassicManagedBy},
	}}
	if got := Classic(newService(), newPods(0, 1), lock, epoch); got != nil || ClassicObsolete(lock) {
		t.Error("a lock of leader election is touched")
	}
	deleted := newService(func(s *corev1.Service) { s.DeletionTimestamp = new(metav1.NewTime(epoch)) })
	if got := Classic(deleted, newPods(0, 1), nil, epoch); got != nil {
		t.Error("a Service that is being deleted gets a new object")
	}
	leaving := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: new(metav1.NewTime(epoch))}}
	if got := Classic(newService(), newPods(0, 1), leaving, epoch); got != nil {
		t.Error("an object that is being deleted is written")
	}
	if ClassicObsolete(&corev1.Endpoints{}) {
		t.Error("an object without the label is someone else's")
	}
	ours := Classic(newService(), newPods(0, 1), nil, epoch)
	if !ClassicObsolete(ours) {
		t.Error("our own object is not recognised")
	}
}

func TestClassicAdds(t *testing.T) {
	subset := func(port int32, ready, notReady string) corev1.EndpointSubset {
		s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "http", Port: port, Protocol: corev1.ProtocolTCP, AppProtocol: new("http")}}}
		for ip := range strings.FieldsSeq(ready) {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
		}
		for ip := range strings.FieldsSeq(notReady) {
			s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
		}
		return s
	}
	of := func(subsets ...corev1.EndpointSubset) *corev1.Endpoints { return &corev1.Endpoints{Subsets: subsets} }
	cases := map[string]struct {
		reason          string
		current, wanted *corev1.Endpoints
		want            bool
	}{
		"Added":      {"clients keep what they have", of(subset(80, "a", "")), of(subset(80, "a b", "")), true},
		"GotReady":   {"one that was not ready is added", of(subset(80, "a", "b")), of(subset(80, "a b", "")), true},
		"UnreadyOut": {"nobody is sent to one that is not ready", of(subset(80, "a", "b")), of(subset(80, "a", "")), true},
		"Withdrawn":  {"a is not ready any more", of(subset(80, "a b", "")), of(subset(80, "b", "a")), false},
		"Gone":       {"a is gone", of(subset(80, "a b", "")), of(subset(80, "b c", "")), false},
		"OtherPort":  {"its port is another", of(subset(80, "a", "")), of(subset(81, "a", "")), false},
		"Split":      {"a subset of its own has the same port", of(subset(80, "a b", "")), of(subset(80, "a", ""), subset(80, "b", "")), true},
		"First":      {"clients had nowhere to go", of(subset(80, "", "a")), of(subset(80, "a", "")), false},
		"Empty":      {"clients had nowhere to go", of(), of(subset(80, "a", "")), false},
		"Missing":    {"there was no object", nil, of(subset(80, "a", "")), false},
		"Portless":   {"a headless Service without ports", of(corev1.EndpointSubset{Addresses: []corev1.EndpointAddress{{IP: "a"}}}), of(), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := ClassicAdds(tc.current, tc.wanted); got != tc.want {
				t.Errorf("%s: got %v", tc.reason, got)
			}
		})
	}
}
