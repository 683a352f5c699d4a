// Package faults is how emulators of clouds misbehave on purpose: a script of faults, a hook around each call, and what the
// account may send. It is no emulator, and knows no cloud: E is the form that errors have there, C that of calls. It takes part
// in no test by itself, so that the fake cloud, which is a program, can use it.
package faults

import (
	"slices"
	"sync/atomic"
)

// Fault makes coming calls fail.
type Fault[E any] struct {
	// Method of the API and Kind of thing that it waits for, as the emulator calls them; empty means any.
	Method, Kind string
	// Skip is how many such calls it lets pass first.
	Skip int
	// Times that it strikes; 0 means once.
	Times int
	// Err is answered; or what the call began fails with it.
	Err E
	// After: the call is done first, only its answer is lost.
	After bool
	// Late: the call succeeds, and what it began fails in the end. After is not heeded.
	Late bool
}

// Moment is when a fault strikes in the life of a call.
type Moment int

// The moments of a call.
const (
	Before Moment = iota
	After
	Late
)

func (f *Fault[E]) moment() Moment {
	switch {
	case f.Late:
		return Late
	case f.After:
		return After
	}
	return Before
}

// Script is what is to go wrong. The zero value is empty. Not for several goroutines: whoever has it has a lock.
type Script[E any] struct{ faults []Fault[E] }

// Add adds faults. They strike in the order in which they were added.
func (s *Script[E]) Add(faults ...Fault[E]) { s.faults = append(s.faults, faults...) }

// Strike returns the fault that strikes a call at this moment of it, nil if none does, and counts the call in the script.
func (s *Script[E]) Strike(method, kind string, when Moment) *Fault[E] {
	for i := range s.faults {
		f := &s.faults[i]
		if f.moment() != when || f.Method != "" && f.Method != method || f.Kind != "" && f.Kind != kind {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		struck := *f
		if f.Times--; f.Times <= 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return &struck
	}
	return nil
}

// Hook is called before and after each call. The zero value does nothing. For several goroutines.
type Hook[C any] struct{ hook atomic.Pointer[func(C) error] }

// Set has hook called from now on. Nil takes it away.
func (h *Hook[C]) Set(hook func(C) error) {
	if hook == nil {
		h.hook.Store(nil)
		return
	}
	h.hook.Store(&hook)
}

// Tell calls the hook and returns its error. Without locks: the hook may call the emulator itself.
func (h *Hook[C]) Tell(call C) error {
	if hook := h.hook.Load(); hook != nil {
		return (*hook)(call)
	}
	return nil
}
