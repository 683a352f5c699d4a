package awstest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Snapshot describes everything that there is by names, which unlike ids are the same in every run, sorted.
func (s *Server) Snapshot() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[string]string{"": "nothing"}
	for id, g := range s.state.security {
		names[id] = "group " + *g.GroupName
	}
	for arn, b := range s.state.balancers {
		names[arn] = "balancer " + *b.LoadBalancerName
	}
	for arn, g := range s.state.groups {
		names[arn] = "target group " + *g.TargetGroupName
	}
	for arn, l := range s.state.listeners {
		names[arn] = fmt.Sprintf("listener %d of %s", *l.Port, names[*l.LoadBalancerArn])
	}
	var lines []string
	add := func(id string, what ...any) {
		lines = append(lines, fmt.Sprint(names[id], ": ", fmt.Sprintln(what...), s.labels(names, id)))
	}
	for id, g := range s.state.security {
		var rules []string
		for r := range g.rules {
			rules = append(rules, fmt.Sprint(r.protocol, " ", r.from, "-", r.to, " ", named(names, r.source), " ", g.rules[r]))
		}
		slices.Sort(rules)
		add(id, strings.Join(rules, ", "))
	}
	for arn, b := range s.state.balancers {
		var groups, places []string
		for _, id := range b.SecurityGroups {
			groups = append(groups, names[id])
		}
		for _, m := range b.mappings {
			places = append(places, strings.Join([]string{*m.SubnetId, aws.ToString(m.AllocationId), aws.ToString(m.PrivateIPv4Address), aws.ToString(m.IPv6Address)}, "/"))
		}
		slices.Sort(groups)
		slices.Sort(places)
		add(arn, b.Scheme, b.IpAddressType, b.EnablePrefixForIpv6SourceNat, groups, places, s.state.capacity[arn].units)
	}
	for arn, g := range s.state.groups {
		var targets []string
		for key, t := range g.targets {
			if t.until.IsZero() {
				targets = append(targets, strings.TrimSpace(key+" "+t.server))
			}
		}
		slices.Sort(targets)
		add(arn, describe(g), targets)
	}
	for arn, l := range s.state.listeners {
		certificate := ""
		if len(l.Certificates) > 0 {
			certificate = aws.ToString(l.Certificates[0].CertificateArn)
		}
		add(arn, l.Protocol, names[forwardsTo(l)], certificate, s.state.certificates[arn], aws.ToString(l.SslPolicy), l.AlpnPolicy)
	}
	slices.Sort(lines)
	return lines
}

func named(names map[string]string, id string) string {
	if name, ok := names[id]; ok && id != "" {
		return name
	}
	return id
}

// labels are the tags and attributes of something.
func (s *Server) labels(names map[string]string, id string) string {
	var all []string
	for kind, pairs := range map[string]map[string]string{"tag": s.state.tags[id], "attribute": s.state.attributes[id]} {
		for _, key := range slices.Sorted(maps.Keys(pairs)) {
			all = append(all, "\t"+kind+" "+key+"="+named(names, pairs[key]))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
