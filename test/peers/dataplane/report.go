package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/test/peers/figures"
)

// row is all runs of one peer at one size.
type row struct {
	size     Size
	peer     string
	timedOut bool
	units    []Unit
}

// rows groups units, by size and then theirs before ours.
func rows(units []Unit) []row {
	var all []row
	for _, u := range units {
		i := slices.IndexFunc(all, func(r row) bool { return r.size == u.Size && r.peer == u.Peer })
		if i < 0 {
			i = len(all)
			all = append(all, row{size: u.Size, peer: u.Peer})
		}
		all[i].units = append(all[i].units, u)
		all[i].timedOut = all[i].timedOut || u.TimedOut
	}
	slices.SortStableFunc(all, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.size.Endpoints, b.size.Endpoints), cmp.Compare(a.size.Services, b.size.Services), -cmp.Compare(a.peer, b.peer))
	})
	return all
}

// of is the median of a figure over the runs. One that timed out before it came to it counts as the longest; ok is false
// where that is the median, or no run came to it.
func (r row) of(figure func(Unit) (float64, bool)) (median float64, ok bool) {
	var values []float64
	for _, u := range r.units {
		v, ok := figure(u)
		switch {
		case ok:
			values = append(values, v)
		case u.TimedOut:
			values = append(values, math.Inf(1))
		}
	}
	if len(values) == 0 {
		return 0, false
	}
	median = figures.Median(values)
	return median, !math.IsInf(median, 1)
}

// show is that median as text.
func (r row) show(format string, figure func(Unit) (float64, bool)) string {
	v, ok := r.of(figure)
	switch {
	case ok:
		return fmt.Sprintf(format, v)
	case r.timedOut:
		return "timed out"
	}
	return "-"
}

// changes are those of all runs.
func (r row) changes(of func(Unit) []Change) []Change {
	var all []Change
	for _, u := range r.units {
		all = append(all, of(u)...)
	}
	return all
}

// Figures of a unit. They are absent where it did not come to them.
func inStart(of func(Unit) *Start, figure func(*Start) float64) func(Unit) (float64, bool) {
	return func(u Unit) (float64, bool) {
		s := of(u)
		if s == nil {
			return 0, false
		}
		return figure(s), true
	}
}

func inTraffic(figure func(*Traffic) float64) func(Unit) (float64, bool) {
	return func(u Unit) (float64, bool) {
		if u.Traffic == nil {
			return 0, false
		}
		return figure(u.Traffic), true
	}
}

func inLoad(of func(Unit) *Interval, figure func(*Load) float64) func(Unit) (float64, bool) {
	return func(u Unit) (float64, bool) {
		i := of(u)
		if i == nil || i.Load == nil {
			return 0, false
		}
		return figure(i.Load), true
	}
}

func cold(u Unit) *Start         { return u.Cold }
func restart(u Unit) *Start      { return u.Restart }
func equal(u Unit) *Interval     { return u.Equal }
func byDefault(u Unit) *Interval { return u.Default }

func kernel(u Unit) (float64, bool) { return float64(u.Kernel), u.Kernel != 0 }

func single(of func(Unit) *Interval) func(Unit) []Change {
	return func(u Unit) []Change {
		if i := of(u); i != nil {
			return i.Changes
		}
		return nil
	}
}

func loaded(of func(Unit) *Interval) func(Unit) []Change {
	return func(u Unit) []Change {
		if i := of(u); i != nil && i.Load != nil {
			return i.Load.Changes
		}
		return nil
	}
}

// setting is a least interval between writes at which a peer was measured.
type setting struct {
	name string
	of   func(Unit) *Interval
}

func settings(peer string) []setting {
	if peer == ours {
		return []setting{{"100 ms, its default", equal}}
	}
	return []setting{{"100 ms", equal}, {"1 s, its default", byDefault}}
}

// print prints all tables, and draws the plots into a folder if that has a name.
func (r *results) print(w io.Writer, plots string) error {
	if len(r.Units) == 0 {
		return errors.New("nothing was measured")
	}
	all := rows(r.Units)
	runs := map[Size]int{}
	for _, one := range all {
		runs[one.size] = max(runs[one.size], len(one.units))
	}
	var counts []string
	for _, one := range all {
		if text := fmt.Sprintf("%s (×%d)", one.size, runs[one.size]); !slices.Contains(counts, text) {
			counts = append(counts, text)
		}
	}
	_, _ = fmt.Fprintf(w, "%d CPUs, %s; %s. Services x endpoints each: %s; medians.\n\n", r.CPUs, r.Kernel, strings.Join(r.Programs, "; "), strings.Join(counts, ", "))
	startTable(w, all)
	changeTable(w, all)
	loadTable(w, all)
	trafficTable(w, all)
	mustTable(w, all)
	if plots == "" {
		return nil
	}
	return draw(plots, all)
}

func startTable(w io.Writer, all []row) {
	var cells [][]string
	for _, r := range all {
		losses := "-"
		tried, ok := r.of(inStart(restart, func(s *Start) float64 { return float64(s.Losses.Tried) }))
		if ok {
			failed := 0
			for _, u := range r.units {
				if u.Restart != nil {
					failed += u.Restart.Losses.Failed
				}
			}
			losses = fmt.Sprintf("%d of %.0f", failed, tried*float64(len(r.units)))
		}
		mib := func(figure func(*Start) int64) string {
			return r.show("%.0f", inStart(cold, func(s *Start) float64 { return float64(figure(s)) / (1 << 20) }))
		}
		cells = append(cells, []string{
			r.size.String(), r.peer,
			r.show("%.3g", inStart(cold, func(s *Start) float64 { return s.Sync })),
			r.show("%.3g", inStart(cold, func(s *Start) float64 { return max(s.Packet, s.Written) })),
			r.show("%.3g", inStart(cold, func(s *Start) float64 { return s.CPU })),
			mib(func(s *Start) int64 { return s.Resident }), mib(func(s *Start) int64 { return s.Peak }),
			r.show("%.3g", inStart(restart, func(s *Start) float64 { return s.Sync })),
			r.show("%.3g", inStart(restart, func(s *Start) float64 { return s.Written })),
			losses,
			r.show("%.1f", func(u Unit) (float64, bool) { v, ok := kernel(u); return v / (1 << 20), ok }),
		})
	}
	_, _ = fmt.Fprint(w, "Starts\n\n")
	figures.Table(w, []string{
		"Services", "", "all rules, s", "from process start to the last rule, s", "CPU s", "resident MiB", "peak with children MiB",
		"restart: all rules, s", "restart: from process start, s", "connections lost meanwhile", "kernel memory MiB",
	}, cells)
}

func changeTable(w io.Writer, all []row) {
	var cells [][]string
	for _, r := range all {
		for _, s := range settings(r.peer) {
			changes := r.changes(single(s.of))
			row := []string{r.size.String(), r.peer, s.name, fmt.Sprint(len(changes))}
			for _, figure := range []func(Change) float64{toWrite, toPacket, func(c Change) float64 { return c.Answer }} {
				row = append(row, r.latencies(changes, figure))
			}
			cells = append(cells, row)
		}
	}
	_, _ = fmt.Fprint(w, "One endpoint moves, after a second without any change; p50 / p99 in ms\n\n")
	figures.Table(w, []string{
		"Services", "", "least interval", "changes", "to write it", "from the watch's event to the first packet", "from the API server's answer",
	}, cells)
}

func (r row) latencies(changes []Change, figure func(Change) float64) string {
	switch {
	case len(changes) > 0:
		return fine(summary(changes, figure))
	case r.timedOut:
		return "timed out"
	}
	return "-"
}

func loadTable(w io.Writer, all []row) {
	var cells [][]string
	for _, r := range all {
		for _, s := range settings(r.peer) {
			of := s.of
			changes := r.changes(loaded(of))
			if len(changes) == 0 {
				continue
			}
			mib := func(figure func(*Load) int64) string {
				return r.show("%.0f", inLoad(of, func(l *Load) float64 { return float64(figure(l)) / (1 << 20) }))
			}
			cells = append(cells, []string{
				r.size.String(), r.peer, s.name, r.show("%.2f", inLoad(of, func(l *Load) float64 { return l.CPU })),
				mib(func(l *Load) int64 { return l.Resident }), mib(func(l *Load) int64 { return l.Peak }), r.latencies(changes, toPacket),
			})
		}
	}
	if len(cells) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "%d changes a second\n\n", perSecond)
	figures.Table(w, []string{
		"Services", "", "least interval", "CPUs in use", "resident MiB", "peak with children MiB", "from an event to the first packet, p50 / p99 ms",
	}, cells)
}

func trafficTable(w io.Writer, all []row) {
	var cells [][]string
	for _, r := range all {
		us := func(of func(*Traffic) figures.Latency) string {
			return r.show("%.0f", inTraffic(func(t *Traffic) float64 { return 1e6 * of(t).P50 })) + " / " +
				r.show("%.0f", inTraffic(func(t *Traffic) float64 { return 1e6 * of(t).P99 }))
		}
		cells = append(cells, []string{
			r.size.String(), r.peer,
			r.show("%.0f", inTraffic(func(t *Traffic) float64 { return t.BareConnections })),
			r.show("%.0f", inTraffic(func(t *Traffic) float64 { return t.DirectConnections })),
			r.show("%.0f", inTraffic(func(t *Traffic) float64 { return t.Connections })),
			r.show("%.2f", inTraffic(func(t *Traffic) float64 { return t.BareStream / 1e9 })),
			r.show("%.2f", inTraffic(func(t *Traffic) float64 { return t.DirectStream / 1e9 })),
			r.show("%.2f", inTraffic(func(t *Traffic) float64 { return t.Stream / 1e9 })),
			us(func(t *Traffic) figures.Latency { return t.DirectFirst }),
			us(func(t *Traffic) figures.Latency { return t.First }),
		})
	}
	_, _ = fmt.Fprint(w, "Packets\n\n")
	figures.Table(w, []string{
		"Services", "", "connections/s without rules", "direct", "through a Service", "one stream, GB/s, without rules", "direct", "through a Service",
		"to connect, direct, p50 / p99 us", "through a Service",
	}, cells)
}
