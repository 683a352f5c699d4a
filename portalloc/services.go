package portalloc

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Duplicate is a port that two Services hold.
type Duplicate struct {
	Port int
	// Services as namespace/name: the one that keeps it (the older, then the first by name), then the others.
	Services []string
}

// FromServices makes an allocator in which every node port and health check node port of the Services is in use, and
// returns the ports that more than one Service holds, sorted. Ports outside the range are left out: they were given out
// when the range was another. Nothing of the Services is changed or kept.
func FromServices(ports Range, services []*corev1.Service) (*Allocator, []Duplicate) {
	sorted := slices.Clone(services)
	slices.SortFunc(sorted, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	a := New(ports)
	holders := map[int][]string{}
	for _, svc := range sorted {
		for _, port := range PortsOf(svc) {
			if !ports.Contains(port) {
				continue
			}
			if !a.Has(port) {
				// It cannot fail: the port is in the range and free.
				_ = a.Reserve(port)
			}
			holders[port] = append(holders[port], svc.Namespace+"/"+svc.Name)
		}
	}
	var duplicates []Duplicate
	for port, names := range holders {
		if len(names) > 1 {
			duplicates = append(duplicates, Duplicate{Port: port, Services: names})
		}
	}
	slices.SortFunc(duplicates, func(x, y Duplicate) int { return cmp.Compare(x.Port, y.Port) })
	return a, duplicates
}

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

// Assign chooses node ports for the ports of a Service that have none, and returns them by index into spec.ports; those
// that have one are not in it. Ports with the same number and different protocols share one, as they do when the API
// server creates a Service. What it returns is reserved in the allocator; after an error, an *ExhaustedError, nothing
// is. The Service is not changed.
func Assign(a *Allocator, svc *corev1.Service, intn func(n int) int) (map[int]int32, error) {
	chosen := map[int]int32{}
	var reserved []int
	nodePort := func(i int) int32 { return cmp.Or(svc.Spec.Ports[i].NodePort, chosen[i]) }
	// free reports whether no port of the protocol has the node port yet.
	free := func(port int32, protocol corev1.Protocol) bool {
		for i, p := range svc.Spec.Ports {
			if nodePort(i) == port && protocolOf(p) == protocol {
				return false
			}
		}
		return true
	}
	for i, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			continue
		}
		for j, other := range svc.Spec.Ports {
			if shared := nodePort(j); shared != 0 && other.Port == p.Port && free(shared, protocolOf(p)) {
				chosen[i] = shared
				break
			}
		}
		if chosen[i] != 0 {
			continue
		}
		port, err := a.Allocate(intn)
		if err != nil {
			for _, port := range reserved {
				a.Release(port)
			}
			return nil, err
		}
		reserved = append(reserved, port)
		chosen[i] = int32(port)
	}
	return chosen, nil
}

func protocolOf(p corev1.ServicePort) corev1.Protocol {
	return cmp.Or(p.Protocol, corev1.ProtocolTCP)
}
