package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/topology"
)

// contestant is a giver with the name that tables have.
type contestant struct {
	name string
	// policy is ours, by the value of topology-mode; empty for upstream's.
	policy string
	giver  func() giver
}

// The contestants that are asked for by number.
const (
	theirs = iota
	ours
	keeping
	_
	sameZone
)

func contestants() ([]contestant, error) {
	all := []contestant{
		{name: "Auto, upstream", giver: func() giver { return upstreamAuto() }},
		{name: "Auto, ours", policy: "Auto"},
		{name: "ours, keep-10", policy: "fairlead.dev/auto.keep-10"},
		{name: "ours, keep-120", policy: "fairlead.dev/auto.keep-120"},
		{name: "PreferSameZone", giver: func() giver { return upstreamSameZone() }},
	}
	for i, c := range all {
		if c.policy == "" {
			continue
		}
		policy, err := topology.Parse(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.AnnotationTopologyMode: c.policy}}})
		if err != nil {
			return nil, fmt.Errorf("reading the policy of %s: %w", c.name, err)
		}
		all[i].giver = func() giver { return &library{policy: policy} }
	}
	return all, nil
}

// outcome is what one giver did for one Service.
type outcome struct {
	figures
	// away is what hints come to while one endpoint is away.
	away figures
	// changed are hints of other endpoints that changed when one went and came back.
	changed int
	// unstable: the same endpoints again, in another order, got other hints.
	unstable bool
	// first is the time for hints from nothing, flap for those of one that goes and comes back.
	first, flap time.Duration
}

// result is a population's outcomes, by giver and Service.
type result struct {
	population population
	services   []service
	names      []string
	outcomes   [][]outcome
	// best is the optimum by Service, and met says where the bound of 20% can be met.
	best []float64
	met  []bool
}

var auto = bound{120, 100}

// play plays a population to all.
func play(p population, count int) (result, error) {
	r := result{population: p, services: p.services(count)}
	for _, s := range r.services {
		best, met := optimum(s, s.ready(true), auto)
		r.best, r.met = append(r.best, best), append(r.met, met)
	}
	all, err := contestants()
	if err != nil {
		return r, err
	}
	for i, c := range all {
		var outcomes []outcome
		for j, s := range r.services {
			o := playOne(c.giver(), s)
			if i == ours {
				if err := isBest(s, o, r.best[j]); err != nil {
					return r, err
				}
			}
			outcomes = append(outcomes, o)
		}
		r.names, r.outcomes = append(r.names, c.name), append(r.outcomes, outcomes)
	}
	return r, nil
}

// playOne has one giver give hints to a Service, takes an endpoint away and brings it back, and does it all again in
// another order.
func playOne(g giver, s service) outcome {
	g.begin(s, s.order)
	again := g.update(s.ready(true))

	inOrder := make([]int, len(s.places))
	for e := range inOrder {
		inOrder[e] = e
	}
	g.begin(s, inOrder)
	begun := time.Now()
	up := g.update(s.ready(true))
	first := time.Since(begun)
	o := outcome{figures: judge(s, s.ready(true), up), first: first, unstable: !slices.Equal(up, again)}

	begun = time.Now()
	down := g.update(s.ready(false))
	back := g.update(s.ready(true))
	o.flap = time.Since(begun)
	o.away = judge(s, s.ready(false), down)
	for e := range s.places {
		if e != s.flaps {
			o.changed += differ(up[e], down[e]) + differ(down[e], back[e])
		}
	}
	return o
}

func differ(a, b int) int {
	if a != b {
		return 1
	}
	return 0
}

// isBest says what is wrong with our hints: none at all, more traffic across zones than need be, or other hints for
// another order.
func isBest(s service, o outcome, best float64) error {
	if !o.hinted || math.Abs(o.cross-best) > 1e-9 || o.unstable {
		return fmt.Errorf("zones %v and endpoints in %v: got %+v, the optimum crosses %f", s.weights, s.places, o, best)
	}
	return nil
}
