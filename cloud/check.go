package cloud

import (
	"context"
	"fmt"
	"slices"
)

// Checker is a Provider that can tell whether something can be had before what it is to replace goes. A provider whose cloud
// lets it look is one; of what another provider cannot make in the end it is known too late.
type Checker interface {
	// Check looks whether Create would make the resource if those of the owner that it replaces were gone: that an address
	// exists, and is free, or theirs. It changes nothing. Nil: nothing that can be seen is against it. An error of class
	// UserError, Conflict or Quota says what is, and has what is there stay; any other that it could not be seen: then that stays, too,
	// and it is asked again. The ids of what desired depends on are empty where that is still to be made.
	Check(ctx context.Context, owner Owner, desired Resource, replaced []Resource) error
}

// CheckCreate asks a provider, if it is a Checker; nil if it is none. Whoever wraps a provider is a Checker by means of it.
func CheckCreate(ctx context.Context, p Provider, owner Owner, desired Resource, replaced []Resource) error {
	if checker, ok := p.(Checker); ok {
		return checker.Check(ctx, owner, desired, replaced)
	}
	return nil
}

type onceKey struct{}

// Once does what it is given, for a Checker of which several resources of one plan need the same: the next time, under the same name and
// for the same plan, it returns what that returned, unless it failed. Where ctx is not that of such a look it does it. Not for several
// goroutines.
func Once[T any](ctx context.Context, name string, do func() (T, error)) (T, error) {
	done, looking := ctx.Value(onceKey{}).(map[string]any)
	if known, ok := done[name].(T); ok {
		return known, nil
	}
	result, err := do()
	if looking && err == nil {
		done[name] = result
	}
	return result, err
}

// makesRoom returns what the plan deletes before what takes its place is there, if some of that runs: what has failed alone leaves
// nothing to be lost.
func (p *Plan) makesRoom() []Resource {
	var replaced []Resource
	runs := false
	for _, op := range p.Operations {
		if op.Action == ActionDelete && (op.Reason == reasonRoom || op.Reason == reasonFailed) {
			replaced = append(replaced, op.Resource)
			runs = runs || op.Reason == reasonRoom
		}
	}
	if !runs {
		return nil
	}
	return replaced
}

// refused looks whether what is to replace something can be had before that goes, and returns what cannot; none: all can, as
// far as can be seen. Its error says that it could not be looked at.
func refused(ctx context.Context, p Provider, owner Owner, plan *Plan) ([]Block, error) {
	replaced := plan.makesRoom()
	if len(replaced) == 0 {
		return nil, nil
	}
	ctx = context.WithValue(ctx, onceKey{}, map[string]any{})
	var blocked []Block
	for _, op := range plan.Operations {
		if op.Action != ActionCreate || !op.Resource.Fixed {
			continue
		}
		err := CheckCreate(ctx, p, owner, op.Resource, replaced)
		if err == nil {
			continue
		}
		e := classified(p, fmt.Errorf("looking whether %s can be had: %w", op.Resource.Name(), err))
		if !slices.Contains([]Class{UserError, Conflict, Quota}, e.Class) {
			return nil, e
		}
		name := op.Resource.Name()
		blocked = append(blocked, Block{Resource: name, Reason: BlockRefused, Subject: name, Message: fmt.Sprintf(
			"%s cannot be had, so that nothing is replaced, and nothing else is changed before that: %v", name, err)})
	}
	return blocked, nil
}
