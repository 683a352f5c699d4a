package awstest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

var instanceForm = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

// Subnet of the VPC.
type Subnet struct {
	ID, Zone, CIDR, CIDR6 string
	Tags                  map[string]string
	// Free addresses; 0: enough.
	Free int32
	// VPC that it is in; empty: that of the Options.
	VPC string
}

var (
	public  = map[string]string{"kubernetes.io/role/elb": "1"}
	private = map[string]string{"kubernetes.io/role/internal-elb": "1"}
)

var defaultSubnets = []Subnet{
	{"subnet-0a01", Region + "a", "172.30.0.0/24", "2600:1f16:1:0::/64", public, 0, ""},
	{"subnet-0a02", Region + "b", "172.30.1.0/24", "2600:1f16:1:1::/64", public, 0, ""},
	{"subnet-0a03", Region + "c", "172.30.2.0/24", "2600:1f16:1:2::/64", public, 0, ""},
	{"subnet-0b01", Region + "a", "172.30.16.0/24", "2600:1f16:1:10::/64", private, 0, ""},
	{"subnet-0b02", Region + "b", "172.30.17.0/24", "2600:1f16:1:11::/64", private, 0, ""},
	{"subnet-0b03", Region + "c", "172.30.18.0/24", "2600:1f16:1:12::/64", private, 0, ""},
}

// elasticAddresses that the account has, by allocation. They are reserved for documentation (RFC 5737).
var elasticAddresses = map[string]string{"eipalloc-01": "198.51.100.1", "eipalloc-02": "198.51.100.2", "eipalloc-03": "198.51.100.3", "eipalloc-04": "198.51.100.4"}

func (s *Server) subnet(id string) (Subnet, bool) {
	i := slices.IndexFunc(s.options.Subnets, func(n Subnet) bool { return n.ID == id })
	if i < 0 {
		return Subnet{}, false
	}
	found := s.options.Subnets[i]
	found.VPC = cmp.Or(found.VPC, s.options.VPC)
	return found, true
}

func ec2Tags(tags map[string]string) []ec2types.Tag {
	var list []ec2types.Tag
	for _, key := range sortedKeys(tags) {
		list = append(list, ec2types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

func (s *Server) describeSubnets(in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	out := &ec2.DescribeSubnetsOutput{Subnets: []ec2types.Subnet{}}
	for _, id := range in.SubnetIds {
		if _, ok := s.subnet(id); !ok {
			return nil, refuse("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
		}
	}
	for _, n := range s.options.Subnets {
		vpc := cmp.Or(n.VPC, s.options.VPC)
		ok, err := passes(in.Filters, map[string]string{"vpc-id": vpc, "subnet-id": n.ID, "availability-zone": n.Zone}, n.Tags)
		if err != nil {
			return nil, err
		}
		if !ok || len(in.SubnetIds) > 0 && !slices.Contains(in.SubnetIds, n.ID) {
			continue
		}
		shown := ec2types.Subnet{SubnetId: aws.String(n.ID), VpcId: aws.String(vpc), AvailabilityZone: aws.String(n.Zone), CidrBlock: aws.String(n.CIDR),
			State: ec2types.SubnetStateAvailable, OwnerId: aws.String(Account), AvailableIpAddressCount: aws.Int32(cmp.Or(n.Free, 200)), Tags: ec2Tags(n.Tags)}
		if n.CIDR6 != "" {
			shown.Ipv6CidrBlockAssociationSet = []ec2types.SubnetIpv6CidrBlockAssociation{{Ipv6CidrBlock: aws.String(n.CIDR6), AssociationId: aws.String(n.ID + "-6")}}
		}
		out.Subnets = append(out.Subnets, shown)
	}
	some, next, err := page(out.Subnets, in.NextToken, in.MaxResults, 1000)
	out.Subnets, out.NextToken = some, next
	return out, err
}

// rule is one rule of a security group.
type rule struct {
	protocol string
	from, to int32
	// source is a range of addresses, a prefix list or a group.
	source string
}

var descriptionForm = regexp.MustCompile(`^[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}$`)

// rulesOf takes permissions apart.
func rulesOf(permissions []ec2types.IpPermission) (map[rule]string, error) {
	all := map[rule]string{}
	for _, p := range permissions {
		one := rule{protocol: aws.ToString(p.IpProtocol), from: aws.ToInt32(p.FromPort), to: aws.ToInt32(p.ToPort)}
		switch one.protocol {
		case "tcp", "udp":
			if p.FromPort == nil || p.ToPort == nil || one.from > one.to || one.from < 0 || one.to > 65535 {
				return nil, refuse("InvalidParameterValue", "Invalid value for portRange")
			}
		case "icmp", "icmpv6":
		case "-1":
			one.from, one.to = 0, 0
		default:
			return nil, refuse("InvalidParameterValue", "Invalid value '%s' for IP protocol", one.protocol)
		}
		add := func(source string, description *string) error {
			if !descriptionForm.MatchString(aws.ToString(description)) {
				return refuse("InvalidParameterValue", "Invalid rule description")
			}
			one.source = source
			all[one] = aws.ToString(description)
			return nil
		}
		for _, r := range p.IpRanges {
			if err := addRange(aws.ToString(r.CidrIp), true, r.Description, add); err != nil {
				return nil, err
			}
		}
		for _, r := range p.Ipv6Ranges {
			if err := addRange(aws.ToString(r.CidrIpv6), false, r.Description, add); err != nil {
				return nil, err
			}
		}
		for _, l := range p.PrefixListIds {
			if err := add(aws.ToString(l.PrefixListId), l.Description); err != nil {
				return nil, err
			}
		}
		for _, g := range p.UserIdGroupPairs {
			if err := add(aws.ToString(g.GroupId), g.Description); err != nil {
				return nil, err
			}
		}
	}
	if len(all) == 0 {
		return nil, refuse("MissingParameter", "The request must contain a source")
	}
	return all, nil
}

func addRange(text string, four bool, description *string, add func(string, *string) error) error {
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4() != four {
		return refuse("InvalidParameterValue", "CIDR block %s is malformed", text)
	}
	return add(prefix.Masked().String(), description)
}

// permissions puts rules together as they are answered: by protocol and ports.
func permissions(rules map[rule]string) []ec2types.IpPermission {
	order := slices.SortedFunc(maps.Keys(rules), func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.source, b.source))
	})
	list := []ec2types.IpPermission{}
	for i, r := range order {
		if i == 0 || order[i-1].protocol != r.protocol || order[i-1].from != r.from || order[i-1].to != r.to {
			p := ec2types.IpPermission{IpProtocol: aws.String(r.protocol)}
			if r.protocol != "-1" {
				p.FromPort, p.ToPort = aws.Int32(r.from), aws.Int32(r.to)
			}
			list = append(list, p)
		}
		p := &list[len(list)-1]
		var description *string
		if text := rules[r]; text != "" {
			description = &text
		}
		switch prefix, err := netip.ParsePrefix(r.source); {
		case err == nil && prefix.Addr().Is4():
			p.IpRanges = append(p.IpRanges, ec2types.IpRange{CidrIp: aws.String(r.source), Description: description})
		case err == nil:
			p.Ipv6Ranges = append(p.Ipv6Ranges, ec2types.Ipv6Range{CidrIpv6: aws.String(r.source), Description: description})
		case strings.HasPrefix(r.source, "pl-"):
			p.PrefixListIds = append(p.PrefixListIds, ec2types.PrefixListId{PrefixListId: aws.String(r.source), Description: description})
		default:
			p.UserIdGroupPairs = append(p.UserIdGroupPairs, ec2types.UserIdGroupPair{GroupId: aws.String(r.source), UserId: aws.String(Account), Description: description})
		}
	}
	return list
}

func (s *Server) describeSecurityGroups(in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	read := s.read()
	for _, id := range in.GroupIds {
		if read.security[id] == nil {
			return nil, refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
	}
	all := []ec2types.SecurityGroup{}
	for _, g := range sortedBy(read.security, func(g *securityGroup) string { return *g.GroupId }) {
		tags := read.tags[*g.GroupId]
		filters, lets := letIn(in.Filters, g)
		ok, err := passes(filters, map[string]string{"vpc-id": *g.VpcId, "group-id": *g.GroupId, "group-name": *g.GroupName}, tags)
		if err != nil {
			return nil, err
		}
		if !ok || !lets || len(in.GroupIds) > 0 && !slices.Contains(in.GroupIds, *g.GroupId) {
			continue
		}
		shown := g.SecurityGroup
		shown.IpPermissions, shown.Tags = permissions(g.rules), ec2Tags(tags)
		all = append(all, shown)
	}
	some, next, err := page(all, in.NextToken, in.MaxResults, 1000)
	return &ec2.DescribeSecurityGroupsOutput{SecurityGroups: some, NextToken: next}, err
}

func (s *Server) createSecurityGroup(in *ec2.CreateSecurityGroupInput) (*ec2.CreateSecurityGroupOutput, error) {
	tags := map[string]string{}
	for _, spec := range in.TagSpecifications {
		if spec.ResourceType != ec2types.ResourceTypeSecurityGroup {
			return nil, refuse("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", spec.ResourceType)
		}
		for _, t := range spec.Tags {
			tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
	}
	switch {
	case *in.VpcId != s.options.VPC:
		return nil, refuse("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", *in.VpcId)
	case strings.HasPrefix(*in.GroupName, "sg-") || !descriptionForm.MatchString(*in.GroupName):
		return nil, refuse("InvalidParameterValue", "Invalid security group name '%s'", *in.GroupName)
	case !descriptionForm.MatchString(*in.Description):
		return nil, refuse("InvalidParameterValue", "Invalid security group description. Valid descriptions are strings less than 256 characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*")
	}
	for _, have := range s.state.security {
		if *have.GroupName == *in.GroupName && *have.VpcId == *in.VpcId {
			return nil, refuse("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", *in.GroupName, *in.VpcId)
		}
	}
	if len(s.state.security) >= s.options.Quotas.Groups {
		return nil, refuse("SecurityGroupLimitExceeded", "The maximum number of security groups for VPC '%s' has been reached.", *in.VpcId)
	}
	id := "sg-" + s.id()
	s.state.security[id] = &securityGroup{rules: map[rule]string{}, SecurityGroup: ec2types.SecurityGroup{GroupId: &id, GroupName: in.GroupName,
		Description: in.Description, VpcId: in.VpcId, OwnerId: aws.String(Account),
		SecurityGroupArn: aws.String(fmt.Sprintf("arn:aws:ec2:%s:%s:security-group/%s", Region, Account, id))}}
	s.state.tags[id] = tags
	return &ec2.CreateSecurityGroupOutput{GroupId: &id, Tags: ec2Tags(tags)}, nil
}

func (s *Server) deleteSecurityGroup(in *ec2.DeleteSecurityGroupInput) (*ec2.DeleteSecurityGroupOutput, error) {
	id := *in.GroupId
	if s.state.security[id] == nil {
		return nil, refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
	}
	used := s.isBusy(id)
	for _, b := range s.state.balancers {
		used = used || slices.Contains(b.SecurityGroups, id)
	}
	for other, g := range s.state.security {
		for r := range g.rules {
			used = used || other != id && r.source == id
		}
	}
	if used {
		return nil, refuse("DependencyViolation", "resource %s has a dependent object", id)
	}
	delete(s.state.security, id)
	s.forget(id)
	return &ec2.DeleteSecurityGroupOutput{GroupId: &id, Return: aws.Bool(true)}, nil
}

func (s *Server) changeRules(id string, given []ec2types.IpPermission, change func(have map[rule]string, r rule, description string) error) error {
	g := s.state.security[id]
	if g == nil {
		return refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
	}
	rules, err := rulesOf(given)
	if err != nil {
		return err
	}
	next := *g
	next.rules = maps.Clone(g.rules)
	for r, description := range rules {
		switch {
		case strings.HasPrefix(r.source, "sg-") && s.state.security[r.source] == nil:
			return refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", r.source)
		case strings.HasPrefix(r.source, "pl-") && s.options.PrefixLists != nil && !slices.Contains(s.options.PrefixLists, r.source):
			return refuse("InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", r.source)
		}
		if err := change(next.rules, r, description); err != nil {
			return err
		}
	}
	if len(next.rules) > s.options.Quotas.Rules {
		return refuse("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
	}
	s.state.security[id] = &next
	return nil
}

func (s *Server) authorizeIngress(in *ec2.AuthorizeSecurityGroupIngressInput) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	err := s.changeRules(*in.GroupId, in.IpPermissions, func(have map[rule]string, r rule, description string) error {
		if _, ok := have[r]; ok {
			return refuse("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, from port: %d, to port: %d, ALLOW\" already exists", r.source, r.protocol, r.from, r.to)
		}
		have[r] = description
		return nil
	})
	return &ec2.AuthorizeSecurityGroupIngressOutput{Return: aws.Bool(true)}, err
}

func (s *Server) revokeIngress(in *ec2.RevokeSecurityGroupIngressInput) (*ec2.RevokeSecurityGroupIngressOutput, error) {
	err := s.changeRules(*in.GroupId, in.IpPermissions, func(have map[rule]string, r rule, _ string) error {
		if _, ok := have[r]; !ok {
			return refuse("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
		}
		delete(have, r)
		return nil
	})
	return &ec2.RevokeSecurityGroupIngressOutput{Return: aws.Bool(true)}, err
}

func (s *Server) createEC2Tags(in *ec2.CreateTagsInput) (*ec2.CreateTagsOutput, error) {
	return &ec2.CreateTagsOutput{}, s.retagEC2(in.Resources, func(tags map[string]string) {
		for _, t := range in.Tags {
			tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
	})
}

func (s *Server) deleteEC2Tags(in *ec2.DeleteTagsInput) (*ec2.DeleteTagsOutput, error) {
	return &ec2.DeleteTagsOutput{}, s.retagEC2(in.Resources, func(tags map[string]string) {
		for _, t := range in.Tags {
			if t.Value == nil || tags[aws.ToString(t.Key)] == *t.Value {
				delete(tags, aws.ToString(t.Key))
			}
		}
	})
}

func (s *Server) retagEC2(ids []string, change func(map[string]string)) error {
	var groups []string
	for _, id := range ids {
		switch _, ok := s.subnet(id); {
		case s.state.security[id] != nil:
			groups = append(groups, id)
		case !ok:
			return refuse("InvalidID", "The ID '%s' is not valid", id)
		}
	}
	for i, n := range s.options.Subnets {
		if slices.Contains(ids, n.ID) {
			next := map[string]string{}
			maps.Copy(next, n.Tags)
			change(next)
			s.options.Subnets[i].Tags = next
		}
	}
	return s.retag(groups, change)
}
