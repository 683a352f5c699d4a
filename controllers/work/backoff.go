package work

import "time"

const (
	firstPause = 5 * time.Millisecond
	newsPause  = time.Second
	lastPause  = time.Minute
)

// Backoff says when to try again what failed: 5 ms after the first failure, twice as long after each further one, a minute
// at most, or a second where there is news. A queue's rate limiter knows of failures alone: with it, objects that change all
// the time ask a server that is in trouble once for each change. Its zero value waits for nothing.
type Backoff struct {
	pause time.Duration
	last  time.Time
}

// Note notes how a pass ended.
func (b *Backoff) Note(now time.Time, err error) {
	if err == nil {
		b.pause = 0
		return
	}
	b.last, b.pause = now, min(lastPause, max(firstPause, 2*b.pause))
}

// Wait returns how long the next pass has to wait; zero: not at all. News says that something has changed since the last.
func (b *Backoff) Wait(now time.Time, news bool) time.Duration {
	pause := b.pause
	if news {
		pause = min(pause, newsPause)
	}
	return max(0, b.last.Add(pause).Sub(now))
}
