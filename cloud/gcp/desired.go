package gcp

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// Kinds of resources. The package comment says what each is for.
const (
	KindAddress        = "Address"
	KindHealthCheck    = "HealthCheck"
	KindEndpointGroup  = "NetworkEndpointGroup"
	KindBackendService = "BackendService"
	KindForwardingRule = "ForwardingRule"
	KindFirewall       = "Firewall"
)

// keyMain is the key of what there is one of.
const keyMain = "main"

// Names of attributes that more than one place needs.
const (
	attrFamily       = "family"
	attrScheme       = "scheme"
	attrTier         = "tier"
	attrSubnetwork   = "subnetwork"
	attrNetwork      = "network"
	attrAddresses    = "addresses"
	attrIP           = "ip"
	attrUsers        = "userAddress"
	attrReserved     = "reserved"
	attrProtocol     = "protocol"
	attrPorts        = "ports"
	attrGlobalAccess = "globalAccess"
	attrDestination  = "destination"
	attrSources      = "sources"
	attrAllowed      = "allowed"
	attrTags         = "tags"
	attrZone         = "zone"
	attrGroups       = "instanceGroups"
	attrAffinity     = "affinity"
	attrWeighted     = "weighted"
	attrStrong       = "strongAffinitySeconds"
	attrDraining     = "drainingSeconds"
	attrTakes        = "takes" // and a rule's protocol
	attrPort         = "port"
	attrPath         = "path"
	attrTiming       = "timing"
)

const (
	// maxRules of one address and Service: each costs money. An internal address takes 10, and new ones come before old ones
	// go, so that half of them is for the others. Only of IPv4 there are addresses that are known to be for several rules
	// (SHARED_LOADBALANCER_VIP): of IPv6, an internal balancer has one rule for all ports, whatever they are.
	maxRules         = 10
	maxInternalRules = 5
	// allPorts and anyProtocol are the ports and the protocol of the rule that stands for all of them.
	allPorts    = "all"
	anyProtocol = "L3_DEFAULT"
	// atBalancer is the destination of a firewall rule that lets traffic to the balancer's address pass, and no other.
	atBalancer = "balancer"
	// timing of health checks: interval, timeout, passed checks, failed checks.
	timing = "8,1,1,3"
)

// Health checks come from these ranges, of either scheme: a balancer that may not be replaced by one of the other scheme goes
// on to be checked.
var healthRanges = map[cloud.Family][]string{
	cloud.IPv4: {"130.211.0.0/22", "35.191.0.0/16", "209.85.152.0/22", "209.85.204.0/22"},
	cloud.IPv6: {"2600:1901:8001::/48", "2600:2d00:1:b029::/64"},
}

// Desired implements cloud.Provider.
func (p *Provider) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	s, wrong := readSettings(&p.config, &spec)
	check := healthCheck(&spec)
	balancer := cloud.Resource{Kind: KindBackendService, Key: keyMain, Fixed: true,
		Attributes: map[string]string{
			attrScheme: s.scheme, attrAffinity: "NONE", attrWeighted: strconv.FormatBool(s.weighted), attrStrong: strconv.Itoa(s.strongSeconds),
			attrDraining: strconv.Itoa(s.draining), attrGroups: cloud.List(s.instanceGroups),
		},
		Immutable: []string{attrScheme},
		DependsOn: []cloud.Ref{{Kind: KindHealthCheck, Key: check.Key}},
	}
	if spec.AffinitySeconds > 0 {
		balancer.Attributes[attrAffinity] = "CLIENT_IP"
	}
	resources := []cloud.Resource{check}
	if len(s.instanceGroups) == 0 {
		// Those of whoever had it before are not kept, and cannot stand beside ours.
		balancer.Follows = []string{attrGroups}
		groups := p.endpointGroups(&spec)
		for i := range groups {
			balancer.DependsOn = append(balancer.DependsOn, cloud.Ref{Kind: KindEndpointGroup, Key: groups[i].Key})
		}
		resources = append(resources, groups...)
	}
	for _, family := range spec.Families {
		resources = append(resources, p.familyResources(&spec, &s, family)...)
	}
	for i := range resources {
		// One that we make takes every protocol, one that others made mostly one, and rules of no other.
		if takes := attrTakes + resources[i].Attributes[attrProtocol]; takes != attrTakes && balancer.Attributes[takes] == "" {
			balancer.Attributes[takes] = "true"
			balancer.Immutable = append(balancer.Immutable, takes)
		}
	}
	return append(resources, balancer), wrong
}

// healthCheck asks the port that tells of the Service's own Pods under Local; else the node's proxy: one check is for all of
// a balancer's ports.
func healthCheck(spec *cloud.Spec) cloud.Resource {
	port, path := int32(cloud.HealthzPort), cloud.HealthzPath
	if spec.LocalOnly && len(spec.Ports) > 0 {
		port, path = spec.Ports[0].HealthCheck.Port, spec.Ports[0].HealthCheck.Path
	}
	return cloud.Resource{Kind: KindHealthCheck, Key: keyMain, Follows: []string{attrPort, attrPath},
		Attributes: map[string]string{attrPort: strconv.Itoa(int(port)), attrPath: path, attrTiming: timing}}
}

// endpointGroups returns one for each zone that has nodes, sorted by zone. All Services have the same nodes, and so the same
// groups.
func (p *Provider) endpointGroups(spec *cloud.Spec) []cloud.Resource {
	byZone := map[string][]cloud.Target{}
	for _, node := range spec.Nodes {
		if zone, instance, ok := p.config.instanceOf(node.ProviderID); ok {
			byZone[zone] = append(byZone[zone], cloud.Target{ID: instance})
		}
	}
	var groups []cloud.Resource
	for zone, targets := range byZone {
		slices.SortFunc(targets, func(a, b cloud.Target) int { return cmp.Compare(a.ID, b.ID) })
		groups = append(groups, cloud.Resource{Kind: KindEndpointGroup, Key: zone, Shared: true, HasTargets: true, Targets: slices.Compact(targets),
			Attributes: map[string]string{attrZone: zone, attrNetwork: p.config.Network, attrSubnetwork: p.config.Subnetwork},
			Immutable:  []string{attrZone, attrNetwork, attrSubnetwork}})
	}
	slices.SortFunc(groups, func(a, b cloud.Resource) int { return cmp.Compare(a.Key, b.Key) })
	return groups
}

// instanceOf reads a node's provider id, gce://PROJECT/ZONE/INSTANCE; false for a machine that is not of the region.
func (c *Config) instanceOf(providerID string) (zone, instance string, ok bool) {
	rest, ok := strings.CutPrefix(providerID, "gce://")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || parts[0] != c.Project || !strings.HasPrefix(parts[1], c.Region+"-") || !isName(parts[2]) {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// familyResources are the address, the rules and the firewalls of one family.
func (p *Provider) familyResources(spec *cloud.Spec, s *settings, family cloud.Family) []cloud.Resource {
	key := strings.ToLower(string(family))
	asked, value := s.addressOf(family)
	place := map[string]string{attrFamily: string(family), attrScheme: s.scheme, attrTier: s.tier, attrSubnetwork: s.subnetwork, asked: value}
	if s.scheme == schemeExternal && family == cloud.IPv4 {
		place[attrSubnetwork] = ""
	}
	fixed := slices.Sorted(maps.Keys(place))
	address := cloud.Resource{Kind: KindAddress, Key: key, Fixed: true, Attributes: maps.Clone(place), Immutable: fixed}
	if asked == attrIP {
		address.Attributes[attrReserved] = "true"
		if s.scheme == schemeExternal { // before what has it is replaced, or it would be lost with that
			address.Follows = []string{attrReserved}
		}
	}
	resources := []cloud.Resource{address}
	at := cloud.Ref{Kind: KindAddress, Key: key}
	most := maxRules
	switch {
	case s.scheme == schemeInternal && family == cloud.IPv6:
		most = 0
	case s.scheme == schemeInternal:
		most = maxInternalRules
	}
	for _, r := range rules(spec.Ports, key, most) {
		for name, value := range place {
			r.Attributes[name] = value
		}
		r.Attributes[attrGlobalAccess] = strconv.FormatBool(s.globalAccess)
		r.Immutable = append([]string{attrProtocol, attrPorts}, fixed...)
		r.DependsOn = []cloud.Ref{{Kind: KindBackendService, Key: keyMain, Parent: true}, at}
		resources = append(resources, r)
	}
	if !p.config.managesFirewalls() {
		return resources
	}
	// One that lets traffic to the address pass is Fixed: it does so for as long as the rules may not have another address.
	firewall := func(name, allowed, destination string, sources []string, dependsOn ...cloud.Ref) {
		resources = append(resources, cloud.Resource{Kind: KindFirewall, Key: name + "-" + key, Fixed: destination == atBalancer, DependsOn: dependsOn,
			Attributes: map[string]string{attrFamily: string(family), attrNetwork: p.config.firewallNetwork(), attrAllowed: allowed,
				attrSources: cloud.List(sources), attrDestination: destination, attrTags: cloud.List(p.config.NodeTags)},
			Immutable: []string{attrFamily, attrNetwork}})
	}
	check := healthCheck(spec)
	firewall("health", "tcp:"+check.Attributes[attrPort], "", healthRanges[family])
	resources[len(resources)-1].Follows = []string{attrAllowed}
	// Without a range of its family nobody may connect, and there is no rule.
	if sources := sourceRanges(spec.SourceRanges, family); len(sources) > 0 {
		firewall("nodes", allowed(spec.Ports), atBalancer, sources, at)
	}
	return resources
}

// rules of one family: one for each port, or, of more than most, one for all. They are Fixed, since two of one address cannot have a port in
// common.
func rules(ports []cloud.Port, family string, most int) []cloud.Resource {
	if len(ports) > most {
		return []cloud.Resource{{Kind: KindForwardingRule, Key: allPorts + "-" + family, Fixed: true,
			Attributes: map[string]string{attrProtocol: anyProtocol, attrPorts: allPorts}}}
	}
	all := make([]cloud.Resource, 0, len(ports))
	for _, port := range ports {
		all = append(all, cloud.Resource{Kind: KindForwardingRule, Key: port.Key() + "-" + family, Fixed: true,
			Attributes: map[string]string{attrProtocol: port.Protocol, attrPorts: strconv.Itoa(int(port.Port))}})
	}
	return all
}

// allowed lists protocols and ports, as in "tcp:443,tcp:80".
func allowed(ports []cloud.Port) string {
	all := make([]string, len(ports))
	for i, port := range ports {
		all[i] = fmt.Sprintf("%s:%d", strings.ToLower(port.Protocol), port.Port)
	}
	return cloud.List(all)
}

// sourceRanges are those of a family; everyone where none are given at all.
func sourceRanges(prefixes []netip.Prefix, family cloud.Family) []string {
	if len(prefixes) == 0 {
		if family == cloud.IPv4 {
			return []string{"0.0.0.0/0"}
		}
		return []string{"::/0"}
	}
	var all []string
	for _, prefix := range prefixes {
		if prefix.Addr().Is4() == (family == cloud.IPv4) {
			all = append(all, prefix.String())
		}
	}
	return all
}
