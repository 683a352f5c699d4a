package model

import (
	"iter"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Flow is what a kernel remembers of one connection, or of an exchange of datagrams.
type Flow struct {
	Protocol Protocol
	// To is where the client sends. Endpoint is who gets it and answers: To itself unless someone translated it.
	To, Endpoint netip.AddrPort
	// Translated is true when the destination was translated.
	Translated bool
	// Answered is true when packets were seen in both directions.
	Answered bool
}

// PortEndpoint is an endpoint of one Service port.
type PortEndpoint struct {
	Port ServicePortName
	Addr netip.AddrPort
}

// Suspects say where to look for flows that no longer lead to who serves. They accuse nobody: whether a flow found
// there is stale is for Tracker.Stale to say, as of the time when it is asked.
type Suspects struct {
	// All asks for a look at every UDP flow of every frontend: after a start, nobody knows what happened before.
	All bool
	// Endpoints left their Service port, or serve it no longer. The value is true for those that ended: they were
	// terminating when they were last seen.
	Endpoints map[PortEndpoint]bool
	// Frontends, of UDP and SCTP, came, went or moved from one Service port to another. The value is false for those
	// that we did not serve before: only flows that nobody translated can be stale there.
	Frontends map[FrontendKey]bool
}

// maxSuspects bounds the memory of suspects that nobody takes, because writes fail for long.
const maxSuspects = 1 << 16

// Empty is true when there is nothing to look for.
func (s *Suspects) Empty() bool {
	return !s.All && len(s.Endpoints) == 0 && len(s.Frontends) == 0
}

// Add takes later suspects in. What was seen last of an endpoint is what counts: one that came back and then lost its
// label alone has not ended.
func (s *Suspects) Add(later *Suspects) {
	s.All = s.All || later.All
	for e, ended := range later.Endpoints {
		s.addEndpoint(e, ended)
	}
	for key, was := range later.Frontends {
		s.addFrontend(key, was)
	}
}

func (s *Suspects) addEndpoint(e PortEndpoint, ended bool) {
	if _, known := s.Endpoints[e]; !known && s.full() {
		return
	}
	if s.Endpoints == nil {
		s.Endpoints = map[PortEndpoint]bool{}
	}
	s.Endpoints[e] = ended
}

func (s *Suspects) addFrontend(key FrontendKey, was bool) {
	if s.All && !was && key.Protocol == UDP {
		return // looked at anyway
	}
	if _, known := s.Frontends[key]; !known && s.full() {
		return
	}
	if s.Frontends == nil {
		s.Frontends = map[FrontendKey]bool{}
	}
	s.Frontends[key] = s.Frontends[key] || was
}

// full is true when there is no room for more; then a look at all flows of UDP takes their place.
func (s *Suspects) full() bool {
	if len(s.Endpoints)+len(s.Frontends) < maxSuspects {
		return false
	}
	s.All = true
	return true
}

// TakeSuspects returns the suspects of all Changes since it was last called; the first ones are All. Call it when those
// Changes were written: as long as the old rules are in the kernel, a flow that is removed comes back.
func (t *Tracker) TakeSuspects() *Suspects {
	s := t.suspects
	t.suspects = &Suspects{}
	return s
}

// replaceSlice notes until the next Changes what a slice was; nil: it goes. What an endpoint was when last seen may be
// in none of the slices that two Changes in a row know. As long as everything is suspected anyway nothing is noted.
func (t *Tracker) replaceSlice(e *entry, name string, by *slice) {
	old := e.slices[name]
	if old != nil && !t.suspects.All && (by == nil || !old.sameEndpoints(by)) {
		e.replaced = append(e.replaced, old)
	}
}

func (s *slice) sameEndpoints(other *slice) bool {
	return slices.Equal(s.ports, other.ports) &&
		slices.EqualFunc(s.endpoints, other.endpoints, func(a, b sliceEndpoint) bool {
			return a.addr == b.addr && a.serves() == b.serves() && a.terminating == b.terminating
		})
}

func (e *sliceEndpoint) serves() bool { return e.ready || e.serving }

// suspectEndpoints compares what the replaced slices had for a Service port with all that it has now, which is sorted.
func (t *Tracker) suspectEndpoints(e *entry, port ServicePortName, f uint8, now []candidate) {
	type seen struct{ served, terminating bool }
	var before map[netip.AddrPort]seen
	for _, s := range e.replaced {
		if s.family != f {
			continue
		}
		for number := range s.numbers(port) {
			for i := range s.endpoints {
				at := &s.endpoints[i]
				addr := netip.AddrPortFrom(at.addr, number)
				if before == nil {
					before = map[netip.AddrPort]seen{}
				}
				before[addr] = seen{served: before[addr].served || at.serves(), terminating: at.terminating}
			}
		}
	}
	for addr, was := range before {
		i, found := slices.BinarySearchFunc(now, addr, func(c candidate, a netip.AddrPort) int { return c.to.Compare(a) })
		switch {
		case !found:
			t.suspects.addEndpoint(PortEndpoint{Port: port, Addr: addr}, was.terminating)
		case was.served && !now[i].at.serves():
			t.suspects.addEndpoint(PortEndpoint{Port: port, Addr: addr}, false)
		}
	}
}

// suspectFrontend compares a frontend with the one in its place before; either may be nil.
func (t *Tracker) suspectFrontend(old, now *Frontend) {
	switch {
	case now == nil:
		t.addSuspect(old.Key, true)
	case old == nil:
		t.addSuspect(now.Key, false)
	case old.Port != now.Port:
		t.addSuspect(now.Key, true)
	}
}

func (t *Tracker) addSuspect(key FrontendKey, was bool) {
	if key.Protocol != TCP {
		t.suspects.addFrontend(key, was)
	}
}

// Stale says whether a flow should be forgotten: it is one of our Services', suspected, and leads to nobody who serves.
//
// Datagrams may go elsewhere at any time, so theirs are stale when their endpoint does not serve now. Connections
// belong to their endpoint as long as that lives, label or not, ready or not: theirs are stale when the endpoint ended
// and its Service port does not know its address (a new Pod that got the address answers for itself). SCTP is treated
// as connections once it was answered.
//
// A flow that nobody translated is one from before the Service. But on an address of the machine it may be a program's
// that listens there, and outside of cluster IPs a host's that really has the address, if it has answered.
func (t *Tracker) Stale(s *Suspects, f Flow) bool {
	key, frontend := t.frontendOf(s, f.FrontendKey())
	datagrams := f.Protocol == UDP || f.Protocol == SCTP && !f.Answered
	was, asked := s.Frontends[key]
	if frontend == nil {
		return was && datagrams && f.Translated
	}
	e := PortEndpoint{Port: frontend.Port, Addr: f.Endpoint}
	known, serves := t.lookUp(e)
	ended, left := s.Endpoints[e]
	all := s.All && f.Protocol == UDP
	switch {
	case !datagrams:
		return f.Translated && ended && !known
	case serves:
		return false
	case f.Translated:
		return left || was || all
	}
	return (asked || all) && frontend.Kind != NodePort && !slices.Contains(t.machine, key.Addr) &&
		(frontend.Kind == ClusterIP || !f.Answered)
}

// FrontendKey is where the client sends.
func (f *Flow) FrontendKey() FrontendKey {
	return FrontendKey{Addr: f.To.Addr(), Protocol: f.Protocol, Port: f.To.Port()}
}

// frontendOf finds whose packets to an address are: a frontend that is served, or nil and the key of one that is
// suspected to have gone, if there is any.
func (t *Tracker) frontendOf(s *Suspects, key FrontendKey) (FrontendKey, *Frontend) {
	if f := t.state.Frontends[key]; f != nil {
		return key, f
	}
	if t.servesNodePorts(key.Addr) {
		nodePort := key
		nodePort.Addr = unspecified(family(key.Addr))
		if f := t.state.Frontends[nodePort]; f != nil {
			return nodePort, f
		}
		if _, gone := s.Frontends[nodePort]; gone {
			return nodePort, nil
		}
	}
	return key, nil
}

func (t *Tracker) servesNodePorts(addr netip.Addr) bool {
	n := &t.state.Node.NodePorts
	if addr.Is4() && n.AllIPv4 || addr.Is6() && n.AllIPv6 {
		return len(t.machine) == 0 || slices.Contains(t.machine, addr)
	}
	return slices.Contains(n.Addrs, addr)
}

// numbers are the port numbers by which a slice serves a Service port.
func (s *slice) numbers(port ServicePortName) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for _, p := range s.ports {
			if p.name == port.Port && p.protocol == port.Protocol && !yield(p.number) {
				return
			}
		}
	}
}

// lookUp says whether a Service port has an endpoint in its slices, and whether it serves.
func (t *Tracker) lookUp(e PortEndpoint) (known, serves bool) {
	owner := t.services[types.NamespacedName{Namespace: e.Port.Namespace, Name: e.Port.Name}]
	if owner == nil {
		return false, false
	}
	for _, s := range owner.slices {
		if s.family != family(e.Addr.Addr()) {
			continue
		}
		for number := range s.numbers(e.Port) {
			if number != e.Addr.Port() {
				continue
			}
			for i := range s.endpoints {
				if at := &s.endpoints[i]; at.addr == e.Addr.Addr() {
					known = true
					serves = serves || at.serves()
				}
			}
		}
	}
	return known, serves
}
