package topology

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// zoneName names zones so that their order is that of their numbers.
func zoneName(z int) string { return string(rune('a' + z)) }

// zonesHint is a hint for zones.
func zonesHint(names ...string) *discoveryv1.EndpointHints {
	hints := &discoveryv1.EndpointHints{}
	for _, name := range names {
		hints.ForZones = append(hints.ForZones, discoveryv1.ForZone{Name: name})
	}
	return hints
}

// weighted is one node for each zone, with so much CPU. A zone with none has no node.
func weighted(weights ...int64) Capacities {
	var nodes []Node
	for z, weight := range weights {
		if weight > 0 {
			nodes = append(nodes, Node{Zone: zoneName(z), MilliCPU: weight})
		}
	}
	return CapacitiesOf(slices.Values(nodes))
}

// puzzle is a small assignment to be found.
type puzzle struct {
	weights []int64
	policy  Policy
	// places are numbers of zones; -1: not known. Hints are what stands.
	places []int
	hints  [][]string
}

func (p puzzle) String() string {
	return fmt.Sprintf("weights %v, places %v, hints %v, policy %+v", p.weights, p.places, p.hints, p.policy)
}

func (p puzzle) endpoints() []Endpoint {
	endpoints := make([]Endpoint, len(p.places))
	for i, place := range p.places {
		endpoints[i].Key = fmt.Sprintf("10.0.0.%03d", i)
		if place >= 0 {
			endpoints[i].Zone = zoneName(place)
		}
		if p.hints[i] != nil {
			endpoints[i].Hints = zonesHint(p.hints[i]...)
		}
	}
	return endpoints
}

// randomPuzzle has as few endpoints and zones as trying everything allows.
func randomPuzzle(r *rand.Rand) puzzle {
	zones := 1 + r.IntN(5)
	most := []int{8, 8, 8, 6, 5}[zones-1]
	p := puzzle{
		weights: make([]int64, zones),
		policy:  Policy{Mode: ModeAuto, By: ByCPU, Bound: []int{0, 10, 20, 20, 20, 50, 100}[r.IntN(7)]},
	}
	for z := range p.weights {
		p.weights[z] = []int64{1, 1, 1, 2, 3, 5, 0}[r.IntN(7)]
	}
	stale := r.IntN(3) // of 3: how many endpoints have hints of anything
	for range 1 + r.IntN(most) {
		place := r.IntN(zones)
		if r.IntN(8) == 0 {
			place = -1
		}
		var hints []string
		switch {
		case r.IntN(3) >= stale && place >= 0:
			hints = []string{zoneName(place)}
		case r.IntN(4) > 0:
			hints = []string{zoneName(r.IntN(zones))}
		case r.IntN(2) == 0:
			hints = []string{zoneName(0), zoneName(zones)}
		}
		p.places = append(p.places, place)
		p.hints = append(p.hints, hints)
	}
	return p
}

// common is divisible by all numbers of endpoints here, so that shares of traffic are whole numbers.
const common = 840

// value is what hints come to, worked out from what a proxy does and nothing else.
type value struct {
	// load is what the endpoint with most gets, local what stays in its zone: of common * all weights.
	load, local int64
	changes     int
	// foreign is how many have no hint for the zone that they are in.
	foreign int
	// open says that some zone with demand is named by no hint.
	open bool
}

func (p puzzle) value(hints [][]string) value {
	v := value{}
	loads := make([]int64, len(hints))
	for z, weight := range p.weights {
		if weight == 0 {
			continue
		}
		var serving []int
		for i := range hints {
			if slices.Contains(hints[i], zoneName(z)) {
				serving = append(serving, i)
			}
		}
		if serving == nil {
			v.open = true
			for i := range hints {
				serving = append(serving, i)
			}
		}
		each := common * weight / int64(len(serving))
		for _, i := range serving {
			loads[i] += each
			if p.places[i] == z {
				v.local += each
			}
		}
	}
	v.load = slices.Max(loads)
	for i := range hints {
		if !slices.Equal(hints[i], p.hints[i]) {
			v.changes++
		}
		if p.places[i] < 0 || !slices.Contains(hints[i], zoneName(p.places[i])) {
			v.foreign++
		}
	}
	return v
}

// solution is the best that there is.
type solution struct {
	found, met     bool
	limit          int64
	local          int64
	changes        int
	foreign        int
	total, demands int64
}

// all calls yield with the value of every assignment that a policy allows.
func (p puzzle) all(yield func(value)) {
	var demands []int
	for z, weight := range p.weights {
		if weight > 0 {
			demands = append(demands, z)
		}
	}
	n := len(p.places)
	for mask := range 1 << len(demands) {
		var own []int
		var shared []string
		for i, z := range demands {
			if mask>>i&1 == 1 {
				shared = append(shared, zoneName(z))
			} else {
				own = append(own, z)
			}
		}
		if len(own) == 0 || !p.policy.Several && shared != nil {
			continue
		}
		choice := make([]int, n)
		hints := make([][]string, n)
		for {
			for i, c := range choice {
				hints[i] = append([]string{zoneName(own[c])}, shared...)
				slices.Sort(hints[i])
			}
			if v := p.value(hints); !v.open || n < len(demands) && !p.policy.Several {
				yield(v)
			}
			i := 0
			for ; i < n; i++ {
				if choice[i]++; choice[i] < len(own) {
					break
				}
				choice[i] = 0
			}
			if i == n {
				break
			}
		}
	}
}

// solve tries everything: the bound of the policy or else the smallest, then the most that stays in its zone, then the
// fewest changes, then the fewest that serve another zone than theirs.
func (p puzzle) solve() solution {
	s := solution{limit: math.MaxInt64}
	for _, weight := range p.weights {
		s.total += weight
		if weight > 0 {
			s.demands++
		}
	}
	n := int64(len(p.places))
	within := func(load int64) bool { return load*n*100 <= s.total*common*int64(100+p.policy.Bound) }
	p.all(func(v value) {
		s.met = s.met || within(v.load)
		s.limit = min(s.limit, v.load)
	})
	p.all(func(v value) {
		if s.met && !within(v.load) || !s.met && v.load > s.limit {
			return
		}
		if !s.found || cmp.Or(cmp.Compare(v.local, s.local), cmp.Compare(s.changes, v.changes), cmp.Compare(s.foreign, v.foreign)) > 0 {
			s.found, s.local, s.changes, s.foreign = true, v.local, v.changes, v.foreign
		}
	})
	return s
}

// check compares what Assign does with the best that there is.
func (p puzzle) check(t *testing.T) {
	t.Helper()
	endpoints := p.endpoints()
	got, report := Assign(p.policy, weighted(p.weights...), endpoints)
	want := p.solve()
	if want.demands == 0 {
		if report.Reason != NoCapacity || report.Hinted {
			t.Errorf("%v: want no hints, got %+v", p, report)
		}
		return
	}
	if !want.met && p.policy.Strict {
		if report.Reason != BoundNotMet || slices.ContainsFunc(got, func(h *discoveryv1.EndpointHints) bool { return h != nil }) {
			t.Errorf("%v: want no hints, got %+v", p, report)
		}
		return
	}
	hints := make([][]string, len(got))
	for i := range got {
		hints[i] = hintedZones(got[i])
		if len(hints[i]) == 0 || !p.policy.Several && len(hints[i]) != 1 {
			t.Errorf("%v: endpoint %d has hints %v", p, i, hints[i])
			return
		}
	}
	is := p.value(hints)
	n := float64(len(p.places))
	whole := float64(common * want.total)
	wantBound := float64(want.limit)*n/whole - 1
	if want.met {
		wantBound = float64(p.policy.Bound) / 100
	}
	reason := BoundMet
	switch {
	case is.open:
		reason = TooFewEndpoints
	case !want.met:
		reason = BoundRaised
	}
	switch {
	case is.local != want.local:
		t.Errorf("%v: hints %v keep %d local, the best %d", p, hints, is.local, want.local)
	case is.changes != want.changes:
		t.Errorf("%v: hints %v change %d, %d are enough", p, hints, is.changes, want.changes)
	case is.foreign != want.foreign && !p.policy.Several: // With several, who serves his own is not told by the hints.
		t.Errorf("%v: hints %v have %d serve another zone, %d are enough", p, hints, is.foreign, want.foreign)
	case float64(is.load)*n/whole-1 > wantBound+tolerance:
		t.Errorf("%v: hints %v put %d on one endpoint, the bound is %f", p, hints, is.load, wantBound)
	case math.Abs(report.CrossZone-(1-float64(is.local)/whole)) > tolerance,
		math.Abs(report.Overload-(float64(is.load)*n/whole-1)) > tolerance,
		math.Abs(report.Bound-wantBound) > tolerance,
		report.Changed != is.changes, report.Reason != reason, !report.Hinted, report.Kept:
		t.Errorf("%v: hints %v are %+v, the bound %f, the reason %s, reported as %+v", p, hints, is, wantBound, reason, report)
	}
	p.checkOrder(t, endpoints, got)
}

// checkOrder gives the same endpoints in another order.
func (p puzzle) checkOrder(t *testing.T, endpoints []Endpoint, want []*discoveryv1.EndpointHints) {
	t.Helper()
	byKey := map[string]string{}
	for i, e := range endpoints {
		byKey[e.Key] = hintsText(want[i])
	}
	others := slices.Clone(endpoints)
	rand.New(rand.NewPCG(uint64(len(others)), 1)).Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	got, _ := Assign(p.policy, weighted(p.weights...), others)
	for i, e := range others {
		if hintsText(got[i]) != byKey[e.Key] {
			t.Errorf("%v: in another order %s serves %s, not %s", p, e.Key, hintsText(got[i]), byKey[e.Key])
		}
	}
}

// TestBruteForce tries every assignment of thousands of small Services: one zone an endpoint, and several.
func TestBruteForce(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(6000) {
		p := randomPuzzle(rand.New(rand.NewPCG(seed, 5)))
		p.policy.Strict = seed%7 == 0
		p.policy.Several = seed%3 == 0
		if p.policy.Several && len(p.places) > 5 {
			p.places, p.hints = p.places[:5], p.hints[:5]
		}
		p.check(t)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		_, report := Assign(p.policy, weighted(p.weights...), p.endpoints())
		seen[string(report.Reason)]++
		if slices.ContainsFunc(report.Zones, func(z ZoneReport) bool { return z.Share > 0 && z.Endpoints == 0 }) {
			seen["zone without endpoints"]++
		}
		if slices.ContainsFunc(report.Zones, func(z ZoneReport) bool { return z.Share == 0 && z.Name != "" }) {
			seen["zone without capacity"]++
		}
	}
	for _, reason := range []string{
		string(BoundMet), string(BoundRaised), string(TooFewEndpoints), string(BoundNotMet), string(NoCapacity),
		"zone without endpoints", "zone without capacity",
	} {
		if seen[reason] < 50 {
			t.Errorf("%s was hardly tried: %v", reason, slices.Sorted(maps.Keys(seen)))
		}
	}
	t.Log(strings.ReplaceAll(fmt.Sprint(seen), "map", ""))
}
