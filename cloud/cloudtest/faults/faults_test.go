package faults_test

import (
	"errors"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// TestScript strikes as it was told to, each fault at its moment and so many times.
func TestScript(t *testing.T) {
	var s faults.Script[string]
	s.Add(
		faults.Fault[string]{Method: "create", Kind: "a", Skip: 1, Times: 2, Err: "skipped one"},
		faults.Fault[string]{Kind: "b", After: true, Err: "lost"},
		faults.Fault[string]{Method: "create", After: true, Late: true, Err: "late"},
		faults.Fault[string]{Err: "any"},
	)
	for i, step := range []struct {
		method, kind string
		when         faults.Moment
		want         string
	}{
		{"create", "a", faults.After, ""},
		{"create", "a", faults.Late, "late"},
		{"create", "a", faults.Late, ""},
		{"delete", "b", faults.After, "lost"},
		{"delete", "b", faults.After, ""},
		{"create", "a", faults.Before, "any"}, // the first lets one such call pass, and the last takes it
		{"create", "b", faults.Before, ""},
		{"create", "a", faults.Before, "skipped one"},
		{"create", "a", faults.Before, "skipped one"},
		{"create", "a", faults.Before, ""},
	} {
		got := ""
		if f := s.Strike(step.method, step.kind, step.when); f != nil {
			got = f.Err
		}
		if got != step.want {
			t.Errorf("step %d: %s %s meets %q, want %q", i+1, step.method, step.kind, got, step.want)
		}
	}
}

func TestHook(t *testing.T) {
	var h faults.Hook[int]
	if err := h.Tell(1); err != nil {
		t.Errorf("without a hook: %v", err)
	}
	broken, told := errors.New("broken"), 0
	h.Set(func(call int) error { told += call; return broken })
	if err := h.Tell(2); !errors.Is(err, broken) || told != 2 {
		t.Errorf("the hook was told %d and gave %v", told, err)
	}
	h.Set(nil)
	if err := h.Tell(4); err != nil || told != 2 {
		t.Errorf("taken away, the hook was told %d and gave %v", told, err)
	}
}

// TestAllowance: reads and writes have a burst and a rate each, and who is refused learns for how long.
func TestAllowance(t *testing.T) {
	now := time.Unix(0, 0)
	a := faults.NewAllowance(cloud.Limits{Reads: cloud.Limit{PerSecond: 0.5, Burst: 2}, Writes: cloud.Limit{PerSecond: 4}})
	for i, step := range []struct {
		after time.Duration
		write bool
		want  time.Duration
	}{
		{0, false, 0}, {0, false, 0}, {0, false, 2 * time.Second},
		{0, true, 0}, {0, true, time.Second / 4}, {time.Second / 4, true, 0},
		{time.Second * 3 / 4, false, 1500*time.Millisecond - time.Second/2}, {time.Second, false, 0}, // none taken by a refusal
		{time.Hour, false, 0}, {0, false, 0}, {0, false, 2 * time.Second}, // never more than the burst
	} {
		now = now.Add(step.after)
		if got := a.Take(now, step.write); got.Round(time.Millisecond) != step.want {
			t.Errorf("step %d: to wait %v, want %v", i+1, got, step.want)
		}
	}
	var unlimited faults.Allowance
	for range 1000 {
		if wait := unlimited.Take(now, true); wait != 0 {
			t.Fatalf("without limits: %v", wait)
		}
	}
	// The wait is enough, also where it is no whole number of anything.
	a = faults.NewAllowance(cloud.Limits{Writes: cloud.Limit{PerSecond: 3}})
	a.Take(now, true)
	if wait := a.Take(now, true); a.Take(now.Add(wait), true) != 0 {
		t.Errorf("refused again after the %v that it was told", wait)
	}
}

func TestSeconds(t *testing.T) {
	for wait, want := range map[time.Duration]int{0: 0, 1: 1, time.Second: 1, time.Second + 1: 2} {
		if got := faults.Seconds(wait); got != want {
			t.Errorf("%v: %d, want %d", wait, got, want)
		}
	}
}
