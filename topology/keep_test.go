package topology

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// TestKeep: a Service whose endpoint goes and comes back keeps the hints of the others.
func TestKeep(t *testing.T) {
	keep := auto
	keep.Keep = 25
	changed := map[int]int{}
	for _, policy := range []Policy{auto, keep} {
		for seed := range uint64(100) {
			r := rand.New(rand.NewPCG(seed, 9))
			s := newStream(t, policy, weighted(3, 2, 1))
			for i := range 12 + r.IntN(40) {
				s.put(Endpoint{Key: fmt.Sprintf("10.0.0.%d", i), Zone: zoneName(r.IntN(3))})
			}
			s.update()
			key := fmt.Sprintf("10.0.0.%d", r.IntN(12))
			was := s.endpoints[key]
			s.delete(key)
			down := s.update()
			was.Hints = nil
			before := maps.Clone(s.endpoints)
			s.put(was)
			up := s.update()
			for other, e := range before {
				if hintsText(s.endpoints[other].Hints) != hintsText(e.Hints) {
					changed[policy.Keep]++
				}
			}
			_, best := Assign(auto, s.capacities, slices.Collect(maps.Values(s.endpoints)))
			spare := float64(policy.Keep)/100 + tolerance
			if up.CrossZone > best.CrossZone+spare || up.Overload > best.Bound+spare {
				t.Errorf("seed %d: %+v is worse than %+v by more than the policy allows", seed, up, best)
			}
			if down.Kept && policy.Keep == 0 || up.Kept != (up.CrossZone > best.CrossZone+tolerance || up.Overload > best.Bound+tolerance) {
				t.Errorf("seed %d: kept is %t and %t, %+v stands beside %+v", seed, down.Kept, up.Kept, up, best)
			}
		}
	}
	if changed[0] == 0 || changed[25] != 0 {
		t.Errorf("hints of others changed by Policy.Keep: %v", changed)
	}
}

// TestKeepPlaces: what is new serves its own zone where that lacks endpoints, before those of other zones do, and the
// endpoint of zone b that serves a, which the best hints would change, goes on with that.
func TestKeepPlaces(t *testing.T) {
	keep := auto
	keep.Keep = 25
	a := NewAssignment(keep, weighted(1, 1))
	put := func(count int, zone, serves string) {
		for i := range count {
			e := Endpoint{Key: fmt.Sprintf("%s-for-%s-%d", zone, serves, i), Zone: zone}
			if serves != "new" {
				e.Hints = zonesHint(serves)
			}
			a.Put(e)
		}
	}
	put(6, "a", "a")
	put(1, "b", "a")
	put(5, "b", "b")
	put(1, "a", "new")
	put(1, "b", "new")
	changes, report := a.Update()
	want := []Change{{"a-for-new-0", zonesHint("a")}, {"b-for-new-0", zonesHint("b")}}
	if diff := cmp.Diff(want, changes); diff != "" || !report.Kept {
		t.Errorf("%+v\n%s", report, diff)
	}
}

// TestKeepHomeless: zone a lacks one endpoint, which is one that is in no zone, and not one that has its own to serve; the
// other goes where the demand for each endpoint is greatest. The one of c that serves b, which the best hints would change,
// goes on with that.
func TestKeepHomeless(t *testing.T) {
	keep := auto
	keep.Keep = 25
	a := NewAssignment(keep, weighted(1, 1, 1))
	for place, hint := range map[string]string{"a": "a", "b": "b", "c": "c", "c1": "b"} {
		for i := range map[string]int{"a": 4, "b": 5, "c": 5, "c1": 1}[place] {
			a.Put(Endpoint{Key: fmt.Sprint(place, "-", i), Zone: place[:1], Hints: zonesHint(hint)})
		}
	}
	a.Put(Endpoint{Key: "new-c", Zone: "c"})
	a.Put(Endpoint{Key: "new-1"})
	a.Put(Endpoint{Key: "new-2", Zone: "without nodes"})
	changes, report := a.Update()
	want := []Change{{"new-1", zonesHint("a")}, {"new-2", zonesHint("a")}, {"new-c", zonesHint("c")}}
	if diff := cmp.Diff(want, changes); diff != "" || !report.Kept {
		t.Errorf("%+v\n%s", report, diff)
	}
}

// TestKeepAll: where the policy keeps hints up to a double load, one endpoint after the other goes and comes back, and
// nobody else's hints ever change.
func TestKeepAll(t *testing.T) {
	opened := 0
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 10))
		policy := auto
		policy.Bound = []int{0, 20, 50}[r.IntN(3)]
		policy.Keep = 100 + policy.Bound
		weights := make([]int64, 2+r.IntN(4))
		for z := range weights {
			weights[z] = 1 + r.Int64N(6)
		}
		s := newStream(t, policy, weighted(weights...))
		for i := range 1 + r.IntN(40) {
			s.put(Endpoint{Key: fmt.Sprintf("10.0.0.%d", i), Zone: zoneName(r.IntN(len(weights)))})
		}
		s.update()
		for range 2 {
			for _, key := range slices.Sorted(maps.Keys(s.endpoints)) {
				was := s.endpoints[key]
				s.delete(key)
				if report := s.update(); report.Changed > 0 {
					t.Fatalf("seed %d: %s goes, and %d others change: %+v", seed, key, report.Changed, report)
				} else if strings.Contains(report.Message, "the clients of some zones") && report.Reason != TooFewEndpoints {
					opened++
				}
				was.Hints = nil
				s.put(was)
				if report := s.update(); report.Changed > 1 {
					t.Fatalf("seed %d: %s is back, and %d others change: %+v", seed, key, report.Changed-1, report)
				}
			}
		}
	}
	if opened < 20 {
		t.Errorf("only %d times a zone was left to all endpoints", opened)
	}
}

// TestKeepFits: hints that the policy cannot have given are replaced, and those of the others stand.
func TestKeepFits(t *testing.T) {
	keep := Policy{Mode: ModeAuto, Bound: 20, By: ByCPU, Keep: 25, Several: true}
	cases := map[string]struct {
		reason string
		hints  *discoveryv1.EndpointHints
	}{
		"GoneZone": {"nobody is in a zone without nodes", zonesHint("z")},
		"OwnZone":  {"the webhook gives a new endpoint that", zonesHint("b")},
		"Node":     {"a policy that was before", &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "n"}}}},
		"Stranger": {"they are nobody's", zonesHint("c", "a", "z")},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			a := NewAssignment(keep, weighted(2, 2, 1))
			// One more of b would do better for b than for a; c is everybody's.
			for i := range 10 {
				a.Put(Endpoint{Key: fmt.Sprint("a", i), Zone: "a", Hints: zonesHint("a", "c")})
			}
			for i := range 9 {
				a.Put(Endpoint{Key: fmt.Sprint("b", i), Zone: "b", Hints: zonesHint("b", "c")})
			}
			a.Put(Endpoint{Key: "c", Zone: "c", Hints: zonesHint("a", "c")})
			a.Put(Endpoint{Key: "b9", Zone: "b", Hints: tc.hints})
			changes, report := a.Update()
			if diff := cmp.Diff([]Change{{"b9", zonesHint("b", "c")}}, changes); diff != "" {
				t.Errorf("%s: %+v\n%s", tc.reason, report, diff)
			}
		})
	}
}
