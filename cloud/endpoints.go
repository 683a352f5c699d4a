package cloud

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// Endpoint is what a balancer sends to that does not go by way of nodes: a Pod, or another address behind the Service.
type Endpoint struct {
	// Address is an IP address.
	Address string `json:"address"`
	// Ports that it takes traffic on, by the Port.Key of the Service's port: where a targetPort is a name they differ from
	// one Pod to the next. A port of the Service that is missing is not served here.
	Ports map[string]int32 `json:"ports"`
	// Zone and Node that it is in; empty where they are not known.
	Zone string `json:"zone,omitempty"`
	Node string `json:"node,omitempty"`
	// Pod is the name, in the Service's namespace, of the Pod whose address it is, and PodUID its UID; empty: no Pod's.
	Pod    string `json:"pod,omitempty"`
	PodUID string `json:"podUID,omitempty"`
}

// Family returns the family of the address.
func (e Endpoint) Family() Family {
	if address, err := netip.ParseAddr(e.Address); err == nil && address.Is4() {
		return IPv4
	}
	return IPv6
}

// EndpointsOf returns what a balancer with these ports that sends to Pods sends to, from the EndpointSlices of its Service,
// sorted by address: the endpoints that are ready, as every consumer of slices understands it, so that a Pod is left out as soon as
// it terminates, unless the Service publishes addresses that are not ready. An endpoint that is neither ready nor
// terminating is taken all the same where waiting says so of its Pod: one that is not ready because it waits for the
// balancer. Nil: none waits. No two endpoints have one port of the Service at the same address and number. Pure.
func EndpointsOf(ports []Port, published []*discoveryv1.EndpointSlice, waiting func(pod *corev1.ObjectReference) bool) []Endpoint {
	byKey := map[endpointKey]*Endpoint{}
	for _, slice := range published {
		numbers := slicePorts(ports, slice)
		if slice.AddressType == discoveryv1.AddressTypeFQDN || len(numbers) == 0 {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if len(e.Addresses) == 0 || !takesTraffic(e, waiting) {
				continue
			}
			made := plainEndpoint(e)
			key := endpointKey{made.Address, made.PodUID}
			if byKey[key] == nil {
				byKey[key] = &made
			}
			for port, number := range numbers {
				if have, twice := byKey[key].Ports[port]; !twice || number < have { // whatever the order of the slices
					byKey[key].Ports[port] = number
				}
			}
		}
	}
	result := make([]Endpoint, 0, len(byKey))
	for _, e := range byKey {
		result = append(result, *e)
	}
	slices.SortFunc(result, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.PodUID, b.PodUID))
	})
	return withoutRepetition(result)
}

// endpointKey tells endpoints apart. Pods on their node's network share its address.
type endpointKey struct{ address, pod string }

func takesTraffic(e *discoveryv1.Endpoint, waiting func(*corev1.ObjectReference) bool) bool {
	if ptr.Deref(e.Conditions.Ready, true) {
		return true
	}
	return !ptr.Deref(e.Conditions.Terminating, false) && waiting != nil && isPod(e.TargetRef) && waiting(e.TargetRef)
}

func isPod(ref *corev1.ObjectReference) bool { return ref != nil && ref.Kind == "Pod" }

func plainEndpoint(e *discoveryv1.Endpoint) Endpoint {
	made := Endpoint{Address: e.Addresses[0], Ports: map[string]int32{}, Zone: ptr.Deref(e.Zone, ""), Node: ptr.Deref(e.NodeName, "")}
	if isPod(e.TargetRef) {
		made.Pod, made.PodUID = e.TargetRef.Name, string(e.TargetRef.UID)
	}
	return made
}

// slicePorts returns the numbers of a slice's ports by the keys of the balancer's.
func slicePorts(ports []Port, slice *discoveryv1.EndpointSlice) map[string]int32 {
	numbers := map[string]int32{}
	for _, p := range ports {
		for _, sp := range slice.Ports {
			if sp.Port == nil || ptr.Deref(sp.Name, "") != p.Name {
				continue
			}
			if string(ptr.Deref(sp.Protocol, corev1.ProtocolTCP)) == p.Protocol {
				numbers[p.Key()] = *sp.Port
			}
		}
	}
	return numbers
}

// withoutRepetition takes a port off an endpoint where one before it has the same at the same address.
func withoutRepetition(sorted []Endpoint) []Endpoint {
	type place struct {
		address, key string
		number       int32
	}
	taken := map[place]bool{}
	return slices.DeleteFunc(sorted, func(e Endpoint) bool {
		for key, number := range e.Ports {
			at := place{e.Address, key, number}
			if taken[at] {
				delete(e.Ports, key)
			}
			taken[at] = true
		}
		return len(e.Ports) == 0
	})
}

// podPorts are the ports of a Service that sends to Pods. A port of another protocol than TCP, which nothing need answer
// on, is as healthy as the Service's first TCP port whose number is the same for all Pods; without one it is refused.
func podPorts(svc *corev1.Service) ([]Port, error) {
	common := int32(0)
	for _, p := range svc.Spec.Ports {
		if number := targetNumber(p); common == 0 && protocolOf(p) == string(corev1.ProtocolTCP) {
			common = number
		}
	}
	var unchecked []string
	result := make([]Port, 0, len(svc.Spec.Ports))
	for _, p := range svc.Spec.Ports {
		port := Port{Name: p.Name, Protocol: protocolOf(p), Port: p.Port, HealthCheck: HealthCheck{Protocol: "TCP"}}
		if port.Protocol != string(corev1.ProtocolTCP) {
			if port.HealthCheck.Port = common; common == 0 {
				unchecked = append(unchecked, port.Key())
			}
		}
		result = append(result, port)
	}
	slices.SortFunc(result, func(a, b Port) int { return strings.Compare(a.Key(), b.Key()) })
	if len(unchecked) > 0 {
		slices.Sort(unchecked)
		return result, fmt.Errorf("spec.ports: nothing shows the balancer whether a Pod takes %s: add a TCP port whose targetPort is a number, "+
			"or send to nodes", strings.Join(unchecked, ", "))
	}
	return result, nil
}

// targetNumber is the port that every Pod has for a port of the Service; 0: the targetPort is a name.
func targetNumber(p corev1.ServicePort) int32 {
	switch {
	case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
		return 0
	case p.TargetPort.IntVal != 0:
		return p.TargetPort.IntVal
	}
	return p.Port
}
