package endpoints

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPace(t *testing.T) {
	pace := Pace{Max: 50 * time.Millisecond}
	now := epoch
	if got := pace.Wait(now); got != 0 {
		t.Fatalf("the first change waits %v", got)
	}
	var pauses []time.Duration
	for range 5 {
		// A write takes longer than the pause before it, which makes it no less hard on the one before.
		now = now.Add(15 * time.Millisecond)
		pace.Wrote(now)
		pauses = append(pauses, pace.Wait(now))
		now = now.Add(pace.Wait(now))
		if got := pace.Wait(now); got != 0 {
			t.Errorf("after the pause a change waits %v", got)
		}
	}
	want := []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond}
	if diff := cmp.Diff(want, pauses); diff != "" {
		t.Errorf("changes in a row\n-want +got:\n%s", diff)
	}
	now = now.Add(time.Second)
	if got := pace.Wait(now); got != 0 {
		t.Errorf("after quiet a change waits %v", got)
	}
	pace.Wrote(now)
	if got := pace.Wait(now); got != minPause {
		t.Errorf("after quiet the pause is %v", got)
	}
	never := Pace{Max: -1}
	never.Wrote(now)
	if got := never.Wait(now); got != 0 {
		t.Errorf("a pace without pauses waits %v", got)
	}
}
