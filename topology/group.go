package topology

import (
	"container/heap"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// groupKey is what endpoints have in common that are alike to a search: where they are and what hints they have.
type groupKey struct{ place, hints string }

// group is the endpoints of one key. It gives out those with the least keys, each in O(log n).
type group struct {
	groupKey
	// zones are those that the hints name; nil where there are no hints, or none of the kind that we give.
	zones []string
	size  int
	// ordered is a heap of members, and fresh has those that are not in it yet. Both may have some that have left, and one
	// that has left and come back twice.
	ordered memberHeap
	fresh   []*member
}

// member is one endpoint. Its group is nil when it is gone.
type member struct {
	key   string
	group *group
	hints *discoveryv1.EndpointHints
}

func compareMembers(a, b *member) int { return strings.Compare(a.key, b.key) }

type memberHeap []*member

func (h memberHeap) Len() int           { return len(h) }
func (h memberHeap) Less(i, j int) bool { return h[i].key < h[j].key }
func (h memberHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *memberHeap) Push(m any)        { *h = append(*h, m.(*member)) }
func (h *memberHeap) Pop() any {
	last := len(*h) - 1
	m := (*h)[last]
	*h = (*h)[:last]
	return m
}

// join adds a member that is in no group.
func (g *group) join(m *member) {
	m.group = g
	g.size++
	g.fresh = append(g.fresh, m)
	if len(g.ordered)+len(g.fresh) > 2*g.size+16 {
		g.sort() // else it would grow with every endpoint that comes back
	}
}

// leave takes a member out of its group, and says whether the group is empty now.
func (m *member) leave() bool {
	m.group.size--
	empty := m.group.size == 0
	m.group = nil
	return empty
}

// serves returns the number of the zone whose wanted hints are the group's, and -1 where they are none's.
func (g *group) serves(wanted [][]string) int {
	return slices.IndexFunc(wanted, func(zones []string) bool { return zones != nil && slices.Equal(zones, g.zones) })
}

// sort leaves the group's members alone, in their order, which is a heap.
func (g *group) sort() {
	all := slices.DeleteFunc(append(g.ordered, g.fresh...), func(m *member) bool { return m.group != g })
	slices.SortFunc(all, compareMembers)
	g.ordered, g.fresh = slices.Compact(all), nil
}

// take returns the members with the least keys. They must leave the group before it is asked again.
func (g *group) take(count int) []*member {
	if count+len(g.fresh) > g.size/8 {
		g.sort()
		taken := slices.Clone(g.ordered[:count])
		g.ordered = slices.Delete(g.ordered, 0, count)
		return taken
	}
	for _, m := range g.fresh {
		heap.Push(&g.ordered, m)
	}
	g.fresh = nil
	var taken []*member
	for len(taken) < count {
		m := heap.Pop(&g.ordered).(*member)
		if m.group == g && (len(taken) == 0 || taken[len(taken)-1] != m) {
			taken = append(taken, m)
		}
	}
	return taken
}

// hintsText is the same for the same hints, and empty for none.
func hintsText(hints *discoveryv1.EndpointHints) string {
	if hints == nil || len(hints.ForZones)+len(hints.ForNodes) == 0 {
		return ""
	}
	if len(hints.ForZones) == 1 && len(hints.ForNodes) == 0 {
		return hints.ForZones[0].Name
	}
	var text strings.Builder
	for i, zone := range hints.ForZones {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(zone.Name)
	}
	for _, node := range hints.ForNodes {
		text.WriteString(",node " + node.Name) // no zone has a space in its name
	}
	return text.String()
}

// hintedZones returns the zones that hints name; nil for hints that are not of the kind that we give.
func hintedZones(hints *discoveryv1.EndpointHints) []string {
	if hints == nil || len(hints.ForNodes) > 0 {
		return nil
	}
	var zones []string
	for _, zone := range hints.ForZones {
		zones = append(zones, zone.Name)
	}
	return zones
}
