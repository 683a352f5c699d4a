// Package figures puts what was measured into numbers and tables that are read side by side.
package figures

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Latency sums up latencies, in seconds. Count is 0 where there were none.
type Latency struct {
	Count         int
	P50, P99, Max float64
}

// Summarize sums up.
func Summarize(values []time.Duration) Latency {
	if len(values) == 0 {
		return Latency{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Latency{
		Count: len(sorted), P50: Percentile(sorted, 50).Seconds(), P99: Percentile(sorted, 99).Seconds(), Max: sorted[len(sorted)-1].Seconds(),
	}
}

// Percentile of sorted values is the smallest that so many of a hundred do not exceed. There must be one.
func Percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

// Median of an even number is the lower of the two in the middle: a value that was measured.
func Median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// String shows milliseconds.
func (l Latency) String() string {
	if l.Count == 0 {
		return "-"
	}
	return Milliseconds(l.P50) + " / " + Milliseconds(l.P99) + " / " + Milliseconds(l.Max)
}

// Milliseconds shows seconds, without the unit.
func Milliseconds(seconds float64) string { return strconv.FormatFloat(1000*seconds, 'f', 0, 64) }

// Mebibytes shows bytes.
func Mebibytes(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) + " MiB" }

// Each returns one figure of every run.
func Each[R, T any](runs []R, figure func(R) T) []T {
	values := make([]T, len(runs))
	for i, run := range runs {
		values[i] = figure(run)
	}
	return values
}

// Table prints rows as Markdown.
func Table(w io.Writer, header []string, rows [][]string) {
	line := func(cells []string) { _, _ = fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(header)
	line(slices.Repeat([]string{"---"}, len(header)))
	for _, row := range rows {
		line(row)
	}
	_, _ = fmt.Fprintln(w)
}
