package aws

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// Delete implements cloud.Provider. Groups are in use for a while after what used them is gone. Ids are never given twice.
func (p *Provider) Delete(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	var err error
	switch r.Kind {
	case KindSecurityGroup:
		_, err = p.ec2.deleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(r.ID)})
		if codeOf(err) == "DependencyViolation" {
			// A rule of ours may let it in that was not to be seen when the others went.
			if err := p.revokeNodeRules(ctx, owner, []string{r.ID}); err != nil {
				return err
			}
		}
	case KindTargetGroup:
		_, err = p.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: aws.String(r.ID)})
	case KindLoadBalancer:
		_, err = p.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: aws.String(r.ID)})
	case KindListener:
		_, err = p.elb.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: aws.String(r.ID)})
	case KindReservation:
		err = p.deleteReservation(ctx, r)
	case KindNodeRules:
		err = p.deleteNodeRules(ctx, owner, r)
	}
	if err != nil && p.Classify(err).Class == cloud.NotFound {
		return nil
	}
	return err
}

// targetsPerCall is the most targets of one call.
const targetsPerCall = 200

// SyncTargets implements cloud.Provider, in calls for one group and one direction.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	errs := make([]error, len(changes))
	var stop error // throttled, or the caller gave up: nothing more is sent
	for i, change := range changes {
		errs[i] = p.syncTargets(ctx, change, &stop)
	}
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return errs
	}
	return nil
}

// syncTargets adds first: a group is never emptied on the way to another one.
func (p *Provider) syncTargets(ctx context.Context, change cloud.TargetChange, stop *error) error {
	send := func(all []cloud.Target, call func([]types.TargetDescription) error) error {
		var first error
		for some := range slices.Chunk(all, targetsPerCall) {
			err := p.sendTargets(ctx, some, call, stop)
			if *stop != nil {
				return *stop
			}
			if first == nil {
				first = err
			}
		}
		return first
	}
	arn := aws.String(change.Resource.ID)
	remove := func(all []cloud.Target) error {
		return send(all, func(some []types.TargetDescription) error {
			for i := range some {
				some[i].QuicServerId = nil // the place says which
			}
			_, err := p.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: arn, Targets: some})
			return err
		})
	}
	// A place that gets another server id, or an id that gets another place, is given up first: AWS changes none in place.
	replaced, rest := moved(change)
	if err := remove(replaced); err != nil {
		return err
	}
	added := send(change.Add, func(some []types.TargetDescription) error {
		_, err := p.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: arn, Targets: some})
		return err
	})
	// What does not run is no reason to send to what is to go, where others stay.
	if stays := len(change.Resource.Targets) > len(change.Add); added != nil && (codeOf(added) != "InvalidTarget" || !stays) {
		return added
	}
	removed := remove(rest)
	if added != nil {
		return added
	}
	return removed
}

// moved splits what is to be removed: those whose place, or whose server id, another one gets that is added, and the rest.
func moved(change cloud.TargetChange) (replaced, rest []cloud.Target) {
	places, servers := map[string]bool{}, map[string]bool{"": false}
	for _, t := range change.Add {
		place, server, _ := strings.Cut(t.ID, serverSeparator)
		places[place], servers[server] = true, server != ""
	}
	for _, t := range change.Remove {
		if place, server, _ := strings.Cut(t.ID, serverSeparator); places[place] || servers[server] {
			replaced = append(replaced, t)
		} else {
			rest = append(rest, t)
		}
	}
	return replaced, rest
}

// sendTargets makes one call. AWS refuses all of it for one instance that runs no more, whose node may be there for minutes
// still: it is sent again in halves, so that the others come in. The error is the first one.
func (p *Provider) sendTargets(ctx context.Context, some []cloud.Target, call func([]types.TargetDescription) error, stop *error) error {
	if *stop != nil {
		return *stop
	}
	err := p.withZones(ctx, described(some), call)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || p.Classify(err).Class == cloud.Throttled:
		*stop = err
		return err
	case len(some) == 1 || codeOf(err) != "InvalidTarget" && codeOf(err) != "ValidationError":
		return err
	}
	half := len(some) / 2
	first := p.sendTargets(ctx, some[:half], call, stop)
	if second := p.sendTargets(ctx, some[half:], call, stop); first == nil {
		return second
	}
	return first
}

// described takes the ids of targets apart: an instance's id or an address, a colon, a port.
func described(all []cloud.Target) []types.TargetDescription {
	list := make([]types.TargetDescription, 0, len(all))
	for _, t := range all {
		place, server, _ := strings.Cut(t.ID, serverSeparator)
		at := strings.LastIndex(place, ":")
		if at < 0 {
			continue // not of ours
		}
		id := place[:at]
		if address, err := netip.ParseAddr(strings.Trim(id, "[]")); err == nil {
			id = address.String()
		}
		port, _ := strconv.Atoi(place[at+1:])
		one := types.TargetDescription{Id: aws.String(id), Port: aws.Int32(int32(port))}
		if server != "" {
			one.QuicServerId = aws.String(server)
		}
		list = append(list, one)
	}
	return list
}

// TargetHealth implements cloud.HealthReader.
func (p *Provider) TargetHealth(ctx context.Context, _ cloud.Owner, resources []cloud.Resource) ([]cloud.TargetHealth, error) {
	var all []cloud.TargetHealth
	for _, r := range resources {
		healths, err := p.healths(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, healths...)
	}
	slices.SortFunc(all, func(a, b cloud.TargetHealth) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Target, b.Target))
	})
	return all, nil
}
