package gcp

import (
	"cmp"
	"context"
	"net/http"
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

// syncGroup detaches only what the group can do without: where all of its targets are new ones, once some are known to be attached.
// A machine that is not there keeps neither others from coming nor others from going; it is told in the end.
func (p *Provider) syncGroup(ctx context.Context, id string, change *groupChange) error {
	target := p.config.link(KindEndpointGroup, id)
	failed := p.late.take(target)
	if failed != nil && !p.lacksMachine(failed) {
		return failed
	}
	attached, settled := 0, true
	began := func(op *compute.Operation, err error) error {
		if err == nil {
			var done bool
			done, err = p.late.began(anyone, target, op)
			settled = settled && done
		}
		return err
	}
	missing := failed
	for part := range slices.Chunk(change.names(true), maxEndpointsPerCall) {
		n, lacks, err := p.attach(ctx, id, part, failed, began)
		if err != nil {
			return err
		}
		attached += n
		missing = cmp.Or(missing, lacks)
	}
	gone := change.names(false)
	if !change.stays && attached == 0 && missing != nil {
		return missing
	}
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
	return missing
}

// lacksMachine reports whether a call, or its operation, may have failed for a machine that is not there.
func (p *Provider) lacksMachine(err error) bool {
	return (hasStatus(err, http.StatusNotFound) || hasStatus(err, http.StatusBadRequest)) && p.Classify(err).Class != cloud.Pending
}

// attach attaches what is there, and returns how much that is. A call that names a machine that is not fails as a whole, and its node
// may be there for minutes still: it is sent again in halves, so that the others come in. Failed is what the last one failed with after it
// was accepted; nil: it did not. Missing is Pending, and names the first machine that is not there; err is why nothing more is sent.
func (p *Provider) attach(ctx context.Context, id string, part []string, failed error, began func(*compute.Operation, error) error) (n int, missing, err error) {
	if err = failed; err == nil || len(part) == 1 {
		err = began(p.api.attach(ctx, id, part))
	}
	switch {
	case err == nil:
		return len(part), nil, nil
	case !p.lacksMachine(err):
		return 0, nil, err
	case len(part) == 1:
		if _, gone := p.api.instances(ctx, id); gone != nil {
			return 0, nil, err // the group is not there either
		}
		return 0, cloud.Errorf(cloud.Pending, "machine %s cannot be attached to %s: %w", part[0], id, err), nil
	}
	half := len(part) / 2
	n, missing, err = p.attach(ctx, id, part[:half], nil, began)
	if err != nil {
		return n, missing, err
	}
	more, lacks, err := p.attach(ctx, id, part[half:], nil, began)
	return n + more, cmp.Or(missing, lacks), err
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
