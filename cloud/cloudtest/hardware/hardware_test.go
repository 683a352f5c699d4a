package hardware_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// cloud has a balancer from the time at which it is ready, and is slow to tell of it.
type cloud struct {
	ready time.Time
	slow  time.Duration

	mu      sync.Mutex
	name    string
	changed func()
}

func (*cloud) SetHardware(hardware.Hardware) {}

func (c *cloud) OnChange(f func()) { c.changed = f }

func (c *cloud) Balancers() (all []hardware.Balancer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !time.Now().Before(c.ready) {
		all = append(all, hardware.Balancer{ID: c.name})
	}
	time.Sleep(c.slow)
	return all
}

func (c *cloud) NextTransition() time.Duration {
	if wait := time.Until(c.ready); wait > 0 {
		return wait
	}
	return time.Hour
}

// written is hardware that remembers what it got last, and fails as often as it is told to.
type written struct {
	mu    sync.Mutex
	fails int
	ids   []string
}

func (w *written) fail(times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fails = times
}

func (w *written) Program(_ context.Context, balancers []hardware.Balancer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails--; w.fails >= 0 {
		return errors.New("broken")
	}
	w.ids = nil
	for _, b := range balancers {
		w.ids = append(w.ids, b.ID)
	}
	return nil
}

func (*written) Health() []hardware.TargetHealth { return nil }

func (w *written) has(ids ...string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Equal(w.ids, ids)
}

// TestRun: the hardware gets what becomes ready by time alone, also while the clouds are being read, and what changes; what it
// could not do is tried again.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &cloud{name: "a", ready: time.Now().Add(time.Second), slow: 2 * time.Second}
		second := &cloud{name: "b", ready: time.Now()}
		w := &written{}
		ctx, cancel := context.WithCancel(t.Context())
		ended, reported := make(chan struct{}), 0
		go func() {
			defer close(ended)
			hardware.Run(ctx, w, func(error) { reported++ }, first, second)
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if !w.has("a", "b") {
			t.Errorf("after a minute it has %q, want what both clouds have", w.ids)
		}
		second.mu.Lock()
		second.name = "c"
		second.mu.Unlock()
		w.fail(2)
		second.changed()
		time.Sleep(time.Minute)
		synctest.Wait()
		if !w.has("a", "c") {
			t.Errorf("after a change it has %q", w.ids)
		}
		cancel()
		<-ended
		if reported != 2 {
			t.Errorf("%d errors were reported, want 2", reported)
		}
	})
}
