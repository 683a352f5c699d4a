package work

import (
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// TestRefusals: what is remembered is given up after ten refusals in a row, and not before ten others.
func TestRefusals(t *testing.T) {
	var r Refusals
	round := func() (after int) {
		for after = 1; !r.Count(true); after++ {
			if after > 100 {
				t.Fatal("it believes for ever")
			}
		}
		return after
	}
	for range 2 {
		if after := round(); after != maxRefusals {
			t.Errorf("it gave up after %d refusals", after)
		}
	}
	for range maxRefusals - 1 {
		r.Count(true)
	}
	if r.Count(false) {
		t.Error("it gave up after a success")
	}
	if after := round(); after != maxRefusals {
		t.Errorf("after a success it gave up after %d refusals", after)
	}
}

// TestStates: an object has one state until it is forgotten, and then another one.
func TestStates(t *testing.T) {
	made := 0
	s := NewStates(func() *int { made++; return new(int) })
	a, b := types.NamespacedName{Namespace: "ns", Name: "a"}, types.NamespacedName{Namespace: "ns", Name: "b"}
	if s.Find(a) != nil {
		t.Error("an object that nobody asked for has a state")
	}
	first := s.Get(a)
	if s.Get(a) != first || s.Find(a) != first || s.Get(b) == first {
		t.Error("the state of an object is not its own")
	}
	s.Forget(a)
	if s.Find(a) != nil || s.Get(a) == first || made != 3 {
		t.Errorf("what was forgotten is there; %d states were made, not 3", made)
	}
}

// TestBackoff: pauses double up to a minute, news cuts them to a second, and a success ends them.
func TestBackoff(t *testing.T) {
	var b Backoff
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if wait := b.Wait(now, false); wait != 0 {
		t.Errorf("nothing has failed, and it waits for %s", wait)
	}
	pause := 5 * time.Millisecond
	for range 20 {
		b.Note(now, errors.New("refused"))
		if wait, news := b.Wait(now, false), b.Wait(now, true); wait != pause || news != min(pause, time.Second) {
			t.Fatalf("want %s and, with news, a second at most, got %s and %s", pause, wait, news)
		}
		if wait := b.Wait(now.Add(pause), false); wait != 0 {
			t.Fatalf("the pause of %s is over, and it waits for %s", pause, wait)
		}
		now = now.Add(pause)
		pause = min(2*pause, time.Minute)
	}
	b.Note(now, nil)
	if wait := b.Wait(now, false); wait != 0 {
		t.Errorf("it went well, and it waits for %s", wait)
	}
	b.Note(now, errors.New("refused"))
	if wait := b.Wait(now, false); wait != 5*time.Millisecond {
		t.Errorf("after that it begins with %s", wait)
	}
}
