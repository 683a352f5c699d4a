package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/fairlead/fairlead/test/peers/figures"
)

// The sizes that promises are about.
var small, usual, large = Size{1000, 3}, Size{10000, 3}, Size{30000, 3}

// must is one promise, and whether it is kept.
type must struct {
	what, theirs, ours, ratio, promise string
	kept                               bool
}

// mustTable prints what was promised; what was not measured is left out.
func mustTable(w io.Writer, all []row) {
	get := func(size Size, peer string) *row {
		i := slices.IndexFunc(all, func(r row) bool { return r.size == size && r.peer == peer })
		if i < 0 {
			return nil
		}
		return &all[i]
	}
	var musts []must
	for _, size := range []Size{small, usual, large} {
		t, o := get(size, theirs), get(size, ours)
		if t == nil || o == nil {
			continue
		}
		musts = append(musts, mustsAt(size, *t, *o)...)
	}
	if few, many := get(small, ours), get(large, ours); few != nil && many != nil {
		musts = append(musts, flat(*few, *many)...)
	}
	if len(musts) == 0 {
		return
	}
	var cells [][]string
	for _, m := range musts {
		verdict := "yes"
		if !m.kept {
			verdict = "**no**"
		}
		cells = append(cells, []string{m.what, m.theirs, m.ours, m.ratio, m.promise, verdict})
	}
	_, _ = fmt.Fprint(w, "Promises\n\n")
	figures.Table(w, []string{"", theirs, ours, "ratio", "promised", "kept"}, cells)
}

// mustsAt are the promises that compare the two at one size.
func mustsAt(size Size, t, o row) []must {
	var result []must
	// times wants theirs to be so many times ours. One that timed out took at least the limit.
	times := func(what, unit string, theirs, ours float64, inTime bool, least float64) {
		m := must{
			what: what + " at " + size.String(), theirs: digits(theirs) + " " + unit, ours: digits(ours) + " " + unit,
			ratio: digits(theirs / ours), promise: "≥ " + digits(least), kept: theirs/ours >= least,
		}
		if !inTime {
			m.theirs, m.ratio = "timed out", "> "+m.ratio
		}
		result = append(result, m)
	}
	sync := inStart(cold, func(s *Start) float64 { return s.Sync })
	if mine, ok := o.of(sync); ok && size != small {
		their, inTime := t.of(sync)
		if !inTime {
			their = limit.Seconds()
		}
		times("all rules", "s", their, mine, inTime, 30)
	}
	mine, their := o.changes(single(equal)), t.changes(single(equal))
	if len(mine) > 0 {
		p99 := 1000 * summary(mine, toWrite).P99
		result = append(result, must{
			what: "one change written, p99, at " + size.String(), theirs: "-", ours: digits(p99) + " ms", ratio: "-", promise: "< 5 ms", kept: p99 < 5,
		})
	}
	if len(mine) > 0 && len(their) > 0 {
		times("one change written, p50,", "ms", 1000*summary(their, toWrite).P50, 1000*summary(mine, toWrite).P50, true, 50)
	}
	if resident, ok := o.of(inStart(cold, func(s *Start) float64 { return float64(s.Resident) / 1e6 })); ok && size == usual {
		result = append(result, must{
			what: "resident memory at " + size.String(), theirs: t.show("%.0f MB", inStart(cold, func(s *Start) float64 { return float64(s.Resident) / 1e6 })),
			ours: fmt.Sprintf("%.0f MB", resident), ratio: "-", promise: "< 80 MB", kept: resident < 80,
		})
	}
	// What the machine could do meanwhile is in both figures of a share.
	for _, c := range []struct {
		what  string
		share func(*Traffic) float64
	}{
		{"connections a second, of those without rules,", func(t *Traffic) float64 { return t.Connections / t.BareConnections }},
		{"one stream, of one without rules,", func(t *Traffic) float64 { return t.Stream / t.BareStream }},
	} {
		their, ok := t.of(inTraffic(c.share))
		mine, both := o.of(inTraffic(c.share))
		if ok && both {
			result = append(result, must{
				what: c.what + " at " + size.String(), theirs: fmt.Sprintf("%.2f", their), ours: fmt.Sprintf("%.2f", mine),
				ratio: fmt.Sprintf("%.2f", mine/their), promise: "≥ 1", kept: mine >= their,
			})
		}
	}
	return result
}

// flat are the promises that ours costs the same with many Services as with few.
func flat(few, many row) []must {
	var result []must
	compare := func(what, unit string, few, many, most float64) {
		result = append(result, must{
			what: what + ", " + large.String() + " against " + small.String(), theirs: "-",
			ours: digits(few) + " and " + digits(many) + " " + unit, ratio: fmt.Sprintf("%.2f", many/few),
			promise: "≤ " + digits(most), kept: many <= few*most,
		})
	}
	if f, m := few.changes(single(equal)), many.changes(single(equal)); len(f) > 0 && len(m) > 0 {
		compare("one change written, p50", "ms", 1000*summary(f, toWrite).P50, 1000*summary(m, toWrite).P50, 1.5)
	}
	first := inTraffic(func(t *Traffic) float64 { return 1e6 * t.First.P50 })
	if f, ok := few.of(first); ok {
		if m, ok := many.of(first); ok {
			compare("first packet, p50", "us", f, m, 1.25)
		}
	}
	return result
}
