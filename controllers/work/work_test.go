package work

import (
	"testing"

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
