package azure_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// quotaOnly expects that so many were told something, which is of class Quota and has the text.
func quotaOnly(t *testing.T, p cloud.Provider, said map[int]error, want int, text string) {
	t.Helper()
	if len(said) != want {
		t.Errorf("%d Services are told something, want %d: %v", len(said), want, said)
	}
	for _, n := range slices.Sorted(maps.Keys(said)) {
		if p.Classify(said[n]).Class != cloud.Quota || !strings.Contains(said[n].Error(), text) {
			t.Errorf("Service %d is told %v (%s), want %q of class Quota", n, said[n], p.Classify(said[n]).Class, text)
		}
	}
}

// TestCrowded: of more Services than a node can have rules for, asked for at once or one after the other, as many come up as have room, the others
// are told, nodes go on to join, and one that goes makes room for another.
func TestCrowded(t *testing.T) {
	const services, most = 310, 299
	for name, parts := range map[string]int{"AtOnce": 1, "LaterOnes": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p := provider(t, c)
				var specs, more []cloud.Spec
				for n := range services {
					spec, grown := service(n, 3), service(n, 4)
					if n%2 == 1 { // on balancers of both schemes
						spec, grown = internal(spec), internal(grown)
					}
					specs, more = append(specs, spec), append(more, grown)
				}
				said := map[int]error{}
				for i := range parts {
					for n, err := range told(t, p, specs[:services*(i+1)/parts]) {
						said[n] = err
					}
				}
				quotaOnly(t, p, said, services-most, "can have 299")
				if got := strings.Count(strings.Join(c.Snapshot(), "\n"), " frontend fl-"); got != most {
					t.Errorf("there are %d frontends, want %d", got, most)
				}
				var changes []cloud.TargetChange
				for n, spec := range more {
					if said[n] == nil {
						changes = append(changes, targetChanges(t, p, spec.Owner, spec)...)
					}
				}
				if errs := p.SyncTargets(t.Context(), changes); errs != nil {
					t.Errorf("a node that joins is told %v", errs)
				}
				for n := range services {
					if said[n] != nil {
						continue
					}
					if _, err := converge(t, p, more[n], true); err != nil {
						t.Fatal(err)
					}
					break
				}
				last := slices.Sorted(maps.Keys(said))[0]
				if _, err := converge(t, p, more[last], false); err != nil {
					t.Errorf("one is gone, and another is told %v", err)
				}
			})
		})
	}
}

// TestCrowdedTogether: of two balancers that are written at the same time for more than there is room for, one says no to what is too much: neither's
// nodes are refused.
func TestCrowdedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{RulesPerMachine: 300})
		c.SetHook(func(call azuretest.Call) error {
			if !call.After && call.Write() && call.Type == "loadBalancers" {
				time.Sleep(2 * time.Second)
			}
			return nil
		})
		p := provider(t, c)
		said := make([]map[int]error, 2)
		var wg sync.WaitGroup
		for i := range said {
			var specs []cloud.Spec
			for n := range 160 {
				spec := service(1000*i+n, 3)
				if i == 1 {
					spec = internal(spec)
				}
				specs = append(specs, spec)
			}
			wg.Go(func() { said[i] = told(t, p, specs) })
		}
		wg.Wait()
		quotaOnly(t, p, said[0], 2*160-299, "can have 299")
		quotaOnly(t, p, said[1], 0, "")
	})
}

// TestCrowdedElsewhere: what the provider does not see, Azure refuses; of Services that are written together those that have room come up, and
// the others are told. So it is with rules of somebody else's balancer that the nodes are in, which it sees.
func TestCrowdedElsewhere(t *testing.T) {
	for name, tc := range map[string]struct {
		limit, others int
		network       string // of the nodes of the other balancer
		told          int    // Services
		want          string
	}{
		"NotSeen":      {20, 0, "", 5, "LoadBalancerRuleCountLimitReachedForNic"},
		"Seen":         {0, 100, "nodes", 6, "can have 299"},
		"OtherNetwork": {0, 100, "theirs", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{RulesPerMachine: tc.limit, Slow: time.Second})
				p := provider(t, c)
				first, all := 15, 25
				if tc.others > 0 {
					first, all = 195, 205
					plantBalancer(t, c, tc.others, tc.network, service(0, 3).Nodes)
				}
				var specs []cloud.Spec
				for n := range all {
					specs = append(specs, service(n, 3))
				}
				quotaOnly(t, p, told(t, p, specs[:first]), 0, "")
				quotaOnly(t, p, told(t, p, specs), tc.told, tc.want)
				quotaOnly(t, p, told(t, p, specs[:first]), 0, "")
			})
		})
	}
}

// plantBalancer makes somebody else's balancer with so many rules, for machines of a network with the nodes' addresses, of an address each.
func plantBalancer(t *testing.T, c *azuretest.Cloud, rules int, network string, nodes []cloud.Node) {
	t.Helper()
	id := networkPath + "loadBalancers/theirs"
	pool := &armnetwork.BackendAddressPool{Name: new("nodes"), Properties: &armnetwork.BackendAddressPoolPropertiesFormat{}}
	for _, node := range nodes {
		pool.Properties.LoadBalancerBackendAddresses = append(pool.Properties.LoadBalancerBackendAddresses, &armnetwork.LoadBalancerBackendAddress{Name: new(node.Name),
			Properties: &armnetwork.LoadBalancerBackendAddressPropertiesFormat{IPAddress: new(node.Address(cloud.IPv4)),
				VirtualNetwork: &armnetwork.SubResource{ID: new(networkPath + "virtualNetworks/" + network)}}})
	}
	lb := armnetwork.LoadBalancer{Location: new(azuretest.Location), SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)},
		Properties: &armnetwork.LoadBalancerPropertiesFormat{BackendAddressPools: []*armnetwork.BackendAddressPool{pool},
			FrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{Name: new("front"), Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{
				Subnet: &armnetwork.Subnet{ID: new(networkPath + "virtualNetworks/nodes/subnets/nodes")}}}}}}
	for n := range rules {
		port := int32(1000 + n)
		lb.Properties.LoadBalancingRules = append(lb.Properties.LoadBalancingRules, &armnetwork.LoadBalancingRule{Name: new("rule" + string(rune('a'+n/26)) + string(rune('a'+n%26))),
			Properties: &armnetwork.LoadBalancingRulePropertiesFormat{Protocol: new(armnetwork.TransportProtocolTCP), FrontendPort: new(port), BackendPort: new(port),
				FrontendIPConfiguration: &armnetwork.SubResource{ID: new(id + "/frontendIPConfigurations/front")},
				BackendAddressPool:      &armnetwork.SubResource{ID: new(id + "/backendAddressPools/nodes")}}})
	}
	if err := c.Put("loadBalancers", "theirs", lb); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
}

// TestRoomIsMade: in one write what goes makes room for what comes, whichever was asked for first.
func TestRoomIsMade(t *testing.T) {
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			p := provider(t, c)
			azure.Limit(p, 1)
			specs := []cloud.Spec{internal(service(2, 2)), internal(service(1, 2))} // the first goes, and has the later name
			if _, err := converge(t, p, specs[0], false); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				for _, i := range order {
					desired, err := p.Desired(specs[i])
					if err != nil {
						t.Fatal(err)
					}
					if i == 0 {
						desired = nil
					}
					if _, err := cloud.Converge(t.Context(), p, specs[i].Owner, desired, cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
						t.Errorf("Service %d is told %v", i, err)
					}
				}
				time.Sleep(time.Second)
			}
			if all := strings.Join(c.Snapshot(), "\n"); strings.Count(all, " rule {") != 1 || !strings.Contains(all, specs[1].Owner.ServiceUID) {
				t.Errorf("want the second one's rule alone:\n%s", all)
			}
		})
	}
}
