package azure

import (
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// This file is what the parts of balancers of ours look like in a view.

func tag(tags map[string]*string, name string) string { return value(tags[name]) }

// ownersOf are those whose tags something carries, sorted.
func ownersOf(tags map[string]*string) []cloud.OwnerID {
	var ids []cloud.OwnerID
	for name, clusterID := range tags {
		if uid, ok := strings.CutPrefix(name, tagOwner); ok {
			ids = append(ids, cloud.Owner{ClusterID: value(clusterID), ServiceUID: uid}.ID())
		}
	}
	slices.Sort(ids)
	return ids
}

func stateOf(state *armnetwork.ProvisioningState) cloud.State {
	switch value(state) {
	case armnetwork.ProvisioningStateUpdating, armnetwork.ProvisioningStateCreating:
		return cloud.StatePending
	case armnetwork.ProvisioningStateDeleting:
		return cloud.StateDeleting
	case armnetwork.ProvisioningStateFailed, armnetwork.ProvisioningStateCanceled:
		return cloud.StateFailed
	}
	return cloud.StateReady
}

// partKey tells parts of one balancer apart.
type partKey struct{ name, uid, family string }

// observedRules are the parts of a balancer of ours. They are Ready also while Azure works on it, since that may be on
// another Service's: what is under way of their own the writer knows.
func (v *view) observedRules(lb *armnetwork.LoadBalancer, clusterID string) []cloud.Resource {
	rules, ports := map[partKey][]*armnetwork.LoadBalancingRule{}, map[partKey][]string{}
	for _, r := range lb.Properties.LoadBalancingRules {
		if m := rulePattern.FindStringSubmatch(value(r.Name)); m != nil {
			k := partKey{m[1], m[2], m[3]}
			rules[k], ports[k] = append(rules[k], r), append(ports[k], m[4])
		}
	}
	probes := probesOf(lb)
	state := stateOf(lb.Properties.ProvisioningState)
	pooled := map[string][]cloud.Target{}
	for _, family := range families {
		pooled[familyKey(family)] = v.pooled(lb, poolName(familyKey(family)))
	}
	var all []cloud.Resource
	for k, list := range rules {
		owner := cloud.Owner{ClusterID: clusterID, ServiceUID: k.uid}
		r := cloud.Resource{Kind: KindRules, Key: k.family, ID: partID(v.config.balancerID(value(lb.Name)), k.name), Owners: []cloud.OwnerID{owner.ID()},
			HasTargets: true, Targets: pooled[k.family], State: cloud.StateReady,
			Attributes: map[string]string{"provisioned": "true"}}
		switch state {
		case cloud.StateDeleting:
			r.State = state
		case cloud.StateFailed:
			r.Attributes["provisioned"] = "false" // it is written anew
		}
		for i, rule := range list {
			keepRule(r.Attributes, ports[k][i], observedRule(probes, ports[k][i], rule))
		}
		r.Attributes["ports"] = cloud.List(ports[k])
		v.observeFrontend(&r, lb, list)
		all = append(all, r)
	}
	return all
}

// observeFrontend adds what a part's frontend is made of, and its address.
func (v *view) observeFrontend(r *cloud.Resource, lb *armnetwork.LoadBalancer, rules []*armnetwork.LoadBalancingRule) {
	name := lastOf(rules[0].Properties.FrontendIPConfiguration)
	for _, rule := range rules {
		if !refers(rule.Properties.FrontendIPConfiguration, name) {
			name = "" // somebody moved one of them
		}
	}
	r.Attributes["frontend"] = name
	i := slices.IndexFunc(lb.Properties.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return same(value(f.Name), name) })
	if i < 0 {
		return
	}
	name = value(lb.Properties.FrontendIPConfigurations[i].Name) // as it is written there
	r.Attributes["frontend"] = v.config.nameNow(lb.Properties.FrontendIPConfigurations[i])
	if r.Attributes["frontend"] != name {
		r.Attributes[attributeCalled] = name
	}
	f := lb.Properties.FrontendIPConfigurations[i].Properties
	if f.PublicIPAddress == nil {
		v.lacks(r, allLinks, isLinked(value(lb.Name)))
		s := internalSource(f)
		s.linked = isLinked(value(lb.Name))
		r.Attributes["source"] = s.String()
		if address := value(f.PrivateIPAddress); address != "" {
			r.Ingress = []cloud.Ingress{{IP: address}}
		}
		return
	}
	id := value(f.PublicIPAddress.ID)
	v.lacks(r, folded(id), true)
	ip := v.addresses[folded(id)]
	var s source
	mode := byte('o')
	if m := frontendPattern.FindStringSubmatch(name); m != nil {
		mode = m[2][0]
	}
	switch {
	case mode == 'a' && ip != nil:
		s.address, s.group = canonical(value(ip.Properties.IPAddress)), v.config.otherGroup(groupOf(id))
	case mode == 'n' && groupOf(id) != "":
		s.named = groupOf(id) + "/" + lastPart(id)
	case ip != nil && tag(ip.Tags, tagCluster) != "":
		r.DependsOn = []cloud.Ref{{Kind: KindPublicIP, Key: tag(ip.Tags, tagKey), ID: value(ip.ID)}}
	default:
		r.DependsOn = []cloud.Ref{{ID: id}} // foreign: the core will want ours instead
	}
	r.Attributes["source"] = s.String()
	if mode != 'o' {
		somebodys(r, ip)
	}
}

// lacks notes that of a part's owner something is not known, where that is needed and may not be read.
func (v *view) lacks(r *cloud.Resource, what string, needed bool) {
	if err := v.unread[what]; err != nil && needed {
		v.index.unread[r.Owners[0]] = err
	}
}

// somebodys adds to a part the public address of its frontend, which may be nil and is somebody's own. One whose last change has failed is to
// be told, also where nothing else is to be changed.
func somebodys(r *cloud.Resource, ip *armnetwork.PublicIPAddress) {
	if ip == nil || value(ip.Properties.IPAddress) == "" {
		return
	}
	r.Ingress = []cloud.Ingress{{IP: *ip.Properties.IPAddress}}
	if usable(ip) != nil {
		r.Attributes["provisioned"] = "false"
	}
}

// internalSource is what a frontend of the nodes' network is made of.
func internalSource(f *armnetwork.FrontendIPConfigurationPropertiesFormat) source {
	s := source{internal: true}
	if f.Subnet != nil {
		s.subnet = lastPart(value(f.Subnet.ID))
	}
	if value(f.PrivateIPAllocationMethod) == armnetwork.IPAllocationMethodStatic {
		s.address = canonical(value(f.PrivateIPAddress))
	}
	return s
}

// frontendAddress is the address that a part's clients connect to; empty: it is not known.
func (v *view) frontendAddress(id string) string {
	r := v.find(KindRules, id)
	if r == nil {
		return ""
	}
	if len(r.Ingress) > 0 {
		return r.Ingress[0].IP
	}
	for _, dep := range r.DependsOn {
		if ip := v.addresses[folded(dep.ID)]; ip != nil {
			return value(ip.Properties.IPAddress)
		}
	}
	return ""
}

// probesOf are a balancer's probes by folded name.
func probesOf(lb *armnetwork.LoadBalancer) map[string]*armnetwork.Probe {
	probes := make(map[string]*armnetwork.Probe, len(lb.Properties.Probes))
	for _, b := range lb.Properties.Probes {
		probes[folded(value(b.Name))] = b
	}
	return probes
}

func observedRule(probes map[string]*armnetwork.Probe, key string, r *armnetwork.LoadBalancingRule) string {
	p := r.Properties
	is := rule{key: key, backend: value(p.BackendPort), floating: value(p.EnableFloatingIP), reset: value(p.EnableTCPReset),
		idle: int(value(p.IdleTimeoutInMinutes)), affinity: string(value(p.LoadDistribution)), probe: "none"}
	if protocol, _, _ := strings.Cut(key, "-"); !strings.EqualFold(protocol, string(value(p.Protocol))) ||
		!strings.HasSuffix(key, "-"+itoa(value(p.FrontendPort))) {
		return "another port" // somebody changed it
	}
	if b := probes[lastOf(p.Probe)]; b != nil {
		is.probe = probe{protocol: strings.ToLower(string(value(b.Properties.Protocol))), port: value(b.Properties.Port),
			path: value(b.Properties.RequestPath), interval: value(b.Properties.IntervalInSeconds),
			count: value(b.Properties.ProbeThreshold)}.String()
	}
	return is.String()
}

// pooled are the targets of a pool of a balancer of ours.
func (v *view) pooled(lb *armnetwork.LoadBalancer, pool string) []cloud.Target {
	if isLinked(value(lb.Name)) {
		return sortedTargets(append(v.members(poolOf(lb, pool)), v.strangersOf(lb, pool)...))
	}
	return poolTargets(lb, pool)
}

func poolTargets(lb *armnetwork.LoadBalancer, name string) []cloud.Target {
	pool := poolOf(lb, name)
	if pool == nil || pool.Properties == nil {
		return nil
	}
	var all []cloud.Target
	for _, a := range pool.Properties.LoadBalancerBackendAddresses {
		if a.Properties != nil && a.Properties.IPAddress != nil {
			all = append(all, cloud.Target{ID: canonical(*a.Properties.IPAddress)})
		}
	}
	slices.SortFunc(all, func(a, b cloud.Target) int { return strings.Compare(a.ID, b.ID) })
	return all
}
