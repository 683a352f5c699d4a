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

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// placesOf are the subnets that are given by id, or, with the prefix byName, by name, with what is behind each: an equals sign, and the
// addresses of its own, which may be none.
func placesOf(a map[string]string, prefix string) []string {
	all := cloud.SplitList(cmp.Or(a[prefix+addresses], a[prefix+addressesFour]))
	if len(all) > 0 {
		return all
	}
	for _, subnet := range cloud.SplitList(a[prefix+subnets]) {
		all = append(all, subnet+noAddresses)
	}
	return all
}

// noAddresses is behind a subnet that has none of its own.
const noAddresses = "=||"

// isPlaced reports whether subnets are given.
func isPlaced(a map[string]string) bool { return len(placesOf(a, ""))+len(placesOf(a, byName)) > 0 }

// mappings are the subnets that are given, with their addresses, or else those that are found by the tag of their role.
func (p *Provider) mappings(ctx context.Context, a map[string]string) ([]types.SubnetMapping, error) {
	places := placesOf(a, "")
	if len(places) == 0 {
		places = placesOf(a, byName)
	}
	var given []string
	all := make([]types.SubnetMapping, len(places))
	for i, item := range places {
		at := strings.LastIndex(item, "=") // names can have more of them
		given = append(given, item[:at])
		with := strings.Split(item[at+1:], "|")
		for j, into := range []**string{&all[i].AllocationId, &all[i].PrivateIPv4Address, &all[i].IPv6Address} {
			if with[j] != "" {
				*into = aws.String(with[j])
			}
		}
	}
	ids, err := p.idsOf(ctx, nameableSubnets, given)
	if err == nil && len(places) == 0 {
		ids, err = p.discover(ctx, a[scheme], a[addressType])
		all = make([]types.SubnetMapping, len(ids))
	}
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		all[i].SubnetId = aws.String(id)
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
	six := slices.ContainsFunc(subnet.Ipv6CidrBlockAssociationSet, isAssociated)
	return !theirs && aws.ToInt32(subnet.AvailableIpAddressCount) >= leastFree && (six || of != addressTypeDouble)
}

// isAssociated reports whether a subnet has a range of IPv6 by now, and still.
func isAssociated(b ec2types.SubnetIpv6CidrBlockAssociation) bool {
	return b.Ipv6CidrBlockState == nil || b.Ipv6CidrBlockState.State == ec2types.SubnetCidrBlockStateCodeAssociated
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

// subnetsOf are those that a balancer is in.
func subnetsOf(b types.LoadBalancer) []string {
	var all []string
	for _, zone := range b.AvailabilityZones {
		all = append(all, aws.ToString(zone.SubnetId))
	}
	return all
}

// mappingsOf are the subnets of a balancer with its addresses.
func mappingsOf(b types.LoadBalancer) []types.SubnetMapping {
	var all []types.SubnetMapping
	for _, zone := range b.AvailabilityZones {
		m := types.SubnetMapping{SubnetId: zone.SubnetId}
		for _, one := range zone.LoadBalancerAddresses {
			m.AllocationId, m.PrivateIPv4Address, m.IPv6Address = cmp.Or(m.AllocationId, one.AllocationId),
				cmp.Or(m.PrivateIPv4Address, one.PrivateIPv4Address), cmp.Or(m.IPv6Address, one.IPv6Address)
		}
		all = append(all, m)
	}
	return all
}

// placed says in which subnets mappings are, by their labels, and with which addresses of their own, with and without those of IPv6.
func placed(all []types.SubnetMapping, label func(id string) string) (in, with, four string) {
	var names, own, own4 []string
	for _, m := range all {
		name := label(aws.ToString(m.SubnetId))
		text := name + "=" + aws.ToString(m.AllocationId) + "|" + aws.ToString(m.PrivateIPv4Address) + "|"
		names, own, own4 = append(names, name), append(own, text+aws.ToString(m.IPv6Address)), append(own4, text)
	}
	list := func(own []string) string {
		if !slices.ContainsFunc(own, func(text string) bool { return !strings.HasSuffix(text, noAddresses) }) {
			return "" // AWS has chosen all of them
		}
		return cloud.List(own)
	}
	return cloud.List(names), list(own), list(own4)
}

func itself(id string) string { return id }

// differentMappings are those that a balancer is to have and does not; nil: it has them, or none are given. A UserError where addresses of
// its own would have to change their subnets, which AWS refuses.
func (p *Provider) differentMappings(ctx context.Context, was, is cloud.Resource) ([]types.SubnetMapping, error) {
	asks := func(name string) bool { return is.Attributes[name] != "" && differs(was, is, name) }
	if !slices.ContainsFunc([]string{subnets, byName + subnets, byName + addresses, byName + addressesFour}, asks) {
		return nil, nil
	}
	all, err := p.mappings(ctx, is.Attributes)
	if err != nil {
		return nil, err
	}
	in, with, four := placed(all, itself)
	if had := was.Attributes; in == had[subnets] && (with == "" || with == had[addresses] || with == four && four == had[addressesFour]) {
		return nil, nil // it is given by another name only
	}
	if with != "" { // the addresses are the same, since others would be a replacement
		return nil, cloud.Errorf(cloud.UserError, "addresses cannot go to other subnets in place (they are at %s, and are to be at %s): take the change back, or give the subnets by id and set the annotation %s to %s",
			cmp.Or(was.Attributes[addresses], was.Attributes[subnets]), with, v1alpha1.AnnotationReplacement, v1alpha1.ReplacementRecreate)
	}
	return all, nil
}
