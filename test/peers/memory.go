package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/figures"
	"github.com/fairlead/fairlead/test/peers/process"
	"github.com/fairlead/fairlead/test/peers/wait"
)

// Footprint is a peer's memory with many Pods.
type Footprint struct {
	Peer string
	// Start: the first one finds no slices, a restart finds those that it left.
	Start          string
	Pods, Services int
	// Resident memory in bytes, and its peak since the start.
	Resident, Peak int64
	Writes         controlplane.Writes
	// Seconds from the start until the slices were right and nothing was written any more, and the CPU time of it.
	Seconds, CPU float64
}

// footprints fills the API server, through its front door so that its watch cache holds what the peers will read, and
// then starts each peer twice.
func (b *bench) footprints(ctx context.Context, peers []string, services, pods int) ([]Footprint, error) {
	f := newFleet(b.plane.Client, b.tracker, services, b.nodes, 1)
	log.Printf("creating %d Services and %d Pods", services, pods)
	begin := time.Now()
	if err := f.create(ctx, pods/services); err != nil {
		return nil, err
	}
	log.Printf("created in %s", time.Since(begin).Round(time.Second))
	var all []Footprint
	for _, name := range peers {
		for _, when := range []string{"first start", "restart"} {
			one, err := b.footprint(ctx, name, f)
			if err != nil {
				return all, fmt.Errorf("%s, %s: %w", name, when, err)
			}
			one.Start, one.Pods, one.Services = when, pods, services
			log.Printf("%s, %s: %s resident, peak %s, %d writes, %.0f s, %.1f s CPU", name, when,
				figures.Mebibytes(one.Resident), figures.Mebibytes(one.Peak), one.Writes.Total(), one.Seconds, one.CPU)
			all = append(all, one)
		}
		if err := b.clean(ctx, f); err != nil {
			return all, err
		}
		f.expectAll()
	}
	return all, nil
}

func (b *bench) footprint(ctx context.Context, name string, f *fleet) (one Footprint, err error) {
	if _, _, err := b.audit.Next(); err != nil { // what the one before wrote
		return one, err
	}
	begin := time.Now()
	peer, err := startPeer(b.plane, b.programs, name, atDefault, b.controllers)
	if err != nil {
		return one, err
	}
	defer peer.Stop()
	// A restart finds everything right: only its CPU time tells when it has read it all.
	if err := b.idle(ctx, peer); err != nil {
		return one, err
	}
	s, err := b.settle(ctx, peer, f, quiet)
	if err != nil {
		return one, err
	}
	one = Footprint{Peer: name, Writes: s.writes, Seconds: time.Since(begin).Seconds()}
	used, err := peer.CPU()
	if err != nil {
		return one, err
	}
	one.CPU = used.Seconds()
	one.Resident, one.Peak, err = peer.Memory()
	return one, err
}

// idle waits until a peer has used less than a tenth of a CPU for a while.
func (b *bench) idle(ctx context.Context, peer *process.Process) error {
	since, before := time.Now(), time.Duration(-1)
	return wait.Poll(ctx, time.Second, b.patience, "an idle "+peer.Name, func() (bool, error, error) {
		if err := peer.Alive(); err != nil {
			return false, nil, err
		}
		used, err := peer.CPU()
		if used-before > 100*time.Millisecond || before < 0 {
			since = time.Now()
		}
		before = used
		return time.Since(since) >= 3*time.Second, fmt.Errorf("it has used %s of CPU time and goes on", used), err
	})
}

// expectAll tells the tracker what the slices have to show.
func (f *fleet) expectAll() {
	for _, pods := range f.pods {
		for _, p := range pods {
			f.tracker.expect(p, ready, unmeasured, time.Now())
		}
	}
}

func footprintTable(w io.Writer, all []Footprint) {
	var rows [][]string
	for _, one := range all {
		rows = append(rows, []string{
			strconv.Itoa(one.Pods), strconv.Itoa(one.Services), one.Peer, one.Start, figures.Mebibytes(one.Resident), figures.Mebibytes(one.Peak),
			strconv.Itoa(one.Writes.Total()), fmt.Sprintf("%.0f", one.Seconds), fmt.Sprintf("%.1f", one.CPU),
		})
	}
	figures.Table(w, []string{"Pods", "Services", "peer", "", "resident", "peak", "writes", "s until settled", "CPU s"}, rows)
}
