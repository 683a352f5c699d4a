package azuretest

import (
	"maps"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// This file is about how many rules balancers have for one network interface. Azure's limits have 300 of them, over all balancers and IP
// configurations, for rules of all kinds; members of pools by address count like those by interface.

// checkLoad refuses what brings a machine over the limit. What was over it before may stay so, and become less.
func (c *Cloud) checkLoad(t *thing) *Refusal {
	limit := c.options.RulesPerMachine
	if limit < 0 {
		return nil
	}
	before, after := c.load(nil), c.load(t)
	for _, machine := range slices.Sorted(maps.Keys(after)) {
		if after[machine] > limit && after[machine] > before[machine] {
			return bad("LoadBalancerRuleCountLimitReachedForNic", "IpConfiguration %s cannot have more than %d NAT or load balancing rules combined", machine, limit)
		}
	}
	return nil
}

// load is how many rules there would be for each network interface, by its id, once t is in its place. An address that no interface has
// counts as one.
func (c *Cloud) load(t *thing) map[string]int {
	things := c.things
	if t != nil {
		things = maps.Clone(things)
		things[key(t.path.id())] = t
	}
	interfaceOf := map[string]string{} // by address
	for id, address := range c.given {
		interfaceOf[address] = id
	}
	rules := map[string]int{} // by pool
	for id, one := range things {
		switch body := one.body.(type) {
		case *armnetwork.Interface:
			for _, ip := range body.Properties.IPConfigurations {
				interfaceOf[value(ip.Properties.PrivateIPAddress)] = id
			}
		case *armnetwork.LoadBalancer:
			countRules(rules, body.Properties)
		}
	}
	load := map[string]int{}
	for id, one := range things {
		switch body := one.body.(type) {
		case *armnetwork.Interface, *armcompute.VirtualMachineScaleSetVM:
			for pool, configs := range one.pools() {
				load[id] += rules[pool] * len(configs)
			}
		case *armnetwork.LoadBalancer:
			for _, pool := range body.Properties.BackendAddressPools {
				for _, a := range pool.Properties.LoadBalancerBackendAddresses {
					if ofInterface(a) {
						continue
					}
					machine := value(a.Properties.IPAddress)
					if in := value(value(a.Properties.VirtualNetwork).ID); in != "" && !strings.HasSuffix(key(in), "/virtualnetworks/nodes") {
						machine = key(in) + " " + machine // the same address elsewhere
					} else if of := interfaceOf[machine]; of != "" {
						machine = of
					}
					load[machine] += rules[key(childID(one, "backendAddressPools", value(pool.Name)))]
				}
			}
		}
	}
	return load
}

// countRules adds the rules of a balancer for each pool.
func countRules(rules map[string]int, p *armnetwork.LoadBalancerPropertiesFormat) {
	for _, r := range p.LoadBalancingRules {
		rules[subID(r.Properties.BackendAddressPool)]++
	}
	for _, r := range p.OutboundRules {
		rules[subID(r.Properties.BackendAddressPool)]++
	}
	for _, r := range p.InboundNatRules {
		rules[subID(r.Properties.BackendAddressPool)]++
	}
}
