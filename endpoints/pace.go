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
	// Full is from how many objects on, written for one change after another, the pause is the longest; fewer need
	// less gathering. 0: it always is.
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

// Wrote notes that the write that began when Wait last returned zero was done: of how many objects, and 0 where one
// object took several changes. Those come so fast that a short pause gathers enough of them.
func (p *Pace) Wrote(now time.Time, objects int) {
	p.last, p.pause = now, 0
	if p.Max <= 0 {
		return
	}
	p.pause = p.Max * time.Duration(min(objects, p.Full)+1) / time.Duration(p.Full+1)
	if p.Full > 0 && objects == 0 {
		p.pause = p.Max / 10
	}
	p.pause = max(p.pause, min(slow, now.Sub(p.began)))
}
