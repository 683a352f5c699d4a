// Package conntrack makes the kernel forget flows that no longer lead to who serves: UDP flows of endpoints and
// Services that are gone, and TCP connections to Pods that ended, whose clients get a reset instead of silence. It
// decides nothing about Services: model.Suspects say where to look, model.Tracker.Stale says of each flow found there
// whether it goes. It does not size the conntrack table or set its timeouts.
//
// # Guarantees
//
// A flow is deleted only by its addresses and the kernel's number for it, after it was judged: one that takes its place
// meanwhile stays. Flows of conntrack zones are not looked at. Nothing here waits for the sync of rules, nor it for us:
// passes run in a goroutine of their own, one at a time, never more than a tenth of the time.
//
// # Resets
//
// Once its flow is forgotten, the next packet of a connection looks like a new one. It would be sent to another
// endpoint, which resets it, or be refused; but where a Local policy drops, or nf_conntrack_tcp_loose is 0, it would be
// lost. So for some minutes the connections to be reset are elements of sets in the table inet fairlead-resets, which is
// there only as long, and whose rules reset them. A client that only reads sends nothing that could be answered; it is
// sent one segment that is outside its window, which makes it repeat its last acknowledgement.
package conntrack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
)

// Options of a Cleaner.
type Options struct {
	// Flows cleans up flows of UDP and SCTP, Resets connections of TCP.
	Flows, Resets bool
	// Observer may be nil.
	Observer Observer
	// NetNS is a file descriptor of the network namespace to clean; 0: that of the calling thread.
	NetNS int
}

// Observer learns what a Cleaner does, for metrics. Its methods must not block.
type Observer interface {
	// FlowsCleaned is called after each pass for each address family that it looked at.
	FlowsCleaned(Report)
}

// Report is what a pass did in one family (4 or 6). After an error the pass is repeated, a limited number of times.
type Report struct {
	Family uint8
	Took   time.Duration
	// Deleted counts all flows, Reset those that were open connections.
	Deleted, Reset int
	Err            error
}

// Judge tells of each flow whether it is stale, as of now.
type Judge interface {
	Stale(s *model.Suspects, flows []model.Flow, stale []bool)
}

const (
	// settlingTime is the time from the writing of rules to the first look. A packet that met the old rules has made its flow
	// by then, and a burst of changes is looked at together. An endpoint that moves from one EndpointSlice to another
	// may be in none for a moment.
	settlingTime = 100 * time.Millisecond
	// restFactor is how many times as long as the last pass to rest before the next one.
	restFactor = 9
	// maxPause bounds rests and waits after failures.
	maxPause = 30 * time.Second
	// maxTries is how often suspects are looked for in vain before they are given up.
	maxTries = 10
)

// lister lists flows.
type lister interface {
	dump(request []byte, each func(data []byte) error) error
	close()
}

// Cleaner looks for stale flows and makes the kernel forget them.
type Cleaner struct {
	opts   Options
	dumps  lister
	deaths *socket
	resets *resets
	poker  *poker // nil: not allowed
	wake   chan struct{}

	mu      sync.Mutex
	pending *model.Suspects

	next     time.Time // the earliest time of the next pass
	failures int       // in a row
}

// New opens connections to the kernel. The error says what the kernel lacks; then flows cannot be cleaned, and all else
// works.
func New(opts Options) (*Cleaner, error) {
	dumps, err := openSocket(opts.NetNS)
	if err != nil {
		return nil, err
	}
	c := &Cleaner{opts: opts, dumps: dumps, wake: make(chan struct{}, 1), pending: &model.Suspects{}}
	if c.deaths, err = openSocket(opts.NetNS); err != nil {
		dumps.close()
		return nil, err
	}
	if err := probe(dumps); err != nil {
		c.close()
		return nil, err
	}
	// The table of a former run goes when nothing in it can be valid.
	c.resets = &resets{namespace: opts.NetNS, last: time.Now()}
	if _, err := c.resets.connect(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// probe asks how many flows there are.
func probe(s *socket) error {
	results, err := s.acknowledged(newRequest(msgStats, unix.NLM_F_ACK, 0).end(), 1)
	err = errors.Join(append(results, err)...)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("asking for flows takes root or CAP_NET_ADMIN, in the user namespace that the network namespace belongs to: %w", err)
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("asking for flows: the kernel has no memory for the answer: %w", err)
	case err != nil:
		return fmt.Errorf("asking for flows: the kernel lacks conntrack over netlink (CONFIG_NF_CT_NETLINK): %w", err)
	}
	return nil
}

// Clean hands over suspects. It does not block; the suspects belong to the Cleaner from now on.
func (c *Cleaner) Clean(s *model.Suspects) {
	c.mu.Lock()
	c.pending.Add(s)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns what is pending.
func (c *Cleaner) take() *model.Suspects {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.pending
	c.pending = &model.Suspects{}
	return s
}

// putBack makes suspects pending again, before those that came later.
func (c *Cleaner) putBack(s *model.Suspects) {
	c.mu.Lock()
	s.Add(c.pending)
	c.pending = &model.Suspects{}
	c.mu.Unlock()
	c.Clean(s)
}

// Run works until the context ends; it may be called once.
func (c *Cleaner) Run(ctx context.Context, judge Judge) {
	log := logr.FromContextOrDiscard(ctx)
	defer c.close()
	if c.opts.Resets {
		c.openPoker(log)
	}
	idle := time.NewTicker(resetMemory / 4)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			if err := c.resets.removeIdle(time.Now()); err != nil {
				log.Error(err, "Failed to remove the table of connections to reset")
			}
		case <-c.wake:
			if !sleep(ctx, max(settlingTime, time.Until(c.next))) {
				return
			}
			c.work(ctx, log, judge)
		}
	}
}

func (c *Cleaner) openPoker(log logr.Logger) {
	var err error
	if c.poker, err = newPoker(c.opts.NetNS); err != nil {
		log.Info("Connections to Pods that ended are reset only when their clients send", "reason", err.Error(),
			"remedy", "grant CAP_NET_RAW")
	}
}

func (c *Cleaner) close() {
	c.dumps.close()
	c.deaths.close()
	if c.resets != nil {
		c.resets.close()
	}
	if c.poker != nil {
		c.poker.close()
	}
}

// work makes one pass over what is pending, and decides when the next one may be.
func (c *Cleaner) work(ctx context.Context, log logr.Logger, judge Judge) {
	s := c.take()
	start := time.Now()
	err := c.pass(ctx, s, judge)
	end := time.Now()
	if err == nil {
		c.failures = 0
		c.next = end.Add(min(restFactor*end.Sub(start), maxPause))
		return
	}
	if ctx.Err() != nil {
		return
	}
	c.failures++
	c.next = end.Add(min(settlingTime<<c.failures, maxPause))
	switch {
	case c.failures == 1:
		log.Error(err, "Failed to clean up flows, trying again")
		c.putBack(s)
	case c.failures < maxTries:
		c.putBack(s)
	default:
		log.Error(err, "Giving up flows that could not be cleaned", "tries", c.failures)
		c.failures = 0
	}
}

// pass looks at all flows where suspects may be.
func (c *Cleaner) pass(ctx context.Context, s *model.Suspects, judge Judge) error {
	var errs []error
	filters := plan(s, scope{flows: c.opts.Flows, resets: c.opts.Resets})
	for len(filters) > 0 && ctx.Err() == nil {
		r := Report{Family: filters[0].family}
		start := time.Now()
		var failed []error
		for ; len(filters) > 0 && filters[0].family == r.Family && ctx.Err() == nil; filters = filters[1:] {
			p := &pass{Cleaner: c, suspects: s, judge: judge, filter: &filters[0], report: &r}
			failed = append(failed, p.run())
		}
		r.Err = errors.Join(failed...)
		r.Took = time.Since(start)
		errs = append(errs, r.Err)
		if c.opts.Observer != nil {
			c.opts.Observer.FlowsCleaned(r)
		}
	}
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
