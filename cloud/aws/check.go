package aws

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/fairlead/fairlead/cloud"
)

var _ cloud.Checker = (*Provider)(nil)

// Check looks whether a balancer could be made with the name, the subnets, the addresses and the security groups that are given, if those of the owner that it
// replaces were gone, and changes nothing. Nil: nothing that can be seen is against it. A UserError, or a Conflict where the
// name is taken, says what is.
func (p *Provider) Check(ctx context.Context, _ cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	if desired.Kind != KindLoadBalancer {
		return nil
	}
	c := checker{provider: p, going: map[string]bool{}}
	for _, r := range replaced {
		if r.Kind == KindLoadBalancer {
			c.going[r.ID] = true
		}
	}
	if err := c.name(ctx, desired.Attributes[givenName]); err != nil {
		return err
	}
	if err := c.places(ctx, desired.Attributes); err != nil {
		return err
	}
	return c.groups(ctx, desired)
}

type checker struct {
	provider *Provider
	going    map[string]bool // ARNs of balancers that make room
}

func (c *checker) name(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	found, err := c.provider.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{name}})
	switch {
	case err != nil && c.provider.Classify(err).Class == cloud.NotFound:
		return nil
	case err != nil:
		return err
	}
	for _, b := range found.LoadBalancers {
		if !c.going[balancerARN(b)] {
			return cloud.Errorf(cloud.Conflict, "a balancer called %s is there already and is not this Service's: correct the annotation %sname", name, AnnotationPrefix)
		}
	}
	return nil
}

// places looks at the subnets, and at the addresses in them. Those that are found by their tag are there.
func (c *checker) places(ctx context.Context, a map[string]string) error {
	mappings, err := c.provider.mappings(ctx, a)
	if err != nil || !isPlaced(a) {
		return err
	}
	vpc, err := c.provider.vpc(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for _, m := range mappings {
		ids = append(ids, aws.ToString(m.SubnetId))
	}
	found, err := c.provider.subnets(ctx, filter("vpc-id", vpc), filter("subnet-id", ids...))
	if err != nil {
		return err
	}
	known := map[string]ec2types.Subnet{}
	for _, subnet := range found {
		known[aws.ToString(subnet.SubnetId)] = subnet
	}
	for _, m := range mappings {
		subnet, ok := known[aws.ToString(m.SubnetId)]
		if !ok {
			return cloud.Errorf(cloud.UserError, "there is no subnet %s in the VPC: correct the annotation %ssubnets, or subnets in the class", aws.ToString(m.SubnetId), AnnotationPrefix)
		}
		if err := c.elastic(ctx, aws.ToString(m.AllocationId)); err != nil {
			return err
		}
		if err := c.inside(ctx, subnet, aws.ToString(m.PrivateIPv4Address), AnnotationPrefix+"private-ipv4-addresses"); err != nil {
			return err
		}
		if err := c.inside(ctx, subnet, aws.ToString(m.IPv6Address), AnnotationPrefix+"ipv6-addresses"); err != nil {
			return err
		}
	}
	return nil
}

// groups looks at the security groups that are given.
func (c *checker) groups(ctx context.Context, desired cloud.Resource) error {
	ids, err := c.provider.groupsFor(ctx, desired)
	if err != nil || len(ids) == 0 || desired.Attributes[securityGroups] == managed {
		return err
	}
	vpc, err := c.provider.vpc(ctx)
	if err != nil {
		return err
	}
	found, err := c.provider.securityGroups(ctx, filter("vpc-id", vpc), filter("group-id", ids...))
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(found, func(g ec2types.SecurityGroup) bool { return aws.ToString(g.GroupId) == id }) {
			return cloud.Errorf(cloud.UserError, "there is no security group %s in the VPC: correct the annotation %ssecurity-groups, or securityGroups in the class", id, AnnotationPrefix)
		}
	}
	return nil
}

// elastic looks whether an elastic address is there, and nothing else has it.
func (c *checker) elastic(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	out, err := c.provider.ec2.describeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: []ec2types.Filter{filter("allocation-id", id)}})
	switch {
	case err != nil:
		return err
	case len(out.Addresses) == 0:
		return cloud.Errorf(cloud.UserError, "there is no elastic address %s: correct the annotation %seip-allocations", id, AnnotationPrefix)
	}
	at := aws.ToString(out.Addresses[0].NetworkInterfaceId)
	if at == "" {
		return nil
	}
	return c.free(ctx, "elastic address "+id, AnnotationPrefix+"eip-allocations", filter("network-interface-id", at))
}

// inside looks whether an address is one of the subnet's, and nothing else has it. Empty: none is asked for.
func (c *checker) inside(ctx context.Context, subnet ec2types.Subnet, text, key string) error {
	if text == "" {
		return nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return err
	}
	ranges, by := []string{aws.ToString(subnet.CidrBlock)}, "addresses.private-ip-address"
	if address.Is6() {
		ranges, by = nil, "ipv6-addresses.ipv6-address"
		for _, block := range subnet.Ipv6CidrBlockAssociationSet {
			ranges = append(ranges, aws.ToString(block.Ipv6CidrBlock))
		}
	}
	id, within := aws.ToString(subnet.SubnetId), false
	for _, one := range ranges {
		if prefix, err := netip.ParsePrefix(one); err == nil && prefix.Contains(address) {
			within = true
		}
	}
	if !within {
		return cloud.Errorf(cloud.UserError, "address %s is not in subnet %s: correct the annotation %s", text, id, key)
	}
	return c.free(ctx, "address "+text, key, filter("subnet-id", id), filter(by, text))
}

// free looks whether network interfaces that have something are those of balancers that make room.
func (c *checker) free(ctx context.Context, what, key string, filters ...ec2types.Filter) error {
	in := &ec2.DescribeNetworkInterfacesInput{Filters: filters}
	return ec2Pages(&in.NextToken, func() (next *string, err error) {
		page, err := c.provider.ec2.describeNetworkInterfaces(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, i := range page.NetworkInterfaces {
			if !c.goes(aws.ToString(i.Description)) {
				return nil, cloud.Errorf(cloud.UserError, "%s is in use (%s): correct the annotation %s", what, aws.ToString(i.NetworkInterfaceId), key)
			}
		}
		return page.NextToken, nil
	})
}

// goes reports whether the interface with the description is that of a balancer that makes room.
func (c *checker) goes(description string) bool {
	for arn := range c.going {
		if description == interfaceOf(arn) {
			return true
		}
	}
	return false
}

// interfaceOf is the description of a balancer's network interfaces.
func interfaceOf(arn string) string {
	_, name, _ := strings.Cut(arn, ":loadbalancer/")
	return "ELB " + name
}
