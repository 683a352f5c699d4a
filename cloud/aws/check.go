package aws

import (
	"context"
	"net/netip"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/fairlead/fairlead/cloud"
)

var _ cloud.Checker = (*Provider)(nil)

// Check implements cloud.Checker: it looks for the subnets of a balancer, for its addresses in them, and for elastic addresses.
// Not whether a private address is free, nor a name of the Service's choice.
func (p *Provider) Check(ctx context.Context, _ cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	if desired.Kind != KindLoadBalancer {
		return nil
	}
	mappings, err := p.mappings(ctx, desired.Attributes)
	if err != nil {
		return err
	}
	in := &ec2.DescribeSubnetsInput{}
	var elastic []string
	for _, m := range mappings {
		in.SubnetIds = append(in.SubnetIds, aws.ToString(m.SubnetId))
		if m.AllocationId != nil {
			elastic = append(elastic, *m.AllocationId)
		}
	}
	found, err := p.ec2.describeSubnets(ctx, in)
	if err != nil {
		return err
	}
	networks := map[string]ec2types.Subnet{}
	for _, n := range found.Subnets {
		networks[aws.ToString(n.SubnetId)] = n
	}
	var wrong []error
	for _, m := range mappings {
		n := networks[aws.ToString(m.SubnetId)]
		for _, address := range []*string{m.PrivateIPv4Address, m.IPv6Address} {
			if address != nil && !within(*address, n) {
				wrong = append(wrong, cloud.Errorf(cloud.UserError, "address %s is not in subnet %s", *address, aws.ToString(m.SubnetId)))
			}
		}
	}
	if err := cloud.UserErrors(wrong...); err != nil || len(elastic) == 0 {
		return err
	}
	return p.checkElastic(ctx, elastic, replaced)
}

// within reports whether an address is one of a subnet's.
func within(text string, n ec2types.Subnet) bool {
	ranges := []string{aws.ToString(n.CidrBlock)}
	for _, six := range n.Ipv6CidrBlockAssociationSet {
		ranges = append(ranges, aws.ToString(six.Ipv6CidrBlock))
	}
	address, err := netip.ParseAddr(text)
	for _, r := range ranges {
		if prefix, wrong := netip.ParsePrefix(r); err == nil && wrong == nil && prefix.Contains(address) {
			return true
		}
	}
	return false
}

// checkElastic looks whether the account has elastic addresses, and nothing else than what is replaced.
func (p *Provider) checkElastic(ctx context.Context, elastic []string, replaced []cloud.Resource) error {
	out, err := p.ec2.describeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: elastic})
	if err != nil {
		return err
	}
	freed := map[string]bool{}
	for _, r := range replaced {
		for _, item := range cloud.SplitList(r.Attributes[addresses]) {
			_, with, _ := strings.Cut(item, "=")
			id, _, _ := strings.Cut(with, "|")
			freed[id] = true
		}
	}
	for _, a := range out.Addresses {
		if id := aws.ToString(a.AllocationId); a.AssociationId != nil && !freed[id] {
			return cloud.Errorf(cloud.Conflict, "elastic address %s is in use: name another one, or free it", id)
		}
	}
	return nil
}
