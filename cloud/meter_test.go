package cloud

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// logbook is a Meter that writes down what it is told.
type logbook struct {
	lines  []string
	queued map[CallKind]int
	most   int
}

func (l *logbook) add(format string, args ...any) {
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *logbook) Done(method string, took time.Duration, class Class) {
	l.add("%s took %v: %q", method, took, class)
}
func (l *logbook) Spent(kind CallKind, waited time.Duration) { l.add("%s waited %v", kind, waited) }
func (l *logbook) Closed(kind CallKind, longer time.Duration) {
	l.add("%s closed for %v", kind, longer)
}
func (l *logbook) Queued(kind CallKind, more int) {
	l.queued[kind] += more
	l.most = max(l.most, l.queued[kind])
}

// TestMetered tells of every call that a method sends, of the waits, and of what the cloud refuses.
func TestMetered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logbook{queued: map[CallKind]int{}}
		a := &account{sends: 2}
		p := Metered(a, Limits{Reads: Limit{PerSecond: 1}}, l)
		if err := observe(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		a.sends, a.err = 1, &Error{Class: Throttled, After: 7 * time.Second, Err: errEmpty}
		if err := p.Delete(t.Context(), us, Resource{}); err == nil {
			t.Fatal("it was not throttled")
		}
		time.Sleep(2 * time.Second)
		if err := p.Delete(t.Context(), us, Resource{}); err == nil {
			t.Fatal("it was not held back")
		}
		want := []string{
			"read waited 0s", "read waited 1s", `Observe took 1s: ""`,
			"write waited 0s", "write closed for 7s", `Delete took 0s: "Throttled"`,
			`Delete took 0s: "Throttled"`,
		}
		if diff := cmp.Diff(want, l.lines); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if l.most != 1 || l.queued[Read] != 0 || l.queued[Write] != 0 {
			t.Errorf("the queue was %d long at most, and is %v", l.most, l.queued)
		}
	})
}

// TestClosedIsCountedOnce: two answers about the same time close the gate for the longer of the two.
func TestClosedIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(Limit{})
		var told []time.Duration
		told = append(told, b.throttled(5*time.Second))
		time.Sleep(time.Second)
		told = append(told, b.throttled(2*time.Second), b.throttled(6*time.Second), b.throttled(0))
		time.Sleep(time.Minute)
		told = append(told, b.throttled(3*time.Second))
		want := []time.Duration{5 * time.Second, 0, 2 * time.Second, 0, 3 * time.Second}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("closed for (-want +got):\n%s", diff)
		}
	})
}

// TestMeteredWhenSent: of a method that looks before it writes the look is told of as it is sent, and the call that it began
// with only if something is written.
func TestMeteredWhenSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logbook{queued: map[CallKind]int{}}
		writes := 0
		p := Metered(&looker{account{sends: 1}, func(ctx context.Context) error {
			err := Wait(ctx, Read)
			for range writes {
				err = errors.Join(err, Wait(ctx, Write))
			}
			return err
		}}, Limits{Writes: Limit{PerSecond: 1}}, l)
		for writes = range 3 {
			if err := p.Delete(t.Context(), us, Resource{}); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{
			"read waited 0s", `Delete took 0s: ""`,
			"read waited 0s", "write waited 0s", `Delete took 0s: ""`,
			"read waited 0s", "write waited 0s", "write waited 1s", `Delete took 2s: ""`,
		}
		if diff := cmp.Diff(want, l.lines); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}
