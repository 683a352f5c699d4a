package conformance

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	namespaceName = metav1.NamespaceDefault
	// Ports of Services. Each has the three protocols.
	servicePort = 80
	secondPort  = 443
)

// option changes a Service while it is made.
type option func(f Family, svc *corev1.Service)

// service makes a Service of one family with the cluster IP of a number, port 80 and all protocols.
func (f Family) service(name string, n int, options ...option) *corev1.Service {
	svc := newService(f.name(name))
	svc.Spec.ClusterIP = f.clusterAddr(n).String()
	svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	svc.Spec.IPFamilies = []corev1.IPFamily{f.api()}
	svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	return f.complete(svc, n, options)
}

// dualService makes one of both families. It is the same for either.
func (f Family) dualService(name string, n int, options ...option) *corev1.Service {
	svc := newService(name)
	svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	for _, g := range Families {
		svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, g.clusterAddr(n).String())
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, g.api())
	}
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	return Families[0].complete(svc, n, options)
}

func newService(name string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName, Name: name, Labels: map[string]string{}}}
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	addPorts(svc, servicePort)
	return svc
}

// addPorts adds a port for each protocol.
func addPorts(svc *corev1.Service, port int32) {
	for _, protocol := range AllProtocols {
		name := protocol
		if port != servicePort {
			name = fmt.Sprint(protocol, "-", port)
		}
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name: name, Protocol: corev1.Protocol(strings.ToUpper(protocol)), Port: port,
		})
	}
}

// complete applies options, and what the API server would otherwise choose by itself.
func (f Family) complete(svc *corev1.Service, n int, options []option) *corev1.Service {
	for _, o := range options {
		o(f, svc)
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		svc.Spec.AllocateLoadBalancerNodePorts = new(svc.Spec.Ports[0].NodePort != 0)
		if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
			svc.Spec.HealthCheckNodePort = f.healthPort(n)
		}
	}
	return svc
}

// withNodePort gives the Service a node port of a number.
func withNodePort(n int) option {
	return func(f Family, svc *corev1.Service) {
		if svc.Spec.Type == corev1.ServiceTypeClusterIP {
			svc.Spec.Type = corev1.ServiceTypeNodePort
		}
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].NodePort = f.nodePort(n)
		}
	}
}

// withBalancer gives it load balancer addresses, of the number and ipMode given.
func withBalancer(n int, mode *corev1.LoadBalancerIPMode) option {
	return func(f Family, svc *corev1.Service) {
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress,
			corev1.LoadBalancerIngress{IP: f.externalAddr(n).String(), IPMode: mode})
	}
}

// withExternalIP gives it an external IP.
func withExternalIP(n int) option {
	return func(f Family, svc *corev1.Service) {
		svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, f.externalAddr(n).String())
	}
}

func withRanges(ranges ...string) option {
	return func(_ Family, svc *corev1.Service) { svc.Spec.LoadBalancerSourceRanges = ranges }
}

func internalLocal(_ Family, svc *corev1.Service) {
	svc.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
}

func externalLocal(_ Family, svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func withSecondPort(_ Family, svc *corev1.Service) { addPorts(svc, secondPort) }

func withLabel(key, value string) option {
	return func(_ Family, svc *corev1.Service) { svc.Labels[key] = value }
}

// withAffinity turns session affinity on.
func withAffinity(seconds int32) option {
	return func(_ Family, svc *corev1.Service) {
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
}

// slice makes an EndpointSlice of a Service with all its ports.
func (f Family) slice(svc *corev1.Service, part int, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceName, Name: fmt.Sprintf("%s-%d-%d", svc.Name, f, part),
			Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
		},
		AddressType: f.addressType(), Endpoints: endpoints,
	}
	for _, p := range svc.Spec.Ports {
		port := int32(targetPort)
		if p.Port == secondPort {
			port = secondTargetPort
		}
		es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(p.Protocol), Port: &port})
	}
	return es
}

// endpointOption changes an endpoint while it is made.
type endpointOption func(e *discoveryv1.Endpoint)

// endpoint makes one that is ready: a and b are on this node, c and d on the other.
func (f Family) endpoint(name string, options ...endpointOption) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{f.endpointAddr(name).String()}, NodeName: new(NodeName), Zone: new(zoneOfNode)}
	if name == "c" || name == "d" {
		e.NodeName, e.Zone = new(otherNode), new(otherZone)
	}
	conditions(true, true, false)(&e)
	for _, o := range options {
		o(&e)
	}
	return e
}

func (f Family) endpointAddr(name string) netip.Addr {
	return map[string]netip.Addr{"a": f.podAddr(2), "b": f.podAddr(3), "c": f.farPodAddr(2), "d": f.farPodAddr(3)}[name]
}

func conditions(ready, serving, terminating bool) endpointOption {
	return func(e *discoveryv1.Endpoint) {
		e.Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
}

// Conditions of endpoints that are not ready.
var (
	unready     = conditions(false, false, false)
	terminating = conditions(false, true, true) // and serving
	terminated  = conditions(false, false, true)
)

func forZones(names ...string) endpointOption {
	return func(e *discoveryv1.Endpoint) {
		if e.Hints == nil {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		for _, name := range names {
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: name})
		}
	}
}

func forNodes(names ...string) endpointOption {
	return func(e *discoveryv1.Endpoint) {
		if e.Hints == nil {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		for _, name := range names {
			e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: name})
		}
	}
}

// ready is a list of ready endpoints.
func (f Family) ready(names ...string) []discoveryv1.Endpoint {
	var all []discoveryv1.Endpoint
	for _, name := range names {
		all = append(all, f.endpoint(name))
	}
	return all
}

// served is a Service and one slice of ready endpoints.
func (f Family) served(svc *corev1.Service, endpoints ...string) []Object {
	return []Object{svc, f.slice(svc, 1, f.ready(endpoints...)...)}
}

func (f Family) serviceCIDR(name string) *networkingv1.ServiceCIDR {
	cidr := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: f.name(name)}}
	cidr.Spec.CIDRs = []string{f.newCIDR().String()}
	return cidr
}

// Targets.

func (f Family) clusterIP(n int) Target { return target("cluster IP", f.clusterAddr(n), servicePort) }

func (f Family) balancer(n int) Target {
	return target("load balancer address", f.externalAddr(n), servicePort)
}

func (f Family) externalIP(n int) Target {
	return target("external IP", f.externalAddr(n), servicePort)
}

func (f Family) primary(n int) Target { return target("node port", f.nodeAddr(), f.nodePort(n)) }

func (f Family) health(n int) Target {
	return target("health check node port", f.nodeAddr(), f.healthPort(n))
}

func target(name string, addr netip.Addr, port int32) Target {
	return Target{Name: name, AddrPort: netip.AddrPortFrom(addr, uint16(port))}
}

// port is the target at another port.
func (t Target) port(name string, port uint16) Target {
	return Target{Name: name, AddrPort: netip.AddrPortFrom(t.Addr(), port)}
}

// probe is the common form.
func probe(from Client, to Target, want Outcome) Probe { return Probe{From: from, To: to, Want: want} }

// probes asks for the same by several clients.
func probes(to Target, want Outcome, from ...Client) []Probe {
	var all []Probe
	for _, c := range from {
		all = append(all, probe(c, to, want))
	}
	return all
}

// closed asks what no proxy serves and a machine itself refuses. A machine has no SCTP that would.
func closed(from Client, to Target) Probe {
	return Probe{From: from, To: to, Want: Rejected, Protocols: []string{"tcp", "udp"}}
}
