package endpoints

import (
	"fmt"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// mirrorChange is what is to become of one slice: a nil old is created, a nil group is deleted.
type mirrorChange struct {
	old   *discoveryv1.EndpointSlice
	group *mirrorGroup
	// drops are the routes that stay and that it takes out of its slice: worked out once, since each change is looked at
	// as often as there are others that cannot be done before it.
	drops []route
}

// route is one way to reach an endpoint: what must not vanish while slices change places. The port is empty for
// endpoints without ports.
type route struct {
	family  discoveryv1.AddressType
	address string
	port    string
}

// routes are the ways into a slice, each once.
type routes map[route]struct{}

func (r routes) add(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoint *discoveryv1.Endpoint) {
	for _, address := range endpoint.Addresses {
		if len(ports) == 0 {
			r[route{family: family, address: address}] = struct{}{}
		}
		for i := range ports {
			port := fmt.Sprintf("%s %d %s", value(ports[i].Name), value(ports[i].Port), value(ports[i].Protocol))
			r[route{family: family, address: address, port: port}] = struct{}{}
		}
	}
}

func routesOfSlice(slice *discoveryv1.EndpointSlice) routes {
	found := routes{}
	if slice != nil {
		for i := range slice.Endpoints {
			found.add(slice.AddressType, slice.Ports, &slice.Endpoints[i])
		}
	}
	return found
}

func routesOfGroup(g *mirrorGroup) routes {
	found := routes{}
	if g != nil {
		for _, endpoint := range g.endpoints {
			found.add(g.key.family, g.ports, endpoint)
		}
	}
	return found
}

// order turns changes into writes so that whatever can be reached before and after can be reached at any time between.
//
//  1. New slices take nothing away and come first.
//  2. Then always the first change that leaves each route that stays in at least one slice.
//  3. Where every change would take one away, since slices exchange endpoints, the first is made a new slice instead,
//     and its old one is deleted at the end.
//
// An Endpoints object that is being deleted gets no new slices; then the order is the best there is without them.
func (m *mirror) order(changes []mirrorChange) []Write {
	before, after := map[route]int{}, routes{}
	for _, slice := range m.existing {
		for r := range routesOfSlice(slice) {
			before[r]++
		}
	}
	for _, g := range m.groups {
		for r := range routesOfGroup(g) {
			after[r] = struct{}{}
		}
	}
	o := &ordering{mirror: m, holders: before, stay: routes{}}
	for r := range after {
		if before[r] > 0 {
			o.stay[r] = struct{}{}
		}
	}
	for i := range changes {
		changes[i].drops = o.drops(changes[i])
	}
	for len(changes) > 0 {
		at := slices.IndexFunc(changes, func(c mirrorChange) bool { return o.safe(c) })
		switch {
		case at >= 0:
		case m.deleting() || changes[0].group == nil:
			at = 0
		default:
			o.write(mirrorChange{group: changes[0].group})
			last := mirrorChange{old: changes[0].old}
			last.drops = o.drops(last)
			changes = append(changes[1:], last)
			continue
		}
		o.write(changes[at])
		changes = slices.Delete(changes, at, at+1)
	}
	return o.writes
}

// deleting says whether the Endpoints object is being deleted.
func (m *mirror) deleting() bool { return m.source.DeletionTimestamp != nil }

// ordering is the state of the slices after the writes so far.
type ordering struct {
	*mirror
	// holders says in how many slices each route is.
	holders map[route]int
	// stay are the routes that there are before and after.
	stay   routes
	writes []Write
}

// drops returns the routes that stay and that a change takes out of its slice.
func (o *ordering) drops(c mirrorChange) []route {
	var dropped []route
	next := routesOfGroup(c.group)
	for r := range routesOfSlice(c.old) {
		_, stays := o.stay[r]
		if _, kept := next[r]; stays && !kept {
			dropped = append(dropped, r)
		}
	}
	return dropped
}

func (o *ordering) safe(c mirrorChange) bool {
	return !slices.ContainsFunc(c.drops, func(r route) bool { return o.holders[r] <= 1 })
}

func (o *ordering) write(c mirrorChange) {
	if c.old == nil && o.deleting() {
		return
	}
	write := Write{Verb: Update, Moves: len(c.drops) > 0}
	switch {
	case c.old == nil:
		write.Verb, write.Slice = Create, o.build(nil, c.group)
	case c.group == nil:
		write.Verb, write.Slice = Delete, c.old.DeepCopy()
	default:
		write.Slice = o.build(c.old, c.group)
	}
	o.writes = append(o.writes, write)
	for r := range routesOfSlice(c.old) {
		o.holders[r]--
	}
	for r := range routesOfGroup(c.group) {
		o.holders[r]++
	}
}
