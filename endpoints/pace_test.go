package endpoints

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	cases := map[string]struct {
		reason  string
		pace    Pace
		took    time.Duration
		objects int
		// want is how long a change waits that comes when the write is done.
		want time.Duration
	}{
		"Never":      {"The zero value never waits.", Pace{}, 5 * ms, 1, 0},
		"Negative":   {"Nor does one that is told not to.", Pace{Max: -1, Full: 5}, 5 * ms, 1, 0},
		"Always":     {"The usual pause is the longest.", Pace{Max: 100 * ms}, 5 * ms, 1, 100 * ms},
		"First":      {"It begins short.", Pace{Max: 250 * ms, Full: 5}, 5 * ms, 40, 25 * ms},
		"SlowServer": {"A slow server is given as long again.", Pace{Max: 100 * ms, Full: 5}, 300 * ms, 1, 300 * ms},
		"Stuck":      {"But not for ever.", Pace{Max: 100 * ms}, time.Minute, 1, slow},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			pace, now := tc.pace, epoch
			if got := pace.Wait(now); got != 0 {
				t.Fatalf("the first change waits %v", got)
			}
			now = now.Add(tc.took)
			pace.Wrote(now, tc.objects)
			if got := pace.Wait(now); got != tc.want {
				t.Errorf("%s Want %v, got %v", tc.reason, tc.want, got)
			}
			if got := pace.Wait(now.Add(tc.want / 4)); got != tc.want-tc.want/4 {
				t.Errorf("a change that comes later waits less: %v", got)
			}
			now = now.Add(tc.want)
			if got := pace.Wait(now); got != 0 {
				t.Errorf("after the pause a change waits %v", got)
			}
			// The pause before a write is no part of how long it takes.
			pace.Wrote(now, tc.objects)
			if got := pace.Wait(now); got > pace.Max && got > 0 {
				t.Errorf("the pause grows to %v by having waited", got)
			}
		})
	}
}

// TestPaceGrows: pauses grow with the objects written, by steps, and begin anew after a quiet time.
func TestPaceGrows(t *testing.T) {
	const ms = time.Millisecond
	pace, now := Pace{Max: 250 * ms, Full: 5}, epoch
	steps := []struct {
		reason  string
		after   time.Duration
		objects int
		want    time.Duration
	}{
		{"The first pause is short.", 0, 1, 25 * ms},
		{"It grows.", 0, 1, 50 * ms},
		{"As far as one object goes.", 0, 1, 50 * ms},
		{"Further with several.", 0, 2, 100 * ms},
		{"By steps.", 0, 40, 200 * ms},
		{"As far as it goes.", 0, 40, 250 * ms},
		{"It shrinks at once with fewer.", time.Second, 1, 50 * ms},
		{"From there it grows again.", 0, 40, 100 * ms},
		{"After a quiet time it begins anew.", 3 * time.Second, 40, 25 * ms},
	}
	for i, step := range steps {
		now = now.Add(step.after)
		now = now.Add(pace.Wait(now))
		pace.Wait(now)
		pace.Wrote(now, step.objects)
		if got := pace.Wait(now); got != step.want {
			t.Fatalf("step %d: %s Want %v, got %v", i, step.reason, step.want, got)
		}
	}
}
