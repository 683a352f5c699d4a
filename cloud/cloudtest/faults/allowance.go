package faults

import (
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// Allowance is what an account may send, a bucket of tokens for calls that read and one for those that change: what exceeds
// it is to be refused, not delayed. The zero value allows everything. Not for several goroutines.
type Allowance struct{ reads, writes bucket }

type bucket struct {
	limit  cloud.Limit
	tokens float64
	at     time.Time
}

// NewAllowance is one whose bursts are whole.
func NewAllowance(limits cloud.Limits) Allowance {
	return Allowance{bucket{limit: limits.Reads}, bucket{limit: limits.Writes}}
}

// Take takes one call. It returns 0 where it is allowed, else for how long it would have had to wait.
func (a *Allowance) Take(now time.Time, write bool) time.Duration {
	if write {
		return a.writes.take(now)
	}
	return a.reads.take(now)
}

func (b *bucket) take(now time.Time) time.Duration {
	if b.limit.PerSecond <= 0 {
		return 0
	}
	burst := float64(max(b.limit.Burst, 1))
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*b.limit.PerSecond)
	}
	b.at = now
	// Whole but for a rounding error.
	if b.tokens >= 1-1e-6 {
		b.tokens--
		return 0
	}
	return max(1, time.Duration((1-b.tokens)/b.limit.PerSecond*float64(time.Second)))
}

// Seconds is a wait as it is said in Retry-After: in whole seconds, none too few.
func Seconds(wait time.Duration) int { return int((wait + time.Second - 1) / time.Second) }
