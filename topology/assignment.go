package topology

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// Assignment is the hints of the ready endpoints of one family of a Service, kept up to date. What Update returns is what
// Assign would, given the endpoints with the hints that they have now: neither order nor history counts. A Put or Delete
// costs O(log n), an Update what changes, beside a search over zones. It is not safe for concurrent use.
type Assignment struct {
	policy     Policy
	capacities Capacities
	zones      []demand
	total      uint64

	members map[string]*member
	groups  map[groupKey]*group
	// hints are all that were given, by their text.
	hints map[string]*discoveryv1.EndpointHints
	// settled: nothing changed since the last Update, whose report is kept.
	settled bool
	report  Report
}

// NewAssignment returns an assignment without endpoints. The policy must be one for the whole (Policy.Whole).
func NewAssignment(policy Policy, capacities Capacities) *Assignment {
	return newAssignment(policy, capacities, 0)
}

// newAssignment has room for so many endpoints.
func newAssignment(policy Policy, capacities Capacities, room int) *Assignment {
	a := &Assignment{
		policy:  policy,
		members: make(map[string]*member, room),
		groups:  map[groupKey]*group{},
		hints:   map[string]*discoveryv1.EndpointHints{},
	}
	a.SetCapacities(capacities)
	return a
}

// Put adds a ready endpoint, or makes it what it is now. For a key that the assignment has, the hints of e do not count:
// it knows those that it gave. So a caller puts what stands on slices at first, and later leaves Hints nil.
func (a *Assignment) Put(e Endpoint) {
	m, known := a.members[e.Key]
	switch {
	case !known:
		m = &member{key: e.Key, hints: e.Hints}
		a.members[e.Key] = m
	case m.group.place == e.Zone:
		return
	default:
		a.leave(m)
	}
	a.group(e.Zone, m.hints).join(m)
	a.settled = false
}

// Delete removes an endpoint that is gone, or not ready any more. It does nothing where there is none.
func (a *Assignment) Delete(key string) {
	if m, known := a.members[key]; known {
		a.leave(m)
		delete(a.members, key)
		a.settled = false
	}
}

// SetCapacities changes the capacities; the next Update goes by them.
func (a *Assignment) SetCapacities(capacities Capacities) {
	a.capacities = capacities
	zones, total := demandOf(a.policy, capacities)
	if !slices.Equal(zones, a.zones) {
		a.zones, a.total = zones, total
		a.settled = false
	}
}

// Hints returns what an endpoint has since the last Update, nil where it has none or is not known. They are shared and
// must not be changed.
func (a *Assignment) Hints(key string) *discoveryv1.EndpointHints {
	if m, known := a.members[key]; known {
		return m.hints
	}
	return nil
}

// Update returns the endpoints whose hints become others, sorted by key, and the report. New endpoints that have already
// the hints that they should have are not among them. A second Update at once returns none.
func (a *Assignment) Update() ([]Change, Report) {
	changes, report := a.update()
	slices.SortFunc(changes, func(x, y Change) int { return cmp.Compare(x.Key, y.Key) })
	return changes, report
}

// update is Update, but that changes are in no order.
func (a *Assignment) update() ([]Change, Report) {
	if a.settled {
		a.report.Changed = 0
		return nil, a.report
	}
	var changes []Change
	found := a.find()
	for _, move := range found.moves {
		changes = a.apply(changes, move)
	}
	a.settled = true
	a.report = a.describe(found, len(changes))
	return changes, a.report
}

// group returns the group of a place and hints, a new one if need be.
func (a *Assignment) group(place string, hints *discoveryv1.EndpointHints) *group {
	key := groupKey{place, hintsText(hints)}
	g := a.groups[key]
	if g == nil {
		g = &group{groupKey: key, zones: hintedZones(hints)}
		a.groups[key] = g
	}
	return g
}

func (a *Assignment) leave(m *member) {
	if key := m.group.groupKey; m.leave() {
		delete(a.groups, key)
	}
}

// move is some endpoints of a group that get other hints. Nil zones: none.
type move struct {
	from  *group
	zones []string
	count int
}

// apply gives the endpoints of a move their hints.
func (a *Assignment) apply(changes []Change, m move) []Change {
	text := strings.Join(m.zones, ",")
	if text != "" && a.hints[text] == nil {
		hints := &discoveryv1.EndpointHints{}
		for _, zone := range m.zones {
			hints.ForZones = append(hints.ForZones, discoveryv1.ForZone{Name: zone})
		}
		a.hints[text] = hints
	}
	hints := a.hints[text]
	to := a.group(m.from.place, hints)
	for _, one := range m.from.take(m.count) {
		a.leave(one)
		one.hints = hints
		to.join(one)
		changes = append(changes, Change{one.key, hints})
	}
	return changes
}

// sorted returns the groups in one order.
func (a *Assignment) sorted() []*group {
	return slices.SortedFunc(maps.Values(a.groups), func(x, y *group) int {
		return cmp.Or(cmp.Compare(x.place, y.place), cmp.Compare(x.hints, y.hints))
	})
}

// finding is what an Update decides.
type finding struct {
	moves  []move
	reason Reason
	// bound is the bound that the best assignment was found under, in weights, and optimum what it comes to.
	bound   ratio
	optimum figures
	// kept says that the hints that stand are kept although they are not the best.
	kept bool
}

// find decides what is to change.
//
//  1. How many endpoints is each zone to have, under which bound? All best answers are looked at.
//  2. The one that changes the fewest hints is taken.
//  3. If that changes an endpoint that has hints, and the policy keeps what is good enough, that is tried.
func (a *Assignment) find() finding {
	groups := a.sorted()
	switch {
	case len(groups) == 0:
		return finding{reason: NoEndpoints}
	case a.total == 0:
		return finding{reason: NoCapacity, moves: removal(groups)}
	}
	s := a.search(groups)
	limit, met := s.limit(a.policy.Bound, a.policy.Several)
	if !met && a.policy.Strict {
		return finding{reason: BoundNotMet, bound: limit, moves: removal(groups)}
	}
	moves := a.best(s, limit, groups)
	found := finding{moves: moves, bound: limit, optimum: a.figures(after(groups, moves))}
	if a.policy.Keep > 0 && changed(moves) > 0 {
		a.keep(s, groups, &found)
	}
	switch {
	case !found.optimum.everywhere && s.n < len(a.zones):
		found.reason = TooFewEndpoints
	case met:
		found.reason = BoundMet
	default:
		found.reason = BoundRaised
	}
	return found
}

// removal takes all hints off.
func removal(groups []*group) []move {
	var moves []move
	for _, g := range groups {
		if g.hints != "" {
			moves = append(moves, move{from: g, count: g.size})
		}
	}
	return moves
}

func (a *Assignment) search(groups []*group) *search {
	s := &search{zones: a.zones, total: a.total, placed: make([]int, len(a.zones))}
	for _, g := range groups {
		s.n += g.size
		if z, ok := a.zone(g.place); ok {
			s.placed[z] += g.size
		}
	}
	return s
}

// zone returns the number of a zone with demand.
func (a *Assignment) zone(name string) (int, bool) {
	return slices.BinarySearchFunc(a.zones, name, func(d demand, name string) int { return cmp.Compare(d.zone, name) })
}

// best returns the moves to the best assignment that is nearest to what stands.
func (a *Assignment) best(s *search, limit ratio, groups []*group) []move {
	var best division
	var wanted [][]string
	for i, answer := range s.best(limit, a.policy.Several) {
		names := a.wanted(answer.shared)
		rows := a.rows(groups, names)
		if d := leastChange(answer, rows); i == 0 || d.less(best) {
			best, wanted = d, names
		}
	}
	return a.moves(groups, wanted, best)
}

// maxForZones is how many zones the API lets an endpoint name.
const maxForZones = 8

// wanted returns the zones that the hints of an endpoint name that serves a zone of its own choice, by the number of that
// zone. Shared zones are named where an endpoint may serve several; else, or where they are too many, no hint names them,
// and a proxy there finds its way to all endpoints without.
func (a *Assignment) wanted(shared []bool) [][]string {
	var everywhere []string
	for z, is := range shared {
		if is && a.policy.Several {
			everywhere = append(everywhere, a.zones[z].zone)
		}
	}
	if len(everywhere) >= maxForZones {
		everywhere = nil
	}
	wanted := make([][]string, len(a.zones))
	for z, is := range shared {
		if !is {
			wanted[z] = append([]string{a.zones[z].zone}, everywhere...)
			slices.Sort(wanted[z])
		}
	}
	return wanted
}

// rows sums groups up by place, in the groups' order.
func (a *Assignment) rows(groups []*group, wanted [][]string) []row {
	var rows []row
	for i, g := range groups {
		if i == 0 || groups[i-1].place != g.place {
			next := row{zone: -1, standing: make([]int, len(a.zones))}
			if z, ok := a.zone(g.place); ok {
				next.zone = z
			}
			rows = append(rows, next)
		}
		r := &rows[len(rows)-1]
		r.size += g.size
		if z := g.serves(wanted); z >= 0 {
			r.standing[z] += g.size
		}
	}
	return rows
}

// moves turns a division into moves: what does not keep its hints is dealt out to the zones, both in order.
func (a *Assignment) moves(groups []*group, wanted [][]string, d division) []move {
	var moves []move
	row, to := -1, 0
	for i, g := range groups {
		if i == 0 || groups[i-1].place != g.place {
			row, to = row+1, 0
		}
		loose := g.size
		if z := g.serves(wanted); z >= 0 {
			loose -= d.kept[row][z]
		}
		for loose > 0 {
			for d.given[row][to] == 0 {
				to++
			}
			count := min(loose, d.given[row][to])
			moves = append(moves, move{from: g, zones: wanted[to], count: count})
			d.given[row][to] -= count
			loose -= count
		}
	}
	return moves
}
