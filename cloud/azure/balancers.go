package azure

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// balancerDocument says how a balancer is read and written. One of ours in which nothing is left is deleted.
func (p *Provider) balancerDocument(name string) document[armnetwork.LoadBalancer] {
	noted := func(lb *armnetwork.LoadBalancer) {
		p.note(func(v *view) {
			if lb == nil {
				delete(v.balancers, folded(name))
			} else {
				v.balancers[folded(name)] = lb
			}
		})
	}
	return document[armnetwork.LoadBalancer]{
		known: func() *armnetwork.LoadBalancer { return p.knownBalancer(name) },
		stale: func(lb *armnetwork.LoadBalancer) bool { return lb != nil && lb.Etag == nil },
		load: func(ctx context.Context) (*armnetwork.LoadBalancer, error) {
			lb, err := p.network.Balancer(ctx, name)
			if hasStatus(err, http.StatusNotFound) {
				lb, err = nil, nil
			}
			if err == nil {
				noted(lb)
			}
			return lb, err
		},
		copied: func(lb *armnetwork.LoadBalancer) *armnetwork.LoadBalancer {
			if lb == nil {
				return &armnetwork.LoadBalancer{Name: new(name), Location: new(p.config.Location), Tags: map[string]*string{},
					SKU:        &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)},
					Properties: &armnetwork.LoadBalancerPropertiesFormat{}}
			}
			return deepcopy.Of(lb)
		},
		store: func(ctx context.Context, next, was *armnetwork.LoadBalancer) (*armnetwork.LoadBalancer, outcome, error) {
			match := absent
			if was != nil {
				match = value(was.Etag)
			}
			if err := p.vacate(ctx, was, next); err != nil {
				return nil, nil, err
			}
			if was != nil && tag(next.Tags, tagCluster) != "" && empty(next.Properties) {
				if err := p.network.DeleteBalancer(ctx, name, match); err != nil {
					return nil, nil, err
				}
				left := *was // with what was in it, which is there as long as it is
				state := *was.Properties
				state.ProvisioningState = new(armnetwork.ProvisioningStateDeleting)
				left.Properties = &state
				noted(&left) // until it is seen to be gone
				return &left, nil, nil
			}
			after, ended, err := p.network.PutBalancer(ctx, next, match)
			if err == nil {
				noted(after)
			}
			return after, ended, p.blamed(next, err)
		},
		state: func(lb *armnetwork.LoadBalancer) cloud.State {
			if lb == nil {
				return cloud.StateReady
			}
			return stateOf(lb.Properties.ProvisioningState)
		},
	}
}

// empty reports whether nothing is left in a balancer, of ours or of others.
func empty(p *armnetwork.LoadBalancerPropertiesFormat) bool {
	return len(p.FrontendIPConfigurations)+len(p.BackendAddressPools)+len(p.LoadBalancingRules)+len(p.Probes)+len(p.OutboundRules)+
		len(p.InboundNatRules)+len(p.InboundNatPools) == 0
}

// createRules finds a balancer for a Service's part and asks for it to be written.
func (p *Provider) createRules(ctx context.Context, v *view, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	pt, err := partOf(owner, desired)
	if err != nil {
		return cloud.Resource{}, cloud.Errorf(cloud.UserError, "%w", err)
	}
	balancer, err := p.choose(v, owner, pt)
	if err != nil {
		return cloud.Resource{}, err
	}
	desired.ID = partID(p.config.balancerID(balancer), pt.name)
	return p.submitted(desired, p.submitRules(ctx, v, owner, desired))
}

// choose returns the balancer that the part is in, or is to be made in; else that of its frontend, which others of the group
// may have made; else the first that has room. What is gathered counts as if it were there.
func (p *Provider) choose(v *view, owner cloud.Owner, pt *part) (string, error) {
	for _, name := range p.clusterBalancers(v, owner.ClusterID, pt.source.scheme()) {
		coming, has := p.writer(name).coming(partID(p.config.balancerID(name), pt.name), pt.frontend)
		if has {
			return name, nil
		}
		lb := v.balancers[name]
		if lb == nil {
			continue
		}
		if p.config.frontendNamed(lb, pt.frontend) >= 0 {
			if len(lb.Properties.LoadBalancingRules)+coming+len(pt.rules) > maxRules {
				return "", full(name, len(lb.Properties.LoadBalancingRules)+coming+len(pt.rules))
			}
			return name, nil
		}
	}
	room := "" // on the first that has room, but no address of IPv4
	for n := 1; ; n++ {
		name := balancerName(owner.ClusterID, pt.source.scheme(), n)
		coming, _ := p.writer(name).coming("", pt.frontend)
		lb, rules := v.balancers[name], coming+len(pt.rules)
		if lb != nil {
			rules += len(lb.Properties.LoadBalancingRules)
		}
		if lb != nil && tag(lb.Tags, tagCluster) != owner.ClusterID {
			return "", cloud.Errorf(cloud.Conflict, "the load balancer %s is not this cluster's: it is left alone; remove or rename it", name)
		}
		switch {
		case rules <= maxRules && (pt.family == familyKey(cloud.IPv4) || p.writer(name).comes(familyKey(cloud.IPv4), "") || lb != nil && v.families(lb)[familyKey(cloud.IPv4)]):
			return name, nil
		case rules <= maxRules:
			if room = cmp.Or(room, name); lb == nil && coming == 0 {
				return room, nil
			}
		case pt.source.linked:
			return "", full(name, rules) // an interface can be in no second one
		}
	}
}

// clusterBalancers are the names of those that there are, or that something is to be made in, sorted. Not all numbers need be there.
func (p *Provider) clusterBalancers(v *view, clusterID, scheme string) []string {
	start := strings.TrimSuffix(balancerName(clusterID, scheme, 1), "1")
	names := slices.Collect(maps.Keys(v.balancers))
	p.mu.Lock()
	names = slices.AppendSeq(names, maps.Keys(p.balancers))
	p.mu.Unlock()
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, start) })
	slices.Sort(names)
	return slices.Compact(names)
}

// full is the error of a part for which its balancer has no room. It cannot move: its address would be in two places.
func full(balancer string, rules int) error {
	if isLinked(balancer) {
		return cloud.Errorf(cloud.Quota, "balancer %s is full: it would have %d rules, and can have %d, and Azure has room for one such balancer only: "+
			"have Services with annotation %spls-create ask for fewer ports, or remove it from some", balancer, rules, maxRules, prefix)
	}
	return cloud.Errorf(cloud.Quota, "balancer %s is full: it would have %d rules, and can have %d: have the Service, or its group, ask for fewer ports, "+
		"or move some to another Service, which gets another balancer; deleted and made anew, this one does, too", balancer, rules, maxRules)
}

// submitRules asks for a Service's part to be as desired.
func (p *Provider) submitRules(ctx context.Context, v *view, owner cloud.Owner, desired cloud.Resource) error {
	at := p.config.locate(desired.ID)
	balancer := at.balancer
	if balancer == "" {
		return cloud.Errorf(cloud.NotFound, "%s is no part of a balancer", desired.ID)
	}
	w := p.writer(balancer)
	have := v.find(KindRules, desired.ID)
	if has(have, owner, desired) && !w.wants(changeKey(desired)) {
		cloud.Unsent(ctx)
		return nil
	}
	pt, err := partOf(owner, desired)
	if err != nil {
		return cloud.Errorf(cloud.UserError, "%w", err)
	}
	pt.name = at.part // which is of the frontend's name when it was made
	if pt.publicIP, err = p.publicIP(ctx, v, pt, desired); err != nil {
		return err
	}
	want := desired
	want.Owners = []cloud.OwnerID{owner.ID()}
	return w.submit(ctx, &change[armnetwork.LoadBalancer]{key: changeKey(want), owner: owner.ID(), want: want, rules: len(pt.rules),
		apply: func(lb *armnetwork.LoadBalancer) (bool, error) {
			if lb.Tags == nil {
				lb.Tags = map[string]*string{}
			}
			switch of, made := tag(lb.Tags, tagCluster), lb.ID != nil; {
			case !made:
				lb.Tags[tagCluster] = new(owner.ClusterID)
			case of != owner.ClusterID:
				return false, cloud.Errorf(cloud.Conflict, "the load balancer %s is not this cluster's", balancer)
			}
			if pt.family == familyKey(cloud.IPv6) && p.config.frontendNamed(lb, pt.frontend) < 0 && !v.families(lb)[familyKey(cloud.IPv4)] {
				return false, p.lacksIPv4(v, owner, balancer)
			}
			if more := pt.adds(lb); more > 0 {
				if after := len(lb.Properties.LoadBalancingRules) + more; after > maxRules {
					return false, full(balancer, after)
				}
				if after := p.elsewhere(owner.ClusterID, balancer) + allRules(lb) + more; after > p.maxLoad {
					return false, crowded(after)
				}
			}
			pt.put(p.config, lb)
			return true, nil
		}})
}

// lacksIPv4 is the error of a part of IPv6 on a balancer that has no frontend of IPv4: it waits for the owner's, or tells that none comes.
func (p *Provider) lacksIPv4(v *view, owner cloud.Owner, balancer string) error {
	four := map[string]bool{} // kinds of what the owner has
	of := v.resources()
	for _, n := range of.byOwner[owner.ID()] {
		if of.all[n].Key == familyKey(cloud.IPv4) {
			four[of.all[n].Kind] = true
		}
	}
	class := cloud.Conflict
	if p.writer(balancer).comes(familyKey(cloud.IPv4), owner.ID()) || four[KindPublicIP] && !four[KindRules] {
		class = cloud.Pending
	}
	return cloud.Errorf(class, "balancer %s has no address of IPv4 yet, without which Azure refuses those of IPv6: have this Service, or another one, ask for both families there", balancer)
}

// publicIP returns the id of the public address of a part's frontend; empty: it is internal.
func (p *Provider) publicIP(ctx context.Context, v *view, pt *part, desired cloud.Resource) (string, error) {
	switch pt.source.mode() {
	case 'i':
		return "", nil
	case 'n':
		group, name, _ := strings.Cut(pt.source.named, "/")
		id := p.config.publicIPID(group, name)
		ip := v.addresses[folded(id)]
		if ip != nil && tag(ip.Tags, tagCluster) != "" {
			// It goes with the Service that has it, and would be another's as soon as that one lets go of it.
			return "", cloud.Errorf(cloud.Conflict, "annotation %spip-name: the public address %s is that of Service %s: name one of your own",
				prefix, name, tag(ip.Tags, tagService))
		}
		return id, usable(ip)
	case 'a':
		group := cmp.Or(pt.source.group, p.config.ResourceGroup)
		ip, err := p.addressIn(ctx, v, group, pt.source.address)
		if err != nil {
			return "", err
		}
		return p.config.publicIPID(group, value(ip.Name)), usable(ip)
	}
	for _, dep := range desired.DependsOn {
		if dep.Kind == KindPublicIP && dep.ID != "" {
			return dep.ID, nil
		}
	}
	return "", waiting(desired.Name())
}

// addressIn is somebody's public address in a resource group, by what it is, rather than by its name. Those of other groups than the
// configuration's are in no view unless a frontend has them, and are listed.
func (p *Provider) addressIn(ctx context.Context, v *view, group, address string) (*armnetwork.PublicIPAddress, error) {
	there := slices.Collect(maps.Values(v.addresses))
	if !same(group, p.config.ResourceGroup) {
		var err error
		if there, err = p.network.PublicIPs(ctx, group); err != nil && !hasStatus(err, http.StatusNotFound) {
			return nil, err
		}
	}
	for _, ip := range there {
		if canonical(value(ip.Properties.IPAddress)) == address && tag(ip.Tags, tagCluster) == "" && same(groupOf(value(ip.ID)), group) {
			return ip, nil
		}
	}
	return nil, cloud.Errorf(cloud.UserError, "resource group %s has no public address %s of its own", group, address)
}

// usable is an error where somebody's public address, which may be nil, is one with which Azure refuses the whole balancer, for all Services.
func usable(ip *armnetwork.PublicIPAddress) error {
	if ip == nil || stateOf(ip.Properties.ProvisioningState) != cloud.StateFailed {
		return nil
	}
	return cloud.Errorf(cloud.Conflict, "the last change of the public address %s has failed, and Azure lets no balancer have it so: change it again, such as a tag of it", value(ip.Name))
}

// blamed is what Azure answered to a balancer; where it waits in vain for somebody's public address, which that Service's frontend has already,
// what is to be done, for who asked for it, whoever that is.
func (p *Provider) blamed(lb *armnetwork.LoadBalancer, err error) error {
	if lb == nil || refusalOf(err) == nil || !isClass(err, cloud.Pending) {
		return err
	}
	for _, f := range lb.Properties.FrontendIPConfigurations {
		if f.Properties == nil || f.Properties.PublicIPAddress == nil {
			continue
		}
		ip := p.knownAddress(value(f.Properties.PublicIPAddress.ID))
		if failed := usable(ip); failed != nil && tag(ip.Tags, tagCluster) == "" {
			return cloud.Errorf(cloud.Conflict, "frontend %s of balancer %s: %w", value(f.Name), value(lb.Name), failed)
		}
	}
	return err
}

func (p *Provider) deleteRules(ctx context.Context, v *view, owner cloud.Owner, observed cloud.Resource) error {
	at := p.config.locate(observed.ID)
	if at.frontend != "" {
		return p.deleteHeld(ctx, v, owner, observed)
	}
	if at.balancer == "" {
		return nil
	}
	w := p.writer(at.balancer)
	if v.find(KindRules, observed.ID) == nil {
		if !w.withdraw(changeKey(observed)) && w.wants(changeKey(observed)) {
			return waiting(observed.Name()) // it is being written now
		}
		cloud.Unsent(ctx)
		return nil
	}
	return w.submit(ctx, &change[armnetwork.LoadBalancer]{key: changeKey(observed), owner: owner.ID(), want: observed, gone: true,
		apply: func(lb *armnetwork.LoadBalancer) (bool, error) {
			if tag(lb.Tags, tagCluster) != owner.ClusterID {
				return false, nil
			}
			return v.dropAlone(lb, at.part)
		}})
}
