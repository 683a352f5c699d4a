package sync

import "time"

// Failed writes are repeated after firstRetry, then twice as late each time, up to lastRetry.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// After damage was repaired, the next one is repaired no sooner than repairPause, or repairShare times as long as it
// took: a program that damages our rules all the time costs a tenth of a CPU at most.
const (
	repairPause = time.Second
	repairShare = 10
)

// pace decides when to write, and whether all of it. It has no clock: times are given.
type pace struct {
	min, full time.Duration

	dirty    bool      // something changed since the last write
	last     time.Time // end of the last write; zero: none yet
	lastFull time.Time // end of the last full one that succeeded
	failures int       // in a row

	damaged    bool      // since the last full write began
	lastRepair time.Time // end of the last write that damage was the reason of; zero: none yet
	repairTook time.Duration
}

// wait is how long until the next write is due; 0 or less: now.
func (p *pace) wait(now time.Time) time.Duration {
	if p.last.IsZero() {
		return 0
	}
	next := p.lastFull.Add(p.full)
	if p.failures > 0 {
		next = p.last.Add(p.backoff())
	} else if soon := p.last.Add(p.min); p.dirty && soon.Before(next) {
		next = soon
	}
	if repair := p.repairDue(); p.damaged && repair.Before(next) {
		next = repair
	}
	return next.Sub(now)
}

// repairDue is when damage may be repaired.
func (p *pace) repairDue() time.Time {
	return p.lastRepair.Add(max(repairPause, repairShare*p.repairTook))
}

// fullDue says whether a write at this time must be a full one: the first, one after a failure or damage, or the
// periodic one.
func (p *pace) fullDue(now time.Time) bool {
	return p.lastFull.IsZero() || p.failures > 0 || !now.Before(p.lastFull.Add(p.full)) ||
		p.damaged && !now.Before(p.repairDue())
}

func (p *pace) done(end time.Time, r Result) {
	p.dirty = false
	if r.Full && p.damaged {
		p.damaged, p.lastRepair, p.repairTook = false, end, r.Took
	}
	if r.Err != nil {
		p.last = end
		p.failures++
		return
	}
	p.failures = 0
	if r.Wrote {
		p.last = end
	}
	if r.Full {
		p.lastFull = end
	}
}

func (p *pace) backoff() time.Duration {
	delay := firstRetry
	for i := 1; i < p.failures && delay < lastRetry; i++ {
		delay *= 2
	}
	return min(delay, lastRetry)
}
