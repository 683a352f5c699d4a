package azure

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// This file is about how many rules the nodes have together. Every node is in every balancer of ours, and Azure lets a network interface
// have only so many rules, whatever balancers they are of. It is looked at before a part is written: a new balancer has no nodes yet, so
// that Azure would take its rules, and refuse the nodes, for all Services that are on it. What is not seen here, such as rules of balancers
// of other resource groups, Azure refuses.

// allRules are the rules of all kinds that a balancer has.
func allRules(lb *armnetwork.LoadBalancer) int {
	return len(lb.Properties.LoadBalancingRules) + len(lb.Properties.OutboundRules) + len(lb.Properties.InboundNatRules)
}

// elsewhere is how many rules the nodes have, or are to have, of other balancers than the one: of all that are the cluster's, and of
// others those whose pools have the address of a node that is in one of ours. Of what is gathered for balancers only those count that come before the one by
// name, so that of two that ask at once for the last rules one gets them.
func (p *Provider) elsewhere(clusterID, balancer string) int {
	p.mu.Lock()
	v := p.memory.current
	gathering := map[string]*writer[armnetwork.LoadBalancer]{}
	for name, w := range p.balancers {
		if name < folded(balancer) && strings.HasPrefix(name, balancersOf(clusterID)) {
			gathering[name] = w
		}
	}
	p.mu.Unlock()
	rules := 0
	for _, w := range gathering {
		rules += w.adding(func(id string) bool { return v != nil && v.find(KindRules, id) != nil })
	}
	if v == nil {
		return rules
	}
	nodes := sync.OnceValue(func() map[cloud.Target]bool { return v.nodesOf(clusterID) })
	for name, lb := range v.balancers {
		switch {
		case name == folded(balancer):
		case tag(lb.Tags, tagCluster) == clusterID:
			rules += allRules(lb)
		default:
			rules += rulesFor(lb, nodes(), p.config.networkID())
		}
	}
	return rules
}

// nodesOf are the members of the cluster's balancers.
func (v *view) nodesOf(clusterID string) map[cloud.Target]bool {
	nodes := map[cloud.Target]bool{}
	for _, lb := range v.balancers {
		if tag(lb.Tags, tagCluster) != clusterID {
			continue
		}
		for _, family := range families {
			for _, t := range v.pooled(lb, poolName(familyKey(family))) {
				nodes[t] = true
			}
		}
	}
	return nodes
}

// rulesFor is how many rules of a balancer are for one of the nodes, by its address in the network. Others have the same addresses.
func rulesFor(lb *armnetwork.LoadBalancer, nodes map[cloud.Target]bool, network string) int {
	theirs := map[string]bool{} // pools, by folded name
	for _, pool := range lb.Properties.BackendAddressPools {
		properties := value(pool.Properties)
		theirs[folded(value(pool.Name))] = slices.ContainsFunc(properties.LoadBalancerBackendAddresses, func(a *armnetwork.LoadBalancerBackendAddress) bool {
			of := value(a.Properties)
			in := value(value(cmp.Or(of.VirtualNetwork, properties.VirtualNetwork)).ID)
			return nodes[cloud.Target{ID: canonical(value(of.IPAddress))}] && (in == "" || same(in, network))
		})
	}
	rules := 0
	count := func(pool *armnetwork.SubResource) {
		if theirs[lastOf(pool)] {
			rules++
		}
	}
	for _, r := range lb.Properties.LoadBalancingRules {
		count(r.Properties.BackendAddressPool)
	}
	for _, r := range lb.Properties.OutboundRules {
		count(r.Properties.BackendAddressPool)
	}
	for _, r := range lb.Properties.InboundNatRules {
		count(r.Properties.BackendAddressPool)
	}
	return rules
}

// adding returns how many rules parts have that are still to be made, and are not there.
func (w *writer[D]) adding(there func(id string) bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	rules := 0
	for _, c := range w.changes {
		if !c.gone && c.phase != settling && !there(c.want.ID) {
			rules += c.rules
		}
	}
	return rules
}

// crowded is the error of a part for whose rules the nodes have no room.
func crowded(rules int) error {
	return cloud.Errorf(cloud.Quota, "each node would have %d rules of load balancers, and can have %d, of all Services of the cluster together: have Services ask for fewer "+
		"ports or one family, internal ones for all ports by annotation %sload-balancer-enable-high-availability-ports, or move some to another cluster", rules, maxLoad, prefix)
}
