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
		"Negative":   {"Nor does one that is told not to.", Pace{Max: -1, Full: 4}, 5 * ms, 0, 0},
		"Always":     {"The usual pause is the longest.", Pace{Max: 100 * ms}, 5 * ms, 1, 100 * ms},
		"Dense":      {"It is shortest where changes come fast.", Pace{Max: 250 * ms, Full: 4}, 5 * ms, 0, 25 * ms},
		"One":        {"It grows with the objects written.", Pace{Max: 250 * ms, Full: 4}, 5 * ms, 1, 100 * ms},
		"Many":       {"Up to the longest.", Pace{Max: 250 * ms, Full: 4}, 5 * ms, 40, 250 * ms},
		"SlowServer": {"A slow server is given as long again.", Pace{Max: 100 * ms, Full: 4}, 300 * ms, 0, 300 * ms},
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
