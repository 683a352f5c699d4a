package listeners

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

// Clash is a socket on an address and port where a Service is served on the node.
type Clash struct {
	Service  types.NamespacedName
	Protocol string
	Port     uint16
	// HealthCheck is true for a healthCheckNodePort, which the agent itself listens on, and false for a node port.
	HealthCheck bool
	// Listener is where the socket listens.
	Listener netip.AddrPort
	// UID is its owner's; Process is empty where it cannot be seen.
	UID     uint32
	Process string

	inode uint32
}

// place is what makes a clash the same one as before.
type place struct {
	service  types.NamespacedName
	protocol string
	listener netip.AddrPort
}

func (c *Clash) place() place { return place{c.Service, c.Protocol, c.Listener} }

// port is a node port or a healthCheckNodePort.
type port struct {
	dpsync.NodePort
	healthCheck bool
}

// Clashes finds the sockets, but for those in except (by inode), that listen on a node port of uses or a
// healthCheckNodePort of checks on one of the addresses where these are served. Sorted by port, protocol, Service and
// listener; several sockets of one address and port are one clash.
func Clashes(uses []dpsync.NodePort, checks []model.HealthCheck, on model.NodePortAddresses, sockets []Socket, except map[uint32]bool) []Clash {
	type key struct {
		protocol model.Protocol
		port     uint16
	}
	ports := map[key][]port{}
	add := func(p port) {
		k := key{p.Protocol, p.Port}
		ports[k] = append(ports[k], p)
	}
	for _, use := range uses {
		add(port{NodePort: use})
	}
	for _, check := range checks {
		add(port{healthCheck: true, NodePort: dpsync.NodePort{
			Service: check.Service, Family: check.Family, Protocol: model.TCP, Port: check.Port,
		}})
	}
	found := map[place]Clash{}
	for _, s := range sockets {
		if except[s.Inode] {
			continue
		}
		for _, p := range ports[key{s.Protocol, s.Port}] {
			if !s.takes(p.Family, on) {
				continue
			}
			c := Clash{Service: p.Service, Protocol: p.Protocol.String(), Port: p.Port, HealthCheck: p.healthCheck,
				Listener: netip.AddrPortFrom(s.Addr, s.Port), UID: s.UID, inode: s.Inode}
			if _, known := found[c.place()]; !known {
				found[c.place()] = c
			}
		}
	}
	out := make([]Clash, 0, len(found))
	for _, c := range found {
		out = append(out, c)
	}
	slices.SortFunc(out, compare)
	return out
}

func compare(a, b Clash) int {
	return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Service.String(), b.Service.String()), a.Listener.Compare(b.Listener))
}

// takes says whether the socket would get packets of a family to one of the addresses where node ports are served.
func (s Socket) takes(family uint8, on model.NodePortAddresses) bool {
	all := on.AllIPv4
	if family == 6 {
		all = on.AllIPv6
	}
	served := func(addr netip.Addr) bool { return addr.Is4() == (family == 4) }
	if s.Addr.IsUnspecified() {
		if family == 4 && s.Addr.Is6() && s.Only6 || family == 6 && s.Addr.Is4() {
			return false
		}
		return all || slices.ContainsFunc(on.Addrs, served)
	}
	if !served(s.Addr) || s.Addr.IsLoopback() {
		return false
	}
	return all || slices.Contains(on.Addrs, s.Addr)
}

// sortedGone lists what was and is no more.
func sortedGone(was, is map[place]Clash) []Clash {
	var gone []Clash
	for place, c := range was {
		if _, still := is[place]; !still {
			gone = append(gone, c)
		}
	}
	slices.SortFunc(gone, compare)
	return gone
}

// sameChecks compares ports alone: numbers of endpoints change all the time.
func sameChecks(a, b []model.HealthCheck) bool {
	return slices.EqualFunc(a, b, func(x, y model.HealthCheck) bool {
		return x.Service == y.Service && x.Family == y.Family && x.Port == y.Port
	})
}

func sameAddresses(a, b model.NodePortAddresses) bool {
	return a.AllIPv4 == b.AllIPv4 && a.AllIPv6 == b.AllIPv6 && slices.Equal(a.Addrs, b.Addrs)
}
