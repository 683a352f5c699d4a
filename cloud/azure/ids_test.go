package azure_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// capitals is a provider whose configuration is written in another case than Azure answers in.
func capitals(t *testing.T, c *azuretest.Cloud) *azure.Provider {
	t.Helper()
	other := config
	other.ResourceGroup, other.SecurityGroupName, other.SubnetName = "Cluster", "Nodes", "NODES"
	p, err := azure.NewForEmulator(other, endpoint, c.Transport())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCaseOfIDs: ids and names come back from Azure in another case than they were written in, and are the same.
func TestCaseOfIDs(t *testing.T) {
	prefix := strings.ToUpper("/subscriptions/" + azuretest.Subscription + "/resourceGroups/cluster/providers/Microsoft.Network/publicIPPrefixes/range")
	for name, spec := range map[string]cloud.Spec{
		"Public":   service(1, 2),
		"Internal": internal(service(1, 2)),
		"Named":    with(service(1, 2), map[string]string{"pip-name": "OWN", "load-balancer-resource-group": "CLUSTER"}),
		"Prefix":   with(service(1, 2), map[string]string{"pip-prefix-id": prefix}),
		"Link":     with(internal(service(1, 2)), map[string]string{"pls-create": "true", "pls-name": "Link", "pls-ip-configuration-subnet": "Nodes", "load-balancer-internal": "true"}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{Capitals: true, Slow: time.Second})
				withPrefix(t, c)
				time.Sleep(time.Second)
				before := c.Snapshot()
				out, err := converge(t, capitals(t, c), spec, false)
				if err != nil || len(cloud.Ingresses(out.Observed)) != 1 {
					t.Fatalf("it has %v (%v)", cloud.Ingresses(out.Observed), err)
				}
				time.Sleep(5 * time.Second)
				for _, p := range []*azure.Provider{capitals(t, c), provider(t, c)} { // the second after the file was corrected
					if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 {
						t.Errorf("after a restart it does %+v (%v)", out.Done, err)
					}
				}
				if _, err := converge(t, provider(t, c), spec, true); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
					t.Errorf("left (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestAdoptInAnotherCase: whoever asks for a balancer by its id writes that as some tool shows it, and so do those who wrote its rules.
func TestAdoptInAnotherCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{Capitals: true})
		p, spec := capitals(t, c), service(1, 2)
		options := lend(t, c, spec)
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			for _, rule := range lb.Properties.LoadBalancingRules {
				for _, ref := range []*armnetwork.SubResource{rule.Properties.FrontendIPConfiguration, rule.Properties.BackendAddressPool, rule.Properties.Probe} {
					ref.ID = new(strings.ToUpper(*ref.ID))
				}
			}
		})
		options.Adopt = strings.ToUpper(options.Adopt)
		if out, err := convergeWith(t, p, spec, options); err != nil || len(out.Left.Blocked) > 0 {
			t.Fatalf("blocked is %+v (%v)", out.Left.Blocked, err)
		}
		if out, err := convergeWith(t, capitals(t, c), spec, options); err != nil || len(out.Done) > 0 {
			t.Errorf("after a restart it does %+v (%v)", out.Done, err)
		}
		if balancers, _ := c.Count("loadBalancers"); balancers != 1 {
			t.Errorf("there are %d balancers", balancers)
		}
		moved := service(1, 2)
		moved.Ports[0].Port = 81
		if _, err := convergeWith(t, p, moved, options); err != nil {
			t.Fatal(err)
		}
		if _, err := converge(t, p, moved, true); err != nil {
			t.Fatal(err)
		}
		for name := range rulesOf(c, "byhand-1") {
			if !strings.HasPrefix(name, "web-TCP-") {
				t.Errorf("let go, it has the rule %s", name)
			}
		}
	})
}

// TestAddressInAnotherForm: an address of IPv6 can be written in many ways.
func TestAddressInAnotherForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		spec := with(internal(service(1, 2)), map[string]string{"load-balancer-internal": "true", "load-balancer-ipv6": "FD00:DB8:0::0063"})
		spec.Families = []cloud.Family{cloud.IPv6}
		for range 2 {
			out, err := converge(t, provider(t, c), spec, false)
			if got := cloud.Ingresses(out.Observed); err != nil || len(got) != 1 || got[0].IP != "fd00:db8::63" {
				t.Fatalf("it has %v (%v)", got, err)
			}
		}
		if out, err := converge(t, provider(t, c), spec, false); err != nil || len(out.Done) > 0 {
			t.Errorf("after a restart it does %+v (%v)", out.Done, err)
		}
	})
}
