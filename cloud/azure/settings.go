package azure

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/fairlead/fairlead/cloud"
)

// parameters are the class's.
type parameters struct {
	ResourceGroup      string            `json:"resourceGroup"`
	Scheme             string            `json:"scheme"`
	Subnet             string            `json:"subnet"`
	IdleTimeoutMinutes int               `json:"idleTimeoutMinutes"`
	TCPReset           bool              `json:"tcpReset"`
	FloatingIP         bool              `json:"floatingIP"`
	PublicIPPrefix     string            `json:"publicIPPrefix"`
	PublicIPPrefixIPv6 string            `json:"publicIPPrefixIPv6"`
	Tags               map[string]string `json:"tags"`
	HealthProbe        struct {
		Protocol        string `json:"protocol"`
		Path            string `json:"path"`
		IntervalSeconds int    `json:"intervalSeconds"`
		Threshold       int    `json:"threshold"`
	} `json:"healthProbe"`
}

// probeSettings are what annotations say of probes. Zero values: nothing.
type probeSettings struct {
	protocol, path string
	port           int
	interval       int // seconds
	count          int
	none           bool
}

// linkSettings are those of a private link service.
type linkSettings struct {
	create                          bool
	name, subnet                    string
	count                           int
	addresses                       []string // static ones, of the first of its addresses
	fqdns, visibility, autoApproval []string
	proxyProtocol                   bool
}

// settings are the class's parameters, or what the Service's annotations say instead.
type settings struct {
	internal      bool
	subnet        string
	resourceGroup string // of public addresses that are named or asked for
	idleMinutes   int
	tcpReset      bool
	floatingIP    bool
	allPorts      bool
	dnsLabel      string
	tags          map[string]string
	// By family; missing: none.
	addresses, names, prefixes map[cloud.Family]string
	sources                    []netip.Prefix // nil: everybody, with serviceTags nil
	serviceTags                []string
	probe                      probeSettings
	ports                      map[string]probeSettings // by cloud.Port.Key
	noRule                     map[string]bool
	link                       linkSettings
	given                      map[string]string // the Service's annotations
}

// ofClass are the class's parameters by the annotations that say the same.
var ofClass = map[string]string{"pip-tags": "tags", "pip-prefix-id": "publicIPPrefix", "pip-prefix-id-ipv6": "publicIPPrefixIPv6",
	"load-balancer-resource-group": "resourceGroup", "load-balancer-internal-subnet": "subnet"}

// from says where the setting of an annotation is from: the annotation itself, or what says the same in the class.
func (s *settings) from(key string) string {
	if _, given := s.given[prefix+key]; given || ofClass[key] == "" {
		return "annotation " + prefix + key
	}
	return "parameter " + ofClass[key] + " of the class"
}

const (
	schemeInternal = "Internal"
	schemeExternal = "External"
)

var families = []cloud.Family{cloud.IPv4, cloud.IPv6}

// readSettings reads the Spec. Its error, a UserError, names everything that is wrong.
func readSettings(config Config, spec cloud.Spec) (settings, error) {
	p := parameters{ResourceGroup: config.ResourceGroup, Scheme: schemeExternal, Subnet: config.SubnetName, IdleTimeoutMinutes: 4,
		TCPReset: true, FloatingIP: true}
	p.HealthProbe.IntervalSeconds, p.HealthProbe.Threshold = 5, 2
	unread := cloud.DecodeParameters(spec.Parameters, &p)
	s := settings{internal: p.Scheme == schemeInternal, subnet: p.Subnet, resourceGroup: p.ResourceGroup, idleMinutes: p.IdleTimeoutMinutes,
		sources: spec.SourceRanges, tags: p.Tags, probe: probeSettings{interval: p.HealthProbe.IntervalSeconds, count: p.HealthProbe.Threshold}, given: spec.Annotations,
		ports: map[string]probeSettings{}, noRule: map[string]bool{}, link: linkSettings{count: 1}}
	a := cloud.NewAnnotations(spec.Annotations, prefix, portPrefix)
	noReset, noFloating := !p.TCPReset, !p.FloatingIP
	a.Bool(prefix+"load-balancer-internal", &s.internal)
	a.String(prefix+"load-balancer-internal-subnet", &s.subnet)
	a.String(prefix+"load-balancer-resource-group", &s.resourceGroup)
	a.Int(prefix+"load-balancer-tcp-idle-timeout", &s.idleMinutes, 4, 100)
	a.Bool(prefix+"load-balancer-disable-tcp-reset", &noReset)
	a.Bool(prefix+"load-balancer-enable-high-availability-ports", &s.allPorts)
	a.Bool(prefix+"disable-load-balancer-floating-ip", &noFloating)
	a.String(prefix+"dns-label-name", &s.dnsLabel)
	a.Map(prefix+"pip-tags", &s.tags)
	s.tcpReset, s.floatingIP = !noReset, !noFloating
	s.names = byFamily(a, prefix+"pip-name", prefix+"pip-name-ipv6")
	s.prefixes = byFamily(a, prefix+"pip-prefix-id", prefix+"pip-prefix-id-ipv6")
	s.addresses = byFamily(a, prefix+"load-balancer-ipv4", prefix+"load-balancer-ipv6")
	for family, address := range s.addresses {
		s.addresses[family] = canonical(address)
	}
	a.List(prefix+"allowed-service-tags", &s.serviceTags)
	var ranges []netip.Prefix
	a.Prefixes(prefix+"allowed-ip-ranges", &ranges)
	s.sources = widest(slices.Concat(s.sources, ranges))
	s.readProbes(a, spec, strings.ToLower(p.HealthProbe.Protocol), p.HealthProbe.Path)
	s.readLink(a)
	if requested, err := netip.ParseAddr(spec.RequestedAddress); err == nil {
		family := cloud.IPv6
		if requested.Is4() {
			family = cloud.IPv4
		}
		if s.addresses[family] == "" {
			s.addresses[family] = requested.String()
		}
	}
	for i, id := range []string{p.PublicIPPrefix, p.PublicIPPrefixIPv6} {
		// Only for addresses that are made.
		if family := families[i]; id != "" && s.prefixes[family] == "" && s.names[family] == "" && s.addresses[family] == "" && !s.internal {
			s.prefixes[family] = id
		}
	}
	return s, cloud.UserErrors(append(s.check(config, spec), unread, a.Err())...)
}

// widest are the ranges without those that others of them hold, since Azure takes none that overlap in one security rule. Nil stays nil.
func widest(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, netip.Prefix.Compare)
	var widest []netip.Prefix
	for _, r := range ranges { // what holds it is the last one, if any is
		if n := len(widest); n == 0 || !widest[n-1].Overlaps(r) {
			widest = append(widest, r)
		}
	}
	return widest
}

func byFamily(a *cloud.Annotations, v4, v6 string) map[cloud.Family]string {
	result := map[cloud.Family]string{}
	for i, key := range []string{v4, v6} {
		var value string
		a.String(key, &value)
		if value != "" {
			result[families[i]] = value
		}
	}
	return result
}

// readProbes reads what is said of probes. The class's protocol and path are those of applications: what answers for a node, or its proxy,
// has its own.
func (s *settings) readProbes(a *cloud.Annotations, spec cloud.Spec, protocol, path string) {
	read := func(start string, into *probeSettings) {
		cloud.Enum(a, start+"protocol", &into.protocol, "tcp", "http", "https")
		a.String(start+"request-path", &into.path)
		a.Int(start+"interval", &into.interval, 5, 120)
		a.Int(start+"num-of-probe", &into.count, 1, 20)
	}
	read(prefix+"load-balancer-health-probe-", &s.probe)
	for _, port := range spec.Ports {
		start := portPrefix + strconv.Itoa(int(port.Port)) + "_"
		own := s.probe
		if port.HealthCheck.Path == "" {
			own.protocol, own.path = cmp.Or(own.protocol, protocol), cmp.Or(own.path, path)
		}
		read(start+"health-probe_", &own)
		a.Int(start+"health-probe_port", &own.port, 1, 65535)
		a.Bool(start+"no_probe_rule", &own.none)
		var without bool
		a.Bool(start+"no_lb_rule", &without)
		s.ports[port.Key()], s.noRule[port.Key()] = own, without
	}
}

func (s *settings) readLink(a *cloud.Annotations) {
	var addresses, fqdns, visibility, approval string
	a.Bool(prefix+"pls-create", &s.link.create)
	a.String(prefix+"pls-name", &s.link.name)
	a.String(prefix+"pls-ip-configuration-subnet", &s.link.subnet)
	a.Int(prefix+"pls-ip-configuration-ip-address-count", &s.link.count, 1, 8)
	a.String(prefix+"pls-ip-configuration-ip-address", &addresses)
	a.String(prefix+"pls-fqdns", &fqdns)
	a.Bool(prefix+"pls-proxy-protocol", &s.link.proxyProtocol)
	a.String(prefix+"pls-visibility", &visibility)
	a.String(prefix+"pls-auto-approval", &approval)
	s.link.fqdns, s.link.visibility, s.link.autoApproval = strings.Fields(fqdns), strings.Fields(visibility), strings.Fields(approval)
	s.link.addresses = strings.Fields(addresses)
	if s.link.subnet == "" {
		s.link.subnet = s.subnet
	}
}

// checkNames holds names against what Azure allows.
func (s *settings) checkNames(wrong func(when bool, format string, args ...any)) {
	for i, family := range families {
		suffix := []string{"", "-ipv6"}[i]
		name, id := s.names[family], s.prefixes[family]
		wrong(name != "" && !namePattern.MatchString(name), "annotation %spip-name%s: Azure has no name like %q", prefix, suffix, name)
		wrong(id != "" && !prefixPattern.MatchString(id), "%s: %q is not the id of a public IP prefix: "+
			"/subscriptions/…/resourceGroups/…/providers/Microsoft.Network/publicIPPrefixes/…", s.from("pip-prefix-id"+suffix), id)
	}
	wrong(!groupPattern.MatchString(s.resourceGroup), "%s: Azure has no name like %q", s.from("load-balancer-resource-group"), s.resourceGroup)
	wrong(!namePattern.MatchString(s.subnet), "%s: Azure has no name like %q", s.from("load-balancer-internal-subnet"), s.subnet)
	wrong(s.dnsLabel != "" && !labelPattern.MatchString(s.dnsLabel), "annotation %sdns-label-name: %q is no label: 3 to 63 lower-case letters, digits and dashes", prefix, s.dnsLabel)
	wrong(s.link.name != "" && !namePattern.MatchString(s.link.name), "annotation %spls-name: Azure has no name like %q", prefix, s.link.name)
	wrong(!namePattern.MatchString(s.link.subnet), "annotation %spls-ip-configuration-subnet: Azure has no name like %q", prefix, s.link.subnet)
	for _, service := range s.serviceTags {
		wrong(!tagsPattern.MatchString(service), "annotation %sallowed-service-tags: %q is no service tag, such as AzureCloud.WestEurope", prefix, service)
	}
}

// check returns what is wrong with the settings together.
func (s *settings) check(config Config, spec cloud.Spec) []error {
	var errs []error
	wrong := func(when bool, format string, args ...any) {
		if when {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for i, family := range families {
		suffix := []string{"", "-ipv6"}[i]
		name, from, address := s.names[family] != "", s.prefixes[family] != "", s.addresses[family]
		wrong(name && from, "annotations %spip-name%s and %spip-prefix-id%s: a named address comes from no prefix: remove one of them", prefix, suffix, prefix, suffix)
		wrong(address != "" && (name || from), "the requested address %s and annotation %spip-name%s or %spip-prefix-id%s: remove one of them", address, prefix, suffix, prefix, suffix)
		wrong(s.internal && (name || from), "annotations %spip-name%s and %spip-prefix-id%s: an internal balancer has no public address: remove them", prefix, suffix, prefix, suffix)
		if parsed, err := netip.ParseAddr(address); address != "" {
			wrong(err != nil || parsed.Is4() != (family == cloud.IPv4), "the requested address %q is not one of %s", address, family)
		}
	}
	s.checkNames(wrong)
	wrong(s.internal && s.dnsLabel != "", "annotation %sdns-label-name: an internal balancer has no public address: remove it", prefix)
	wrong(s.allPorts && !s.internal, "annotation %sload-balancer-enable-high-availability-ports: only an internal balancer can have it", prefix)
	wrong(s.allPorts && !s.floatingIP, "annotation %sload-balancer-enable-high-availability-ports: it needs floating IP: remove %sdisable-load-balancer-floating-ip", prefix, prefix)
	wrong(s.allPorts && spec.Owner.Group != "", "annotation %sload-balancer-enable-high-availability-ports: the frontend cannot be shared", prefix)
	_, placed := spec.Annotations[prefix+"load-balancer-resource-group"]
	wrong(placed && !same(s.resourceGroup, config.ResourceGroup) && (s.internal || len(s.names)+len(s.addresses) == 0),
		"annotation %sload-balancer-resource-group: it says where the public address is that %spip-name names or that is asked for, and there is none: what is made is in %s",
		prefix, prefix, config.ResourceGroup)
	wrong(s.link.create && !s.internal, "annotation %spls-create: only an internal balancer can have a private link service", prefix)
	wrong(s.link.create && spec.Owner.Group != "", "annotation %spls-create: the frontend cannot be shared", prefix)
	wrong(s.link.create && !slices.Contains(spec.Families, cloud.IPv4), "annotation %spls-create: a private link service is for IPv4", prefix)
	for _, address := range s.link.addresses {
		parsed, err := netip.ParseAddr(address)
		wrong(err != nil || !parsed.Is4(), "annotation %spls-ip-configuration-ip-address: %q is no IPv4 address", prefix, address)
	}
	wrong(len(s.link.addresses) > s.link.count, "annotation %spls-ip-configuration-ip-address: %d addresses are more than the %d of %spls-ip-configuration-ip-address-count",
		prefix, len(s.link.addresses), s.link.count, prefix)
	wrong(!s.link.create && (s.link.name != "" || len(s.link.addresses)+len(s.link.fqdns)+len(s.link.visibility)+len(s.link.autoApproval) > 0 || s.link.proxyProtocol),
		"annotations %spls-…: they need %spls-create", prefix, prefix)
	for _, name := range slices.Sorted(maps.Keys(s.tags)) {
		wrong(strings.HasPrefix(strings.ToLower(name), tagPrefix), "%s: names that begin with %s are the manager's own", s.from("pip-tags"), tagPrefix)
		wrong(strings.ContainsAny(name, ",=") || strings.Contains(s.tags[name], ","), "%s: the tag %q: a name with a comma or =, or a value with a comma, "+
			"cannot be told from several tags", s.from("pip-tags"), name)
		wrong(len(name) > 512 || len(s.tags[name]) > maxTagValue || strings.ContainsAny(name, `<>%&\?/`), "%s: Azure has no tag %q: at most 512 "+
			"characters, none of them <>%%&\\?/, and 256 of the value", s.from("pip-tags"), name)
	}
	wrong(len(cloud.List(slices.Collect(maps.Keys(s.tags)))) > maxTagValue, "%s: the names together have more than %d characters, with which they are noted", s.from("pip-tags"), maxTagValue)
	rules := 0
	for _, port := range spec.Ports {
		if !s.noRule[port.Key()] {
			rules++
		}
		probe := s.ports[port.Key()]
		wrong(probe.path != "" && (!strings.HasPrefix(probe.path, "/") || strings.ContainsFunc(probe.path, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })), "port %d: the path %q of its probe is none", port.Port, probe.path)
		wrong(probe.interval*probe.count > 120, "port %d: %d probes every %d seconds: 120 seconds together at most", port.Port, probe.count, probe.interval)
	}
	wrong(rules == 0 && len(spec.Ports) > 0, "annotations %sN_no_lb_rule: no port is left", portPrefix)
	return errs
}
