package awstest

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Machine is an instance that runs.
type Machine struct {
	// ID, DNS is its private name.
	ID, DNS string
	// Subnet, and SecurityGroups that it is in, by id.
	Subnet         string
	SecurityGroups []string
	Tags           map[string]string
	// Address that hardware sends to, and IPv6, its primary one, without which it is no target of groups of IPv6.
	Address, IPv6 netip.Addr
}

// SecurityGroup is one that is there from the beginning.
type SecurityGroup struct {
	ID, Name string
	Tags     map[string]string
	// VPC that it is in; empty: that of the Options.
	VPC string
}

func (s *Server) addSecurityGroup(g SecurityGroup) {
	s.state.security[g.ID] = &securityGroup{rules: map[rule]string{}, SecurityGroup: ec2types.SecurityGroup{GroupId: aws.String(g.ID),
		GroupName: aws.String(g.Name), Description: aws.String(g.Name), VpcId: aws.String(cmp.Or(g.VPC, s.options.VPC)), OwnerId: aws.String(Account)}}
	s.state.tags[g.ID] = g.Tags
}

func (s *Server) describeInstances(in *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
	reservation := ec2types.Reservation{ReservationId: aws.String("r-1"), OwnerId: aws.String(Account)}
	for _, id := range in.InstanceIds {
		if !slices.ContainsFunc(s.options.Machines, func(m Machine) bool { return m.ID == id }) {
			return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
	}
	for _, m := range s.options.Machines {
		ok, err := passes(in.Filters, map[string]string{"vpc-id": s.options.VPC, "instance-id": m.ID, "private-dns-name": m.DNS, "instance-state-name": "running"}, m.Tags)
		if err != nil {
			return nil, err
		}
		if !ok || len(in.InstanceIds) > 0 && !slices.Contains(in.InstanceIds, m.ID) {
			continue
		}
		shown := ec2types.Instance{InstanceId: aws.String(m.ID), VpcId: &s.options.VPC, PrivateDnsName: aws.String(m.DNS), SubnetId: aws.String(m.Subnet),
			State: &ec2types.InstanceState{Name: ec2types.InstanceStateNameRunning, Code: aws.Int32(16)}, Tags: ec2Tags(m.Tags)}
		for _, id := range m.SecurityGroups {
			shown.SecurityGroups = append(shown.SecurityGroups, ec2types.GroupIdentifier{GroupId: aws.String(id)})
		}
		reservation.Instances = append(reservation.Instances, shown)
	}
	all := []ec2types.Reservation{}
	if len(reservation.Instances) > 0 {
		all = append(all, reservation)
	}
	some, next, err := page(all, in.NextToken, in.MaxResults, 1000)
	return &ec2.DescribeInstancesOutput{Reservations: some, NextToken: next}, err
}

// describeRouteTables shows the one of the VPC, which leads to the internet.
func (s *Server) describeRouteTables(in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput, error) {
	all := []ec2types.RouteTable{}
	ok, err := passes(in.Filters, map[string]string{"vpc-id": s.options.VPC}, nil)
	if err != nil {
		return nil, err
	}
	if ok {
		all = append(all, ec2types.RouteTable{RouteTableId: aws.String("rtb-1"), VpcId: &s.options.VPC,
			Routes:       []ec2types.Route{{GatewayId: aws.String("igw-1"), DestinationCidrBlock: aws.String("0.0.0.0/0")}},
			Associations: []ec2types.RouteTableAssociation{{Main: aws.Bool(true), RouteTableId: aws.String("rtb-1")}}})
	}
	some, next, err := page(all, in.NextToken, in.MaxResults, 100)
	return &ec2.DescribeRouteTablesOutput{RouteTables: some, NextToken: next}, err
}

func (s *Server) describeAvailabilityZones(in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	out := &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: []ec2types.AvailabilityZone{}}
	var names []string
	for _, subnet := range s.options.Subnets {
		names = append(names, subnet.Zone)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if len(in.ZoneNames) == 0 || slices.Contains(in.ZoneNames, name) {
			out.AvailabilityZones = append(out.AvailabilityZones, ec2types.AvailabilityZone{ZoneName: aws.String(name), ZoneId: aws.String(name),
				ZoneType: aws.String("availability-zone"), RegionName: aws.String(Region), State: ec2types.AvailabilityZoneStateAvailable})
		}
	}
	for _, name := range in.ZoneNames {
		if !slices.Contains(names, name) {
			return nil, refuse("InvalidParameterValue", "Invalid availability zone: [%s]", name)
		}
	}
	return out, nil
}
