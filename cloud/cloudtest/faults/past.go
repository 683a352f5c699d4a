package faults

import (
	"maps"
	"slices"
	"time"
)

// Past is what stood under each id before it was changed, so that reads can lag behind writes. What T is must be replaced, not
// changed. Not for several goroutines: whoever has it has a lock.
type Past[T any] struct {
	lag     time.Duration
	changes []change[T]
}

type change[T any] struct {
	at  time.Time
	id  string
	was *T
}

// NewPast is of a cloud whose reads are so far behind; 0: they are not.
func NewPast[T any](lag time.Duration) Past[T] { return Past[T]{lag: lag} }

// Note is to be called before each change, in the order of time. Nil: there was nothing under the id.
func (p *Past[T]) Note(at time.Time, id string, was *T) {
	if p.lag > 0 {
		p.changes = append(p.changes, change[T]{at, id, was})
	}
}

// Seen returns what reads show by now, where that is there. The argument is not changed, and may be what is returned.
func (p *Past[T]) Seen(now time.Time, there map[string]*T) map[string]*T {
	if p.lag == 0 {
		return there
	}
	horizon := now.Add(-p.lag)
	p.changes = slices.DeleteFunc(p.changes, func(c change[T]) bool { return !c.at.After(horizon) })
	seen := maps.Clone(there)
	for _, c := range slices.Backward(p.changes) {
		if c.was == nil {
			delete(seen, c.id)
		} else {
			seen[c.id] = c.was
		}
	}
	return seen
}
