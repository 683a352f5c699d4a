package azure

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// viewAge is for how long what was read counts. The Services that are worked on at the same time share it; what this process
// writes is in it at once.
const viewAge = time.Second

// view is what the network was when it was last read, and what was written since. Not changed once it is made: nor is what it
// holds, which is copied before it is.
type view struct {
	balancers map[string]*armnetwork.LoadBalancer       // by name
	addresses map[string]*armnetwork.PublicIPAddress    // by id in lower case
	group     *armnetwork.SecurityGroup                 // nil: there is none
	links     map[string]*armnetwork.PrivateLinkService // by name
	resources []cloud.Resource                          // made of it, sorted
}

// memory keeps the view.
type memory struct {
	// reading is held by who reads; a channel rather than a mutex, since it is held for as long as Azure takes to answer.
	reading chan struct{}
	current *view
	at      time.Time // of current; zero: it has to be read anew
	writes  int       // that changed current
}

// look returns a view that is young enough.
func (p *Provider) look(ctx context.Context) (*view, error) {
	select {
	case p.memory.reading <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.memory.reading }()
	p.mu.Lock()
	current, at, writes := p.memory.current, p.memory.at, p.memory.writes
	p.mu.Unlock()
	if current != nil && time.Since(at) < viewAge {
		return current, nil
	}
	begin := time.Now()
	read, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory.writes == writes {
		p.memory.current, p.memory.at = read, begin
	}
	// Else somebody wrote meanwhile: what was read may lack that, which is no matter to the caller, whose Service nobody else
	// writes for, and may not stay.
	return read, nil
}

func (p *Provider) read(ctx context.Context) (*view, error) {
	v := &view{balancers: map[string]*armnetwork.LoadBalancer{}, addresses: map[string]*armnetwork.PublicIPAddress{},
		links: map[string]*armnetwork.PrivateLinkService{}}
	balancers, err := p.network.Balancers(ctx)
	if err != nil {
		return nil, err
	}
	for _, lb := range balancers {
		v.balancers[value(lb.Name)] = lb
	}
	addresses, err := p.network.PublicIPs(ctx)
	if err != nil {
		return nil, err
	}
	for _, ip := range addresses {
		v.addresses[strings.ToLower(value(ip.ID))] = ip
	}
	if err := p.readNamed(ctx, v); err != nil {
		return nil, err
	}
	if v.group, err = p.network.SecurityGroup(ctx); err != nil && !hasStatus(err, http.StatusNotFound) {
		return nil, err
	}
	links, err := p.network.LinkServices(ctx)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		v.links[value(link.Name)] = link
	}
	v.resources = p.resources(v)
	return v, nil
}

// readNamed reads public addresses of other resource groups that frontends of ours have.
func (p *Provider) readNamed(ctx context.Context, v *view) error {
	for _, name := range slices.Sorted(maps.Keys(v.balancers)) {
		for _, f := range v.balancers[name].Properties.FrontendIPConfigurations {
			if f.Properties.PublicIPAddress == nil || !frontendPattern.MatchString(value(f.Name)) {
				continue
			}
			id := value(f.Properties.PublicIPAddress.ID)
			parts := strings.Split(id, "/")
			if v.addresses[strings.ToLower(id)] != nil || len(parts) != 9 {
				continue
			}
			ip, err := p.network.PublicIP(ctx, parts[4], parts[8])
			switch {
			case err == nil:
				v.addresses[strings.ToLower(id)] = ip
			case !hasStatus(err, http.StatusNotFound):
				return err
			}
		}
	}
	return nil
}

// note changes the view by what was written.
func (p *Provider) note(change func(v *view)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.writes++
	if p.memory.current == nil {
		return
	}
	v := *p.memory.current
	v.balancers, v.addresses, v.links = maps.Clone(v.balancers), maps.Clone(v.addresses), maps.Clone(v.links)
	change(&v)
	v.resources = p.resources(&v)
	p.memory.current = &v
}

// forget has the network be read anew.
func (p *Provider) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.writes++
	p.memory.at = time.Time{}
}

// resources turns a view into resources of whatever cluster and owner.
func (p *Provider) resources(v *view) []cloud.Resource {
	var all []cloud.Resource
	for _, ip := range v.addresses {
		if tag(ip.Tags, tagCluster) != "" {
			all = append(all, p.observedAddress(ip))
		}
	}
	for _, lb := range v.balancers {
		if clusterID := tag(lb.Tags, tagCluster); clusterID != "" {
			all = append(all, p.observedRules(v, lb, clusterID)...)
		} else {
			all = append(all, p.observedHeld(v, lb)...)
		}
	}
	all = append(all, v.observedSecurity(all)...)
	for _, link := range v.links {
		if tag(link.Tags, tagCluster) != "" {
			all = append(all, v.observedLink(link, all))
		}
	}
	cloud.SortResources(all)
	return all
}

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
func (p *Provider) observedRules(v *view, lb *armnetwork.LoadBalancer, clusterID string) []cloud.Resource {
	rules := map[partKey][]*armnetwork.LoadBalancingRule{}
	for _, r := range lb.Properties.LoadBalancingRules {
		if m := rulePattern.FindStringSubmatch(value(r.Name)); m != nil {
			k := partKey{m[1], m[2], m[3]}
			rules[k] = append(rules[k], r)
		}
	}
	state := stateOf(lb.Properties.ProvisioningState)
	var all []cloud.Resource
	for k, list := range rules {
		owner := cloud.Owner{ClusterID: clusterID, ServiceUID: k.uid}
		r := cloud.Resource{Kind: KindRules, Key: k.family, ID: partID(p.config.balancerID(value(lb.Name)), k.name), Owners: []cloud.OwnerID{owner.ID()},
			HasTargets: true, Targets: poolTargets(lb, poolName(k.family)), State: cloud.StateReady,
			Attributes: map[string]string{"provisioned": "true"}}
		switch state {
		case cloud.StateDeleting:
			r.State = state
		case cloud.StateFailed:
			r.Attributes["provisioned"] = "false" // it is written anew
		}
		var ports []string
		for _, rule := range list {
			key := rulePattern.FindStringSubmatch(value(rule.Name))[4]
			ports = append(ports, key)
			r.Attributes[key] = observedRule(lb, key, rule)
		}
		r.Attributes["ports"] = cloud.List(ports)
		v.observeFrontend(&r, lb, list)
		all = append(all, r)
	}
	return all
}

// observeFrontend adds what a part's frontend is made of, and its address.
func (v *view) observeFrontend(r *cloud.Resource, lb *armnetwork.LoadBalancer, rules []*armnetwork.LoadBalancingRule) {
	name := lastOf(rules[0].Properties.FrontendIPConfiguration)
	for _, rule := range rules {
		if lastOf(rule.Properties.FrontendIPConfiguration) != name {
			name = "" // somebody moved one of them
		}
	}
	r.Attributes["frontend"] = name
	i := slices.IndexFunc(lb.Properties.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return value(f.Name) == name })
	if i < 0 {
		return
	}
	f := lb.Properties.FrontendIPConfigurations[i].Properties
	if f.PublicIPAddress == nil {
		r.Attributes["source"] = internalSource(f).String()
		if address := value(f.PrivateIPAddress); address != "" {
			r.Ingress = []cloud.Ingress{{IP: address}}
		}
		return
	}
	id := value(f.PublicIPAddress.ID)
	ip := v.addresses[strings.ToLower(id)]
	var s source
	mode := byte('o')
	if m := frontendPattern.FindStringSubmatch(name); m != nil {
		mode = m[2][0]
	}
	switch {
	case mode == 'a' && ip != nil:
		s.address = value(ip.Properties.IPAddress)
	case mode == 'n' && len(strings.Split(id, "/")) == 9:
		s.named = strings.Split(id, "/")[4] + "/" + lastPart(id)
	case ip != nil && tag(ip.Tags, tagCluster) != "":
		r.DependsOn = []cloud.Ref{{Kind: KindPublicIP, Key: tag(ip.Tags, tagKey), ID: value(ip.ID)}}
	default:
		r.DependsOn = []cloud.Ref{{ID: id}} // foreign: the core will want ours instead
	}
	r.Attributes["source"] = s.String()
	if mode != 'o' && ip != nil && value(ip.Properties.IPAddress) != "" {
		r.Ingress = []cloud.Ingress{{IP: *ip.Properties.IPAddress}}
	}
}

// internalSource is what a frontend of the nodes' network is made of.
func internalSource(f *armnetwork.FrontendIPConfigurationPropertiesFormat) source {
	s := source{internal: true}
	if f.Subnet != nil {
		s.subnet = lastPart(value(f.Subnet.ID))
	}
	if value(f.PrivateIPAllocationMethod) == armnetwork.IPAllocationMethodStatic {
		s.address = value(f.PrivateIPAddress)
	}
	return s
}

// frontendAddress is the address that a part's clients connect to; empty: it is not known.
func (v *view) frontendAddress(id string) string {
	i := slices.IndexFunc(v.resources, func(r cloud.Resource) bool { return r.Kind == KindRules && r.ID == id })
	if i < 0 {
		return ""
	}
	r := v.resources[i]
	if len(r.Ingress) > 0 {
		return r.Ingress[0].IP
	}
	for _, dep := range r.DependsOn {
		if ip := v.addresses[strings.ToLower(dep.ID)]; ip != nil {
			return value(ip.Properties.IPAddress)
		}
	}
	return ""
}

func observedRule(lb *armnetwork.LoadBalancer, key string, r *armnetwork.LoadBalancingRule) string {
	p := r.Properties
	is := rule{key: key, backend: value(p.BackendPort), floating: value(p.EnableFloatingIP), reset: value(p.EnableTCPReset),
		idle: int(value(p.IdleTimeoutInMinutes)), affinity: string(value(p.LoadDistribution)), probe: "none"}
	if protocol, _, _ := strings.Cut(key, "-"); !strings.EqualFold(protocol, string(value(p.Protocol))) ||
		!strings.HasSuffix(key, "-"+itoa(value(p.FrontendPort))) {
		return "another port" // somebody changed it
	}
	if name := lastOf(p.Probe); name != "" {
		for _, b := range lb.Properties.Probes {
			if value(b.Name) == name {
				is.probe = probe{protocol: strings.ToLower(string(value(b.Properties.Protocol))), port: value(b.Properties.Port),
					path: value(b.Properties.RequestPath), interval: value(b.Properties.IntervalInSeconds),
					count: value(b.Properties.ProbeThreshold)}.String()
			}
		}
	}
	return is.String()
}

func poolTargets(lb *armnetwork.LoadBalancer, name string) []cloud.Target {
	var all []cloud.Target
	for _, pool := range lb.Properties.BackendAddressPools {
		if value(pool.Name) != name || pool.Properties == nil {
			continue
		}
		for _, a := range pool.Properties.LoadBalancerBackendAddresses {
			if a.Properties != nil && a.Properties.IPAddress != nil {
				all = append(all, cloud.Target{ID: *a.Properties.IPAddress})
			}
		}
	}
	slices.SortFunc(all, func(a, b cloud.Target) int { return strings.Compare(a.ID, b.ID) })
	return all
}
