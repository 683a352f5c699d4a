package cloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Family is IPv4 or IPv6.
type Family string

// Families.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// HealthzPort and HealthzPath are where a node's proxy says whether the node can forward at all (KEP-3836). HealthzPath
// is also the path on a Service's healthCheckNodePort.
const (
	HealthzPort = 10256
	HealthzPath = "/healthz"
)

// Spec is what one Service asks of a load balancer. Plain data, complete: a provider needs nothing else, and two equal
// Specs mean the same balancer. Everything in it is sorted.
type Spec struct {
	Owner Owner `json:"owner"`
	// Parameters is the provider's member of the class's parameters as JSON; nil means the class sets none. Read it
	// with DecodeParameters.
	Parameters json.RawMessage `json:"parameters,omitempty"`
	// Annotations of the Service that begin with one of the provider's prefixes. Read them with NewAnnotations.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Families in the Service's order; at least one.
	Families []Family `json:"families"`
	Ports    []Port   `json:"ports"`
	// Nodes that traffic may be sent to; none with PodTargets.
	Nodes []Node `json:"nodes,omitempty"`
	// PodTargets: traffic is sent to Endpoints and by way of no node. Only with Capabilities.PodTargets.
	PodTargets bool `json:"podTargets,omitempty"`
	// Endpoints that traffic may be sent to; none without PodTargets.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// SourceRanges that may connect; empty means everyone. Where it is not empty and holds no range of a family, nobody
	// of that family may connect.
	SourceRanges []netip.Prefix `json:"sourceRanges,omitempty"`
	// AffinitySeconds for which a client stays on one target; 0 means no affinity.
	AffinitySeconds int32 `json:"affinitySeconds,omitempty"`
	// LocalOnly: nodes without an endpoint of their own drop the traffic (externalTrafficPolicy Local). Their health
	// check says so. Never with PodTargets.
	LocalOnly bool `json:"localOnly,omitempty"`
	// RequestedAddress is spec.loadBalancerIP; empty means any.
	RequestedAddress string `json:"requestedAddress,omitempty"`
}

// Port is one port of the balancer.
type Port struct {
	// Name in the Service; empty is allowed where there is one port only.
	Name string `json:"name,omitempty"`
	// Protocol is TCP, UDP or SCTP.
	Protocol string `json:"protocol"`
	Port     int32  `json:"port"`
	// NodePort that nodes listen on; 0 with PodTargets, and where Capabilities.NodePorts is false.
	NodePort    int32       `json:"nodePort,omitempty"`
	HealthCheck HealthCheck `json:"healthCheck"`
}

// Key tells the port from the others of its Service: protocol and number, as in "tcp-80".
func (p Port) Key() string { return fmt.Sprintf("%s-%d", strings.ToLower(p.Protocol), p.Port) }

// HealthCheck says how a node, or an Endpoint, shows that it takes a port's traffic.
type HealthCheck struct {
	// Protocol is TCP (a connection is accepted) or HTTP (GET Path answers 200).
	Protocol string `json:"protocol"`
	// Port; 0, with PodTargets: the one that the traffic is sent to.
	Port int32  `json:"port"`
	Path string `json:"path,omitempty"`
}

// DecodeParameters reads Spec.Parameters into the provider's own type; nothing is changed where there are none. A field
// that the type does not have is a UserError.
func DecodeParameters(parameters json.RawMessage, into any) error {
	if len(parameters) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(parameters))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return Errorf(UserError, "reading the parameters of the class: %w", err)
	}
	return nil
}

// Input is what a Spec is built from.
type Input struct {
	ClusterID string
	Service   *corev1.Service
	// Class that serves the Service; nil means the provider's defaults.
	Class *v1alpha1.LoadBalancerClassSpec
	Nodes []*corev1.Node
	// Slices of the Service, and Waiting for EndpointsOf. Only where it sends to Pods (Options.Pods), or did where that is
	// unknown; nil otherwise.
	Slices       []*discoveryv1.EndpointSlice
	Waiting      func(pod *corev1.ObjectReference) bool
	Capabilities Capabilities
}

// BuildSpec turns a Service, its class and the nodes into a Spec. Pure: nothing of the input is changed, nor kept but as
// Owner.Service, of an Opaque provider, and Node.Object. Its
// error is of class UserError and names, in one line, everything that the provider cannot do, every wrong annotation of
// ours, and what to change. Pending is returned for a port that is still to get its node port. Beside an error the Spec
// is what could be read, which is enough to say what the targets are.
func BuildSpec(in Input) (Spec, Options, error) {
	svc := in.Service
	options, errs := parseOptions(svc, in.Class, in.Capabilities)
	parameters, err := classParameters(in.Class)
	errs = append(errs, err)
	spec := Spec{
		Owner:       OwnerOf(in.ClusterID, svc),
		Parameters:  parameters,
		Annotations: withPrefix(svc.Annotations, in.Capabilities.AnnotationPrefixes),
		Families:    families(svc),
	}
	if in.Capabilities.Opaque {
		spec.Owner.Service = svc
	}
	if options.PodsUnknown {
		options.Pods = in.Slices != nil && in.Capabilities.PodTargets
	}
	if options.Pods {
		spec.PodTargets = true
		spec.Ports, err = podPorts(svc)
		errs = append(errs, err)
		spec.Endpoints = EndpointsOf(spec.Ports, in.Slices, in.Waiting)
	} else {
		spec.LocalOnly = svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		if spec.LocalOnly && !in.Capabilities.LocalHealthChecks {
			errs = append(errs, errors.New("spec.externalTrafficPolicy: the provider cannot ask nodes whether they have a Pod of the Service, "+
				"and those that have none drop its traffic: use Cluster"))
		}
		spec.Nodes, spec.Ports = in.Capabilities.Told(EligibleNodes(in.Nodes)), ports(svc)
	}
	errs = append(errs, checkPorts(spec.Ports, in.Capabilities)...)
	errs = append(errs, checkFamilies(spec.Families, in.Capabilities)...)

	ranges, field, rangeErrs := sourceRanges(svc)
	errs = append(errs, rangeErrs...)
	if in.Capabilities.SourceRanges {
		spec.SourceRanges = ranges
	} else if restricts(ranges, spec.Families) {
		errs = append(errs, checkRanges(field, in.Capabilities.Passthrough && !options.Pods))
	}
	switch seconds := affinitySeconds(svc); {
	case in.Capabilities.SessionAffinity:
		spec.AffinitySeconds = seconds
	case seconds > 0:
		errs = append(errs, errors.New("spec.sessionAffinity: the provider keeps no client on one target, and so on one Pod: use None"))
	}
	spec.RequestedAddress, err = requestedAddress(svc, spec.Families, in.Capabilities)
	errs = append(errs, err)

	err = joinUserErrors(errs)
	if err == nil && in.Capabilities.NodePorts && !options.Pods {
		err = checkNodePorts(svc, in.Class)
	}
	return spec, options, err
}

// OwnerOf returns the owner that a Service is in a cluster. A group that could not be one is none.
func OwnerOf(clusterID string, svc *corev1.Service) Owner {
	owner := Owner{ClusterID: clusterID, ServiceUID: string(svc.UID), Namespace: svc.Namespace, Name: svc.Name}
	if group := strings.TrimSpace(svc.Annotations[v1alpha1.AnnotationShare]); isGroup(group) {
		owner.Group = group
	}
	return owner
}

// classParameters returns the one member that is set, as JSON; nil where there is none.
func classParameters(class *v1alpha1.LoadBalancerClassSpec) (json.RawMessage, error) {
	if class == nil || class.Parameters == nil {
		return nil, nil
	}
	p := class.Parameters
	var member any
	switch {
	case p.Fake != nil:
		member = p.Fake
	case p.AWS != nil:
		member = p.AWS
	case p.GCP != nil:
		member = p.GCP
	case p.Azure != nil:
		member = p.Azure
	case p.Custom != nil:
		member = p.Custom
	default:
		return nil, nil
	}
	parameters, err := json.Marshal(member)
	if err != nil {
		return nil, fmt.Errorf("writing the parameters of class %q: %w", class.ClassName, err)
	}
	return parameters, nil
}

func families(svc *corev1.Service) []Family {
	if len(svc.Spec.IPFamilies) == 0 {
		return []Family{IPv4}
	}
	result := make([]Family, len(svc.Spec.IPFamilies))
	for i, family := range svc.Spec.IPFamilies {
		result[i] = Family(family)
	}
	return result
}

func checkFamilies(families []Family, caps Capabilities) []error {
	var errs []error
	for _, family := range families {
		if !slices.Contains(caps.Families, family) {
			errs = append(errs, fmt.Errorf("spec.ipFamilies: the provider has no %s", family))
		}
	}
	if len(families) > 1 && !caps.DualStack && len(errs) == 0 {
		errs = append(errs, errors.New("spec.ipFamilyPolicy: the provider has one family at a time: use SingleStack"))
	}
	return errs
}

func ports(svc *corev1.Service) []Port {
	firstTCP := int32(0)
	for _, p := range svc.Spec.Ports {
		if protocolOf(p) == string(corev1.ProtocolTCP) {
			firstTCP = p.NodePort
			break
		}
	}
	result := make([]Port, 0, len(svc.Spec.Ports))
	for _, p := range svc.Spec.Ports {
		port := Port{Name: p.Name, Protocol: protocolOf(p), Port: p.Port, NodePort: p.NodePort}
		switch {
		case svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal:
			port.HealthCheck = HealthCheck{Protocol: "HTTP", Port: svc.Spec.HealthCheckNodePort, Path: HealthzPath}
		case port.Protocol == string(corev1.ProtocolTCP):
			port.HealthCheck = HealthCheck{Protocol: "TCP", Port: p.NodePort}
		case firstTCP != 0:
			port.HealthCheck = HealthCheck{Protocol: "TCP", Port: firstTCP}
		default:
			// Nothing of the Service itself answers a connection: ask the node's proxy.
			port.HealthCheck = HealthCheck{Protocol: "HTTP", Port: HealthzPort, Path: HealthzPath}
		}
		result = append(result, port)
	}
	slices.SortFunc(result, func(a, b Port) int { return strings.Compare(a.Key(), b.Key()) })
	return result
}

func protocolOf(p corev1.ServicePort) string {
	if p.Protocol == "" {
		return string(corev1.ProtocolTCP)
	}
	return string(p.Protocol)
}

func checkPorts(ports []Port, caps Capabilities) []error {
	var errs []error
	var used []string
	for _, p := range ports {
		if !slices.Contains(caps.Protocols, p.Protocol) {
			errs = append(errs, fmt.Errorf("spec.ports: the provider has no %s (port %d)", p.Protocol, p.Port))
		}
		if !slices.Contains(used, p.Protocol) {
			used = append(used, p.Protocol)
		}
	}
	if len(used) > 1 && !caps.MixedProtocols {
		errs = append(errs, fmt.Errorf("spec.ports: %s together: %w", strings.Join(used, " and "), ErrMixedProtocols))
	}
	if caps.MaxPorts > 0 && len(ports) > caps.MaxPorts {
		errs = append(errs, fmt.Errorf("spec.ports: %d ports, the provider takes %d at most", len(ports), caps.MaxPorts))
	}
	return errs
}

// checkNodePorts says what to do about ports without a node port: wait, where the class numbers them, else tell the
// user.
func checkNodePorts(svc *corev1.Service, class *v1alpha1.LoadBalancerClassSpec) error {
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			continue
		}
		if class != nil && class.NodePorts == v1alpha1.NodePortsAuto {
			return Errorf(Pending, "port %d is still to get its node port", p.Port)
		}
		return Errorf(UserError, "port %d has no node port, which the provider sends to: "+
			"remove allocateLoadBalancerNodePorts: false, set nodePort, or set nodePorts: Auto or, if it can, targets: Pods in the class", p.Port)
	}
	return nil
}

// specSourceRanges is the field that nodes read.
const specSourceRanges = "spec.loadBalancerSourceRanges"

// sourceRanges reads the field of the spec, or else the older annotation, as upstream does, and says which of them it was.
func sourceRanges(svc *corev1.Service) ([]netip.Prefix, string, []error) {
	field, values := specSourceRanges, svc.Spec.LoadBalancerSourceRanges
	if len(values) == 0 {
		field = v1alpha1.AnnotationSourceRanges
		if text := strings.TrimSpace(svc.Annotations[field]); text != "" {
			values = strings.Split(text, ",")
		}
	}
	var ranges []netip.Prefix
	var errs []error
	for _, value := range values {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(value))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not a range such as 192.0.2.0/24", field, value))
			continue
		}
		ranges = append(ranges, prefix.Masked())
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges), field, errs
}

// restricts reports whether there are ranges that keep somebody of a family out.
func restricts(ranges []netip.Prefix, families []Family) bool {
	return len(ranges) > 0 && slices.ContainsFunc(families, func(family Family) bool {
		return !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Bits() == 0 && p.Addr().Is4() == (family == IPv4) })
	})
}

// checkRanges is about ranges that the provider does not enforce. Nodes on the way do, those of the spec, which alone they read;
// where nobody does, a balancer is open, and the Service is not to look served.
func checkRanges(field string, byNodes bool) error {
	switch {
	case !byNodes:
		return fmt.Errorf("%s: the provider cannot keep anybody out, so that no balancer is made, and one that runs stays open to everyone: "+
			"leave it out, or choose a class whose provider can", field)
	case field != specSourceRanges:
		return fmt.Errorf("%s: here nodes enforce source ranges, and read them in the spec alone: name them in %s", field, specSourceRanges)
	}
	return nil
}

func affinitySeconds(svc *corev1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return *c.ClientIP.TimeoutSeconds
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}

// requestedAddress reads spec.loadBalancerIP, which has to be of one of the Service's families: else nothing would have it.
func requestedAddress(svc *corev1.Service, families []Family, caps Capabilities) (string, error) {
	text := svc.Spec.LoadBalancerIP
	if text == "" {
		return "", nil
	}
	if !caps.RequestedAddress {
		return "", errors.New("spec.loadBalancerIP: the provider takes no address from there: leave it out; if it can have addresses of yours, " +
			"its own annotations name them")
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return "", fmt.Errorf("spec.loadBalancerIP: %q is not an IP address", text)
	}
	family := IPv6
	if address.Is4() {
		family = IPv4
	}
	if !slices.Contains(families, family) {
		return "", fmt.Errorf("spec.loadBalancerIP: %s is of %s, which the Service does not have: leave it out or change spec.ipFamilies", address, family)
	}
	return address.String(), nil
}

// joinUserErrors makes one UserError of several; nil where there is none. Sorted, so that the message is stable.
func joinUserErrors(errs []error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return &Error{Class: UserError, Err: oneLine(errs)}
}

// oneLine is errors.Join on a single line, since the text goes into conditions.
type oneLine []error

func (e oneLine) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e oneLine) Unwrap() []error { return e }
