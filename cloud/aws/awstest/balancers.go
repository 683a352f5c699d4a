package awstest

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// Region and Account of every ARN.
const (
	Region  = "eu-north-1"
	Account = "123456789012"
)

const arnPrefix = "arn:aws:elasticloadbalancing:" + Region + ":" + Account + ":"

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?$`)

func checkName(what, name string) error {
	switch {
	case len(name) > 32:
		return refuse("ValidationError", "%s name '%s' cannot be longer than '32' characters", what, name)
	case !nameForm.MatchString(name) || strings.HasPrefix(name, "internal-"):
		return refuse("ValidationError", "%s name '%s' can only contain characters that are alphanumeric characters and hyphens(-)", what, name)
	}
	return nil
}

func enum[T ~string](what string, value T, known []T) error {
	if value != "" && !slices.Contains(known, value) {
		return refuse("ValidationError", "'%s' is not a valid %s", value, what)
	}
	return nil
}

func (s *Server) createLoadBalancer(in *elb.CreateLoadBalancerInput) (*elb.CreateLoadBalancerOutput, error) {
	b := &balancer{LoadBalancer: types.LoadBalancer{LoadBalancerName: in.Name, Type: in.Type, Scheme: in.Scheme, IpAddressType: in.IpAddressType,
		SecurityGroups: in.SecurityGroups, CreatedTime: aws.Time(s.now()), CanonicalHostedZoneId: aws.String("Z1UDT6IFJ4EJM")}}
	if b.Scheme == "" {
		b.Scheme = types.LoadBalancerSchemeEnumInternetFacing
	}
	if b.IpAddressType == "" {
		b.IpAddressType = types.IpAddressTypeIpv4
	}
	for _, err := range []error{checkName("Load balancer", *in.Name), enum("load balancer type", b.Type, b.Type.Values()), enum("scheme", b.Scheme, b.Scheme.Values()),
		enum("IP address type", b.IpAddressType, b.IpAddressType.Values()), checkTags(in.Tags)} {
		if err != nil {
			return nil, err
		}
	}
	if b.Type != types.LoadBalancerTypeEnumNetwork {
		return nil, refuse("UnsupportedOperation", "balancers of type '%s' are not supported here", b.Type)
	}
	b.EnablePrefixForIpv6SourceNat = in.EnablePrefixForIpv6SourceNat
	if err := s.place(b, in.Subnets, in.SubnetMappings); err != nil {
		return nil, err
	}
	if err := s.checkSecurityGroups(in.SecurityGroups, *b.VpcId); err != nil {
		return nil, err
	}
	for _, have := range s.state.balancers {
		if *have.LoadBalancerName == *in.Name {
			if !sameBalancer(have, b) {
				return nil, refuse("DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists, but with different settings", *in.Name)
			}
			return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{s.show(have)}}, nil
		}
	}
	if len(s.state.balancers) >= s.options.Quotas.Balancers {
		return nil, refuse("TooManyLoadBalancers", "The maximum number of load balancers has been reached")
	}
	id := s.id()
	b.LoadBalancerArn = aws.String(arnPrefix + "loadbalancer/net/" + *in.Name + "/" + id)
	b.DNSName = aws.String(*in.Name + "-" + id + ".elb." + Region + ".amazonaws.com")
	b.readyAt = s.now().Add(s.options.Slow)
	b.fails = s.faults.Strike("elasticloadbalancing:CreateLoadBalancer", "", faults.Late) != nil
	s.state.balancers[*b.LoadBalancerArn] = b
	s.state.tags[*b.LoadBalancerArn] = plain(in.Tags)
	s.state.attributes[*b.LoadBalancerArn] = balancerDefaults(b.Scheme)
	return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{s.show(b)}}, nil
}

// place puts a balancer into subnets. It checks what has to do with addresses.
func (s *Server) place(b *balancer, subnets []string, mappings []types.SubnetMapping) error {
	if (len(subnets) == 0) == (len(mappings) == 0) {
		return refuse("ValidationError", "You must specify either subnets or subnet mappings")
	}
	for _, id := range subnets {
		mappings = append(mappings, types.SubnetMapping{SubnetId: aws.String(id)})
	}
	on := b.EnablePrefixForIpv6SourceNat == types.EnablePrefixForIpv6SourceNatEnumOn
	if on && b.IpAddressType == types.IpAddressTypeIpv4 {
		return refuse("InvalidConfigurationRequest", "Prefix for IPv6 source NAT needs the IP address type dualstack")
	}
	had, before := b.addresses, b.AvailabilityZones
	b.mappings, b.AvailabilityZones, b.addresses = mappings, nil, map[string][]netip.Addr{}
	zones := map[string]bool{}
	for _, m := range mappings {
		subnet, ok := s.subnet(aws.ToString(m.SubnetId))
		switch {
		case !ok:
			return refuse("SubnetNotFound", "The subnet ID '%s' does not exist", aws.ToString(m.SubnetId))
		case aws.ToString(b.VpcId) != "" && subnet.VPC != *b.VpcId:
			return refuse("InvalidConfigurationRequest", "Subnet '%s' is not in VPC '%s'", subnet.ID, *b.VpcId)
		case slices.ContainsFunc(before, func(z types.AvailabilityZone) bool { return *z.ZoneName == subnet.Zone && *z.SubnetId != subnet.ID }):
			return refuse("InvalidConfigurationRequest", "The Availability Zone '%s' of the new subnet '%s' is already associated with the load balancer", subnet.Zone, subnet.ID)
		case zones[subnet.Zone]:
			return refuse("InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone")
		case b.IpAddressType != types.IpAddressTypeIpv4 && subnet.CIDR6 == "":
			return refuse("InvalidSubnet", "Subnet '%s' has no IPv6 CIDR block", subnet.ID)
		}
		zones[subnet.Zone], b.VpcId = true, aws.String(subnet.VPC)
		zone := types.AvailabilityZone{ZoneName: aws.String(subnet.Zone), SubnetId: aws.String(subnet.ID)}
		if err := s.addresses(b, &m, subnet, &zone); err != nil {
			return err
		}
		given, err := s.allot(b, subnet, zone, had[subnet.ID])
		if err != nil {
			return err
		}
		b.addresses[subnet.ID] = given
		b.AvailabilityZones = append(b.AvailabilityZones, zone)
	}
	return nil
}

// addresses checks the addresses that are asked for in one subnet, and notes them.
func (s *Server) addresses(b *balancer, m *types.SubnetMapping, subnet Subnet, zone *types.AvailabilityZone) error {
	inside := func(text, cidr string) bool {
		address, err := netip.ParseAddr(text)
		prefix, wrong := netip.ParsePrefix(cidr)
		return err == nil && wrong == nil && prefix.Contains(address)
	}
	var address types.LoadBalancerAddress
	if m.AllocationId != nil {
		public, ok := s.options.Elastic[*m.AllocationId]
		switch {
		case b.Scheme != types.LoadBalancerSchemeEnumInternetFacing:
			return refuse("InvalidConfigurationRequest", "Elastic IP addresses are for internet-facing load balancers")
		case !ok:
			return refuse("AllocationIdNotFound", "The allocation ID '%s' does not exist", *m.AllocationId)
		}
		address.AllocationId, address.IpAddress = m.AllocationId, aws.String(public)
	}
	if m.PrivateIPv4Address != nil {
		switch {
		case b.Scheme != types.LoadBalancerSchemeEnumInternal:
			return refuse("InvalidConfigurationRequest", "Private IPv4 addresses are for internal load balancers")
		case !inside(*m.PrivateIPv4Address, subnet.CIDR):
			return refuse("InvalidConfigurationRequest", "'%s' is not in subnet '%s'", *m.PrivateIPv4Address, subnet.ID)
		}
		address.PrivateIPv4Address = m.PrivateIPv4Address
	}
	if m.IPv6Address != nil {
		if b.IpAddressType == types.IpAddressTypeIpv4 || !inside(*m.IPv6Address, subnet.CIDR6) {
			return refuse("InvalidConfigurationRequest", "'%s' is not in subnet '%s'", *m.IPv6Address, subnet.ID)
		}
		address.IPv6Address = m.IPv6Address
	}
	if address == (types.LoadBalancerAddress{}) {
		return nil
	}
	zone.LoadBalancerAddresses = []types.LoadBalancerAddress{address}
	// A creation that is repeated finds its own addresses.
	taken := s.taken(func(have *balancer) bool { return *have.LoadBalancerName != *b.LoadBalancerName })
	for _, a := range askedFor(*zone) {
		if taken[a] {
			return refuse("ResourceInUse", "The address '%s' is in use", a)
		}
	}
	return nil
}

// sameBalancer reports whether a creation with these settings is taken for the one before, whatever its tags are.
func sameBalancer(a, b *balancer) bool {
	key := func(b *balancer) string {
		parts := []string{string(b.Scheme), string(b.IpAddressType), string(b.EnablePrefixForIpv6SourceNat)}
		groups := slices.Sorted(slices.Values(b.SecurityGroups))
		var placed []string
		for _, m := range b.mappings {
			placed = append(placed, strings.Join([]string{aws.ToString(m.SubnetId), aws.ToString(m.AllocationId), aws.ToString(m.PrivateIPv4Address),
				aws.ToString(m.IPv6Address)}, "/"))
		}
		slices.Sort(placed)
		return strings.Join(append(append(parts, groups...), placed...), " ")
	}
	return key(a) == key(b)
}

// show is a balancer as it is answered.
func (s *Server) show(b *balancer) types.LoadBalancer {
	shown := b.LoadBalancer
	code := types.LoadBalancerStateEnumActive
	switch {
	case s.now().Before(b.readyAt):
		code = types.LoadBalancerStateEnumProvisioning
	case b.fails:
		code = types.LoadBalancerStateEnumFailed
	}
	shown.State = &types.LoadBalancerState{Code: code}
	shown.AvailabilityZones = slices.Clone(b.AvailabilityZones)
	for i := range shown.AvailabilityZones {
		s.showChosen(b, &shown.AvailabilityZones[i])
	}
	return shown
}

// showChosen shows the address of IPv6 that AWS has chosen beside an elastic one.
func (s *Server) showChosen(b *balancer, zone *types.AvailabilityZone) {
	list := zone.LoadBalancerAddresses
	subnet, _ := s.subnet(*zone.SubnetId)
	if prefix, err := netip.ParsePrefix(subnet.CIDR6); err == nil && b.IpAddressType != types.IpAddressTypeIpv4 && len(list) == 1 && list[0].AllocationId != nil && list[0].IPv6Address == nil {
		zone.LoadBalancerAddresses = append(slices.Clone(list), types.LoadBalancerAddress{IPv6Address: aws.String(prefix.Addr().Next().String())})
	}
}

func (s *Server) describeLoadBalancers(in *elb.DescribeLoadBalancersInput) (*elb.DescribeLoadBalancersOutput, error) {
	read := s.read()
	all := sortedBy(read.balancers, func(b *balancer) string { return *b.LoadBalancerName })
	switch {
	case len(in.LoadBalancerArns) > 0 && len(in.Names) > 0:
		return nil, refuse("ValidationError", "Load balancer names and load balancer ARNs cannot be specified at the same time")
	case len(in.LoadBalancerArns) > 20 || len(in.Names) > 20:
		return nil, refuse("ValidationError", "Up to 20 load balancers can be named in one call")
	}
	all, err := pick(all, "LoadBalancerNotFound", in.LoadBalancerArns, func(b *balancer) string { return *b.LoadBalancerArn },
		in.Names, func(b *balancer) string { return *b.LoadBalancerName })
	if err != nil {
		return nil, err
	}
	some, next, err := page(all, in.Marker, in.PageSize, 400)
	if err != nil {
		return nil, err
	}
	out := &elb.DescribeLoadBalancersOutput{NextMarker: next, LoadBalancers: []types.LoadBalancer{}}
	for _, b := range some {
		out.LoadBalancers = append(out.LoadBalancers, s.show(b))
	}
	return out, nil
}

// pick returns those that are named by ARN, or by name, or all where none is. One that is not there is an error.
func pick[T any](all []T, missing string, arns []string, arn func(T) string, names []string, name func(T) string) ([]T, error) {
	wanted, key := arns, arn
	if len(names) > 0 {
		wanted, key = names, name
	}
	if len(wanted) == 0 {
		return all, nil
	}
	var found []T
	for _, want := range wanted {
		i := slices.IndexFunc(all, func(one T) bool { return key(one) == want })
		if i < 0 {
			return nil, refuse(missing, "'%s' not found", want)
		}
		found = append(found, all[i])
	}
	return found, nil
}

func (s *Server) balancer(arn string) (*balancer, error) {
	b := s.state.balancers[arn]
	if b == nil {
		return nil, refuse("LoadBalancerNotFound", "Load balancer '%s' not found", arn)
	}
	copied := *b
	return &copied, nil
}

func (s *Server) deleteLoadBalancer(in *elb.DeleteLoadBalancerInput) (*elb.DeleteLoadBalancerOutput, error) {
	b := s.state.balancers[*in.LoadBalancerArn]
	if b == nil {
		return &elb.DeleteLoadBalancerOutput{}, nil
	}
	if s.state.attributes[*in.LoadBalancerArn]["deletion_protection.enabled"] == "true" {
		return nil, refuse("OperationNotPermitted", "Load balancer '%s' cannot be deleted because deletion protection is enabled", *in.LoadBalancerArn)
	}
	for arn, l := range s.state.listeners {
		if *l.LoadBalancerArn == *in.LoadBalancerArn {
			s.removeListener(arn)
		}
	}
	for _, id := range b.SecurityGroups {
		s.release(id)
	}
	delete(s.state.balancers, *in.LoadBalancerArn)
	s.forget(*in.LoadBalancerArn)
	return &elb.DeleteLoadBalancerOutput{}, nil
}

func (s *Server) setSubnets(in *elb.SetSubnetsInput) (*elb.SetSubnetsOutput, error) {
	b, err := s.balancer(*in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	before := b.IpAddressType
	if in.IpAddressType != "" {
		b.IpAddressType = in.IpAddressType
	}
	if in.EnablePrefixForIpv6SourceNat != "" {
		if before == types.IpAddressTypeIpv4 && b.IpAddressType == types.IpAddressTypeIpv4 {
			return nil, refuse("InvalidConfigurationRequest", "The IP address type must be dualstack to set the prefix for IPv6 source NAT")
		}
		b.EnablePrefixForIpv6SourceNat = in.EnablePrefixForIpv6SourceNat
	}
	kept := slices.ContainsFunc(b.mappings, func(m types.SubnetMapping) bool { return m.AllocationId != nil || m.PrivateIPv4Address != nil })
	if kept {
		return nil, refuse("InvalidConfigurationRequest", "The subnets of a load balancer with addresses of its own cannot be changed")
	}
	if err := s.checkSixes(b); err != nil {
		return nil, err
	}
	if err := s.place(b, in.Subnets, in.SubnetMappings); err != nil {
		return nil, err
	}
	s.state.balancers[*in.LoadBalancerArn] = b
	return &elb.SetSubnetsOutput{AvailabilityZones: b.AvailabilityZones, IpAddressType: b.IpAddressType, EnablePrefixForIpv6SourceNat: b.EnablePrefixForIpv6SourceNat}, nil
}

// checkSixes refuses to take IPv6 from a balancer whose listeners need it.
func (s *Server) checkSixes(b *balancer) error {
	for _, l := range s.state.listeners {
		if *l.LoadBalancerArn == *b.LoadBalancerArn {
			if err := s.checkListener(b, l); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) setIPAddressType(in *elb.SetIpAddressTypeInput) (*elb.SetIpAddressTypeOutput, error) {
	b, err := s.balancer(*in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	b.IpAddressType = in.IpAddressType
	for _, err := range []error{enum("IP address type", in.IpAddressType, in.IpAddressType.Values()), s.checkSixes(b), s.place(b, nil, b.mappings)} {
		if err != nil {
			return nil, err
		}
	}
	s.state.balancers[*in.LoadBalancerArn] = b
	return &elb.SetIpAddressTypeOutput{IpAddressType: b.IpAddressType}, nil
}

func (s *Server) setSecurityGroups(in *elb.SetSecurityGroupsInput) (*elb.SetSecurityGroupsOutput, error) {
	b, err := s.balancer(*in.LoadBalancerArn)
	switch {
	case err != nil:
		return nil, err
	case len(b.SecurityGroups) == 0:
		return nil, refuse("InvalidConfigurationRequest", "You cannot associate security groups with a Network Load Balancer that was created without any")
	}
	if err := s.checkSecurityGroups(in.SecurityGroups, *b.VpcId); err != nil {
		return nil, err
	}
	for _, id := range b.SecurityGroups {
		if !slices.Contains(in.SecurityGroups, id) {
			s.release(id)
		}
	}
	b.SecurityGroups = in.SecurityGroups
	s.state.balancers[*in.LoadBalancerArn] = b
	return &elb.SetSecurityGroupsOutput{SecurityGroupIds: in.SecurityGroups}, nil
}

func (s *Server) checkSecurityGroups(ids []string, vpc string) error {
	if len(ids) > s.options.Quotas.SecurityGroups {
		return refuse("InvalidConfigurationRequest", "The maximum number of security groups per load balancer has been reached")
	}
	for _, id := range ids {
		switch g := s.state.security[id]; {
		case g == nil:
			return refuse("InvalidSecurityGroup", "The security group '%s' does not exist", id)
		case *g.VpcId != vpc:
			return refuse("InvalidConfigurationRequest", "Security group '%s' does not belong to VPC '%s'", id, vpc)
		}
	}
	return nil
}
