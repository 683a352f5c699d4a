package awstest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// interfaceID is that of a balancer's network interface in a subnet.
func interfaceID(b *balancer, subnet string) string {
	return "eni-" + (*b.LoadBalancerArn)[strings.LastIndex(*b.LoadBalancerArn, "/")+1:] + subnet
}

// describeNetworkInterfaces shows the interfaces of balancers.
func (s *Server) describeNetworkInterfaces(in *ec2.DescribeNetworkInterfacesInput) (*ec2.DescribeNetworkInterfacesOutput, error) {
	all := []ec2types.NetworkInterface{}
	for _, b := range sortedBy(s.read().balancers, func(b *balancer) string { return *b.LoadBalancerArn }) {
		_, name, _ := strings.Cut(*b.LoadBalancerArn, ":loadbalancer/")
		for _, zone := range b.AvailabilityZones {
			shown := ec2types.NetworkInterface{Description: aws.String("ELB " + name), SubnetId: zone.SubnetId, VpcId: b.VpcId,
				NetworkInterfaceId: aws.String(interfaceID(b, *zone.SubnetId)), AvailabilityZone: zone.ZoneName}
			fields := map[string]string{"vpc-id": *b.VpcId, "subnet-id": *zone.SubnetId, "network-interface-id": *shown.NetworkInterfaceId,
				"addresses.private-ip-address": "", "ipv6-addresses.ipv6-address": "", "group-id": ""}
			for _, address := range append(slices.Clone(b.addresses[*zone.SubnetId]), askedFor(zone)...) {
				show(&shown, fields, b, address)
			}
			groups := b.SecurityGroups
			if len(groups) == 0 {
				groups = []string{""}
			}
			matches := false
			for _, id := range groups {
				if id != "" {
					shown.Groups = append(shown.Groups, ec2types.GroupIdentifier{GroupId: aws.String(id)})
				}
				fields["group-id"] = id
				ok, err := passes(in.Filters, fields, nil)
				if err != nil {
					return nil, err
				}
				matches = matches || ok
			}
			if matches {
				all = append(all, shown)
			}
		}
	}
	some, next, err := page(all, in.NextToken, in.MaxResults, 1000)
	return &ec2.DescribeNetworkInterfacesOutput{NetworkInterfaces: some, NextToken: next}, err
}

// show puts an address of a balancer's interface where it is looked for.
func show(shown *ec2types.NetworkInterface, fields map[string]string, b *balancer, address netip.Addr) {
	switch {
	case address.Is6():
		fields["ipv6-addresses.ipv6-address"] = address.String()
	case b.Scheme == elbtypes.LoadBalancerSchemeEnumInternal:
		shown.PrivateIpAddress = aws.String(address.String())
		fields["addresses.private-ip-address"] = address.String()
	default:
		shown.Association = &ec2types.NetworkInterfaceAssociation{PublicIp: aws.String(address.String())}
	}
}

// describeAddresses shows the account's elastic addresses, and the interfaces of balancers that have them.
func (s *Server) describeAddresses(in *ec2.DescribeAddressesInput) (*ec2.DescribeAddressesOutput, error) {
	out := &ec2.DescribeAddressesOutput{Addresses: []ec2types.Address{}}
	for _, id := range in.AllocationIds {
		if _, ok := s.options.Elastic[id]; !ok {
			return nil, refuse("InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", id)
		}
	}
	at := map[string]string{}
	for _, b := range s.read().balancers {
		for _, m := range b.mappings {
			if m.AllocationId != nil {
				at[*m.AllocationId] = interfaceID(b, *m.SubnetId)
			}
		}
	}
	for _, id := range sortedKeys(s.options.Elastic) {
		ok, err := passes(in.Filters, map[string]string{"allocation-id": id, "public-ip": s.options.Elastic[id]}, nil)
		if err != nil {
			return nil, err
		}
		if !ok || len(in.AllocationIds) > 0 && !slices.Contains(in.AllocationIds, id) {
			continue
		}
		shown := ec2types.Address{AllocationId: aws.String(id), PublicIp: aws.String(s.options.Elastic[id]), Domain: ec2types.DomainTypeVpc}
		if eni := at[id]; eni != "" {
			shown.NetworkInterfaceId, shown.AssociationId = aws.String(eni), aws.String("eipassoc-"+eni)
		}
		out.Addresses = append(out.Addresses, shown)
	}
	return out, nil
}
