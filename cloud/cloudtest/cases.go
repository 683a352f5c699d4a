package cloudtest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

func testPure(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	for _, s := range steps(h) {
		if s.spec == nil {
			continue
		}
		before := *s.spec
		first, err := h.New().Desired(*s.spec)
		if err != nil {
			t.Fatalf("%s: Desired: %v", s.name, err)
		}
		again, _ := h.New().Desired(*s.spec)
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("%s: two calls of Desired differ:\n%s", s.name, diff)
		}
		if diff := cmp.Diff(before, *s.spec, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: Desired changed its argument:\n%s", s.name, diff)
		}
	}
}

// twice makes every call that changes something two times, as after a crash that hid the success of the first.
type twice struct {
	cloud.Provider
	t *testing.T
}

func (w twice) check(what string, err error) {
	w.t.Helper()
	if err != nil && w.Classify(err).Class != cloud.Pending {
		w.t.Errorf("%s a second time: %v", what, err)
	}
}

func (w twice) Create(ctx context.Context, owner cloud.Owner, r cloud.Resource) (cloud.Resource, error) {
	made, err := w.Provider.Create(ctx, owner, r)
	if err == nil {
		again, err := w.Provider.Create(ctx, owner, r)
		w.check("creating "+r.Name(), err)
		if err == nil && again.ID != made.ID {
			w.t.Errorf("creating %s a second time gives %q after %q", r.Name(), again.ID, made.ID)
		}
	}
	return made, err
}

func (w twice) Update(ctx context.Context, owner cloud.Owner, observed, desired cloud.Resource) error {
	err := w.Provider.Update(ctx, owner, observed, desired)
	if err == nil {
		w.check("updating "+desired.Name(), w.Provider.Update(ctx, owner, observed, desired))
	}
	return err
}

func (w twice) Delete(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	err := w.Provider.Delete(ctx, owner, r)
	if err == nil {
		w.check("deleting "+r.Name(), w.Provider.Delete(ctx, owner, r))
	}
	return err
}

func (w twice) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	errs := w.Provider.SyncTargets(ctx, changes)
	if errors.Join(errs...) == nil {
		w.check("changing targets", errors.Join(w.Provider.SyncTargets(ctx, changes)...))
	}
	return errs
}

func (w twice) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	return cloud.FindAdoptable(ctx, w.Provider, owner, id)
}

func testReplay(t *testing.T, factory func(t *testing.T) *Harness) {
	once, h := factory(t), factory(t)
	all := steps(h)
	owner := all[0].spec.Owner
	for i, s := range all {
		settle(t, once.restart(), owner, s.spec)
		p := twice{h.restart(), t}
		if i == 0 {
			buildBlindly(t, p, owner, s.spec)
		}
		out := settle(t, p, owner, s.spec)
		addresses := cloud.Ingresses(out.Observed)
		if s.spec != nil && len(addresses) == 0 {
			t.Errorf("%s: there is nothing that a client could connect to", s.name)
		}
		for _, in := range addresses {
			if _, err := in.Published(); err != nil {
				t.Errorf("%s: no Service could say what clients connect to: %v", s.name, err)
			}
		}
		if diff := cmp.Diff(once.Snapshot(), h.Snapshot()); diff != "" {
			t.Errorf("%s: the cloud is another one when every call is made twice:\n%s", s.name, diff)
		}
	}
	if left := h.Snapshot(); len(left) > 0 {
		t.Errorf("left after the deletion: %q", left)
	}
}

// buildBlindly has everything made without a look before, as the core does for what is new; then once more, as if nobody knew
// of it any more.
func buildBlindly(t *testing.T, p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) {
	t.Helper()
	for range 2 {
		_, err := passWith(p, owner, spec, cloud.Options{New: true})
		if cloud.IsClass(err, cloud.Conflict) || cloud.IsClass(err, cloud.UserError) {
			t.Errorf("making all of it without a look before: %v", err)
		}
	}
}

func testNoWrite(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	all := steps(h)
	for _, s := range all {
		settle(t, h.restart(), all[0].spec.Owner, s.spec)
		c := &counter{}
		h.SetHook(c.hook)
		if _, err := pass(h.restart(), all[0].spec.Owner, s.spec); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		h.SetHook(nil)
		if c.writes > 0 {
			t.Errorf("%s: a pass without a change wrote %d times: %q", s.name, c.writes, c.names)
		}
	}
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
			_, last = pass(h.restart(), spec.Owner, spec)
		}
		if cloud.IsClass(last, cloud.UserError) {
			t.Errorf("a foreign %s in the way is the user's mistake to the provider: %v", r.Name(), last)
		}
		settle(t, h.restart(), spec.Owner, nil)
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
	count := len(settle(t, probe.restart(), spec.Owner, spec).Observed)
	settle(t, factory(t).restart(), spec.Owner, nil) // nothing at all is there
	for i := range count {
		h := factory(t)
		p := h.restart()
		out := settle(t, p, spec.Owner, spec)
		// Refused where others depend on it: then it is one of the deletions of a complete set, which is no harm.
		_ = p.Delete(t.Context(), spec.Owner, out.Observed[i])
		settle(t, h.restart(), spec.Owner, nil)
		if left := h.Snapshot(); len(left) > 0 {
			t.Errorf("without %s, the deletion leaves %q", out.Observed[i].Name(), left)
		}
		settle(t, h.restart(), spec.Owner, nil)
		if err := p.Delete(t.Context(), spec.Owner, out.Observed[i]); err != nil && p.Classify(err).Class != cloud.NotFound {
			t.Errorf("deleting %s once more: %v", out.Observed[i].Name(), err)
		}
	}
}

// testList holds List against Observe, for a Service by itself, one that shares where the provider can, and one of
// another cluster.
func testList(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	p := h.restart()
	specs := []cloud.Spec{*steps(h)[0].spec, *steps(h)[0].spec}
	specs[1].Owner = owner(2)
	if p.Capabilities().Share {
		specs = append(specs, member(h, 3))
		if p.Capabilities().Targets.Together {
			specs[2].Nodes = specs[0].Nodes
		}
	}
	foreign := *steps(h)[0].spec
	foreign.Owner.ClusterID = clusterID + "-b" // which begins like the other
	settle(t, p, foreign.Owner, &foreign)
	var want []cloud.Resource
	for _, spec := range specs {
		settle(t, p, spec.Owner, &spec)
	}
	for _, spec := range specs {
		observed, err := p.Observe(t.Context(), spec.Owner)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, observed...)
	}
	got, err := p.List(t.Context(), clusterID)
	if err != nil {
		t.Fatal(err)
	}
	cloud.SortResources(want)
	cloud.SortResources(got)
	// What several of them have is listed once.
	want = slices.CompactFunc(want, func(a, b cloud.Resource) bool { return a.Kind == b.Kind && a.Key == b.Key && a.ID == b.ID })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("List differs from what Observe shows (-Observe +List):\n%s", diff)
	}
}
