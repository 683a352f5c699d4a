package cloud

import (
	"fmt"
	"slices"
)

// removeFirst does step 2 of Diff.
func (d *differ) removeFirst(desired []Resource) {
	lends := d.lending()
	for i := range desired {
		want := &desired[i]
		found, _, _ := d.candidates(want)
		replace := want.Fixed && !want.Beside && d.recreate && len(found) > 0 &&
			!slices.ContainsFunc(found, func(r *Resource) bool { return r.Key == want.Key && sameImmutable(want, r) })
		for _, r := range found {
			// What is to stay shared is not replaced under the others.
			together := want.Shared && d.others(r)
			switch {
			case lends[identity(r)]:
			case r.State == StateFailed:
				d.removeWithDependents(r, reasonFailed)
			case replace && !together:
				d.removeWithDependents(r, reasonRoom)
			}
		}
	}
	for _, r := range dependentsFirst(d.observed) {
		if reason := d.first[identity(r)]; reason != "" {
			d.remove(r, reason)
		}
	}
}

// lending returns what is Lent, or would have to go together with something that is, by identity.
func (d *differ) lending() map[string]bool {
	lends := map[string]bool{}
	for _, r := range dependentsFirst(d.observed) {
		if r.Lent || slices.ContainsFunc(d.observed, func(other Resource) bool { return lends[identity(&other)] && pointsTo(&other, r) }) {
			lends[identity(r)] = true
		}
	}
	return lends
}

func (d *differ) removeWithDependents(r *Resource, reason string) {
	if d.first[identity(r)] != "" || !d.mine(r) {
		return
	}
	d.first[identity(r)] = reason
	for i := range d.observed {
		if pointsTo(&d.observed[i], r) {
			d.removeWithDependents(&d.observed[i], reason)
		}
	}
}

// removeRest does step 5 of Diff.
func (d *differ) removeRest() {
	var rest []*Resource
	used := map[string]bool{} // kind/id of what something that is left as it is points to
	for _, r := range dependentsFirst(d.observed) {
		taken := d.taken[identity(r)]
		if taken && d.unavailable[r.ref()] || used[r.Kind+"/"+r.ID] {
			for _, dep := range r.DependsOn {
				used[dep.Kind+"/"+dep.ID] = true
			}
		}
		if !d.mine(r) || taken || d.first[identity(r)] != "" || used[r.Kind+"/"+r.ID] {
			continue
		}
		rest = append(rest, r)
		if d.lets(r) {
			d.letGo = append(d.letGo, r)
		}
	}
	// Targets go before any mark does: another Service may have the node ports tomorrow. Where the adoption did not come
	// to its end they are still those from before. Those of what is Shared are others', too, or are by now.
	for _, r := range d.letGo {
		if len(r.Targets) > 0 && !r.Shared && !stray(d.owner, d.observed, r) {
			emptied := *r
			emptied.Targets = nil // what it is to have afterwards, for a cloud that takes the whole list
			d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionSyncTargets, Resource: emptied, Remove: r.Targets,
				Reason: fmt.Sprintf("targets +0 -%d", len(r.Targets))})
		}
	}
	for _, r := range rest {
		if slices.Contains(d.letGo, r) {
			d.release(r)
		} else {
			d.remove(r, "no longer wanted")
		}
	}
}

// lets reports whether r is let go rather than deleted: since it is somebody else's, or something that is let go uses it.
// Called in the order of dependentsFirst.
func (d *differ) lets(r *Resource) bool {
	return r.Lent || stray(d.owner, d.observed, r) ||
		slices.ContainsFunc(d.letGo, func(other *Resource) bool { return pointsTo(other, r) })
}

// release takes the owner's mark off r.
func (d *differ) release(r *Resource) {
	left := *r
	left.Owners = slices.DeleteFunc(slices.Clone(r.Owners), func(id OwnerID) bool { return id == d.owner.ID() })
	if len(left.Owners) == 0 {
		left.Adopted, left.Lent = "", false
	}
	d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionUpdate, Resource: left, Observed: r,
		Reason: "letting it go: it was adopted"})
}

// remove deletes r, or takes the owner's mark off where others have theirs on it. What is broken is deleted whoever else
// has it: they need another one, too. Called in the order of dependentsFirst: what something points to that the cloud
// still deletes has to wait, and so has what that one points to.
func (d *differ) remove(r *Resource, reason string) {
	others := slices.DeleteFunc(slices.Clone(r.Owners), func(id OwnerID) bool { return id == d.owner.ID() })
	if len(others) > 0 && r.State != StateFailed {
		left := *r
		left.Owners = others
		// What nobody else has goes, so nothing may point to it any more.
		left.DependsOn = slices.DeleteFunc(slices.Clone(r.DependsOn), func(dep Ref) bool { return d.aloneWith(dep) })
		d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionUpdate, Resource: left, Observed: r,
			Reason: "leaving it to its other owners"})
		return
	}
	if r.State == StateDeleting || slices.ContainsFunc(d.going, func(other *Resource) bool { return pointsTo(other, r) }) {
		d.going = append(d.going, r)
		d.plan.Waiting = append(d.plan.Waiting, r.Name())
		return
	}
	d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionDelete, Resource: *r, Reason: reason})
}

// aloneWith reports whether what dep points to is the owner's alone.
func (d *differ) aloneWith(dep Ref) bool {
	return slices.ContainsFunc(d.observed, func(r Resource) bool {
		return r.Kind == dep.Kind && r.ID == dep.ID && d.mine(&r) && !d.others(&r)
	})
}
