package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/test/peers/figures"
)

// slice shows Pods of Service 0; those of the map that are false are not ready.
func slice(name string, pods map[*pod]bool) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceOf(0), Name: name},
		Ports:      []discoveryv1.EndpointPort{{Port: ptr.To[int32](portHTTP)}, {Port: ptr.To[int32](portMetrics)}},
	}
	for p, isReady := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.ip}, Zone: ptr.To(p.zone()), Conditions: discoveryv1.EndpointConditions{Ready: &isReady},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.namespace(), Name: p.name},
		})
	}
	return s
}

func TestTracker(t *testing.T) {
	begin := time.Now()
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	w := newTracker()
	check := func(reason string, want bool) {
		t.Helper()
		unfinished, err := w.right()
		if err != nil || (unfinished == nil) != want {
			t.Errorf("%s: unfinished %v, error %v", reason, unfinished, err)
		}
	}
	a, b := &pod{name: "a", ip: "10.128.0.1"}, &pod{name: "b", ip: "10.128.0.2", node: 1}
	expect := func(p *pod, want appearance, k kind, sent int) {
		w.answered(w.expect(p, want, k, at(sent)), at(sent+1))
	}
	expect(a, ready, ofStatus, 0)
	expect(b, ready, ofStatus, 0)
	check("no slice yet", false)
	w.observe(slice("x", map[*pod]bool{a: true}), false, at(3))
	check("one is missing", false)
	w.observe(slice("y", map[*pod]bool{a: true, b: true}), false, at(6))
	check("one is in two slices", false)
	w.observe(slice("x", nil), false, at(7))
	check("it moved", true)
	status, sent, _, skipped := w.latencies()
	if diff := cmp.Diff([]figures.Latency{{Count: 2, P50: 2, P99: 5, Max: 5}, {Count: 2, P50: 3, P99: 6, Max: 6}}, []figures.Latency{status, sent}); diff != "" || skipped != 0 {
		t.Errorf("%d skipped; latencies from answer and from sending, -want +got:\n%s", skipped, diff)
	}

	w.begin()
	expect(a, unready, ofStatus, 10)
	expect(a, ready, ofStatus, 12)
	expect(b, unready, ofDeletion, 12)
	check("a change was taken back, another one not seen", false)
	w.observe(slice("y", map[*pod]bool{a: true}), false, at(15))
	check("who is gone is not the same as who is not ready", false)
	expect(b, absent, unmeasured, 16)
	check("both are gone", true)
	status, _, deletion, skipped := w.latencies()
	if diff := cmp.Diff([]figures.Latency{{}, {Count: 1, P50: 2, P99: 2, Max: 2}}, []figures.Latency{status, deletion}); diff != "" || skipped != 1 {
		t.Errorf("%d skipped, want 1; latencies of status and deletion, -want +got:\n%s", skipped, diff)
	}

	moved := &pod{name: a.name, ip: a.ip, node: 1}
	w.observe(slice("y", map[*pod]bool{moved: true}), false, at(20))
	check("another zone", false)
	w.observe(slice("y", map[*pod]bool{a: true, {name: "c", ip: "10.128.0.9"}: true}), false, at(21))
	check("a Pod that never was", false)
	w.observe(slice("y", map[*pod]bool{a: true}), false, at(22))
	check("as it has to be", true)
	w.observe(slice("y", nil), true, at(23))
	check("the slice is gone", false)
	if n := w.count(); n != 1 {
		t.Errorf("%d slices, want 1", n)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"Workload":  {"-workloads=50x41"},
		"Peer":      {"-peers=other"},
		"Runs":      {"-assets=x", "-runs=0"},
		"Scale":     {"-assets=x", "-scale=0"},
		"Pods":      {"-assets=x", "-pods=15", "-services=10"},
		"Argument":  {"-assets=x", "quick"},
		"NoProgram": {"-assets=x"},
		"NoAssets":  {"-assets="},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
