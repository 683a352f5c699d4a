package gcp_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestBlockedFollowsCluster: a balancer whose change of scheme is blocked is asked for health where the Service's nodes answer, and
// gets nodes of a new zone, as if the change had not been asked for.
func TestBlockedFollowsCluster(t *testing.T) {
	other := map[string]string{"External": "Internal", "Internal": "External"}
	for _, scheme := range []string{"External", "Internal"} {
		want, have := gcptest.New(gcptest.Options{}), gcptest.New(gcptest.Options{})
		lives := func(p cloud.Provider, edits ...func(*cloud.Spec)) cloud.Outcome {
			spec := service(0, 2)
			spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": scheme}
			for _, edit := range edits {
				edit(spec)
			}
			out, err := try(t, p, spec.Owner, spec)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		grown := func(spec *cloud.Spec) {
			late := spec.Nodes[0]
			late.Name, late.Zone = "late", gcptest.Region+"-c"
			late.ProviderID = "gce://" + gcptest.Project + "/" + late.Zone + "/late"
			spec.Nodes = append(slices.Clone(spec.Nodes), late)
		}
		blocked := func(spec *cloud.Spec) {
			spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": other[scheme]}
		}
		for _, c := range []*gcptest.Cloud{want, have} {
			c.AddInstance(gcptest.Region+"-c", "late")
		}
		p := want.Provider()
		lives(p)
		lives(p, local, grown)
		p = have.Provider()
		lives(p)
		out := lives(p, blocked, local, grown)
		if len(out.Left.Blocked) == 0 || len(out.Left.Operations) > 0 {
			t.Errorf("left: %+v", out.Left)
		}
		if diff := cmp.Diff(want.Snapshot(), have.Snapshot()); diff != "" {
			t.Errorf("%s, (-as if not asked for +blocked):\n%s", scheme, diff)
		}
	}
}

// TestBlockedForgetsZones: what is blocked sends to no machine of a zone that has no node any more, once those of another zone are there.
func TestBlockedForgetsZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		p, spec := c.Provider(), service(0, 3)
		other := service(0, 3)
		other.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
		moved := spec.Nodes[1:2] // of zone b
		spec.Nodes = []cloud.Node{spec.Nodes[0], spec.Nodes[2]}
		other.Nodes = moved
		settle(t, p, spec.Owner, spec)
		c.SetHook(func(cloudtest.Call) error {
			if !slices.ContainsFunc(groups(c), func(line string) bool { return !strings.HasSuffix(line, " []") }) {
				t.Error("it has no machine")
			}
			return nil
		})
		for range 20 {
			if _, err := try(t, p, other.Owner, other); err != nil && !cloud.IsClass(err, cloud.Pending) {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		all := groups(c)
		if len(all) != 2 || !strings.HasSuffix(all[0], " []") || !strings.HasSuffix(all[1], " [n2]") {
			t.Errorf("groups are %q", all)
		}
	})
}
