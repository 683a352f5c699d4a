package cloud

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Diff plans. It is pure, and deterministic whatever the order of its arguments, which it does not change.
//
//  1. What is not the owner's is foreign and never part of an operation.
//  2. Failed resources, and Fixed ones that need a replacement where replacement is Recreate, unless that can stand
//     Beside them, are deleted first, together with what depends on them.
//  3. Each desired resource, dependencies first, takes an observed one of its kind and key that has the same immutable
//     attributes and lives in the right parent, or is to be created. What Excludes it has its place as what has its key does,
//     and is not taken.
//  4. What was taken is updated where mutable attributes, references or owners differ; then targets are synchronised.
//     The attributes of what is shared are those that the first of its owners wants, or they would change for ever.
//  5. What is the owner's and was not taken is deleted, dependents first; but not what is being replaced, as long as
//     the cloud still works on the replacement, nor what something that waits for another still points to, nor before the
//     cloud is done deleting what points to it.
//
// Where something would have to be replaced that may not be, everything stays as it is, but for what follows the cluster
// (see hold): what runs goes on to run, with all that it needs, until somebody decides.
//
// What is Lent is neither replaced nor deleted in any of these: it stays, with what cannot be changed, or is let go, with
// what it points to. What was marked by an adoption that did not come to its end is let go, too.
//
// An error means that the provider's Desired is wrong: two resources of one kind and key, a reference to none of them,
// or a circle.
func Diff(owner Owner, desired, observed []Resource, replacement v1alpha1.Replacement) (Plan, error) {
	return diff(owner, desired, observed, replacement, false)
}

// diff is Diff, without step 5 where what is desired is part of what the Service wants: what it names no more may be wanted all the
// same, and what is let go would lose its targets. Nor are those taken from it where everything stays as it is.
func diff(owner Owner, desired, observed []Resource, replacement v1alpha1.Replacement, part bool) (Plan, error) {
	layers, err := layer(desired)
	if err != nil {
		return Plan{}, err
	}
	d := &differ{
		owner:       owner,
		recreate:    replacement == v1alpha1.ReplacementRecreate,
		observed:    slices.Clone(observed),
		taken:       map[string]bool{},
		first:       map[string]string{},
		blocked:     map[string]bool{},
		unavailable: map[Ref]bool{},
		plan:        Plan{IDs: map[Ref]string{}},
	}
	SortResources(d.observed)
	d.removeFirst(desired)
	for _, resources := range layers {
		for i := range resources {
			d.place(&resources[i])
		}
		d.plan.Operations = append(d.plan.Operations, d.targets...)
		d.targets = nil
	}
	switch {
	case d.plan.held():
		d.hold(desired, part)
	case !part:
		d.removeRest()
	}
	slices.Sort(d.plan.Waiting)
	d.plan.Waiting = slices.Compact(d.plan.Waiting)
	return d.plan, nil
}

type differ struct {
	owner    Owner
	recreate bool
	observed []Resource // sorted
	// taken and first hold identities (see identity) of observed resources: those that stay, and those deleted first, with the reason.
	taken map[string]bool
	first map[string]string
	// blocked are those, by identity, of which it was said already that they may not be replaced.
	blocked map[string]bool
	// unavailable are the desired resources that cannot be used in this pass.
	unavailable map[Ref]bool
	targets     []Operation
	// going are observed resources that the cloud still deletes, or that wait for one of those.
	going []*Resource
	// letGo are observed resources that are let go rather than deleted.
	letGo []*Resource
	plan  Plan
}

// identity tells observed resources apart, also where a cloud gives ids per kind.
func identity(r *Resource) string { return r.Kind + "/" + r.Key + "/" + r.ID }

// mine reports whether r carries the owner's mark; or nobody's and is the group's: the last two left at the same time,
// each to the other, and whoever sees it has to see to it.
func (d *differ) mine(r *Resource) bool { return d.marked(r) || r.Shared && len(r.Owners) == 0 }

// marked reports whether r carries the owner's mark.
func (d *differ) marked(r *Resource) bool { return slices.Contains(r.Owners, d.owner.ID()) }

// joinable reports whether r belongs to other Services of this cluster alone, and want may be shared.
func (d *differ) joinable(want, r *Resource) bool {
	if !want.Shared || len(r.Owners) == 0 {
		return false
	}
	return !slices.ContainsFunc(r.Owners, func(id OwnerID) bool {
		return !strings.HasPrefix(string(id), d.owner.ClusterID+"/")
	})
}

// excludes reports whether want cannot be there beside r, which has another key.
func (r *Resource) excludes(want *Resource) bool {
	return len(r.Excludes) > 0 && r.Key != want.Key && !slices.ContainsFunc(r.Excludes, func(name string) bool {
		return r.Attributes[name] != want.Attributes[name]
	})
}

// candidates returns the observed resources that want might take, or that exclude it, and whether one of them is still being
// deleted and whether something foreign has its place.
func (d *differ) candidates(want *Resource) (found []*Resource, deleting, foreign bool) {
	for i := range d.observed {
		r := &d.observed[i]
		switch {
		case r.Kind != want.Kind || r.Key != want.Key && !r.excludes(want) || d.first[identity(r)] != "" || stray(d.owner, d.observed, r):
		case r.Key != want.Key && !d.marked(r):
		case !d.mine(r) && !d.joinable(want, r):
			foreign = true
		case r.State == StateDeleting:
			deleting = true
		default:
			found = append(found, r)
		}
	}
	return found, deleting, foreign
}

// place does steps 3 and 4 for one desired resource.
func (d *differ) place(want *Resource) {
	found, deleting, foreign := d.candidates(want)
	for _, dep := range want.DependsOn {
		if d.unavailable[Ref{Kind: dep.Kind, Key: dep.Key}] {
			d.leave(want, found)
			return
		}
	}
	have := d.choose(want, found)
	switch {
	case have == nil && len(found) > 0 && (d.stays(want, found) || found[0].Lent):
		have = found[0]
		d.blockReplacement(want, have)
		if have.Key != want.Key {
			d.leave(want, found)
			return
		}
	case have == nil && deleting:
		d.plan.Waiting = append(d.plan.Waiting, want.Name())
		d.leave(want, found)
		return
	case have == nil && foreign && len(found) == 0:
		d.block(want, BlockForeign, want.Name(), "cannot be made, since what is there in that place is not this Service's and is left alone: remove or rename it")
		d.leave(want, found)
		return
	case have == nil:
		d.create(want, len(found) > 0)
		return
	}
	d.taken[identity(have)] = true
	if have.State == StateFailed { // only what is Lent: everything else was deleted first
		d.block(want, BlockReplacement, want.Name(),
			"failed, and what is adopted is never replaced, and nothing else is changed before that: put it right in the cloud")
		d.leave(want, found)
		return
	}
	if have.State == StatePending {
		d.plan.Waiting = append(d.plan.Waiting, want.Name())
		d.leave(want, found)
		return
	}
	d.plan.IDs[want.ref()] = have.ID
	d.update(want, have)
}

// stays reports whether what want asks for is not made beside what there is: what others share is not replaced under them.
func (d *differ) stays(want *Resource, found []*Resource) bool {
	return want.Fixed && (!want.Beside || !d.recreate || want.Shared && slices.ContainsFunc(found, d.others))
}

// blockReplacement says that have stays, since it would have to be replaced: once, however many it is in the way of, and not where it
// goes with what that was said of.
func (d *differ) blockReplacement(want, have *Resource) {
	said := d.blocked[identity(have)] || have.Key != want.Key && slices.ContainsFunc(d.observed, func(r Resource) bool {
		return d.blocked[identity(&r)] && pointsTo(have, &r)
	})
	if d.blocked[identity(have)] = true; said {
		return
	}
	remedy := fmt.Sprintf("take the change back, or set the annotation %s to %s to replace it, which changes the address",
		v1alpha1.AnnotationReplacement, v1alpha1.ReplacementRecreate)
	switch {
	case want.Shared && d.others(have):
		remedy = "other Services share it: have this one leave the group, or ask for what it has" + settings(want, have)
	case have.Lent:
		remedy = "what is adopted is never replaced: have the Service ask for what it has" + settings(want, have)
	}
	if have.Key != want.Key {
		d.block(want, BlockReplacement, want.Name(), "cannot be there beside "+have.Name()+", and nothing else is changed before that is replaced: "+remedy)
		return
	}
	what := cmp.Or(strings.Join(differentImmutable(want, have), ", "), "what it is part of")
	d.block(want, BlockReplacement, want.Name()+" ("+what+")", "cannot change in place, and nothing else is changed before that: "+remedy)
}

// block leaves what want asks for as it is. The message is the subject's, a space, and the rest.
func (d *differ) block(want *Resource, reason BlockReason, subject, rest string) {
	d.plan.Blocked = append(d.plan.Blocked, Block{Resource: want.Name(), Reason: reason, Subject: subject, Message: subject + " " + rest})
}

// hold leaves of the operations those that follow the cluster: targets of what there is, the sets of targets that all Services
// have together, what points to these, and attributes that follow.
func (d *differ) hold(desired []Resource, part bool) {
	sets := map[Ref]bool{}
	for i := range desired {
		if r := &desired[i]; r.Shared && r.HasTargets && !r.Fixed {
			sets[r.ref()] = true
		}
	}
	var kept []Operation
	for _, op := range d.plan.Operations {
		set := sets[op.Resource.ref()]
		switch {
		case op.Action == ActionSyncTargets && (set || op.Resource.ID != ""), set && op.Action != ActionDelete:
			kept = append(kept, op)
		case op.Action == ActionUpdate && d.marked(op.Observed):
			if op, ok := following(op, sets); ok {
				kept = append(kept, op)
			}
		case op.Action == ActionCreate && op.Reason == reasonMissing:
			d.plan.Lacking = true
		}
	}
	if len(kept) == 0 && len(d.plan.Waiting) == 0 && !part {
		kept = d.emptied(sets) // what comes is there
	}
	d.plan.Operations = kept
}

// emptied has the owner's sets of targets that all Services have together, and that are wanted no more beside others that are, give up
// their targets: the cluster has none there. They stay themselves until what points to them may change.
func (d *differ) emptied(sets map[Ref]bool) []Operation {
	var operations []Operation
	for i := range d.observed {
		r := &d.observed[i]
		beside := false
		for ref := range sets {
			beside = beside || ref.Kind == r.Kind
		}
		if !beside || sets[r.ref()] || !r.Shared || !d.marked(r) || r.State == StatePending || r.State == StateDeleting || len(r.Targets) == 0 {
			continue
		}
		made := *r
		made.Targets = nil
		operations = append(operations, Operation{Action: ActionSyncTargets, Resource: made, Remove: r.Targets,
			Reason: fmt.Sprintf("targets +0 -%d", len(r.Targets))})
	}
	return operations
}

// following leaves of an update what follows the cluster; false: that is nothing.
func following(op Operation, sets map[Ref]bool) (Operation, bool) {
	have := op.Observed
	made := op.Resource
	made.Attributes, made.DependsOn = maps.Clone(have.Attributes), slices.Clone(have.DependsOn)
	var reasons []string
	for _, name := range made.Follows {
		if was, ok := have.Attributes[name]; ok && was != op.Resource.Attributes[name] {
			made.Attributes[name] = op.Resource.Attributes[name]
			reasons = append(reasons, name)
		}
	}
	for _, dep := range op.Resource.DependsOn {
		at := Ref{Kind: dep.Kind, Key: dep.Key}
		if sets[at] && !slices.ContainsFunc(have.DependsOn, func(r Ref) bool { return r.Kind == dep.Kind && r.Key == dep.Key }) {
			made.DependsOn = append(made.DependsOn, dep)
			reasons = append(reasons, dep.Kind+"/"+dep.Key)
		}
	}
	op.Resource, op.Reason = made, "changing "+strings.Join(reasons, ", ")
	return op, len(reasons) > 0
}

// settings tells, after a colon, what have has of what cannot be changed to what want asks for; nothing where that is all the same.
func settings(want, have *Resource) string {
	names := differentImmutable(want, have)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %q", name, have.Attributes[name])
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

// choose returns the one of the candidates that is what want asks for; nil if none is. Somebody else's that could be
// joined does not count where the owner has one of its own already that is Fixed: joining changes the address, too. Its
// own come first in found then, and what is Lent before all: nothing else takes its place.
func (d *differ) choose(want *Resource, found []*Resource) *Resource {
	slices.SortStableFunc(found, func(a, b *Resource) int {
		return cmp.Or(cmp.Compare(rank(a.Lent), rank(b.Lent)), cmp.Compare(rank(d.marked(a)), rank(d.marked(b))),
			cmp.Compare(rank(a.Key == want.Key), rank(b.Key == want.Key)))
	})
	for _, r := range found {
		if want.Fixed && !d.recreate && !d.marked(r) && d.marked(found[0]) {
			continue
		}
		if found[0].Lent && !r.Lent {
			continue
		}
		if r.Key == want.Key && sameImmutable(want, r) && d.sameParent(want, r) {
			return r
		}
	}
	return nil
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// leave keeps what is there of a resource that cannot be dealt with in this pass.
func (d *differ) leave(want *Resource, found []*Resource) {
	d.unavailable[want.ref()] = true
	for _, r := range found {
		d.taken[identity(r)] = true
	}
}

// Reasons of operations: reasonMissing is that of what is made where there is none, reasonRoom that of what runs and goes before
// what takes its place is there, reasonFailed that of what does not run.
const (
	reasonMissing = "missing"
	reasonRoom    = "making room for its replacement"
	reasonFailed  = "making room for another one, since it has failed"
)

func (d *differ) create(want *Resource, replaces bool) {
	made := withOwner(want, nil, d.owner.ID())
	reason := reasonMissing
	if replaces {
		reason = "replacing one that cannot change in place"
	}
	d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionCreate, Resource: made, Reason: reason})
	d.syncTargets(made, nil)
}

func (d *differ) update(want, have *Resource) {
	made := withOwner(want, have.Owners, d.owner.ID())
	made.ID, made.Adopted, made.Lent = have.ID, have.Adopted, have.Lent
	made.Attributes = maps.Clone(want.Attributes)
	for _, name := range want.Immutable {
		made.Attributes[name] = have.Attributes[name]
	}
	reasons := differentMutable(want, have)
	if len(reasons) > 0 && !d.leads(have) {
		d.block(want, BlockShared, want.Name()+" ("+strings.Join(reasons, ", ")+")",
			"cannot be as this Service asks, since other Services share it and ask for something else: have all of them ask for the same")
		for _, name := range reasons {
			made.Attributes[name] = have.Attributes[name]
		}
		reasons = nil
	}
	missing, extra := d.movedReferences(want, have)
	reasons = append(reasons, missing...)
	for _, dep := range extra {
		// Others may need what this one does not, such as an address of another family; not what it alone has, which goes.
		if d.others(have) && !d.aloneWith(dep) {
			made.DependsOn = append(slices.Clone(made.DependsOn), dep)
		} else {
			reasons = append(reasons, dep.Kind+"/"+dep.Key)
		}
	}
	if !slices.Contains(have.Owners, d.owner.ID()) {
		reasons = append(reasons, "owners")
	}
	if len(reasons) > 0 {
		d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionUpdate, Resource: made,
			Observed: have, Reason: "changing " + strings.Join(reasons, ", ")})
	}
	d.syncTargets(made, have.Targets)
}

// others reports whether somebody else has r, too.
func (d *differ) others(r *Resource) bool {
	return slices.ContainsFunc(r.Owners, func(id OwnerID) bool { return id != d.owner.ID() })
}

// leads reports whether the owner is the one whose attributes count.
func (d *differ) leads(have *Resource) bool {
	return !slices.ContainsFunc(have.Owners, func(id OwnerID) bool { return id < d.owner.ID() })
}

func (d *differ) syncTargets(want Resource, have []Target) {
	if !want.HasTargets {
		return
	}
	add, remove := subtract(want.Targets, have), subtract(have, want.Targets)
	if len(add)+len(remove) == 0 {
		return
	}
	d.targets = append(d.targets, Operation{Action: ActionSyncTargets, Resource: want, Add: add, Remove: remove,
		Reason: fmt.Sprintf("targets +%d -%d", len(add), len(remove))})
}

// movedReferences names what have does not point to and should, or not yet, and returns what it points to and need not.
func (d *differ) movedReferences(want, have *Resource) (missing []string, extra []Ref) {
	pointed := map[Ref]Ref{}
	for _, dep := range have.DependsOn {
		pointed[Ref{Kind: dep.Kind, Key: dep.Key}] = dep
	}
	for _, dep := range want.DependsOn {
		ref := Ref{Kind: dep.Kind, Key: dep.Key}
		id, exists := d.plan.IDs[ref]
		if now, ok := pointed[ref]; !ok || !exists || now.ID != id {
			missing = append(missing, dep.Kind+"/"+dep.Key)
		}
		delete(pointed, ref)
	}
	for _, dep := range pointed {
		extra = append(extra, dep)
	}
	slices.Sort(missing)
	slices.SortFunc(extra, func(a, b Ref) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key)) })
	return missing, extra
}

// sameParent reports whether have lives in the resource that was taken for want's parent.
func (d *differ) sameParent(want, have *Resource) bool {
	for _, dep := range want.DependsOn {
		if !dep.Parent {
			continue
		}
		id, ok := d.plan.IDs[Ref{Kind: dep.Kind, Key: dep.Key}]
		if !ok || !slices.ContainsFunc(have.DependsOn, func(r Ref) bool { return r.Kind == dep.Kind && r.ID == id }) {
			return false
		}
	}
	return true
}

func sameImmutable(want, have *Resource) bool { return len(differentImmutable(want, have)) == 0 }

func differentImmutable(want, have *Resource) []string {
	var names []string
	for _, name := range want.Immutable {
		if want.Attributes[name] != have.Attributes[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// differentMutable returns the names of the attributes that can change in place and are to, sorted.
func differentMutable(want, have *Resource) []string {
	var names []string
	for name, value := range want.Attributes {
		if !slices.Contains(want.Immutable, name) && have.Attributes[name] != value {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func pointsTo(r, other *Resource) bool {
	return slices.ContainsFunc(r.DependsOn, func(dep Ref) bool { return dep.Kind == other.Kind && dep.ID == other.ID })
}

func withOwner(want *Resource, owners []OwnerID, owner OwnerID) Resource {
	made := *want
	made.Owners = append(slices.Clone(owners), owner)
	slices.Sort(made.Owners)
	made.Owners = slices.Compact(made.Owners)
	return made
}

// subtract returns the targets of a that are not in b, sorted by ID.
func subtract(a, b []Target) []Target {
	there := make(map[Target]bool, len(b))
	for _, t := range b {
		there[t] = true
	}
	var rest []Target
	for _, t := range a {
		if !there[t] {
			rest = append(rest, t)
		}
	}
	slices.SortFunc(rest, func(x, y Target) int { return cmp.Compare(x.ID, y.ID) })
	return rest
}
