package aws

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// Kinds of resources.
const (
	KindSecurityGroup = "SecurityGroup"
	KindLoadBalancer  = "LoadBalancer"
	KindTargetGroup   = "TargetGroup"
	KindListener      = "Listener"
	KindReservation   = "CapacityReservation"
	KindNodeRules     = "NodeRules"
)

// Attributes of resources, beside AWS's own, which have a prefix.
const (
	attributePrefix = "attribute."

	rules          = "rules"          // of a SecurityGroup: "tcp 80-80 192.0.2.0/24", …; of NodeRules: "tcp 30080-30080", …
	sources        = "sources"        // of NodeRules: managed, or what the balancer's groups are given by
	scheme         = "scheme"         // of a LoadBalancer, as the next ones
	addressType    = "ipAddressType"  //
	sourceNAT      = "sourceNAT"      // prefixes for it, which UDP over IPv6 needs: on or off
	subnets        = "subnets"        // only where they are given
	addresses      = "addresses"      // "subnet=eip|private|ipv6", only where they are given
	addressesFour  = "addressesIPv4"  // the same without IPv6, where none of these is given: AWS may show what it has chosen
	givenName      = "name"           // only where it is given
	securityGroups = "securityGroups" // managed, or ids
	grouped        = "grouped"        // whether it has security groups at all
	kept           = "kept"           // security groups that it was adopted with, beside the one that is managed; never asked for
	protocol       = "protocol"       // of a TargetGroup or a Listener
	targetKind     = "targetType"     // of a TargetGroup, as the next ones
	checkProtocol  = "check.protocol"
	checkPort      = "check.port"
	checkPath      = "check.path"
	checkCodes     = "check.codes"
	checkInterval  = "check.interval"
	checkTimeout   = "check.timeout"
	checkHealthy   = "check.healthy"
	checkUnhealthy = "check.unhealthy"
	certificate    = "certificate"  // of a Listener, as the next ones
	certificates   = "certificates" // beside that
	tlsPolicy      = "policy"
	alpn           = "alpn"
	capacity       = "capacity" // of a CapacityReservation, in units
	tags           = "tags"     // additional ones: "a=b", …
	marks          = "marks"    // our own tags: lost, where one is missing that is not the owner's

	// also is what else is looked at of a resource. A tag says so, since what most do not have would cost a call for each.
	also = "also"
)

const (
	managed     = "managed"
	marksLost   = "lost"
	on, off     = "on", "off"
	trafficPort = "traffic-port"
	// pathMTU is ICMP's "fragmentation needed", and "packet too big" of ICMPv6.
	pathMTU, pathMTU6 = "icmp 3-4", "icmpv6 2-0"
	defaultTLSPolicy  = "ELBSecurityPolicy-2016-08"
	defaultIdle       = 350
)

// listened is one listener: of one port, or of two of the same number that are TCP and UDP.
type listened struct {
	cloud.Port
	protocol string // of the listener
	group    string // of the target group
	tls      bool
	proxy    bool // the PROXY protocol to its targets
}

// Desired implements cloud.Provider: a SecurityGroup, unless others are given or none is wanted, a LoadBalancer, and for each
// port a TargetGroup and a Listener. Targets have their ports, so that another node port is another target, not another
// group.
func (p *Provider) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	s, wrong := readSettings(spec)
	errs := []error{wrong}
	if s.Region != "" && s.Region != p.region {
		errs = append(errs, fmt.Errorf("parameter region: the manager is configured for %s, not %s", p.region, s.Region))
	}
	if s.name != "" && !p.caps.Adopt {
		errs = append(errs, fmt.Errorf("annotation %sname: the manager looks at no other names than its own: set adopt to true in its configuration file of AWS", AnnotationPrefix))
	}
	ports, err := listen(spec, s)
	errs = append(errs, err, enableQUIC(spec, s, ports))
	errs = append(errs, checkListenerAttributes(s, ports))
	balancer := balancer(spec, s, ports)
	var resources []cloud.Resource
	if balancer.Attributes[securityGroups] == managed {
		balancer.DependsOn = []cloud.Ref{{Kind: KindSecurityGroup, Key: "main"}}
		resources = append(resources, securityGroup(spec, s, ports))
	}
	var groups []cloud.Resource
	for _, l := range ports {
		group, err := targetGroup(spec, s, l)
		errs = append(errs, err)
		groups = append(groups, group)
		resources = append(resources, group, listener(s, l))
	}
	resources = append(resources, balancer)
	for i := range resources {
		resources[i].Attributes[tags], resources[i].Attributes[marks] = tagList(s.tags), ""
		resources[i].Attributes[also] += "" // what has nothing of the sort says so
	}
	if s.manageNodes {
		err := checkNodeRules(spec, s)
		if errs = append(errs, err); err == nil {
			resources = append(resources, nodeRulesFor(balancer, ports, groups))
		}
	}
	if s.capacity > 0 {
		errs = append(errs, checkReservation(s, ports))
		resources = append(resources, reservation(s.capacity, ports))
	}
	return resources, cloud.UserErrors(errs...)
}

// listen makes listeners of ports. AWS has one for each number.
func listen(spec cloud.Spec, s *settings) ([]listened, error) {
	var errs []error
	var all []listened
	for _, p := range spec.Ports {
		tls := len(s.certificates) > 0 && p.Protocol == "TCP" && named(s.tlsPorts, p)
		proxy := len(s.proxyPorts) > 0 && named(s.proxyPorts, p)
		i := slices.IndexFunc(all, func(l listened) bool { return l.Port.Port == p.Port })
		if i >= 0 {
			switch other := &all[i]; {
			case !s.tcpUDP:
				errs = append(errs, fmt.Errorf("spec.ports: port %d is TCP and UDP, which needs one listener for both: set the annotation %senable-tcp-udp-listener to true", p.Port, AnnotationPrefix))
			case other.NodePort != p.NodePort:
				errs = append(errs, fmt.Errorf("spec.ports: port %d is TCP and UDP, which needs one nodePort for both (%d and %d)", p.Port, other.NodePort, p.NodePort))
			case slices.ContainsFunc(spec.Endpoints, func(e cloud.Endpoint) bool { return sentApart(e, other.Key(), p.Key()) }):
				errs = append(errs, fmt.Errorf("spec.ports: port %d is TCP and UDP, which needs one targetPort for both, as targets are Pods", p.Port))
			case tls || other.tls:
				errs = append(errs, fmt.Errorf("spec.ports: port %d is TCP and UDP, which cannot be TLS: leave one of them out, or name other ports in the annotation %sssl-ports", p.Port, AnnotationPrefix))
			default:
				other.protocol, other.group, other.proxy = "TCP_UDP", "TCP_UDP", other.proxy || proxy
				if other.Protocol != "TCP" {
					other.HealthCheck = p.HealthCheck
				}
			}
			continue
		}
		l := listened{Port: p, protocol: p.Protocol, group: p.Protocol, tls: tls, proxy: proxy}
		if tls {
			l.protocol = "TLS"
			if s.backendProtocol == "ssl" || s.backendProtocol == "tls" {
				l.group = "TLS"
			}
		}
		all = append(all, l)
	}
	return all, cloud.UserErrors(errs...)
}

// checkListenerAttributes refuses attributes of listeners that have none. AWS's pages speak of TCP alone, and say that of TLS cannot
// be changed. On TCP_UDP the AWS Load Balancer Controller sets them, too, and knows them by that name.
func checkListenerAttributes(s *settings, ports []listened) error {
	var errs []error
	for _, l := range ports {
		for _, one := range protocols {
			key := listenerKey(string(one), l.Port.Port)
			_, given := s.given[key]
			switch has := l.protocol == "TCP" || l.protocol == "TCP_UDP"; {
			case !given || has && (string(one) == "TCP" || string(one) == l.protocol):
			case has:
				errs = append(errs, fmt.Errorf("annotation %s: the listener of port %d is %s: name that instead, or remove it", key, l.Port.Port, l.protocol))
			default:
				errs = append(errs, fmt.Errorf("annotation %s: the listener of port %d is %s, and AWS has attributes for TCP alone: remove it", key, l.Port.Port, l.protocol))
			}
		}
	}
	return cloud.UserErrors(errs...)
}

// sentApart reports whether an endpoint takes two ports of the Service at two numbers.
func sentApart(e cloud.Endpoint, one, other string) bool {
	first, second := e.Ports[one], e.Ports[other]
	return first != second && first != 0 && second != 0
}

// named reports whether a list of ports, by number or name, has one. An empty list has all.
func named(list []string, p cloud.Port) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(item string) bool {
		return item == "*" || item == strconv.Itoa(int(p.Port)) || item == p.Name && p.Name != ""
	})
}

func isDouble(spec cloud.Spec, s *settings) bool {
	return slices.Contains(spec.Families, cloud.IPv6) || s.addressType == addressTypeDouble
}

func securityGroup(spec cloud.Spec, s *settings, ports []listened) cloud.Resource {
	var sources []string
	for _, r := range spec.SourceRanges {
		sources = append(sources, r.String())
	}
	if len(sources) == 0 && len(s.PrefixLists) == 0 {
		sources = []string{"0.0.0.0/0"}
		if isDouble(spec, s) {
			sources = append(sources, "::/0")
		}
	}
	sources = append(sources, s.PrefixLists...)
	var all []string
	for _, source := range sources {
		for _, l := range ports {
			for _, protocol := range []string{"tcp", "udp"} {
				if l.protocol == "TLS" && protocol == "tcp" || strings.Contains(l.protocol, strings.ToUpper(protocol)) {
					all = append(all, fmt.Sprintf("%s %d-%d %s", protocol, l.Port.Port, l.Port.Port, source))
				}
			}
		}
		if s.pathMTU == on {
			all = append(all, icmp(source)...)
		}
	}
	return cloud.Resource{Kind: KindSecurityGroup, Key: "main", Attributes: map[string]string{rules: cloud.List(all)}}
}

// icmp are the rules for messages about the path's MTU.
func icmp(source string) []string {
	switch {
	case strings.HasPrefix(source, "pl-"):
		return []string{pathMTU + " " + source, pathMTU6 + " " + source}
	case strings.Contains(source, ":"):
		return []string{pathMTU6 + " " + source}
	}
	return []string{pathMTU + " " + source}
}

func balancer(spec cloud.Spec, s *settings, ports []listened) cloud.Resource {
	r := cloud.Resource{Kind: KindLoadBalancer, Key: "main", Fixed: true, Immutable: []string{scheme, grouped},
		Attributes: map[string]string{scheme: schemeInternal, addressType: addressTypeFour, sourceNAT: off, securityGroups: managed, grouped: "true"}}
	if s.Scheme == v1alpha1.SchemeExternal {
		r.Attributes[scheme] = schemeInternet
	}
	if isDouble(spec, s) {
		// UDP over IPv6 needs the prefixes. Always: listeners that come and go would need them before, or still, otherwise.
		r.Attributes[addressType], r.Attributes[sourceNAT] = addressTypeDouble, on
	}
	if slices.ContainsFunc(ports, func(l listened) bool { return isDatagrams(l.protocol) }) {
		// AWS has a listener of UDP send to IPv4 alone on a balancer of IPv4, and to IPv6 alone on others: it does not live through a change.
		r.Immutable = append(r.Immutable, addressType)
	}
	// One name, or one address, cannot be in two places.
	r.Beside = s.name == "" && addressList(s) == ""
	by := nameableSubnets.prefixOf(s.Subnets)
	if len(s.Subnets) > 0 {
		r.Attributes[by+subnets] = cloud.List(s.Subnets)
	}
	if text := addressList(s); text != "" {
		name := addresses
		if len(s.ipv6Addresses) == 0 {
			name = addressesFour
		}
		r.Attributes[by+name] = text
		if by != "" {
			name = unplaced + name
			r.Attributes[name] = withoutSubnets(text)
		}
		r.Immutable = append(r.Immutable, name)
	}
	if s.name != "" {
		r.Attributes[givenName] = s.name
		r.Immutable = append(r.Immutable, givenName)
	}
	switch {
	case s.noGroup:
		r.Attributes[securityGroups], r.Attributes[grouped] = "", "false"
	case len(s.SecurityGroups) > 0:
		delete(r.Attributes, securityGroups)
		r.Attributes[nameableGroups.prefixOf(s.SecurityGroups)+securityGroups] = cloud.List(s.SecurityGroups)
	}
	r.Attributes[also] = alsoNames(s)
	prefixed(r.Attributes, over(balancerDefaults(), s.balancerAttributes))
	return r
}

// addressList says which address of its own each subnet has; empty: none has.
func addressList(s *settings) string {
	at := func(list []string, i int) string {
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	if len(s.elasticIPs)+len(s.privateIPs)+len(s.ipv6Addresses) == 0 {
		return ""
	}
	var all []string
	for i, subnet := range s.Subnets {
		all = append(all, subnet+"="+at(s.elasticIPs, i)+"|"+at(s.privateIPs, i)+"|"+at(s.ipv6Addresses, i))
	}
	return cloud.List(all)
}

// withoutSubnets is a list of addresses, whichever subnets they are in.
func withoutSubnets(list string) string {
	all := cloud.SplitList(list)
	for i, item := range all {
		all[i] = item[strings.LastIndex(item, "="):]
	}
	return cloud.List(all)
}

// familyOf is that of a listener's targets: the Service's first, but for UDP on a balancer with both, for which AWS takes target groups
// of IPv6 alone (elasticloadbalancing/latest/network/create-target-group.html).
func familyOf(spec cloud.Spec, s *settings, l listened) cloud.Family {
	if isDatagrams(l.group) && isDouble(spec, s) {
		return cloud.IPv6
	}
	return spec.Families[0]
}

func targetGroup(spec cloud.Spec, s *settings, l listened) (cloud.Resource, error) {
	kind, addressKind := targetInstance, addressTypeFour
	if spec.PodTargets {
		kind = targetIP
	}
	family := familyOf(spec, s, l)
	if family == cloud.IPv6 {
		addressKind = addressTypeSix
	}
	attributes := over(groupDefaults(l.group, kind), s.groupAttributes, s.portAttributes[l.Port.Port])
	if l.proxy {
		attributes[attributeProxy] = "true"
	}
	if spec.AffinitySeconds > 0 {
		attributes[attributeSticky] = "true"
	}
	var wrong error
	switch {
	case !slices.Contains(spec.Families, family):
		wrong = fmt.Errorf("spec.ipFamilies: UDP on a balancer that is dualstack needs targets of IPv6 (port %d), and the Service has IPv4 alone: add IPv6, or set the annotation %sip-address-type to %s", l.Port.Port, AnnotationPrefix, addressTypeFour)
	case attributes[attributeClientIP] == "false" && isDatagrams(l.group):
		wrong = fmt.Errorf("target group attribute %s: addresses of clients are always preserved with UDP (port %d)", attributeClientIP, l.Port.Port)
	case attributes[attributeTerminate] == "true" && isDatagrams(l.group):
		wrong = fmt.Errorf("target group attribute %s: connections are ended with TCP and TLS only (port %d): remove it, they are by default", attributeTerminate, l.Port.Port)
	case attributes[attributeTerminate] == "true" && attributes[attributeDraining] != "0":
		wrong = fmt.Errorf("target group attribute %s: connections are ended at once (port %d): set %s to false, or remove it", attributeDraining, l.Port.Port, attributeTerminate)
	case attributes[attributeSticky] == "true" && l.group == "TLS":
		wrong = fmt.Errorf("spec.sessionAffinity: TLS to targets has none (port %d)", l.Port.Port)
	case attributes[attributeSticky] == "true" && isQUIC(l.group):
		wrong = fmt.Errorf("spec.sessionAffinity: QUIC has none but its connections' own (port %d)", l.Port.Port)
	}
	r := cloud.Resource{Kind: KindTargetGroup, Key: strconv.Itoa(int(l.Port.Port)), Immutable: []string{protocol, targetKind, addressType},
		Follows:    []string{checkProtocol, checkPort, checkPath, checkCodes, checkInterval, checkTimeout, checkHealthy, checkUnhealthy},
		Attributes: map[string]string{protocol: l.group, targetKind: kind, addressType: addressKind}}
	prefixed(r.Attributes, attributes)
	checkErr := checked(r.Attributes, spec, s.check, l)
	if r.HasTargets = spec.PodTargets || !s.nodesUnknown; r.HasTargets { // else those that there are stay
		r.Targets = targets(spec, s.nodeLabels, l, family)
	}
	return r, cloud.UserErrors(wrong, checkErr)
}

// checked writes the health check of a target group.
func checked(into map[string]string, spec cloud.Spec, c check, l listened) error {
	of := l.HealthCheck
	standard := check{protocol: strings.ToLower(of.Protocol), port: strconv.Itoa(int(of.Port)), path: "/", codes: "200-399", healthy: 3, unhealthy: 3, timeout: 10, interval: 10}
	if of.Path != "" {
		standard.path = of.Path
	}
	if of.Port == 0 || of.Protocol == "TCP" && of.Port == l.NodePort {
		standard.port = trafficPort
	}
	if spec.LocalOnly {
		standard.healthy, standard.unhealthy, standard.timeout = 2, 2, 6
	}
	is := check{protocol: cmp.Or(c.protocol, standard.protocol), port: cmp.Or(c.port, standard.port), path: cmp.Or(c.path, standard.path),
		codes: cmp.Or(c.codes, standard.codes), healthy: cmp.Or(c.healthy, standard.healthy), unhealthy: cmp.Or(c.unhealthy, standard.unhealthy),
		interval: cmp.Or(c.interval, standard.interval)}
	is.timeout = cmp.Or(c.timeout, min(standard.timeout, is.interval))
	if is.protocol == "tcp" {
		is.path, is.codes = "", ""
	}
	into[checkProtocol], into[checkPort], into[checkPath], into[checkCodes] = strings.ToUpper(is.protocol), is.port, is.path, is.codes
	into[checkHealthy], into[checkUnhealthy] = strconv.Itoa(is.healthy), strconv.Itoa(is.unhealthy)
	into[checkTimeout], into[checkInterval] = strconv.Itoa(is.timeout), strconv.Itoa(is.interval)
	if is.timeout > is.interval {
		return fmt.Errorf("health check: the timeout (%d) is longer than the interval (%d)", is.timeout, is.interval)
	}
	return nil
}

func listener(s *settings, l listened) cloud.Resource {
	key := strconv.Itoa(int(l.Port.Port))
	r := cloud.Resource{Kind: KindListener, Key: key,
		Attributes: map[string]string{protocol: l.protocol, certificate: "", certificates: "", tlsPolicy: "", alpn: ""},
		DependsOn:  []cloud.Ref{{Kind: KindLoadBalancer, Key: "main", Parent: true}, {Kind: KindTargetGroup, Key: key}}}
	if l.tls {
		r.Attributes[certificate] = s.certificates[0]
		if r.Attributes[certificates] = cloud.List(s.certificates[1:]); r.Attributes[certificates] != "" {
			r.Attributes[also] = alsoCertificates
		}
		r.Attributes[tlsPolicy] = cmp.Or(s.tlsPolicy, defaultTLSPolicy)
		r.Attributes[alpn] = cmp.Or(s.alpn, "None")
	}
	given := s.listenerAttributes[l.Port.Port]
	switch l.protocol {
	case "TCP":
		prefixed(r.Attributes, over(map[string]string{attributeIdle: strconv.Itoa(int(cmp.Or(s.IdleTimeoutSeconds, defaultIdle)))}, given))
	case "TCP_UDP":
		if prefixed(r.Attributes, over(listenerDefaults(), given)); len(given) > 0 {
			r.Attributes[also] = alsoAttributes
		}
	}
	return r
}

// ownPrefix begins the name of everything of an owner.
func ownPrefix(id cloud.OwnerID) string { return namePrefix + digest(string(id))[:10] + "-" }

const namePrefix = "fl-"

// nameOf is at most 32 long: the owner's prefix, something to read, and a hash of the kind, the key and what cannot change
// in place, so that a replacement has another name.
func nameOf(owner cloud.Owner, r cloud.Resource) string {
	if name := r.Attributes[givenName]; name != "" {
		return name
	}
	parts := []string{r.Kind, r.Key}
	for _, name := range slices.Sorted(slices.Values(r.Immutable)) {
		parts = append(parts, name, r.Attributes[name])
	}
	readable := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, owner.Name)
	readable = strings.Trim(readable[:min(len(readable), 9)], "-")
	return ownPrefix(owner.ID()) + readable + "-" + digest(strings.Join(parts, "\x00"))[:8]
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
