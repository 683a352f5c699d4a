package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/test/peers/figures"
)

// Unit is all that was measured of one peer in one run at one size. What it did not come to is nil.
type Unit struct {
	Size Size
	Run  int
	Peer string
	// TimedOut: it took longer than the limit for its first write, or for one change.
	TimedOut bool

	Cold, Restart  *Start
	Traffic        *Traffic
	Equal, Default *Interval
	// Kernel is the kernel's memory for the rules, in bytes.
	Kernel int64
}

// Start is one start of a peer. Times are in seconds.
type Start struct {
	// Sync is the peer's own measure of its first write. The others begin when the process is started: Written is by the
	// peer's own clock, Packet when the first one reached the Service that was made last.
	Sync, Written, Packet float64
	CPU                   float64
	// Resident memory of the peer in bytes a while later, and the most that it and its children had.
	Resident, Peak int64
	Losses         *Losses
}

func (s *Start) String() string {
	losses := ""
	if s.Losses != nil {
		losses = fmt.Sprintf(", %d of %d connections failed", s.Losses.Failed, s.Losses.Tried)
	}
	return fmt.Sprintf("wrote all rules in %.3f s, %.2f s after its start, first packet after %.2f s, %.2f s CPU, %s resident, peak %s%s",
		s.Sync, s.Written, s.Packet, s.CPU, figures.Mebibytes(s.Resident), figures.Mebibytes(s.Peak), losses)
}

// Traffic is what packets get: connections and bytes a second, and how long a connection takes; on a node without any
// rules meanwhile, past Services and through them.
type Traffic struct {
	BareConnections, DirectConnections, Connections float64
	BareStream, DirectStream, Stream                float64
	DirectFirst, First                              figures.Latency
}

func (t *Traffic) String() string {
	return fmt.Sprintf("%.0f connections/s (direct %.0f, without rules %.0f), %.2f GB/s (%.2f, %.2f), first packet %.0f us, p99 %.0f us (direct %.0f, %.0f)",
		t.Connections, t.DirectConnections, t.BareConnections, t.Stream/1e9, t.DirectStream/1e9, t.BareStream/1e9,
		1e6*t.First.P50, 1e6*t.First.P99, 1e6*t.DirectFirst.P50, 1e6*t.DirectFirst.P99)
}

// Interval is what was measured at one least interval between writes.
type Interval struct {
	Changes []Change
	Load    *Load
}

// Change is one endpoint that moved, in seconds: until a packet reached its new address, from the event of the watch and
// from the API server's answer to the write; and Sync, the peer's own measure of its write, 0 if not asked for.
type Change struct{ Event, Answer, Sync float64 }

// Load is a time with many changes, and those of the last Service among them.
type Load struct {
	CPU            float64 // CPUs in use
	Resident, Peak int64
	Late           float64 // of the changes, behind their clock, in seconds
	Changes        []Change
}

func (i *Interval) String() string {
	text := fmt.Sprintf("%d changes: %s ms from the event to the packet, %s ms to write", len(i.Changes),
		fine(summary(i.Changes, toPacket)), fine(summary(i.Changes, toWrite)))
	if i.Load != nil {
		text += fmt.Sprintf("; under load %.2f CPUs, %s resident, peak %s, %s ms, load late by %.3f s", i.Load.CPU,
			figures.Mebibytes(i.Load.Resident), figures.Mebibytes(i.Load.Peak), fine(summary(i.Load.Changes, toPacket)), i.Load.Late)
	}
	return text
}

func toPacket(c Change) float64 { return c.Event }
func toWrite(c Change) float64  { return c.Sync }

// results are all units so far. They are kept in a file, from which a run that was cut goes on.
type results struct {
	Programs []string
	CPUs     int
	Kernel   string
	Effort   effort
	Units    []Unit

	file string
}

// read takes all from the file.
func (r *results) read() error {
	text, err := os.ReadFile(r.file)
	if err != nil {
		return fmt.Errorf("reading the results: %w", err)
	}
	if err := json.Unmarshal(text, r); err != nil {
		return fmt.Errorf("reading the results in %s: %w", r.file, err)
	}
	return nil
}

// load takes over the units in the file, if it is there. What was measured with other programs, or otherwise, is an
// error: it is not to be mixed.
func (r *results) load() error {
	before := results{file: r.file}
	err := before.read()
	if r.file == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.Equal(before.Programs, r.Programs) || before.Effort != r.Effort || before.CPUs != r.CPUs || before.Kernel != r.Kernel {
		return fmt.Errorf("%s has results of %q, %+v, %d CPUs, %s; this run would be of %q, %+v, %d CPUs, %s: name another file with -results, or remove it",
			r.file, before.Programs, before.Effort, before.CPUs, before.Kernel, r.Programs, r.Effort, r.CPUs, r.Kernel)
	}
	r.Units = before.Units
	return nil
}

// done tells whether a unit was measured.
func (r *results) done(size Size, run int, peer string) bool {
	return slices.ContainsFunc(r.Units, func(u Unit) bool { return u.Size == size && u.Run == run && u.Peer == peer })
}

// add keeps a unit, in the file too if it has a name. The file is replaced whole, so that whoever ends this program leaves a file that can be read.
func (r *results) add(u Unit) error {
	r.Units = append(r.Units, u)
	if r.file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.WriteFile(r.file+".part", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.Rename(r.file+".part", r.file); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

// summary sums up one figure of some changes.
func summary(changes []Change, figure func(Change) float64) figures.Latency {
	values := make([]time.Duration, len(changes))
	for i, c := range changes {
		values[i] = time.Duration(figure(c) * float64(time.Second))
	}
	return figures.Summarize(values)
}

// fine shows p50 and p99 in milliseconds.
func fine(l figures.Latency) string { return digits(1000*l.P50) + " / " + digits(1000*l.P99) }

// digits shows a number with three digits, or as many as it has before the point.
func digits(v float64) string {
	if math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
