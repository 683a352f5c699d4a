package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// passes is after how many passes a cloud that does not fail must have what is desired, but for those that found it at
// work. These may go on for as long as longest: some clouds need minutes for a balancer.
const (
	passes       = 60
	longest      = 15 * time.Minute
	longestDelay = 15 * time.Second
)

// patience says when it is enough, and how long to wait between passes.
type patience struct {
	start time.Time
	// done passes, and those in a row of late that found the cloud at work.
	done, working int
}

func newPatience() *patience {
	return &patience{start: time.Now(), done: -1} // next is asked before the first pass, too
}

// next reports whether there is to be another pass after one with this outcome.
func (p *patience) next(out cloud.Outcome, err error) bool {
	if len(out.Done) == 0 &&
		(cloud.IsClass(err, cloud.Pending) || err == nil && len(out.Left.Operations) == 0 && len(out.Left.Waiting) > 0) {
		p.working++
	} else {
		p.done++
		p.working = 0
	}
	return p.done < passes && time.Since(p.start) < longest
}

// delay is how long the core waits after the pass: longer each time that the cloud is still at it.
func (p *patience) delay(err error) time.Duration {
	return max(delay(err), min(time.Second<<min(p.working, 10), longestDelay))
}

// restart is the manager after a restart: a provider that remembers nothing, within its limits.
func (h *Harness) restart() cloud.Provider {
	p := h.New()
	return cloud.Limited(p, p.Capabilities().Limits)
}

// pass is one pass of the core for what a step leaves.
func pass(p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) (cloud.Outcome, error) {
	return passWith(p, owner, spec, cloud.Options{})
}

func passWith(p cloud.Provider, owner cloud.Owner, spec *cloud.Spec, options cloud.Options) (cloud.Outcome, error) {
	var desired []cloud.Resource
	if spec != nil {
		var err error
		if desired, err = p.Desired(*spec); err != nil {
			return cloud.Outcome{}, p.Classify(err)
		}
	}
	return cloud.Converge(context.Background(), p, owner, desired, options)
}

// converge passes until nothing is left to do, waiting in between for as long as the core would. Where reads lag, the
// last answer must come after the lag.
func converge(p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) (cloud.Outcome, error) {
	return convergeWith(p, owner, spec, cloud.Options{})
}

func convergeWith(p cloud.Provider, owner cloud.Owner, spec *cloud.Spec, options cloud.Options) (cloud.Outcome, error) {
	lag := p.Capabilities().ReadLag
	var out cloud.Outcome
	var err error
	confirmed := lag == 0
	for enough := newPatience(); enough.next(out, err); {
		out, err = passWith(p, owner, spec, options)
		switch {
		case err == nil && out.Left.Empty() && confirmed:
			return out, nil
		case err == nil && out.Left.Empty() && len(out.Done) == 0:
			confirmed = true
			time.Sleep(lag)
			continue
		case cloud.IsClass(err, cloud.UserError), cloud.IsClass(err, cloud.Quota):
			return out, err
		}
		confirmed = lag == 0
		time.Sleep(enough.delay(err))
	}
	stuck := fmt.Errorf("after %d passes, or %v, the cloud is still not what is desired, left: %s", passes, longest, left(out.Left))
	if err != nil {
		stuck = fmt.Errorf("%w; the last pass: %w", stuck, err)
	}
	return out, stuck
}

// left says in short what is still to be done.
func left(plan cloud.Plan) string {
	var parts []string
	for _, op := range plan.Operations {
		parts = append(parts, fmt.Sprintf("%s %s (%s)", op.Action, op.Resource.Name(), op.Reason))
	}
	for _, name := range plan.Waiting {
		parts = append(parts, "wait for "+name)
	}
	for _, b := range plan.Blocked {
		parts = append(parts, b.Message)
	}
	return strings.Join(parts, ", ")
}

// delay is how long the core waits after a pass that did not finish.
func delay(err error) time.Duration {
	if err != nil {
		if e := cloud.Classify(err); e.After > 0 {
			return e.After
		}
	}
	return time.Second
}

// settle is converge where nothing else is right.
func settle(t *testing.T, p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) cloud.Outcome {
	t.Helper()
	return settleWith(t, p, owner, spec, cloud.Options{})
}

func settleWith(t *testing.T, p cloud.Provider, owner cloud.Owner, spec *cloud.Spec, options cloud.Options) cloud.Outcome {
	t.Helper()
	out, err := convergeWith(p, owner, spec, options)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var errCrash = errors.New("the manager was stopped here")

// counter counts calls, and stops the manager at one of them.
type counter struct {
	mu     sync.Mutex
	calls  int
	writes int
	names  []string // of writes
	all    []string
	// stopAt is the call at which the manager is stopped, before or after it; 0 means never.
	stopAt    int
	stopAfter bool
	stopped   bool
}

func (c *counter) hook(call Call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errCrash
	}
	if !call.After {
		c.calls++
		c.all = append(c.all, call.Name)
		if call.Write {
			c.writes++
			c.names = append(c.names, call.Name)
		}
	}
	if c.stopAt > 0 && c.calls == c.stopAt && call.After == c.stopAfter {
		c.stopped = true
		return errCrash
	}
	return nil
}
