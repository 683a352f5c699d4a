package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Outcome is how things stand after Converge.
type Outcome struct {
	// Observed resources of the owner, sorted by kind, key and id.
	Observed []Resource
	// Done are the operations that succeeded.
	Done []Operation
	// Left is what is still to be done; empty when the cloud has what is desired.
	Left Plan
	// Allowed is what would be done instead if the replacement were allowed that is in the way (BlockReplacement); nil where none
	// is, or where it would stay in the way all the same.
	Allowed []Operation
	// Working: the cloud, or the provider, has not done yet what this pass asked it for, whatever else failed.
	Working bool
	// Adopting: the pass set about an adoption. Parts of it may be done whose answer was lost. See Options.Unshown.
	Adopting bool
}

// Converge is one pass: observe, plan, apply, observe. Under PolicyPlan nothing is applied, with TargetsOnly no more than
// changes of targets. A pass that finds nothing to do makes one call of Observe and no other; one that builds what is New
// does not look before. No desired resources means that everything of the owner is to go.
//
// The Outcome is complete as far as it was reached also beside an error, which is an *Error.
func Converge(ctx context.Context, p Provider, owner Owner, desired []Resource, options Options) (Outcome, error) {
	var observed []Resource
	if !options.builds(owner, desired) {
		var err error
		if observed, err = ofOwner(ctx, p, owner); err != nil {
			return Outcome{}, err
		}
	}
	out, unseen, err := plan(ctx, p, owner, desired, observed, options)
	if err != nil || len(out.Left.Operations) == 0 || options.Policy == v1alpha1.PolicyPlan {
		return out, cmp.Or(err, unseen)
	}
	if options.Unshown > 0 && out.Left.brings() {
		return Outcome{Left: out.Left}, &Error{Class: Pending, After: options.Unshown, Err: errUnshown}
	}
	adopting := slices.ContainsFunc(out.Left.Operations, func(op Operation) bool { return op.Action == ActionAdopt })
	a := apply(ctx, p, owner, out.Left)
	done, applyErr := a.result()
	out.Done, out.Adopting, out.Working = done, adopting, a.working
	if interrupted(ctx) || IsClass(applyErr, Throttled) {
		return out, applyErr
	}
	again, unseen, err := look(ctx, p, owner, desired, options)
	if err != nil {
		return out, cmp.Or(applyErr, err)
	}
	again.Done, again.Adopting, again.Working = done, adopting, a.working
	return again, cmp.Or(applyErr, unseen)
}

var errUnshown = errors.New("waiting for the cloud to show what was adopted")

// builds reports whether the owner's resources are to be made, all of them. What is the Group's others have made.
func (o Options) builds(owner Owner, desired []Resource) bool {
	return o.New && len(desired) > 0 && owner.Group == "" && o.Policy != v1alpha1.PolicyPlan && !o.TargetsOnly
}

// look observes and plans.
func look(ctx context.Context, p Provider, owner Owner, desired []Resource, options Options) (out Outcome, unseen, err error) {
	observed, err := ofOwner(ctx, p, owner)
	if err != nil {
		return Outcome{}, nil, err
	}
	return plan(ctx, p, owner, desired, observed, options)
}

func ofOwner(ctx context.Context, p Provider, owner Owner) ([]Resource, error) {
	observed, err := p.Observe(ctx, owner)
	if err != nil {
		return nil, classified(p, fmt.Errorf("observing: %w", err))
	}
	return observed, nil
}

// plan is Compare, after a look for what may be adopted where that is asked for, and a look whether what is to be replaced can be:
// else nothing is, as where that is not allowed. Where that could not be seen, which unseen says, nothing is either, for now.
func plan(ctx context.Context, p Provider, owner Owner, desired, observed []Resource, options Options) (out Outcome, unseen, err error) {
	compare := Compare
	if options.Adopts(p.Capabilities(), owner, desired, observed) {
		found, err := FindAdoptable(ctx, p, owner, cmp.Or(begun(owner, observed), options.Adopt))
		if err != nil {
			return Outcome{}, nil, classified(p, fmt.Errorf("looking for a balancer to adopt: %w", err))
		}
		compare = func(owner Owner, desired, observed []Resource, options Options) (Outcome, error) {
			return compareAdopting(owner, desired, observed, found, options)
		}
	}
	out, err = compare(owner, desired, observed, options)
	if err != nil {
		return out, nil, err
	}
	blocked, unseen := refused(ctx, p, owner, &out.Left)
	switch {
	case unseen == nil && len(blocked) == 0:
		return out, nil, nil
	case unseen != nil && (interrupted(ctx) || IsClass(unseen, Throttled) || options.Policy == v1alpha1.PolicyPlan):
		return out, nil, unseen
	}
	options.Replacement = v1alpha1.ReplacementNever
	out, err = compare(owner, desired, observed, options)
	out.Allowed = nil
	out.Left.Blocked = append(slices.DeleteFunc(out.Left.Blocked, func(b Block) bool { return b.Reason == BlockReplacement }), blocked...)
	return out, unseen, err
}

// compareAdopting is Compare where something may have to be adopted first. What is refused, offered, or waited for leaves
// everything as it is, but for targets; and what is lent and could not become what the Service asks for is not adopted.
func compareAdopting(owner Owner, desired, observed []Resource, found []Adoptable, options Options) (Outcome, error) {
	a := planAdoption(owner, desired, observed, found, options)
	out, err := a.compare(owner, desired, observed, options)
	if err == nil && out.Left.held() && a.lends() {
		a = refuseAdoption(options.Adopt, "%s", Messages(out.Left.Blocked))
		out, err = a.compare(owner, desired, observed, options)
	}
	if err != nil {
		return out, err
	}
	out.Left.Operations = append(a.operations, out.Left.Operations...)
	out.Left.Blocked = append(a.blocked, out.Left.Blocked...)
	out.Left.Waiting = append(a.waiting, out.Left.Waiting...)
	out.Observed = owned(owner, observed)
	return out, nil
}

// Compare is what Converge makes of what it observed, before it applies anything. Pure.
func Compare(owner Owner, desired, observed []Resource, options Options) (Outcome, error) {
	plan, err := diff(owner, desired, observed, options.Replacement, options.TargetsOnly)
	if err != nil {
		return Outcome{}, Errorf(UserError, "planning: %w", err)
	}
	if options.TargetsOnly {
		plan = Plan{IDs: plan.IDs, Operations: plan.Operations}
		plan.keepTargets()
	}
	out := Outcome{Left: plan, Observed: owned(owner, observed)}
	if plan.held() && options.Replacement != v1alpha1.ReplacementRecreate {
		if allowed, err := Diff(owner, desired, observed, v1alpha1.ReplacementRecreate); err == nil && !allowed.held() {
			out.Allowed = allowed.Operations
		}
	}
	return out, nil
}

// owned returns the resources that carry the owner's mark, sorted, each once: lists that clouds give in pages, while something
// changes, may have one of them twice.
func owned(owner Owner, observed []Resource) []Resource {
	var result []Resource
	for i := range observed {
		if slices.Contains(observed[i].Owners, owner.ID()) {
			result = append(result, observed[i])
		}
	}
	SortResources(result)
	return slices.CompactFunc(result, func(a, b Resource) bool { return identity(&a) == identity(&b) })
}

// Apply does the operations of a plan, in order, and returns those that succeeded. After a failure it goes on with what
// does not depend on it, except that it deletes nothing any more once a creation or an update has failed, and does
// nothing at all any more once the cloud throttles, an adoption has failed or the context ends. Its error is an *Error: that of the throttling,
// or else of the first failure, or else of the first that is merely Pending.
func Apply(ctx context.Context, p Provider, owner Owner, plan Plan) ([]Operation, error) {
	return apply(ctx, p, owner, plan).result()
}

func apply(ctx context.Context, p Provider, owner Owner, plan Plan) *applier {
	a := &applier{provider: p, owner: owner, ids: map[Ref]string{}, unavailable: map[Ref]bool{}, kept: map[string]bool{}}
	for ref, id := range plan.IDs {
		a.ids[ref] = id
	}
	for i := 0; i < len(plan.Operations) && !a.stop; i++ {
		op := plan.Operations[i]
		switch op.Action {
		case ActionAdopt:
			a.adopt(ctx, op)
		case ActionCreate:
			a.create(ctx, op)
		case ActionUpdate:
			a.update(ctx, op)
		case ActionDelete:
			a.delete(ctx, op)
		case ActionSyncTargets:
			last := i
			for last+1 < len(plan.Operations) && plan.Operations[last+1].Action == ActionSyncTargets {
				last++
			}
			a.syncTargets(ctx, plan.Operations[i:last+1])
			i = last
		}
		a.stop = a.stop || interrupted(ctx)
	}
	return a
}

func (a *applier) result() ([]Operation, error) {
	if a.err == nil {
		return a.done, nil
	}
	return a.done, a.err
}

type applier struct {
	provider    Provider
	owner       Owner
	ids         map[Ref]string
	unavailable map[Ref]bool    // failed, skipped or pending
	kept        map[string]bool // kind/id of what something that stays points to
	failed      bool            // a creation or an update failed
	working     bool            // something was Pending
	stop        bool
	done        []Operation
	err         *Error
}

// resolve fills in the ids of what r depends on; false if one of them cannot be used.
func (a *applier) resolve(r *Resource) bool {
	deps := make([]Ref, len(r.DependsOn))
	for i, dep := range r.DependsOn {
		ref := Ref{Kind: dep.Kind, Key: dep.Key}
		if a.unavailable[ref] {
			return false
		}
		deps[i] = dep
		if id, ok := a.ids[ref]; ok {
			deps[i].ID = id
		}
	}
	r.DependsOn = deps
	return true
}

// adopt marks, and ends everything where that fails: the rest of the plan would build a second balancer.
func (a *applier) adopt(ctx context.Context, op Operation) {
	if err := a.provider.Update(ctx, a.owner, *op.Observed, op.Resource); err != nil {
		a.failed, a.stop = true, true
		a.fail("adopting", op, err)
		return
	}
	a.done = append(a.done, op)
}

func (a *applier) create(ctx context.Context, op Operation) {
	r := op.Resource
	ref := r.ref()
	if a.unavailable[ref] || !a.resolve(&r) {
		a.unavailable[ref] = true
		return
	}
	r.Targets = nil
	made, err := a.provider.Create(ctx, a.owner, r)
	if err != nil {
		a.unavailable[ref], a.failed = true, true
		a.fail("creating", op, err)
		return
	}
	a.ids[ref] = made.ID
	a.done = append(a.done, op)
	if made.State != StateReady && made.State != "" {
		a.unavailable[ref], a.working = true, true
	}
}

func (a *applier) update(ctx context.Context, op Operation) {
	r := op.Resource
	if !slices.Contains(r.Owners, a.owner.ID()) { // it leaves it to others, as the last thing
		if a.failed || a.kept[r.Kind+"/"+r.ID] {
			a.keep(&r)
			return
		}
	} else if !a.resolve(&r) {
		a.unavailable[r.ref()] = true // what depends on it may need what it is to point to
		a.keep(op.Observed)
		return
	}
	if err := a.provider.Update(ctx, a.owner, *op.Observed, r); err != nil {
		a.unavailable[r.ref()], a.failed = true, true
		a.fail("updating", op, err)
		return
	}
	a.done = append(a.done, op)
}

func (a *applier) syncTargets(ctx context.Context, ops []Operation) {
	var changes []TargetChange
	var sent []Operation
	for _, op := range ops {
		ref := op.Resource.ref()
		if a.unavailable[ref] {
			continue
		}
		r := op.Resource
		if id, ok := a.ids[ref]; ok {
			r.ID = id
		}
		changes = append(changes, TargetChange{Owner: a.owner, Resource: r, Add: op.Add, Remove: op.Remove})
		sent = append(sent, op)
	}
	if len(changes) == 0 {
		return
	}
	errs := a.provider.SyncTargets(ctx, changes)
	for i, op := range sent {
		if i < len(errs) && errs[i] != nil {
			a.failed = true
			a.fail("changing targets of", op, errs[i])
		} else {
			a.done = append(a.done, op)
		}
	}
}

func (a *applier) delete(ctx context.Context, op Operation) {
	r := op.Resource
	if a.failed || a.unavailable[r.ref()] || a.kept[r.Kind+"/"+r.ID] {
		a.keep(&r)
		return
	}
	if err := a.provider.Delete(ctx, a.owner, r); err != nil && a.provider.Classify(err).Class != NotFound {
		a.keep(&r)
		a.unavailable[r.ref()] = true
		a.fail("deleting", op, err)
		return
	}
	a.done = append(a.done, op)
}

// keep remembers what r points to, which has to stay with it.
func (a *applier) keep(r *Resource) {
	for _, dep := range r.DependsOn {
		a.kept[dep.Kind+"/"+dep.ID] = true
	}
}

func (a *applier) fail(doing string, op Operation, err error) {
	e := classified(a.provider, fmt.Errorf("%s %s: %w", doing, op.Resource.Name(), err))
	a.working = a.working || e.Class == Pending
	switch {
	case e.Class == Throttled:
		a.stop = true
		a.err = e
	case a.err == nil, a.err.Class == Pending && e.Class != Pending:
		a.err = e
	}
}

func classified(p Provider, err error) *Error {
	e := p.Classify(err)
	return &Error{Class: e.Class, After: e.After, Err: err}
}
