package azure

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// This file is about parts of balancers that somebody else made: frontends that were adopted, with the rules on them. Such a
// part is marked by a tag of the balancer, tagPart and the frontend's name; its id is the frontend's; and it has a backend pool
// of its own, by which its rules are known, since the balancer's other pools are somebody else's.

// tagPart, and the name of a frontend, is the mark of a part that is held. Its value is a holding.
const tagPart = tagPrefix + "part-"

// How a part, or an address, is held.
const (
	lent    = "lent"    // it stays somebody else's: of its rules those that the Service wants are its part
	claimed = "claimed" // taken over, and more is to follow
	taken   = "taken"   // taken over, with all rules that were made for the Service
)

// maxTags of one thing.
const maxTags = 50

// holding is whose a part is, and how.
type holding struct {
	clusterID, uid, key, how string
}

func (h holding) String() string {
	return strings.Join([]string{h.clusterID, h.uid, h.key, h.how}, "/")
}

func parseHolding(text string) (holding, bool) {
	parts := strings.Split(text, "/")
	n := len(parts)
	if n < 4 {
		return holding{}, false
	}
	return holding{clusterID: strings.Join(parts[:n-3], "/"), uid: parts[n-3], key: parts[n-2], how: parts[n-1]}, true
}

// holdingOf is how the owner is to hold the resource.
func holdingOf(owner cloud.Owner, r cloud.Resource) holding {
	h := holding{clusterID: owner.ClusterID, uid: owner.ServiceUID, key: r.Key, how: taken}
	switch {
	case r.Lent:
		h.how = lent
	case r.Adopted != "":
		h.how = claimed
	}
	return h
}

func (h holding) owner() cloud.Owner { return cloud.Owner{ClusterID: h.clusterID, ServiceUID: h.uid} }

// mark writes into an observed resource what its mark says.
func (h holding) mark(r *cloud.Resource, anchor string) {
	r.Owners, r.Lent = []cloud.OwnerID{h.owner().ID()}, h.how == lent
	switch h.how {
	case lent:
		r.Adopted = anchor
	case claimed:
		r.Adopted = r.ID
	}
}

// observedHeld are the parts of a balancer that are held.
func (p *Provider) observedHeld(v *view, lb *armnetwork.LoadBalancer) []cloud.Resource {
	var all []cloud.Resource
	for name, text := range lb.Tags {
		frontend, ok := strings.CutPrefix(name, tagPart)
		h, read := parseHolding(value(text))
		if !ok || !read {
			continue
		}
		if r, there := p.frontendPart(v, lb, frontend, h.owner(), h.key, h.how != lent); there {
			h.mark(&r, r.ID)
			all = append(all, r)
		}
	}
	return all
}

// frontendPart is a frontend of somebody else's balancer as the part of an owner, with all rules that were made for the owner, or
// else with those that send to the owner's pool; false: there is no such frontend.
func (p *Provider) frontendPart(v *view, lb *armnetwork.LoadBalancer, frontend string, owner cloud.Owner, key string, whole bool) (cloud.Resource, bool) {
	i := slices.IndexFunc(lb.Properties.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return value(f.Name) == frontend })
	if i < 0 || lb.Properties.FrontendIPConfigurations[i].Properties == nil {
		return cloud.Resource{}, false
	}
	pool := heldPool(owner, key)
	r := cloud.Resource{Kind: KindRules, Key: key, ID: p.config.frontendID(value(lb.Name), frontend), HasTargets: true,
		Targets: poolTargets(lb, pool), State: cloud.StateReady, Attributes: map[string]string{"provisioned": "true"}}
	switch state := stateOf(lb.Properties.ProvisioningState); state {
	case cloud.StateDeleting:
		r.State = state
	case cloud.StateFailed:
		r.Attributes["provisioned"] = "false"
	}
	var ports []string
	for _, rule := range lb.Properties.LoadBalancingRules {
		own := lastOf(rule.Properties.BackendAddressPool) == pool
		if lastOf(rule.Properties.FrontendIPConfiguration) != frontend || !own && (!whole || !isNamedFor(owner, rule)) {
			continue
		}
		port := heldKey(rule)
		ports = append(ports, port)
		r.Attributes[port] = observedRule(lb, port, rule)
		if !own {
			r.Attributes[port] += " elsewhere"
		}
	}
	r.Attributes["ports"] = cloud.List(ports)
	s := v.heldSource(&r, lb.Properties.FrontendIPConfigurations[i].Properties, whole)
	r.Attributes["source"], r.Attributes["frontend"] = s.String(), frontendName(owner, familyOf(v, lb.Properties.FrontendIPConfigurations[i]), s)
	return r, true
}

// heldSource says what a frontend is made of as Desired would, and adds its address, or what that comes from.
func (v *view) heldSource(r *cloud.Resource, f *armnetwork.FrontendIPConfigurationPropertiesFormat, whole bool) source {
	if f.PublicIPAddress == nil {
		s := internalSource(f)
		if address := value(f.PrivateIPAddress); address != "" {
			r.Ingress = []cloud.Ingress{{IP: address}}
		}
		return s
	}
	id := value(f.PublicIPAddress.ID)
	ip := v.addresses[strings.ToLower(id)]
	switch {
	case ip == nil:
		if parts := strings.Split(id, "/"); len(parts) == 9 {
			return source{named: parts[4] + "/" + parts[8]}
		}
		return source{named: id}
	case whole && tag(ip.Tags, tagCluster) == "" && tag(ip.Tags, tagUpstream) == "":
		// The other controller did not make it: the Service asked for one of somebody's.
		r.Ingress = []cloud.Ingress{{IP: value(ip.Properties.IPAddress)}}
		return source{address: value(ip.Properties.IPAddress)}
	}
	r.DependsOn = []cloud.Ref{{Kind: KindPublicIP, Key: r.Key, ID: value(ip.ID)}}
	return source{}
}

// familyOf is the family of a frontend, as keys have it.
func familyOf(v *view, f *armnetwork.FrontendIPConfiguration) string {
	version := value(f.Properties.PrivateIPAddressVersion)
	if f.Properties.PublicIPAddress != nil {
		version = ""
		if ip := v.addresses[strings.ToLower(value(f.Properties.PublicIPAddress.ID))]; ip != nil {
			version = value(ip.Properties.PublicIPAddressVersion)
		}
	}
	if version == armnetwork.IPVersionIPv6 {
		return familyKey(cloud.IPv6)
	}
	return familyKey(cloud.IPv4)
}

func heldPool(owner cloud.Owner, key string) string { return "fl-" + owner.ServiceUID + "-" + key }

// idlePool is where rules send to that were lent and that the Service has no use for any more. It has no addresses.
func idlePool(owner cloud.Owner, key string) string { return heldPool(owner, key) + "-idle" }

// isNamedFor reports whether a rule was made for the owner by its name, be it by the other controller, which puts rules of several
// Services on a frontend where they use one address.
func isNamedFor(owner cloud.Owner, r *armnetwork.LoadBalancingRule) bool {
	name := value(r.Name)
	return strings.HasPrefix(name, upstreamName(owner)+"-") || strings.HasPrefix(name, "fl-"+owner.ServiceUID+"-")
}

// heldKey is the key of a rule by what it is for, since its name is somebody else's.
func heldKey(r *armnetwork.LoadBalancingRule) string {
	return strings.ToLower(string(value(r.Properties.Protocol))) + "-" + itoa(value(r.Properties.FrontendPort))
}

// submitHeld asks for a part that is held, or is to be, to be as desired: marked, changed, or let go.
func (p *Provider) submitHeld(ctx context.Context, v *view, owner cloud.Owner, observed, desired cloud.Resource) error {
	at := p.config.locate(desired.ID)
	w := p.writer(at.balancer)
	key := changeKey(desired)
	adopts := slices.Contains(desired.Owners, owner.ID()) && !slices.Contains(observed.Owners, owner.ID())
	have := v.find(KindRules, desired.ID)
	marked := have != nil && slices.Contains(have.Owners, owner.ID())
	if !adopts && !marked && w.holds(key) {
		cloud.Unsent(ctx)
		return waiting(desired.Name()) // a mark that is still to be written is not to be replaced by what needs it
	}
	mine := slices.Contains(desired.Owners, owner.ID())
	done := mine && has(have, owner, desired) && have.Adopted == desired.Adopted && have.Lent == desired.Lent ||
		!mine && !marked
	if done && !w.wants(key) {
		cloud.Unsent(ctx)
		return nil
	}
	content := mine && !maps.Equal(observed.Attributes, desired.Attributes)
	pt := &part{} // what is marked or let go may have rules that no Service can ask for
	if content {
		var err error
		if pt, err = partOf(owner, desired); err != nil {
			return cloud.Errorf(cloud.UserError, "%w", err)
		}
	}
	pt.hold(owner, desired, at)
	return w.submit(ctx, &change[armnetwork.LoadBalancer]{key: key, owner: owner.ID(), want: desired, rules: len(pt.rules), marks: adopts,
		apply: func(lb *armnetwork.LoadBalancer) (bool, error) {
			before, there := parseHolding(tag(lb.Tags, tagPart+at.frontend))
			switch own := there && before.owner().ID() == owner.ID(); {
			case !mine && !own:
				return false, nil
			case !mine:
				delete(lb.Tags, tagPart+at.frontend)
				pt.letGo(lb)
				return true, nil
			case there && !own:
				return false, cloud.Errorf(cloud.Conflict, "the frontend %s is another Service's meanwhile", desired.ID)
			case !there && !adopts:
				return false, cloud.Errorf(cloud.Conflict, "the frontend %s is not this Service's any more", desired.ID)
			case !slices.ContainsFunc(lb.Properties.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return value(f.Name) == at.frontend }):
				return false, cloud.Errorf(cloud.Conflict, "the frontend %s is gone", desired.ID)
			case !there && len(lb.Tags) >= maxTags:
				return false, cloud.Errorf(cloud.Quota, "balancer %s has %d tags, which is all that it can have, and each frontend that is adopted takes one: remove some", at.balancer, maxTags)
			}
			if content {
				if err := pt.putHeld(p.config, lb); err != nil {
					return false, err
				}
			}
			if lb.Tags == nil {
				lb.Tags = map[string]*string{}
			}
			lb.Tags[tagPart+at.frontend] = new(holdingOf(owner, desired).String())
			return true, nil
		}})
}

func (p *Provider) deleteHeld(ctx context.Context, v *view, owner cloud.Owner, observed cloud.Resource) error {
	at := p.config.locate(observed.ID)
	w := p.writer(at.balancer)
	if have := v.find(KindRules, observed.ID); have == nil || !slices.Contains(have.Owners, owner.ID()) {
		if w.wants(changeKey(observed)) && !w.withdraw(changeKey(observed)) {
			return waiting(observed.Name())
		}
		cloud.Unsent(ctx)
		return nil
	}
	pt := &part{}
	pt.hold(owner, observed, at)
	return w.submit(ctx, &change[armnetwork.LoadBalancer]{key: changeKey(observed), owner: owner.ID(), want: observed, gone: true,
		apply: func(lb *armnetwork.LoadBalancer) (bool, error) {
			h, there := parseHolding(tag(lb.Tags, tagPart+at.frontend))
			if !there || h.owner().ID() != owner.ID() || h.how == lent {
				return false, nil
			}
			delete(lb.Tags, tagPart+at.frontend)
			pt.rules, pt.probes = nil, nil
			if err := pt.putHeld(p.config, lb); err != nil {
				return false, err
			}
			pt.dropFrontend(lb)
			return true, nil
		}})
}

// addressHolding is how a public address is held, and with which frontend; empty: it is not.
func (c Config) addressHolding(ip *armnetwork.PublicIPAddress) (how, anchor string) {
	how, where, _ := strings.Cut(tag(ip.Tags, tagAdopted), " ")
	if balancer, frontend, found := strings.Cut(where, "/"); found {
		anchor = c.frontendID(balancer, frontend)
	}
	return how, anchor
}

// holdAddress marks an address for a Service, or as nobody's of ours.
func (p *Provider) holdAddress(ip *armnetwork.PublicIPAddress, owner cloud.Owner, observed, desired cloud.Resource) error {
	for _, id := range ownersOf(ip.Tags) {
		if id != owner.ID() {
			return cloud.Errorf(cloud.Conflict, "the public address %s is another's meanwhile", value(ip.Name))
		}
	}
	if len(desired.Owners) == 0 {
		for _, name := range []string{tagCluster, tagKey, tagService, tagAdopted, tagTags, tagLabel, tagOwner + owner.ServiceUID} {
			delete(ip.Tags, name)
		}
		return nil
	}
	if len(observed.Owners) > 0 && len(ownersOf(ip.Tags)) == 0 {
		return cloud.Errorf(cloud.Conflict, "the public address %s is nobody's of ours any more", value(ip.Name))
	}
	ip.Tags[tagCluster], ip.Tags[tagKey] = new(owner.ClusterID), new(desired.Key)
	ip.Tags[tagService], ip.Tags[tagOwner+owner.ServiceUID] = new(owner.Namespace+"/"+owner.Name), new(owner.ClusterID)
	at := p.config.locate(desired.Adopted)
	ip.Tags[tagAdopted] = new(holdingOf(owner, desired).how + " " + at.balancer + "/" + at.frontend)
	return nil
}

// isHeld reports whether a resource is, was or is to be somebody else's, which an Update says.
func isHeld(observed, desired cloud.Resource) bool {
	return !desired.Shared && (observed.Adopted != desired.Adopted || observed.Lent != desired.Lent || len(observed.Owners) == 0 || len(desired.Owners) == 0)
}
