package cloudtest

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/cloud"
)

// step is one thing that a user does.
type step struct {
	name string
	// spec after it; nil for the deletion of the Service.
	spec *cloud.Spec
}

// steps is a life of a Service that visits every kind of change.
func steps(h *Harness) []step {
	caps := h.New().Capabilities()
	base := Spec(caps, 3)
	moreNodes := Spec(caps, 5)
	ports := Spec(caps, 5)
	ports.Ports = append(ports.Ports, port("TCP", 8443, 30444))
	ports.Ports[0].NodePort, ports.Ports[0].HealthCheck.Port = 30111, 30111
	local := ports
	local.Ports = slices.Clone(ports.Ports[1:])
	if caps.LocalHealthChecks {
		localOnly(&local)
	}
	if caps.SourceRanges {
		local.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	}
	list := []step{{"create", &base}, {"add nodes", &moreNodes}, {"change ports", &ports}, {"change policy", &local}}
	if caps.PodTargets {
		list = append(list, podSteps(caps)...)
	}
	list = append(list, step{"delete", nil})
	for _, s := range list {
		if s.spec != nil {
			*s.spec = h.adapt(*s.spec)
		}
	}
	return list
}

// localOnly has nodes asked on a port of the Service's own.
func localOnly(spec *cloud.Spec) {
	spec.LocalOnly = true
	for i := range spec.Ports {
		spec.Ports[i].HealthCheck = cloud.HealthCheck{Protocol: "HTTP", Port: 32000, Path: cloud.HealthzPath}
	}
}

func (h *Harness) adapt(spec cloud.Spec) cloud.Spec {
	if h.Adapt == nil {
		return spec
	}
	return h.Adapt(spec)
}

const clusterID = "cluster-a"

// owner is the n-th Service of the suite. UIDs differ where they begin: upstream's service controller cuts their end off in
// the names that it gives.
func owner(n int) cloud.Owner {
	return cloud.Owner{ClusterID: clusterID, ServiceUID: fmt.Sprintf("7f3e%04x-0000-4000-8000-0c1a00000000", n),
		Namespace: "shop", Name: fmt.Sprintf("cart%d", n)}
}

// Spec is a Spec of the suite: a TCP port, a UDP port where the provider can have both, and n nodes in two zones, for
// one owner.
func Spec(caps cloud.Capabilities, n int) cloud.Spec {
	s := cloud.Spec{
		Owner:    owner(1),
		Families: []cloud.Family{caps.Families[0]},
		Ports:    []cloud.Port{port("TCP", 80, 30080)},
	}
	if caps.DualStack {
		s.Families = slices.Clone(caps.Families)
	}
	if caps.MixedProtocols && slices.Contains(caps.Protocols, "UDP") {
		s.Ports = append(s.Ports, port("UDP", 53, 30053))
	}
	for i := range n {
		s.Nodes = append(s.Nodes, cloud.Node{Name: fmt.Sprintf("n%d", i+1), ProviderID: fmt.Sprintf("test://n%d", i+1),
			Zone: fmt.Sprintf("zone-%c", 'a'+i%2), Addresses: []string{fmt.Sprintf("172.30.0.%d", 11+i), fmt.Sprintf("fd00:172:30::%x", 11+i)}})
	}
	return s
}

// member is the Spec of the n-th Service of a group that shares one balancer: each has a port of its own.
func member(h *Harness, n int) cloud.Spec {
	s := Spec(h.New().Capabilities(), 2)
	s.Owner = owner(n)
	s.Owner.Group = "web"
	s.Ports = []cloud.Port{port("TCP", int32(8000+n), int32(30800+n))}
	return h.adapt(s)
}

func port(protocol string, number, nodePort int32) cloud.Port {
	check := cloud.HealthCheck{Protocol: "TCP", Port: nodePort}
	if protocol != "TCP" {
		check = cloud.HealthCheck{Protocol: "HTTP", Port: cloud.HealthzPort, Path: cloud.HealthzPath}
	}
	return cloud.Port{Name: fmt.Sprintf("p%d", number), Protocol: protocol, Port: number, NodePort: nodePort, HealthCheck: check}
}
