package sync

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/dataplane/model"
)

// flowsRecorder is a Flows that remembers, and how many writes there had been.
type flowsRecorder struct {
	backend *recorder
	mu      sync.Mutex
	cleans  []*model.Suspects
	after   []int
}

func (f *flowsRecorder) Clean(s *model.Suspects) {
	writes := see(f.backend, func() int { return len(f.backend.syncs) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cleans = append(f.cleans, s)
	f.after = append(f.after, writes)
}

// TestFlows: suspects are handed over after a write, all of them after the first one; while writes fail they wait; and
// flows can be judged meanwhile.
func TestFlows(t *testing.T) {
	backend := &recorder{}
	f := &flowsRecorder{backend: backend}
	l := New(Options{Model: model.Options{NodeName: "n1"}, Backend: backend, Observer: backend, Flows: f, FullInterval: 1 << 50})
	l.ready = true
	step := func() { l.step(t.Context(), l.pace.last.Add(1<<40)) }
	set := func(change func() error) {
		l.update(func() {
			if err := change(); err != nil {
				t.Fatal(err)
			}
		})
	}
	set(func() error {
		return errors.Join(l.tracker.SetService(service("web", "10.96.0.10")), l.tracker.SetSlice(endpointSlice("web-1", "web", "10.244.1.1", "10.244.1.2")))
	})
	step()
	if len(f.cleans) != 1 || !f.cleans[0].All || f.after[0] != 1 {
		t.Fatalf("after the first write: %+v", f.cleans)
	}
	backend.fail = errors.New("no")
	set(func() error { return l.tracker.SetSlice(endpointSlice("web-1", "web", "10.244.1.2")) })
	step()
	if len(f.cleans) != 1 {
		t.Fatalf("after a write that failed: %+v", f.cleans[1])
	}
	backend.fail = nil
	step()
	gone := netip.MustParseAddrPort("10.244.1.1:8080")
	found := false
	for e := range f.cleans[len(f.cleans)-1].Endpoints {
		found = found || e.Addr == gone
	}
	if len(f.cleans) != 2 || !found || f.after[1] != 3 {
		t.Fatalf("after the write that was tried again: %d times, after %v writes", len(f.cleans), f.after)
	}
	set(func() error { return nil })
	step()
	if len(f.cleans) != 2 {
		t.Errorf("nothing is suspected, yet it was handed over: %+v", f.cleans[2])
	}
	stale := []bool{true}
	l.Stale(f.cleans[1], []model.Flow{{Protocol: model.TCP}}, stale)
	if stale[0] {
		t.Error("a flow of nobody is stale")
	}
}
