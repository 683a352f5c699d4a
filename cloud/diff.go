package cloud

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Action is what an Operation does.
type Action string

// Actions. SyncTargets changes the nodes that a resource sends to, the others the resource itself.
const (
	ActionCreate      Action = "Create"
	ActionUpdate      Action = "Update"
	ActionDelete      Action = "Delete"
	ActionSyncTargets Action = "SyncTargets"
)

// Operation is one step of a Plan.
type Operation struct {
	Action Action
	// Resource as desired (Create, Update, SyncTargets) or as observed (Delete).
	Resource Resource
	// Observed is what an Update starts from; nil for the others.
	Observed *Resource
	// Add and Remove are the targets of SyncTargets.
	Add, Remove []Target
	// Reason in a few words, for people.
	Reason string
}

// BlockReason says why a resource stays as it is though the Service asks for something else.
type BlockReason string

const (
	// BlockForeign: something that is not the owner's stands in its place.
	BlockForeign BlockReason = "Foreign"
	// BlockReplacement: it would have to be replaced, and clients would lose their address.
	BlockReplacement BlockReason = "Replacement"
)

// Block is a resource that is left as it is.
type Block struct {
	Resource string // kind/key
	Reason   BlockReason
	Message  string
}

// Plan is what leads from the observed resources to the desired ones.
type Plan struct {
	// Operations in the order in which they are to be done.
	Operations []Operation
	// Blocked resources, and Waiting ones, which the cloud still works on, by kind/key.
	Blocked []Block
	Waiting []string
	// IDs of the resources that stay, by what others call them. Apply fills them in.
	IDs map[Ref]string
}

// Empty reports whether the cloud has what is desired: there is nothing to do, to wait for, or in the way.
func (p *Plan) Empty() bool {
	return len(p.Operations) == 0 && len(p.Blocked) == 0 && len(p.Waiting) == 0
}

// Diff plans. It is pure, and deterministic whatever the order of its arguments, which it does not change.
//
//  1. What is not the owner's is foreign and never part of an operation.
//  2. Failed resources, and Fixed ones that need a replacement where replacement is Recreate, are deleted first,
//     together with what depends on them.
//  3. Each desired resource, dependencies first, takes an observed one of its kind and key that has the same immutable
//     attributes and lives in the right parent, or is to be created.
//  4. What was taken is updated where mutable attributes, references or owners differ; then targets are synchronised.
//  5. What is the owner's and was not taken is deleted, dependents first; but not what is being replaced, as long as
//     the cloud still works on the replacement.
//
// An error means that the provider's Desired is wrong: two resources of one kind and key, a reference to none of them,
// or a circle.
func Diff(owner Owner, desired, observed []Resource, replacement v1alpha1.Replacement) (Plan, error) {
	layers, err := layer(desired)
	if err != nil {
		return Plan{}, err
	}
	d := &differ{
		owner:       owner,
		recreate:    replacement == v1alpha1.ReplacementRecreate,
		observed:    slices.Clone(observed),
		taken:       map[string]bool{},
		first:       map[string]bool{},
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
	d.removeRest()
	slices.Sort(d.plan.Waiting)
	d.plan.Waiting = slices.Compact(d.plan.Waiting)
	return d.plan, nil
}

type differ struct {
	owner    Owner
	recreate bool
	observed []Resource // sorted
	// taken and first hold identities (see identity) of observed resources: those that stay, and those deleted first.
	taken, first map[string]bool
	// unavailable are the desired resources that cannot be used in this pass.
	unavailable map[Ref]bool
	targets     []Operation
	plan        Plan
}

// identity tells observed resources apart, also where a cloud gives ids per kind.
func identity(r *Resource) string { return r.Kind + "/" + r.Key + "/" + r.ID }

func (d *differ) mine(r *Resource) bool { return slices.Contains(r.Owners, d.owner.ID()) }

// joinable reports whether r belongs to other Services of this cluster alone, and want may be shared.
func (d *differ) joinable(want, r *Resource) bool {
	if !want.Shared || len(r.Owners) == 0 {
		return false
	}
	return !slices.ContainsFunc(r.Owners, func(id OwnerID) bool {
		return !strings.HasPrefix(string(id), d.owner.ClusterID+"/")
	})
}

// candidates returns the observed resources that want might take, and whether one of them is still being deleted and
// whether something foreign has its place.
func (d *differ) candidates(want *Resource) (found []*Resource, deleting, foreign bool) {
	for i := range d.observed {
		r := &d.observed[i]
		switch {
		case r.Kind != want.Kind || r.Key != want.Key || d.first[identity(r)]:
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

// removeFirst does step 2.
func (d *differ) removeFirst(desired []Resource) {
	for i := range desired {
		want := &desired[i]
		found, _, _ := d.candidates(want)
		replace := want.Fixed && d.recreate && len(found) > 0 &&
			!slices.ContainsFunc(found, func(r *Resource) bool { return sameImmutable(want, r) })
		for _, r := range found {
			if replace || r.State == StateFailed {
				d.removeWithDependents(r)
			}
		}
	}
	for _, r := range dependentsFirst(d.observed) {
		if d.first[identity(r)] {
			d.remove(r, "making room for its replacement")
		}
	}
}

func (d *differ) removeWithDependents(r *Resource) {
	if d.first[identity(r)] || !d.mine(r) {
		return
	}
	d.first[identity(r)] = true
	for i := range d.observed {
		if pointsTo(&d.observed[i], r) {
			d.removeWithDependents(&d.observed[i])
		}
	}
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
	var have *Resource
	for _, r := range found {
		if sameImmutable(want, r) && d.sameParent(want, r) {
			have = r
			break
		}
	}
	switch {
	case have == nil && len(found) > 0 && want.Fixed:
		have = found[0]
		d.plan.Blocked = append(d.plan.Blocked, Block{Resource: want.Name(), Reason: BlockReplacement, Message: fmt.Sprintf(
			"%s cannot change %s in place: set the annotation %s to %s to replace it, which changes the address",
			want.Name(), strings.Join(differentImmutable(want, have), ", "),
			v1alpha1.AnnotationReplacement, v1alpha1.ReplacementRecreate)})
	case have == nil && deleting:
		d.plan.Waiting = append(d.plan.Waiting, want.Name())
		d.leave(want, found)
		return
	case have == nil && foreign && len(found) == 0:
		d.plan.Blocked = append(d.plan.Blocked, Block{Resource: want.Name(), Reason: BlockForeign, Message: fmt.Sprintf(
			"%s exists and is not this Service's: it is left alone; remove or rename it", want.Name())})
		d.leave(want, found)
		return
	case have == nil:
		d.create(want, len(found) > 0)
		return
	}
	d.taken[identity(have)] = true
	if have.State == StatePending {
		d.plan.Waiting = append(d.plan.Waiting, want.Name())
		d.leave(want, found)
		return
	}
	d.plan.IDs[want.ref()] = have.ID
	d.update(want, have)
}

// leave keeps what is there of a resource that cannot be dealt with in this pass.
func (d *differ) leave(want *Resource, found []*Resource) {
	d.unavailable[want.ref()] = true
	for _, r := range found {
		d.taken[identity(r)] = true
	}
}

func (d *differ) create(want *Resource, replaces bool) {
	made := withOwner(want, nil, d.owner.ID())
	reason := "missing"
	if replaces {
		reason = "replacing one that cannot change in place"
	}
	d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionCreate, Resource: made, Reason: reason})
	d.syncTargets(made, nil)
}

func (d *differ) update(want, have *Resource) {
	made := withOwner(want, have.Owners, d.owner.ID())
	made.ID = have.ID
	made.Attributes = maps.Clone(want.Attributes)
	for _, name := range want.Immutable {
		made.Attributes[name] = have.Attributes[name]
	}
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(want.Attributes)) {
		if !slices.Contains(want.Immutable, name) && have.Attributes[name] != want.Attributes[name] {
			reasons = append(reasons, name)
		}
	}
	reasons = append(reasons, d.movedReferences(want, have)...)
	if !slices.Contains(have.Owners, d.owner.ID()) {
		reasons = append(reasons, "owners")
	}
	if len(reasons) > 0 {
		d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionUpdate, Resource: made,
			Observed: have, Reason: "changing " + strings.Join(reasons, ", ")})
	}
	d.syncTargets(made, have.Targets)
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

// movedReferences names what have points to that it should not, or not yet.
func (d *differ) movedReferences(want, have *Resource) []string {
	pointed := map[Ref]string{}
	for _, dep := range have.DependsOn {
		pointed[Ref{Kind: dep.Kind, Key: dep.Key}] = dep.ID
	}
	var names []string
	for _, dep := range want.DependsOn {
		ref := Ref{Kind: dep.Kind, Key: dep.Key}
		id, exists := d.plan.IDs[ref]
		if now, ok := pointed[ref]; !ok || !exists || now != id {
			names = append(names, dep.Kind+"/"+dep.Key)
		}
		delete(pointed, ref)
	}
	for ref := range pointed {
		names = append(names, ref.Kind+"/"+ref.Key)
	}
	slices.Sort(names)
	return names
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

// removeRest does step 5.
func (d *differ) removeRest() {
	for _, r := range dependentsFirst(d.observed) {
		switch {
		case !d.mine(r) || d.taken[identity(r)] || d.first[identity(r)]:
		case r.State == StateDeleting:
			d.plan.Waiting = append(d.plan.Waiting, r.Name())
		default:
			d.remove(r, "no longer wanted")
		}
	}
}

// remove deletes r, or takes the owner's mark off where others have theirs on it.
func (d *differ) remove(r *Resource, reason string) {
	others := slices.DeleteFunc(slices.Clone(r.Owners), func(id OwnerID) bool { return id == d.owner.ID() })
	if len(others) == 0 {
		d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionDelete, Resource: *r, Reason: reason})
		return
	}
	left := *r
	left.Owners = others
	d.plan.Operations = append(d.plan.Operations, Operation{Action: ActionUpdate, Resource: left, Observed: r,
		Reason: "leaving it to its other owners"})
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
