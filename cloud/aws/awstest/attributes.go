package awstest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// balancerDefaults are the attributes of a new network load balancer.
func balancerDefaults(scheme types.LoadBalancerSchemeEnum) map[string]string {
	all := map[string]string{
		"access_logs.s3.enabled": "false", "access_logs.s3.bucket": "", "access_logs.s3.prefix": "", "deletion_protection.enabled": "false",
		"load_balancing.cross_zone.enabled": "false", "dns_record.client_routing_policy": "any_availability_zone", "zonal_shift.config.enabled": "false",
		"ipv6.deny_all_igw_traffic": "false", secondary: "0",
	}
	if scheme == types.LoadBalancerSchemeEnumInternal {
		all["ipv6.deny_all_igw_traffic"] = "true"
	}
	return all
}

const (
	secondary = "secondary_ips.auto_assigned.per_subnet"
	terminate = "target_health_state.unhealthy.connection_termination.enabled"
	draining  = "target_health_state.unhealthy.draining_interval_seconds"
)

// groupDefaults are those of a new target group of a network load balancer.
func groupDefaults(g *targetGroup) map[string]string {
	udp := isUDP(g.Protocol) || isQUIC(g.Protocol)
	all := map[string]string{
		"deregistration_delay.timeout_seconds": "300", "deregistration_delay.connection_termination.enabled": "false", "proxy_protocol_v2.enabled": "false",
		"preserve_client_ip.enabled": "true", "stickiness.enabled": "false", "stickiness.type": "source_ip",
		"load_balancing.cross_zone.enabled":                                              "use_load_balancer_configuration",
		"target_group_health.dns_failover.minimum_healthy_targets.count":                 "1",
		"target_group_health.dns_failover.minimum_healthy_targets.percentage":            "off",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      "1",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
		terminate: "true", draining: "0",
	}
	if udp {
		all[terminate] = "false"
		delete(all, draining) // whether AWS shows it is not known
		all["deregistration_delay.connection_termination.enabled"] = "true"
	}
	if g.TargetType == types.TargetTypeEnumIp && !udp {
		all["preserve_client_ip.enabled"] = "false"
	}
	return all
}

func (s *Server) attributesOf(arn string) (map[string]string, error) {
	all, ok := s.read().attributes[arn]
	if !ok {
		return nil, missing(arn)
	}
	return all, nil
}

// missing is the error for an ARN that is not there, which differs by what it would be of.
func missing(arn string) *Refusal {
	for part, code := range map[string]string{":loadbalancer/": "LoadBalancerNotFound", ":targetgroup/": "TargetGroupNotFound", ":listener/": "ListenerNotFound"} {
		if strings.Contains(arn, part) {
			return refuse(code, "'%s' not found", arn)
		}
	}
	return refuse("ValidationError", "'%s' is not a valid ARN", arn)
}

// modifyAttributes sets attributes that there are, to values of the kind that they have.
func (s *Server) modifyAttributes(arn string, changes map[string]string) (map[string]string, error) {
	have, ok := s.state.attributes[arn]
	if !ok {
		return nil, missing(arn)
	}
	next := maps.Clone(have)
	for key, value := range changes {
		was, ok := have[key]
		switch {
		case !ok:
			return nil, refuse("ValidationError", "Attribute key '%s' is not recognized", key)
		case key == "access_logs.s3.bucket" && value == "":
			return nil, refuse("ValidationError", "The value of '%s' cannot be empty", key)
		case (was == "true" || was == "false") && value != "true" && value != "false":
			return nil, refuse("ValidationError", "Attribute '%s' must be true or false, not '%s'", key, value)
		}
		if key == secondary {
			from, _ := strconv.Atoi(was)
			if to, err := strconv.Atoi(value); err != nil || to < from || to > 7 {
				return nil, refuse("InvalidConfigurationRequest", "Attribute '%s' must be from %d, which it has already, to 7", key, from)
			}
		}
		next[key] = value
	}
	switch g := s.state.groups[arn]; {
	case next["access_logs.s3.enabled"] == "true" && next["access_logs.s3.bucket"] == "":
		return nil, refuse("InvalidConfigurationRequest", "Access logs need an S3 bucket")
	case g == nil:
	case next["preserve_client_ip.enabled"] == "false" && (isUDP(g.Protocol) || isQUIC(g.Protocol)):
		return nil, refuse("InvalidConfigurationRequest", "Client IP preservation cannot be disabled for protocol '%s'", g.Protocol)
	case next[terminate] == "true" && (isUDP(g.Protocol) || isQUIC(g.Protocol)):
		return nil, refuse("InvalidConfigurationRequest", "Unhealthy connection termination cannot be enabled for protocol '%s'", g.Protocol)
	case next[terminate] == "true" && next[draining] != "0":
		return nil, refuse("InvalidConfigurationRequest", "You cannot have both unhealthy connection termination enabled and a draining interval")
	case next["stickiness.enabled"] == "true" && (g.Protocol == types.ProtocolEnumTls || isQUIC(g.Protocol)):
		return nil, refuse("InvalidConfigurationRequest", "Stickiness is not supported for protocol '%s'", g.Protocol)
	}
	s.state.attributes[arn] = next
	return next, nil
}

func sortedKeys(all map[string]string) []string { return slices.Sorted(maps.Keys(all)) }

func balancerAttributes(all map[string]string) []types.LoadBalancerAttribute {
	list := []types.LoadBalancerAttribute{}
	for _, key := range sortedKeys(all) {
		list = append(list, types.LoadBalancerAttribute{Key: aws.String(key), Value: aws.String(all[key])})
	}
	return list
}

func targetGroupAttributes(all map[string]string) []types.TargetGroupAttribute {
	list := []types.TargetGroupAttribute{}
	for _, key := range sortedKeys(all) {
		list = append(list, types.TargetGroupAttribute{Key: aws.String(key), Value: aws.String(all[key])})
	}
	return list
}

func listenerAttributes(all map[string]string) []types.ListenerAttribute {
	list := []types.ListenerAttribute{}
	for _, key := range sortedKeys(all) {
		list = append(list, types.ListenerAttribute{Key: aws.String(key), Value: aws.String(all[key])})
	}
	return list
}

func pairs(list []types.LoadBalancerAttribute) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		all[aws.ToString(a.Key)] = aws.ToString(a.Value)
	}
	return all
}

func groupPairs(list []types.TargetGroupAttribute) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		all[aws.ToString(a.Key)] = aws.ToString(a.Value)
	}
	return all
}

func listenerPairs(list []types.ListenerAttribute) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		all[aws.ToString(a.Key)] = aws.ToString(a.Value)
	}
	return all
}

const maxTags = 50

func checkTags(tags []types.Tag) error {
	for i, t := range tags {
		key := aws.ToString(t.Key)
		switch {
		case key == "" || len(key) > 128 || len(aws.ToString(t.Value)) > 256 || strings.HasPrefix(key, "aws:"):
			return refuse("ValidationError", "'%s' is not a valid tag", key)
		case slices.ContainsFunc(tags[:i], func(other types.Tag) bool { return aws.ToString(other.Key) == key }):
			return refuse("DuplicateTagKeys", "Tag key '%s' is given twice", key)
		}
	}
	if len(tags) > maxTags {
		return refuse("TooManyTags", "The maximum number of tags has been reached")
	}
	return nil
}

func plain(tags []types.Tag) map[string]string {
	all := map[string]string{}
	for _, t := range tags {
		all[*t.Key] = aws.ToString(t.Value)
	}
	return all
}

func (s *Server) describeTags(in *elb.DescribeTagsInput) (*elb.DescribeTagsOutput, error) {
	if len(in.ResourceArns) > 20 {
		return nil, refuse("ValidationError", "Up to 20 resources can be named in one call")
	}
	out := &elb.DescribeTagsOutput{TagDescriptions: []types.TagDescription{}}
	for _, arn := range in.ResourceArns {
		tags, ok := s.read().tags[arn]
		if !ok {
			return nil, missing(arn)
		}
		d := types.TagDescription{ResourceArn: aws.String(arn), Tags: []types.Tag{}}
		for _, key := range sortedKeys(tags) {
			d.Tags = append(d.Tags, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
		}
		out.TagDescriptions = append(out.TagDescriptions, d)
	}
	return out, nil
}

func (s *Server) addTags(in *elb.AddTagsInput) (*elb.AddTagsOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &elb.AddTagsOutput{}, s.retag(in.ResourceArns, func(tags map[string]string) { maps.Copy(tags, plain(in.Tags)) })
}

func (s *Server) removeTags(in *elb.RemoveTagsInput) (*elb.RemoveTagsOutput, error) {
	return &elb.RemoveTagsOutput{}, s.retag(in.ResourceArns, func(tags map[string]string) {
		for _, key := range in.TagKeys {
			delete(tags, key)
		}
	})
}

func (s *Server) retag(arns []string, change func(map[string]string)) error {
	for _, arn := range arns {
		have, ok := s.state.tags[arn]
		if !ok {
			return missing(arn)
		}
		next := maps.Clone(have)
		change(next)
		if len(next) > maxTags {
			return refuse("TooManyTags", "The maximum number of tags has been reached on '%s'", arn)
		}
		s.state.tags[arn] = next
	}
	return nil
}
