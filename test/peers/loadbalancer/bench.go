package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"path/filepath"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/process"
	"github.com/fairlead/fairlead/test/peers/wait"
)

const (
	// quiet is for how long nobody may have called the cloud, or written, before a step counts as done.
	quiet = 5 * time.Second
	// patience is how long a step may take.
	patience = 15 * time.Minute
)

// Steps of a life.
const (
	stepCreate  = "all Services created"
	stepRestart = "the controller started again"
	stepNode    = "one node added"
	stepDelete  = "all Services deleted"
)

// bench measures peers on one cloud, against one API server.
type bench struct {
	options
	dir, socket string
	plane       *controlplane.ControlPlane
	audit       *controlplane.AuditReader
	cloud       *account
	fleet       *fleet
	unwatch     context.CancelFunc
}

// start starts what is there for both. Whatever it returns has to be stopped.
func start(ctx context.Context, o options, dir string) (*bench, error) {
	b := &bench{options: o, dir: dir, socket: filepath.Join(dir, "cloud"), unwatch: func() {}}
	var err error
	b.plane, err = controlplane.Start(ctx, controlplane.Options{
		Dir: dir, Assets: o.assets, Address: "127.0.0.1", Audited: []string{userTheirs, userOurs}, ServiceRange: "10.0.0.0/12",
	})
	if err == nil {
		err = b.plane.AddKinds(o.crds)
	}
	if err != nil {
		return b, err
	}
	b.audit = controlplane.NewAuditReader(filepath.Join(dir, controlplane.AuditLog))
	if b.cloud, err = serve(b.socket); err != nil {
		return b, err
	}
	// A watch that stays open would keep the API server from ending.
	ctx, b.unwatch = context.WithCancel(ctx)
	if b.fleet, err = watch(ctx, b.plane.Client); err != nil {
		return b, err
	}
	return b, b.fleet.prepare(ctx, o.nodes)
}

func (b *bench) stop() {
	b.unwatch()
	if b.cloud != nil {
		b.cloud.close()
	}
	if b.plane != nil {
		b.plane.Stop()
	}
}

// Measurement is one step of one peer in one run.
type Measurement struct {
	Peer, Step string
	// Reads and Writes are calls of the cloud, Refused those of them that it did not do.
	Reads, Writes, Refused int
	// API is what was written to the API server, events included.
	API controlplane.Writes
	// Seconds until the step was done, and the least that so many calls take within the limits.
	Seconds, Least float64
	// CPU time of the peer, in seconds.
	CPU float64
}

// String is a line for whoever watches.
func (m Measurement) String() string {
	return fmt.Sprintf("%s, %s: %d reads, %d writes, %d refused; %.2f s, at least %.2f s; to the API server: %s; %.2f s CPU",
		m.Peer, m.Step, m.Reads, m.Writes, m.Refused, m.Seconds, m.Least, m.API, m.CPU)
}

// least is the time in which limits let so many calls go after a quiet time.
func least(limits cloud.Limits, reads, writes int) float64 {
	one := func(l cloud.Limit, n int) float64 { return max(0, float64(n-l.Burst)/l.PerSecond) }
	return math.Max(one(limits.Reads, reads), one(limits.Writes, writes))
}

// step is something that is done to a peer, and when it is through.
type step struct {
	name string
	do   func(context.Context) error
	// done is when it was, or an error as long as it is not.
	done func() (time.Time, error)
}

// life takes a peer through all steps, and leaves nothing behind.
func (b *bench) life(ctx context.Context, name string) (measured []Measurement, err error) {
	var peer *process.Process
	defer func() {
		if peer != nil {
			peer.Stop()
		}
	}()
	measure := func(limits cloud.Limits, s step) error {
		m, err := b.measure(ctx, &peer, limits, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		m.Peer = name
		log.Print(m)
		measured = append(measured, m)
		return nil
	}
	starting := func(limits cloud.Limits) func(context.Context) error {
		return func(context.Context) (err error) {
			peer, err = b.startPeer(name, limits)
			return err
		}
	}
	if err := starting(b.wide)(ctx); err != nil {
		return nil, err
	}
	if err := b.warmUp(ctx, peer); err != nil {
		return nil, fmt.Errorf("waiting until it serves: %w", err)
	}
	if err := measure(b.wide, step{stepCreate, func(ctx context.Context) error { return b.fleet.create(ctx, 0, b.services) },
		func() (time.Time, error) { return b.fleet.all(b.services) }}); err != nil {
		return measured, err
	}
	peer.Stop()
	idle := func() (time.Time, error) { return b.cloud.so().last, b.cloud.idle(quiet) }
	if err := measure(b.account, step{stepRestart, starting(b.account), idle}); err != nil {
		return measured, err
	}
	added := b.nodes
	if err := measure(b.account, step{stepNode, func(ctx context.Context) error { return b.fleet.addNode(ctx, added) },
		func() (time.Time, error) {
			return b.cloud.so().lastWrite, b.cloud.reached(b.services, nodeAddress(added))
		}}); err != nil {
		return measured, err
	}
	peer.Stop()
	// Deletion has the wide limits again, and a peer that has settled.
	if _, err := b.measure(ctx, &peer, b.wide, step{stepRestart, starting(b.wide), idle}); err != nil {
		return measured, err
	}
	if err := measure(b.wide, step{stepDelete, func(ctx context.Context) error { return b.fleet.remove(ctx, 0, b.services) }, b.nothing}); err != nil {
		return measured, err
	}
	peer.Stop()
	return measured, b.fleet.removeNode(ctx, added)
}

// nothing is when the last Service was gone, with everything of it.
func (b *bench) nothing() (time.Time, error) {
	at, err := b.fleet.all(0)
	return at, errors.Join(err, b.cloud.empty())
}

// warmUp waits until a peer serves a Service that is made for this, and removes it again.
func (b *bench) warmUp(ctx context.Context, peer *process.Process) error {
	for _, s := range []step{
		{"", func(ctx context.Context) error { return b.fleet.create(ctx, 0, 1) }, func() (time.Time, error) { return b.fleet.all(1) }},
		{"", func(ctx context.Context) error { return b.fleet.remove(ctx, 0, 1) }, b.nothing},
	} {
		if _, err := b.measure(ctx, &peer, b.wide, s); err != nil {
			return err
		}
	}
	return nil
}

// measure does a step and waits until it is through and nothing more is called or written. The peer may be started by the
// step.
func (b *bench) measure(ctx context.Context, peer **process.Process, limits cloud.Limits, s step) (Measurement, error) {
	if _, _, err := b.audit.Next(); err != nil { // what was written before
		return Measurement{}, err
	}
	m := Measurement{Step: s.name, API: controlplane.Writes{}}
	var before time.Duration
	if *peer != nil && (*peer).Alive() == nil {
		var err error
		if before, err = (*peer).CPU(); err != nil {
			return m, err
		}
	}
	b.cloud.begin()
	begin := time.Now()
	written := begin
	if err := s.do(ctx); err != nil {
		return m, err
	}
	var through time.Time
	err := wait.Poll(ctx, 100*time.Millisecond, patience, s.name, func() (bool, error, error) {
		if err := errors.Join((*peer).Alive(), b.plane.Alive()); err != nil {
			return false, nil, err
		}
		writes, _, err := b.audit.Next()
		if err != nil {
			return false, nil, err
		}
		for what, n := range writes {
			m.API[what] += n
			written = time.Now()
		}
		var unfinished error
		if through, unfinished = s.done(); unfinished != nil {
			return false, unfinished, nil
		}
		unfinished = b.cloud.idle(quiet)
		if unfinished == nil && time.Since(written) < quiet {
			unfinished = errors.New("it goes on writing")
		}
		return unfinished == nil, unfinished, nil
	})
	if err != nil {
		return m, err
	}
	after, err := (*peer).CPU()
	if err != nil {
		return m, err
	}
	so := b.cloud.so()
	m.Reads, m.Writes, m.Refused = so.reads, so.writes, so.refused
	m.Seconds, m.Least, m.CPU = through.Sub(begin).Seconds(), least(limits, so.reads, so.writes), (after - before).Seconds()
	return m, nil
}
