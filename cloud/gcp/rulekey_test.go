package gcp

import (
	"testing"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
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

// TestSamePorts: a rule has a port by a list, by a range or by having all of them; all ports are had by any rule.
func TestSamePorts(t *testing.T) {
	for _, tc := range []struct {
		rule compute.ForwardingRule
		port string
		want bool
	}{
		{compute.ForwardingRule{Ports: []string{"80", "443"}}, "443", true},
		{compute.ForwardingRule{Ports: []string{"80", "443"}}, "44", false},
		{compute.ForwardingRule{PortRange: "80-443"}, "80", true},
		{compute.ForwardingRule{PortRange: "80-443"}, "443", true},
		{compute.ForwardingRule{PortRange: "80-443"}, "79", false},
		{compute.ForwardingRule{PortRange: "80-443"}, "444", false},
		{compute.ForwardingRule{AllPorts: true}, "80", true},
		{compute.ForwardingRule{Ports: []string{"80"}}, allPorts, true},
	} {
		if got := samePorts(&tc.rule, tc.port); got != tc.want {
			t.Errorf("%v %s %v has the port %s: %v", tc.rule.Ports, tc.rule.PortRange, tc.rule.AllPorts, tc.port, got)
		}
	}
}

// TestMadeBy: of what has another controller's name, what tells that it is for the Service is that controller's.
func TestMadeBy(t *testing.T) {
	owner := cloud.Owner{ClusterID: "ksuid123", ServiceUID: "0a1b2c3d-0000-4000-8000-000000000000", Namespace: "shop", Name: "cart"}
	m := makerFor(owner)
	told := `{"networking.gke.io/service-name":"shop/cart"} fairlead.dev/key=main`
	hash := gkeHash(owner.ClusterID)
	for name, want := range map[string]string{
		"a0a1b2c3d000040008000000000000000": "", "a0a1b2c3d00004000800000000000000": serviceController, "a0a1b2c3d00004000800000000000000-hc": serviceController,
		"k8s-fw-a0a1b2c3d00004000800000000000000": serviceController, "a0a1b2c3d000040008000000000000001": "",
		"k8s2-" + hash + "-shop-cart-x": gkeController, "k8s3-" + hash + "-shop-cart-x": gkeController, "k8s2-udp-" + hash + "-shop-cart-x": gkeController,
		"k8s2-l3-" + hash + "-shop-cart-x": gkeController, "k8s1-" + hash + "-shop-cart-x": "", "k8s2-other-shop-cart-x": "", "cart": "",
	} {
		if got := m.of(&found{name: name, description: told}); got != want {
			t.Errorf("%s is of %q, want %q", name, got, want)
		}
		if got := m.of(&found{name: name, description: "by hand"}); got == gkeController {
			t.Errorf("%s is GKE's by its name alone", name)
		}
	}
}
