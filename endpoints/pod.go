package endpoints

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netutils "k8s.io/utils/net"
)

// Zone is what is known of the node that a Pod runs on.
type Zone struct {
	// Name is the node's label topology.kubernetes.io/zone; empty where it has none.
	Name string
	// NodeMissing says that the node is not known (yet).
	NodeMissing bool
}

// Identity tells endpoints of one Service and family apart: two with equal identities are one endpoint at different
// times. It leaves out the Pod's UID on purpose, as upstream: a Pod of a StatefulSet that comes back under its name
// and address replaces the endpoint in place. It holds the Pod's name, since two Pods can share an address for a
// while (kubernetes/kubernetes#115907).
type Identity struct {
	addresses, hostname, namespace, name string
}

// IdentityOf returns the identity of an endpoint.
func IdentityOf(endpoint *discoveryv1.Endpoint) Identity {
	var id Identity
	switch len(endpoint.Addresses) {
	case 0:
	case 1:
		id.addresses = endpoint.Addresses[0]
	default:
		sorted := slices.Sorted(slices.Values(endpoint.Addresses))
		id.addresses = strings.Join(sorted, ",")
	}
	if endpoint.Hostname != nil {
		id.hostname = *endpoint.Hostname
	}
	if endpoint.TargetRef != nil {
		id.namespace, id.name = endpoint.TargetRef.Namespace, endpoint.TargetRef.Name
	}
	return id
}

func (id Identity) compare(other Identity) int {
	return compareAll(
		strings.Compare(id.name, other.name),
		strings.Compare(id.addresses, other.addresses),
		strings.Compare(id.hostname, other.hostname),
		strings.Compare(id.namespace, other.namespace),
	)
}

// compareAll returns the first of several comparisons that is not a draw.
func compareAll(comparisons ...int) int {
	for _, c := range comparisons {
		if c != 0 {
			return c
		}
	}
	return 0
}

// Publishable says whether a Pod can be an endpoint at all. A Pod that has ended never is, not even with
// publishNotReadyAddresses: its address may be another Pod's by now (kubernetes/kubernetes#110255).
func Publishable(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed && len(pod.Status.PodIPs) > 0
}

// podReady says whether a Pod's Ready condition is true.
func podReady(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// podAddresses appends a Pod's addresses of one family, in the usual form.
func podAddresses(addresses []string, pod *corev1.Pod, family discoveryv1.AddressType) []string {
	for i := range pod.Status.PodIPs {
		addresses = appendAddress(addresses, pod.Status.PodIPs[i].IP, family)
	}
	return addresses
}

// appendAddress appends an address in the usual form if it is one of the family.
func appendAddress(addresses []string, address string, family discoveryv1.AddressType) []string {
	// The usual form, which nearly every address has, needs no other string.
	var form [64]byte
	if ip, err := netip.ParseAddr(address); err == nil && !ip.Is4In6() && ip.Zone() == "" && string(ip.AppendTo(form[:0])) == address {
		if ip.Is6() == (family == discoveryv1.AddressTypeIPv6) {
			addresses = append(addresses, address)
		}
		return addresses
	}
	ip := netutils.ParseIPSloppy(address)
	if ip == nil || netutils.IsIPv6(ip) != (family == discoveryv1.AddressTypeIPv6) {
		return addresses
	}
	return append(addresses, ip.String())
}

// podHostname returns the hostname of a Pod's endpoint, or the empty string: only a Pod that names this Service as its
// subdomain has one.
func podHostname(pod *corev1.Pod, service *corev1.Service) string {
	if pod.Spec.Subdomain != service.Name || pod.Namespace != service.Namespace {
		return ""
	}
	return pod.Spec.Hostname
}

// What the conditions of all endpoints point to. Endpoints never change once they are made.
var isTrue, isFalse = true, false

func boolean(value bool) *bool {
	if value {
		return &isTrue
	}
	return &isFalse
}

// endpointOf returns the endpoint of a Pod in one family; it has no addresses where the Pod has none in that family.
// All that it points to is one piece of memory.
func (s *Set) endpointOf(pod *corev1.Pod, zone string, family discoveryv1.AddressType) *discoveryv1.Endpoint {
	serving := podReady(pod)
	terminating := pod.DeletionTimestamp != nil
	whole := &struct {
		endpoint             discoveryv1.Endpoint
		target               corev1.ObjectReference
		hostname, node, zone string
		address              [1]string
	}{
		target: corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		node:   pod.Spec.NodeName, zone: zone, hostname: podHostname(pod, s.service),
	}
	endpoint := &whole.endpoint
	endpoint.Addresses = s.addressesOf(whole.address[:0], pod, family)
	endpoint.Conditions = discoveryv1.EndpointConditions{
		Ready:       boolean(s.service.Spec.PublishNotReadyAddresses || serving && !terminating),
		Serving:     boolean(serving),
		Terminating: boolean(terminating),
	}
	endpoint.TargetRef = &whole.target
	if whole.hostname != "" {
		endpoint.Hostname = &whole.hostname
	}
	if whole.node != "" {
		endpoint.NodeName = &whole.node
	}
	if zone != "" {
		endpoint.Zone = &whole.zone
	}
	return endpoint
}

// addressesOf appends a Pod's addresses of one family, from wherever this set takes them.
func (s *Set) addressesOf(addresses []string, pod *corev1.Pod, family discoveryv1.AddressType) []string {
	if s.opts.Addresses == nil {
		return podAddresses(addresses, pod, family)
	}
	for _, address := range s.opts.Addresses(pod) {
		addresses = appendAddress(addresses, address, family)
	}
	return addresses
}

// equalEndpoints says whether two endpoints of equal identity are the same in everything that we write.
func equalEndpoints(a, b *discoveryv1.Endpoint) bool {
	return equalAddresses(a.Addresses, b.Addresses) &&
		equalPointers(a.Conditions.Ready, b.Conditions.Ready) &&
		equalPointers(a.Conditions.Serving, b.Conditions.Serving) &&
		equalPointers(a.Conditions.Terminating, b.Conditions.Terminating) &&
		equalPointers(a.Hostname, b.Hostname) &&
		equalPointers(a.TargetRef, b.TargetRef) &&
		equalPointers(a.NodeName, b.NodeName) &&
		equalPointers(a.Zone, b.Zone) &&
		len(a.DeprecatedTopology) == len(b.DeprecatedTopology) &&
		equalHints(a.Hints, b.Hints)
}

// equalAddresses compares shared addresses, which most are, without looking at them.
func equalAddresses(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// equalHints takes no hints and empty hints for the same: the API server keeps either form.
func equalHints(a, b *discoveryv1.EndpointHints) bool {
	if a == nil {
		a = &discoveryv1.EndpointHints{}
	}
	if b == nil {
		b = &discoveryv1.EndpointHints{}
	}
	return slices.Equal(a.ForZones, b.ForZones) && slices.Equal(a.ForNodes, b.ForNodes)
}

func equalPointers[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
