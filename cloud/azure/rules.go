package azure

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// rule is one rule of a balancer, with its probe.
type rule struct {
	key             string // "tcp-80"
	protocol        string // TCP, UDP, All
	port, backend   int32
	floating, reset bool
	idle            int // minutes
	affinity        string
	probe           string // as probe.String, or "none"
}

// String is the canonical form, of which parseRule is the inverse.
func (r rule) String() string {
	return fmt.Sprintf("backend=%d floating=%t reset=%t idle=%d affinity=%s probe=%s", r.backend, r.floating, r.reset, r.idle, r.affinity, r.probe)
}

func parseRule(key, text string) (rule, error) {
	protocol, number, _ := strings.Cut(key, "-")
	r := rule{key: key, protocol: strings.ToUpper(protocol)}
	if protocol == "all" {
		r.protocol = "All"
	}
	port, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return r, fmt.Errorf("reading the port %q: %w", key, err)
	}
	r.port = int32(port)
	if _, err := fmt.Sscanf(text, "backend=%d floating=%t reset=%t idle=%d affinity=%s probe=%s",
		&r.backend, &r.floating, &r.reset, &r.idle, &r.affinity, &r.probe); err != nil {
		return r, fmt.Errorf("reading the rule %q: %w", text, err)
	}
	return r, nil
}

// A rule is kept in two attributes, since its probe follows the cluster.

// probeOf is the attribute of a rule's probe.
func probeOf(key string) string { return key + ".probe" }

const probeSeparator = " probe="

// keepRule writes a rule's text into attributes.
func keepRule(into map[string]string, key, text string) {
	rest, probe, whole := strings.Cut(text, probeSeparator)
	into[key] = rest
	if whole {
		into[probeOf(key)] = probe
	}
}

// keptRule is the text that keepRule wrote.
func keptRule(from map[string]string, key string) string {
	return from[key] + probeSeparator + from[probeOf(key)]
}

// probe is a health check.
type probe struct {
	protocol        string // tcp, http, https
	port            int32
	path            string
	interval, count int32
}

// String is the canonical form, of which parseProbe is the inverse.
func (p probe) String() string {
	return fmt.Sprintf("%s,%d,%d,%d,%s", p.protocol, p.port, p.interval, p.count, p.path)
}

func parseProbe(text string) (probe, error) {
	parts := strings.SplitN(text, ",", 5)
	if len(parts) != 5 {
		return probe{}, fmt.Errorf("reading the probe %q: it has %d parts", text, len(parts))
	}
	p := probe{protocol: parts[0], path: parts[4]}
	for i, into := range []*int32{&p.port, &p.interval, &p.count} {
		number, err := strconv.ParseInt(parts[i+1], 10, 32)
		if err != nil {
			return p, fmt.Errorf("reading the probe %q: %w", text, err)
		}
		*into = int32(number)
	}
	return p, nil
}

var probeProtocols = map[string]armnetwork.ProbeProtocol{
	"tcp": armnetwork.ProbeProtocolTCP, "http": armnetwork.ProbeProtocolHTTP, "https": armnetwork.ProbeProtocolHTTPS,
}

var ruleProtocols = map[string]armnetwork.TransportProtocol{
	"TCP": armnetwork.TransportProtocolTCP, "UDP": armnetwork.TransportProtocolUDP, "All": armnetwork.TransportProtocolAll,
}

// part is a Service's part of a balancer, as it is to be.
type part struct {
	name     string // what rules and probes begin with
	family   string
	frontend string
	source   source
	publicIP string // id, of a public frontend
	rules    []rule
	probes   []probe // of each rule; the zero value: none
	held     held    // of a part of somebody else's balancer
}

// partOf reads what a part is to be from a desired resource. publicIP is set by whoever knows it.
func partOf(owner cloud.Owner, desired cloud.Resource) (*part, error) {
	pt := &part{family: desired.Key, frontend: desired.Attributes["frontend"], source: parseSource(desired.Attributes["source"])}
	pt.name = partName(owner, desired.Key, pt.frontend)
	for _, key := range cloud.SplitList(desired.Attributes["ports"]) {
		r, err := parseRule(key, keptRule(desired.Attributes, key))
		if err != nil {
			return nil, err
		}
		var p probe
		if r.probe != "none" {
			if p, err = parseProbe(r.probe); err != nil {
				return nil, err
			}
		}
		pt.rules, pt.probes = append(pt.rules, r), append(pt.probes, p)
	}
	return pt, nil
}

// adds is how many rules the balancer has more once the part is in it.
func (pt *part) adds(lb *armnetwork.LoadBalancer) int {
	more := len(pt.rules)
	for _, r := range lb.Properties.LoadBalancingRules {
		if isOf(value(r.Name), pt.name) {
			more--
		}
	}
	return more
}

// put writes the part into a balancer.
func (pt *part) put(config Config, lb *armnetwork.LoadBalancer) {
	p := lb.Properties
	dropRules(p, pt.name)
	id := config.balancerID(*lb.Name)
	frontend := pt.wantedFrontend(config)
	if i := config.frontendNamed(lb, pt.frontend); i < 0 {
		p.FrontendIPConfigurations = append(p.FrontendIPConfigurations, frontend)
	} else {
		frontend.Name, frontend.Zones = p.FrontendIPConfigurations[i].Name, p.FrontendIPConfigurations[i].Zones // Azure lets zones be what they were
		if !sameFrontend(p.FrontendIPConfigurations[i], frontend) {
			p.FrontendIPConfigurations[i] = frontend
		}
	}
	pool := poolName(pt.family)
	if !slices.ContainsFunc(p.BackendAddressPools, func(b *armnetwork.BackendAddressPool) bool { return same(value(b.Name), pool) }) {
		p.BackendAddressPools = append(p.BackendAddressPools, &armnetwork.BackendAddressPool{Name: new(pool),
			Properties: &armnetwork.BackendAddressPoolPropertiesFormat{}})
	}
	for i, r := range pt.rules {
		name := pt.name + "-" + r.key
		made := r.made(name, id+frontendPath+value(frontend.Name), id+poolPath+pool)
		pt.addProbe(p, made, i, id, name)
		p.LoadBalancingRules = append(p.LoadBalancingRules, made)
	}
	prune(p)
}

// made is the rule as Azure has it, without a probe.
func (r rule) made(name, frontend, pool string) *armnetwork.LoadBalancingRule {
	return &armnetwork.LoadBalancingRule{Name: new(name), Properties: &armnetwork.LoadBalancingRulePropertiesFormat{
		Protocol: new(ruleProtocols[r.protocol]), FrontendPort: new(r.port), BackendPort: new(r.backend),
		FrontendIPConfiguration: &armnetwork.SubResource{ID: new(frontend)}, BackendAddressPool: &armnetwork.SubResource{ID: new(pool)},
		EnableFloatingIP: new(r.floating), EnableTCPReset: new(r.reset), IdleTimeoutInMinutes: new(int32(r.idle)),
		LoadDistribution: new(armnetwork.LoadDistribution(r.affinity)), DisableOutboundSnat: new(true),
	}}
}

// addProbe adds the probe of the part's i-th rule, if it has one.
func (pt *part) addProbe(p *armnetwork.LoadBalancerPropertiesFormat, made *armnetwork.LoadBalancingRule, i int, balancer, name string) {
	if probe := pt.probes[i]; probe != probeZero {
		p.Probes = append(p.Probes, probe.made(name))
		made.Properties.Probe = &armnetwork.SubResource{ID: new(balancer + "/probes/" + name)}
	}
}

var probeZero probe

func (p probe) made(name string) *armnetwork.Probe {
	made := &armnetwork.Probe{Name: new(name), Properties: &armnetwork.ProbePropertiesFormat{Protocol: new(probeProtocols[p.protocol]),
		Port: new(p.port), IntervalInSeconds: new(p.interval), ProbeThreshold: new(p.count), NumberOfProbes: new(p.count)}}
	if p.path != "" {
		made.Properties.RequestPath = new(p.path)
	}
	return made
}

func (pt *part) wantedFrontend(config Config) *armnetwork.FrontendIPConfiguration {
	f := &armnetwork.FrontendIPConfiguration{Name: new(pt.frontend), Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{}}
	if !pt.source.internal {
		f.Properties.PublicIPAddress = &armnetwork.PublicIPAddress{ID: new(pt.publicIP)}
		return f
	}
	f.Zones = pointers(config.InternalZones)
	f.Properties.Subnet = &armnetwork.Subnet{ID: new(config.subnetID(pt.source.subnet))}
	f.Properties.PrivateIPAllocationMethod = new(armnetwork.IPAllocationMethodDynamic)
	f.Properties.PrivateIPAddressVersion = new(armnetwork.IPVersionIPv4)
	if pt.family == familyKey(cloud.IPv6) {
		f.Properties.PrivateIPAddressVersion = new(armnetwork.IPVersionIPv6)
	}
	if pt.source.address != "" {
		f.Properties.PrivateIPAllocationMethod, f.Properties.PrivateIPAddress = new(armnetwork.IPAllocationMethodStatic), new(pt.source.address)
	}
	return f
}

// sameFrontend reports whether a frontend that is there is as it is to be, whatever address it was given.
func sameFrontend(have, want *armnetwork.FrontendIPConfiguration) bool {
	h, w := have.Properties, want.Properties
	id := func(ip *armnetwork.PublicIPAddress) string {
		if ip == nil {
			return ""
		}
		return folded(value(ip.ID))
	}
	subnet := func(s *armnetwork.Subnet) string {
		if s == nil {
			return ""
		}
		return folded(value(s.ID))
	}
	return h != nil && id(h.PublicIPAddress) == id(w.PublicIPAddress) && subnet(h.Subnet) == subnet(w.Subnet) &&
		(w.PrivateIPAddress == nil || canonical(value(h.PrivateIPAddress)) == *w.PrivateIPAddress)
}

// dropAlone is drop, but for what would leave frontends of IPv6 alone.
func (v *view) dropAlone(lb *armnetwork.LoadBalancer, name string) (bool, error) {
	before := v.families(lb)
	if !before[familyKey(cloud.IPv6)] || !before[familyKey(cloud.IPv4)] {
		return drop(lb, name), nil
	}
	left := deepcopy.Of(lb)
	dropped := drop(left, name)
	if after := v.families(left); after[familyKey(cloud.IPv6)] && !after[familyKey(cloud.IPv4)] {
		return false, cloud.Errorf(cloud.Pending, "balancer %s would have addresses of IPv6 alone, which Azure refuses: it goes once those have gone, or another Service "+
			"has one of IPv4 there", value(lb.Name))
	}
	lb.Properties = left.Properties
	return dropped, nil
}

// drop takes a part out of a balancer, and reports whether there was anything of it.
func drop(lb *armnetwork.LoadBalancer, name string) bool {
	if lb == nil || !dropRules(lb.Properties, name) {
		return false
	}
	prune(lb.Properties)
	return true
}

func dropRules(p *armnetwork.LoadBalancerPropertiesFormat, name string) bool {
	before := len(p.LoadBalancingRules) + len(p.Probes)
	p.LoadBalancingRules = slices.DeleteFunc(p.LoadBalancingRules, func(r *armnetwork.LoadBalancingRule) bool { return isOf(value(r.Name), name) })
	p.Probes = slices.DeleteFunc(p.Probes, func(r *armnetwork.Probe) bool { return isOf(value(r.Name), name) })
	return len(p.LoadBalancingRules)+len(p.Probes) != before
}

// prune takes away frontends and pools of ours, in a balancer of ours, that no rule uses any more.
func prune(p *armnetwork.LoadBalancerPropertiesFormat) {
	used, _ := users(p)
	p.FrontendIPConfigurations = slices.DeleteFunc(p.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool {
		return frontendPattern.MatchString(value(f.Name)) && !used[folded(value(f.Name))]
	})
	for _, family := range families {
		dropPool(p, poolName(familyKey(family)))
	}
}

// dropPool takes away the pool of that name, unless something uses it.
func dropPool(p *armnetwork.LoadBalancerPropertiesFormat, name string) {
	_, used := users(p)
	p.BackendAddressPools = slices.DeleteFunc(p.BackendAddressPools, func(b *armnetwork.BackendAddressPool) bool {
		return same(value(b.Name), name) && !used[folded(name)]
	})
}

// families are those of a balancer's frontends, as keys have them. Azure refuses a balancer that has frontends of IPv6 and none of IPv4.
func (v *view) families(lb *armnetwork.LoadBalancer) map[string]bool {
	has := map[string]bool{}
	for _, f := range lb.Properties.FrontendIPConfigurations {
		if m := frontendPattern.FindStringSubmatch(value(f.Name)); m != nil {
			has[m[1]] = true
		} else if f.Properties != nil {
			has[familyOf(v, f)] = true
		}
	}
	return has
}

// users are the frontends and pools, by folded names, that rules of whatever kind use, whoever's they are.
func users(p *armnetwork.LoadBalancerPropertiesFormat) (frontends, pools map[string]bool) {
	frontends, pools = map[string]bool{}, map[string]bool{}
	for _, r := range p.LoadBalancingRules {
		frontends[lastOf(r.Properties.FrontendIPConfiguration)] = true
		pools[lastOf(r.Properties.BackendAddressPool)] = true
	}
	for _, r := range p.OutboundRules {
		pools[lastOf(r.Properties.BackendAddressPool)] = true
		for _, f := range r.Properties.FrontendIPConfigurations {
			frontends[lastOf(f)] = true
		}
	}
	for _, r := range p.InboundNatRules {
		frontends[lastOf(r.Properties.FrontendIPConfiguration)] = true
		pools[lastOf(r.Properties.BackendAddressPool)] = true
	}
	for _, r := range p.InboundNatPools {
		frontends[lastOf(r.Properties.FrontendIPConfiguration)] = true
	}
	return frontends, pools
}

// lastOf is the name at the end of a reference, folded.
func lastOf(ref *armnetwork.SubResource) string {
	if ref == nil {
		return ""
	}
	return folded(lastPart(value(ref.ID)))
}

// refers reports whether a reference is to what has the name.
func refers(ref *armnetwork.SubResource, name string) bool { return lastOf(ref) == folded(name) }

func lastPart(id string) string { return id[strings.LastIndex(id, "/")+1:] }

// groupOf is the resource group in the id of a public address; empty: it is no such id.
func groupOf(id string) string {
	if parts := strings.Split(id, "/"); len(parts) == 9 {
		return parts[4]
	}
	return ""
}

// otherGroup is a resource group, or empty where it is the configuration's.
func (c Config) otherGroup(group string) string {
	if same(group, c.ResourceGroup) {
		return ""
	}
	return group
}

// value returns what a pointer points to; nil: the zero value.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

func (c Config) group(name string) string {
	return "/subscriptions/" + c.SubscriptionID + "/resourceGroups/" + name + "/providers/Microsoft.Network"
}

func (c Config) balancerID(name string) string {
	return c.group(c.ResourceGroup) + "/loadBalancers/" + name
}

func (c Config) publicIPID(group, name string) string {
	return c.group(group) + "/publicIPAddresses/" + name
}

func (c Config) networkID() string {
	return c.group(c.VnetResourceGroup) + "/virtualNetworks/" + c.VnetName
}

func (c Config) subnetID(name string) string { return c.networkID() + "/subnets/" + name }
