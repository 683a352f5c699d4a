package cloudtest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// maxCalls bounds the search for the last call of a step.
const maxCalls = 500

// testCrashes stops the manager before and after each single call of each step, restarts it, and expects the cloud to
// end up as it does without a stop, then to be empty after the deletion.
func testCrashes(t *testing.T, factory func(t *testing.T) *Harness) {
	reference := factory(t)
	all := steps(reference)
	owner := all[0].spec.Owner
	want := make([][]string, len(all))
	for i, s := range all {
		settle(t, reference.New(), owner, s.spec)
		want[i] = reference.Snapshot()
	}
	for i, s := range all {
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				if n > maxCalls {
					t.Fatalf("%s takes more than %d calls", s.name, maxCalls)
				}
				h := factory(t)
				for _, earlier := range all[:i] {
					settle(t, h.New(), owner, earlier.spec)
				}
				if !crashedAt(h, owner, s.spec, n, after) {
					break
				}
				settle(t, h.New(), owner, s.spec)
				if diff := cmp.Diff(want[i], h.Snapshot()); diff != "" {
					t.Errorf("%s, stopped at call %d (after it: %t), ends up different (-want +got):\n%s", s.name, n, after, diff)
				}
				settle(t, h.New(), owner, nil)
				if left := h.Snapshot(); len(left) > 0 {
					t.Errorf("%s, stopped at call %d (after it: %t), leaks %q", s.name, n, after, left)
				}
			}
		}
	}
}

// crashedAt runs a step until the n-th call stops it; false if it is through before.
func crashedAt(h *Harness, owner cloud.Owner, spec *cloud.Spec, n int, after bool) bool {
	c := &counter{stopAt: n, stopAfter: after}
	h.SetHook(c.hook)
	defer h.SetHook(nil)
	p := h.New()
	for range passes {
		out, err := pass(p, owner, spec)
		if c.stopped {
			return true
		}
		if err == nil && out.Left.Empty() {
			return false
		}
	}
	return false
}

// testForeign plants a foreign thing in the place of each resource in turn.
func testForeign(t *testing.T, factory func(t *testing.T) *Harness) {
	planted := 0
	probe := factory(t)
	spec := steps(probe)[0].spec
	desired, err := probe.New().Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range desired {
		h := factory(t)
		err := h.PlantForeign(spec.Owner, r)
		if errors.Is(err, ErrCannotPlant) {
			continue
		} else if err != nil {
			t.Fatalf("planting a foreign %s: %v", r.Name(), err)
		}
		planted++
		foreign := h.Snapshot()
		var last error
		for range 3 {
			_, last = pass(h.New(), spec.Owner, spec)
		}
		if cloud.IsClass(last, cloud.UserError) {
			t.Errorf("a foreign %s in the way is the user's mistake to the provider: %v", r.Name(), last)
		}
		settle(t, h.New(), spec.Owner, nil)
		if diff := cmp.Diff(foreign, h.Snapshot()); diff != "" {
			t.Errorf("a foreign %s was touched, or something was left beside it (-before +after):\n%s", r.Name(), diff)
		}
	}
	if planted == 0 {
		t.Error("no kind of resource could be planted: the suite cannot see whether foreign ones are safe")
	}
}

// testPartialDelete takes each single resource away by hand, as far as the cloud lets it, then deletes the rest.
func testPartialDelete(t *testing.T, factory func(t *testing.T) *Harness) {
	probe := factory(t)
	spec := steps(probe)[0].spec
	count := len(settle(t, probe.New(), spec.Owner, spec).Observed)
	for i := range count {
		h := factory(t)
		p := h.New()
		out := settle(t, p, spec.Owner, spec)
		// Refused where others depend on it: then it is one of the deletions of a complete set, which is no harm.
		_ = p.Delete(t.Context(), spec.Owner, out.Observed[i])
		settle(t, h.New(), spec.Owner, nil)
		if left := h.Snapshot(); len(left) > 0 {
			t.Errorf("without %s, the deletion leaves %q", out.Observed[i].Name(), left)
		}
		settle(t, h.New(), spec.Owner, nil)
		if err := p.Delete(t.Context(), spec.Owner, out.Observed[i]); err != nil && p.Classify(err).Class != cloud.NotFound {
			t.Errorf("deleting %s once more: %v", out.Observed[i].Name(), err)
		}
	}
}

// testThrottling lets the cloud refuse each write in turn: the pass ends there, and says so.
func testThrottling(t *testing.T, h *Harness) {
	spec := steps(h)[0].spec
	writes, refused := 0, false
	h.SetHook(func(c Call) error {
		if c.After || !c.Write {
			return nil
		}
		if refused {
			t.Errorf("%s was sent after the cloud had throttled", c.Name)
		}
		if writes++; writes%2 == 0 {
			refused = true
			return h.Throttled()
		}
		return nil
	})
	p := h.New()
	for range 20 * passes {
		refused = false
		out, err := pass(p, spec.Owner, spec)
		if refused && !cloud.IsClass(err, cloud.Throttled) {
			t.Fatalf("a throttled pass ended with %v, want an error of class Throttled", err)
		}
		if !refused && err != nil {
			t.Fatal(err)
		}
		if err == nil && out.Left.Empty() {
			return
		}
	}
	t.Error("it never got through")
}

// testNodes adds nodes and expects no more calls than the provider's limit of targets per call makes necessary.
func testNodes(t *testing.T, h *Harness) {
	caps := h.New().Capabilities()
	few, many := Spec(caps, 2), Spec(caps, 60)
	if h.Adapt != nil {
		few, many = h.Adapt(few), h.Adapt(many)
	}
	p := h.New()
	settle(t, p, few.Owner, &few)
	c := &counter{}
	h.SetHook(c.hook)
	out, err := pass(p, many.Owner, &many)
	h.SetHook(nil)
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, op := range out.Done {
		if op.Action != cloud.ActionSyncTargets {
			t.Errorf("nodes alone changed, and %s of %s was done: %s", op.Action, op.Resource.Name(), op.Reason)
		}
		targets += len(op.Add) + len(op.Remove)
	}
	if want := calls(targets, caps.TargetsPerCall); c.writes > want {
		t.Errorf("%d targets took %d writes, want at most %d: %q", targets, c.writes, want, c.names)
	}
}

func calls(targets, perCall int) int {
	if perCall == 0 {
		return min(targets, 1)
	}
	return (targets + perCall - 1) / perCall
}
