package gcp

import (
	"context"
	"slices"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// groupChange is what becomes of one endpoint group.
type groupChange struct {
	// targets by name: those that come, and those that go.
	targets map[string]bool
	// stays: not all of the group's targets are new ones.
	stays bool
}

// SyncTargets implements cloud.Provider: of each group, once for all Services, first what comes, then what goes, up to
// maxEndpointsPerCall a call. Where one Service wants a node and another does not, the one that comes later in changes counts:
// all have the same nodes, and only one of them knows it yet.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	groups := map[string]*groupChange{}
	var order []string
	for i := range changes {
		c := &changes[i]
		g := groups[c.Resource.ID]
		if g == nil {
			g = &groupChange{targets: map[string]bool{}}
			groups[c.Resource.ID] = g
			order = append(order, c.Resource.ID)
		}
		g.stays = g.stays || len(c.Resource.Targets) > len(c.Add)
		for _, t := range c.Add {
			g.targets[t.ID] = true
		}
		for _, t := range c.Remove {
			g.targets[t.ID] = false
		}
	}
	failed := map[string]error{}
	var stop error // throttled, or the caller gave up: nothing more is sent
	for _, id := range order {
		if stop != nil {
			failed[id] = stop
			continue
		}
		if err := p.syncGroup(ctx, id, groups[id]); err != nil {
			failed[id] = err
			if ctx.Err() != nil || p.Classify(err).Class == cloud.Throttled {
				stop = err
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	errs := make([]error, len(changes))
	for i := range changes {
		errs[i] = failed[changes[i].Resource.ID]
	}
	return errs
}

// syncGroup detaches only what the group can do without: where all of its targets are new ones, once they are known to be attached.
func (p *Provider) syncGroup(ctx context.Context, id string, change *groupChange) error {
	target := p.config.link(KindEndpointGroup, id)
	if err := p.late.take(target); err != nil {
		return err
	}
	settled := true
	began := func(op *compute.Operation, err error) error {
		if err == nil {
			var done bool
			done, err = p.late.began(anyone, target, op)
			settled = settled && done
		}
		return err
	}
	for part := range slices.Chunk(change.names(true), maxEndpointsPerCall) {
		if err := began(p.api.attach(ctx, id, part)); err != nil {
			return err
		}
	}
	gone := change.names(false)
	if !change.stays && !settled && len(gone) > 0 {
		return cloud.Errorf(cloud.Pending, "what goes from %s waits until what comes is attached", id)
	}
	for part := range slices.Chunk(gone, maxEndpointsPerCall) {
		err := began(p.api.detach(ctx, id, part))
		if err != nil && p.Classify(err).Class == cloud.UserError {
			err = p.detachRest(ctx, id, part, err, began)
		}
		if err != nil {
			return err
		}
	}
	if err := p.late.unknown(target); err != nil && p.Classify(err).Class == cloud.RetryAfter {
		return err // a right is missing; all else may get better by itself
	}
	return nil
}

// detachRest detaches what is still there: a call that names something that is not is refused as a whole.
func (p *Provider) detachRest(ctx context.Context, id string, part []string, refused error, began func(*compute.Operation, error) error) error {
	there, err := p.api.instances(ctx, id)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(part), func(name string) bool { return !slices.Contains(there, name) })
	switch len(rest) {
	case 0:
		return nil
	case len(part): // the list may be behind
		return cloud.Errorf(cloud.Retry, "%w", refused)
	}
	return began(p.api.detach(ctx, id, rest))
}

// names of those that come, or of those that go, sorted.
func (c *groupChange) names(come bool) []string {
	var names []string
	for name, comes := range c.targets {
		if comes == come {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
