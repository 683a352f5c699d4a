package topology

import (
	"fmt"
	"slices"
	"testing"
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
