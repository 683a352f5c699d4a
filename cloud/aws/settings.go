package aws

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// settings are the class's parameters, or what the Service's annotations say instead.
type settings struct {
	v1alpha1.AWSParameters

	// From annotations alone.
	controller, targetType, name, addressType   string
	elasticIPs, privateIPs, ipv6Addresses       []string
	groupAttributes, balancerAttributes         map[string]string
	portAttributes, listenerAttributes          map[int32]map[string]string // by port
	tcpUDP                                      bool
	accessLogs                                  *bool
	accessLogsBucket, accessLogsPrefix, pathMTU string
	proxyProtocol                               string
	proxyPorts, certificates, tlsPorts          []string
	quicPorts                                   []string
	tlsPolicy, backendProtocol, alpn            string
	check                                       check
	tags                                        map[string]string
	noGroup                                     bool
	// manageNodes: nodes are to let the balancer in.
	manageNodes bool
	capacity    int // units; 0: none is asked for
	// nodeLabels that targets have; nodesUnknown: they could not be read, and who is a target is not known.
	nodeLabels   map[string]string
	nodesUnknown bool

	given map[string]string // the Service's annotations
	errs  []error
}

// check is a health check as annotations have it; what is empty, or 0, is not said.
type check struct {
	protocol, port, path, codes           string
	healthy, unhealthy, timeout, interval int
}

// from says where the setting of an annotation is from: the annotation itself, or what says the same in the class.
func (s *settings) from(key string) string {
	parameter := parameters[strings.TrimPrefix(key, AnnotationPrefix)]
	if _, given := s.given[key]; given || parameter == "" {
		return "annotation " + key
	}
	return "parameter " + parameter + " of the class"
}

func (s *settings) wrong(key, format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf("%s: "+format, append([]any{s.from(key)}, args...)...))
}

// AnnotationPrefix of the provider's annotations, which are those of the controllers that Services come from.
const AnnotationPrefix = "service.beta.kubernetes.io/aws-load-balancer-"

const (
	typeNLB, typeNLBIP, typeExternal   = "nlb", "nlb-ip", "external"
	schemeInternal, schemeInternet     = "internal", "internet-facing"
	targetInstance, targetIP           = "instance", "ip"
	addressTypeFour, addressTypeDouble = "ipv4", "dualstack"
	addressTypeSix                     = "ipv6" // of target groups
)

var (
	subnetForm   = regexp.MustCompile(`^subnet-[0-9a-f]+$`)
	groupForm    = regexp.MustCompile(`^sg-[0-9a-f]+$`)
	eipForm      = regexp.MustCompile(`^eipalloc-[0-9a-f]+$`)
	prefixesForm = regexp.MustCompile(`^pl-[0-9a-f]+$`)
	nameForm     = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?$`)
)

// ids reads a list of ids of one form.
func ids(a *cloud.Annotations, s *settings, key string, into *[]string, form *regexp.Regexp, what string) {
	var list []string
	a.List(key, &list)
	for _, id := range list {
		if !form.MatchString(id) {
			s.wrong(key, "%q is not %s", id, what)
			return
		}
	}
	if list != nil {
		*into = list
	}
}

// addressesOf reads addresses of one family in canonical form, or they would differ from what AWS shows.
func addressesOf(a *cloud.Annotations, s *settings, key string, into *[]string, family cloud.Family) {
	var list []string
	a.List(key, &list)
	for i, text := range list {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Is4() != (family == cloud.IPv4) || address.Zone() != "" {
			s.wrong(key, "%q is not an address of %s", text, family)
			return
		}
		list[i] = address.String()
	}
	*into = list
}

// nodeLabels reads labels of Kubernetes. What is no label has no nodes, and is taken for a mistake, which sends nothing to other nodes.
func nodeLabels(a *cloud.Annotations, s *settings, key string) {
	if _, given := s.given[key]; given {
		s.nodeLabels = nil
		a.Map(key, &s.nodeLabels)
		s.nodesUnknown = s.nodeLabels == nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.nodeLabels)) {
		if wrong := append(validation.IsQualifiedName(name), validation.IsValidLabelValue(s.nodeLabels[name])...); len(wrong) > 0 {
			s.wrong(key, "%q is no label: %s", name+"="+s.nodeLabels[name], wrong[0])
			s.nodesUnknown = true
			return
		}
	}
}

func truth(a *cloud.Annotations, key string, into **bool) {
	var set string
	if a.String(key, &set); set == "" {
		return
	}
	value := false
	a.Bool(key, &value)
	*into = &value
}

// readSettings reads parameters and annotations. What is wrong with them is named together.
func readSettings(spec cloud.Spec) (*settings, error) {
	s := &settings{given: spec.Annotations, tcpUDP: true, portAttributes: map[int32]map[string]string{}, listenerAttributes: map[int32]map[string]string{}}
	unread := cloud.DecodeParameters(spec.Parameters, &s.AWSParameters)
	s.fromParameters()
	a := cloud.NewAnnotations(spec.Annotations, AnnotationPrefix)
	for _, one := range annotations {
		one.read(a, s, AnnotationPrefix+one.name)
	}
	for _, p := range spec.Ports {
		if _, read := s.portAttributes[p.Port]; read {
			continue
		}
		var group map[string]string
		a.Map(fmt.Sprintf("%starget-group-attributes.%d", AnnotationPrefix, p.Port), &group)
		s.portAttributes[p.Port], s.listenerAttributes[p.Port] = group, map[string]string{}
		for _, one := range protocols { // as they are given: checkListenerAttributes has what is allowed
			var listener map[string]string
			a.Map(listenerKey(string(one), p.Port), &listener)
			maps.Copy(s.listenerAttributes[p.Port], listener)
		}
	}
	s.derive(spec)
	return s, cloud.UserErrors(append(s.errs, unread, a.Err())...)
}

// listenerKey is the annotation for attributes of a port's listener of a protocol.
func listenerKey(protocol string, port int32) string {
	return fmt.Sprintf("%slistener-attributes.%s-%d", AnnotationPrefix, protocol, port)
}

// fromParameters takes what has the same meaning as an annotation.
func (s *settings) fromParameters() {
	s.balancerAttributes, s.groupAttributes, s.tags = maps.Clone(s.Attributes), maps.Clone(s.TargetGroupAttributes), maps.Clone(s.Tags)
	s.noGroup, s.manageNodes, s.nodeLabels, s.capacity = s.DisableSecurityGroups, s.ManageNodeSecurityGroups, s.NodeLabels, int(s.CapacityUnits)
	s.addressType = map[string]string{"IPv4": addressTypeFour, "DualStack": addressTypeDouble}[s.IPAddressType]
	s.proxyPorts, s.quicPorts = numbers(s.ProxyProtocolPorts), numbers(s.QUICPorts)
	if s.PathMTUDiscovery {
		s.pathMTU = on
	}
	if s.TCPUDPListeners != nil {
		s.tcpUDP = *s.TCPUDPListeners
	}
	if t := s.TLS; t != nil {
		s.certificates, s.tlsPolicy, s.alpn = append([]string{t.CertificateARN}, t.AdditionalCertificateARNs...), t.Policy, t.ALPNPolicy
		s.tlsPorts = numbers(t.Ports)
		if t.Backend {
			s.backendProtocol = "tls"
		}
	}
	if s.ProxyProtocol {
		s.proxyProtocol = "*"
	}
	if c := s.HealthCheck; c != nil {
		s.check = check{protocol: strings.ToLower(c.Protocol), path: c.Path, codes: c.SuccessCodes, healthy: int(c.HealthyThreshold),
			unhealthy: int(c.UnhealthyThreshold), timeout: int(c.TimeoutSeconds), interval: int(c.IntervalSeconds)}
		if c.Port != 0 {
			s.check.port = strconv.Itoa(int(c.Port))
		}
	}
}

// numbers are ports as annotations have them.
func numbers(ports []int32) []string {
	var all []string
	for _, port := range ports {
		all = append(all, strconv.Itoa(int(port)))
	}
	return all
}

// derive makes one setting of several that mean the same, and looks for those that contradict one another.
func (s *settings) derive(spec cloud.Spec) {
	key := func(name string) string { return AnnotationPrefix + name }
	if s.Scheme == "" {
		s.Scheme = v1alpha1.SchemeInternal
		if s.controller == typeNLB { // the in-tree provider's default
			s.Scheme = v1alpha1.SchemeExternal
		}
	}
	set := func(attributes *map[string]string, name, value string) {
		if *attributes == nil {
			*attributes = map[string]string{}
		}
		(*attributes)[name] = value
	}
	if s.CrossZone != nil {
		set(&s.balancerAttributes, attributeCrossZone, strconv.FormatBool(*s.CrossZone))
	}
	if s.accessLogs != nil {
		set(&s.balancerAttributes, attributeLogs, strconv.FormatBool(*s.accessLogs))
	}
	if s.accessLogsBucket != "" {
		set(&s.balancerAttributes, attributeBucket, s.accessLogsBucket)
	}
	if s.accessLogsPrefix != "" {
		set(&s.balancerAttributes, "access_logs.s3.prefix", s.accessLogsPrefix)
	}
	if s.balancerAttributes[attributeBucket] == "" {
		delete(s.balancerAttributes, attributeBucket)
		if s.balancerAttributes[attributeLogs] == "true" {
			s.errs = append(s.errs, fmt.Errorf("access logs need a bucket: set the annotation %s, or the attribute %s", key("access-log-s3-bucket-name"), attributeBucket))
		}
	}
	if s.DeletionProtection {
		set(&s.balancerAttributes, attributeProtection, "true")
	}
	if s.balancerAttributes[attributeProtection] == "false" {
		delete(s.balancerAttributes, attributeProtection) // it is never cleared
	}
	if s.proxyProtocol == "*" {
		set(&s.groupAttributes, attributeProxy, "true")
	}
	if pods := s.targetType == targetIP || s.controller == typeNLBIP && s.targetType == ""; pods && !spec.PodTargets {
		s.errs = append(s.errs, fmt.Errorf("annotations of AWS ask for targets of type ip: set the annotation %s to %s, or targets: %s in the class",
			v1alpha1.AnnotationTargets, v1alpha1.TargetsPods, v1alpha1.TargetsPods))
	}
	if s.targetType == targetInstance && spec.PodTargets {
		s.wrong(key("nlb-target-type"), "the Service sends to Pods: remove it")
	}
	if s.addressType == addressTypeFour && slices.Contains(spec.Families, cloud.IPv6) {
		s.wrong(key("ip-address-type"), "the Service asks for IPv6: set it to %s", addressTypeDouble)
	}
	if _, given := spec.Annotations[key("target-node-labels")]; given && spec.PodTargets {
		s.wrong(key("target-node-labels"), "the Service sends to Pods, on whichever node: remove it")
	}
	nameableSubnets.check(s, s.Subnets)
	nameableGroups.check(s, s.SecurityGroups)
	if also := alsoNames(s); len(also) > longestTag {
		s.errs = append(s.errs, fmt.Errorf("subnets or security groups are given by so many ids beside names (%d characters) that AWS cannot note them: give all of them by id, or fewer", len(also)))
	}
	s.deriveAddresses(spec, key)
	s.checkPorts(spec, key("ssl-ports"), s.tlsPorts, "TCP")
	s.checkPorts(spec, key("proxy-protocol-per-target-group"), s.proxyPorts, "TCP", "UDP")
	s.checkPorts(spec, key("quic-enabled-ports"), s.quicPorts, "UDP")
	s.checkAttributes()
	s.checkTags()
	if s.noGroup && len(spec.SourceRanges)+len(s.SecurityGroups)+len(s.PrefixLists) > 0 {
		s.wrong(key("disable-nlb-sg"), "ranges and groups of clients need security groups")
	}
	if len(s.SecurityGroups) > 0 && len(spec.SourceRanges)+len(s.PrefixLists) > 0 {
		s.wrong(key("security-groups"), "groups that are given are not changed: leave out ranges of clients, or the groups")
	}
	if len(s.certificates) == 0 && (len(s.tlsPorts) > 0 || s.tlsPolicy != "" || s.alpn != "") {
		s.wrong(key("ssl-cert"), "TLS needs a certificate")
	}
}

// checkPorts refuses ports of an annotation that the Service does not have, or not with one of the protocols: what is asked for
// would be done nowhere, and nobody would know. Those of a class are for many Services, which need not have all of them.
func (s *settings) checkPorts(spec cloud.Spec, key string, list []string, protocols ...string) {
	if _, given := spec.Annotations[key]; !given {
		return
	}
	possible := []string{"*"}
	for _, p := range spec.Ports {
		if !slices.Contains(protocols, p.Protocol) {
			continue
		}
		possible = append(possible, strconv.Itoa(int(p.Port)))
		if p.Name != "" {
			possible = append(possible, p.Name)
		}
	}
	for _, item := range list {
		if !slices.Contains(possible, item) {
			s.wrong(key, "%q is no port of the Service with protocol %s: it can be %s", item, strings.Join(protocols, " or "), strings.Join(possible, ", "))
		}
	}
}

// deriveAddresses checks the addresses that are asked for, which go with subnets.
func (s *settings) deriveAddresses(spec cloud.Spec, key func(string) string) {
	double := slices.Contains(spec.Families, cloud.IPv6) || s.addressType == addressTypeDouble
	for _, list := range []struct {
		name    string
		values  []string
		allowed bool
		why     string
	}{
		{"eip-allocations", s.elasticIPs, s.Scheme == v1alpha1.SchemeExternal, "the scheme must be internet-facing"},
		{"private-ipv4-addresses", s.privateIPs, s.Scheme == v1alpha1.SchemeInternal, "the scheme must be internal"},
		{"ipv6-addresses", s.ipv6Addresses, double, "the IP address type must be dualstack"},
	} {
		switch {
		case len(list.values) == 0:
		case !list.allowed:
			s.wrong(key(list.name), "%s", list.why)
		case len(list.values) != len(s.Subnets):
			s.wrong(key(list.name), "there must be one for each of the subnets, which are to be given, too (%d for %d)", len(list.values), len(s.Subnets))
		}
	}
}

// checkAttributes refuses attributes that are not known.
func (s *settings) checkAttributes() {
	check := func(what string, given, known map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(given)) {
			if _, ok := known[name]; !ok {
				s.errs = append(s.errs, fmt.Errorf("%s attribute %q is not known: it can be %s", what, name, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
			}
		}
	}
	check("load balancer", s.balancerAttributes, knownBalancerAttributes)
	group, listener := knownGroupAttributes(), map[string]string{attributeIdle: ""}
	check("target group", s.groupAttributes, group)
	for _, port := range slices.Sorted(maps.Keys(s.portAttributes)) {
		check("target group", s.portAttributes[port], group)
		check("listener", s.listenerAttributes[port], listener)
	}
}
