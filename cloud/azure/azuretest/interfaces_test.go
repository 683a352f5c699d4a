package azuretest

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// balancerWith is an internal balancer with a pool, p, or with what is put there.
func balancerWith(pool *armnetwork.BackendAddressPool) armnetwork.LoadBalancer {
	return armnetwork.LoadBalancer{Location: new(Location), SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)},
		Properties: &armnetwork.LoadBalancerPropertiesFormat{BackendAddressPools: []*armnetwork.BackendAddressPool{pool},
			FrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{Name: new("f"), Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{
				Subnet: &armnetwork.Subnet{ID: new(networkID("virtualNetworks", "nodes/subnets/nodes"))}}}}}}
}

func emptyPool() *armnetwork.BackendAddressPool {
	return &armnetwork.BackendAddressPool{Name: new("p"), Properties: &armnetwork.BackendAddressPoolPropertiesFormat{}}
}

func poolOfAddress() *armnetwork.BackendAddressPool {
	return &armnetwork.BackendAddressPool{Name: new("p"), Properties: &armnetwork.BackendAddressPoolPropertiesFormat{
		LoadBalancerBackendAddresses: []*armnetwork.LoadBalancerBackendAddress{{Name: new("a"), Properties: &armnetwork.LoadBalancerBackendAddressPropertiesFormat{
			IPAddress: new("172.30.0.11"), VirtualNetwork: &armnetwork.SubResource{ID: new(networkID("virtualNetworks", "nodes"))}}}}}}
}

// joins has a machine be in pool p of a balancer.
func joins(c *Cloud, machine, balancer string) error {
	return c.EditInterface(machine, func(nic *armnetwork.Interface) {
		ip := nic.Properties.IPConfigurations[1].Properties
		ip.LoadBalancerBackendAddressPools = append(ip.LoadBalancerBackendAddressPools,
			&armnetwork.BackendAddressPool{ID: new(networkID("loadBalancers", balancer) + "/backendAddressPools/p")})
	})
}

func leaves(c *Cloud, machine string) error {
	return c.EditInterface(machine, func(nic *armnetwork.Interface) {
		nic.Properties.IPConfigurations[1].Properties.LoadBalancerBackendAddressPools = nil
	})
}

func aLink() armnetwork.PrivateLinkService {
	return armnetwork.PrivateLinkService{Location: new(Location), Properties: &armnetwork.PrivateLinkServiceProperties{
		LoadBalancerFrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{ID: new(networkID("loadBalancers", "lb") + "/frontendIPConfigurations/f")}},
		IPConfigurations: []*armnetwork.PrivateLinkServiceIPConfiguration{{Name: new("ip"), Properties: &armnetwork.PrivateLinkServiceIPConfigurationProperties{
			Subnet: &armnetwork.Subnet{ID: new(networkID("virtualNetworks", "nodes/subnets/nodes"))}}}}}}
}

// TestPools: what Azure refuses of pools of interfaces is refused, with its code, whichever side comes first.
func TestPools(t *testing.T) {
	putBalancer := func(name string, pool *armnetwork.BackendAddressPool) func(*Cloud) error {
		return func(c *Cloud) error { return c.Put("loadBalancers", name, balancerWith(pool)) }
	}
	join := func(balancer string) func(*Cloud) error {
		return func(c *Cloud) error { return joins(c, "n1", balancer) }
	}
	link := func(c *Cloud) error { return c.Put("privateLinkServices", "link", aLink()) }
	for name, tc := range map[string]struct {
		before []func(*Cloud) error
		then   func(*Cloud) error
		code   string
	}{
		"Pool is missing":           {nil, join("lb"), "InvalidResourceReference"},
		"Pool of addresses":         {[]func(*Cloud) error{putBalancer("lb", poolOfAddress())}, join("lb"), "CannotMixIPBasedAddressesAndIPConfigurationsOnLoadBalancerBackendAddressPool"},
		"Addresses in its pool":     {[]func(*Cloud) error{putBalancer("lb", emptyPool()), join("lb")}, putBalancer("lb", poolOfAddress()), "CannotMixIPBasedAddressesAndIPConfigurationsOnLoadBalancerBackendAddressPool"},
		"Taken out by the pool":     {[]func(*Cloud) error{putBalancer("lb", emptyPool()), join("lb")}, putBalancer("lb", emptyPool()), "ModificationOfNICIpConfigBackendPoolNotSupported"},
		"Second internal balancer":  {[]func(*Cloud) error{putBalancer("lb", emptyPool()), putBalancer("other", emptyPool()), join("lb")}, join("other"), "NetworkInterfaceUsesMultipleLoadBalancersOfSameType"},
		"Pool in use":               {[]func(*Cloud) error{putBalancer("lb", emptyPool()), join("lb")}, putBalancer("lb", &armnetwork.BackendAddressPool{Name: new("q")}), "InUseBackendAddressPoolCannotBeDeleted"},
		"Balancer in use":           {[]func(*Cloud) error{putBalancer("lb", emptyPool()), join("lb")}, func(c *Cloud) error { return c.Remove("loadBalancers", "lb") }, "InUseBackendAddressPoolCannotBeDeleted"},
		"Link of addresses":         {[]func(*Cloud) error{putBalancer("lb", poolOfAddress())}, link, "PrivateLinkServiceIsNotSupportedForIPBasedLoadBalancer"},
		"Addresses beside a link":   {[]func(*Cloud) error{putBalancer("lb", emptyPool()), link}, putBalancer("lb", poolOfAddress()), "PrivateLinkServiceIsNotSupportedForIPBasedLoadBalancer"},
		"Link of interfaces":        {[]func(*Cloud) error{putBalancer("lb", emptyPool()), join("lb")}, link, ""},
		"Addresses beside, removed": {[]func(*Cloud) error{putBalancer("lb", emptyPool()), join("lb"), func(c *Cloud) error { return leaves(c, "n1") }}, putBalancer("lb", poolOfAddress()), ""},
		"Deleted when nobody is in": {[]func(*Cloud) error{putBalancer("lb", emptyPool()), join("lb"), func(c *Cloud) error { c.RemoveMachine("n1"); return nil }}, func(c *Cloud) error { return c.Remove("loadBalancers", "lb") }, ""},
	} {
		c := New(Options{})
		c.AddMachine("n1", "172.30.0.11")
		for _, step := range tc.before {
			if err := step(c); err != nil {
				t.Fatalf("%s: before it: %v", name, err)
			}
		}
		if err := tc.then(c); tc.code == "" && err != nil || tc.code != "" && (err == nil || !strings.Contains(err.Error(), `"code":"`+tc.code+`"`)) {
			t.Errorf("%s: the answer is %v, want %s", name, err, tc.code)
		}
	}
}

// TestMembersAreShown: a pool shows who is in it, to reads, once the interface is written, and the balancer has another ETag; an interface waits for a balancer that is
// being written, and its machine stays what it was, whatever is written.
func TestMembersAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Slow: time.Second})
		c.AddMachine("n1", "172.30.0.11")
		if err := c.Put("loadBalancers", "lb", balancerWith(emptyPool())); err != nil {
			t.Fatal(err)
		}
		if err := joins(c, "n1", "lb"); err == nil || !strings.Contains(err.Error(), "ReferencedResourceNotProvisioned") {
			t.Errorf("while the balancer is written it says %v", err)
		}
		time.Sleep(time.Second)
		_, before, _ := ask(c, http.MethodGet, at("loadBalancers", "lb"), "")
		if err := joins(c, "n1", "lb"); err != nil {
			t.Fatal(err)
		}
		_, meanwhile, _ := ask(c, http.MethodGet, at("loadBalancers", "lb"), "")
		if meanwhile != before {
			t.Errorf("while the interface is written the balancer is shown as %s", meanwhile)
		}
		if err := joins(c, "n1", "lb"); err == nil || !strings.Contains(err.Error(), "AnotherOperationInProgress") {
			t.Errorf("a write while one is going on says %v", err)
		}
		time.Sleep(time.Second)
		_, after, _ := ask(c, http.MethodGet, at("loadBalancers", "lb"), "")
		tag := func(text string) string {
			_, rest, _ := strings.Cut(text, `"etag":"`)
			return rest[:60]
		}
		if !strings.Contains(after, `"backendIPConfigurations":[{"id":"`+networkID("networkInterfaces", "nic-n1")+`/ipConfigurations/ipconfig1"}]`) || tag(before) == tag(after) {
			t.Errorf("it is shown as %s", after)
		}
		if err := c.EditInterface("n1", func(nic *armnetwork.Interface) { nic.Properties.VirtualMachine = nil }); err != nil {
			t.Fatal(err)
		}
		if c.Interface("n1").Properties.VirtualMachine == nil {
			t.Error("the machine lost its interface")
		}
	})
}

// TestSetInterfaces: the interfaces of a uniform scale set's machines can be read, and not be written but by the machine.
func TestSetInterfaces(t *testing.T) {
	c := New(Options{})
	ids := c.AddScaleSet("pool", "172.30.0.11", "172.30.0.12")
	set := "/subscriptions/" + Subscription + "/resourceGroups/" + ResourceGroup + "/providers/microsoft.Compute/virtualMachineScaleSets/pool"
	if status, text, _ := ask(c, http.MethodGet, set+"/networkInterfaces?api-version=2018-10-01", ""); status != http.StatusOK || strings.Count(text, `"virtualMachine":`) != 4 ||
		!strings.Contains(text, `"privateIPAddress":"172.30.0.12"`) {
		t.Errorf("the list is %d %s", status, text)
	}
	if status, text, _ := ask(c, http.MethodPut, set+"/networkInterfaces?api-version=2018-10-01", "{}"); status < 400 {
		t.Errorf("writing them is answered with %d %s", status, text)
	}
	if status, text, _ := ask(c, http.MethodPut, strings.TrimPrefix(ids[0], "azure://")+"/networkInterfaces/nodes?api-version=2018-10-01", "{}"); status < 400 {
		t.Errorf("writing one is answered with %d %s", status, text)
	}
	if status, text, _ := ask(c, http.MethodGet, strings.TrimPrefix(ids[1], "azure://")+"?api-version=2026-04-01", ""); status != http.StatusOK || !strings.Contains(text, `"instanceId":"1"`) {
		t.Errorf("a machine is %d %s", status, text)
	}
}
