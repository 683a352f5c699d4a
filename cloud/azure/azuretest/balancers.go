package azuretest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// named is one item of a list of a resource.
type named interface {
	armnetwork.FrontendIPConfiguration | armnetwork.BackendAddressPool | armnetwork.Probe | armnetwork.LoadBalancingRule | armnetwork.SecurityRule
}

// checkNames refuses names that are none, or that an item before has, too.
func checkNames[T named](what string, items []*T, name func(*T) *string) *Refusal {
	seen := map[string]bool{}
	for _, item := range items {
		n := value(name(item))
		if !resourceName.MatchString(n) {
			return bad("InvalidResourceName", "name '%s' of one of %s is invalid: at most 80 letters, digits, dots, dashes and underscores", n, what)
		}
		if seen[key(n)] {
			return bad("DuplicateResourceName", "name '%s' occurs twice in %s", n, what)
		}
		seen[key(n)] = true
	}
	return nil
}

func acceptBalancer(c *Cloud, t, before *thing) *Refusal {
	lb := t.body.(*armnetwork.LoadBalancer)
	if r := checkResource(t.path.name, lb.Location, lb.Tags); r != nil {
		return r
	}
	if lb.SKU == nil || value(lb.SKU.Name) != armnetwork.LoadBalancerSKUNameStandard {
		return bad("BasicSkuLoadBalancerNotSupported", "load balancer %s must have the Standard SKU", t.path.name)
	}
	if lb.Properties == nil {
		lb.Properties = &armnetwork.LoadBalancerPropertiesFormat{}
	}
	p := lb.Properties
	if len(p.LoadBalancingRules) > c.options.MaxRules {
		return bad("LoadBalancingRulesCountLimitReached", "load balancer %s has %d rules, %d at most", t.path.name, len(p.LoadBalancingRules), c.options.MaxRules)
	}
	for _, r := range []*Refusal{
		checkNames("frontendIPConfigurations", p.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) *string { return f.Name }),
		checkNames("backendAddressPools", p.BackendAddressPools, func(b *armnetwork.BackendAddressPool) *string { return b.Name }),
		checkNames("probes", p.Probes, func(b *armnetwork.Probe) *string { return b.Name }),
		checkNames("loadBalancingRules", p.LoadBalancingRules, func(b *armnetwork.LoadBalancingRule) *string { return b.Name }),
	} {
		if r != nil {
			return r
		}
	}
	users := c.users()
	for _, f := range p.FrontendIPConfigurations {
		if r := c.checkFrontend(t, before, f, users); r != nil {
			return r
		}
	}
	if r := c.checkVersions(t); r != nil {
		return r
	}
	for _, pool := range p.BackendAddressPools {
		if r := checkPool(pool); r != nil {
			return r
		}
		if r := c.checkMembers(t, pool); r != nil {
			return r
		}
		if len(pool.Properties.LoadBalancerBackendAddresses) > 0 {
			if r := c.linked("virtualNetworks/joinLoadBalancer/action"); r != nil {
				return r
			}
		}
	}
	for _, probe := range p.Probes {
		if r := checkProbe(probe); r != nil {
			return r
		}
	}
	if r := checkRules(t, p); r != nil {
		return r
	}
	for _, r := range []*Refusal{c.keepMembers(t, before), c.checkLoad(t)} {
		if r != nil {
			return r
		}
	}
	return c.keepLinked(t, before)
}

// keepLinked refuses to take away a frontend that a private link service uses, and to make it one of a balancer that can have none.
func (c *Cloud) keepLinked(t, before *thing) *Refusal {
	if before == nil {
		return nil
	}
	for _, f := range before.body.(*armnetwork.LoadBalancer).Properties.FrontendIPConfigurations {
		id := childID(t, "frontendIPConfigurations", value(f.Name))
		user := c.linkedBy(id)
		switch {
		case user != "" && frontendOf(t, id) == nil:
			return bad("FrontendIPConfigInUseByPrivateLinkService", "frontend %s is used by %s", id, user)
		case user != "" && hasAddresses(t.body.(*armnetwork.LoadBalancer)):
			return noLinks(t.path.id())
		}
	}
	return nil
}

func childID(t *thing, list, name string) string { return t.path.id() + "/" + list + "/" + name }

// checkFrontend also gives out a private address. users are who has which public address.
func (c *Cloud) checkFrontend(t, before *thing, f *armnetwork.FrontendIPConfiguration, users map[string]string) *Refusal {
	p := f.Properties
	id := childID(t, "frontendIPConfigurations", value(f.Name))
	switch {
	case p == nil || (p.PublicIPAddress == nil) == (p.Subnet == nil):
		return bad("InvalidFrontendIPConfiguration", "frontend %s must reference either a public IP address or a subnet", id)
	case p.PublicIPAddress != nil && len(f.Zones) > 0:
		return bad("LoadBalancerFrontendIPConfigCannotHaveZoneWhenReferencingPublicIPAddress", "frontend %s has zones and references a public IP address", id)
	case p.PublicIPAddress != nil:
		if there, ok := parsePath(value(p.PublicIPAddress.ID)); ok && !isGroup(there.group) {
			return refuse(403, "LinkedAuthorizationFailed", "the client does not have permission to perform action "+
				"'Microsoft.Network/publicIPAddresses/join/action' on the linked scope '%s', or the linked scope is invalid", value(p.PublicIPAddress.ID))
		}
		ip := c.find(publicIPs, value(p.PublicIPAddress.ID))
		if ip == nil {
			return bad("InvalidResourceReference", "resource %s referenced by %s was not found", value(p.PublicIPAddress.ID), id)
		}
		if ip.state != armnetwork.ProvisioningStateSucceeded {
			return notProvisioned(ip, id)
		}
		if user := users[key(ip.path.id())]; user != "" && key(user) != key(id) && !movedWithin(t, user) {
			return bad("PublicIPAddressInUse", "resource %s is referencing public IP address %s that is already allocated to resource %s", id, ip.path.id(), user)
		}
		p.PublicIPAddress = &armnetwork.PublicIPAddress{ID: p.PublicIPAddress.ID}
		return c.linked("publicIPAddresses/join/action")
	}
	if !isSubnet(value(p.Subnet.ID)) {
		return bad("InvalidResourceReference", "resource %s referenced by %s was not found", value(p.Subnet.ID), id)
	}
	if r := c.linked("virtualNetworks/subnets/join/action"); r != nil {
		return r
	}
	p.Subnet = &armnetwork.Subnet{ID: p.Subnet.ID}
	if p.PrivateIPAddressVersion == nil {
		p.PrivateIPAddressVersion = new(armnetwork.IPVersionIPv4)
	}
	was := frontendOf(before, id)
	if r := checkZones(id, f.Zones, value(was).Zones, was != nil); r != nil {
		return r
	}
	static := value(p.PrivateIPAllocationMethod) == armnetwork.IPAllocationMethodStatic
	switch {
	case static && value(p.PrivateIPAddress) == "":
		return bad("StaticAllocationNeedsAddress", "frontend %s has static allocation and no address", id)
	case static && !inSubnet(value(p.PrivateIPAddress)):
		return bad("PrivateIPAddressNotInSubnet", "private static IP address %s does not belong to the range of subnet %s", value(p.PrivateIPAddress), value(p.Subnet.ID))
	case static:
		return c.takenPrivately(t, f)
	case last(value(p.Subnet.ID)) == fullSubnet:
		return bad("SubnetIsFull", "subnet %s with address prefix %s does not have enough capacity for 1 IP addresses", fullSubnet, ranges[0])
	case was != nil && was.Properties.PrivateIPAddress != nil:
		p.PrivateIPAddress = was.Properties.PrivateIPAddress
	default:
		p.PrivateIPAddress = new(c.freePrivate(t, value(p.PrivateIPAddressVersion) == armnetwork.IPVersionIPv6))
	}
	return nil
}

// checkVersions refuses frontends of IPv6 where there is none of IPv4.
func (c *Cloud) checkVersions(t *thing) *Refusal {
	has := map[armnetwork.IPVersion]bool{}
	for _, f := range t.body.(*armnetwork.LoadBalancer).Properties.FrontendIPConfigurations {
		version := value(f.Properties.PrivateIPAddressVersion)
		if ip := f.Properties.PublicIPAddress; ip != nil {
			version = value(c.find(publicIPs, value(ip.ID)).body.(*armnetwork.PublicIPAddress).Properties.PublicIPAddressVersion)
		}
		has[version] = true
	}
	if has[armnetwork.IPVersionIPv6] && !has[armnetwork.IPVersionIPv4] {
		return bad("AtleastOneIpV4RequiredForIpV6LbFrontendIpConfiguration", "At least one IPv4 frontend ipConfiguration is required for an IPv6 frontend ipConfiguration on the load balancer '%s'", t.path.id())
	}
	return nil
}

// notProvisioned refuses what refers to something that is being changed, or whose last change has failed.
func notProvisioned(t *thing, user string) *Refusal {
	is := refuse(429, "ReferencedResourceNotProvisioned", "Cannot proceed with operation because resource %s used by resource %s is not in Succeeded state. Resource is in %s state",
		t.path.id(), user, t.state)
	if t.state == armnetwork.ProvisioningStateFailed {
		return is
	}
	return &Refusal{Status: 429, Code: "RetryableError", Message: "A retryable error occurred.", Detail: is}
}

// movedWithin reports whether the frontend that has an address is one of the same balancer that is not in the new body.
func movedWithin(t *thing, user string) bool {
	return strings.HasPrefix(key(user), key(t.path.id())+"/") && frontendOf(t, user) == nil
}

func frontendOf(t *thing, id string) *armnetwork.FrontendIPConfiguration {
	if t == nil {
		return nil
	}
	for _, f := range t.body.(*armnetwork.LoadBalancer).Properties.FrontendIPConfigurations {
		if key(childID(t, "frontendIPConfigurations", value(f.Name))) == key(id) {
			return f
		}
	}
	return nil
}

// takenPrivately refuses a private address that another frontend has.
func (c *Cloud) takenPrivately(t *thing, f *armnetwork.FrontendIPConfiguration) *Refusal {
	id, address := childID(t, "frontendIPConfigurations", value(f.Name)), value(f.Properties.PrivateIPAddress)
	for _, o := range t.body.(*armnetwork.LoadBalancer).Properties.FrontendIPConfigurations {
		if o.Properties != nil && value(o.Properties.PrivateIPAddress) == address && value(o.Name) != value(f.Name) {
			return bad("MultipleIpConfigsRequestSamePrivateIpAddress", "IP configuration %s is requesting the same private IP address %s as %s", id, address, value(o.Name))
		}
	}
	if user := c.privateUser(t, address); user != "" {
		return bad("PrivateIPAddressIsAllocated", "IP configuration %s is using the private IP address %s which is already allocated to resource %s", id, address, user)
	}
	return nil
}

// privateUser is what has a private address, other than the balancer t; empty: nothing.
func (c *Cloud) privateUser(t *thing, address string) string {
	for id, other := range c.things {
		switch body := other.body.(type) {
		case *armnetwork.LoadBalancer:
			if id != key(t.path.id()) && slices.ContainsFunc(body.Properties.FrontendIPConfigurations, func(o *armnetwork.FrontendIPConfiguration) bool {
				return value(o.Properties.PrivateIPAddress) == address
			}) {
				return other.path.id()
			}
		case *armnetwork.Interface:
			if slices.ContainsFunc(body.Properties.IPConfigurations, func(o *armnetwork.InterfaceIPConfiguration) bool {
				return value(o.Properties.PrivateIPAddress) == address
			}) {
				return other.path.id()
			}
		}
	}
	return ""
}

func (c *Cloud) freePrivate(t *thing, v6 bool) string {
	address := netip.MustParseAddr("10.224.0.4")
	if v6 {
		address = netip.MustParseAddr("fd00:db8::4")
	}
	for ; ; address = address.Next() {
		inBody := slices.ContainsFunc(t.body.(*armnetwork.LoadBalancer).Properties.FrontendIPConfigurations, func(o *armnetwork.FrontendIPConfiguration) bool {
			return o.Properties != nil && value(o.Properties.PrivateIPAddress) == address.String()
		})
		if !inBody && c.privateUser(t, address.String()) == "" {
			return address.String()
		}
	}
}

func checkProbe(probe *armnetwork.Probe) *Refusal {
	p := probe.Properties
	if p == nil || p.Protocol == nil || value(p.Port) < 1 || value(p.Port) > 65535 {
		return bad("InvalidProbe", "probe %s needs a protocol and a port from 1 to 65535", value(probe.Name))
	}
	switch *p.Protocol {
	case armnetwork.ProbeProtocolTCP:
		if value(p.RequestPath) != "" {
			return bad("ProbeRequestPathNotAllowed", "probe %s has protocol Tcp and a request path", value(probe.Name))
		}
	case armnetwork.ProbeProtocolHTTP, armnetwork.ProbeProtocolHTTPS:
		if value(p.RequestPath) == "" {
			return bad("ProbeRequestPathRequired", "probe %s needs a request path", value(probe.Name))
		}
	default:
		return bad("InvalidProbeProtocol", "probe %s has protocol %s", value(probe.Name), *p.Protocol)
	}
	if p.IntervalInSeconds != nil && *p.IntervalInSeconds < 5 {
		return bad("ProbeIntervalTooShort", "probe %s has an interval of less than 5 seconds", value(probe.Name))
	}
	if n := p.ProbeThreshold; n != nil && (*n < 1 || *n > 100) {
		return bad("InvalidProbeThreshold", "probe %s has a threshold that is not from 1 to 100", value(probe.Name))
	}
	return nil
}

func checkRules(t *thing, p *armnetwork.LoadBalancerPropertiesFormat) *Refusal {
	has := map[string]bool{}
	internal := map[string]bool{}
	for _, f := range p.FrontendIPConfigurations {
		id := key(childID(t, "frontendIPConfigurations", value(f.Name)))
		has[id], internal[id] = true, f.Properties.Subnet != nil
	}
	for _, b := range p.BackendAddressPools {
		has[key(childID(t, "backendAddressPools", value(b.Name)))] = true
	}
	for _, b := range p.Probes {
		has[key(childID(t, "probes", value(b.Name)))] = true
	}
	if r := checkOtherRules(t, p, has); r != nil {
		return r
	}
	outbound := map[string]bool{} // frontends
	for _, rule := range p.OutboundRules {
		for _, f := range rule.Properties.FrontendIPConfigurations {
			outbound[subID(f)] = true
		}
	}
	taken := map[string]string{}
	for _, rule := range p.LoadBalancingRules {
		r := rule.Properties
		id := childID(t, "loadBalancingRules", value(rule.Name))
		if r == nil || r.Protocol == nil || r.FrontendPort == nil {
			return bad("InvalidLoadBalancingRule", "rule %s needs a protocol and a frontend port", id)
		}
		refs := []string{subID(r.FrontendIPConfiguration), subID(r.BackendAddressPool)}
		if r.Probe != nil {
			refs = append(refs, subID(r.Probe))
		}
		for _, ref := range refs {
			if !has[ref] {
				return bad("InvalidResourceReference", "resource '%s' referenced by %s was not found", ref, id)
			}
		}
		if refusal := checkPorts(id, r, internal[refs[0]]); refusal != nil {
			return refusal
		}
		if outbound[refs[0]] && !value(r.DisableOutboundSnat) {
			return bad("LoadBalancingRuleMustDisableSNATSinceSameFrontendIPConfigurationIsReferencedByOutboundRule", "rule %s must disable outbound SNAT, since an outbound rule uses the same frontend %s", id, refs[0])
		}
		port := fmt.Sprintf("%s %s %d", refs[0], *r.Protocol, *r.FrontendPort)
		if other := taken[port]; other != "" {
			return bad("RulesUseSameFrontendPortAndProtocol", "rules %s and %s use the same frontend port and protocol", other, id)
		}
		taken[port] = id
	}
	return nil
}

// checkOtherRules refuses outbound rules and inbound NAT rules of what is not there.
func checkOtherRules(t *thing, p *armnetwork.LoadBalancerPropertiesFormat, has map[string]bool) *Refusal {
	refs := map[string]string{} // and who has them
	for _, rule := range p.OutboundRules {
		id := childID(t, "outboundRules", value(rule.Name))
		refs[subID(rule.Properties.BackendAddressPool)] = id
		for _, f := range rule.Properties.FrontendIPConfigurations {
			refs[subID(f)] = id
		}
	}
	for _, rule := range p.InboundNatRules {
		id := childID(t, "inboundNatRules", value(rule.Name))
		refs[subID(rule.Properties.FrontendIPConfiguration)] = id
		if rule.Properties.BackendAddressPool != nil {
			refs[subID(rule.Properties.BackendAddressPool)] = id
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		if !has[ref] {
			return bad("InvalidResourceReference", "resource '%s' referenced by %s was not found", ref, refs[ref])
		}
	}
	return nil
}

func checkPorts(id string, r *armnetwork.LoadBalancingRulePropertiesFormat, internal bool) *Refusal {
	front, back := value(r.FrontendPort), value(r.BackendPort)
	switch {
	case *r.Protocol == armnetwork.TransportProtocolAll:
		if front != 0 || back != 0 || !internal {
			return bad("LoadBalancingRuleHAPorts", "rule %s with protocol All needs ports 0 and an internal frontend", id)
		}
	case *r.Protocol != armnetwork.TransportProtocolTCP && *r.Protocol != armnetwork.TransportProtocolUDP:
		return bad("InvalidLoadBalancingRule", "rule %s has protocol %s", id, *r.Protocol)
	case front < 1 || front > 65534 || back < 1 || back > 65535:
		return bad("InvalidPort", "rule %s has a port out of range", id)
	case value(r.EnableFloatingIP) && front != back:
		return bad("FloatingIPNeedsSamePort", "rule %s has floating IP and ports %d and %d", id, front, back)
	}
	if n := r.IdleTimeoutInMinutes; n != nil && (*n < 4 || *n > 100) {
		return bad("LoadBalancingRuleIdleTimeoutIsOutOfRange", "rule %s has an idle timeout that is not from 4 to 100 minutes", id)
	}
	if value(r.EnableTCPReset) && *r.Protocol == armnetwork.TransportProtocolUDP {
		return bad("TcpResetNotSupportedForUdp", "rule %s has protocol Udp and TCP reset", id)
	}
	return nil
}

func stampBalancer(t *thing) any {
	lb := deepcopy.Of(t.body.(*armnetwork.LoadBalancer))
	lb.ID, lb.Name, lb.Type, lb.Etag = new(t.path.id()), new(t.path.name), new("Microsoft.Network/loadBalancers"), new(t.etag)
	p := lb.Properties
	p.ProvisioningState = new(t.state)
	for _, f := range p.FrontendIPConfigurations {
		f.ID, f.Etag, f.Properties.ProvisioningState = new(childID(t, "frontendIPConfigurations", value(f.Name))), new(t.etag), new(t.state)
	}
	for _, b := range p.BackendAddressPools {
		b.ID, b.Etag, b.Properties.ProvisioningState = new(childID(t, "backendAddressPools", value(b.Name))), new(t.etag), new(t.state)
	}
	for _, b := range p.Probes {
		b.ID, b.Etag, b.Properties.ProvisioningState = new(childID(t, "probes", value(b.Name))), new(t.etag), new(t.state)
	}
	for _, b := range p.LoadBalancingRules {
		b.ID, b.Etag, b.Properties.ProvisioningState = new(childID(t, "loadBalancingRules", value(b.Name))), new(t.etag), new(t.state)
	}
	return lb
}

func freeBalancer(c *Cloud, t *thing) *Refusal {
	if r := c.keepMembers(nil, t); r != nil {
		return r
	}
	for _, f := range t.body.(*armnetwork.LoadBalancer).Properties.FrontendIPConfigurations {
		id := childID(t, "frontendIPConfigurations", value(f.Name))
		if user := c.linkedBy(id); user != "" {
			return bad("LoadBalancerUsedByPrivateLinkServiceCannotBeDeleted", "load balancer %s is used by %s", t.path.id(), user)
		}
	}
	return nil
}

// childOfBalancer puts one backend pool.
func childOfBalancer(t *thing, p path, text []byte) (any, *Refusal) {
	if !strings.EqualFold(p.child, "backendAddressPools") {
		return nil, refuse(404, "InvalidResourceType", "the resource type '%s' could not be found", p.typ())
	}
	pool := &armnetwork.BackendAddressPool{}
	if r := decode(text, pool); r != nil {
		return nil, r
	}
	pool.Name = new(p.childName)
	lb := deepcopy.Of(t.body.(*armnetwork.LoadBalancer))
	list := lb.Properties.BackendAddressPools
	i := slices.IndexFunc(list, func(b *armnetwork.BackendAddressPool) bool { return strings.EqualFold(value(b.Name), p.childName) })
	if i < 0 {
		list = append(list, pool)
	} else {
		list[i] = pool
	}
	lb.Properties.BackendAddressPools = list
	return lb, nil
}

func innerOfBalancer(t *thing, p path) any {
	lb := stampBalancer(t).(*armnetwork.LoadBalancer)
	for _, b := range lb.Properties.BackendAddressPools {
		if strings.EqualFold(p.child, "backendAddressPools") && strings.EqualFold(value(b.Name), p.childName) {
			return b
		}
	}
	return nil
}
