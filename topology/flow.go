package topology

import "math"

// network carries a flow at the least cost. It is small: zones and zones.
type network struct {
	// edges come in pairs, there and back: i and i^1.
	edges []edge
	out   [][]int
}

type edge struct{ to, room, cost int }

func newNetwork(nodes int) *network { return &network{out: make([][]int, nodes)} }

// connect adds an edge and returns its number.
func (g *network) connect(from, to, room, cost int) int {
	i := len(g.edges)
	g.edges = append(g.edges, edge{to, room, cost}, edge{from, 0, -cost})
	g.out[from] = append(g.out[from], i)
	g.out[to] = append(g.out[to], i+1)
	return i
}

// carried returns what flows through an edge.
func (g *network) carried(i int) int { return g.edges[i^1].room }

// fill sends as much as can flow, by the cheapest ways: along one cheapest path after another. Costs may be negative as
// long as no circle is. It returns how much flows.
func (g *network) fill(source, sink int) int {
	sum := 0
	for {
		via := g.paths(source)
		if via[sink] < 0 {
			return sum
		}
		room := math.MaxInt
		for node := sink; node != source; node = g.edges[via[node]^1].to {
			room = min(room, g.edges[via[node]].room)
		}
		for node := sink; node != source; node = g.edges[via[node]^1].to {
			g.edges[via[node]].room -= room
			g.edges[via[node]^1].room += room
		}
		sum += room
	}
}

// paths returns the last edge of the cheapest path to each node, and -1 for the source and where there is none.
func (g *network) paths(source int) []int {
	costs, via := make([]int, len(g.out)), make([]int, len(g.out))
	for node := range costs {
		costs[node], via[node] = math.MaxInt, -1
	}
	costs[source] = 0
	queued := make([]bool, len(g.out))
	for queue := []int{source}; len(queue) > 0; queue = queue[1:] {
		from := queue[0]
		queued[from] = false
		for _, i := range g.out[from] {
			e := g.edges[i]
			if e.room == 0 || costs[from]+e.cost >= costs[e.to] {
				continue
			}
			costs[e.to], via[e.to] = costs[from]+e.cost, i
			if !queued[e.to] {
				queue, queued[e.to] = append(queue, e.to), true
			}
		}
	}
	return via
}
