package gcp

import (
	"context"
	"slices"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// SyncTargets implements cloud.Provider: of each group first what comes, then what goes, up to maxEndpointsPerCall a call.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	errs := make([]error, len(changes))
	var stop error // throttled, or the caller gave up: nothing more is sent
	for i := range changes {
		if stop != nil {
			errs[i] = stop
			continue
		}
		errs[i] = p.syncGroup(ctx, &changes[i])
		if err := errs[i]; err != nil && (ctx.Err() != nil || p.Classify(err).Class == cloud.Throttled) {
			stop = err
		}
	}
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return errs
	}
	return nil
}

func (p *Provider) syncGroup(ctx context.Context, change *cloud.TargetChange) error {
	id := change.Resource.ID
	target := p.config.link(KindEndpointGroup, id)
	if err := p.late.take(target); err != nil {
		return err
	}
	began := func(op *compute.Operation, err error) error {
		if err == nil {
			_, err = p.late.began(change.Owner.ID(), target, op)
		}
		return err
	}
	for part := range slices.Chunk(names(change.Add), maxEndpointsPerCall) {
		if err := began(p.api.attach(ctx, id, part)); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(names(change.Remove), maxEndpointsPerCall) {
		err := began(p.api.detach(ctx, id, part))
		if err != nil && p.Classify(err).Class == cloud.UserError {
			err = p.detachRest(ctx, id, part, err, began)
		}
		if err != nil {
			return err
		}
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
	case len(part):
		return refused
	}
	return began(p.api.detach(ctx, id, rest))
}

func names(targets []cloud.Target) []string {
	result := make([]string, len(targets))
	for i, t := range targets {
		result[i] = t.ID
	}
	return result
}
