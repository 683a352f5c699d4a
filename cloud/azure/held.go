package azure

import (
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
func (v *view) observedHeld(lb *armnetwork.LoadBalancer) []cloud.Resource {
	var all []cloud.Resource
	for name, text := range lb.Tags {
		frontend, ok := strings.CutPrefix(name, tagPart)
		h, read := parseHolding(value(text))
		if !ok || !read {
			continue
		}
		if r, there := v.frontendPart(lb, frontend, h.owner(), h.key, h.how != lent); there {
			h.mark(&r, r.ID)
			all = append(all, r)
		}
	}
	return all
}

// frontendPart is a frontend of somebody else's balancer as the part of an owner, with all rules that were made for the owner, or
// else with those that send to the owner's pool; false: there is no such frontend.
func (v *view) frontendPart(lb *armnetwork.LoadBalancer, frontend string, owner cloud.Owner, key string, whole bool) (cloud.Resource, bool) {
	i := slices.IndexFunc(lb.Properties.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return same(value(f.Name), frontend) })
	if i < 0 || lb.Properties.FrontendIPConfigurations[i].Properties == nil {
		return cloud.Resource{}, false
	}
	pool := heldPool(owner, key)
	r := cloud.Resource{Kind: KindRules, Key: key, ID: v.config.frontendID(value(lb.Name), frontend), HasTargets: true,
		Targets: poolTargets(lb, pool), State: cloud.StateReady, Attributes: map[string]string{"provisioned": "true"}}
	switch state := stateOf(lb.Properties.ProvisioningState); state {
	case cloud.StateDeleting:
		r.State = state
	case cloud.StateFailed:
		r.Attributes["provisioned"] = "false"
	}
	probes := probesOf(lb)
	var ports []string
	for _, rule := range lb.Properties.LoadBalancingRules {
		own := refers(rule.Properties.BackendAddressPool, pool)
		if !refers(rule.Properties.FrontendIPConfiguration, frontend) || !own && (!whole || !isNamedFor(owner, rule)) {
			continue
		}
		port := heldKey(rule)
		ports = append(ports, port)
		keepRule(r.Attributes, port, observedRule(probes, port, rule))
		if !own {
			r.Attributes[port] += " elsewhere"
			delete(r.Attributes, probeOf(port))
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
	ip := v.addresses[folded(id)]
	switch {
	case ip == nil:
		if parts := strings.Split(id, "/"); len(parts) == 9 {
			return source{named: parts[4] + "/" + parts[8]}
		}
		return source{named: id}
	case whole && tag(ip.Tags, tagCluster) == "" && tag(ip.Tags, tagUpstream) == "":
		// The other controller did not make it: the Service asked for one of somebody's.
		somebodys(r, ip)
		return source{address: canonical(value(ip.Properties.IPAddress))}
	}
	r.DependsOn = []cloud.Ref{{Kind: KindPublicIP, Key: r.Key, ID: value(ip.ID)}}
	return source{}
}

// familyOf is the family of a frontend, as keys have it.
func familyOf(v *view, f *armnetwork.FrontendIPConfiguration) string {
	version := value(f.Properties.PrivateIPAddressVersion)
	if f.Properties.PublicIPAddress != nil {
		version = ""
		if ip := v.addresses[folded(value(f.Properties.PublicIPAddress.ID))]; ip != nil {
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

// addressHolding is how a public address is held, and with which frontend; empty: it is not.
func (c Config) addressHolding(ip *armnetwork.PublicIPAddress) (how, anchor string) {
	how, where, _ := strings.Cut(tag(ip.Tags, tagAdopted), " ")
	if balancer, frontend, found := strings.Cut(where, "/"); found {
		anchor = c.frontendID(balancer, frontend)
	}
	return how, anchor
}
