// Package sync keeps a node's dataplane in step with the API server: it watches Services, EndpointSlices, this
// node's Node, ServiceCIDRs and the machine's addresses, feeds them to a model.Tracker, and hands what changed to a
// Backend. It decides when to write, never what: that is the model's part, and how is the backend's.
//
// While the API server is away the last rules stay, and the watches keep trying.
package sync

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/dataplane/model"
)

// Backend programs a State into the kernel.
type Backend interface {
	// Sync writes the changes, which lead to the state; changes nil means a full sync: whatever the kernel holds of
	// ours is made equal to the state. An error means that the kernel may hold anything between the last state
	// and this one; the next call is a full sync then.
	Sync(state *model.State, changes *model.Changes) error
}

// Flows cleans up what the kernel remembers of connections.
type Flows interface {
	// Clean is called after rules were written. It must not block, and keeps the suspects.
	Clean(s *model.Suspects)
}

// Kind is a kind of object that the loop watches.
type Kind string

// The kinds.
const (
	Services       Kind = "Service"
	EndpointSlices Kind = "EndpointSlice"
	Nodes          Kind = "Node"
	ServiceCIDRs   Kind = "ServiceCIDR"
)

// Observer learns what the loop does, for health and metrics. Its methods are called from several goroutines and
// must not block.
type Observer interface {
	// Changed is called for every event of a kind.
	Changed(kind Kind)
	// Queued is called when something is waiting to be written.
	Queued()
	// Synced is called after each attempt to write, and after what was queued when it began has been told.
	Synced(result Result)
	// Node is called with every version of this node's Node, and with nil when there is none.
	Node(node *corev1.Node)
}

// Result is the outcome of one pass. All but Err, Full, Wrote and Took is set only where Err is nil.
type Result struct {
	Err error
	// Full is true for a full sync.
	Full bool
	// Wrote is false when nothing that was queued made a difference to packets.
	Wrote bool
	Took  time.Duration
	// Damage counts the reports of others' changes since the last pass.
	Damage int
	// Latencies are, per family (4, 6), the times from the change of a Pod or Service, as EndpointSlices tell it by
	// annotation, to now.
	Latencies    map[uint8][]time.Duration
	HealthChecks []model.HealthCheck
	NodePorts    model.NodePortAddresses
	// NodePortUse is every node port that is served; nil if that is as in the last Result that had it.
	NodePortUse []NodePort
	// Unserved is per family.
	Unserved map[uint8]model.Unserved
}

// Options are what a Loop needs.
type Options struct {
	Model model.Options
	// Source watches the API server.
	Source *Source
	// Addresses reports the machine's addresses until the context ends; nil: none are known.
	Addresses func(ctx context.Context, log logr.Logger, set func([]netip.Addr))
	Backend   Backend
	// Damage reports that others changed what Backend wrote, in words that name who. Each report asks for a full sync, at
	// once after quiet, then ever later as long as reports come. nil: damage waits for FullInterval.
	Damage <-chan string
	// Flows may be nil. It asks the Loop's Stale about what it finds.
	Flows    Flows
	Observer Observer
	// MinInterval is the least time from the end of one write to the start of the next. The first change after
	// quiet is written at once.
	MinInterval time.Duration
	// FullInterval is the time between full syncs, which repair what others changed in the kernel.
	FullInterval time.Duration
	// Grace is how long the first write waits for the Node, ServiceCIDRs and the machine's addresses after Services
	// and EndpointSlices are there: rules of a former run should not be replaced by ones that know less.
	// 0 means 10 s.
	Grace time.Duration
}

const defaultGrace = 10 * time.Second

// maxTriggers bounds the memory of latencies not yet reported while syncs fail.
const maxTriggers = 10000

// Loop is made by New and runs once.
type Loop struct {
	opts    Options
	started time.Time
	log     logr.Logger
	wake    chan struct{} // of capacity 1

	mu      sync.Mutex // guards all below
	tracker *model.Tracker
	pace    pace
	// known are the kinds that have been listed at least once; addresses likewise. Of the Node it is not enough that it
	// was looked for: it must have been found, with the ranges of its Pods.
	known     map[Kind]bool
	node      bool
	podCIDRs  bool
	addresses bool
	deadline  time.Time // end of Grace; zero: Services or EndpointSlices are missing
	ready     bool
	triggers  map[uint8][]time.Time
	problems  map[string]string // last logged, by object
	nodePorts nodePorts
	// unreachable is true when it was told that node ports have no address.
	unreachable bool

	// Of the reports of damage since the last pass, the first and their number. For step alone.
	damage  string
	damages int
}

// New makes a Loop.
func New(opts Options) *Loop {
	if opts.Grace == 0 {
		opts.Grace = defaultGrace
	}
	return &Loop{
		opts:     opts,
		wake:     make(chan struct{}, 1),
		tracker:  model.NewTracker(opts.Model),
		pace:     pace{min: opts.MinInterval, full: opts.FullInterval},
		known:    map[Kind]bool{},
		triggers: map[uint8][]time.Time{},
		problems: map[string]string{},
	}
}

// Run watches and writes until the context ends. What was written stays.
func (l *Loop) Run(ctx context.Context) {
	l.log = logr.FromContextOrDiscard(ctx)
	l.started = time.Now()
	var watches sync.WaitGroup
	defer watches.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.watch(ctx, &watches)

	timer := time.NewTimer(0)
	defer timer.Stop()
	damage := l.opts.Damage
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		case what, more := <-damage:
			if !more {
				damage = nil
				continue
			}
			l.damaged(what)
		}
		// Everything at hand is written before looking again, so the timer is the only thing to wait for.
		timer.Reset(l.step(ctx, time.Now()))
	}
}

func (l *Loop) watch(ctx context.Context, watches *sync.WaitGroup) {
	for _, run := range l.opts.Source.reflectors(l) {
		watches.Go(func() { run(ctx) })
	}
	if l.opts.Addresses == nil {
		l.addresses = true
		return
	}
	watches.Go(func() {
		l.opts.Addresses(ctx, l.log, func(addrs []netip.Addr) {
			l.update(func() {
				l.tracker.SetMachineAddresses(addrs)
				l.addresses = true
			})
		})
	})
}

// update changes the tracker and wakes the loop.
func (l *Loop) update(change func()) {
	l.mu.Lock()
	change()
	l.pace.dirty = true
	if l.ready {
		l.opts.Observer.Queued()
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// damaged takes a report of damage.
func (l *Loop) damaged(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.damages++; l.damages == 1 {
		l.damage = what
	}
	l.pace.damaged = true
}

// step writes if it is time to, and returns how long to wait before the next step unless woken.
func (l *Loop) step(ctx context.Context, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ready {
		wait := l.missing(now)
		if wait > 0 {
			return wait
		}
		l.ready = true
		l.log.Info("Writing rules for the first time")
	}
	if wait := l.pace.wait(now); wait > 0 {
		return wait
	}
	full := l.pace.fullDue(now)
	changes := l.tracker.Changes()
	l.tell(changes)
	result := Result{Full: full, Wrote: full || !changes.Empty()}
	if full {
		changes = nil
		if l.damages > 0 {
			l.log.Info("Others changed our rules, comparing all of them", "what", l.damage, "reports", l.damages)
			result.Damage, l.damages = l.damages, 0
		}
	}
	if result.Wrote {
		result.Err = l.opts.Backend.Sync(l.tracker.State(), changes)
		if result.Err == nil {
			l.nodePorts.follow(l.tracker.State(), changes)
		}
	}
	end := time.Now()
	result.Took = end.Sub(now)
	l.pace.done(end, result)
	l.report(ctx, end, &result)
	l.cleanFlows(&result)
	return l.pace.wait(end)
}

// tell logs what people would look for in vain elsewhere: whose addresses are another's, which nothing in Kubernetes
// prevents, and that node ports have no address.
func (l *Loop) tell(changes *model.Changes) {
	for _, c := range changes.Conflicts {
		address := fmt.Sprintf("%s/%s", netip.AddrPortFrom(c.Key.Addr, c.Key.Port), c.Key.Protocol)
		names := make([]string, len(c.Services))
		for i, service := range c.Services {
			names[i] = service.String()
		}
		switch {
		case len(names) > 1:
			l.log.Info("Several Services ask for one address, the first is served", "address", address, "services", names)
		case len(names) == 1:
			l.log.Info("One Service alone asks for the address now", "address", address, "service", names[0])
		}
	}
	n := &l.tracker.State().Node.NodePorts
	unreachable := l.node && !n.AllIPv4 && !n.AllIPv6 && len(n.Addrs) == 0
	if unreachable && !l.unreachable {
		l.log.Info("Node ports are served on no address", "node", l.opts.Model.NodeName,
			"remedy", "give the Node an address in status.addresses, or choose others with nodePortAddresses")
	}
	l.unreachable = unreachable
}

// cleanFlows hands over where flows may be stale, once no rule would lead them there again.
func (l *Loop) cleanFlows(r *Result) {
	if r.Err != nil {
		return
	}
	if s := l.tracker.TakeSuspects(); l.opts.Flows != nil && !s.Empty() {
		l.opts.Flows.Clean(s)
	}
}

// Stale says of each flow whether it should be forgotten, as of now (see model.Tracker.Stale). A write that goes on is
// waited for.
func (l *Loop) Stale(s *model.Suspects, flows []model.Flow, stale []bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range flows {
		stale[i] = l.tracker.Stale(s, flows[i])
	}
}

// missing is how long to wait for what the first write needs; 0: no longer. It is woken when something arrives.
func (l *Loop) missing(now time.Time) time.Duration {
	const long = time.Minute
	if !l.known[Services] || !l.known[EndpointSlices] {
		return long
	}
	podCIDRs := l.podCIDRs || !l.opts.Model.LocalDetection.NodeCIDR
	if l.node && podCIDRs && (l.known[ServiceCIDRs] || l.opts.Model.Coexist) && l.addresses {
		return 0
	}
	if l.deadline.IsZero() {
		l.deadline = now.Add(l.opts.Grace)
	}
	left := max(l.deadline.Sub(now), 0)
	if left == 0 {
		l.log.Info("Going on without facts about the node", "foundNode", l.node,
			"serviceCIDRs", l.known[ServiceCIDRs], "machineAddresses", l.addresses)
		if l.known[Nodes] && !l.node {
			l.log.Info("No Node of this name: node ports, hints and Local policies do not work", "node", l.opts.Model.NodeName,
				"remedy", "set --node-name to the name of this machine's Node")
		}
		if l.node && !podCIDRs {
			l.log.Info("The Node has no spec.podCIDRs yet: Pods count as outside clients until it has", "node", l.opts.Model.NodeName,
				"remedy", "where no controller hands out podCIDRs, tell Pods by clusterCIDRs or interfacePrefixes")
		}
	}
	return left
}

func (l *Loop) report(ctx context.Context, end time.Time, r *Result) {
	switch {
	case r.Err != nil && ctx.Err() == nil:
		l.log.Error(r.Err, "Failed to write rules, writing all of them again", "in", l.pace.wait(end))
	case r.Wrote:
		l.log.V(1).Info("Wrote rules", "full", r.Full, "took", r.Took)
	}
	if r.Err == nil {
		r.Latencies = map[uint8][]time.Duration{}
		for family, times := range l.triggers {
			for _, at := range times {
				r.Latencies[family] = append(r.Latencies[family], end.Sub(at))
			}
		}
		clear(l.triggers)
		r.HealthChecks = l.tracker.HealthChecks()
		r.NodePorts = l.tracker.State().Node.NodePorts
		r.NodePortUse = l.nodePorts.report()
		r.Unserved = map[uint8]model.Unserved{4: l.tracker.Unserved(4), 6: l.tracker.Unserved(6)}
	}
	l.opts.Observer.Synced(*r)
}

// complain logs what is malformed in an object, once for each wording. It is called with the lock held.
func (l *Loop) complain(object string, err error) {
	if err == nil {
		delete(l.problems, object)
		return
	}
	if l.problems[object] != err.Error() {
		l.problems[object] = err.Error()
		l.log.Error(fmt.Errorf("reading %w", err), "Ignoring malformed parts of an object")
	}
}
