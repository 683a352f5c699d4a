package topology

import "slices"

// tolerance covers what sums of floating-point numbers are off by.
const tolerance = 1e-9

// keep replaces a finding by the hints that stand, and others for the endpoints whose hints cannot stand, if that changes
// less and is good enough by Policy.Keep: no more than that much worse than the best, in traffic across zones and in
// overload. It may leave a zone without an endpoint that serves it, whose clients are sent to all.
func (a *Assignment) keep(s *search, groups []*group, found *finding) {
	spare := float64(a.policy.Keep)/100 + tolerance
	bound := float64(found.bound.num)/float64(found.bound.den)/float64(a.total) - 1
	for _, shared := range a.standing(groups) {
		moves := a.settle(s, shared, found.bound, groups)
		f := a.figures(after(groups, moves))
		if f.cross > found.optimum.cross+spare || f.overload > bound+spare || changed(moves) >= changed(found.moves) {
			continue
		}
		found.moves = moves
		found.kept = f.cross > found.optimum.cross+tolerance || f.overload > bound+tolerance
	}
}

// changed counts the endpoints that have hints and get others.
func changed(moves []move) (sum int) {
	for _, m := range moves {
		if m.from.hints != "" {
			sum += m.count
		}
	}
	return sum
}

// standing returns the choices of shared zones that hints which stand can have been given under.
func (a *Assignment) standing(groups []*group) (all [][]bool) {
	for _, g := range groups {
		for i := range g.zones {
			shared := make([]bool, len(a.zones))
			for j, name := range g.zones {
				if z, ok := a.zone(name); ok && i != j {
					shared[z] = true
				}
			}
			known := slices.ContainsFunc(all, func(other []bool) bool { return slices.Equal(other, shared) })
			if !known && g.serves(a.wanted(shared)) >= 0 {
				all = append(all, shared)
			}
		}
	}
	return all
}

// settle gives hints to the endpoints that have none, or none that fit the shared zones, and leaves all others as they
// are.
//
//  1. A zone that has too few for the bound gets its own new endpoints.
//  2. One that still has too few gets those that are in no zone with demand, then those that other zones have over.
//  3. The rest serve their own zone, and those without one go where the demand for each endpoint is greatest.
func (a *Assignment) settle(s *search, shared []bool, limit ratio, groups []*group) []move {
	wanted := a.wanted(shared)
	lacking, _ := s.needs(shared, limit)
	serving := make([]int, len(a.zones))
	var loose []*group
	left := map[*group]int{}
	for _, g := range groups {
		if z := g.serves(wanted); z >= 0 {
			serving[z] += g.size
			lacking[z] -= g.size
		} else {
			loose = append(loose, g)
			left[g] = g.size
		}
	}
	var moves []move
	give := func(g *group, z, count int) {
		if count = min(count, left[g]); count > 0 {
			moves = append(moves, move{from: g, zones: wanted[z], count: count})
			left[g] -= count
			serving[z] += count
			lacking[z] -= count
		}
	}
	home := func(g *group) (int, bool) {
		z, ok := a.zone(g.place)
		return z, ok && !shared[z]
	}
	for _, g := range loose {
		if z, ok := home(g); ok {
			give(g, z, lacking[z])
		}
	}
	for _, homeless := range []bool{true, false} {
		for _, g := range loose {
			if _, ok := home(g); ok != homeless {
				for z := range lacking {
					give(g, z, lacking[z])
				}
			}
		}
	}
	for _, g := range loose {
		z, ok := home(g)
		if ok {
			give(g, z, left[g])
		}
		for left[g] > 0 {
			give(g, a.busiest(shared, serving), 1)
		}
	}
	return moves
}

// busiest returns the zone with the greatest demand for each endpoint that serves it.
func (a *Assignment) busiest(shared []bool, serving []int) int {
	busiest := -1
	for z, zone := range a.zones {
		if !shared[z] && (busiest < 0 || a.zones[busiest].weight*uint64(serving[z]) < zone.weight*uint64(serving[busiest])) {
			busiest = z
		}
	}
	return busiest
}
