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
}

// Wait returns how long a change that is known now has to wait. Zero: not at all.
func (p *Pace) Wait(now time.Time) time.Duration {
	return max(0, p.last.Add(p.pause).Sub(now))
}

// Wrote notes that a write was done.
func (p *Pace) Wrote(now time.Time) {
	if now.Sub(p.last) > 2*p.pause {
		p.pause = 0
	}
	p.pause = max(0, min(p.Max, max(minPause, 2*p.pause)))
	p.last = now
}
