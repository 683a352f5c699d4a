package cloudtest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// maxCalls bounds the search for the last call of a step.
const maxCalls = 500

// scene is what stands in the cloud beside the Service of the test, and how that one is changed to fit.
type scene struct {
	// other Service that is there before; nil: none.
	other func(h *Harness) *cloud.Spec
	edit  func(*cloud.Spec)
}

func (s scene) prepare(t *testing.T, h *Harness) {
	t.Helper()
	if other := s.other(h); other != nil {
		settle(t, h.restart(), other.Owner, other)
	}
}

var (
	// alone: the Service has its balancer for itself.
	alone = scene{func(*Harness) *cloud.Spec { return nil }, func(*cloud.Spec) {}}
	// beside: it shares one that another Service has already.
	beside = scene{
		other: func(h *Harness) *cloud.Spec {
			other := member(h, 9)
			other.Families = Spec(h.New().Capabilities(), 1).Families
			return &other
		},
		edit: func(spec *cloud.Spec) { spec.Owner.Group = "web" },
	}
)

// stops says whether the manager is to be stopped before and after each call, or after each. A stop before a call leaves
// what one after the call before it does, but for a provider that writes something down between its calls.
func stops(p cloud.Provider) (after []bool) {
	if p.Capabilities().Opaque {
		return []bool{false, true}
	}
	return []bool{true}
}

// testCrashes stops the manager at each single call of each step and restarts it. The cloud is to end up as it does without
// a stop, and to have nothing of the Service after its deletion, whether or not the step was finished before.
func testCrashes(t *testing.T, factory func(t *testing.T) *Harness, s scene) {
	reference := factory(t)
	s.prepare(t, reference)
	empty := reference.Snapshot()
	all := s.steps(reference)
	owner := all[0].spec.Owner
	want := make([][]string, len(all))
	for i, step := range all {
		settle(t, reference.restart(), owner, step.spec)
		want[i] = reference.Snapshot()
	}
	if diff := cmp.Diff(empty, want[len(all)-1]); diff != "" {
		t.Fatalf("a life without a stop leaves (-before +after):\n%s", diff)
	}
	for i, step := range all {
		for _, after := range stops(reference.New()) {
			for _, finished := range []bool{true, false} {
				for n := 1; ; n++ {
					if n > maxCalls {
						t.Fatalf("%s takes more than %d calls", step.name, maxCalls)
					}
					h := factory(t)
					s.prepare(t, h)
					if i > 0 {
						settle(t, h.restart(), owner, all[i-1].spec)
					}
					if !crashedAt(t, h, owner, step.spec, cloud.Options{}, n, after) {
						break
					}
					if finished {
						settle(t, h.restart(), owner, step.spec)
						if diff := cmp.Diff(want[i], h.Snapshot()); diff != "" {
							t.Errorf("%s, stopped at call %d (after it: %t), ends up different (-want +got):\n%s", step.name, n, after, diff)
						}
					}
					settle(t, h.restart(), owner, nil)
					if diff := cmp.Diff(empty, h.Snapshot()); diff != "" {
						t.Errorf("%s, stopped at call %d (after it: %t, finished later: %t), leaks (-want +got):\n%s", step.name, n, after, finished, diff)
					}
				}
			}
		}
	}
}

func (s scene) steps(h *Harness) []step {
	all := steps(h)
	for _, step := range all {
		if step.spec != nil {
			s.edit(step.spec)
			if other := s.other(h); other != nil && h.New().Capabilities().Targets.Together {
				step.spec.Nodes = other.Nodes // all Services have the same
			}
		}
	}
	return all
}

// crashedAt runs a step until the n-th call stops it; false if it is through before.
func crashedAt(t *testing.T, h *Harness, owner cloud.Owner, spec *cloud.Spec, options cloud.Options, n int, after bool) bool {
	t.Helper()
	c := &counter{stopAt: n, stopAfter: after}
	h.SetHook(c.hook)
	defer h.SetHook(nil)
	p := h.restart()
	var out cloud.Outcome
	var err error
	for enough := newPatience(); enough.next(out, err); time.Sleep(enough.delay(err)) {
		out, err = passWith(p, owner, spec, options)
		if c.stopped {
			return true
		}
		if err == nil && out.Left.Empty() {
			return false
		}
	}
	t.Fatalf("before call %d the cloud is still not what is desired: error %v, left: %s", n, err, left(out.Left))
	return false
}
