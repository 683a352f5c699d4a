package topology

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shares are the capacities of zones a, b and c with so many millicores each.
func shares(cpu ...int64) Capacities {
	var nodes []Node
	for i, n := range cpu {
		nodes = append(nodes, Node{Zone: string(rune('a' + i)), MilliCPU: n})
	}
	return CapacitiesOf(slices.Values(nodes))
}

// TestFollow: 12 endpoints, 6 of them in zone a and 3 in each of b and c. With 40% of the demand in a the placement meets
// the bound as it is; with 39% zones b and c need one endpoint more each.
func TestFollow(t *testing.T) {
	cases := map[string]struct {
		reason       string
		before, then Capacities
		// fresh is how many hints Update would change, changed how many Follow does.
		fresh, changed int
	}{
		"Same":   {"Nothing changes of itself.", shares(390, 305, 305), shares(390, 305, 305), 0, 0},
		"Little": {"Better hints that are not needed wait.", shares(390, 305, 305), shares(400, 300, 300), 2, 0},
		"Far":    {"A zone that has grown gets more.", shares(390, 305, 305), shares(500, 250, 250), 2, 2},
		"Broken": {"However little it is, a bound that is broken is met again at once.", shares(400, 300, 300), shares(390, 305, 305), 2, 2},
		"Gone":   {"A zone that is gone has no clients.", shares(390, 305, 305), shares(390, 305), 5, 5},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			filled := func() *Assignment {
				a := NewAssignment(Policy{Mode: ModeAuto, Bound: DefaultBound, By: ByCPU}, tc.before)
				for i := range 12 {
					a.Put(Endpoint{Key: fmt.Sprintf("e%02d", i), Zone: string("aaaaaabbbccc"[i])})
				}
				a.Update()
				return a
			}
			fresh := filled()
			fresh.SetCapacities(tc.then)
			if changes, _ := fresh.Update(); len(changes) != tc.fresh {
				t.Fatalf("Update changes %d hints, want %d: the case shows nothing", len(changes), tc.fresh)
			}
			a := filled()
			changes, report := a.Follow(tc.then)
			if len(changes) != tc.changed || report.Changed != tc.changed {
				t.Errorf("%s %d hints changed, %d reported, want %d", tc.reason, len(changes), report.Changed, tc.changed)
			}
			if again, _ := a.Follow(tc.then); len(again) > 0 {
				t.Errorf("asked again, %d hints changed", len(again))
			}
			if overload := a.figures(after(a.sorted(), nil)).overload; report.Reason != BoundMet || overload > 0.2+rounding {
				t.Errorf("%s with an overload of %f", report.Reason, overload)
			}
		})
	}
}

// TestFollowCreeps: capacities that creep are held against those that hints were assigned by, and not against the last.
func TestFollowCreeps(t *testing.T) {
	first, second, third := shares(390, 305, 305), shares(360, 320, 320), shares(330, 335, 335)
	a := NewAssignment(Policy{Mode: ModeAuto, Bound: DefaultBound, By: ByCPU}, first)
	for i := range 12 {
		a.Put(Endpoint{Key: fmt.Sprintf("e%02d", i), Zone: string("aaaaaabbbccc"[i])})
	}
	if a.Follow(second); !a.capacities.Equal(first) {
		t.Error("capacities that moved a little are followed")
	}
	if a.Follow(third); !a.capacities.Equal(third) {
		t.Error("capacities that have moved far, by small steps, are not followed")
	}
}

// TestFollowHolds: capacities that move by a little wait as well where the hints that stand are not within the policy's
// bound, by what it lets stand or since that cannot be met.
func TestFollowHolds(t *testing.T) {
	keep := Policy{Mode: ModeAuto, Bound: DefaultBound, By: ByCPU, Keep: 150}
	cases := map[string]struct {
		reason string
		policy Policy
		zones  string
		goes   int
		want   Reason
		kept   bool
	}{
		"Raised":     {"The smallest bound has its margin.", auto, "aaaabbbbccc", 0, BoundRaised, false},
		"Kept":       {"What the policy keeps is kept.", keep, "aaaabbbbcccc", 2, BoundMet, true},
		"KeptRaised": {"So is what is far above the smallest bound.", keep, "aaaabbbccc", 2, BoundRaised, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before, then := shares(333, 333, 334), shares(330, 330, 340)
			a := NewAssignment(tc.policy, before)
			for i, zone := range tc.zones {
				a.Put(Endpoint{Key: fmt.Sprintf("%c%d", zone, i), Zone: string(zone)})
			}
			a.Update()
			for i := range tc.goes {
				a.Delete(fmt.Sprintf("c%d", len(tc.zones)-1-i))
			}
			if _, report := a.Follow(before); report.Reason != tc.want || report.Kept != tc.kept {
				t.Fatalf("it shows nothing: %+v", report)
			}
			if changes, report := a.Follow(then); len(changes) > 0 || !a.capacities.Equal(before) {
				t.Errorf("%s %d hints changed: %+v", tc.reason, len(changes), report)
			}
		})
	}
}

// TestFollowWasOff: hints that were off are back as soon as any capacities let their bound be met.
func TestFollowWasOff(t *testing.T) {
	strict := auto
	strict.Strict = true
	a := NewAssignment(strict, shares(333, 333, 334))
	for i, zone := range "aaaabbbbccc" {
		a.Put(Endpoint{Key: fmt.Sprint(i), Zone: string(zone)})
	}
	if _, report := a.Update(); report.Hinted {
		t.Fatalf("it shows nothing: %+v", report)
	}
	if changes, report := a.Follow(shares(340, 340, 320)); !report.Hinted || len(changes) != 11 {
		t.Errorf("%d hints changed: %+v", len(changes), report)
	}
}

// TestFollowTwice: where the first try breaks its bound, the changes of both are told, each endpoint's once.
func TestFollowTwice(t *testing.T) {
	a := NewAssignment(auto, shares(400, 300, 300))
	for i := range 12 {
		a.Put(Endpoint{Key: fmt.Sprintf("e%02d", i), Zone: string("aaaaaabbbccc"[i])})
	}
	a.Update()
	a.Delete("e00")
	a.Put(Endpoint{Key: "new", Zone: "a"})
	changes, report := a.Follow(shares(390, 305, 305))
	want := []Change{{"e01", zonesHint("b")}, {"e02", zonesHint("c")}, {"new", zonesHint("a")}}
	if diff := cmp.Diff(want, changes); diff != "" || report.Changed != 3 {
		t.Errorf("%+v\n%s", report, diff)
	}
}
