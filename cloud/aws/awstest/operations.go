package awstest

import (
	"bytes"
	"encoding/xml"
	"reflect"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
)

// operation is one action of a service.
type operation struct {
	input, output reflect.Type
	// members of the input that are heeded, and whether they must be there. Others are refused.
	members map[string]bool
	do      func(s *Server, input any) (any, error)
}

// on makes an operation of a method. Members that must be there have a !.
func on[In, Out any](members string, do func(s *Server, in *In) (*Out, error)) operation {
	heeded := map[string]bool{}
	for name := range strings.FieldsSeq(members) {
		heeded[strings.TrimSuffix(name, "!")] = strings.HasSuffix(name, "!")
	}
	return operation{input: reflect.TypeFor[In](), output: reflect.TypeFor[Out](), members: heeded, do: func(s *Server, input any) (any, error) {
		return do(s, input.(*In))
	}}
}

// check refuses an input that lacks a member, or has one that is not heeded here.
func (o *operation) check(d *dialect, input reflect.Value) error {
	for _, m := range d.members(o.input) {
		given := !input.Field(m.index).IsZero()
		switch required, heeded := o.members[m.name]; {
		case !given && required:
			return refuse("ValidationError", "%s: %s is required", o.input.Name(), m.name)
		case given && !heeded:
			return refuse("UnsupportedOperation", "%s: %s is not supported here", o.input.Name(), m.name)
		}
	}
	return nil
}

// service is what the requests of one version are for.
type service struct {
	prefix     string
	operations map[string]operation
}

var services = map[string]service{
	versionBalancing: {"elasticloadbalancing", map[string]operation{
		"CreateLoadBalancer":    on("Name! Type! Scheme IpAddressType SubnetMappings Subnets SecurityGroups EnablePrefixForIpv6SourceNat Tags", (*Server).createLoadBalancer),
		"DeleteLoadBalancer":    on("LoadBalancerArn!", (*Server).deleteLoadBalancer),
		"DescribeLoadBalancers": on("LoadBalancerArns Names Marker PageSize", (*Server).describeLoadBalancers),
		"SetSubnets":            on("LoadBalancerArn! SubnetMappings Subnets IpAddressType EnablePrefixForIpv6SourceNat", (*Server).setSubnets),
		"SetIpAddressType":      on("LoadBalancerArn! IpAddressType!", (*Server).setIPAddressType),
		"SetSecurityGroups":     on("LoadBalancerArn! SecurityGroups!", (*Server).setSecurityGroups),
		"DescribeLoadBalancerAttributes": on("LoadBalancerArn!", func(s *Server, in *elb.DescribeLoadBalancerAttributesInput) (*elb.DescribeLoadBalancerAttributesOutput, error) {
			all, err := s.attributesOf(*in.LoadBalancerArn)
			return &elb.DescribeLoadBalancerAttributesOutput{Attributes: balancerAttributes(all)}, err
		}),
		"ModifyLoadBalancerAttributes": on("LoadBalancerArn! Attributes!", func(s *Server, in *elb.ModifyLoadBalancerAttributesInput) (*elb.ModifyLoadBalancerAttributesOutput, error) {
			all, err := s.modifyAttributes(*in.LoadBalancerArn, pairs(in.Attributes))
			return &elb.ModifyLoadBalancerAttributesOutput{Attributes: balancerAttributes(all)}, err
		}),
		"ModifyCapacityReservation":   on("LoadBalancerArn! MinimumLoadBalancerCapacity ResetCapacityReservation", (*Server).modifyCapacityReservation),
		"DescribeCapacityReservation": on("LoadBalancerArn!", (*Server).describeCapacityReservation),
		"CreateTargetGroup": on("Name! Protocol! Port! VpcId! TargetType IpAddressType Tags HealthCheckEnabled HealthCheckIntervalSeconds HealthCheckPath "+
			"HealthCheckPort HealthCheckProtocol HealthCheckTimeoutSeconds HealthyThresholdCount UnhealthyThresholdCount Matcher", (*Server).createTargetGroup),
		"ModifyTargetGroup": on("TargetGroupArn! HealthCheckEnabled HealthCheckIntervalSeconds HealthCheckPath HealthCheckPort HealthCheckProtocol "+
			"HealthCheckTimeoutSeconds HealthyThresholdCount UnhealthyThresholdCount Matcher", (*Server).modifyTargetGroup),
		"DeleteTargetGroup":    on("TargetGroupArn!", (*Server).deleteTargetGroup),
		"DescribeTargetGroups": on("LoadBalancerArn TargetGroupArns Names Marker PageSize", (*Server).describeTargetGroups),
		"DescribeTargetGroupAttributes": on("TargetGroupArn!", func(s *Server, in *elb.DescribeTargetGroupAttributesInput) (*elb.DescribeTargetGroupAttributesOutput, error) {
			all, err := s.attributesOf(*in.TargetGroupArn)
			return &elb.DescribeTargetGroupAttributesOutput{Attributes: targetGroupAttributes(all)}, err
		}),
		"ModifyTargetGroupAttributes": on("TargetGroupArn! Attributes!", func(s *Server, in *elb.ModifyTargetGroupAttributesInput) (*elb.ModifyTargetGroupAttributesOutput, error) {
			all, err := s.modifyAttributes(*in.TargetGroupArn, groupPairs(in.Attributes))
			return &elb.ModifyTargetGroupAttributesOutput{Attributes: targetGroupAttributes(all)}, err
		}),
		"RegisterTargets":              on("TargetGroupArn! Targets!", (*Server).registerTargets),
		"DeregisterTargets":            on("TargetGroupArn! Targets!", (*Server).deregisterTargets),
		"DescribeTargetHealth":         on("TargetGroupArn! Targets", (*Server).describeTargetHealth),
		"CreateListener":               on("LoadBalancerArn! DefaultActions! Port! Protocol! AlpnPolicy Certificates SslPolicy Tags", (*Server).createListener),
		"ModifyListener":               on("ListenerArn! DefaultActions Port Protocol AlpnPolicy Certificates SslPolicy", (*Server).modifyListener),
		"DeleteListener":               on("ListenerArn!", (*Server).deleteListener),
		"DescribeListeners":            on("LoadBalancerArn ListenerArns Marker PageSize", (*Server).describeListeners),
		"AddListenerCertificates":      on("ListenerArn! Certificates!", (*Server).addListenerCertificates),
		"RemoveListenerCertificates":   on("ListenerArn! Certificates!", (*Server).removeListenerCertificates),
		"DescribeListenerCertificates": on("ListenerArn! Marker PageSize", (*Server).describeListenerCertificates),
		"DescribeListenerAttributes": on("ListenerArn!", func(s *Server, in *elb.DescribeListenerAttributesInput) (*elb.DescribeListenerAttributesOutput, error) {
			all, err := s.attributesOf(*in.ListenerArn)
			return &elb.DescribeListenerAttributesOutput{Attributes: listenerAttributes(all)}, err
		}),
		"ModifyListenerAttributes": on("ListenerArn! Attributes!", func(s *Server, in *elb.ModifyListenerAttributesInput) (*elb.ModifyListenerAttributesOutput, error) {
			all, err := s.modifyAttributes(*in.ListenerArn, listenerPairs(in.Attributes))
			return &elb.ModifyListenerAttributesOutput{Attributes: listenerAttributes(all)}, err
		}),
		"DescribeTags": on("ResourceArns!", (*Server).describeTags),
		"AddTags":      on("ResourceArns! Tags!", (*Server).addTags),
		"RemoveTags":   on("ResourceArns! TagKeys!", (*Server).removeTags),
	}},
	versionCompute: {"ec2", map[string]operation{
		"DescribeSubnets":               on("SubnetIds Filters MaxResults NextToken", (*Server).describeSubnets),
		"DescribeSecurityGroups":        on("GroupIds Filters MaxResults NextToken", (*Server).describeSecurityGroups),
		"CreateSecurityGroup":           on("GroupName! Description! VpcId! TagSpecifications", (*Server).createSecurityGroup),
		"DeleteSecurityGroup":           on("GroupId!", (*Server).deleteSecurityGroup),
		"AuthorizeSecurityGroupIngress": on("GroupId! IpPermissions!", (*Server).authorizeIngress),
		"RevokeSecurityGroupIngress":    on("GroupId! IpPermissions!", (*Server).revokeIngress),
		"CreateTags":                    on("Resources! Tags!", (*Server).createEC2Tags),
		"DeleteTags":                    on("Resources! Tags!", (*Server).deleteEC2Tags),
		"DescribeInstances":             on("InstanceIds Filters MaxResults NextToken", (*Server).describeInstances),
		"DescribeRouteTables":           on("Filters MaxResults NextToken", (*Server).describeRouteTables),
		"DescribeAvailabilityZones":     on("ZoneNames", (*Server).describeAvailabilityZones),
		"DescribeAddresses":             on("AllocationIds Filters", (*Server).describeAddresses),
		"DescribeNetworkInterfaces":     on("Filters MaxResults NextToken", (*Server).describeNetworkInterfaces),
	}},
}

func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer does not fail
	return b.String()
}
