package topology

import (
	"cmp"
	"maps"
	"slices"
)

// Damping is by how much a zone's share of the demand may differ, from 0 to 1, from the one that hints were assigned by
// (Capacities.Moved), as long as they keep their bound.
const Damping = 0.05

// rounding is what figures may differ by that are the same.
const rounding = 1e-9

// Follow is Update for a caller whose capacities move a little all the time. Hints go on being assigned by the capacities
// that they were assigned by before, until those have moved by more than Damping or the bound would be broken: then
// they follow at once. The report is by the capacities that were used.
//
//  1. Capacities that have moved far are taken over.
//  2. Update.
//  3. If what comes out breaks its bound under the given capacities, they are taken over all the same.
func (a *Assignment) Follow(capacities Capacities) ([]Change, Report) {
	if a.capacities.Moved(capacities) > Damping {
		a.SetCapacities(capacities)
	}
	changes, report := a.Update()
	if a.holds(report, capacities) {
		return changes, report
	}
	a.SetCapacities(capacities)
	more, report := a.Update()
	last := map[string]Change{}
	for _, change := range slices.Concat(changes, more) {
		last[change.Key] = change
	}
	changes = slices.SortedFunc(maps.Values(last), func(x, y Change) int { return cmp.Compare(x.Key, y.Key) })
	report.Changed = len(changes)
	return changes, report
}

// holds says whether what was reported would do under other capacities. Where there are no hints, what kept them off may
// be over.
func (a *Assignment) holds(report Report, capacities Capacities) bool {
	if !report.Hinted {
		return a.capacities.Equal(capacities)
	}
	zones, total := a.zones, a.total
	a.zones, a.total = demandOf(a.policy, capacities)
	overload := a.figures(after(a.sorted(), nil)).overload
	a.zones, a.total = zones, total
	bound := report.Bound + float64(a.policy.Keep)/100
	if report.Reason != BoundMet { // It is above the policy's in any case.
		bound = max(report.Bound, report.Overload) + Damping
	}
	return overload <= bound+rounding
}
