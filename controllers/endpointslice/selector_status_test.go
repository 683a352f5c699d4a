package endpointslice

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// onNet is a running Pod of app web with that annotation.
func onNet(name, status string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-1", Labels: map[string]string{"app": "web"}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.244.0.1"}}},
	}
	if status != "" {
		pod.Annotations = map[string]string{endpoints.NetworkStatusAnnotation: status}
	}
	return pod
}

func mustCompile(t *testing.T, es *v1alpha1.EndpointSelector) *choice {
	t.Helper()
	c, refused := compile(es, secondary)
	if refused != nil {
		t.Fatal(*refused)
	}
	return c
}

// TestCensus: each Pod counts as it is now, whatever it was before.
func TestCensus(t *testing.T) {
	c := newCensus(mustCompile(t, newSelector(matchLabels("app", "web"), onNetwork("fast"))))
	type sums struct{ Pods, Attached, Unreadable, Bare, Excluding, Excluded int }
	ended := onNet("a", `[{"name":"shop/fast","ips":["10.20.0.1"]}]`)
	ended.Status.Phase = corev1.PodFailed
	relabelled := onNet("c", `[{"name":"shop/fast","ips":["10.20.0.3"]}]`)
	relabelled.Labels = map[string]string{"app": "db"}
	steps := []struct {
		pod     *corev1.Pod
		gone    string
		want    sums
		refused string
	}{
		{nil, "", sums{}, ""},
		{onNet("a", ""), "", sums{Pods: 1}, "attach the Pods"},
		{onNet("b", "{"), "", sums{Pods: 2, Unreadable: 1}, "cannot be read"},
		{onNet("a", `[{"name":"shop/fast","ips":["10.20.0.1"]}]`), "", sums{Pods: 2, Attached: 1, Unreadable: 1}, ""},
		{onNet("b", `[{"name":"shop/fast","ips":["192.0.2.1","10.20.0.2","192.0.2.2"]}]`), "", sums{Pods: 2, Attached: 2, Excluding: 1, Excluded: 2}, ""},
		{onNet("c", `[{"name":"shop/fast"}]`), "", sums{Pods: 3, Attached: 3, Bare: 1, Excluding: 1, Excluded: 2}, ""},
		{relabelled, "", sums{Pods: 2, Attached: 2, Excluding: 1, Excluded: 2}, ""},
		{ended, "", sums{Pods: 1, Attached: 1, Excluding: 1, Excluded: 2}, ""},
		{nil, "b", sums{}, ""},
		{nil, "b", sums{}, ""},
	}
	for i, step := range steps {
		if step.pod != nil {
			c.put(step.pod)
		}
		c.delete(step.gone)
		got := sums{len(c.pods), c.attached, c.unreadable, c.bare, c.excluding, c.excluded}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
		message := ""
		if r := c.refused(); r != nil {
			message = r.message
		}
		if (message == "") != (step.refused == "") || !strings.Contains(message, step.refused) {
			t.Errorf("step %d: refused with %q, want %q", i, message, step.refused)
		}
	}
}

// TestHolding: what is held stays exactly for as long as its Pod has it and may have it.
func TestHolding(t *testing.T) {
	endpoint := func(pod string, addresses ...string) *discoveryv1.Endpoint {
		return &discoveryv1.Endpoint{Addresses: addresses, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod, UID: "uid-1"}}
	}
	fast := `[{"name":"shop/fast","ips":["10.20.0.1"]}]`
	cases := map[string]struct {
		reason string
		pod    *corev1.Pod
		held   []*discoveryv1.Endpoint
		filter endpoints.AddressFilter
		want   []string
	}{
		"PodIP":       {"its own", onNet("a", ""), []*discoveryv1.Endpoint{endpoint("a", "10.244.0.1")}, secondary, []string{"10.244.0.1"}},
		"Secondary":   {"its own on a network", onNet("a", fast), []*discoveryv1.Endpoint{endpoint("a", "10.20.0.1")}, secondary, []string{"10.20.0.1"}},
		"NotAllowed":  {"what the administrator has closed is closed", onNet("a", fast), []*discoveryv1.Endpoint{endpoint("a", "10.20.0.1")}, endpoints.AddressFilter{}, nil},
		"Moved":       {"the address may be another's by now", onNet("a", ""), []*discoveryv1.Endpoint{endpoint("a", "10.20.0.1", "10.244.0.9")}, secondary, nil},
		"NewAddress":  {"nothing is added", onNet("a", fast), []*discoveryv1.Endpoint{endpoint("a", "10.244.0.1")}, secondary, []string{"10.244.0.1"}},
		"OtherPod":    {"nothing is added", onNet("b", fast), []*discoveryv1.Endpoint{endpoint("a", "10.20.0.1")}, secondary, nil},
		"Replaced":    {"a Pod of the same name is another", func() *corev1.Pod { p := onNet("a", fast); p.UID = "uid-2"; return p }(), []*discoveryv1.Endpoint{endpoint("a", "10.20.0.1")}, secondary, nil},
		"Families":    {"of all families", onNet("a", `[{"name":"x","ips":["fd00:20::1"]}]`), []*discoveryv1.Endpoint{endpoint("a", "10.244.0.1"), endpoint("a", "fd00:20::1")}, secondary, []string{"10.244.0.1", "fd00:20::1"}},
		"NoPod":       {"not of ours", onNet("a", fast), []*discoveryv1.Endpoint{{Addresses: []string{"10.20.0.1"}}}, secondary, nil},
		"Unreadable":  {"the Pod's own address stays", onNet("a", "{"), []*discoveryv1.Endpoint{endpoint("a", "10.244.0.1", "10.20.0.1")}, secondary, []string{"10.244.0.1"}},
		"NothingHeld": {"nothing is added", onNet("a", fast), nil, secondary, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, hold(tc.held, tc.filter).options().Addresses(tc.pod)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestStatusOf(t *testing.T) {
	earlier, now := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	counted := func(es *v1alpha1.EndpointSelector, pods ...*corev1.Pod) outcome {
		o := outcome{choice: mustCompile(t, es)}
		o.census = newCensus(o.choice)
		for _, pod := range pods {
			o.census.put(pod)
		}
		return o
	}
	with := func(o outcome, serving endpoints.Serving, change func(*outcome)) outcome {
		o.serving = &serving
		if change != nil {
			change(&o)
		}
		return o
	}
	plain := newSelector(matchLabels("app", "web"), nil)
	network := newSelector(matchLabels("app", "web"), onNetwork("fast"))
	groups := newSelector(matchLabels("app", "web"), inGroups(v1alpha1.EndpointGroup{Name: "one"}, v1alpha1.EndpointGroup{Name: "two", Selector: matchLabels("never", "there")}))
	in, out := `[{"name":"shop/fast","ips":["10.20.0.1"]}]`, `[{"name":"shop/fast","ips":["192.0.2.1"]}]`
	bad := &refusal{v1alpha1.ReasonInvalidSelector, "correct it"}

	cases := map[string]struct {
		reason  string
		es      *v1alpha1.EndpointSelector
		outcome outcome
		// want is Accepted's reason, Programmed's reason, and a word of its message.
		want     [3]string
		active   string
		pods     *int32
		ready    *int32
		excluded *int32
	}{
		"Programmed": {"all is well", plain, with(counted(plain, onNet("a", ""), onNet("b", "")), endpoints.Serving{Any: true, Published: 2, Ready: 1}, nil),
			[3]string{"Accepted", "Programmed", "2 endpoints, 1 ready"}, "", new(int32(2)), new(int32(1)), nil},
		"NoPods": {"nothing to do is done", plain, with(counted(plain), endpoints.Serving{}, nil),
			[3]string{"Accepted", "Programmed", "0 endpoints"}, "", new(int32(0)), new(int32(0)), nil},
		"Excluded": {"what is left out is said, with what to do", network, with(counted(network, onNet("a", in), onNet("b", out)), endpoints.Serving{Any: true, Published: 1, Ready: 1}, nil),
			[3]string{"Accepted", "AddressesExcluded", "1 address of 1 Pod on network \"shop/fast\" left out"}, "", new(int32(2)), new(int32(1)), new(int32(1))},
		"NotAttached": {"the others are served", network, with(counted(network, onNet("a", in), onNet("b", "")), endpoints.Serving{Any: true, Published: 1, Ready: 1}, nil),
			[3]string{"Accepted", "PodsLeftOut", "1 of 2 Pods left out: 1 not on network shop/fast; 1 endpoint"}, "", new(int32(2)), new(int32(1)), new(int32(0))},
		"Waiting": {"the node may come", plain, with(counted(plain, onNet("a", "")), endpoints.Serving{}, func(o *outcome) { o.waiting = 1 }),
			[3]string{"Accepted", "PodsLeftOut", "1 on a node that is not known yet"}, "", new(int32(1)), new(int32(0)), nil},
		"Family": {"a Pod of IPv4 for a Service of IPv6", plain, with(counted(plain, onNet("a", "")), endpoints.Serving{}, nil),
			[3]string{"Accepted", "PodsLeftOut", "families"}, "", new(int32(1)), new(int32(0)), nil},
		"Standby": {"who stands by is not left out", groups, with(counted(groups, onNet("a", ""), onNet("b", "")), endpoints.Serving{Any: true, Published: 1, Ready: 1, Standby: 1}, nil),
			[3]string{"Accepted", "Programmed", "group one is active, 1 Pod standing by"}, "one", new(int32(2)), new(int32(1)), nil},
		"SecondGroup": {"the rank names it", groups, with(counted(groups, onNet("a", "")), endpoints.Serving{Any: true, Rank: 1, Published: 1, Ready: 1}, nil),
			[3]string{"Accepted", "Programmed", "group two is active"}, "two", new(int32(1)), new(int32(1)), nil},
		"NoGroup": {"none is active", groups, with(counted(groups, onNet("a", "")), endpoints.Serving{Published: 1}, nil),
			[3]string{"Accepted", "Programmed", "no group has a ready one"}, "", new(int32(1)), new(int32(0)), nil},
		"Held": {"what is there is said", plain, outcome{refused: bad, serving: &endpoints.Serving{Any: true, Published: 3, Ready: 2}},
			[3]string{"InvalidSelector", "NotAccepted", "the 3 endpoints that were there stay"}, "", nil, new(int32(2)), nil},
		"Refused": {"nothing is there", plain, outcome{refused: bad}, [3]string{"InvalidSelector", "NotAccepted", "no endpoints of it"}, "", nil, nil, nil},
		"Problem": {"a write failed", plain, with(counted(plain), endpoints.Serving{}, func(o *outcome) { o.problem = &refusal{v1alpha1.ReasonWriteFailed, "no"} }),
			[3]string{"Accepted", "WriteFailed", "no"}, "", new(int32(0)), new(int32(0)), nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.es.Generation = 7
			last := &v1alpha1.EndpointSelectorStatus{Conditions: []metav1.Condition{
				{Type: "Accepted", Status: metav1.ConditionTrue, LastTransitionTime: earlier},
				{Type: "Programmed", Status: metav1.ConditionTrue, LastTransitionTime: earlier},
			}}
			got := statusOf(tc.es, last, tc.outcome, now)
			if got.ActiveGroup != tc.active || cmp.Diff(tc.pods, got.Pods) != "" || cmp.Diff(tc.ready, got.ReadyEndpoints) != "" || cmp.Diff(tc.excluded, got.ExcludedAddresses) != "" {
				t.Errorf("%s: %+v", tc.reason, got)
			}
			for i, name := range []string{"Accepted", "Programmed"} {
				c := meta.FindStatusCondition(got.Conditions, name)
				good := c.Reason == name
				if c.Reason != tc.want[i] || c.ObservedGeneration != 7 || (c.Status == metav1.ConditionTrue) != good {
					t.Errorf("%s: %+v, want %s", tc.reason, c, tc.want[i])
				}
				if stays := c.LastTransitionTime == earlier; stays != good {
					t.Errorf("%s: %s changes at %v", tc.reason, name, c.LastTransitionTime)
				}
				if i == 1 && !strings.Contains(c.Message, tc.want[2]) {
					t.Errorf("%s: %q does not say %q", tc.reason, c.Message, tc.want[2])
				}
			}
		})
	}
}

// TestChanges: an event for what changes, once, and none for numbers.
func TestChanges(t *testing.T) {
	status := func(accepted, programmed, active string) *v1alpha1.EndpointSelectorStatus {
		s := &v1alpha1.EndpointSelectorStatus{ActiveGroup: active}
		for name, reason := range map[string]string{"Accepted": accepted, "Programmed": programmed} {
			c := metav1.Condition{Type: name, Status: metav1.ConditionFalse, Reason: reason, Message: "m"}
			if reason == name {
				c.Status = metav1.ConditionTrue
			}
			s.Conditions = append(s.Conditions, c)
		}
		return s
	}
	none := &v1alpha1.EndpointSelectorStatus{}
	good := status("Accepted", "Programmed", "")
	cases := map[string]struct {
		last, next *v1alpha1.EndpointSelectorStatus
		want       string
		urgent     bool
	}{
		"FirstGood":   {none, good, "", true},
		"FirstBad":    {none, status("ServiceNotFound", "NotAccepted", ""), "Warning ServiceNotFound", true},
		"Same":        {good, good, "", false},
		"Refused":     {good, status("NetworkUnknown", "NotAccepted", ""), "Warning NetworkUnknown", true},
		"OtherReason": {status("ServiceNotFound", "NotAccepted", ""), status("ServiceHasSelector", "NotAccepted", ""), "Warning ServiceHasSelector", true},
		"Mended":      {status("NetworkUnknown", "NotAccepted", ""), good, "Normal Accepted", true},
		"Excluded":    {good, status("Accepted", "AddressesExcluded", ""), "Warning AddressesExcluded", true},
		"StillSo":     {status("Accepted", "AddressesExcluded", ""), status("Accepted", "AddressesExcluded", ""), "", false},
		"NotAnyMore":  {status("Accepted", "AddressesExcluded", ""), good, "Normal Programmed", true},
		"Switch":      {status("Accepted", "Programmed", "a"), status("Accepted", "Programmed", "b"), "Normal ActiveGroupChanged", true},
		"NoneLeft":    {status("Accepted", "Programmed", "a"), good, "Warning NoActiveGroup", true},
		"RefusedWith": {status("Accepted", "Programmed", "a"), status("NetworkUnknown", "NotAccepted", ""), "Warning NetworkUnknown", true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range changes(tc.last, tc.next) {
				kind := "Normal "
				if c.warning {
					kind = "Warning "
				}
				got = append(got, kind+c.reason)
			}
			if text := strings.Join(got, ", "); text != tc.want {
				t.Errorf("events %q, want %q", text, tc.want)
			}
			if got := urgent(tc.last, tc.next); got != tc.urgent {
				t.Errorf("urgent: %v, want %v", got, tc.urgent)
			}
		})
	}
}
