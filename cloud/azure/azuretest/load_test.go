package azuretest

import (
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// TestLoad: rules of all balancers count for a network interface, whether pools have it or its address, and what takes some away is taken.
func TestLoad(t *testing.T) {
	c := New(Options{RulesPerMachine: 3})
	c.AddMachine("a", "10.224.1.1")
	balancer := func(name, address string, ports ...int32) error {
		id := networkID("loadBalancers", name)
		pool := &armnetwork.BackendAddressPool{Name: new("p"), Properties: &armnetwork.BackendAddressPoolPropertiesFormat{}}
		if address != "" {
			pool.Properties.LoadBalancerBackendAddresses = []*armnetwork.LoadBalancerBackendAddress{{Name: new("a"), Properties: &armnetwork.LoadBalancerBackendAddressPropertiesFormat{
				IPAddress: new(address), VirtualNetwork: &armnetwork.SubResource{ID: new(networkID("virtualNetworks", "nodes"))}}}}
		}
		p := &armnetwork.LoadBalancerPropertiesFormat{BackendAddressPools: []*armnetwork.BackendAddressPool{pool},
			FrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{Name: new("f"), Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{
				Subnet: &armnetwork.Subnet{ID: new(networkID("virtualNetworks", "nodes/subnets/nodes"))}}}}}
		for _, port := range ports {
			p.LoadBalancingRules = append(p.LoadBalancingRules, &armnetwork.LoadBalancingRule{Name: new("r" + strings.Repeat("x", int(port))),
				Properties: &armnetwork.LoadBalancingRulePropertiesFormat{Protocol: new(armnetwork.TransportProtocolTCP), FrontendPort: new(port), BackendPort: new(port),
					FrontendIPConfiguration: &armnetwork.SubResource{ID: new(id + "/frontendIPConfigurations/f")},
					BackendAddressPool:      &armnetwork.SubResource{ID: new(id + "/backendAddressPools/p")}}})
		}
		return c.Put("loadBalancers", name, armnetwork.LoadBalancer{Location: new(Location), Properties: p,
			SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)}})
	}
	join := func() error {
		return c.EditInterface("a", func(nic *armnetwork.Interface) {
			nic.Properties.IPConfigurations[1].Properties.LoadBalancerBackendAddressPools = []*armnetwork.BackendAddressPool{
				{ID: new(networkID("loadBalancers", "ofinterfaces") + "/backendAddressPools/p")}}
		})
	}
	for _, step := range []struct {
		what    string
		do      func() error
		refused bool
	}{
		{"two rules by address", func() error { return balancer("first", "10.224.1.1", 1, 2) }, false},
		{"two of another balancer", func() error { return balancer("second", "10.224.1.1", 1, 2) }, true},
		{"one of another balancer", func() error { return balancer("second", "10.224.1.1", 1) }, false},
		{"any number for another address", func() error { return balancer("third", "10.224.1.2", 1, 2, 3) }, false},
		{"any number for nobody", func() error { return balancer("ofinterfaces", "", 1, 2) }, false},
		{"then the interface", join, true},
		{"after less of the first", func() error { return balancer("first", "10.224.1.1") }, false},
		{"the interface again", join, false},
		{"more for it", func() error { return balancer("first", "10.224.1.1", 1) }, true},
	} {
		err := step.do()
		if (err != nil) != step.refused || err != nil && !strings.Contains(err.Error(), "LoadBalancerRuleCountLimitReachedForNic") {
			t.Errorf("%s: %v", step.what, err)
		}
	}
}
