package endpoints

import (
	"maps"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// groupKey names the endpoints that may share a slice: one family, one set of ports.
type groupKey struct {
	family discoveryv1.AddressType
	ports  string
}

type group struct {
	key   groupKey
	ports []discoveryv1.EndpointPort
	// members counts those that have an endpoint here, be it wanted or not.
	members   int
	endpoints map[Identity]wanted
	// hidden are endpoints of the same identity as one of a member with a lesser name, which producers without Pods
	// can have.
	hidden map[Identity][]wanted
}

// wanted is an endpoint that slices should hold, and whose it is.
type wanted struct {
	member   *member
	endpoint *discoveryv1.Endpoint
}

// put adds an endpoint. Of several of one identity the one of the least name counts.
func (g *group) put(id Identity, w wanted) {
	current, ok := g.endpoints[id]
	switch {
	case !ok:
		g.endpoints[id] = w
		return
	case w.member.name < current.member.name:
		g.endpoints[id] = w
		w = current
	}
	if g.hidden == nil {
		g.hidden = map[Identity][]wanted{}
	}
	g.hidden[id] = append(g.hidden[id], w)
	slices.SortFunc(g.hidden[id], func(a, b wanted) int { return strings.Compare(a.member.name, b.member.name) })
}

// remove takes out a member's endpoint.
func (g *group) remove(id Identity, m *member) {
	hidden := g.hidden[id]
	switch {
	case g.endpoints[id].member != m:
		hidden = slices.DeleteFunc(hidden, func(w wanted) bool { return w.member == m })
	case len(hidden) > 0:
		g.endpoints[id] = hidden[0]
		hidden = hidden[1:]
	default:
		delete(g.endpoints, id)
		return
	}
	g.hidden[id] = hidden
	if len(hidden) == 0 {
		delete(g.hidden, id)
	}
}

// wants returns the endpoint of an identity, or nil; a group that is nil wants none.
func (g *group) wants(id Identity) *discoveryv1.Endpoint {
	if g == nil {
		return nil
	}
	return g.endpoints[id].endpoint
}

func (g *group) sorted() []*discoveryv1.Endpoint {
	ids := slices.SortedFunc(maps.Keys(g.endpoints), Identity.compare)
	endpoints := make([]*discoveryv1.Endpoint, len(ids))
	for i, id := range ids {
		endpoints[i] = g.endpoints[id].endpoint
	}
	return endpoints
}
