package cloud

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestTargetsAfterwards: what a change of targets adds and removes leads to the list that it holds, whether the set is
// there, changes otherwise or is to be made.
func TestTargetsAfterwards(t *testing.T) {
	targets := func(ids ...string) []Target {
		var list []Target
		for _, id := range ids {
			list = append(list, Target{ID: id})
		}
		return list
	}
	cases := map[string]struct {
		have, want []Target
		exists     bool
	}{
		"Made":     {nil, targets("a", "b"), false},
		"First":    {nil, targets("a", "b"), true},
		"More":     {targets("b"), targets("a", "b", "c"), true},
		"Others":   {targets("a", "b"), targets("c"), true},
		"NoneLeft": {targets("a", "b"), nil, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			want := Resource{Kind: "Set", Key: "k", HasTargets: true, Targets: tc.want, Attributes: map[string]string{"port": "2"}}
			have := want
			have.ID, have.Targets, have.Owners = "s-1", tc.have, []OwnerID{us.ID()}
			have.Attributes = map[string]string{"port": "1"}
			var observed []Resource
			if tc.exists {
				observed = append(observed, have)
			}
			plan, err := Diff(us, []Resource{want}, observed, v1alpha1.ReplacementNever)
			if err != nil {
				t.Fatal(err)
			}
			changes := 0
			for _, op := range plan.Operations {
				if op.Action != ActionSyncTargets {
					continue
				}
				changes++
				got := append(subtract(tc.have, op.Remove), op.Add...)
				byID := cmpopts.SortSlices(func(a, b Target) bool { return a.ID < b.ID })
				if diff := cmp.Diff(op.Resource.Targets, got, byID, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("the list and the steps differ (-list +steps):\n%s", diff)
				}
				if diff := cmp.Diff(tc.want, op.Resource.Targets, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("the list is not what is wanted (-want +list):\n%s", diff)
				}
			}
			if changes != 1 {
				t.Errorf("%d changes of targets, want one", changes)
			}
		})
	}
}

// TestCallsTogether: where targets are kept together each list costs one call, whoever's resources are to have it.
func TestCallsTogether(t *testing.T) {
	change := func(service string, ids ...string) TargetChange {
		r := Resource{Kind: "Set", Key: service, ID: service}
		for _, id := range ids {
			r.Targets = append(r.Targets, Target{ID: id})
		}
		return TargetChange{Resource: r, Add: r.Targets}
	}
	calls := TargetCalls{Max: 2, OneDirection: true, Together: true}
	for want, changes := range [][]TargetChange{
		{},
		{change("a", "1", "2"), change("b", "1", "2"), change("c", "2", "1")},
		{change("a", "1", "2"), change("b", "fd00::1"), change("c", "1", "2")},
		{change("a", "1", "2", "3"), change("b", "fd00::1"), change("c", "3", "1", "2")}, // the first takes two
	} {
		if got := calls.Calls(changes...); got != want {
			t.Errorf("%d changes cost %d calls, want %d", len(changes), got, want)
		}
	}
}
