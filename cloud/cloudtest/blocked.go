package cloudtest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// testBlocked has a Service ask for what could be had by a replacement alone, which is not allowed, there and back; for a replacement
// that is allowed, and that the cloud refuses; and for what the provider does not understand.
func testBlocked(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	caps := h.New().Capabilities()
	plain := *steps(h)[0].spec
	if caps.RequestedAddress {
		plain.Families = plain.Families[:1]
	}
	edits := h.edits()
	if len(edits) == 0 && h.fixes(t, plain) {
		t.Fatal("the provider marks resources as Fixed: set Harness.Replacements to annotations that ask for others")
	}
	for _, name := range slices.Sorted(maps.Keys(edits)) {
		other := plain
		edits[name](&other)
		hold{name, plain, other, replaced}.test(t, factory)
		hold{"back from " + name, other, plain, replaced}.test(t, factory)
	}
	for name, other := range h.refusals(plain) {
		hold{name, plain, other, refused}.test(t, factory)
	}
	if len(caps.AnnotationPrefixes) > 0 {
		wrong := plain
		annotate(&wrong, map[string]string{caps.AnnotationPrefixes[0] + "nobody-knows-this": "true"})
		hold{"an unknown annotation", plain, wrong, misunderstood}.test(t, factory)
	}
}

// edits are the harness's, and that of the address.
func (h *Harness) edits() map[string]func(*cloud.Spec) {
	edits := map[string]func(*cloud.Spec){}
	for name, annotations := range h.Replacements {
		edits[name] = func(spec *cloud.Spec) { annotate(spec, annotations) }
	}
	if h.New().Capabilities().RequestedAddress {
		edits["another address"] = func(spec *cloud.Spec) { spec.RequestedAddress = h.Address }
	}
	return edits
}

// refusals are Specs that ask for what the cloud refuses once it is asked, and else for what plain does, by name.
func (h *Harness) refusals(plain cloud.Spec) map[string]cloud.Spec {
	all := map[string]cloud.Spec{}
	for name, annotations := range h.Refused {
		other := plain
		annotate(&other, annotations)
		all[name] = other
	}
	if h.RefusedAddress != "" {
		other := plain
		other.RequestedAddress = h.RefusedAddress
		all["an address that cannot be had"] = other
	}
	return all
}

func annotate(spec *cloud.Spec, annotations map[string]string) {
	all := map[string]string{}
	maps.Copy(all, spec.Annotations)
	maps.Copy(all, annotations)
	spec.Annotations = all
}

// fixes reports whether something that the Spec needs may not be replaced without consent.
func (h *Harness) fixes(t *testing.T, spec cloud.Spec) bool {
	desired, err := h.New().Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(desired, func(r cloud.Resource) bool { return r.Fixed && len(r.Immutable) > 0 })
}

// hold is a Service that has what from asks for when it begins to ask for what it does not get.
type hold struct {
	name     string
	from, to cloud.Spec
	// pass is one pass of the core, whether it tells the targets, and what is wrong with it; empty: nothing.
	pass func(p cloud.Provider, to *cloud.Spec) (follows bool, wrong string)
}

// test expects nothing to change but targets, which follow the nodes, and everything to go in the end.
func (c hold) test(t *testing.T, factory func(t *testing.T) *Harness) {
	reference, h := factory(t), factory(t)
	owner, p := c.from.Owner, h.restart()
	settle(t, reference.restart(), owner, &c.from)
	settle(t, p, owner, &c.from)
	before := h.Snapshot()
	calls := &counter{}
	h.SetHook(calls.hook)
	follows := false
	passes := func() {
		for range 5 {
			var wrong string
			if follows, wrong = c.pass(p, &c.to); wrong != "" {
				t.Errorf("%s: %s", c.name, wrong)
			}
			time.Sleep(time.Second + p.Capabilities().ReadLag)
		}
	}
	passes()
	h.SetHook(nil)
	if calls.writes > 0 {
		t.Errorf("%s: blocked, it wrote %d times: %q", c.name, calls.writes, calls.names)
	}
	if diff := cmp.Diff(before, h.Snapshot()); diff != "" {
		t.Errorf("%s: blocked, it changed (-before +after):\n%s", c.name, diff)
	}
	c.to.Nodes = h.adapt(Spec(p.Capabilities(), 5)).Nodes
	passes()
	if follows {
		c.from.Nodes = c.to.Nodes
		settle(t, reference.restart(), owner, &c.from)
	}
	if diff := cmp.Diff(reference.Snapshot(), h.Snapshot()); diff != "" {
		t.Errorf("%s: blocked, more than its targets followed the nodes, or not these (-want +got):\n%s", c.name, diff)
	}
	settle(t, p, owner, nil)
	if left := h.Snapshot(); len(left) > 0 {
		t.Errorf("%s: left after the deletion: %q", c.name, left)
	}
}

// replaced expects that something would have to be replaced.
func replaced(p cloud.Provider, to *cloud.Spec) (follows bool, wrong string) {
	out, err := patiently(p, func(p cloud.Provider) (cloud.Outcome, error) { return pass(p, to.Owner, to) })
	switch {
	case err != nil && !cloud.IsClass(err, cloud.Pending):
		return true, err.Error()
	case !slices.ContainsFunc(out.Left.Blocked, func(b cloud.Block) bool { return b.Reason == cloud.BlockReplacement }):
		return true, "nothing is blocked, though what it asks for would have something replaced: mark that as Fixed. Left: " + left(out.Left)
	}
	return true, ""
}

// refused expects that nothing is replaced, though that is allowed, since what is to take its place cannot be had.
func refused(p cloud.Provider, to *cloud.Spec) (follows bool, wrong string) {
	out, err := patiently(p, func(p cloud.Provider) (cloud.Outcome, error) {
		return passWith(p, to.Owner, to, cloud.Options{Replacement: v1alpha1.ReplacementRecreate})
	})
	switch {
	case err != nil && !cloud.IsClass(err, cloud.Pending):
		return true, err.Error()
	case !slices.ContainsFunc(out.Left.Blocked, func(b cloud.Block) bool { return b.Reason == cloud.BlockRefused }):
		return true, "it was not looked whether the replacement can be had: be a cloud.Checker. Left: " + left(out.Left)
	}
	return true, ""
}

// misunderstood expects a mistake to be told. What the Service would need without it may be told, too.
func misunderstood(p cloud.Provider, to *cloud.Spec) (follows bool, wrong string) {
	desired, err := p.Desired(*to)
	if err == nil || p.Classify(err).Class != cloud.UserError {
		return false, "what begins as the provider's own annotations and is none is no UserError"
	}
	_, err = patiently(p, func(p cloud.Provider) (cloud.Outcome, error) {
		return cloud.Converge(context.Background(), p, to.Owner, desired, cloud.Options{TargetsOnly: true})
	})
	if err != nil && !cloud.IsClass(err, cloud.Pending) {
		return false, err.Error()
	}
	return len(desired) > 0, ""
}
