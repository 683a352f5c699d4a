package sync

import (
	"errors"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	failed := Result{Err: errors.New("no"), Wrote: true}
	full := Result{Full: true, Wrote: true}
	repair, slow := full, full // of damage
	repair.Damage, slow.Damage, slow.Took = 1, 1, 3*time.Second
	tests := map[string]struct {
		reason string
		did    []Result // at t0, in this order
		dirty  bool
		damage bool
		now    float64 // seconds after t0
		wait   float64
		full   bool
	}{
		"First":           {"at once, and full", nil, false, false, 0, 0, true},
		"Clean":           {"until the periodic full one", []Result{full}, false, false, 1, 599, false},
		"DirtyAfterQuiet": {"at once", []Result{full}, true, false, 2, 0, false},
		"DirtySoon":       {"until the interval is over", []Result{full}, true, false, 0.25, 0.75, false},
		"Periodic":        {"full when its time has come", []Result{full}, false, false, 600, 0, true},
		"PeriodicFirst":   {"the periodic one is not put off by changes", []Result{full}, true, false, 601, 0, true},
		"NothingWritten":  {"a pass without effect does not hold up the next", []Result{full, {}}, true, false, 1, 0, false},
		"Failed":          {"later, and full", []Result{full, failed}, true, false, 0, 0.2, true},
		"FailedTwice":     {"twice as late", []Result{full, failed, failed}, false, false, 0, 0.4, true},
		"FailedOften": {"but not for ever", []Result{failed, failed, failed, failed, failed, failed, failed, failed,
			failed, failed, failed, failed, failed}, false, false, 0, 30, true},
		"Damaged":           {"at once after quiet, whatever the interval", []Result{full}, false, true, 0.25, 0, true},
		"DamagedAgain":      {"not at once", []Result{full, repair}, false, true, 0.25, 0.75, false},
		"DamagedAgainLater": {"but soon", []Result{full, repair}, false, true, 1, 0, true},
		"DamagedSlowly":     {"later where it takes long", []Result{full, slow}, false, true, 1, 29, false},
		"DamagedAndDirty":   {"changes do not wait for the repair", []Result{full, slow}, true, true, 1, 0, false},
		"DamagedAndFailed":  {"a repair need not wait for a late retry", []Result{full, repair, failed, failed, failed, failed}, false, true, 1, 0, true},
		"Recovered":         {"back to normal", []Result{failed, full}, true, false, 1, 0, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := pace{min: time.Second, full: 10 * time.Minute}
			for _, r := range tc.did {
				p.dirty, p.damaged = true, r.Damage > 0
				p.done(t0, r)
			}
			p.dirty, p.damaged = tc.dirty, tc.damage
			if got, want := max(p.wait(at(tc.now)), 0), time.Duration(tc.wait*float64(time.Second)); got != want {
				t.Errorf("%s: wait %v, want %v", tc.reason, got, want)
			}
			if got := p.fullDue(at(tc.now)); got != tc.full {
				t.Errorf("%s: full %v, want %v", tc.reason, got, tc.full)
			}
		})
	}
}
