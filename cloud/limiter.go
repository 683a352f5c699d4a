package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// Limit is how many calls of one kind an account may send: PerSecond on average, Burst at once after a quiet time. The
// zero value is no limit.
type Limit struct {
	PerSecond float64
	Burst     int
}

// Limits are those of one account. Clouds count calls that read apart from calls that change.
type Limits struct {
	Reads, Writes Limit
}

// LimitOverrides are limits that count instead of those that a provider states. Nil: the provider's.
type LimitOverrides struct {
	Reads, Writes *Limit
}

// Over returns the limits that are in force where the provider states these.
func (o LimitOverrides) Over(stated Limits) Limits {
	if o.Reads != nil {
		stated.Reads = *o.Reads
	}
	if o.Writes != nil {
		stated.Writes = *o.Writes
	}
	return stated
}

// Within returns an error that says what to change where a rate is higher than a provider states that keeps to its limits
// itself, as a plugin does: calls would then wait there, the urgent ones behind the others. Nil: none is.
func (o LimitOverrides) Within(stated Limits) error {
	var errs []error
	for _, one := range []struct {
		kind     CallKind
		override *Limit
		stated   Limit
	}{{Read, o.Reads, stated.Reads}, {Write, o.Writes, stated.Writes}} {
		if one.override == nil || one.stated.PerSecond <= 0 || one.override.PerSecond > 0 && one.override.PerSecond <= one.stated.PerSecond {
			continue
		}
		asked := "any number of"
		if one.override.PerSecond > 0 {
			asked = fmt.Sprint(one.override.PerSecond)
		}
		errs = append(errs, fmt.Errorf("cloud.limits lets the manager send %s %ss a second, and the plugin itself sends %v: raise that in the plugin, or lower it here",
			asked, one.kind, one.stated.PerSecond))
	}
	if len(errs) == 0 {
		return nil
	}
	return oneLine(errs)
}

// Priority orders those who wait for the same limit.
type Priority int

// Priorities. Deletions and targets are always urgent: what is to go costs money and holds up its Service, and targets
// that are missing or dead lose traffic. What merely looks for drift comes last.
const (
	PriorityDrift Priority = iota - 1
	PriorityNormal
	PriorityUrgent
)

type priorityKey struct{}

// WithPriority has the calls under ctx wait with this priority. Without it they have PriorityNormal.
func WithPriority(ctx context.Context, p Priority) context.Context {
	return context.WithValue(ctx, priorityKey{}, p)
}

// PriorityOf returns the priority of the calls under ctx.
func PriorityOf(ctx context.Context) Priority {
	p, _ := ctx.Value(priorityKey{}).(Priority)
	return p
}

// Delays after an answer that says "too many calls" and not for how long: the first, doubled each time until a call
// succeeds.
const (
	minPenalty = time.Second
	maxPenalty = time.Minute
)

// heldBack is the error of a call that was not sent, since the cloud asked for fewer.
type heldBack struct{ after time.Duration }

// Error leaves the time out: it reaches conditions, which are not to change with every pass.
func (*heldBack) Error() string { return errHeldBack.Error() }

var errHeldBack = errors.New("the cloud asked for fewer calls")

// bucket is a token bucket with a queue by priority, and a gate that the cloud closes when it throttles. For several
// goroutines. Its time is that of package time.
type bucket struct {
	limit Limit

	mu      sync.Mutex
	tokens  float64 // as of at
	at      time.Time
	waiting []*waiter // the next one first
	timer   *time.Timer
	closed  time.Time     // until then
	penalty time.Duration // of the last answer that did not say for how long
}

type waiter struct {
	priority Priority
	result   chan error // takes one element without a receiver
}

// slowest is the lowest rate that is kept to: what is next to nothing is a call a day.
const slowest = 1.0 / (24 * 60 * 60)

func newBucket(limit Limit) *bucket {
	switch {
	case !(limit.PerSecond > 0) || math.IsInf(limit.PerSecond, 1): // NaN, too, which a plugin may state
		limit.PerSecond = 0
	default:
		limit.PerSecond = max(limit.PerSecond, slowest)
	}
	return &bucket{limit: limit, tokens: float64(max(limit.Burst, 1)), at: time.Now()}
}

// take returns when one call may be sent: at once where the limit allows it, else in the order of priority, then of
// arrival. While the gate is closed it fails at once: a pass that waited would keep a worker from another account.
func (b *bucket) take(ctx context.Context, p Priority) error {
	b.mu.Lock()
	if after := time.Until(b.closed); after > 0 {
		b.mu.Unlock()
		return &heldBack{after}
	}
	if b.limit.PerSecond <= 0 {
		b.mu.Unlock()
		return nil
	}
	w := &waiter{priority: p, result: make(chan error, 1)}
	at, _ := slices.BinarySearchFunc(b.waiting, p, func(other *waiter, p Priority) int {
		return cmp.Or(cmp.Compare(p, other.priority), -1) // behind those of the same priority
	})
	b.waiting = slices.Insert(b.waiting, at, w)
	b.serve()
	b.mu.Unlock()
	select {
	case err := <-w.result:
		return err
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting = slices.DeleteFunc(b.waiting, func(other *waiter) bool { return other == w })
		return ctx.Err()
	}
}

// giveBack returns a call that was taken and not sent. While the gate is closed there is nothing to return to.
func (b *bucket) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit.PerSecond <= 0 || b.closed.After(time.Now()) {
		return
	}
	b.serve() // what time has brought, before the bucket is filled up
	b.tokens = min(b.tokens+1, float64(max(b.limit.Burst, 1)))
	b.serve()
}

// serve lets go whom the tokens suffice for, and comes again for the others. With b.mu held.
func (b *bucket) serve() {
	now := time.Now()
	if now.Before(b.at) {
		return // the gate is closed
	}
	b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*b.limit.PerSecond, float64(max(b.limit.Burst, 1)))
	b.at = now
	// A token that is whole but for a rounding error counts.
	const whole = 1 - 1e-6
	for len(b.waiting) > 0 && b.tokens >= whole {
		b.tokens--
		b.waiting[0].result <- nil
		b.waiting = b.waiting[1:]
	}
	if b.timer != nil {
		b.timer.Stop()
	}
	if len(b.waiting) > 0 {
		missing := time.Duration((1 - b.tokens) / b.limit.PerSecond * float64(time.Second))
		b.timer = time.AfterFunc(missing, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.serve()
		})
	}
}

// throttled closes the gate for the time that the cloud gave, or for a growing one where it gave none, and sends home
// those who wait. Calls that were under way together are one offence. It returns for how long more than before the gate
// is closed.
func (b *bucket) throttled(after time.Duration) (longer time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if after <= 0 {
		if b.closed.After(now) {
			return 0
		}
		b.penalty = min(max(2*b.penalty, minPenalty), maxPenalty)
		after = b.penalty
	}
	if until := now.Add(after); until.After(b.closed) {
		longer = min(after, until.Sub(b.closed))
		b.closed = until
	}
	// No burst when the gate opens again.
	b.tokens, b.at = min(b.tokens, 0), b.closed
	for _, w := range b.waiting {
		w.result <- &heldBack{b.closed.Sub(now)}
	}
	b.waiting = nil
	return longer
}

// succeeded forgets earlier offences.
func (b *bucket) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed.After(time.Now()) {
		b.penalty = 0
	}
}

// closedFor is how long the gate stays closed.
func (b *bucket) closedFor() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, time.Until(b.closed))
}
