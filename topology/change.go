package topology

// row is the endpoints of one place: a zone with demand that is not shared, or anywhere else.
type row struct {
	// zone is the place's number among zones with demand; -1 where it is none of them.
	zone int
	size int
	// standing counts those whose hints are right for serving a zone, by the zone's number.
	standing []int
}

// division says what becomes of the endpoints of each row.
type division struct {
	// kept of row and zone go on serving the zone with the hints that they have; given get new ones.
	kept, given [][]int
	// changes is how many get new ones, and foreign how many serve a zone that they are not in.
	changes, foreign int
}

// less prefers fewer changes, then fewer endpoints that serve another zone than theirs.
func (d division) less(other division) bool {
	return d.changes < other.changes || d.changes == other.changes && d.foreign < other.foreign
}

// Costs of one endpoint, which flows are compared by along paths: no path is so long that its lower costs reach a higher one.
const (
	// gainSpare is for the first endpoint that a zone has beyond those that it must have.
	gainSpare   = 1
	costForeign = 1 << 16
	costChange  = 1 << 32
	// gainNeeded is for each endpoint that a zone must have.
	gainNeeded = 1 << 48
)

// leastChange picks from an answer the division that changes the fewest hints: a flow at the least cost from rows to
// zones, where an endpoint with the right hints goes for nothing.
//
// Not every division by the numbers of an answer is as good as the answer. A zone that has more endpoints than serve it is
// served by its own alone, and one that has fewer by all of its own: so an endpoint may leave its zone only where the
// numbers let the zone have fewer than are in it, and come to one only where they let it have more.
func leastChange(a answer, rows []row) division {
	zones := len(a.lower)
	source, sink := len(rows)+zones, len(rows)+zones+1
	g := newNetwork(sink + 1)
	size := make([]int, zones)
	for r, row := range rows {
		g.connect(source, r, row.size, 0)
		if row.zone >= 0 {
			size[row.zone] = row.size
		}
	}
	for z := range zones {
		if !a.shared[z] {
			g.connect(len(rows)+z, sink, a.lower[z], -gainNeeded)
			spare := min(1, a.upper[z]-a.lower[z])
			g.connect(len(rows)+z, sink, spare, -gainSpare)
			g.connect(len(rows)+z, sink, a.upper[z]-a.lower[z]-spare, 0)
		}
	}
	edges := make([][]int, len(rows))
	for r, row := range rows {
		edges[r] = make([]int, zones)
		home := row.zone >= 0 && !a.shared[row.zone]
		for z := range zones {
			edges[r][z] = -1
			own := home && row.zone == z
			if a.shared[z] || !own && (home && a.lower[row.zone] >= row.size || a.upper[z] <= size[z]) {
				continue
			}
			cost := costForeign
			if own {
				cost = 0
			}
			edges[r][z] = g.connect(r, len(rows)+z, row.standing[z], cost)
			g.connect(r, len(rows)+z, row.size-row.standing[z], cost+costChange)
		}
	}
	g.fill(source, sink)

	d := division{kept: make([][]int, len(rows)), given: make([][]int, len(rows))}
	for r, row := range rows {
		d.kept[r], d.given[r] = make([]int, zones), make([]int, zones)
		for z, i := range edges[r] {
			if i < 0 {
				continue
			}
			d.kept[r][z], d.given[r][z] = g.carried(i), g.carried(i+2)
			d.changes += d.given[r][z]
			if row.zone != z {
				d.foreign += d.kept[r][z] + d.given[r][z]
			}
		}
	}
	return d
}
