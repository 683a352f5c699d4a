package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead/fairlead/test/peers/plot"
)

const preface = `# Topology hints in numbers

Made by

    make bench-topology

which plays %d random Services of each population, with %d to %d endpoints (but no fewer than zones), to kube-controller-manager's
code (k8s.io/endpointslice/topologycache and trafficdist, v0.37.2), and to ours. In "3:2:1" the zones' nodes have CPU in these
proportions, and demand is in proportion to that. "Balanced" endpoints are in each zone in turn, "random" ones anywhere.

* **No hints**: the share of Services whose endpoints have none.
* **Across zones**: the share of traffic that crosses zones, the mean over all Services; then over those that upstream's Auto
  gives hints to, and how much less that is than upstream's.
* **Overload**: what the most loaded endpoint of any Service gets above an even share.
* **Changed**: one endpoint stops being ready and comes back; so many hints of other endpoints change on the way, in the mean.
  **One away** is the traffic across zones, and the overload, meanwhile.
* **Another order**: the share of Services that get other hints when the same endpoints are given in another order (the same
  order is as good upstream: it goes through a map).

The optimum is the least traffic across zones with one zone an endpoint under a bound of 20%%, or the smallest bound that can be
met. It is found by dynamic programming that has nothing to do with the library; that "Auto, ours" is at the optimum, and gives
hints, is checked for each Service. "keep-N" is a setting of ours: hints that stand are kept while they are at most N points
worse than the best. With keep-120, 100 and the bound, others never change: what that costs is under "one away".

![Traffic across zones by the number of endpoints](img/topology-cross-zone.svg)

![Hints of others changed by the number of endpoints](img/topology-changes.svg)

`

// mean is the mean of values, and 0 where there are none.
func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	if len(values) == 0 {
		return 0
	}
	return sum / float64(len(values))
}

// pick returns one value of each outcome that is wanted, and where that is the Service's number.
func pick(outcomes []outcome, wanted func(int) bool, value func(outcome) float64) []float64 {
	var values []float64
	for i, o := range outcomes {
		if wanted(i) {
			values = append(values, value(o))
		}
	}
	return values
}

func everyOne(int) bool { return true }

// hinted says which Services upstream's Auto gives hints to.
func (r result) hinted(i int) bool { return r.outcomes[theirs][i].hinted }

func writePage(w io.Writer, results []result, count int) {
	fmt.Fprintf(w, preface, count, fewestEndpoints, mostEndpoints)
	fmt.Fprintln(w, "| population | hints | no hints | across zones | where upstream hints | less | overload | changed | one away | another order |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, r := range results {
		theirMean := mean(pick(r.outcomes[theirs], r.hinted, crossing))
		for i, outcomes := range r.outcomes {
			where := mean(pick(outcomes, r.hinted, crossing))
			worst, worstAway := 0.0, 0.0
			for _, o := range outcomes {
				worst, worstAway = max(worst, o.overload), max(worstAway, o.away.overload)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %.2f | %s, %s | %s |\n", r.population.name, r.names[i],
				percent(1-mean(pick(outcomes, everyOne, yes(func(o outcome) bool { return o.hinted })))),
				percent(mean(pick(outcomes, everyOne, crossing))), percent(where), less(where, theirMean), percent(worst),
				mean(pick(outcomes, everyOne, changes)),
				percent(mean(pick(outcomes, everyOne, func(o outcome) float64 { return o.away.cross }))), percent(worstAway), percent(mean(pick(outcomes, everyOne, yes(func(o outcome) bool { return o.unstable })))))
		}
		best := pick(r.outcomes[theirs], r.hinted, crossing)[:0]
		for i, cross := range r.best {
			if r.hinted(i) {
				best = append(best, cross)
			}
		}
		fmt.Fprintf(w, "| %s | the optimum |  | %s | %s | %s |  |  |  |  |\n", r.population.name,
			percent(mean(r.best)), percent(mean(best)), less(mean(best), theirMean))
	}
	writeBounds(w, results)
	writeTimes(w, results)
}

// writeBounds says where a bound of 20% can be met at all.
func writeBounds(w io.Writer, results []result) {
	fmt.Fprint(w, "\n20% can be met for ")
	for i, r := range results {
		met := 0.0
		for _, is := range r.met {
			if is {
				met++
			}
		}
		if i > 0 {
			fmt.Fprint(w, ", ")
		}
		fmt.Fprintf(w, "%s of %s", percent(met/float64(len(r.met))), r.population.name)
	}
	fmt.Fprintln(w, ".")
}

func writeTimes(w io.Writer, results []result) {
	fmt.Fprint(w, "\n## Time\nThe mean time for the hints of a Service from nothing, and for both changes of a flap, in microseconds, by population.\n\n| hints |")
	for _, r := range results {
		fmt.Fprintf(w, " %s |", r.population.name)
	}
	fmt.Fprint(w, "\n| --- |")
	for range results {
		fmt.Fprint(w, " --- |")
	}
	for i, name := range results[0].names {
		fmt.Fprintf(w, "\n| %s |", name)
		for _, r := range results {
			fmt.Fprintf(w, " %.0f / %.0f |", mean(pick(r.outcomes[i], everyOne, func(o outcome) float64 { return micros(o.first) })),
				mean(pick(r.outcomes[i], everyOne, func(o outcome) float64 { return micros(o.flap) })))
		}
	}
	fmt.Fprintln(w)
}

func crossing(o outcome) float64     { return o.cross }
func changes(o outcome) float64      { return float64(o.changed) }
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func percent(share float64) string   { return fmt.Sprintf("%.1f%%", 100*max(share, 0)) }

func yes(is func(outcome) bool) func(outcome) float64 {
	return func(o outcome) float64 {
		if is(o) {
			return 1
		}
		return 0
	}
}

func less(value, than float64) string {
	if than == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f%%", 100*(1-value/than))
}

// plotted is the population that plots show.
const plotted = "3:2:1 random"

// writePlots draws means by the number of endpoints, which is rounded to make few enough points.
func writePlots(folder string, results []result) error {
	cross := plot.Chart{Title: "Traffic across zones, zones 3:2:1, endpoints anywhere", X: "endpoints", Y: "% of the traffic"}
	changed := plot.Chart{Title: "Hints of others changed when one endpoint goes and comes back", X: "endpoints", Y: "hints"}
	for _, r := range results {
		if r.population.name != plotted {
			continue
		}
		for _, i := range []int{theirs, ours, sameZone, keeping} {
			series := plot.Series{Name: r.names[i], Colour: colours[i], Dashed: i == keeping}
			series.Points = r.points(i, changes)
			changed.Series = append(changed.Series, series)
			if i != keeping { // which begins as ours does
				series.Points = r.points(i, func(o outcome) float64 { return 100 * o.cross })
				cross.Series = append(cross.Series, series)
			}
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // pictures for everybody
		return fmt.Errorf("making the folder of plots: %w", err)
	}
	for name, chart := range map[string]plot.Chart{"topology-cross-zone": cross, "topology-changes": changed} {
		var svg bytes.Buffer
		if err := chart.Write(&svg); err != nil {
			return fmt.Errorf("drawing %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(folder, name+".svg"), svg.Bytes(), 0o644); err != nil { //nolint:gosec // a picture for everybody
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

var colours = map[int]plot.Colour{theirs: plot.Orange, ours: plot.Blue, keeping: plot.Blue, sameZone: plot.Grey}

// points are means by the number of endpoints, rounded so that the next is about a quarter more.
func (r result) points(giver int, value func(outcome) float64) []plot.Point {
	sums, counts := map[int]float64{}, map[int]float64{}
	for i, s := range r.services {
		n := len(s.places)
		if n > 6 {
			step := math.Round(math.Log(float64(n)) / math.Log(1.25))
			n = int(math.Round(math.Pow(1.25, step)))
		}
		sums[n] += value(r.outcomes[giver][i])
		counts[n]++
	}
	var points []plot.Point
	for n, sum := range sums {
		points = append(points, plot.Point{X: float64(n), Y: sum / counts[n]})
	}
	return points
}
