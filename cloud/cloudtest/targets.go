package cloudtest

import (
	"errors"
	"testing"
	"time"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// nodeChanges makes Services with two nodes each, and returns their changes to those with which they are to go on.
func nodeChanges(t *testing.T, h *Harness, p cloud.Provider, services int, edit func(*cloud.Spec)) (specs []cloud.Spec, all []cloud.TargetChange) {
	t.Helper()
	for n := range services {
		spec := h.adapt(Spec(p.Capabilities(), 2))
		spec.Owner = owner(200 + n)
		observed := settle(t, p, spec.Owner, &spec).Observed
		edit(&spec)
		desired, err := p.Desired(spec)
		if err != nil {
			t.Fatal(err)
		}
		compared, err := cloud.Compare(spec.Owner, desired, observed, cloud.Options{})
		if err != nil {
			t.Fatal(err)
		}
		specs, all = append(specs, spec), append(all, changesOf(t, spec.Owner, compared.Left.Operations)...)
	}
	return specs, all
}

// testTargetsFail has each write in turn fail while the targets of several Services change in one SyncTargets, which the
// core does not look after: what it calls done is done, and what failed is called so.
func testTargetsFail(t *testing.T, factory func(t *testing.T) *Harness) {
	for n := 1; ; n++ {
		h := factory(t)
		p := h.restart()
		specs, all := nodeChanges(t, h, p, 3, func(spec *cloud.Spec) {
			spec.Nodes = Spec(p.Capabilities(), 60).Nodes // for more than one call, in most clouds
			*spec = h.adapt(*spec)
		})
		writes := 0
		h.SetHook(func(c Call) error {
			if !c.After && c.Write {
				if writes++; writes == n {
					return errRefused
				}
			}
			return nil
		})
		errs := p.SyncTargets(t.Context(), all)
		h.SetHook(nil)
		failed := map[cloud.Ref]bool{}
		for i, change := range all {
			if i < len(errs) && errs[i] != nil {
				failed[place(change.Owner, &change.Resource)] = true
			}
		}
		if len(errs) != 0 && len(errs) != len(all) {
			t.Fatalf("there are %d errors for %d changes", len(errs), len(all))
		}
		for i := range specs {
			for tries := passes; ; tries-- {
				time.Sleep(p.Capabilities().ReadLag)
				untold := untoldOf(p, &specs[i], failed)
				if len(untold) == 0 {
					break
				}
				if tries == 0 {
					t.Errorf("write %d failed; of Service %d changes are told to be done that are not: %q", n, i, untold)
					break
				}
				time.Sleep(time.Second) // the cloud may still be at it
			}
		}
		if writes < n {
			return
		}
	}
}

// untoldOf returns what differs of a Service and is not among what failed.
func untoldOf(p cloud.Provider, spec *cloud.Spec, failed map[cloud.Ref]bool) (untold []string) {
	out, err := passWith(p, spec.Owner, spec, cloud.Options{Policy: v1alpha1.PolicyPlan})
	if err != nil {
		return []string{err.Error()}
	}
	for _, op := range out.Left.Operations {
		if !failed[place(spec.Owner, &op.Resource)] {
			untold = append(untold, op.Resource.Name()+": "+op.Reason)
		}
	}
	return untold
}

func place(owner cloud.Owner, r *cloud.Resource) cloud.Ref {
	return cloud.Ref{Kind: r.Kind, Key: r.Key, ID: string(owner.ID())}
}

var errRefused = errors.New("the cloud refuses this call")

// testAddedFirst replaces all nodes and stops the provider after each write in turn: at no time is a set without any.
func testAddedFirst(t *testing.T, factory func(t *testing.T) *Harness) {
	for n := 1; ; n++ {
		h := factory(t)
		p := h.restart()
		specs, all := nodeChanges(t, h, p, 1, func(spec *cloud.Spec) {
			spec.Nodes = Spec(p.Capabilities(), 4).Nodes[2:]
			*spec = h.adapt(*spec)
		})
		c := &counter{stopAt: n, stopAfter: true}
		h.SetHook(c.hook)
		_ = p.SyncTargets(t.Context(), all)
		h.SetHook(nil)
		time.Sleep(p.Capabilities().ReadLag)
		observed, err := h.restart().Observe(t.Context(), specs[0].Owner)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range observed {
			if r.HasTargets && len(r.Targets) == 0 {
				t.Errorf("after %q %s has no target at all: additions come first", c.all, r.Name())
			}
		}
		if !c.stopped {
			return
		}
	}
}
