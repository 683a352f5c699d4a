package cloudtest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// retryAfter is how long the throttled cloud of the suite asks to wait: longer than the core waits by itself after a first
// refusal, or a time that was lost would not show, and not much longer, for those that test in real time.
const retryAfter = 2 * time.Second

// testThrottlingWithRetryAfter has the cloud refuse every third write, while two Services are made, and expects no
// write of either before the time is over.
func testThrottlingWithRetryAfter(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	first := *steps(h)[0].spec
	second := first
	second.Owner = owner(2)
	var until time.Time
	writes, refused := 0, 0
	h.SetHook(func(c Call) error {
		if c.After || !c.Write {
			return nil
		}
		if early := time.Until(until); early > 0 {
			t.Errorf("%s was sent %v before the time that the cloud had named", c.Name, early)
		}
		if writes++; writes%3 == 2 {
			refused++
			until = time.Now().Add(retryAfter)
			return h.Throttled(retryAfter)
		}
		return nil
	})
	p := h.restart()
	done := map[string]bool{}
	for range 20 * passes {
		var wait time.Duration
		for _, spec := range []*cloud.Spec{&first, &second} {
			before := refused
			out, err := pass(p, spec.Owner, spec)
			if refused > before && !cloud.IsClass(err, cloud.Throttled) {
				t.Fatalf("a throttled pass ended with %v, want an error of class Throttled", err)
			}
			done[spec.Owner.Name] = err == nil && out.Left.Empty()
			if !done[spec.Owner.Name] {
				wait = max(wait, delay(err))
			}
		}
		if done[first.Owner.Name] && done[second.Owner.Name] {
			if refused == 0 {
				t.Error("nothing was refused: it is all done in one write")
			}
			return
		}
		// As long as the core was told, not as long as the cloud said.
		time.Sleep(wait)
	}
	t.Error("it never got through")
}

// testThrottlingWithoutRetryAfter has the cloud refuse the first writes without saying for how long, and expects each
// wait to be longer than the one before.
func testThrottlingWithoutRetryAfter(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	spec := steps(h)[0].spec
	const refusals = 4
	var at []time.Time
	h.SetHook(func(c Call) error {
		if c.After || !c.Write || len(at) > refusals {
			return nil
		}
		at = append(at, time.Now())
		if len(at) > refusals {
			return nil
		}
		return h.Throttled(0)
	})
	settle(t, h.restart(), spec.Owner, spec)
	var waits []time.Duration
	for i := 1; i < len(at); i++ {
		waits = append(waits, at[i].Sub(at[i-1]))
	}
	least := time.Second // not the wait before, which a slow machine may have made longer
	for _, wait := range waits {
		if wait < least {
			t.Errorf("writes followed refusals after %v: from a second on each has to be longer", waits)
			return
		}
		least = least * 3 / 2
	}
}

// testCounted gives the account one call of each kind a second and expects none to come sooner.
func testCounted(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	limit := cloud.Limit{PerSecond: 1, Burst: 1}
	p := cloud.Limited(h.New(), cloud.Limits{Reads: limit, Writes: limit})
	type sent struct {
		at   time.Time
		name string
	}
	last := map[bool]sent{} // by whether it writes
	h.SetHook(func(c Call) error {
		if c.After {
			return nil
		}
		now := sent{time.Now(), c.Name}
		if before, ok := last[c.Write]; ok {
			if gap := now.at.Sub(before.at); gap < time.Second-time.Millisecond {
				t.Errorf("%s came %v after %s with a limit of one call a second: call Wait before each call but a method's first",
					now.name, gap, before.name)
			}
		}
		last[c.Write] = now
		return nil
	})
	for _, s := range steps(h) {
		settle(t, p, owner(1), s.spec)
	}
}

func testNodes(t *testing.T, factory func(t *testing.T) *Harness) {
	testCheap(t, factory, "nodes", Spec)
}

func testPodsAreCheap(t *testing.T, factory func(t *testing.T) *Harness) {
	testCheap(t, factory, "Pods", podSpec)
}

// testCheap adds nodes, or Pods, to one Service, by a pass, and to many, by one SyncTargets, and expects no more calls than
// the provider states.
func testCheap(t *testing.T, factory func(t *testing.T) *Harness, what string, with func(caps cloud.Capabilities, n int) cloud.Spec) {
	h := factory(t)
	p := h.restart()
	caps := p.Capabilities()
	few, many := h.adapt(with(caps, 2)), h.adapt(with(caps, 60))
	settle(t, p, few.Owner, &few)
	c := &counter{}
	h.SetHook(c.hook)
	out, err := pass(p, many.Owner, &many)
	h.SetHook(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := caps.Targets.Calls(changesOf(t, many.Owner, out.Done)...); c.writes > want || want == 0 {
		t.Errorf("58 %s took %d writes, want at most %d: %q", what, c.writes, want, c.names)
	}
	const services = 20
	var all []cloud.TargetChange
	for n := range services {
		few, many := few, many
		few.Owner, many.Owner = owner(100+n), owner(100+n)
		settle(t, p, few.Owner, &few)
		observed, err := p.Observe(t.Context(), few.Owner)
		if err != nil {
			t.Fatal(err)
		}
		desired, err := p.Desired(many)
		if err != nil {
			t.Fatal(err)
		}
		compared, err := cloud.Compare(many.Owner, desired, observed, cloud.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, changesOf(t, many.Owner, compared.Left.Operations)...)
	}
	c = &counter{}
	h.SetHook(c.hook)
	errs := p.SyncTargets(t.Context(), all)
	h.SetHook(nil)
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Fatalf("changing the targets of %d Services: %v", services, errs)
	}
	if want := caps.Targets.Calls(all...); c.calls > want {
		t.Errorf("58 %s of each of %d Services took %d calls, want at most %d: %q", what, services, c.calls, want, c.all)
	}
	for n := range services {
		many := many
		many.Owner = owner(100 + n)
		if out := settle(t, p, many.Owner, &many); len(out.Done) > 0 {
			t.Errorf("Service %d was not done with its targets: %s", n, cmp.Diff(nil, out.Done))
		}
	}
}

// changesOf returns operations as changes of targets. Others are errors: targets alone changed.
func changesOf(t *testing.T, owner cloud.Owner, ops []cloud.Operation) []cloud.TargetChange {
	t.Helper()
	plan := cloud.Plan{Operations: ops}
	if !plan.TargetsOnly() {
		for _, op := range ops {
			if op.Action != cloud.ActionSyncTargets {
				t.Errorf("targets alone changed, and %s of %s was to be done: %s", op.Action, op.Resource.Name(), op.Reason)
			}
		}
	}
	return plan.TargetChanges(owner)
}
