package azure_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

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
		"Link":     with(linked(service(1, 2)), map[string]string{"pls-name": "Link", "pls-ip-configuration-subnet": "Nodes"}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{Capitals: true, Slow: time.Second})
				withPrefix(t, c)
				machines(c, 2)
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
				leavesNothing(t, c, before)
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
		spec.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
		for range 2 {
			out, err := converge(t, provider(t, c), spec, false)
			if got := cloud.Ingresses(out.Observed); err != nil || !slices.Contains(got, cloud.Ingress{IP: "fd00:db8::63"}) {
				t.Fatalf("it has %v (%v)", got, err)
			}
		}
		if out, err := converge(t, provider(t, c), spec, false); err != nil || len(out.Done) > 0 {
			t.Errorf("after a restart it does %+v (%v)", out.Done, err)
		}
	})
}

// TestFrontendOfAnEarlierVersion: names of frontends were made of what was asked for in the case in which that was written. One that
// was made so stays as it is, also when it is written in another case, or another one of its group joins it.
func TestFrontendOfAnEarlierVersion(t *testing.T) {
	of := func(subnet string, c *azuretest.Cloud) *azure.Provider {
		other := config
		other.SubnetName = subnet
		p, err := azure.NewForEmulator(other, endpoint, c.Transport())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	grouped := func(n int) cloud.Spec {
		spec := internal(service(n, 2))
		spec.Owner.Group = "shop"
		spec.Ports[0].Port += int32(n)
		return spec
	}
	for name, tc := range map[string]struct {
		spec       cloud.Spec
		now, then  string   // how the frontend's name ends
		written    string   // in Azure
		configured []string // as the subnet
	}{
		"Written":    {internal(service(1, 2)), "ie60d66", "ica5da3", "Nodes", []string{"Nodes", "nodes", "NODES"}},
		"Configured": {internal(service(1, 2)), "ie60d66", "ica5da3", "nodes", []string{"Nodes"}},
		"Grouped":    {grouped(1), "ie60d66", "ica5da3", "Nodes", []string{"nodes"}},
		"Named":      {with(service(1, 2), map[string]string{"pip-name": "own"}), "nac8855", "nc5b72a", "Own", []string{"nodes"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				if _, err := converge(t, of("nodes", c), tc.spec, false); err != nil {
					t.Fatal(err)
				}
				edit(t, c, func(lb *armnetwork.LoadBalancer) {
					f, r := lb.Properties.FrontendIPConfigurations[0], lb.Properties.LoadBalancingRules[0]
					for _, text := range []*string{f.Name, f.ID, r.Properties.FrontendIPConfiguration.ID} {
						*text = strings.Replace(*text, tc.now, tc.then, 1)
					}
					if s := f.Properties.Subnet; s != nil {
						s.ID = new(strings.TrimSuffix(*s.ID, "nodes") + tc.written)
					} else {
						f.Properties.PublicIPAddress.ID = new(strings.TrimSuffix(*f.Properties.PublicIPAddress.ID, "own") + tc.written)
					}
				})
				for _, subnet := range tc.configured {
					if out, err := converge(t, of(subnet, c), tc.spec, false); err != nil || len(out.Done) > 0 {
						t.Errorf("with the subnet %s it does %+v (%v)", subnet, out.Done, err)
					}
				}
				p, spec := of(tc.configured[0], c), tc.spec
				spec.Ports = append(slices.Clone(spec.Ports), spec.Ports[0])
				spec.Ports[1].Port, spec.Ports[1].NodePort = 90, 30090
				specs := []cloud.Spec{spec}
				if name == "Grouped" {
					specs = append(specs, grouped(2))
				}
				for _, spec := range specs {
					if out, err := converge(t, p, spec, false); err != nil || len(cloud.Ingresses(out.Observed)) != 1 {
						t.Errorf("with another port it has %v (%v)", cloud.Ingresses(out.Observed), err)
					}
				}
				edit(t, c, func(lb *armnetwork.LoadBalancer) {
					if all := lb.Properties.FrontendIPConfigurations; len(all) != 1 || !strings.HasSuffix(*all[0].Name, tc.then) || len(lb.Properties.LoadBalancingRules) != len(specs)+1 {
						t.Errorf("it has %d frontends, the first called %s, and %d rules", len(all), *all[0].Name, len(lb.Properties.LoadBalancingRules))
					}
				})
				for _, spec := range specs {
					if _, err := converge(t, p, spec, true); err != nil {
						t.Fatal(err)
					}
				}
				if balancers, _ := c.Count("loadBalancers"); balancers != 0 {
					t.Errorf("%d balancers are left", balancers)
				}
			})
		})
	}
}
