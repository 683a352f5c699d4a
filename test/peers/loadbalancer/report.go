package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/figures"
)

var steps = []string{stepCreate, stepRestart, stepNode, stepDelete}

// medians returns one measurement for all runs of each peer and step, step by step.
func medians(all []Measurement) []Measurement {
	var result []Measurement
	for _, step := range steps {
		for _, peer := range []string{theirs, ours} {
			var runs []Measurement
			for _, m := range all {
				if m.Peer == peer && m.Step == step {
					runs = append(runs, m)
				}
			}
			if len(runs) > 0 {
				result = append(result, medianOf(runs))
			}
		}
	}
	return result
}

// medianOf takes the median of every figure by itself.
func medianOf(runs []Measurement) Measurement {
	ints := func(figure func(Measurement) int) int { return figures.Median(figures.Each(runs, figure)) }
	floats := func(figure func(Measurement) float64) float64 { return figures.Median(figures.Each(runs, figure)) }
	m := runs[0]
	m.API = controlplane.Writes{}
	for _, run := range runs {
		for what := range run.API {
			m.API[what] = ints(func(m Measurement) int { return m.API[what] })
		}
	}
	m.Reads, m.Writes = ints(func(m Measurement) int { return m.Reads }), ints(func(m Measurement) int { return m.Writes })
	m.Refused = ints(func(m Measurement) int { return m.Refused })
	m.Seconds, m.Least = floats(func(m Measurement) float64 { return m.Seconds }), floats(func(m Measurement) float64 { return m.Least })
	m.CPU = floats(func(m Measurement) float64 { return m.CPU })
	return m
}

// print writes the page.
func (r *results) print(w io.Writer) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	taken := medians(r.Measurements)
	p("# LoadBalancers: the manager against the upstream service controller\n\nMade by\n\n    make bench-loadbalancer\n\n")
	p("on %d CPUs, in %s; `BENCH_FLAGS=-quick` is a look in some minutes. %d Services of one port, %d nodes; each figure is the median of %d.\n\n",
		r.CPUs, r.Took.Round(time.Minute), r.Services, r.Nodes, r.runs())
	p("Both serve the same Services of the same real API server, one after the other, on the same fake cloud over HTTP. The\n" +
		"service controller is that of k8s.io/cloud-provider v0.37; its load balancer is our provider of the fake cloud behind its\n" +
		"interface (`test/peers/servicecontroller`): it makes the same resources by the same calls, waits for the same limits, and looks no\n" +
		"more often than it has to. Ours is the manager with its controller `loadbalancer` alone. Both work on four Services at once and\n" +
		"may send the API server 500 requests a second.\n\n")
	p("The limits are %s; for creation and deletion, which would take 20 minutes each within these, %s.\n\n", limitsText(r.Account), limitsText(r.Wide))
	p("* **Seconds** pass until the last Service has its address, the last call after the start of the process is done, every set of\n" +
		"  targets has the node, or the last Service is gone and the cloud is empty.\n" +
		"* **At least** is what the limits ask for as many calls as were made.\n" +
		"* **Written to the API server** counts all requests that write, and how many of them are Events. Ours keeps a record of each\n" +
		"  balancer and two conditions, which the service controller does not.\n\n")
	overview(w, taken)
	p("## Promised\n\n")
	promised(w, taken, r.Services, r.Account)
}

// runs is how often each step was measured, of whichever peer it was least.
func (r *results) runs() int {
	times := map[string]int{}
	for _, m := range r.Measurements {
		times[m.Peer+m.Step]++
	}
	least := 0
	for _, n := range times {
		if least == 0 || n < least {
			least = n
		}
	}
	return least
}

func limitsText(l cloud.Limits) string {
	one := func(l cloud.Limit) string { return fmt.Sprintf("%v a second (%d at once)", l.PerSecond, l.Burst) }
	return fmt.Sprintf("%s that look and %s that change something", one(l.Reads), one(l.Writes))
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 2, 64) }

// events of all that was written.
func events(api controlplane.Writes) int {
	sum := 0
	for _, verb := range []string{"create", "patch", "update"} {
		sum += api[verb+" events"]
	}
	return sum
}

func overview(w io.Writer, taken []Measurement) {
	var rows [][]string
	for _, m := range taken {
		rows = append(rows, []string{m.Step, m.Peer, strconv.Itoa(m.Reads), strconv.Itoa(m.Writes), strconv.Itoa(m.Refused), seconds(m.Seconds), seconds(m.Least),
			fmt.Sprintf("%d (%d)", m.API.Total(), events(m.API)), seconds(m.CPU)})
	}
	figures.Table(w, []string{"", "peer", "calls that look", "calls that change", "refused", "seconds", "at least",
		"written to the API server (Events)", "CPU s"}, rows)
	ratios(w, taken)
}

// ratios prints theirs over ours.
func ratios(w io.Writer, taken []Measurement) {
	var rows [][]string
	for _, step := range steps {
		t, o, both := pair(taken, step)
		if !both {
			continue
		}
		ratio := func(theirs, ours float64) string {
			if ours == 0 {
				return fmt.Sprintf("%.0f : 0", theirs)
			}
			return fmt.Sprintf("%.1f", theirs/ours)
		}
		rows = append(rows, []string{step, ratio(float64(t.Reads+t.Writes), float64(o.Reads+o.Writes)), ratio(t.Seconds, o.Seconds),
			ratio(float64(t.API.Total()), float64(o.API.Total())), ratio(t.CPU, o.CPU)})
	}
	if len(rows) > 0 {
		figures.Table(w, []string{"theirs : ours", "calls", "seconds", "written to the API server", "CPU"}, rows)
	}
}

func pair(taken []Measurement, step string) (t, o Measurement, both bool) {
	find := func(peer string) int {
		return slices.IndexFunc(taken, func(m Measurement) bool { return m.Peer == peer && m.Step == step })
	}
	i, j := find(theirs), find(ours)
	if i < 0 || j < 0 {
		return t, o, false
	}
	return taken[i], taken[j], true
}

// promised prints what ours was to keep, and whether it does.
func promised(w io.Writer, taken []Measurement, services int, account cloud.Limits) {
	var rows [][]string
	row := func(step, what, promise, measured string, kept bool) {
		verdict := "yes"
		if !kept {
			verdict = "**no**"
		}
		rows = append(rows, []string{step, what, promise, measured, verdict})
	}
	for _, m := range taken {
		if m.Peer != ours {
			continue
		}
		switch m.Step {
		case stepRestart:
			row(m.Step, "calls that change the cloud", "0", strconv.Itoa(m.Writes), m.Writes == 0)
			row(m.Step, "written to the API server", "0", strconv.Itoa(m.API.Total()), m.API.Total() == 0)
		case stepNode:
			calls := (services + fake.MaxTargetsPerCall - 1) / fake.MaxTargetsPerCall
			row(m.Step, "calls, looks included", fmt.Sprintf("≤ %d: sets of targets / %d", calls, fake.MaxTargetsPerCall),
				strconv.Itoa(m.Reads+m.Writes), m.Reads+m.Writes <= calls)
			most := 1.1 * least(account, 0, calls)
			row(m.Step, "seconds", fmt.Sprintf("≤ %s: what the limits ask for these, and 10%%", seconds(most)), seconds(m.Seconds), m.Seconds <= most)
		}
	}
	figures.Table(w, []string{"", "", "promised", "measured", "kept"}, rows)
}
