package main

import "math"

// figures are what the hints of one Service come to. Hints are given by endpoint as numbers of zones; noHint is none.
type figures struct {
	hinted bool
	// cross is the share of traffic that crosses zones, overload what the most loaded endpoint gets above an even share.
	cross, overload float64
}

const noHint = -1

// judge works out what a proxy does with hints. Without hints on all ready endpoints it uses none; a zone that no hint
// names is sent to all endpoints.
func judge(s service, ready []bool, hints []int) figures {
	f := figures{hinted: true}
	n, total := 0, 0.0
	for e, is := range ready {
		if is {
			n++
			f.hinted = f.hinted && hints[e] != noHint
		}
	}
	for _, weight := range s.weights {
		total += float64(weight)
	}
	loads := make([]float64, len(ready))
	for z, weight := range s.weights {
		serves := func(e int) bool { return ready[e] && f.hinted && hints[e] == z }
		serving := 0
		for e := range ready {
			if serves(e) {
				serving++
			}
		}
		if serving == 0 {
			serves, serving = func(e int) bool { return ready[e] }, n
		}
		each := float64(weight) / total / float64(serving)
		for e := range ready {
			if !serves(e) {
				continue
			}
			loads[e] += each
			if s.places[e] != z {
				f.cross += each
			}
		}
	}
	for _, load := range loads {
		f.overload = max(f.overload, load*float64(n)-1)
	}
	return f
}

// bound is what each endpoint may get, in even shares.
type bound struct{ num, den int64 }

// optimum is the least traffic across zones with one zone an endpoint, each zone served, and no endpoint getting more than
// a bound: the one asked for, or else the smallest that can be met.
func optimum(s service, ready []bool, asked bound) (cross float64, met bool) {
	placed, n := make([]int, len(s.weights)), 0
	for e, is := range ready {
		if is {
			placed[s.places[e]]++
			n++
		}
	}
	total := int64(0)
	for _, weight := range s.weights {
		total += weight
	}
	need, met := needs(s.weights, total, n, asked)
	if !met {
		need = smallest(s.weights, total, n)
	}
	least := make([]float64, n+1) // by the number of endpoints that serve the zones so far
	for m := range least {
		least[m] = math.Inf(1)
	}
	least[0] = 0
	for z, weight := range s.weights {
		next := make([]float64, n+1)
		for m := range next {
			next[m] = math.Inf(1)
			for here := need[z]; here <= m; here++ {
				loss := float64(weight) / float64(total) * (1 - float64(min(here, placed[z]))/float64(here))
				next[m] = min(next[m], least[m-here]+loss)
			}
		}
		least = next
	}
	return least[n], met
}

// needs is how many endpoints each zone needs under a bound, and whether there are so many.
func needs(weights []int64, total int64, n int, b bound) (need []int, fits bool) {
	sum := 0
	for _, weight := range weights {
		least := 1
		for weight*int64(n)*b.den > b.num*total*int64(least) {
			least++
		}
		need = append(need, least)
		sum += least
	}
	return need, sum <= n
}

// smallest is what each zone needs under the smallest bound that can be met, which is one at which some zone has just
// enough.
func smallest(weights []int64, total int64, n int) (need []int) {
	best := bound{}
	for _, weight := range weights {
		for m := range int64(n) {
			b := bound{weight * int64(n), total * (m + 1)}
			if best.den > 0 && b.num*best.den >= best.num*b.den {
				continue
			}
			if try, fits := needs(weights, total, n, b); fits {
				best, need = b, try
			}
		}
	}
	return need
}
