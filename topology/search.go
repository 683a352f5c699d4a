package topology

import (
	"iter"
	"math/big"
	"math/bits"
	"slices"
)

// search is the question how many endpoints are to serve each zone. It is about numbers alone: which endpoint that is
// comes later (leastChange).
//
// An endpoint serves one zone of its own choice and, beside it, the shared zones, which all endpoints serve. With n
// endpoints, c_z of them in zone z, m_z serving it, and r_z its share of the demand, the share of traffic that stays in
// its zone is the sum of r_z * min(m_z, c_z)/m_z over zones that are not shared, and of r_z * c_z/n over those that are.
// What an endpoint gets, in even shares, is n * r_z/m_z and the demand of all shared zones.
type search struct {
	zones []demand
	total uint64
	// placed is c_z, n the number of all endpoints, be they in a zone with demand or not.
	placed []int
	n      int
}

// answer is a set of best ways to divide endpoints among zones: those with lower <= m_z <= upper for every zone that is
// not shared, and n as their sum.
type answer struct {
	shared       []bool
	lower, upper []int
}

// ratio is a number that is not negative. As a bound on what an endpoint gets it is in weights: total is an even share.
type ratio struct{ num, den uint64 }

// less compares exactly.
func (r ratio) less(other ratio) bool {
	high, low := bits.Mul64(r.num, other.den)
	otherHigh, otherLow := bits.Mul64(other.num, r.den)
	return high < otherHigh || high == otherHigh && low < otherLow
}

// maxSearched is up to how many zones every choice of shared ones is tried. Beyond, the zones with the fewest endpoints
// for their demand are shared first.
const maxSearched = 10

// sharings returns the choices of shared zones to look at, in the order that decides between equals. The slice is
// reused. Zones are shared where an endpoint may serve several, and where there are fewer endpoints than zones. Shared
// zones are then those that no hint names, and a proxy sends their clients to all endpoints.
func (s *search) sharings(several bool) iter.Seq[[]bool] {
	return func(yield func([]bool) bool) {
		shared := make([]bool, len(s.zones))
		switch {
		case !several && s.n >= len(s.zones):
			yield(shared)
		case len(s.zones) <= maxSearched:
			for mask := range 1<<len(s.zones) - 1 { // without the last: one zone is not shared
				for z := range shared {
					shared[z] = mask>>z&1 == 1
				}
				if !yield(shared) {
					return
				}
			}
		default:
			order := make([]int, len(s.zones))
			for z := range order {
				order[z] = z
			}
			slices.SortStableFunc(order, func(a, b int) int {
				x := ratio{uint64(s.placed[a]), s.zones[a].weight}
				y := ratio{uint64(s.placed[b]), s.zones[b].weight}
				switch {
				case x.less(y):
					return -1
				case y.less(x):
					return 1
				}
				return 0
			})
			for _, z := range order {
				if !yield(shared) {
					return
				}
				shared[z] = true
			}
		}
	}
}

// sharedWeight is the demand of shared zones.
func (s *search) sharedWeight(shared []bool) uint64 {
	sum := uint64(0)
	for z, is := range shared {
		if is {
			sum += s.zones[z].weight
		}
	}
	return sum
}

// needs returns how many endpoints each zone that is not shared needs under a bound: the least m_z with
// n * weight/m_z + sharedWeight <= limit. It says whether there are so many.
func (s *search) needs(shared []bool, limit ratio) (need []int, fits bool) {
	need = make([]int, len(s.zones))
	room := limit.num - s.sharedWeight(shared)*limit.den
	left := s.n
	for z, zone := range s.zones {
		if !shared[z] {
			need[z] = ceilDiv(zone.weight, uint64(s.n)*limit.den, room)
			left -= need[z]
		}
	}
	return need, left >= 0
}

// ceilDiv returns a*b/c, rounded up. It is at most the number of endpoints here: an even share is within every bound.
func ceilDiv(a, b, c uint64) int {
	high, low := bits.Mul64(a, b)
	quotient, rest := bits.Div64(high, low, c)
	if rest > 0 {
		quotient++
	}
	return int(quotient)
}

// smallest returns the smallest bound that can be met with these shared zones; false where there are fewer endpoints than
// other zones, so that none can.
//
//  1. Within n/(n-k) even shares of what is not shared, for k zones, any division can be rounded up: every zone needs at
//     least what it needs then.
//  2. Each of the endpoints that are left, fewer than zones, goes where the demand for each is greatest.
func (s *search) smallest(shared []bool) (ratio, bool) {
	sharedWeight, zones := s.sharedWeight(shared), 0
	for _, is := range shared {
		if !is {
			zones++
		}
	}
	if zones > s.n {
		return ratio{}, false
	}
	serving := make([]int, len(s.zones))
	left := s.n
	for z, zone := range s.zones {
		if !shared[z] {
			serving[z] = max(ceilDiv(zone.weight, uint64(s.n-zones), s.total-sharedWeight), 1)
			left -= serving[z]
		}
	}
	for {
		worst := -1
		for z, zone := range s.zones {
			if !shared[z] && (worst < 0 || s.zones[worst].weight*uint64(serving[z]) < zone.weight*uint64(serving[worst])) {
				worst = z
			}
		}
		if left == 0 {
			m := uint64(serving[worst])
			return ratio{uint64(s.n)*s.zones[worst].weight + sharedWeight*m, m}, true
		}
		serving[worst]++
		left--
	}
}

// limit returns the bound in per cent that a policy gives, and whether it can be met with any choice of shared zones; if
// not, the smallest that can.
func (s *search) limit(percent int, several bool) (limit ratio, met bool) {
	limit = ratio{s.total * uint64(100+percent), 100}
	for shared := range s.sharings(several) {
		if _, fits := s.needs(shared, limit); fits {
			return limit, true
		}
	}
	first := true
	for shared := range s.sharings(several) {
		if least, ok := s.smallest(shared); ok && (first || least.less(limit)) {
			limit, first = least, false
		}
	}
	return limit, false
}

// best returns all answers with the least traffic across zones under a bound that can be met.
func (s *search) best(limit ratio, several bool) []answer {
	var best []answer
	var most stays
	for shared := range s.sharings(several) {
		need, fits := s.needs(shared, limit)
		if !fits {
			continue
		}
		for _, a := range s.answers(shared, need) {
			here := s.stays(a)
			switch order := here.compare(&most); {
			case best == nil || order > 0:
				best, most = []answer{a}, here
			case order == 0:
				best = append(best, a)
			}
		}
	}
	return best
}

// answers returns the answers for one choice of shared zones.
//
// What a zone keeps local is weight * min(m, c)/m: all of it up to m = c, then less and less, steeply at first (its loss
// is concave). So a zone that needs no more than it has takes any number up to c for nothing, one that needs more takes
// what it needs and no more, and one without endpoints takes any number: none is local. If that makes up n, it is the
// answer. Endpoints beyond it, which only exist where some are in no such zone, must be spread over zones that lose by
// each: a sum of concave losses is least where one zone takes all of them. Which zone that is, is tried.
func (s *search) answers(shared []bool, need []int) []answer {
	a := answer{shared: slices.Clone(shared), lower: need, upper: make([]int, len(need))}
	beyond := s.n
	for z, c := range s.placed {
		switch {
		case shared[z]:
			continue
		case c == 0:
			a.upper[z] = s.n
		default:
			a.upper[z] = max(c, need[z])
		}
		beyond -= a.upper[z]
	}
	if beyond <= 0 {
		return []answer{a}
	}
	var all []answer
	for z := range s.zones {
		if shared[z] {
			continue
		}
		one := answer{shared: a.shared, lower: slices.Clone(a.upper)}
		one.lower[z] += beyond
		one.upper = one.lower
		all = append(all, one)
	}
	return all
}

// stays is how much demand stays in its zone: a number for most comparisons, and fractions for those that are too close.
type stays struct {
	sum       float64
	precision float64
	fractions []ratio
	exact     *big.Rat
}

func (s *search) stays(a answer) stays {
	l := stays{precision: float64(s.total) * 1e-12}
	for z, c := range s.placed {
		m := max(a.lower[z], c)
		if a.shared[z] {
			m = s.n
		}
		if c > 0 {
			l.fractions = append(l.fractions, ratio{s.zones[z].weight * uint64(c), uint64(m)})
			l.sum += float64(s.zones[z].weight) * float64(c) / float64(m)
		}
	}
	return l
}

func (l *stays) compare(other *stays) int {
	switch {
	case l.sum > other.sum+l.precision:
		return 1
	case l.sum < other.sum-l.precision:
		return -1
	}
	return l.rational().Cmp(other.rational())
}

func (l *stays) rational() *big.Rat {
	if l.exact == nil {
		l.exact = new(big.Rat)
		for _, f := range l.fractions {
			l.exact.Add(l.exact, new(big.Rat).SetFrac(new(big.Int).SetUint64(f.num), new(big.Int).SetUint64(f.den)))
		}
	}
	return l.exact
}
