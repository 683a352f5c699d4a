package main

import (
	"fmt"
	"math/rand/v2"
)

// population is a kind of Services, in a cluster whose zones have CPU in proportion to weights.
type population struct {
	name    string
	weights []int64
	// balanced Services have their endpoints in turn in each zone; others anywhere, each zone being as likely.
	balanced bool
}

var populations = []population{
	{"1:1:1 balanced", []int64{1, 1, 1}, true},
	{"1:1:1 random", []int64{1, 1, 1}, false},
	{"3:2:1 balanced", []int64{3, 2, 1}, true},
	{"3:2:1 random", []int64{3, 2, 1}, false},
	{"1:1:1:1 random", []int64{1, 1, 1, 1}, false},
}

const (
	fewestEndpoints = 3
	mostEndpoints   = 60
)

// service is one of a population: where its endpoints are, by the number of the zone, and which of them flaps.
type service struct {
	weights []int64
	places  []int
	flaps   int
	// order is another order of the endpoints.
	order []int
}

// services makes the Services of a population, the same ones each time.
func (p population) services(count int) []service {
	r := rand.New(rand.NewPCG(1, 11)) //nolint:gosec // the same Services each time is what is wanted
	all := make([]service, count)
	for i := range all {
		fewest := max(fewestEndpoints, len(p.weights)) // else no hints serve every zone, and there is no optimum to compare with
		n := fewest + r.IntN(mostEndpoints-fewest+1)
		s := service{weights: p.weights, places: make([]int, n), flaps: r.IntN(n), order: r.Perm(n)}
		for e := range s.places {
			s.places[e] = e % len(p.weights)
			if !p.balanced {
				s.places[e] = r.IntN(len(p.weights))
			}
		}
		all[i] = s
	}
	return all
}

// ready says which endpoints are ready: all, or all but the one that flaps.
func (s service) ready(all bool) []bool {
	ready := make([]bool, len(s.places))
	for e := range ready {
		ready[e] = all || e != s.flaps
	}
	return ready
}

func zoneName(z int) string { return fmt.Sprintf("zone-%c", 'a'+z) }
