package azure_test

import (
	"fmt"
	"net/http"
	"slices"
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

var publicBalancer = azure.BalancerName(service(1, 1).Owner.ClusterID, "public", 1)

// TestDeletedByHand: what somebody deletes is made again, at whatever moment.
func TestDeletedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		specs := []cloud.Spec{service(1, 2), service(2, 2)}
		workers(t, p, 2, specs, false)
		want := c.Snapshot()
		for _, addresses := range []bool{false, true} {
			if err := c.Remove("loadBalancers", publicBalancer); err != nil {
				t.Fatal(err)
			}
			if addresses {
				for _, name := range c.Names("publicIPAddresses") {
					if name != "own" {
						if err := c.Remove("publicIPAddresses", name); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			time.Sleep(time.Minute)
			workers(t, p, 2, specs, false)
			if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
				t.Errorf("deleted by hand, addresses too: %t, it is not made again (-want +got):\n%s", addresses, diff)
			}
		}
	})
}

// group changes the security group as somebody with a mouse would.
func group(t *testing.T, c *azuretest.Cloud, change func(rules []*armnetwork.SecurityRule) []*armnetwork.SecurityRule) {
	t.Helper()
	if err := c.EditGroup("nodes", func(g *armnetwork.SecurityGroup) {
		g.Properties.SecurityRules = change(g.Properties.SecurityRules)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestSecurityDrift: a rule that somebody changed so that it lets others in, or nobody, is put right.
func TestSecurityDrift(t *testing.T) {
	spec := with(internal(service(1, 2)), map[string]string{"allowed-ip-ranges": "10.1.0.0/16", "allowed-service-tags": "AzureCloud", "load-balancer-internal": "true"})
	for name, change := range map[string]func(p *armnetwork.SecurityRulePropertiesFormat){
		"Outbound": func(p *armnetwork.SecurityRulePropertiesFormat) {
			p.Direction = new(armnetwork.SecurityRuleDirectionOutbound)
		},
		"SourcePort":    func(p *armnetwork.SecurityRulePropertiesFormat) { p.SourcePortRange = new("1") },
		"Access":        func(p *armnetwork.SecurityRulePropertiesFormat) { p.Access = new(armnetwork.SecurityRuleAccessAllow) },
		"Port":          func(p *armnetwork.SecurityRulePropertiesFormat) { p.DestinationPortRange = new("1") },
		"Source":        func(p *armnetwork.SecurityRulePropertiesFormat) { p.SourceAddressPrefix = new("10.9.0.0/16") },
		"Destination":   func(p *armnetwork.SecurityRulePropertiesFormat) { p.DestinationAddressPrefix = new("10.9.0.0/16") },
		"DeniedFirst":   nil,
		"TagGone":       nil,
		"PriorityTaken": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p := provider(t, c)
				workers(t, p, 1, []cloud.Spec{spec}, false)
				want := c.Snapshot()
				if !strings.Contains(strings.Join(want, "\n"), `"sourceAddressPrefix":"AzureCloud"`) {
					t.Fatalf("the service tag has no rule of its own:\n%s", strings.Join(want, "\n"))
				}
				group(t, c, func(rules []*armnetwork.SecurityRule) []*armnetwork.SecurityRule {
					for _, rule := range rules {
						switch {
						case change != nil:
							change(rule.Properties)
							if name == "Access" && strings.HasSuffix(*rule.Name, "-tcp") {
								rule.Properties.Access = new(armnetwork.SecurityRuleAccessDeny)
							}
						case strings.HasSuffix(*rule.Name, "-deny") && name == "DeniedFirst":
							rule.Properties.Priority = new(int32(300))
						}
					}
					switch name {
					case "PriorityTaken": // and ours is gone
						return []*armnetwork.SecurityRule{somebodysRule("theirs")}
					case "TagGone":
						return slices.DeleteFunc(rules, func(rule *armnetwork.SecurityRule) bool { return strings.HasSuffix(*rule.Name, "-tcp-2") })
					}
					return rules
				})
				time.Sleep(time.Minute)
				workers(t, p, 1, []cloud.Spec{spec}, false)
				got := c.Snapshot()
				got = slices.DeleteFunc(got, func(line string) bool { return strings.Contains(line, `"name":"theirs"`) })
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("not put right (-want +got):\n%s", diff)
				}
				if allow, deny := c.Priority("nodes", "-tcp"), c.Priority("nodes", "-deny"); allow < 500 || deny > 4096 || allow >= deny {
					t.Errorf("it allows with priority %d, and denies with %d", allow, deny)
				}
			})
		})
	}
}

// TestNoPriorityLeft: the Service is told, and which group it is; the others go on.
func TestNoPriorityLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{MaxSecurityRules: 5000})
		p := provider(t, c)
		if _, err := converge(t, p, service(1, 2), false); err != nil {
			t.Fatal(err)
		}
		group(t, c, func(rules []*armnetwork.SecurityRule) []*armnetwork.SecurityRule {
			for n := int32(501); n <= 4096; n++ {
				rule := somebodysRule(fmt.Sprintf("theirs-%d", n))
				rule.Properties.Priority = new(n)
				rules = append(rules, rule)
			}
			return rules
		})
		time.Sleep(time.Minute)
		_, err := converge(t, p, service(2, 2), false)
		if p.Classify(err).Class != cloud.Quota || !strings.Contains(err.Error(), "security group nodes has no priority left from 500 to 4096") {
			t.Errorf("without a priority it says %v", err)
		}
		if out, err := converge(t, p, service(1, 2), false); err != nil || len(out.Done) > 0 {
			t.Errorf("the one before does %+v (%v)", out.Done, err)
		}
	})
}

// TestFailedBeforeARestart: what Azure could not do in the end is written again by a manager that knows nothing of it.
func TestFailedBeforeARestart(t *testing.T) {
	for _, typ := range []string{"loadBalancers", "networkSecurityGroups", "publicIPAddresses"} {
		t.Run(typ, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reference, c := network(t, azuretest.Options{Slow: 2 * time.Second}), network(t, azuretest.Options{Slow: 2 * time.Second})
				if _, err := converge(t, provider(t, reference), service(1, 2), false); err != nil {
					t.Fatal(err)
				}
				c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: typ, Late: true,
					Err: &azuretest.Refusal{Status: http.StatusConflict, Code: "QuotaExceeded", Message: "there is no room in the region"}})
				spec := service(1, 2)
				desired, err := provider(t, c).Desired(spec)
				if err != nil {
					t.Fatal(err)
				}
				p := provider(t, c)
				for n := 0; !strings.Contains(strings.Join(c.Snapshot(), "\n"), "failed=true") && n < 20; n++ {
					_, _ = cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{}) // whatever it says
					time.Sleep(time.Second)
				}
				time.Sleep(time.Minute)
				if _, err := converge(t, provider(t, c), spec, false); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if diff := cmp.Diff(reference.Snapshot(), c.Snapshot()); diff != "" {
					t.Errorf("after the restart it ends up different (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestNoResourceGroup: where it is gone, or misspelled, nothing is taken for gone, and its name is told.
func TestNoResourceGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		elsewhere := config
		elsewhere.ResourceGroup = "clutser"
		p, err := azure.NewForEmulator(elsewhere, endpoint, c.Transport())
		if err != nil {
			t.Fatal(err)
		}
		for _, gone := range []bool{false, true} {
			_, err := converge(t, p, service(1, 2), gone)
			if err == nil || !strings.Contains(err.Error(), "clutser") || p.Classify(err).Class != cloud.Retry {
				t.Errorf("without the resource group, deleting: %t, it says %v", gone, err)
			}
		}
	})
}

// TestFull: a Service that grows beyond its balancer is told what to do, and what it had goes on.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		ports := func(spec cloud.Spec, n int) cloud.Spec {
			first := spec.Ports[0]
			spec.Ports = nil
			for i := range n {
				port := first
				port.Port, port.NodePort = int32(1000+i), int32(30000+i)
				spec.Ports = append(spec.Ports, port)
			}
			return spec
		}
		workers(t, p, 2, []cloud.Spec{ports(service(1, 2), 200), ports(service(2, 2), 40)}, false)
		before := c.Snapshot()
		_, err := converge(t, p, ports(service(2, 2), 60), false)
		if p.Classify(err).Class != cloud.Quota || !strings.Contains(err.Error(), "260 rules") || !strings.Contains(err.Error(), "another Service") {
			t.Errorf("beyond its room it says %v", err)
		}
		rules := func(lines []string) []string {
			return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "nodes security") })
		}
		if diff := cmp.Diff(rules(before), rules(c.Snapshot())); diff != "" {
			t.Errorf("what it had is changed (-before +after):\n%s", diff)
		}
		if _, err := converge(t, p, ports(service(2, 2), 50), false); err != nil {
			t.Errorf("up to the last rule: %v", err)
		}
	})
}

// TestGroupBehindAGap: a Service that joins a group goes to the group's balancer, though one with a smaller number is gone meanwhile.
func TestGroupBehindAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		large := service(1, 2)
		first := large.Ports[0]
		large.Ports = nil
		for i := range int32(250) {
			port := first
			port.Port, port.NodePort = 1000+i, 30000+i
			large.Ports = append(large.Ports, port)
		}
		member := func(n int) cloud.Spec {
			spec := service(n, 2)
			spec.Owner.Group, spec.Ports[0].Port = "web", int32(80+n)
			return spec
		}
		for _, spec := range []cloud.Spec{large, member(2)} {
			if _, err := converge(t, p, spec, false); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := converge(t, p, large, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := converge(t, p, member(3), false); err != nil {
			t.Errorf("joining the group: %v", err)
		}
		if names := c.Names("loadBalancers"); len(names) != 1 || !strings.HasSuffix(names[0], "-2") {
			t.Errorf("there are balancers %q", names)
		}
	})
}

// TestZones: addresses that are made have the configured zones, but those of a prefix, which has zones of its own.
func TestZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		zonal := config
		zonal.PublicIPZones = []string{"1", "3"}
		p, err := azure.NewForEmulator(zonal, endpoint, c.Transport())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := converge(t, p, service(1, 2), false); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(c.Snapshot(), "\n"), "zones=13") {
			t.Errorf("no address has the zones:\n%s", strings.Join(c.Snapshot(), "\n"))
		}
		if out, err := converge(t, p, service(1, 2), false); err != nil || len(out.Done) > 0 {
			t.Errorf("again it does %+v (%v)", out.Done, err)
		}
		withPrefix(t, c)
		if _, err := converge(t, p, with(service(2, 2), map[string]string{"pip-prefix-id": networkPath + "publicIPPrefixes/range"}), false); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(c.Snapshot(), "\n"), "zones= prefix=/") {
			t.Errorf("no address of the prefix is without zones:\n%s", strings.Join(c.Snapshot(), "\n"))
		}
	})
}

// TestZonesOfInternalFrontends: those that are made have the configured zones, public ones none, and those that were there before keep theirs, also
// where somebody changed them: Azure refuses other zones, and with them the balancer, for all Services.
func TestZonesOfInternalFrontends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		zonal := config
		zonal.InternalZones = []string{"1", "2", "3"}
		p, err := azure.NewForEmulator(zonal, endpoint, c.Transport())
		if err != nil {
			t.Fatal(err)
		}
		frontends := func(n int) (with, without int) {
			for _, line := range c.Snapshot() {
				if strings.Contains(line, " frontend fl-"+service(n, 1).Owner.ServiceUID) {
					if strings.Contains(line, " zones=123 ") {
						with++
					} else {
						without++
					}
				}
			}
			return with, without
		}
		want := func(what string, n, with, without int) {
			t.Helper()
			if gotWith, gotWithout := frontends(n); gotWith != with || gotWithout != without {
				t.Errorf("%s: %d frontends have the zones, and %d have none; want %d and %d:\n%s", what, gotWith, gotWithout, with, without, strings.Join(c.Snapshot(), "\n"))
			}
		}
		settle := func(p cloud.Provider, spec cloud.Spec) {
			t.Helper()
			if _, err := converge(t, p, spec, false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 {
				t.Errorf("again it does %+v (%v)", out.Done, err)
			}
		}
		before := internal(service(1, 2))
		settle(provider(t, c), before)
		both := internal(service(2, 2))
		both.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
		settle(p, both)
		settle(p, service(3, 2))
		settle(p, linked(service(4, 2)))
		want("made before", 1, 0, 1)
		want("of both families", 2, 2, 0)
		want("public", 3, 0, 1)
		want("of a private link", 4, 1, 0)
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			for _, f := range lb.Properties.FrontendIPConfigurations {
				if f.Properties.Subnet != nil {
					f.Properties.Subnet.ID = new(networkPath + "virtualNetworks/nodes/subnets/apps")
				}
			}
		})
		before.Ports[0].Port = 81
		settle(p, before)
		settle(provider(t, c), both) // and the configuration without
		want("changed, made before", 1, 0, 1)
		want("changed, of both families", 2, 2, 0)
		if all := strings.Join(c.Snapshot(), "\n"); strings.Count(all, " of apps ") > 1 { // but for the private link's, which nobody looked at
			t.Errorf("not put right:\n%s", all)
		}
	})
}
