package cloud

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// CallKind says which of an account's limits a call counts against.
type CallKind int

// Kinds of calls.
const (
	Read CallKind = iota
	Write
)

// limited is a provider behind the limits of its account.
type limited struct {
	Provider
	buckets [2]*bucket // by CallKind
	meter   Meter
}

// Limited puts a provider behind limits. Every method waits for its turn and spends one call before it does anything;
// once the cloud has throttled, calls of that kind are not sent at all, by whichever Service, until the time that the
// cloud named is over, or a growing one: they fail with class Throttled and the time that is left. Capabilities, Desired
// and Classify cost nothing.
//
// A method that sends more than one call spends the others by Wait.
func Limited(p Provider, limits Limits) Provider { return Metered(p, limits, silent{}) }

// Metered is Limited, and tells a Meter of every call.
func Metered(p Provider, limits Limits, meter Meter) Provider {
	return &limited{Provider: p, meter: meter, buckets: [2]*bucket{Read: newBucket(limits.Reads), Write: newBucket(limits.Writes)}}
}

type purseKey struct{}

// purse is what a method has spent.
type purse struct {
	account *limited
	kind    CallKind
	waited  time.Duration // for the call that the method began with
	spent   atomic.Bool   // that call is sent, or given back
	unsent  atomic.Bool   // see Unsent
}

// Wait is to be called by a provider before each call that it sends, or by its client's transport for all of them: it
// returns when the account's limit lets the call go. The first call of the method's own kind is spent already, unless one
// of the other kind goes before it: then what was spent is given back, since a call counts when it is sent, and the other
// may have to wait. Outside of a method of a Limited provider it returns at once. Its error is to be returned as it is.
func Wait(ctx context.Context, kind CallKind) error {
	p, _ := ctx.Value(purseKey{}).(*purse)
	if p == nil {
		return nil
	}
	if kind == p.kind && p.send() {
		return nil
	}
	if kind != p.kind && p.spent.CompareAndSwap(false, true) {
		p.account.buckets[p.kind].giveBack()
	}
	waited, err := p.account.spend(ctx, kind)
	if err == nil {
		p.account.meter.Spent(kind, waited)
	}
	return err
}

// Unsent is to be called by a provider whose method sends nothing, since what it was to send goes with what comes later: the
// call that the method began with is given back, and its success says nothing about whether the cloud takes calls.
func Unsent(ctx context.Context) {
	if p, _ := ctx.Value(purseKey{}).(*purse); p != nil && p.spent.CompareAndSwap(false, true) {
		p.unsent.Store(true)
		p.account.buckets[p.kind].giveBack()
	}
}

// send tells the meter of the call that the method began with, which is sent now; false: it was before, or was given back.
func (p *purse) send() bool {
	first := p.spent.CompareAndSwap(false, true)
	if first {
		p.account.meter.Spent(p.kind, p.waited)
	}
	return first
}

// spend waits until the limit lets a call go, and returns for how long.
func (l *limited) spend(ctx context.Context, kind CallKind) (time.Duration, error) {
	begin := time.Now()
	l.meter.Queued(kind, 1)
	err := l.buckets[kind].take(ctx, PriorityOf(ctx))
	l.meter.Queued(kind, -1)
	return time.Since(begin), err
}

// do spends a call, then sends it. Method is the provider's.
func (l *limited) do(ctx context.Context, kind CallKind, method string, call func(context.Context) error) error {
	begin := time.Now()
	waited, err := l.spend(ctx, kind)
	if err == nil {
		p := &purse{account: l, kind: kind, waited: waited}
		err = call(context.WithValue(ctx, purseKey{}, p))
		p.send() // that of a provider which never asks
		if !p.unsent.Load() {
			l.answered(kind, err)
		}
	}
	var class Class
	if err != nil {
		class = l.Classify(err).Class
	}
	l.meter.Done(method, time.Since(begin), class)
	return err
}

func (l *limited) answered(kind CallKind, err error) {
	b := l.buckets[kind]
	switch {
	case err == nil:
		b.succeeded()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		if _, here := errors.AsType[*heldBack](err); here {
			return
		}
		if e := l.Provider.Classify(err); e.Class == Throttled {
			l.meter.Closed(kind, b.throttled(e.After))
		}
	}
}

func urgent(ctx context.Context) context.Context { return WithPriority(ctx, PriorityUrgent) }

func (l *limited) Observe(ctx context.Context, owner Owner) (resources []Resource, err error) {
	err = l.do(ctx, Read, "Observe", func(ctx context.Context) error {
		resources, err = l.Provider.Observe(ctx, owner)
		return err
	})
	return resources, err
}

func (l *limited) List(ctx context.Context, clusterID string) (resources []Resource, err error) {
	err = l.do(ctx, Read, "List", func(ctx context.Context) error {
		resources, err = l.Provider.List(ctx, clusterID)
		return err
	})
	return resources, err
}

// Adoptable implements Adopter for whatever provider it limits.
func (l *limited) Adoptable(ctx context.Context, owner Owner, id string) (found []Adoptable, err error) {
	err = l.do(ctx, Read, "Adoptable", func(ctx context.Context) error {
		found, err = FindAdoptable(ctx, l.Provider, owner, id)
		return err
	})
	return found, err
}

// Check implements Checker by means of whatever provider it limits. Of one that is none nothing is asked.
func (l *limited) Check(ctx context.Context, owner Owner, desired Resource, replaced []Resource) error {
	if _, ok := l.Provider.(Checker); !ok {
		return nil
	}
	return l.do(ctx, Read, "Check", func(ctx context.Context) error { return CheckCreate(ctx, l.Provider, owner, desired, replaced) })
}

func (l *limited) Create(ctx context.Context, owner Owner, desired Resource) (made Resource, err error) {
	err = l.do(ctx, Write, "Create", func(ctx context.Context) error {
		made, err = l.Provider.Create(ctx, owner, desired)
		return err
	})
	return made, err
}

func (l *limited) Update(ctx context.Context, owner Owner, observed, desired Resource) error {
	return l.do(ctx, Write, "Update", func(ctx context.Context) error { return l.Provider.Update(ctx, owner, observed, desired) })
}

func (l *limited) Delete(ctx context.Context, owner Owner, observed Resource) error {
	return l.do(urgent(ctx), Write, "Delete", func(ctx context.Context) error { return l.Provider.Delete(ctx, owner, observed) })
}

func (l *limited) SyncTargets(ctx context.Context, changes []TargetChange) (errs []error) {
	err := l.do(urgent(ctx), Write, "SyncTargets", func(ctx context.Context) error {
		errs = l.Provider.SyncTargets(ctx, changes)
		return firstThrottled(l.Provider, errs)
	})
	if errs == nil && err != nil {
		return allFailed(changes, err) // nothing was sent
	}
	return errs
}

// firstThrottled returns the error of the first change that was throttled, or else any error.
func firstThrottled(p Provider, errs []error) error {
	for _, err := range errs {
		if err != nil && p.Classify(err).Class == Throttled {
			return err
		}
	}
	return errors.Join(errs...)
}

// allFailed is one error for each change.
func allFailed(changes []TargetChange, err error) []error {
	errs := make([]error, len(changes))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// Classify implements Provider. A throttled call gets the time for which nothing is sent, also where the cloud did not
// say it.
func (l *limited) Classify(err error) *Error {
	if held, ok := errors.AsType[*heldBack](err); ok {
		return &Error{Class: Throttled, After: held.after, Err: err}
	}
	e := l.Provider.Classify(err)
	if e.Class == Throttled && e.After <= 0 {
		e = &Error{Class: Throttled, After: max(l.buckets[Read].closedFor(), l.buckets[Write].closedFor()), Err: e.Err}
	}
	return e
}
