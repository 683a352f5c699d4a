package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// slice is an EndpointSlice as the model needs it: parsed, without what cannot be served.
type slice struct {
	service   types.NamespacedName
	family    uint8
	ports     []slicePort
	endpoints []sliceEndpoint
}

type slicePort struct {
	name     string
	protocol Protocol
	number   uint16
}

// sliceEndpoint keeps of the hints only what this node can use. All of a Service's ready endpoints must have hints
// of a kind before that kind counts, so having any, and naming this node or zone, are two facts.
type sliceEndpoint struct {
	addr                                netip.Addr
	ready, serving, terminating         bool
	local                               bool
	hasNodeHints, forNode, hasZoneHints bool
	zones                               []string
}

// readSlice parses an EndpointSlice; nil means that it is none of a proxied Service: no Service's name, of a
// headless Service, or of another address type. What is malformed is left out and named by the error.
func readSlice(es *discoveryv1.EndpointSlice, nodeName string) (*slice, error) {
	s := &slice{service: types.NamespacedName{Namespace: es.Namespace, Name: es.Labels[discoveryv1.LabelServiceName]}}
	if _, headless := es.Labels[corev1.IsHeadlessService]; headless || s.service.Name == "" {
		return nil, nil
	}
	switch es.AddressType {
	case discoveryv1.AddressTypeIPv4:
		s.family = 4
	case discoveryv1.AddressTypeIPv6:
		s.family = 6
	default:
		return nil, nil
	}
	var problems []string
	for _, p := range es.Ports {
		// Without a name or number there is no Service port that it could serve.
		if p.Name == nil || p.Port == nil || *p.Port == 0 {
			continue
		}
		port, err := readSlicePort(p)
		if err != nil {
			problems = append(problems, fmt.Sprintf("port %q: %v", *p.Name, err))
			continue
		}
		s.ports = append(s.ports, port)
	}
	for _, e := range es.Endpoints {
		if len(e.Addresses) == 0 {
			problems = append(problems, "endpoint without an address")
			continue
		}
		addr, err := parseAddr(e.Addresses[0])
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("endpoint %v", err))
			continue
		case family(addr) != s.family:
			problems = append(problems, fmt.Sprintf("endpoint %q in a slice of %s", e.Addresses[0], es.AddressType))
			continue
		case !reachable(addr):
			problems = append(problems, fmt.Sprintf("endpoint %q (an address of no Pod)", e.Addresses[0]))
			continue
		}
		s.endpoints = append(s.endpoints, readEndpoint(addr, e, nodeName))
	}
	if len(problems) > 0 {
		return s, fmt.Errorf("EndpointSlice %s/%s: ignoring %s", es.Namespace, es.Name, strings.Join(problems, "; "))
	}
	return s, nil
}

func readSlicePort(p discoveryv1.EndpointPort) (slicePort, error) {
	var name corev1.Protocol
	if p.Protocol != nil {
		name = *p.Protocol
	}
	protocol, err := parseProtocol(name)
	if err != nil {
		return slicePort{}, err
	}
	number, err := parsePort(*p.Port)
	return slicePort{name: *p.Name, protocol: protocol, number: number}, err
}

// readEndpoint applies the API's meaning of nil conditions: ready and serving unless said otherwise, terminating
// only if said so.
func readEndpoint(addr netip.Addr, e discoveryv1.Endpoint, nodeName string) sliceEndpoint {
	out := sliceEndpoint{
		addr:        addr,
		ready:       e.Conditions.Ready == nil || *e.Conditions.Ready,
		serving:     e.Conditions.Serving == nil || *e.Conditions.Serving,
		terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
		local:       e.NodeName != nil && nodeName != "" && *e.NodeName == nodeName,
	}
	if e.Hints != nil {
		out.hasNodeHints = len(e.Hints.ForNodes) > 0
		out.hasZoneHints = len(e.Hints.ForZones) > 0
		for _, hint := range e.Hints.ForNodes {
			out.forNode = out.forNode || nodeName != "" && hint.Name == nodeName
		}
		for _, hint := range e.Hints.ForZones {
			out.zones = append(out.zones, hint.Name)
		}
	}
	return out
}

// candidate is an endpoint of one Service port, of one family.
type candidate struct {
	at *sliceEndpoint
	to netip.AddrPort
}

// gather lists the endpoints of a Service port over all its slices, sorted by address and port. The same one may
// stand twice, while it moves between slices or when its address was given to a new Pod before the old one is
// gone: the one that is not terminating wins, then the ready, then the serving; then the order of slices, which
// the caller has sorted by name.
func gather(sorted []*slice, port ServicePortName, f uint8) []candidate {
	var out []candidate
	for _, s := range sorted {
		if s.family != f {
			continue
		}
		for _, p := range s.ports {
			if p.name != port.Port || p.protocol != port.Protocol {
				continue
			}
			for i := range s.endpoints {
				e := &s.endpoints[i]
				out = append(out, candidate{at: e, to: netip.AddrPortFrom(e.addr, p.number)})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		if c := a.to.Compare(b.to); c != 0 {
			return c // mostly, so the rest is not to cost anything
		}
		return cmp.Or(falseFirst(a.at.terminating, b.at.terminating),
			falseFirst(b.at.ready, a.at.ready), falseFirst(b.at.serving, a.at.serving))
	})
	return slices.CompactFunc(out, func(a, b candidate) bool { return a.to == b.to })
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (c candidate) isReady() bool { return c.at.ready }

// isLast is the last resort: going away, but still serving.
func (c candidate) isLast() bool { return c.at.serving && c.at.terminating }

// chooseCluster picks the endpoints for traffic policy Cluster:
//
//  1. the ready ones, by hints: those for this node if every ready one has node hints and one names this node;
//     else the same for zones; else all of them;
//  2. without a ready one: the terminating ones that still serve, whatever their hints.
func chooseCluster(all []candidate, zone string) []Endpoint {
	ready, nodeHints, zoneHints, forNode, forZone := false, true, true, false, false
	inZone := func(c candidate) bool { return zone != "" && slices.Contains(c.at.zones, zone) }
	for _, c := range all {
		if !c.isReady() {
			continue
		}
		ready = true
		nodeHints = nodeHints && c.at.hasNodeHints
		zoneHints = zoneHints && c.at.hasZoneHints
		forNode = forNode || c.at.forNode
		forZone = forZone || inZone(c)
	}
	switch {
	case !ready:
		return pick(all, candidate.isLast, true)
	case nodeHints && forNode:
		return pick(all, func(c candidate) bool { return c.isReady() && c.at.forNode }, false)
	case zoneHints && forZone:
		return pick(all, func(c candidate) bool { return c.isReady() && inZone(c) }, false)
	}
	return pick(all, candidate.isReady, false)
}

// chooseLocal picks the endpoints for traffic policy Local: the ready ones of this node, or else its terminating
// ones that still serve. Hints do not matter.
func chooseLocal(all []candidate) []Endpoint {
	ready := pick(all, func(c candidate) bool { return c.at.local && c.isReady() }, false)
	if len(ready) > 0 {
		return ready
	}
	return pick(all, func(c candidate) bool { return c.at.local && c.isLast() }, true)
}

func pick(all []candidate, want func(candidate) bool, terminating bool) []Endpoint {
	var out []Endpoint
	for _, c := range all {
		if want(c) {
			out = append(out, Endpoint{Addr: c.to, Local: c.at.local, Terminating: terminating})
		}
	}
	return out
}

// usable says whether any node could serve the port.
func usable(all []candidate) bool {
	return slices.ContainsFunc(all, func(c candidate) bool { return c.isReady() || c.isLast() })
}

// buildGroup makes one group of a Service port from all its endpoints of the family.
func buildGroup(key GroupKey, all []candidate, zone string) *Group {
	if key.Scope == Cluster {
		return &Group{Key: key, Endpoints: chooseCluster(all, zone)}
	}
	g := &Group{Key: key, Endpoints: chooseLocal(all)}
	if len(g.Endpoints) == 0 && usable(all) {
		g.Empty = Drop
	}
	return g
}

func (g *Group) equal(other *Group) bool {
	return g.Key == other.Key && g.Empty == other.Empty && slices.Equal(g.Endpoints, other.Endpoints)
}

// addLocalReady adds the addresses of this node's ready endpoints to a set.
func addLocalReady(addrs map[netip.Addr]bool, all []candidate) {
	for _, c := range all {
		if c.at.local && c.isReady() {
			addrs[c.at.addr] = true
		}
	}
}
