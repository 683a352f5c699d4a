package cloud

import "time"

// Meter is told what becomes of calls behind limits. Its methods are called from several goroutines at once and return at
// once. No method tells of Services: those are the caller's.
type Meter interface {
	// Done tells of a method of a provider that ended: its name, for how long it ran, what it waited for included, and the
	// class of its error; empty: none.
	Done(method string, took time.Duration, class Class)
	// Spent tells of one call that a limit let go, and how long it had to wait for that; not of one that was given back (Wait).
	Spent(kind CallKind, waited time.Duration)
	// Queued tells that so many more calls wait for a limit; negative: fewer.
	Queued(kind CallKind, more int)
	// Closed tells that the cloud throttled, and that nothing of the kind is sent for so long more than was known.
	Closed(kind CallKind, longer time.Duration)
}

// String is the kind in lower case, for labels.
func (k CallKind) String() string {
	if k == Write {
		return "write"
	}
	return "read"
}

// silent is the Meter of whoever wants none.
type silent struct{}

func (silent) Done(string, time.Duration, Class) {}
func (silent) Spent(CallKind, time.Duration)     {}
func (silent) Queued(CallKind, int)              {}
func (silent) Closed(CallKind, time.Duration)    {}
