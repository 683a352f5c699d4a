package gcp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// labelled returns those things of the owner that labels can be put on.
func labelled(t *testing.T, p cloud.Provider, owner cloud.Owner) []cloud.Resource {
	t.Helper()
	observed, err := p.Observe(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(observed, func(r cloud.Resource) bool {
		return r.Kind != gcp.KindAddress && r.Kind != gcp.KindForwardingRule || !slices.Contains(r.Owners, owner.ID())
	})
}

// TestMarksWithoutLabels: the service gives nothing labels while it makes it, so that an address and a rule are the owner's by what
// their descriptions say, which cannot be changed: let go they are nobody's, and marked anew somebody else's.
func TestMarksWithoutLabels(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec, other := c.Provider(), service(0, 2), service(1, 2)
	pass(t, p, spec.Owner, spec)
	for _, line := range c.Snapshot() {
		if strings.Contains(line, `"labels"`) {
			t.Errorf("made with labels: %s", line)
		}
	}
	mine := labelled(t, p, spec.Owner)
	if len(mine) != 2 {
		t.Fatalf("of an address and a rule observed are %v", mine)
	}
	for _, r := range mine {
		released := r
		released.Owners = nil
		if err := p.Update(t.Context(), spec.Owner, r, released); err != nil {
			t.Fatal(err)
		}
	}
	if left := labelled(t, p, spec.Owner); len(left) > 0 {
		t.Errorf("let go, and still the owner's: %v", left)
	}
	all, err := p.List(t.Context(), spec.Owner.ClusterID)
	if err != nil || slices.ContainsFunc(all, func(r cloud.Resource) bool { return r.Kind == gcp.KindAddress || r.Kind == gcp.KindForwardingRule }) {
		t.Errorf("let go, and still the cluster's: %v (%v)", all, err)
	}
	for i := range mine {
		taken := mine[i]
		taken.Owners, taken.Adopted, taken.Lent = []cloud.OwnerID{other.Owner.ID()}, "x", true
		if err := p.Update(t.Context(), other.Owner, mine[i], taken); err != nil {
			t.Fatal(err)
		}
	}
	got := labelled(t, p, other.Owner)
	if len(got) != 2 || slices.ContainsFunc(got, func(r cloud.Resource) bool { return r.Adopted != "x" || !r.Lent }) {
		t.Errorf("the other owner has %v", got)
	}
	if left := labelled(t, p, spec.Owner); len(left) > 0 {
		t.Errorf("another's, and still the owner's: %v", left)
	}
}
