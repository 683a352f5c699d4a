package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A Service with the label LabelProxyName is served by the proxy of that name alone; ProxyName is ours.
const (
	LabelProxyName = "service.kubernetes.io/service-proxy-name"
	ProxyName      = "fairlead"
)

// defaultAffinity is the API's default of sessionAffinityConfig.clientIP.timeoutSeconds.
const defaultAffinity = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second

// service is a Service as the model needs it: parsed, without what cannot be served.
type service struct {
	key   types.NamespacedName
	ports []servicePort
	// clusterIPs decide which families are served at all.
	clusterIPs, externalIPs, balancerIPs []netip.Addr
	internalLocal, externalLocal         bool
	affinity                             time.Duration
	// restricted is true when loadBalancerSourceRanges has entries; ranges holds the good ones.
	restricted bool
	ranges     []netip.Prefix
	healthPort uint16 // 0: none
}

type servicePort struct {
	name           ServicePortName
	port, nodePort uint16 // nodePort 0: none
}

// serves says whether a Service is ours to serve at all. Services without a cluster IP (headless ones, and those
// whose address is not allocated yet) and ExternalName ones have nothing to proxy.
func serves(svc *corev1.Service, coexist bool) bool {
	owner, labelled := svc.Labels[LabelProxyName]
	if owner != ProxyName && (coexist || labelled) {
		return false
	}
	return svc.Spec.Type != corev1.ServiceTypeExternalName &&
		svc.Spec.ClusterIP != corev1.ClusterIPNone && svc.Spec.ClusterIP != ""
}

// readService parses a Service. What is malformed is left out and named by the error; the rest is served.
func readService(svc *corev1.Service, opts Options) (*service, error) {
	s := &service{
		key:           types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name},
		externalLocal: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		internalLocal: svc.Spec.InternalTrafficPolicy != nil &&
			*svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		affinity: affinity(svc),
	}
	var problems []string
	note := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	clusterIPs := svc.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{svc.Spec.ClusterIP}
	}
	s.clusterIPs = readAddresses(clusterIPs, "cluster IP", note)
	if !opts.IgnoreExternalIPs {
		s.externalIPs = readAddresses(svc.Spec.ExternalIPs, "external IP", note)
	}
	s.balancerIPs = readAddresses(balancerAddresses(svc), "load balancer IP", note)
	s.ports = readPorts(svc, note)
	s.readRanges(svc.Spec.LoadBalancerSourceRanges, note)
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && s.externalLocal && svc.Spec.HealthCheckNodePort != 0 {
		port, err := parsePort(svc.Spec.HealthCheckNodePort)
		if err != nil {
			note("healthCheckNodePort: %v", err)
		}
		s.healthPort = port
	}
	if len(problems) > 0 {
		return s, fmt.Errorf("Service %s: ignoring %s", s.key, strings.Join(problems, "; "))
	}
	return s, nil
}

// readAddresses parses a list, without duplicates, keeping its order. Blank entries are not worth a word: old API
// servers let them through in externalIPs.
func readAddresses(values []string, what string, note func(string, ...any)) []netip.Addr {
	var addrs []netip.Addr
	for _, value := range values {
		if strings.TrimSpace(value) == "" {
			continue
		}
		addr, err := parseAddr(value)
		switch {
		case err != nil:
			note("%s %v", what, err)
		case !servable(addr):
			note("%s %q (unspecified, loopback or multicast)", what, value)
		case !slices.Contains(addrs, addr):
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// balancerAddresses are the load balancer's addresses whose packets arrive as they were sent: ipMode nil or VIP.
// A balancer of mode Proxy must see the node's own connections too, so they are left to the network.
func balancerAddresses(svc *corev1.Service) []string {
	var out []string
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			out = append(out, ingress.IP)
		}
	}
	return out
}

func readPorts(svc *corev1.Service, note func(string, ...any)) []servicePort {
	var ports []servicePort
	for _, p := range svc.Spec.Ports {
		protocol, err := parseProtocol(p.Protocol)
		if err != nil {
			note("port %q: %v", p.Name, err)
			continue
		}
		number, err := parsePort(p.Port)
		if err != nil {
			note("port %q: %v", p.Name, err)
			continue
		}
		port := servicePort{
			name: ServicePortName{Namespace: svc.Namespace, Name: svc.Name, Port: p.Name, Protocol: protocol},
			port: number,
		}
		if p.NodePort != 0 {
			if port.nodePort, err = parsePort(p.NodePort); err != nil {
				note("node port of port %q: %v", p.Name, err)
			}
		}
		ports = append(ports, port)
	}
	return ports
}

func (s *service) readRanges(values []string, note func(string, ...any)) {
	for _, value := range values {
		if strings.TrimSpace(value) == "" {
			continue
		}
		s.restricted = true
		prefix, err := parsePrefix(value)
		if err != nil {
			note("source range %v", err)
			continue
		}
		s.ranges = append(s.ranges, prefix)
	}
}

// affinity is 0 without session affinity. A missing or senseless timeout means the API's default.
func affinity(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	config := svc.Spec.SessionAffinityConfig
	if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil ||
		*config.ClientIP.TimeoutSeconds <= 0 {
		return defaultAffinity
	}
	return time.Duration(*config.ClientIP.TimeoutSeconds) * time.Second
}

// families are those of the cluster IPs, sorted. External addresses and node ports of other families are not
// served, since the Service has no endpoints there.
func (s *service) families() []uint8 {
	var out []uint8
	for _, addr := range s.clusterIPs {
		out = append(out, family(addr))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// external says whether anything but the cluster IPs is served in the family.
func (s *service) external(p servicePort, f uint8) bool {
	in := func(addr netip.Addr) bool { return family(addr) == f }
	return p.nodePort != 0 || slices.ContainsFunc(s.externalIPs, in) || slices.ContainsFunc(s.balancerIPs, in)
}

// scopes are the groups that the frontends of a port refer to in a family. Local external policy needs Cluster
// too: Pods and the node itself use it.
func (s *service) scopes(p servicePort, f uint8) []Scope {
	external := s.external(p, f)
	var out []Scope
	if !s.internalLocal || external {
		out = append(out, Cluster)
	}
	if s.internalLocal || s.externalLocal && external {
		out = append(out, Local)
	}
	return out
}

// sourceRanges are the clients that may use the load balancer's addresses of a family; nil means everybody.
//
//  1. No entry, or an entry that covers everything: everybody. An entry 0.0.0.0/0 alone opens IPv6 too, since it
//     is how people write "open".
//  2. Otherwise only the entries of the family, none if there are none: who restricts a Service to IPv4 ranges
//     does not mean to open it to all of IPv6. (kube-proxy does open it.)
//  3. A node in a range may reach the addresses even where they are local to it, and are then its source too.
func (s *service) sourceRanges(f uint8, nodeAddrs []netip.Addr) []netip.Prefix {
	if !s.restricted {
		return nil
	}
	own := []netip.Prefix{}
	otherOpen := false
	for _, p := range s.ranges {
		switch {
		case family(p.Addr()) != f:
			otherOpen = otherOpen || p.Bits() == 0
		case p.Bits() == 0:
			return nil
		default:
			own = append(own, p)
		}
	}
	if len(own) == 0 && otherOpen {
		return nil
	}
	nodeInside := slices.ContainsFunc(own, func(p netip.Prefix) bool {
		return slices.ContainsFunc(nodeAddrs, p.Contains)
	})
	if nodeInside {
		for _, addr := range s.balancerIPs {
			if family(addr) == f {
				own = append(own, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
	}
	return mergePrefixes(own)
}

// frontends are all that the Service claims, in no particular order. nodeAddrs are the node's own addresses.
func (s *service) frontends(node *Node, nodeAddrs []netip.Addr, masqueradeAll bool) []*Frontend {
	families := s.families()
	served := func(addr netip.Addr) bool { return slices.Contains(families, family(addr)) }
	var out []*Frontend
	for _, p := range s.ports {
		for _, addr := range s.clusterIPs {
			out = append(out, s.internalFrontend(p, addr, node, masqueradeAll))
		}
		for _, addr := range s.externalIPs {
			// An address that is also the load balancer's is served as such, or its source ranges would not hold.
			if served(addr) && !slices.Contains(s.balancerIPs, addr) {
				out = append(out, s.externalFrontend(p, ExternalIP, addr, p.port))
			}
		}
		for _, addr := range s.balancerIPs {
			if served(addr) {
				f := s.externalFrontend(p, LoadBalancerIP, addr, p.port)
				f.SourceRanges = s.sourceRanges(family(addr), nodeAddrs)
				out = append(out, f)
			}
		}
		if p.nodePort == 0 {
			continue
		}
		for _, fam := range families {
			out = append(out, s.externalFrontend(p, NodePort, unspecified(fam), p.nodePort))
		}
	}
	return out
}

// internalFrontend serves a cluster IP. Clients outside the local range may be routed through this node, and the
// answer must come back by it: masqueraded, if they can be told at all.
func (s *service) internalFrontend(p servicePort, addr netip.Addr, node *Node, masqueradeAll bool) *Frontend {
	group := GroupKey{Port: p.name, Family: family(addr), Scope: Cluster}
	if s.internalLocal {
		group.Scope = Local
	}
	far := masqueradeAll || node.detects(family(addr))
	return &Frontend{
		Key:        FrontendKey{Addr: addr, Protocol: p.name.Protocol, Port: p.port},
		Kind:       ClusterIP,
		Port:       p.name,
		Internal:   group,
		External:   group,
		Masquerade: Masquerade{Pods: masqueradeAll, Host: far, Outside: far},
		Affinity:   s.affinity,
	}
}

// externalFrontend serves an address that clients outside the cluster use. With policy Cluster the endpoint may be
// on another node, so everybody is masqueraded. With Local the client's address is kept; the node itself is
// masqueraded nevertheless, since its source may be the very address it talks to.
func (s *service) externalFrontend(p servicePort, kind FrontendKind, addr netip.Addr, port uint16) *Frontend {
	cluster := GroupKey{Port: p.name, Family: family(addr), Scope: Cluster}
	f := &Frontend{
		Key:        FrontendKey{Addr: addr, Protocol: p.name.Protocol, Port: port},
		Kind:       kind,
		Port:       p.name,
		Internal:   cluster,
		External:   cluster,
		Masquerade: Masquerade{Pods: true, Host: true, Outside: true},
		Affinity:   s.affinity,
	}
	if s.externalLocal {
		f.External.Scope = Local
		f.Masquerade = Masquerade{Host: true}
	}
	return f
}

// before is the order of precedence of two claims to one FrontendKey.
func (f *Frontend) before(other *Frontend) int {
	return cmp.Or(cmp.Compare(f.Kind, other.Kind), comparePort(f.Port, other.Port))
}

func (f *Frontend) equal(other *Frontend) bool {
	a, b := *f, *other
	if !slices.Equal(a.SourceRanges, b.SourceRanges) || (a.SourceRanges == nil) != (b.SourceRanges == nil) {
		return false
	}
	return a.Key == b.Key && a.Kind == b.Kind && a.Port == b.Port && a.Internal == b.Internal &&
		a.External == b.External && a.Masquerade == b.Masquerade && a.Affinity == b.Affinity
}

func comparePort(a, b ServicePortName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name),
		strings.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

func compareFrontendKeys(a, b FrontendKey) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

func compareGroupKeys(a, b GroupKey) int {
	return cmp.Or(comparePort(a.Port, b.Port), cmp.Compare(a.Family, b.Family), cmp.Compare(a.Scope, b.Scope))
}
