package gcp

import (
	"testing"

	"google.golang.org/api/compute/v1"
)

// TestRuleKey: a rule that was adopted has the key of the one that Desired wants in its place.
func TestRuleKey(t *testing.T) {
	for want, rules := range map[string][]compute.ForwardingRule{
		"tcp-80-ipv4": {{IPProtocol: "TCP", Ports: []string{"80", "8080"}, LoadBalancingScheme: "INTERNAL"}, {IPProtocol: "TCP", PortRange: "80-80"}},
		"tcp-80-ipv6": {{IPProtocol: "TCP", Ports: []string{"80"}, IpVersion: "IPV6", LoadBalancingScheme: "EXTERNAL"}},
		"all-ipv4":    {{IPProtocol: "L3_DEFAULT", AllPorts: true}},
		"all-ipv6": {{IPProtocol: "TCP", Ports: []string{"80"}, IpVersion: "IPV6", LoadBalancingScheme: "INTERNAL"},
			{IPProtocol: "L3_DEFAULT", AllPorts: true, IpVersion: "IPV6", LoadBalancingScheme: "INTERNAL"}},
	} {
		for i := range rules {
			if got := ruleKey(&rules[i]); got != want {
				t.Errorf("of %s %v the key is %s, want %s", rules[i].IPProtocol, rules[i].Ports, got, want)
			}
		}
	}
}
