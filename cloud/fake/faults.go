package fake

import (
	"math"
	"slices"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// Fault makes coming calls fail.
type Fault struct {
	// Method and Kind that it waits for; empty means any.
	Method, Kind string
	// Skip is how many such calls it lets pass first.
	Skip int
	// Times that it strikes; 0 means once.
	Times int
	// Err is returned.
	Err error
	// After: the call is done first, only its answer is lost.
	After bool
	// Fails, for Create: the call succeeds, and what it made is Failed in the end. Err is not heeded.
	Fails bool
}

// moment is when in a call a fault may strike.
type moment int

const (
	before moment = iota
	during        // Fails
	after
)

func (f *Fault) moment() moment {
	switch {
	case f.Fails:
		return during
	case f.After:
		return after
	}
	return before
}

// Inject adds faults to the script. They strike in the order in which they were added.
func (c *Cloud) Inject(faults ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, faults...)
}

// fault returns the fault that strikes now, nil if none does, and counts it in the script. With c.mu held.
func (c *Cloud) fault(method, kind string, when moment) *Fault {
	for i := range c.faults {
		f := &c.faults[i]
		if f.moment() != when || f.Method != "" && f.Method != method || f.Kind != "" && f.Kind != kind {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		struck := *f
		if f.Times--; f.Times <= 0 {
			c.faults = slices.Delete(c.faults, i, i+1)
		}
		return &struck
	}
	return nil
}

// allowance is a token bucket of the cloud's: what exceeds it is refused, not delayed.
type allowance struct {
	limit  cloud.Limit
	tokens float64
	at     time.Time
}

// SetLimits changes the limits of the account, as a cloud may at any time. The bursts are whole again.
func (c *Cloud) SetLimits(limits cloud.Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads, c.writes = allowance{limit: limits.Reads}, allowance{limit: limits.Writes}
}

// throttle refuses a call beyond the account's limits. With c.mu held.
func (c *Cloud) throttle(write bool) error {
	a := &c.reads
	if write {
		a = &c.writes
	}
	if a.limit.PerSecond <= 0 {
		return nil
	}
	now := c.now()
	burst := float64(max(a.limit.Burst, 1))
	if a.at.IsZero() {
		a.tokens = burst
	} else {
		a.tokens = min(burst, a.tokens+now.Sub(a.at).Seconds()*a.limit.PerSecond)
	}
	a.at = now
	// Whole but for a rounding error.
	if a.tokens >= 1-1e-6 {
		a.tokens--
		return nil
	}
	err := refuse(CodeThrottled, "the account may send %v calls a second", a.limit.PerSecond)
	if !c.options.NoRetryAfter {
		err.RetryAfterSeconds = int(math.Ceil((1 - a.tokens) / a.limit.PerSecond))
	}
	return err
}
