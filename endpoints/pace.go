package endpoints

import "time"

// minPause is the shortest pause after a write; shorter ones gather nothing worth gathering.
const minPause = 10 * time.Millisecond

// Pace says how long to wait before the next write of one Service, so that changes that come in a row are written
// together. The first change after quiet is written at once; every write that follows hard on another doubles the
// pause, up to Max, and quiet as long as the pause ends it. Its zero value never waits.
type Pace struct {
	// Max is the longest pause, and so the most that writing together can delay a change. Not positive: never wait.
	Max time.Duration

	pause time.Duration
	last  time.Time
	// began is when the last change that did not have to wait any more was dealt with. How long its write takes then
	// is no quiet: a slow API server would otherwise be written to without a pause.
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

// Wrote notes that the write that began when Wait last returned zero was done.
func (p *Pace) Wrote(now time.Time) {
	if p.began.Sub(p.last) > 2*p.pause {
		p.pause = 0
	}
	p.pause = max(0, min(p.Max, max(minPause, 2*p.pause)))
	p.last = now
}
