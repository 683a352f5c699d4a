package gcp_test

import (
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
