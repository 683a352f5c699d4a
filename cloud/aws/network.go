package aws

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// network is what is known of the VPC's subnets.
type network struct {
	mu     sync.Mutex
	ranges []netip.Prefix // nil: not known
}

// allZones is the zone of a target that is in no subnet: the balancer's addresses in all zones send to it.
const allZones = "all"

// withZones makes a call for targets, of which those that are addresses in no subnet of the VPC have all zones, as AWS demands of these
// and forbids of others. It goes by subnets and not by the VPC's own ranges, of which some may have none
// (kubernetes-sigs/aws-load-balancer-controller#3714). Where AWS refuses a call the subnets may be others by now.
func (p *Provider) withZones(ctx context.Context, list []types.TargetDescription, call func([]types.TargetDescription) error) error {
	if !slices.ContainsFunc(list, isAddress) {
		return call(list)
	}
	known, err := p.ranges(ctx, nil)
	if err != nil {
		return err
	}
	placeTargets(list, known)
	refused := call(list)
	if codeOf(refused) != "ValidationError" {
		return refused
	}
	if known, err = p.ranges(ctx, known); err != nil {
		return err
	}
	if !placeTargets(list, known) {
		return refused
	}
	return call(list)
}

func isAddress(t types.TargetDescription) bool {
	_, err := netip.ParseAddr(aws.ToString(t.Id))
	return err == nil
}

// placeTargets gives addresses that are in none of the ranges all zones, and takes them from others. It reports whether something changed.
func placeTargets(list []types.TargetDescription, ranges []netip.Prefix) bool {
	changed := false
	for i := range list {
		address, err := netip.ParseAddr(aws.ToString(list[i].Id))
		if err != nil {
			continue
		}
		was := list[i].AvailabilityZone
		if list[i].AvailabilityZone = nil; !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(address) }) {
			list[i].AvailabilityZone = aws.String(allZones)
		}
		changed = changed || aws.ToString(was) != aws.ToString(list[i].AvailabilityZone)
	}
	return changed
}

// ranges are those of the VPC's subnets, read once, and again for who knows that those are no longer true.
func (p *Provider) ranges(ctx context.Context, untrue []netip.Prefix) ([]netip.Prefix, error) {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	if p.network.ranges != nil && (untrue == nil || !slices.Equal(untrue, p.network.ranges)) {
		return p.network.ranges, nil
	}
	vpc, err := p.vpc(ctx)
	if err != nil {
		return nil, err
	}
	found, err := p.subnets(ctx, filter("vpc-id", vpc))
	if err != nil {
		return nil, err
	}
	all := []netip.Prefix{}
	for _, subnet := range found {
		all = append(all, rangesOf(subnet)...)
	}
	p.network.ranges = all
	return all, nil
}

// rangesOf are the ranges of addresses that a subnet has.
func rangesOf(subnet ec2types.Subnet) []netip.Prefix {
	texts := []string{aws.ToString(subnet.CidrBlock)}
	for _, block := range subnet.Ipv6CidrBlockAssociationSet {
		if isAssociated(block) {
			texts = append(texts, aws.ToString(block.Ipv6CidrBlock))
		}
	}
	var all []netip.Prefix
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			all = append(all, prefix)
		}
	}
	return all
}
