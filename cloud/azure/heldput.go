package azure

import (
	"cmp"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// This file is how a part that is held is written into a balancer that somebody else made. Of that nothing goes by its looks: only
// what carries the Service's UID and is of the part's own frontend, and the two pools.

// held is where such a part is.
type held struct {
	owner      cloud.Owner
	key        string
	frontend   string
	pool, idle string
	lent       bool
	targets    []cloud.Target // that the pool begins with, so that a rule that comes over sends to somebody
}

// hold makes pt a part that is held. Its rules are named after the frontend, which has its name for as long as it lives.
func (pt *part) hold(owner cloud.Owner, r cloud.Resource, at location) {
	pt.name = partName(owner, r.Key, folded(at.frontend))
	pt.held = held{owner: owner, key: r.Key, frontend: at.frontend, pool: heldPool(owner, r.Key), idle: idlePool(owner, r.Key), lent: r.Lent, targets: r.Targets}
}

// added reports whether a rule or a probe is one that the Service added, by its name. The hash in it does not count: earlier versions
// made it of something else. Nor is it of one frontend alone.
func (pt *part) added(name string) bool {
	m := rulePattern.FindStringSubmatch(name)
	return m != nil && m[2] == pt.held.owner.ServiceUID && m[3] == pt.held.key
}

// putHeld writes the part into the balancer. A rule of its frontend that is for the same port stays, by its name, and so does the
// frontend; one that the Service does not want goes, unless somebody lent it. On a frontend that was taken over, rules that were
// not made for the Service stay as they are. Where it returns an error it has changed nothing.
func (pt *part) putHeld(config Config, lb *armnetwork.LoadBalancer) error {
	p := lb.Properties
	id := config.balancerID(*lb.Name)
	wanted, names := map[string]bool{}, map[string]string{}
	for _, r := range pt.rules {
		wanted[r.key] = true
	}
	var kept, idle []*armnetwork.LoadBalancingRule
	loose := map[string]bool{} // probes that may be nobody's by now
	for _, r := range p.LoadBalancingRules {
		key, own := heldKey(r), pt.added(value(r.Name))
		switch {
		case !refers(r.Properties.FrontendIPConfiguration, pt.held.frontend):
			kept = append(kept, r)
		case !pt.held.lent && !refers(r.Properties.BackendAddressPool, pt.held.pool) && !isNamedFor(pt.held.owner, r):
			if wanted[key] {
				return cloud.Errorf(cloud.Conflict, "rule %s of the same frontend has %s, and is not this Service's: ask for another port, or remove the rule",
					value(r.Name), key)
			}
			kept = append(kept, r)
		case wanted[key]:
			names[key], loose[lastOf(r.Properties.Probe)] = value(r.Name), !pt.held.lent
		case !pt.held.lent || own && refers(r.Properties.BackendAddressPool, pt.held.pool):
			loose[lastOf(r.Properties.Probe)] = !pt.held.lent || pt.added(lastOf(r.Properties.Probe))
		default:
			if refers(r.Properties.BackendAddressPool, pt.held.pool) {
				idle = append(idle, r)
			}
			kept = append(kept, r)
		}
	}
	if after := len(kept) + len(pt.rules); after > maxRules && after > len(p.LoadBalancingRules) {
		return full(*lb.Name, after)
	}
	for _, r := range idle {
		r.Properties.BackendAddressPool = &armnetwork.SubResource{ID: new(id + poolPath + pt.held.idle)}
		pt.addPool(config, p, pt.held.idle, nil)
	}
	p.LoadBalancingRules = kept
	used := map[string]bool{} // also by rules that were given up
	for _, r := range kept {
		used[lastOf(r.Properties.Probe)] = true
	}
	p.Probes = slices.DeleteFunc(p.Probes, func(b *armnetwork.Probe) bool { return pt.added(value(b.Name)) && !used[folded(value(b.Name))] })
	if len(pt.rules) > 0 {
		pt.addPool(config, p, pt.held.pool, pt.held.targets)
	}
	for i, r := range pt.rules {
		name := pt.name + "-" + r.key
		made := r.made(cmp.Or(names[r.key], name), id+frontendPath+pt.held.frontend, id+poolPath+pt.held.pool)
		pt.addProbe(p, made, i, id, name)
		p.LoadBalancingRules = append(p.LoadBalancingRules, made)
	}
	dropProbes(p, loose)
	pt.dropPools(p)
	return nil
}

// addPool adds a pool where there is none of the name.
func (pt *part) addPool(config Config, p *armnetwork.LoadBalancerPropertiesFormat, name string, targets []cloud.Target) {
	if slices.ContainsFunc(p.BackendAddressPools, func(b *armnetwork.BackendAddressPool) bool { return same(value(b.Name), name) }) {
		return
	}
	p.BackendAddressPools = append(p.BackendAddressPools, config.pool(name, targets))
}

// dropProbes takes away those of the probes that no rule uses.
func dropProbes(p *armnetwork.LoadBalancerPropertiesFormat, loose map[string]bool) {
	for _, r := range p.LoadBalancingRules {
		delete(loose, lastOf(r.Properties.Probe))
	}
	p.Probes = slices.DeleteFunc(p.Probes, func(b *armnetwork.Probe) bool { return loose[folded(value(b.Name))] })
}

// letGo takes away the rules that the Service added to a frontend that was lent. The others stay, with no node to send to.
func (pt *part) letGo(lb *armnetwork.LoadBalancer) {
	loose := map[string]bool{}
	lb.Properties.LoadBalancingRules = slices.DeleteFunc(lb.Properties.LoadBalancingRules, func(r *armnetwork.LoadBalancingRule) bool {
		own := pt.added(value(r.Name)) && refers(r.Properties.FrontendIPConfiguration, pt.held.frontend)
		if probe := lastOf(r.Properties.Probe); own && pt.added(probe) {
			loose[probe] = true
		}
		return own
	})
	dropProbes(lb.Properties, loose)
	pt.dropPools(lb.Properties)
}

// dropPools takes away the part's pools, unless a rule uses them.
func (pt *part) dropPools(p *armnetwork.LoadBalancerPropertiesFormat) {
	dropPool(p, pt.held.pool)
	dropPool(p, pt.held.idle)
}

// dropFrontend takes the frontend away, unless something that no Service knows of uses it.
func (pt *part) dropFrontend(lb *armnetwork.LoadBalancer) {
	p := lb.Properties
	if used, _ := users(p); used[folded(pt.held.frontend)] {
		return
	}
	p.FrontendIPConfigurations = slices.DeleteFunc(p.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool {
		return same(value(f.Name), pt.held.frontend)
	})
}
