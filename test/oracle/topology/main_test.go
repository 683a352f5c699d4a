package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// placed is a Service with so many endpoints in each zone.
func placed(weights []int64, counts ...int) service {
	s := service{weights: weights}
	for z, count := range counts {
		for range count {
			s.places = append(s.places, z)
		}
	}
	for e := range s.places {
		s.order = append(s.order, e)
	}
	return s
}

func TestJudge(t *testing.T) {
	s := placed([]int64{2, 1, 1}, 2, 2)
	cases := map[string]struct {
		reason string
		ready  []bool
		hints  []int
		want   figures
	}{
		"None":   {"Each zone sends to all.", []bool{true, true, true, true}, []int{0, 0, 1, noHint}, figures{cross: 0.25 + 0.125 + 0.25}},
		"NoZone": {"The third zone sends to all.", []bool{true, true, true, true}, []int{0, 0, 1, 1}, figures{true, 0.25, 4*(0.25+0.0625) - 1}},
		"Other":  {"One of zone b serves c.", []bool{true, true, true, true}, []int{0, 0, 1, 2}, figures{true, 0.25, 0}},
		"Gone":   {"Hints of those that are not ready do not count.", []bool{true, true, true, false}, []int{0, 0, 1, noHint}, figures{true, 0.25, 3*(0.25+0.25/3) - 1}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := judge(s, tc.ready, tc.hints)
			if got.hinted != tc.want.hinted || math.Abs(got.cross-tc.want.cross) > 1e-9 || math.Abs(got.overload-tc.want.overload) > 1e-9 {
				t.Errorf("%s want %+v, got %+v", tc.reason, tc.want, got)
			}
		})
	}
}

// TestOptimum tries all hints of small Services.
func TestOptimum(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := placed([]int64{1 + r.Int64N(3), 1 + r.Int64N(3), 1 + r.Int64N(3)}, r.IntN(3), 1+r.IntN(3), 1+r.IntN(3))
		if len(s.places) < 3 {
			continue
		}
		got, met := optimum(s, s.ready(true), auto)
		limit := math.Inf(1)
		var all []figures
		for choice := range int(math.Pow(3, float64(len(s.places)))) {
			hints, served := make([]int, len(s.places)), 0
			for e := range hints {
				hints[e] = choice % 3
				choice /= 3
				served |= 1 << hints[e]
			}
			if served == 7 {
				all = append(all, judge(s, s.ready(true), hints))
				limit = min(limit, all[len(all)-1].overload)
			}
		}
		want := math.Inf(1)
		for _, f := range all {
			if f.overload <= max(limit, 0.2)+1e-9 {
				want = min(want, f.cross)
			}
		}
		if math.Abs(got-want) > 1e-9 || met != (limit <= 0.2+1e-9) {
			t.Errorf("zones %v, endpoints in %v: want %f under %f, got %f, %t", s.weights, s.places, want, limit, got, met)
		}
	}
}

// TestGivers: 4, 4 and 3 endpoints in equal zones (kubernetes/kubernetes#122437).
func TestGivers(t *testing.T) {
	all, err := contestants()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		o := playOne(c.giver(), placed([]int64{1, 1, 1}, 4, 4, 3))
		if o.hinted != (i != theirs) || o.hinted && o.cross > 1e-9 || o.hinted && math.Abs(o.overload-2.0/9) > 1e-9 {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
	if err := isBest(placed([]int64{1, 1, 1}, 4, 4, 3), outcome{figures: figures{hinted: true, cross: 0.01}}, 0); err == nil {
		t.Error("one percent above the optimum is none")
	}
}

func TestRun(t *testing.T) {
	docs := t.TempDir()
	var out bytes.Buffer
	if err := run([]string{"-services", "60", "-docs", docs}, &out); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(docs, "topology-figures.md"))
	if err != nil || !bytes.Equal(page, out.Bytes()) || strings.Count(out.String(), "\n| 3:2:1 random |") != 6 {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, name := range []string{"topology-cross-zone.svg", "topology-changes.svg"} {
		if svg, err := os.ReadFile(filepath.Join(docs, "img", name)); err != nil || !bytes.Contains(svg, []byte("Auto, upstream")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
