package gcp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// internal is a Service with an internal balancer.
func internal(i, nodes int) *cloud.Spec {
	spec := service(i, nodes)
	spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
	return spec
}

// unchanged expects that another pass writes nothing.
func unchanged(t *testing.T, c *gcptest.Cloud, p cloud.Provider, spec *cloud.Spec) {
	t.Helper()
	c.SetHook(func(call cloudtest.Call) error {
		if call.Write && !call.After {
			t.Errorf("%s is sent for nothing", call.Name)
		}
		return nil
	})
	defer c.SetHook(nil)
	pass(t, p, spec.Owner, spec)
}

// TestLocalityPolicies: each scheme has its own word for weights, which come and go in place; an internal balancer without them has no
// policy, and whatever else the service or another controller says of one that does not weigh is left.
func TestLocalityPolicies(t *testing.T) {
	for scheme, want := range map[string][2]string{"Internal": {"", "WEIGHTED_GCP_RENDEZVOUS"}, "External": {"MAGLEV", "WEIGHTED_MAGLEV"}} {
		c := gcptest.New(gcptest.Options{})
		p := c.Provider()
		expect := func(policy string) {
			t.Helper()
			text := ""
			for _, line := range c.Snapshot() {
				if _, rest, ok := strings.Cut(line, `"localityLbPolicy":"`); ok {
					text, _, _ = strings.Cut(rest, `"`)
				}
			}
			if text != policy {
				t.Errorf("%s: the policy is %q, want %q", scheme, text, policy)
			}
		}
		plain, weighted := service(0, 2), service(0, 2)
		local(plain)
		local(weighted)
		plain.Annotations = map[string]string{"networking.gke.io/load-balancer-type": scheme}
		weighted.Annotations = map[string]string{"networking.gke.io/load-balancer-type": scheme, "networking.gke.io/weighted-load-balancing": "pods-per-node"}
		for range 2 {
			pass(t, p, plain.Owner, plain)
			expect(want[0])
			unchanged(t, c, p, plain)
			pass(t, p, weighted.Owner, weighted)
			expect(want[1])
			unchanged(t, c, p, weighted)
		}
		pass(t, p, plain.Owner, plain)
		for _, other := range []string{`"MAGLEV"`, `"GCP_RENDEZVOUS"`, "null"} {
			if err := c.Patch("/backendServices/", `{"localityLbPolicy":`+other+`}`); err != nil {
				t.Fatal(err)
			}
			unchanged(t, c, p, plain)
		}
	}
}

// TestInternalIPv6 changes the ports of a Service whose internal balancer has two families: of IPv6 one rule stands for all ports, which no
// other rule may share its address with, and is never touched; the firewall follows the ports.
func TestInternalIPv6(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	var first string
	for _, ports := range [][]int32{{80}, {80, 443}, {8080}, {1, 2, 3, 4, 5, 6}, {80}} {
		spec := internal(0, 2)
		spec.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
		check := spec.Ports[0].HealthCheck
		spec.Ports = nil
		for i, port := range ports {
			spec.Ports = append(spec.Ports, cloud.Port{Protocol: []string{"TCP", "UDP"}[i%2], Port: port, NodePort: 30000 + port, HealthCheck: check})
		}
		for range 2 { // what other ports had goes once the new ones are there
			if _, err := try(t, p, spec.Owner, spec); err != nil {
				t.Fatal(err)
			}
		}
		unchanged(t, c, p, spec)
		var rules []string
		for _, line := range c.Snapshot() {
			if strings.Contains(line, "/forwardingRules/") && strings.Contains(line, `"ipVersion":"IPV6"`) {
				rules = append(rules, line)
			}
			if strings.Contains(line, "-nodes-ipv6-") && (!strings.Contains(line, fmt.Sprintf(`"%d"`, ports[0])) || !strings.Contains(line, `"destinationRanges":["vip/96"]`)) {
				t.Errorf("of ports %v the firewall is %s", ports, line)
			}
		}
		if len(rules) != 1 || !strings.Contains(rules[0], `"IPProtocol":"L3_DEFAULT"`) || first != "" && first != rules[0] {
			t.Errorf("of ports %v the rules are %q, before %q", ports, rules, first)
		}
		first = rules[0]
	}
	pass(t, p, internal(0, 2).Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
