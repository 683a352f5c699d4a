package topology

import (
	"fmt"
	"slices"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/topology"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	auto  = topology.Policy{Mode: topology.ModeAuto, Bound: topology.DefaultBound, By: topology.ByCPU}
	// halves are two zones of equal capacity.
	halves = topology.CapacitiesOf(slices.Values([]topology.Node{{Zone: "x", MilliCPU: 1000}, {Zone: "y", MilliCPU: 1000}}))
)

// version returns a slice as it is at a time.
func version(s *discoveryv1.EndpointSlice, n int) *discoveryv1.EndpointSlice {
	s.UID, s.ResourceVersion = types.UID(s.Name), fmt.Sprint(n)
	return s
}

// TestHinted: only slices whose ready endpoints have other hints than they should are written, and nothing else of them
// changes.
func TestHinted(t *testing.T) {
	b := &beside{}
	right := slice("a", at("p1", "x", "x"), at("!p2", "x", "y"))
	wrong := slice("b", at("p3", "y", ""), at("!p4", "y", "y"))
	before := wrong.DeepCopy()
	reports := b.assign(auto, halves, []*discoveryv1.EndpointSlice{right, wrong})
	if report := reports[discoveryv1.AddressTypeIPv4]; report.Reason != topology.BoundMet || report.Endpoints != 2 || report.Changed != 1 {
		t.Errorf("the report is %+v", report)
	}
	if b.hinted(auto, right) != nil {
		t.Error("a slice is written whose ready endpoints have their hints")
	}
	next := b.hinted(auto, wrong)
	if next == nil {
		t.Fatal("a slice without hints is not written")
	}
	want := before.DeepCopy()
	want.Endpoints = []discoveryv1.Endpoint{at("p3", "y", "y"), at("!p4", "y", "")}
	if fmt.Sprint(next) != fmt.Sprint(want) || fmt.Sprint(wrong) != fmt.Sprint(before) {
		t.Errorf("written is %v, want %v; the cache's was %v and is %v", next, want, before, wrong)
	}
	// An endpoint that is gone counts no more.
	wrong.Endpoints = wrong.Endpoints[1:]
	reports = b.assign(auto, halves, []*discoveryv1.EndpointSlice{right, wrong})
	if report := reports[discoveryv1.AddressTypeIPv4]; report.Endpoints != 1 {
		t.Errorf("%d endpoints are left, want one", report.Endpoints)
	}
}

// TestRemovals: hints that are taken off again and again end in a rest, and nothing else does.
func TestRemovals(t *testing.T) {
	ours := func(n int) *discoveryv1.EndpointSlice {
		return version(slice("a", at("p1", "x", "y"), at("p2", "x", "x")), n)
	}
	cases := map[string]struct {
		reason string
		// after is the slice as others make it.
		after func(n int) *discoveryv1.EndpointSlice
		times int
		every time.Duration
		rests bool
	}{
		"Stripped": {"nobody keeps the hints", func(n int) *discoveryv1.EndpointSlice {
			return version(slice("a", at("p1", "x", ""), at("p2", "x", "")), n)
		}, maxRemovals, time.Second, true},
		"Replaced": {"somebody has hints of their own", func(n int) *discoveryv1.EndpointSlice {
			return version(slice("a", at("p1", "x", "x"), at("p2", "x", "x")), n)
		}, maxRemovals, time.Second, true},
		"NowAndThen": {"it happens", func(n int) *discoveryv1.EndpointSlice {
			return version(slice("a", at("p1", "x", "x"), at("p2", "x", "x")), n)
		}, 5 * maxRemovals, 7 * time.Second, false},
		"Kept": {"that is as it should be", func(n int) *discoveryv1.EndpointSlice {
			return version(slice("a", at("p1", "x", "y"), at("p2", "x", "x")), n)
		}, 5 * maxRemovals, time.Millisecond, false},
		"NotReady": {"nobody keeps hints of what is not ready", func(n int) *discoveryv1.EndpointSlice {
			return version(slice("a", at("!p1", "x", ""), at("p2", "x", "x")), n)
		}, 5 * maxRemovals, time.Millisecond, false},
		"Successor": {"another Pod of the same name has hints of its own", func(n int) *discoveryv1.EndpointSlice {
			s := version(slice("a", at("p1", "x", "x"), at("p2", "x", "x")), n)
			s.Endpoints[0].Addresses = []string{"10.0.1.1"}
			return s
		}, 5 * maxRemovals, time.Millisecond, false},
		"Others": {"other endpoints are others", func(n int) *discoveryv1.EndpointSlice {
			return version(slice("a", at("p3", "x", "x")), n)
		}, 5 * maxRemovals, time.Millisecond, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b, now := &beside{}, start
			for i := range tc.times {
				if b.resting(now) {
					t.Fatalf("rests after %d: %s", i, tc.reason)
				}
				b.wrote = map[types.UID]*discoveryv1.EndpointSlice{"a": ours(2 * i)}
				b.noteRemovals([]*discoveryv1.EndpointSlice{tc.after(2*i + 1)}, now)
				now = now.Add(tc.every)
			}
			if b.resting(now) != tc.rests {
				t.Errorf("rests %t: %s", !tc.rests, tc.reason)
			}
			// After a rest it begins anew.
			b.wrote = map[types.UID]*discoveryv1.EndpointSlice{"a": ours(1000)}
			b.noteRemovals([]*discoveryv1.EndpointSlice{tc.after(1001)}, now.Add(rest))
			if b.resting(now.Add(rest)) {
				t.Error("the rest does not end")
			}
		})
	}
}

// TestRemovedLater: hints that others kept for a while are ours still when somebody takes them off.
func TestRemovedLater(t *testing.T) {
	b := &beside{wrote: map[types.UID]*discoveryv1.EndpointSlice{"a": version(slice("a", at("p1", "x", "y")), 1)}}
	for n, hint := range []string{"y", "y", ""} {
		b.noteRemovals([]*discoveryv1.EndpointSlice{version(slice("a", at("p1", "x", hint)), n+2)}, start)
	}
	if len(b.removals) != 1 {
		t.Errorf("%d removals are known", len(b.removals))
	}
}

// TestBehind: what the cache does not show yet is not taken for somebody's doing.
func TestBehind(t *testing.T) {
	b := &beside{wrote: map[types.UID]*discoveryv1.EndpointSlice{"a": version(slice("a"), 10)}}
	for n, want := range map[int]bool{9: true, 10: false, 11: false} {
		if got := b.behind([]*discoveryv1.EndpointSlice{version(slice("a"), n)}); got != want {
			t.Errorf("version %d: behind %t", n, got)
		}
	}
}
