package endpoints

import "time"

// slow bounds the pauses after writes that take long.
const slow = 2 * time.Second

// Pace says how long to wait before the next write of one Service, so that changes that come in a row are written
// together. The first change after quiet is written at once. After a write there is a pause, at least as long as the
// write took, so that a server that is slow is not asked for more. Its zero value never waits.
type Pace struct {
	// Max is the longest pause after writes that did not take longer, and so the most that writing together can delay a
	// change. Not positive: never wait.
	Max time.Duration
	// Full is from how many objects on the pause grows up to Max, twice as long after each write; fewer take their share
	// of it. It begins with a tenth of Max, again so after two seconds without a write. 0: it is always Max.
	Full int

	pause time.Duration
	last  time.Time
	// began is when the last change that did not have to wait any more was dealt with.
	began time.Time
}

// Wait returns how long a change that is known now has to wait. Zero: not at all, and its write begins now.
func (p *Pace) Wait(now time.Time) time.Duration {
	wait := max(0, p.last.Add(p.pause).Sub(now))
	if wait == 0 {
		p.began = now
	}
	return wait
}

// After returns how long a change that can wait for so long after the last write has to wait. Where Max makes no change
// wait, none does.
func (p *Pace) After(now time.Time, pause time.Duration) time.Duration {
	if p.Max <= 0 {
		return 0
	}
	return max(0, p.last.Add(pause).Sub(now))
}

// Wrote notes that the write of so many objects that began when Wait last returned zero was done.
func (p *Pace) Wrote(now time.Time, objects int) {
	before := p.pause
	if now.Sub(p.last) > slow {
		before = 0
	}
	p.last, p.pause = now, 0
	if p.Max <= 0 {
		return
	}
	p.pause = p.Max
	if p.Full > 0 {
		// Up by steps, so that one write of much among many of little does not make the next change late.
		p.pause = min(p.Max*time.Duration(min(objects, p.Full))/time.Duration(p.Full), max(p.Max/10, 2*before))
	}
	p.pause = max(p.pause, min(slow, now.Sub(p.began)))
}
