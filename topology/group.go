package topology

import (
	"container/heap"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// groupKey is what endpoints have in common that are alike to a search: where they are and what hints they have.
type groupKey struct{ place, hints string }

// group is the endpoints of one key. It gives out the one with the least key in O(log n).
type group struct {
	groupKey
	// zones are those that the hints name; nil where there are no hints, or none of the kind that we give.
	zones []string
	size  int
	// ordered is a heap of members' keys, and fresh has those that are not in it yet. Both may have keys that have left.
	ordered keyHeap
	fresh   []string
}

// member is one endpoint.
type member struct {
	group *group
	hints *discoveryv1.EndpointHints
}

type keyHeap []string

func (h keyHeap) Len() int           { return len(h) }
func (h keyHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h keyHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *keyHeap) Push(key any)      { *h = append(*h, key.(string)) }
func (h *keyHeap) Pop() any {
	last := len(*h) - 1
	key := (*h)[last]
	*h = (*h)[:last]
	return key
}

// tidy takes keys out that have left, once they are most of all, so that the group does not grow with every endpoint
// that comes back.
func (g *group) tidy(members map[string]member) {
	if len(g.ordered)+len(g.fresh) <= 2*g.size+16 {
		return
	}
	keys := slices.DeleteFunc(append(g.ordered, g.fresh...), func(key string) bool { return members[key].group != g })
	slices.Sort(keys)
	g.ordered, g.fresh = slices.Compact(keys), nil // sorted is a heap
}

// take returns the members with the least keys. They must leave the group before it is asked again.
func (g *group) take(count int, members map[string]member) []string {
	if len(g.fresh) > len(g.ordered)/8 {
		g.ordered = append(g.ordered, g.fresh...)
		heap.Init(&g.ordered)
	} else {
		for _, key := range g.fresh {
			heap.Push(&g.ordered, key)
		}
	}
	g.fresh = nil
	var keys []string
	for len(keys) < count {
		key := heap.Pop(&g.ordered).(string)
		if members[key].group == g && (len(keys) == 0 || keys[len(keys)-1] != key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// hintsText is the same for the same hints, and empty for none.
func hintsText(hints *discoveryv1.EndpointHints) string {
	if hints == nil || len(hints.ForZones)+len(hints.ForNodes) == 0 {
		return ""
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
