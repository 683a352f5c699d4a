package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead/fairlead/test/peers/controlplane"
	"github.com/fairlead/fairlead/test/peers/process"
	"github.com/fairlead/fairlead/test/peers/wait"
)

const (
	// limit is how long a peer may take for its first write, or for one change.
	limit = 120 * time.Second
	// calm passes between two changes: more than either peer's least interval.
	calm = 1100 * time.Millisecond
	// perSecond are the changes of the load, and knocks those connections that are tried over a restart.
	perSecond, knocks = 100, 200
)

// bench measures peers against one API server.
type bench struct {
	control  *namespace
	plane    *controlplane.ControlPlane
	programs programs
	fleet    *fleet
	effort   effort
}

// effort is how much of everything is measured.
type effort struct {
	Changes, FirstPackets int
	// Lasting is how long connections are made and streams run; Load is how long the load goes on.
	Lasting, Load time.Duration
	// PacketsOnly ends with the packets.
	PacketsOnly bool
}

// trial is one peer on its stage.
type trial struct {
	*bench
	*stage
	peer   *process.Process // the one that runs
	name   string
	events <-chan event
}

// errTimedOut is of a peer that did not do within limit what it has to.
var errTimedOut = errors.New("timed out")

// run takes a peer through everything once. A peer that times out is measured up to there.
func (b *bench) run(ctx context.Context, name string, underLoad bool) (u Unit, err error) {
	u = Unit{Size: b.fleet.size, Peer: name}
	stage, err := newStage(b.control)
	defer stage.close()
	if err != nil {
		return u, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &trial{bench: b, stage: stage, name: name}
	defer t.stop()
	if t.events, err = b.fleet.watchLast(ctx); err != nil {
		return u, err
	}
	err = t.steps(ctx, &u, underLoad)
	if errors.Is(err, errTimedOut) {
		log.Printf("%s, %s: %v", b.fleet.size, name, err)
		u.TimedOut, err = true, nil
	}
	if err != nil {
		return u, fmt.Errorf("%s, %s: %w", b.fleet.size, name, err)
	}
	return u, nil
}

// steps are:
//
//  1. a start with an empty kernel, at the equal interval
//  2. packets
//  3. changes one by one and then, if wanted, many of them
//  4. a restart with the rules in place: theirs at its default interval, which 3 is then done with again
//  5. the kernel's memory
func (t *trial) steps(ctx context.Context, u *Unit, underLoad bool) (err error) {
	if u.Cold, err = t.start(ctx, equalInterval); err != nil {
		return err
	}
	log.Printf("%s, %s: %s", u.Size, t.name, u.Cold)
	if u.Traffic, err = t.traffic(); err != nil {
		return err
	}
	log.Printf("%s, %s: %s", u.Size, t.name, u.Traffic)
	if u.Cold.Resident, _, err = t.peer.Memory(); err != nil {
		return err
	}
	if t.effort.PacketsOnly {
		return nil
	}
	if u.Equal, err = t.changes(ctx, underLoad); err != nil {
		return err
	}
	log.Printf("%s, %s, at the equal interval: %s", u.Size, t.name, u.Equal)
	knocking, cancel := context.WithCancel(ctx)
	defer cancel()
	losses := t.knock(knocking, knocks, t.fleet.service, t.fleet.size.Services)
	time.Sleep(calm)
	t.peer.Kill()
	if u.Restart, err = t.start(ctx, 0); err != nil {
		return err
	}
	time.Sleep(calm) // a few after it, too
	cancel()
	lost, err := losses()
	u.Restart.Losses = &lost
	if err != nil {
		return err
	}
	log.Printf("%s, %s, again: %s", u.Size, t.name, u.Restart)
	if t.name == theirs {
		if u.Default, err = t.changes(ctx, underLoad); err != nil {
			return err
		}
		log.Printf("%s, %s, at its default interval: %s", u.Size, t.name, u.Default)
	}
	t.stop()
	u.Kernel, err = t.unload(ctx)
	return err
}

func (t *trial) stop() {
	if t.peer != nil {
		t.peer.Stop()
		t.peer = nil
	}
}

// start starts the peer and waits until it has written all rules, and a packet has reached the last Service.
func (t *trial) start(ctx context.Context, interval time.Duration) (*Start, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimedOut)
	defer cancel()
	var s Start
	var err error
	begin := time.Now()
	if t.peer, err = startPeer(t.plane, t.programs, t.stage, t.name, interval); err != nil {
		return nil, err
	}
	reached := t.probes.reach(ctx, t.fleet.last(udpPort), netip.Addr{})
	peak := t.watchMemory(ctx)
	for s.Sync == 0 {
		select {
		case <-ctx.Done():
			t.peer.Kill()
			return nil, fmt.Errorf("writing all rules: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
		if err := errors.Join(t.peer.Alive(), t.plane.Alive()); err != nil {
			return nil, err
		}
		// It may not serve them yet, or be too busy to.
		if m, err := t.metrics(ctx); err == nil && m.fullCount > 0 {
			s.Sync, s.Written = m.fullSum, m.last-float64(begin.UnixNano())/1e9
		}
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("reaching the last Service: %w", context.Cause(ctx))
	case at := <-reached:
		s.Packet = at.Sub(begin).Seconds()
	}
	used, err := t.peer.CPUWithChildren()
	if err != nil {
		return nil, err
	}
	s.CPU = used.Seconds()
	cancel()
	s.Peak = peak()
	s.Resident, _, err = t.peer.Memory()
	return &s, err
}

// watchMemory samples what the peer and its children have resident until ctx ends; then the result tells the most.
func (t *trial) watchMemory(ctx context.Context) (most func() int64) {
	var wg sync.WaitGroup
	peak := int64(0)
	peer := t.peer
	wg.Go(func() {
		for ctx.Err() == nil {
			if now, err := peer.ResidentWithChildren(); err == nil {
				peak = max(peak, now)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	return func() int64 {
		wg.Wait()
		return peak
	}
}

// turns are how often it is changed between packets through Services, past them and on another node: the machine is faster at
// times.
const turns = 8

// traffic measures packets through Services and, by turns, past them, and on a node where nobody has written any rules.
func (t *trial) traffic() (*Traffic, error) {
	var r Traffic
	bare, err := newBareStage(t.fleet.target(0))
	if err != nil {
		return nil, err
	}
	defer bare.close()
	e, service := t.effort, t.fleet.service(0)
	direct := netip.AddrPortFrom(t.fleet.endpoint(t.fleet.size.Services, t.fleet.size.Endpoints-1, false), streamTargetPort)
	for range turns {
		for _, rate := range []struct {
			sum     *float64
			measure func(lasting time.Duration, to netip.AddrPort) (float64, error)
			to      netip.AddrPort
		}{
			{&r.BareConnections, bare.connections, t.fleet.target(0)},
			{&r.DirectConnections, t.connections, t.fleet.target(0)},
			{&r.Connections, t.connections, service},
			{&r.BareStream, bare.throughput, direct},
			{&r.DirectStream, t.throughput, direct},
			{&r.Stream, t.throughput, t.fleet.last(streamPort)},
		} {
			now, err := rate.measure(e.Lasting/turns, rate.to)
			if err != nil {
				return nil, err
			}
			*rate.sum += now / turns
		}
	}
	if r.DirectFirst, err = t.firstPackets(e.FirstPackets, t.fleet.target, t.fleet.size.Services); err != nil {
		return nil, err
	}
	r.First, err = t.firstPackets(e.FirstPackets, t.fleet.service, t.fleet.size.Services)
	return &r, err
}

// changes measures changes one by one, each after a while without any; and then, if wanted, under load.
func (t *trial) changes(ctx context.Context, underLoad bool) (*Interval, error) {
	var r Interval
	for range t.effort.Changes {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(calm):
		}
		c, err := t.change(ctx, true)
		if err != nil {
			return nil, err
		}
		r.Changes = append(r.Changes, c)
	}
	if !underLoad {
		return &r, nil
	}
	var err error
	r.Load, err = t.load(ctx)
	return &r, err
}

// change moves an endpoint of the last Service and waits for a packet there. With metrics it also asks the peer how long
// its write took, and must be the only one to change anything.
func (t *trial) change(ctx context.Context, withMetrics bool) (c Change, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimedOut)
	defer cancel()
	var before syncMetrics
	if withMetrics {
		if before, err = t.metrics(ctx); err != nil {
			return c, err
		}
	}
	var number string
	var reached <-chan time.Time
	err = t.fleet.moveLast(ctx, func(n int, to netip.Addr) {
		number, reached = fmt.Sprint(n), t.probes.reach(ctx, t.fleet.last(udpPort), to)
	})
	answered := time.Now()
	if err != nil {
		return c, err
	}
	var seen event
	for seen.number != number {
		select {
		case <-ctx.Done():
			return c, fmt.Errorf("waiting for the watch: %w", context.Cause(ctx))
		case seen = <-t.events:
		}
		if seen.err != nil {
			return c, seen.err
		}
	}
	select {
	case <-ctx.Done():
		return c, fmt.Errorf("reaching a new endpoint: %w", context.Cause(ctx))
	case at := <-reached:
		// One of the two watches may be served first.
		c.Event, c.Answer = max(0, at.Sub(seen.at).Seconds()), max(0, at.Sub(answered).Seconds())
	}
	if !withMetrics {
		return c, nil
	}
	err = wait.Poll(ctx, 20*time.Millisecond, 10*time.Second, "the metrics of a write", func() (bool, error, error) {
		after, err := t.metrics(ctx)
		if n := after.partialCount - before.partialCount; n > 0 {
			c.Sync = (after.partialSum - before.partialSum) / n
			return true, nil, nil
		}
		return after.fullCount > before.fullCount, errors.Join(errors.New("none was counted"), err), nil
	})
	return c, err
}

// load changes an endpoint of some Service a hundred times a second, and moves one of the last Service now and then.
func (t *trial) load(ctx context.Context) (*Load, error) {
	var l Load
	operations := make([]controlplane.Operation, int(t.effort.Load.Seconds()*perSecond))
	random := rand.New(rand.NewPCG(3, 0))
	order := random.Perm(t.fleet.size.Services)
	pauses := func() time.Duration { return time.Duration(200+random.IntN(600)) * time.Millisecond }
	for i := range operations {
		operations[i] = func(ctx context.Context) error { return t.fleet.move(ctx, order[i%len(order)]) }
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	peak := t.watchMemory(watching)
	before, err := t.peer.CPUWithChildren()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	loading := make(chan error, 1)
	go func() {
		var late time.Duration
		late, err := controlplane.ByClock(ctx, perSecond, operations)
		l.Late = late.Seconds()
		loading <- err
	}()
	for end := begin.Add(t.effort.Load - time.Second); time.Now().Before(end); {
		c, err := t.change(ctx, false)
		if err != nil {
			return nil, errors.Join(err, <-loading)
		}
		l.Changes = append(l.Changes, c)
		time.Sleep(pauses()) // a fixed one would keep in step with the peer's interval
	}
	if err := <-loading; err != nil {
		return nil, err
	}
	took := time.Since(begin).Seconds()
	after, err := t.peer.CPUWithChildren()
	if err != nil {
		return nil, err
	}
	l.CPU = (after - before).Seconds() / took
	cancel()
	l.Peak = peak()
	l.Resident, _, err = t.peer.Memory()
	return &l, err
}
