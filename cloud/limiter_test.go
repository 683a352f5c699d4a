package cloud

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLimitIsKept(t *testing.T) {
	cases := map[string]struct {
		reason string
		limit  Limit
		calls  int
		want   time.Duration
	}{
		"None":     {"no limit, no wait", Limit{}, 1000, 0},
		"Burst":    {"what is within the burst goes at once", Limit{PerSecond: 1, Burst: 10}, 10, 0},
		"Rate":     {"the rest at the rate", Limit{PerSecond: 4, Burst: 10}, 20, 2500 * time.Millisecond},
		"Single":   {"a burst of nothing is one", Limit{PerSecond: 0.5}, 4, 6 * time.Second},
		"NaN":      {"what is no number is no limit", Limit{PerSecond: math.NaN()}, 1000, 0},
		"Infinite": {"nor is what is too large for one", Limit{PerSecond: math.Inf(1), Burst: 1}, 1000, 0},
		"Tiny":     {"a call a day at least", Limit{PerSecond: 1e-12}, 3, 48 * time.Hour},
		"Odd":      {"rates that no float can hold", Limit{PerSecond: 3, Burst: 1}, 301, 100 * time.Second},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, start := newBucket(tc.limit), time.Now()
				for range tc.calls {
					if err := b.take(t.Context(), PriorityNormal); err != nil {
						t.Fatal(err)
					}
				}
				if got := time.Since(start); got < tc.want-time.Millisecond || got > tc.want+time.Millisecond {
					t.Errorf("%s: %d calls took %v, want %v", tc.reason, tc.calls, got, tc.want)
				}
			})
		})
	}
}

func TestUrgentGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(Limit{PerSecond: 1, Burst: 1})
		if err := b.take(t.Context(), PriorityNormal); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 6)
		for i, p := range []Priority{PriorityDrift, PriorityDrift, PriorityNormal, PriorityNormal, PriorityUrgent, PriorityUrgent} {
			go func() {
				if err := b.take(t.Context(), p); err != nil {
					t.Error(err)
				}
				order <- fmt.Sprint(p, " ", i)
			}()
			synctest.Wait()
		}
		var got []string
		for range 6 {
			got = append(got, <-order)
		}
		if diff := cmp.Diff([]string{"1 4", "1 5", "0 2", "0 3", "-1 0", "-1 1"}, got); diff != "" {
			t.Errorf("served in the order (-want +got):\n%s", diff)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, start := newBucket(Limit{PerSecond: 0.1, Burst: 1}), time.Now()
		if err := b.take(t.Context(), PriorityNormal); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.take(ctx, PriorityUrgent); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := b.take(t.Context(), PriorityDrift); err != nil || time.Since(start) > 10*time.Second+time.Millisecond {
			t.Errorf("whoever gave up still counts: %v after %v", err, time.Since(start))
		}
	})
}

// TestGate: what the cloud throttled is not sent, by anybody, until it may be.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(Limit{PerSecond: 1, Burst: 5})
		for range 5 {
			if err := b.take(t.Context(), PriorityNormal); err != nil {
				t.Fatal(err)
			}
		}
		waiting := make(chan error)
		go func() { waiting <- b.take(t.Context(), PriorityNormal) }()
		synctest.Wait()
		b.throttled(20 * time.Second)
		if held, ok := errors.AsType[*heldBack](<-waiting); !ok || held.after != 20*time.Second {
			t.Errorf("who waited got %+v", held)
		}
		time.Sleep(5 * time.Second)
		if held, ok := errors.AsType[*heldBack](b.take(t.Context(), PriorityUrgent)); !ok || held.after != 15*time.Second {
			t.Errorf("who came later got %+v", held)
		}
		b.throttled(time.Second) // of a call that was under way: it does not open the gate earlier
		if got := b.closedFor(); got != 15*time.Second {
			t.Errorf("the gate is closed for %v", got)
		}
		time.Sleep(15 * time.Second)
		start := time.Now()
		for range 3 {
			if err := b.take(t.Context(), PriorityNormal); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(start); got < 3*time.Second-time.Millisecond {
			t.Errorf("three calls in %v after the gate opened: a burst", got)
		}
	})
}

func TestGateGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(Limit{})
		var waits []time.Duration
		offend := func() {
			b.throttled(0)
			b.throttled(0) // sent together with the first
			waits = append(waits, b.closedFor())
			time.Sleep(b.closedFor())
		}
		for range 8 {
			offend()
		}
		b.succeeded()
		offend()
		want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 1}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(waits, want) {
			t.Errorf("closed for %v, want %v", waits, want)
		}
	})
}

// account is a provider that notes when it is called, and sends as many calls per method as it is told.
type account struct {
	Provider
	sends int
	err   error
}

func (a *account) send(ctx context.Context, kind CallKind) error {
	for range a.sends {
		if err := Wait(ctx, kind); err != nil {
			return err
		}
	}
	return a.err
}

func (a *account) Capabilities() Capabilities { return Capabilities{} }

func (a *account) Observe(ctx context.Context, _ Owner) ([]Resource, error) {
	return nil, a.send(ctx, Read)
}

func (a *account) Delete(ctx context.Context, _ Owner, _ Resource) error { return a.send(ctx, Write) }

func (a *account) SyncTargets(ctx context.Context, changes []TargetChange) []error {
	if err := a.send(ctx, Write); err != nil {
		return allFailed(changes, err)
	}
	return nil
}

func (a *account) Classify(err error) *Error { return Classify(err) }

func TestLimited(t *testing.T) {
	cases := map[string]struct {
		reason string
		sends  int
		call   func(ctx context.Context, p Provider) error
		times  int
		want   time.Duration
	}{
		"Unaware":  {"a provider that knows nothing of limits spends one call for each method", 0, observe, 3, 2 * time.Second},
		"First":    {"the call that a method begins with is spent once", 1, observe, 3, 2 * time.Second},
		"More":     {"further ones are spent by Wait", 3, observe, 2, 5 * time.Second},
		"Writes":   {"changes have a limit of their own", 1, func(ctx context.Context, p Provider) error { return p.Delete(ctx, us, Resource{}) }, 3, 20 * time.Second},
		"Targets":  {"so have targets", 2, syncTargets, 1, 10 * time.Second},
		"Outsider": {"outside of a method nobody waits", 0, func(ctx context.Context, _ Provider) error { return Wait(ctx, Write) }, 9, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := Limited(&account{sends: tc.sends}, Limits{Reads: Limit{PerSecond: 1}, Writes: Limit{PerSecond: 0.1}})
				start := time.Now()
				for range tc.times {
					if err := tc.call(t.Context(), p); err != nil {
						t.Fatal(err)
					}
				}
				if got := time.Since(start).Round(time.Millisecond); got != tc.want {
					t.Errorf("%s: took %v, want %v", tc.reason, got, tc.want)
				}
			})
		})
	}
}

func observe(ctx context.Context, p Provider) error {
	_, err := p.Observe(ctx, us)
	return err
}

func syncTargets(ctx context.Context, p Provider) error {
	return errors.Join(p.SyncTargets(ctx, make([]TargetChange, 3))...)
}

// TestCallsCountWhenTheyAreSent: a method that looks before it writes sends its write no sooner after another than the
// limit allows, though it began long before, and one that finds nothing to write leaves its call to others.
func TestCallsCountWhenTheyAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := Limit{PerSecond: 1, Burst: 1}
		writes := 1
		var sent []time.Duration
		start := time.Now()
		p := Limited(&looker{account{sends: 1}, func(ctx context.Context) error {
			if err := Wait(ctx, Read); err != nil {
				return err
			}
			for range writes {
				if err := Wait(ctx, Write); err != nil {
					return err
				}
				sent = append(sent, time.Since(start).Round(time.Millisecond))
			}
			return nil
		}}, Limits{Reads: Limit{PerSecond: 0.2, Burst: 1}, Writes: second})
		for range 3 {
			if err := p.Delete(t.Context(), us, Resource{}); err != nil {
				t.Fatal(err)
			}
			if err := syncTargets(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, time.Since(start).Round(time.Millisecond))
		}
		want := []time.Duration{0, 1, 5, 6, 10, 11}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(sent, want) {
			t.Errorf("writes were sent after %v, want %v", sent, want)
		}
		time.Sleep(time.Minute)
		writes, start = 0, time.Now()
		if err := errors.Join(p.Delete(t.Context(), us, Resource{}), syncTargets(t.Context(), p)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Millisecond {
			t.Errorf("a write after a method that sent none waited for %v", took)
		}
	})
}

// TestUnsent: a method that sends nothing costs nothing, and says nothing of whether the cloud takes calls.
func TestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &looker{account{sends: 1}, func(ctx context.Context) error {
			Unsent(ctx)
			return nil
		}}
		p := Limited(l, Limits{Writes: Limit{PerSecond: 1, Burst: 1}})
		start := time.Now()
		for range 10 {
			if err := p.Delete(t.Context(), us, Resource{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := syncTargets(t.Context(), p); err != nil || time.Since(start) > time.Millisecond {
			t.Errorf("ten calls that were not sent, and one that was, took %v (%v)", time.Since(start), err)
		}
		unsent := l.delete
		var waits []time.Duration
		for range 4 {
			l.delete = func(context.Context) error { return &Error{Class: Throttled, Err: errors.New("slow down")} }
			wait := p.Classify(p.Delete(t.Context(), us, Resource{})).After
			waits = append(waits, wait)
			time.Sleep(wait + time.Second)
			l.delete = unsent
			if err := p.Delete(t.Context(), us, Resource{}); err != nil {
				t.Fatal(err)
			}
		}
		if want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}; !slices.Equal(waits, want) {
			t.Errorf("throttled again and again, with calls between that were not sent, it waits %v, want %v", waits, want)
		}
	})
}

// looker is a provider whose deletions do as they are told, and whose other methods send one call.
type looker struct {
	account
	delete func(context.Context) error
}

func (l *looker) Delete(ctx context.Context, _ Owner, _ Resource) error { return l.delete(ctx) }

// TestLimitedThrottled: one Service that is throttled holds back all, and each hears for how long.
func TestLimitedThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &account{sends: 1, err: &Error{Class: Throttled, Err: errors.New("slow down")}}
		p := Limited(a, Limits{})
		err := observe(t.Context(), p)
		if e := p.Classify(err); e.Class != Throttled || e.After != time.Second {
			t.Errorf("the throttled call itself: %+v", e)
		}
		a.err = nil
		err = observe(t.Context(), p)
		if e := p.Classify(fmt.Errorf("observing: %w", err)); e.Class != Throttled || e.After != time.Second {
			t.Errorf("the next one: %+v", e)
		}
		if err := syncTargets(t.Context(), p); err != nil {
			t.Errorf("reads are throttled, and writes held back: %v", err)
		}
		a.err = &Error{Class: Throttled, After: 9 * time.Second, Err: errors.New("slow down")}
		if e := p.Classify(p.SyncTargets(t.Context(), make([]TargetChange, 2))[1]); e.After != 9*time.Second {
			t.Errorf("targets: %+v", e)
		}
		a.err = nil
		if errs := p.SyncTargets(t.Context(), make([]TargetChange, 2)); len(errs) != 2 || p.Classify(errs[0]).Class != Throttled {
			t.Errorf("held back targets: %v", errs)
		}
		time.Sleep(9 * time.Second)
		if err := errors.Join(observe(t.Context(), p), syncTargets(t.Context(), p)); err != nil {
			t.Errorf("after the time is over: %v", err)
		}
	})
}

func TestTargetCalls(t *testing.T) {
	change := func(add, remove int) TargetChange {
		return TargetChange{Add: make([]Target, add), Remove: make([]Target, remove)}
	}
	changes := []TargetChange{change(3, 1), change(0, 5)}
	for calls, want := range map[TargetCalls]int{
		{}:                                      1,
		{Max: 4}:                                3,
		{OneDirection: true}:                    2,
		{OneResource: true}:                     2,
		{Max: 2, OneResource: true}:             5,
		{OneResource: true, OneDirection: true}: 3,
		{Max: 2, OneDirection: true}:            5,
	} {
		if got := calls.Calls(changes...); got != want {
			t.Errorf("%+v: %d calls, want %d", calls, got, want)
		}
		if got := calls.Calls(); got != 0 {
			t.Errorf("%+v: %d calls for nothing", calls, got)
		}
	}
}

// TestConfiguredLimits has a limit that the configuration sets count, and the others as the provider states them.
func TestConfiguredLimits(t *testing.T) {
	accounts := map[string]Factory{"account": func(Config) (Provider, error) { return &account{}, nil }}
	synctest.Test(t, func(t *testing.T) {
		p, err := NewProviders(func(string) (Config, error) {
			return Config{Limits: LimitOverrides{Reads: &Limit{PerSecond: 0.5, Burst: 2}}}, nil
		}, accounts).Get("account")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 4 {
			if err := errors.Join(observe(t.Context(), p), p.Delete(t.Context(), us, Resource{})); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("4 reads and 4 writes took %v, want 4s: the reads after the burst of 2, 2s each", took)
		}
	})
	stated := Limits{Reads: Limit{PerSecond: 1}, Writes: Limit{PerSecond: 2, Burst: 3}}
	if got := (LimitOverrides{Writes: &Limit{}}).Over(stated); got != (Limits{Reads: stated.Reads}) {
		t.Errorf("no limit of writes: %+v", got)
	}
}

func TestLimitsWithinAPlugins(t *testing.T) {
	stated := Limits{Reads: Limit{PerSecond: 20, Burst: 40}, Writes: Limit{PerSecond: 5}}
	cases := map[string]struct {
		reason string
		limits LimitOverrides
		stated Limits
		want   string
	}{
		"None":      {"the plugin's count", LimitOverrides{}, stated, ""},
		"Lower":     {"each of several managers has its part", LimitOverrides{&Limit{PerSecond: 10, Burst: 99}, &Limit{PerSecond: 5}}, stated, ""},
		"Higher":    {"calls would wait in the plugin", LimitOverrides{Writes: &Limit{PerSecond: 50}}, stated, "send 50 writes a second, and the plugin itself sends 5:"},
		"Unlimited": {"so would they", LimitOverrides{Reads: &Limit{}}, stated, "any number of reads a second, and the plugin itself sends 20:"},
		"NoneThere": {"a plugin without limits holds nothing up", LimitOverrides{Reads: &Limit{PerSecond: 50}, Writes: &Limit{}}, Limits{}, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := tc.limits.Within(tc.stated)
			if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}
