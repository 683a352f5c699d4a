package aws

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/aws/awstest"
)

// TestTargetsOutside: Pods whose addresses are in no subnet of the VPC are targets of all zones, others of their own, also after the subnets
// changed; subnets are read once, and again where AWS refuses what follows from them.
func TestTargetsOutside(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 0)
	s.PodTargets, s.Ports, s.Families = true, []cloud.Port{{Protocol: "TCP", Port: 80, HealthCheck: cloud.HealthCheck{Protocol: "TCP"}}}, bothFamilies[:1]
	inside := awstest.Subnet{ID: "subnet-0b01", Zone: awstest.Region + "a", CIDR: "172.30.16.0/24", CIDR6: "2600:1f16:1:10::/64", Tags: map[string]string{"kubernetes.io/role/internal-elb": "1"}}
	overlay, far := inside, inside
	overlay.ID, overlay.CIDR, overlay.CIDR6, overlay.Tags = "subnet-0c01", "100.64.0.0/24", "2600:1f16:1:20::/64", nil
	far.ID, far.VPC = "subnet-0d01", "vpc-02"
	far.CIDR = "100.64.1.0/24"
	for _, step := range []struct {
		name      string
		subnets   []awstest.Subnet
		addresses []string
		want      []string
		reads     int // of subnets, in a pass after which nothing is to do
	}{
		{"some of both", []awstest.Subnet{inside}, []string{"172.30.16.9", "100.64.0.9", "172.31.0.9"}, []string{"100.64.0.9 all", "172.30.16.9 ", "172.31.0.9 all"}, 2},
		{"one more", []awstest.Subnet{inside}, []string{"172.30.16.9", "100.64.0.9", "172.31.0.9", "100.64.0.8"}, []string{"100.64.0.8 all", "100.64.0.9 all", "172.30.16.9 ", "172.31.0.9 all"}, 0},
		{"a subnet comes", []awstest.Subnet{inside, overlay}, []string{"172.30.16.9", "100.64.0.7"}, []string{"100.64.0.7 ", "172.30.16.9 "}, 1},
		{"it goes", []awstest.Subnet{inside, far}, []string{"172.30.16.9", "100.64.0.6", "100.64.1.6"}, []string{"100.64.0.6 all", "100.64.1.6 all", "172.30.16.9 "}, 1},
	} {
		server.SetSubnets(step.subnets...)
		s.Endpoints = nil
		for _, address := range step.addresses {
			s.Endpoints = append(s.Endpoints, cloud.Endpoint{Address: address, Ports: map[string]int32{"tcp-80": 8080}})
		}
		if reads := callsOf(t, server, p, &s)[readSubnets]; reads != step.reads {
			t.Errorf("%s: subnets are read %d times, want %d", step.name, reads, step.reads)
		}
		group := idsOf(settled(t, p, s.Owner, &s))["TargetGroup/80"]
		out, err := elb.NewFromConfig(sdk(server)).DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String(group)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range out.TargetHealthDescriptions {
			if d.TargetHealth.State != "draining" {
				got = append(got, fmt.Sprint(*d.Target.Id, " ", aws.ToString(d.Target.AvailabilityZone)))
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: the targets are (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestRangesOfSubnets: a subnet has the range of IPv4 that it has, if any, and those of IPv6 that are its own by now, or still.
func TestRangesOfSubnets(t *testing.T) {
	subnet := ec2types.Subnet{Ipv6CidrBlockAssociationSet: []ec2types.SubnetIpv6CidrBlockAssociation{{Ipv6CidrBlock: aws.String("2600:1f16::/64")}}}
	for i, state := range ec2types.SubnetCidrBlockStateCode("").Values() {
		subnet.Ipv6CidrBlockAssociationSet = append(subnet.Ipv6CidrBlockAssociationSet, ec2types.SubnetIpv6CidrBlockAssociation{
			Ipv6CidrBlock: aws.String(fmt.Sprintf("2600:1f16:0:%d::/64", i+1)), Ipv6CidrBlockState: &ec2types.SubnetCidrBlockState{State: state}})
	}
	subnet6, want := subnet, "[2600:1f16::/64 2600:1f16:0:2::/64]" // of which the second is associated
	subnet.CidrBlock = aws.String("10.1.0.0/16")
	for got, want := range map[string]string{fmt.Sprint(rangesOf(subnet6)): want, fmt.Sprint(rangesOf(subnet)): "[10.1.0.0/16 " + want[1:]} {
		if got != want {
			t.Errorf("the ranges are %s, want %s", got, want)
		}
	}
}

// TestSubnetsNotTold: where AWS does not tell the subnets, nobody takes addresses for being in none of them, and they are asked for again.
func TestSubnetsNotTold(t *testing.T) {
	server := awstest.New(awstest.Options{})
	p := testProvider(server, unlimited)
	s := spec("uid-1", 0)
	s.PodTargets, s.Ports = true, s.Ports[:1]
	settled(t, p, s.Owner, &s)
	s.Endpoints = []cloud.Endpoint{{Address: "172.30.16.9", Ports: map[string]int32{"tcp-80": 8080}}}
	var asked []string
	for _, silent := range []bool{true, false} {
		server.SetHook(func(c awstest.Call) error {
			if c.After || c.Action != readSubnets && !strings.HasSuffix(c.Action, "Targets") {
				return nil
			}
			if asked = append(asked, c.Action); silent {
				return awstest.Throttled()
			}
			return nil
		})
		if _, err := onePass(t, p, s, cloud.Options{}); (err != nil) != silent {
			t.Errorf("the pass ended with %v", err)
		}
	}
	if last := len(asked) - 1; last < 2 || slices.ContainsFunc(asked[:last], func(action string) bool { return action != readSubnets }) || asked[last] == readSubnets {
		t.Errorf("AWS was asked for %q", asked)
	}
}
