package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fairlead/fairlead/test/peers/plot"
)

// draw draws the plots into a folder. They show the sizes of three endpoints for each Service. One for which there is
// nothing to show is left out.
func draw(folder string, all []row) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making the folder of plots: %w", err)
	}
	const services = "Services, of 3 endpoints each"
	sync := inStart(cold, func(s *Start) float64 { return s.Sync })
	charts := map[string]plot.Chart{
		"dataplane-cold": {Title: "All rules from nothing", Y: "seconds", LogY: true, Series: []plot.Series{
			line(all, theirs, "kube-proxy", sync, limit.Seconds()), line(all, ours, "Fairlead", sync, limit.Seconds()),
		}},
		"dataplane-change": {Title: "One endpoint moves: time to write it", Y: "ms, p50", LogY: true, Series: []plot.Series{
			line(all, theirs, "kube-proxy", median(equal, toWrite), 0), line(all, ours, "Fairlead", median(equal, toWrite), 0),
		}},
		"dataplane-packet": {Title: "One endpoint moves: from the watch's event to the first packet there", Y: "ms, p50", LogY: true, Series: []plot.Series{
			line(all, theirs, "kube-proxy", median(equal, toPacket), 0), line(all, ours, "Fairlead", median(equal, toPacket), 0),
		}},
		"dataplane-memory": {Title: "Resident memory", Y: "MiB", Series: []plot.Series{
			line(all, theirs, "kube-proxy", inStart(cold, resident), 0), line(all, ours, "Fairlead", inStart(cold, resident), 0),
		}},
		"dataplane-first-packet": {Title: "To connect through a Service", Y: "µs, p50", Series: []plot.Series{
			line(all, theirs, "kube-proxy", inTraffic(func(t *Traffic) float64 { return 1e6 * t.First.P50 }), 0),
			line(all, ours, "Fairlead", inTraffic(func(t *Traffic) float64 { return 1e6 * t.First.P50 }), 0),
			direct(all),
		}},
	}
	for name, chart := range charts {
		chart.X = services
		empty := true
		for _, s := range chart.Series {
			empty = empty && len(s.Points) == 0
		}
		if empty {
			continue
		}
		var svg bytes.Buffer
		if err := chart.Write(&svg); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name+".svg"), svg.Bytes(), 0o644); err != nil { //nolint:gosec // a picture for everybody
			return fmt.Errorf("writing plot %s: %w", name, err)
		}
	}
	return nil
}

func resident(s *Start) float64 { return float64(s.Resident) / (1 << 20) }

// median is that of single changes of one run, in milliseconds.
func median(of func(Unit) *Interval, figure func(Change) float64) func(Unit) (float64, bool) {
	return func(u Unit) (float64, bool) {
		changes := single(of)(u)
		return 1000 * summary(changes, figure).P50, len(changes) > 0
	}
}

// line is a figure of a peer over the sizes. Where it timed out there is an open point at least, if that is not 0.
func line(all []row, peer, name string, figure func(Unit) (float64, bool), least float64) plot.Series {
	s := plot.Series{Name: name, Colour: plot.Orange}
	if peer == ours {
		s.Colour = plot.Blue
	}
	for _, r := range all {
		if r.peer != peer || r.size.Endpoints != usual.Endpoints {
			continue
		}
		v, ok := r.of(figure)
		switch {
		case ok:
			s.Points = append(s.Points, plot.Point{X: float64(r.size.Services), Y: v})
		case r.timedOut && least > 0:
			s.Points = append(s.Points, plot.Point{X: float64(r.size.Services), Y: least, Open: true, Note: "timed out"})
		}
	}
	return s
}

// direct is how long it takes to connect past Services, on our node.
func direct(all []row) plot.Series {
	s := line(all, ours, "without a Service", inTraffic(func(t *Traffic) float64 { return 1e6 * t.DirectFirst.P50 }), 0)
	s.Colour, s.Dashed = plot.Grey, true
	return s
}
