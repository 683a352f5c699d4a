package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/figures"
)

// String is a line for whoever watches.
func (m Measurement) String() string {
	return fmt.Sprintf("run %d, %s (%s), %s %s: %d writes (%s), %.2f s CPU, %s resident, status %s (from sending: %s), deletion %s, %d slices, %d Pods wrong; load %.1f s, settled %.1f s after",
		m.Run, m.Peer, m.Knob, m.Group, m.Workload, m.Writes.Total(), m.Writes, m.CPU, figures.Mebibytes(m.Resident), m.Status, m.StatusSent, m.Deletion, m.Slices, m.Wrong, m.Load, m.Settle)
}

// medians returns one measurement for all runs of the same peer, workload and knob, in the order of their first.
func medians(all []Measurement) []Measurement {
	var result []Measurement
	for _, first := range all {
		of := func(m Measurement) bool {
			return m.Peer == first.Peer && m.Group == first.Group && m.Workload == first.Workload && m.Knob == first.Knob
		}
		if slices.ContainsFunc(result, of) {
			continue
		}
		var runs []Measurement
		for _, m := range all {
			if of(m) {
				runs = append(runs, m)
			}
		}
		result = append(result, medianOf(runs))
	}
	return result
}

// medianOf takes the median of every figure by itself.
func medianOf(runs []Measurement) Measurement {
	ints := func(figure func(Measurement) int) int { return figures.Median(figures.Each(runs, figure)) }
	floats := func(figure func(Measurement) float64) float64 { return figures.Median(figures.Each(runs, figure)) }
	bytes := func(figure func(Measurement) int64) int64 { return figures.Median(figures.Each(runs, figure)) }
	latencies := func(of func(Measurement) figures.Latency) figures.Latency {
		return figures.Latency{
			Count: ints(func(m Measurement) int { return of(m).Count }),
			P50:   floats(func(m Measurement) float64 { return of(m).P50 }),
			P99:   floats(func(m Measurement) float64 { return of(m).P99 }),
			Max:   floats(func(m Measurement) float64 { return of(m).Max }),
		}
	}
	m := runs[0]
	m.Run, m.Writes = 0, controlplane.Writes{}
	for _, run := range runs {
		for what := range run.Writes {
			m.Writes[what] = ints(func(m Measurement) int { return m.Writes[what] })
		}
	}
	m.Refused = ints(func(m Measurement) int { return m.Refused })
	m.CPU, m.APIServerCPU = floats(func(m Measurement) float64 { return m.CPU }), floats(func(m Measurement) float64 { return m.APIServerCPU })
	m.Resident, m.Peak = bytes(func(m Measurement) int64 { return m.Resident }), bytes(func(m Measurement) int64 { return m.Peak })
	m.Status = latencies(func(m Measurement) figures.Latency { return m.Status })
	m.StatusSent = latencies(func(m Measurement) figures.Latency { return m.StatusSent })
	m.Deletion = latencies(func(m Measurement) figures.Latency { return m.Deletion })
	m.Wrong = ints(func(m Measurement) int { return m.Wrong })
	m.Skipped, m.Slices = ints(func(m Measurement) int { return m.Skipped }), ints(func(m Measurement) int { return m.Slices })
	m.Load, m.Settle = floats(func(m Measurement) float64 { return m.Load }), floats(func(m Measurement) float64 { return m.Settle })
	m.Late, m.Others = floats(func(m Measurement) float64 { return m.Late }), floats(func(m Measurement) float64 { return m.Others })
	return m
}

// overview prints what was measured, medians of all runs.
func overview(w io.Writer, all []Measurement) {
	var rows [][]string
	for _, m := range medians(all) {
		row := []string{m.Group + ", " + m.Workload, m.Peer}
		others := m.Writes.Total()
		for _, resource := range []string{"endpointslices", "endpoints"} {
			counts := make([]string, 3)
			for i, verb := range []string{"create", "update", "delete"} {
				n := m.Writes[verb+" "+resource]
				counts[i], others = strconv.Itoa(n), others-n
			}
			row = append(row, strings.Join(counts, " / "))
		}
		rows = append(rows, append(row, strconv.Itoa(others), strconv.Itoa(m.Writes.Total()), fmt.Sprintf("%.2f", m.CPU),
			figures.Mebibytes(m.Resident), figures.Mebibytes(m.Peak), m.Status.String(), m.Deletion.String(), strconv.Itoa(m.Slices),
			strconv.Itoa(m.Wrong), fmt.Sprintf("%.0f%%", 100*m.Others)))
	}
	figures.Table(w, []string{
		"workload", "peer", "slices created / updated / deleted", "Endpoints created / updated / deleted", "other writes", "writes", "CPU s",
		"resident", "peak", "status p50 / p99 / max ms", "deletion p50 / p99 / max ms", "slices left",
		"Pods wrong", "CPU of other programs",
	}, rows)
}

// musts prints ours against theirs, and whether that is what was promised. It tells whether all of it is.
func musts(w io.Writer, all []Measurement, scale float64) bool {
	var rows [][]string
	kept := true
	taken := medians(all)
	for _, t := range taken {
		i := slices.IndexFunc(taken, func(o Measurement) bool { return o.Peer == ours && o.Group == t.Group && o.Workload == t.Workload })
		if t.Peer != theirs || i < 0 {
			continue
		}
		for _, must := range mustsOf(t, taken[i], scale) {
			verdict := "yes"
			if !must.kept {
				verdict, kept = "**no**", false
			}
			rows = append(rows, []string{t.Group + ", " + t.Workload, must.what, must.theirs, must.ours, must.ratio, must.promise, verdict})
		}
	}
	if len(rows) == 0 { // one of the two was not measured
		return false
	}
	figures.Table(w, []string{"workload", "", theirs, ours, "ratio", "promised", "kept"}, rows)
	return kept
}

// must is one promise.
type must struct {
	what, theirs, ours, ratio, promise string
	kept                               bool
}

// mustsOf are the promises of one workload, of theirs and of ours.
func mustsOf(t, o Measurement, scale float64) []must {
	compare := func(what string, theirs, ours, most float64, format func(float64) string) must {
		m := must{what: what, theirs: format(theirs), ours: format(ours), ratio: "-", kept: ours <= theirs*most}
		if theirs > 0 {
			m.ratio = fmt.Sprintf("%.2f", ours/theirs)
		}
		m.promise = fmt.Sprintf("≤ %.2f", most)
		return m
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 0, 64) }
	seconds := func(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) + " s" }
	mib := func(f float64) string { return figures.Mebibytes(int64(f)) }
	ms := func(f float64) string { return figures.Milliseconds(f) + " ms" }
	result := []must{
		compare("CPU", t.CPU, o.CPU, 1.0/3, seconds),
		compare("writes", float64(t.Writes.Total()), float64(o.Writes.Total()), 1, number),
		compare("resident memory", float64(t.Resident), float64(o.Resident), 1, mib),
	}
	atMost := map[string]float64{createAll: 0.5, flips: 1, rolling: 1}[o.Workload]
	if atMost > 0 {
		result = append(result, compare("p50", t.Status.P50, o.Status.P50, atMost, ms), compare("p99", t.Status.P99, o.Status.P99, atMost, ms))
	}
	if o.Workload == scaleDown && scale == 1 {
		result = append(result, must{
			what: "slices left", theirs: strconv.Itoa(t.Slices), ours: strconv.Itoa(o.Slices), ratio: "-", promise: "≤ 2", kept: o.Slices <= 2,
		})
	}
	return result
}

// curves prints writes against freshness for every setting of the knob, and tells whether ours lies below theirs: for
// each of their points we have one with neither more writes nor a later p99.
func curves(w io.Writer, all []Measurement) bool {
	taken := medians(all)
	below := slices.ContainsFunc(taken, func(m Measurement) bool { return m.Peer == theirs })
	var rows [][]string
	for _, m := range taken {
		beaten := "-"
		if m.Peer == theirs {
			beaten = "**by none**"
			for _, o := range taken {
				if o.Peer == ours && o.Writes.Total() <= m.Writes.Total() && o.Status.P99 <= m.Status.P99 {
					beaten = "by " + o.Knob
				}
			}
			below = below && beaten != "**by none**"
		}
		rows = append(rows, []string{
			m.Peer, m.Knob, strconv.Itoa(m.Writes.Total()), figures.Milliseconds(m.Status.P50), figures.Milliseconds(m.Status.P99), figures.Milliseconds(m.Status.Max),
			strconv.Itoa(m.Skipped), strconv.Itoa(m.Wrong), fmt.Sprintf("%.2f", m.CPU), beaten,
		})
	}
	figures.Table(w, []string{"peer", "batch delay", "writes", "p50 ms", "p99 ms", "max ms", "flips overtaken", "Pods wrong", "CPU s", "beaten"}, rows)
	return below
}
