package topology

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// table is the best by dynamic programming over zones, for one zone an endpoint and enough endpoints: least[n] is the
// least traffic that the zones so far let cross, with n endpoints for them.
func table(weights []int64, placed []int, need []int, n int) float64 {
	least := slices.Repeat([]float64{math.Inf(1)}, n+1)
	least[0] = 0
	for z, weight := range weights {
		if weight == 0 {
			continue
		}
		next := slices.Repeat([]float64{math.Inf(1)}, n+1)
		for before, cross := range least {
			for m := max(need[z], 1); before+m <= n; m++ {
				loss := float64(weight) * (1 - float64(min(m, placed[z]))/float64(m))
				next[before+m] = min(next[before+m], cross+loss)
			}
		}
		least = next
	}
	return least[n]
}

// needed is what a bound asks for each zone, and the sum. Endpoints may get bound[0]/bound[1] even shares.
func needed(weights []int64, n int, bound [2]int64) (need []int, sum int) {
	total := int64(0)
	for _, weight := range weights {
		total += weight
	}
	for _, weight := range weights {
		a, b := weight*int64(n)*bound[1], total*bound[0]
		need = append(need, int((a+b-1)/b))
		sum += need[len(need)-1]
	}
	return need, sum
}

// leastBound tries every bound at which what a zone needs changes.
func leastBound(weights []int64, n int) (best [2]int64) {
	total := int64(0)
	for _, weight := range weights {
		total += weight
	}
	for _, weight := range weights {
		for m := int64(1); m <= int64(n) && weight > 0; m++ {
			bound := [2]int64{weight * int64(n), total * m}
			if _, sum := needed(weights, n, bound); sum <= n && (best[1] == 0 || bound[0]*best[1] < best[0]*bound[1]) {
				best = bound
			}
		}
	}
	return best
}

// TestLarge compares with the table where there are too many endpoints to try everything.
func TestLarge(t *testing.T) {
	raised := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 6))
		weights := make([]int64, 1+r.IntN(8))
		for z := range weights {
			weights[z] = []int64{0, 1, 1, 3, 1 + r.Int64N(10), 1 + r.Int64N(1000)}[r.IntN(6)]
		}
		weights[0] = max(weights[0], 1)
		n := len(weights) + r.IntN(120)
		placed := make([]int, len(weights))
		p := puzzle{weights: weights, policy: auto}
		p.policy.Bound = []int{0, 5, 20, 20, 50}[r.IntN(5)]
		favourite, skew := r.IntN(len(weights)), r.IntN(3)
		for range n {
			place := r.IntN(len(weights))
			switch {
			case r.IntN(4) < skew:
				place = favourite
			case r.IntN(10) == 0:
				place = -1
			}
			if place >= 0 {
				placed[place]++
			}
			hints := []string{zoneName(r.IntN(len(weights)))}
			p.places, p.hints = append(p.places, place), append(p.hints, hints)
		}
		bound := [2]int64{int64(100 + p.policy.Bound), 100}
		need, sum := needed(weights, n, bound)
		if sum > n {
			bound = leastBound(weights, n)
			need, _ = needed(weights, n, bound)
			raised++
		}
		total := int64(0)
		for _, weight := range weights {
			total += weight
		}
		want := table(weights, placed, need, n) / float64(total)
		hints, report := Assign(p.policy, weighted(weights...), p.endpoints())
		if wantBound := float64(bound[0])/float64(bound[1]) - 1; math.Abs(report.Bound-wantBound) > tolerance || report.Overload > wantBound+tolerance {
			t.Fatalf("seed %d: %v: the least bound is %f, not %f, with overload %f", seed, p, wantBound, report.Bound, report.Overload)
		}
		if math.Abs(report.CrossZone-want) > tolerance {
			t.Fatalf("seed %d: %v: the least that crosses is %f, not %f", seed, p, want, report.CrossZone)
		}
		p.checkOrder(t, p.endpoints(), hints)
	}
	if raised < 40 || raised > 360 {
		t.Errorf("of 400 bounds %d were raised", raised)
	}
}

// TestManyZones: what has more zones than every choice of shared ones is tried for is just as good with one zone an
// endpoint; with several it keeps its bound, and no more traffic crosses zones than with one.
func TestManyZones(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 12))
		zones := maxSearched + 1 + r.IntN(90)
		weights, placed := make([]int64, zones), make([]int, zones)
		for z := range weights {
			weights[z] = 1 + r.Int64N(8)
		}
		p := puzzle{weights: weights, policy: auto}
		n := 3*zones + r.IntN(300)
		for range n {
			place := min(r.IntN(zones), r.IntN(zones))
			placed[place]++
			p.places, p.hints = append(p.places, place), append(p.hints, nil)
		}
		bound := [2]int64{120, 100}
		need, sum := needed(weights, n, bound)
		if sum > n {
			bound = leastBound(weights, n)
			need, _ = needed(weights, n, bound)
		}
		total := int64(0)
		for _, weight := range weights {
			total += weight
		}
		hints, one := Assign(p.policy, weighted(weights...), p.endpoints())
		if want := table(weights, placed, need, n) / float64(total); math.Abs(one.CrossZone-want) > tolerance {
			t.Errorf("seed %d: %v: the least that crosses is %f, not %f", seed, p, want, one.CrossZone)
		}
		p.checkOrder(t, p.endpoints(), hints)
		p.policy.Several = true
		hints, several := Assign(p.policy, weighted(weights...), p.endpoints())
		if several.CrossZone > one.CrossZone+tolerance || several.Overload > several.Bound+tolerance || several.Bound > one.Bound+tolerance {
			t.Errorf("seed %d: %v: with several zones it is\n%+v, with one\n%+v", seed, p, several, one)
		}
		for _, h := range hints {
			if h == nil || len(h.ForZones) > 8 {
				t.Fatalf("seed %d: the API refuses hints %v", seed, h)
			}
		}
		p.checkOrder(t, p.endpoints(), hints)
	}
}

// TestSharedFirst: beyond the zones that every choice is tried for, those with the fewest endpoints for their demand are
// shared first. Of twelve equal zones eleven have four endpoints each, which serve the twelfth as well for nothing.
func TestSharedFirst(t *testing.T) {
	for empty := range 12 {
		p := puzzle{weights: slices.Repeat([]int64{5}, 12), policy: auto}
		p.policy.Several = true
		for i := range 48 {
			if i%12 != empty {
				p.places, p.hints = append(p.places, i%12), append(p.hints, nil)
			}
		}
		if _, report := Assign(p.policy, weighted(p.weights...), p.endpoints()); math.Abs(report.CrossZone-1.0/12) > tolerance {
			t.Errorf("without endpoints in %s: %+v", zoneName(empty), report)
		}
	}
}

// TestSharedTooMany: zones without endpoints are shared. An endpoint names as many as the API lets it, or none of them,
// which comes to the same and is told as the same.
func TestSharedTooMany(t *testing.T) {
	for empty := range 12 {
		p := puzzle{weights: append([]int64{40, 40}, slices.Repeat([]int64{1}, empty)...), policy: auto}
		p.policy.Several = true
		for i := range 50 {
			p.places, p.hints = append(p.places, i%2), append(p.hints, nil)
		}
		hints, report := Assign(p.policy, weighted(p.weights...), p.endpoints())
		want := 1 + empty
		if want > 8 {
			want = 1
		}
		for i, h := range hints {
			zones := hintedZones(h)
			if len(zones) != want || !slices.IsSorted(zones) || !slices.Contains(zones, zoneName(i%2)) {
				t.Fatalf("beside %d empty zones, one in %s names %v", empty, zoneName(i%2), zones)
			}
		}
		if cross := float64(empty) / float64(80+empty); report.Reason != BoundMet || math.Abs(report.CrossZone-cross) > tolerance {
			t.Errorf("beside %d empty zones: %+v", empty, report)
		}
	}
}

// TestSpare: of equal answers the one is taken that leaves an endpoint to spare in both zones that help the third, and not
// the one that takes all that one of them can give.
func TestSpare(t *testing.T) {
	p := puzzle{weights: []int64{2, 1, 1}, policy: auto}
	for zone, count := range []int{6, 8, 8} {
		for range count {
			p.places, p.hints = append(p.places, zone), append(p.hints, nil)
		}
	}
	need, _ := needed(p.weights, 22, [2]int64{120, 100})
	_, report := Assign(p.policy, weighted(p.weights...), p.endpoints())
	for z, zone := range report.Zones[1:] {
		if zone.Serving <= need[z+1] {
			t.Errorf("zone %s needs %d and has no more: %+v", zone.Name, need[z+1], report)
		}
	}
}

// TestStays: amounts that floating point cannot tell apart are compared as fractions.
func TestStays(t *testing.T) {
	of := func(fractions ...ratio) *stays { return &stays{sum: 10.0 / 21, precision: 1e-9, fractions: fractions} }
	a, same, more := of(ratio{1, 3}, ratio{1, 7}), of(ratio{10, 21}), of(ratio{10, 21}, ratio{1, 1 << 50})
	if a.compare(same) != 0 || more.compare(a) != 1 || a.compare(more) != -1 {
		t.Errorf("equals compare as %d, a little more as %d, a little less as %d", a.compare(same), more.compare(a), a.compare(more))
	}
}

// TestLeastChange tries all divisions of medium Services, by numbers: how many endpoints of each place and hint serve
// each zone.
func TestLeastChange(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		weights := make([]int64, 2+r.IntN(2))
		for z := range weights {
			weights[z] = 1 + r.Int64N(3)
		}
		p := puzzle{weights: weights, policy: auto}
		counts := map[[2]int]int{}
		for range len(weights) + r.IntN(9) {
			place, hint := r.IntN(len(weights)+1), r.IntN(len(weights)+1)
			if r.IntN(2) == 0 {
				hint = place
			}
			counts[[2]int{place, hint}]++
			var hints []string
			if hint < len(weights) {
				hints = []string{zoneName(hint)}
			}
			if place == len(weights) {
				place = -1
			}
			p.places, p.hints = append(p.places, place), append(p.hints, hints)
		}
		_, report := Assign(p.policy, weighted(weights...), p.endpoints())
		want, ok := fewest(weights, counts, len(p.places), p.policy.Bound)
		if !ok || report.Changed != want {
			t.Fatalf("seed %d: %v: %d changes are enough, not %d", seed, p, want, report.Changed)
		}
	}
}

// fewest goes through every way to send the endpoints of each place to zones.
func fewest(weights []int64, counts map[[2]int]int, n, percent int) (int, bool) {
	zones := len(weights)
	bound := [2]int64{int64(100 + percent), 100}
	need, sum := needed(weights, n, bound)
	if sum > n {
		need, _ = needed(weights, n, leastBound(weights, n))
	}
	placed := make([]int, zones+1)
	for id, count := range counts {
		placed[id[0]] += count
	}
	best, changes := math.Inf(1), 0
	serving, local := make([]int, zones), make([]int, zones)
	judge := func(kept int) {
		cross := 0.0
		for z, weight := range weights {
			if serving[z] < need[z] {
				return
			}
			cross += float64(weight) * (1 - float64(local[z])/float64(serving[z]))
		}
		if cross < best-tolerance || cross < best+tolerance && n-kept < changes {
			best, changes = min(best, cross), n-kept
		}
	}
	// visit sends what is left of a place to this zone and those behind it.
	var visit func(place, zone, left, kept int)
	visit = func(place, zone, left, kept int) {
		switch {
		case place == len(placed):
			judge(kept)
			return
		case zone == zones:
			visit(place+1, 0, slices.Concat(placed, []int{0})[place+1], kept)
			return
		}
		count := 0
		if zone == zones-1 {
			count = left
		}
		for ; count <= left; count++ {
			serving[zone] += count
			if place == zone {
				local[zone] += count
			}
			visit(place, zone+1, left-count, kept+min(count, counts[[2]int{place, zone}]))
			serving[zone] -= count
			if place == zone {
				local[zone] -= count
			}
		}
	}
	visit(0, 0, placed[0], 0)
	return changes, !math.IsInf(best, 1)
}

func BenchmarkAssign(b *testing.B) {
	for _, hinted := range []bool{false, true} {
		for _, size := range []struct{ endpoints, zones int }{{10, 3}, {100, 3}, {1000, 3}, {5000, 3}, {5000, 10}} {
			b.Run(fmt.Sprintf("endpoints=%d/zones=%d/hinted=%t", size.endpoints, size.zones, hinted), func(b *testing.B) {
				capacities, endpoints := population(size.endpoints, size.zones)
				if hinted {
					hints, _ := Assign(auto, capacities, endpoints)
					for i := range endpoints {
						endpoints[i].Hints = hints[i]
					}
				}
				for b.Loop() {
					Assign(auto, capacities, endpoints)
				}
			})
		}
	}
}

// population is one large Service, unevenly placed.
func population(n, zones int) (Capacities, []Endpoint) {
	r := rand.New(rand.NewPCG(1, 8))
	var weights []int64
	for range zones {
		weights = append(weights, 1000+r.Int64N(4000))
	}
	endpoints := make([]Endpoint, n)
	for i := range endpoints {
		endpoints[i] = Endpoint{Key: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), Zone: zoneName(min(r.IntN(zones), r.IntN(zones)))}
	}
	return weighted(weights...), endpoints
}

// BenchmarkFlap is one endpoint that goes and comes back: two Updates.
func BenchmarkFlap(b *testing.B) {
	for _, size := range []struct{ endpoints, zones int }{{100, 3}, {5000, 3}, {5000, 10}} {
		b.Run(fmt.Sprintf("endpoints=%d/zones=%d", size.endpoints, size.zones), func(b *testing.B) {
			capacities, endpoints := population(size.endpoints, size.zones)
			a := NewAssignment(auto, capacities)
			for _, e := range endpoints {
				a.Put(e)
			}
			a.Update()
			i := 0
			for b.Loop() {
				i = (i + 1) % len(endpoints)
				a.Delete(endpoints[i].Key)
				a.Update()
				a.Put(endpoints[i])
				a.Update()
			}
		})
	}
}
