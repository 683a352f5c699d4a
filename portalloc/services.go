package portalloc

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// HealthCheck is what the healthCheckNodePort of a Service is kept for, beside its ports.
const HealthCheck = "healthCheck"

// Key names a Service.
type Key struct{ Namespace, Name string }

// KeyOf returns the name of a Service.
func KeyOf(svc *corev1.Service) Key { return Key{svc.Namespace, svc.Name} }

// String returns "namespace/name".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// Precedes reports whether a keeps a port that b has, too: the older one does, of two of one age the first by namespace
// and name.
func Precedes(a, b *corev1.Service) bool { return entryOf(a).compare(entryOf(b)) < 0 }

// PortsOf returns the node ports and the health check node port of a Service, each once, sorted. TCP and UDP may share
// one within a Service.
func PortsOf(svc *corev1.Service) []int {
	var ports []int
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			ports = append(ports, int(p.NodePort))
		}
	}
	if p := svc.Spec.HealthCheckNodePort; p != 0 {
		ports = append(ports, int(p))
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// NeedsNodePorts reports whether the API server gives every port of the Service a node port.
func NeedsNodePorts(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// NeedsHealthCheck reports whether the Service has a healthCheckNodePort. allocateLoadBalancerNodePorts says nothing
// about it.
func NeedsHealthCheck(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// Restore returns what an update of a Service leaves out and the API server puts back from the Service as it was: node
// ports by the name of the port, unless another port has them now, and the healthCheckNodePort. A Service that needed no
// node ports before, or needs none now, gets none back. Neither is changed.
func Restore(svc, old *corev1.Service) Assignment {
	restored := Assignment{Ports: map[int]int32{}}
	if NeedsNodePorts(svc) && NeedsNodePorts(old) {
		byName, kept := map[string]int32{}, map[int32]bool{}
		for _, p := range old.Spec.Ports {
			byName[p.Name] = p.NodePort
		}
		for _, p := range svc.Spec.Ports {
			kept[p.NodePort] = true
		}
		for i, p := range svc.Spec.Ports {
			if before := byName[p.Name]; p.NodePort == 0 && before != 0 && !kept[before] {
				restored.Ports[i] = before
			}
		}
	}
	if NeedsHealthCheck(svc) && NeedsHealthCheck(old) && svc.Spec.HealthCheckNodePort == 0 {
		restored.HealthCheck = old.Spec.HealthCheckNodePort
	}
	return restored
}

// Assignment is what a Service lacked and gets.
type Assignment struct {
	// Ports are node ports by index into spec.ports.
	Ports map[int]int32
	// HealthCheck is the healthCheckNodePort; 0: none is needed, or it is there.
	HealthCheck int32
}

// Empty reports whether there is nothing to write.
func (a Assignment) Empty() bool { return len(a.Ports) == 0 && a.HealthCheck == 0 }

// Apply writes the assignment into the Service that it was made for.
func (a Assignment) Apply(svc *corev1.Service) {
	for i, port := range a.Ports {
		svc.Spec.Ports[i].NodePort = port
	}
	if a.HealthCheck != 0 {
		svc.Spec.HealthCheckNodePort = a.HealthCheck
	}
}

// use names a port of a Service: "53/UDP". By that a name that comes back gets the node port that it had.
func use(p corev1.ServicePort) string { return fmt.Sprintf("%d/%s", p.Port, protocolOf(p)) }

// UsesOf returns what the Service has a node port for: "53/UDP", HealthCheck. Sorted.
func UsesOf(svc *corev1.Service, port int) []string {
	var uses []string
	for _, p := range svc.Spec.Ports {
		if int(p.NodePort) == port {
			uses = append(uses, use(p))
		}
	}
	if int(svc.Spec.HealthCheckNodePort) == port {
		uses = append(uses, HealthCheck)
	}
	slices.Sort(uses)
	return uses
}

func protocolOf(p corev1.ServicePort) corev1.Protocol {
	return cmp.Or(p.Protocol, corev1.ProtocolTCP)
}
