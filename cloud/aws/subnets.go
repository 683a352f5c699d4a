package aws

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// given are the addresses that a balancer has of its maker's choice.
func given(a map[string]string) []string {
	return cloud.SplitList(cmp.Or(a[addresses], a[addressesFour]))
}

// mappings are the subnets that are given, with their addresses, or else those that are found by the tag of their role.
func (p *Provider) mappings(ctx context.Context, a map[string]string) ([]types.SubnetMapping, error) {
	var all []types.SubnetMapping
	for _, item := range given(a) {
		id, with, _ := strings.Cut(item, "=")
		own := strings.Split(with, "|")
		m := types.SubnetMapping{SubnetId: aws.String(id)}
		for i, into := range []**string{&m.AllocationId, &m.PrivateIPv4Address, &m.IPv6Address} {
			if own[i] != "" {
				*into = aws.String(own[i])
			}
		}
		all = append(all, m)
	}
	if len(all) > 0 {
		return all, nil
	}
	list := cloud.SplitList(a[subnets])
	if len(list) == 0 {
		var err error
		if list, err = p.discover(ctx, a[scheme], a[addressType]); err != nil {
			return nil, err
		}
	}
	for _, id := range list {
		all = append(all, types.SubnetMapping{SubnetId: aws.String(id)})
	}
	return all, nil
}

// leastFree is how many free addresses a subnet needs. AWS wants 8 for a balancer.
const leastFree = 8

// fits reports whether a balancer of an address type can be in a subnet that has the role's tag, and the subnet is not another cluster's
// alone.
func (p *Provider) fits(subnet ec2types.Subnet, of string) bool {
	theirs := false
	for key := range ec2TagMap(subnet.Tags) {
		if name, ok := strings.CutPrefix(key, clusterTag); ok && p.clusterName != "" {
			if name == p.clusterName {
				theirs = false
				break
			}
			theirs = true
		}
	}
	six := slices.ContainsFunc(subnet.Ipv6CidrBlockAssociationSet, func(b ec2types.SubnetIpv6CidrBlockAssociation) bool {
		return b.Ipv6CidrBlockState == nil || b.Ipv6CidrBlockState.State == ec2types.SubnetCidrBlockStateCodeAssociated
	})
	return !theirs && aws.ToInt32(subnet.AvailableIpAddressCount) >= leastFree && (six || of != addressTypeDouble)
}

// subnets returns those that pass the filters.
func (p *Provider) subnets(ctx context.Context, filters ...ec2types.Filter) (found []ec2types.Subnet, err error) {
	in := &ec2.DescribeSubnetsInput{Filters: filters}
	err = ec2Pages(&in.NextToken, func() (next *string, err error) {
		page, err := p.ec2.describeSubnets(ctx, in)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Subnets...)
		return page.NextToken, nil
	})
	return found, err
}

// discover finds in each zone the first subnet by id that fits.
func (p *Provider) discover(ctx context.Context, of, kind string) ([]string, error) {
	vpc, err := p.vpc(ctx)
	if err != nil {
		return nil, err
	}
	role := "kubernetes.io/role/elb"
	if of == schemeInternal {
		role = "kubernetes.io/role/internal-elb"
	}
	found, err := p.subnets(ctx, filter("vpc-id", vpc), filter("tag-key", role))
	if err != nil {
		return nil, err
	}
	tagged := len(found)
	found = slices.DeleteFunc(found, func(subnet ec2types.Subnet) bool { return !p.fits(subnet, kind) })
	slices.SortFunc(found, func(a, b ec2types.Subnet) int { return cmp.Compare(aws.ToString(a.SubnetId), aws.ToString(b.SubnetId)) })
	byZone := map[string]bool{}
	var all []string
	for _, subnet := range found {
		if zone := aws.ToString(subnet.AvailabilityZone); !byZone[zone] {
			byZone[zone] = true
			all = append(all, aws.ToString(subnet.SubnetId))
		}
	}
	switch {
	case len(all) == 0 && tagged > 0:
		return nil, cloud.Errorf(cloud.UserError, "none of the %d subnets of %s with the tag %s fits: it needs %d free addresses, IPv6 where the balancer has it, and no tag of another cluster's alone; or name subnets by the annotation %ssubnets",
			tagged, vpc, role, leastFree, AnnotationPrefix)
	case len(all) == 0:
		return nil, cloud.Errorf(cloud.UserError, "no subnet of %s has the tag %s: tag one in each zone, or name them by the annotation %ssubnets", vpc, role, AnnotationPrefix)
	}
	return all, nil
}

// placed says in which subnets a balancer is, and with which addresses of its own, with and without those of IPv6.
func placed(b types.LoadBalancer) (in, with, four string) {
	var all, own, own4 []string
	for _, zone := range b.AvailabilityZones {
		id := aws.ToString(zone.SubnetId)
		all = append(all, id)
		var a types.LoadBalancerAddress
		for _, one := range zone.LoadBalancerAddresses {
			a.AllocationId, a.PrivateIPv4Address, a.IPv6Address = cmp.Or(a.AllocationId, one.AllocationId),
				cmp.Or(a.PrivateIPv4Address, one.PrivateIPv4Address), cmp.Or(a.IPv6Address, one.IPv6Address)
		}
		text := id + "=" + aws.ToString(a.AllocationId) + "|" + aws.ToString(a.PrivateIPv4Address) + "|"
		own, own4 = append(own, text+aws.ToString(a.IPv6Address)), append(own4, text)
	}
	list := func(own []string) string {
		if !slices.ContainsFunc(own, func(text string) bool { return !strings.HasSuffix(text, "=||") }) {
			return "" // AWS has chosen all of them
		}
		return cloud.List(own)
	}
	return cloud.List(all), list(own), list(own4)
}
