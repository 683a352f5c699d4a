package gcp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// familyOf translates the API's word, which leaves out IPV4.
func familyOf(ipVersion string) string {
	if ipVersion == "IPV6" {
		return string(cloud.IPv6)
	}
	return string(cloud.IPv4)
}

// addressRange is an address as the firewall's destination. Those of IPv6 are ranges of 96 bits: all of one belongs to the
// balancer.
func addressRange(address string) string {
	_, bits, given := strings.Cut(address, "/")
	switch {
	case address == "":
		return ""
	case given:
	case strings.Contains(address, ":"):
		bits = "96"
	default:
		bits = "32"
	}
	return plainIP(address) + "/" + bits
}

// reservedRange is addressRange of a reserved address. One of IPv6 that somebody brought can be longer or shorter (vpc/docs/create-ipv6-sub-prefixes).
func reservedRange(a *compute.Address) string {
	if strings.Contains(a.Address, ":") && !strings.Contains(a.Address, "/") && a.PrefixLength > 0 {
		return addressRange(a.Address + "/" + strconv.FormatInt(a.PrefixLength, 10))
	}
	return addressRange(a.Address)
}

// placeOf are the attributes that addresses and rules have in common. What has no meaning for a scheme is left empty, as
// Desired leaves it.
func placeOf(scheme, version, tier, subnetwork string) map[string]string {
	place := map[string]string{attrFamily: familyOf(version), attrScheme: scheme, attrTier: tier, attrSubnetwork: last(subnetwork)}
	if scheme == "" {
		place[attrScheme] = schemeExternal
	}
	if place[attrScheme] == schemeInternal {
		place[attrTier] = ""
	} else if place[attrFamily] == string(cloud.IPv4) {
		place[attrSubnetwork] = ""
	}
	return place
}

func checkAttributes(b *compute.HealthCheck) map[string]string {
	attributes := map[string]string{attrPort: "", attrPath: "", attrTiming: fmt.Sprintf("%d,%d,%d,%d", b.CheckIntervalSec,
		b.TimeoutSec, b.HealthyThreshold, b.UnhealthyThreshold)}
	if b.HttpHealthCheck != nil && b.Type == "HTTP" {
		attributes[attrPort], attributes[attrPath] = strconv.FormatInt(b.HttpHealthCheck.Port, 10), b.HttpHealthCheck.RequestPath
	}
	return attributes
}

// checkBody is the reverse of checkAttributes.
func checkBody(attributes map[string]string) *compute.HealthCheck {
	b := &compute.HealthCheck{Type: "HTTP",
		HttpHealthCheck: &compute.HTTPHealthCheck{Port: number(attributes[attrPort]), RequestPath: attributes[attrPath]}}
	times := strings.Split(attributes[attrTiming], ",")
	for i, into := range []*int64{&b.CheckIntervalSec, &b.TimeoutSec, &b.HealthyThreshold, &b.UnhealthyThreshold} {
		*into = number(times[i])
	}
	return b
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // it was written by Desired
	return n
}

// localityPolicies by scheme, without and with weights. The service refuses those of the other scheme, and for internal balancers of
// most projects MAGLEV, which is what external ones have by themselves (kubernetes/ingress-gce#2652, #2926).
var localityPolicies = map[string][2]string{
	schemeExternal: {"MAGLEV", "WEIGHTED_MAGLEV"},
	schemeInternal: {"", "WEIGHTED_GCP_RENDEZVOUS"},
}

func localityPolicy(attributes map[string]string) string {
	policies := localityPolicies[attributes[attrScheme]]
	if attributes[attrWeighted] == "true" {
		return policies[1]
	}
	return policies[0]
}

// protocolsOfAll is the protocol of a backend service whose rules can have any.
const protocolsOfAll = "UNSPECIFIED"

func (v *view) backendService(r *cloud.Resource, b *compute.BackendService) {
	r.Attributes = map[string]string{attrScheme: b.LoadBalancingScheme, attrAffinity: b.SessionAffinity,
		attrWeighted: strconv.FormatBool(strings.HasPrefix(b.LocalityLbPolicy, "WEIGHTED_")),
		attrStrong:   "0", attrDraining: "0"}
	if b.SessionAffinity == "" {
		r.Attributes[attrAffinity] = "NONE"
	}
	for _, protocol := range []string{"TCP", "UDP", anyProtocol} {
		r.Attributes[attrTakes+protocol] = strconv.FormatBool(b.Protocol == protocolsOfAll || b.Protocol == protocol)
	}
	if t := b.ConnectionTrackingPolicy; t != nil && t.EnableStrongAffinity {
		r.Attributes[attrStrong] = strconv.FormatInt(t.IdleTimeoutSec, 10)
	}
	if b.ConnectionDraining != nil {
		r.Attributes[attrDraining] = strconv.FormatInt(b.ConnectionDraining.DrainingTimeoutSec, 10)
	}
	for _, link := range b.HealthChecks {
		r.DependsOn = append(r.DependsOn, v.ref(KindHealthCheck, link))
	}
	var given []string
	for _, backend := range b.Backends {
		if parts := strings.Split(shortLink(backend.Group), "/"); strings.Contains(backend.Group, "/instanceGroups/") && len(parts) > 4 {
			given = append(given, parts[3]+"/"+last(backend.Group))
		} else {
			r.DependsOn = append(r.DependsOn, v.ref(KindEndpointGroup, backend.Group))
		}
	}
	r.Attributes[attrGroups] = cloud.List(given)
}

// backendBody is what the attributes say, without the mark. What does not refer to anything is not set.
func (c *Config) backendBody(r *cloud.Resource) *compute.BackendService {
	b := &compute.BackendService{
		LoadBalancingScheme: r.Attributes[attrScheme], SessionAffinity: r.Attributes[attrAffinity], LocalityLbPolicy: localityPolicy(r.Attributes),
		ConnectionDraining: &compute.ConnectionDraining{DrainingTimeoutSec: number(r.Attributes[attrDraining]), ForceSendFields: []string{"DrainingTimeoutSec"}},
		Protocol:           protocolsOfAll,
		ForceSendFields:    []string{"Backends"},
	}
	if seconds := number(r.Attributes[attrStrong]); seconds > 0 {
		b.ConnectionTrackingPolicy = &compute.BackendServiceConnectionTrackingPolicy{EnableStrongAffinity: true,
			TrackingMode: "PER_SESSION", IdleTimeoutSec: seconds}
	}
	for _, dep := range r.DependsOn {
		switch dep.Kind {
		case KindHealthCheck:
			b.HealthChecks = append(b.HealthChecks, c.link(dep.Kind, dep.ID))
		case KindEndpointGroup:
			b.Backends = append(b.Backends, &compute.Backend{Group: c.link(dep.Kind, dep.ID), BalancingMode: "CONNECTION"})
		}
	}
	for _, group := range cloud.SplitList(r.Attributes[attrGroups]) {
		zone, name, _ := strings.Cut(group, "/")
		b.Backends = append(b.Backends, &compute.Backend{BalancingMode: "CONNECTION",
			Group: "projects/" + c.Project + "/zones/" + zone + "/instanceGroups/" + name})
	}
	return b
}

func (v *view) rule(r *cloud.Resource, b *compute.ForwardingRule, told string) {
	r.Attributes = placeOf(b.LoadBalancingScheme, b.IpVersion, b.NetworkTier, b.Subnetwork)
	v.address(r, b.IPAddress, told)
	r.Attributes[attrGlobalAccess] = strconv.FormatBool(b.AllowGlobalAccess)
	r.Attributes[attrProtocol], r.Attributes[attrPorts] = b.IPProtocol, rulePorts(b)
	if b.BackendService != "" {
		ref := v.ref(KindBackendService, b.BackendService)
		ref.Parent = true
		r.DependsOn = append(r.DependsOn, ref)
	}
	r.DependsOn = append(r.DependsOn, v.addressRefs(addressRange(b.IPAddress))...)
	if b.IPAddress != "" {
		r.Ingress = []cloud.Ingress{{IP: plainIP(b.IPAddress), IPMode: "VIP"}}
	}
	switch ports := r.Attributes[attrPorts]; {
	case v.alone(r, b.IPAddress, told):
		r.Excludes = []string{attrFamily}
	case b.IPProtocol != anyProtocol && (ports == allPorts || strings.ContainsAny(ports, ",-")): // which stand back behind others
		r.Excludes = []string{attrFamily, attrProtocol}
	}
}

// alone reports whether a rule is known to be at an address that no other can have beside it: an internal one of IPv4 that nobody
// reserved, or not for several rules (see maxRules). What a rule was told of its address is not known to be so.
func (v *view) alone(r *cloud.Resource, ip, told string) bool {
	switch {
	case r.Attributes[attrScheme] != schemeInternal || r.Attributes[attrFamily] != string(cloud.IPv4):
		return false
	case v.reserved[addressRange(ip)] != "":
		return !v.forSeveral[addressRange(ip)]
	case told != "":
		return told == toldNobodys
	}
	return len(r.Owners) == 0 || keyOf(r.Owners[0], last(r.ID)) == "" // else it is at one of ours, which is not shown yet
}

// rulePorts are a rule's ports as Desired writes them. A range of one is that port.
func rulePorts(b *compute.ForwardingRule) string {
	switch {
	case b.AllPorts:
		return allPorts
	case len(b.Ports) > 0:
		return cloud.List(b.Ports)
	}
	first, end, _ := strings.Cut(b.PortRange, "-")
	if first == end {
		return first
	}
	return b.PortRange
}

// address tells of the one that is in effect. What a rule was told of it counts where it is not one of those that are looked at.
func (v *view) address(r *cloud.Resource, ip, told string) {
	mine := len(v.addressRefs(addressRange(ip))) > 0
	r.Attributes[attrIP] = plainIP(ip)
	users := !mine && told != "" && told != toldNobodys
	r.Attributes[attrUsers] = strconv.FormatBool(users)
	r.Attributes[attrReserved] = strconv.FormatBool(mine || users || v.reserved[addressRange(ip)] != "")
	if r.Attributes[attrAddresses] = told; mine || told == "" || told == toldNobodys {
		var names []string
		for _, vips := range v.vips {
			for _, vip := range vips {
				if name := v.reserved[vip]; name != "" {
					names = append(names, name)
				}
			}
		}
		r.Attributes[attrAddresses] = cloud.List(names)
	}
}

// plainIP is an address without the length of its range, in the form in which Services write it.
func plainIP(text string) string {
	text, _, _ = strings.Cut(text, "/")
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.String()
	}
	return text
}

// plainRanges is a list of ranges in the form in which they are sent: the service writes those of IPv6 otherwise
// (kubernetes/ingress-gce#2898).
func plainRanges(texts []string) string {
	plain := make([]string, len(texts))
	for i, text := range texts {
		if plain[i] = text; strings.Contains(text, "/") {
			plain[i] = addressRange(text)
		}
	}
	return cloud.List(plain)
}

// addressRefs point to the reserved address that is looked at and is the same.
func (v *view) addressRefs(vip string) []cloud.Ref {
	for _, f := range v.things {
		if a, ok := f.body.(*compute.Address); ok && vip != "" && reservedRange(a) == vip {
			return []cloud.Ref{v.ref(KindAddress, v.config.link(KindAddress, f.id))}
		}
	}
	return nil
}

func (v *view) firewall(r *cloud.Resource, b *compute.Firewall) {
	family := string(cloud.IPv4)
	if slices.ContainsFunc(b.SourceRanges, func(s string) bool { return strings.Contains(s, ":") }) {
		family = string(cloud.IPv6)
	}
	var allowed []string
	for _, a := range b.Allowed {
		if len(a.Ports) == 0 {
			allowed = append(allowed, a.IPProtocol)
		}
		for _, port := range a.Ports {
			allowed = append(allowed, a.IPProtocol+":"+port)
		}
	}
	others := len(b.SourceTags) + len(b.SourceServiceAccounts) + len(b.TargetServiceAccounts)
	if len(b.Denied) > 0 || b.Disabled || b.Priority != firewallPriority || others > 0 {
		allowed = []string{"otherwise"} // somebody turned it round, or off, or has it behind other rules or for other machines
	}
	r.Attributes = map[string]string{attrFamily: family, attrNetwork: shortLink(b.Network), attrAllowed: cloud.List(allowed),
		attrSources: plainRanges(b.SourceRanges), attrDestination: plainRanges(b.DestinationRanges), attrTags: cloud.List(b.TargetTags)}
	vips := v.vips[family]
	if len(b.DestinationRanges) == 1 && slices.Contains(vips, addressRange(b.DestinationRanges[0])) {
		r.Attributes[attrDestination] = atBalancer
		r.DependsOn = v.addressRefs(addressRange(b.DestinationRanges[0]))
	}
}

// firewallPriority is that of rules for which none is given.
const firewallPriority = 1000

// firewallBody is what the attributes say, without the mark and the destination.
func firewallBody(r *cloud.Resource) *compute.Firewall {
	b := &compute.Firewall{Direction: "INGRESS", Network: r.Attributes[attrNetwork], Priority: firewallPriority,
		SourceRanges: cloud.SplitList(r.Attributes[attrSources]), TargetTags: cloud.SplitList(r.Attributes[attrTags]),
		ForceSendFields: []string{"Disabled"}}
	byProtocol := map[string]*compute.FirewallAllowed{}
	for _, text := range cloud.SplitList(r.Attributes[attrAllowed]) {
		protocol, port, _ := strings.Cut(text, ":")
		if byProtocol[protocol] == nil {
			byProtocol[protocol] = &compute.FirewallAllowed{IPProtocol: protocol}
			b.Allowed = append(b.Allowed, byProtocol[protocol])
		}
		byProtocol[protocol].Ports = append(byProtocol[protocol].Ports, port)
	}
	return b
}
