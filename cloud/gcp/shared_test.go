package gcp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// groups are the endpoint groups that there are, each with its machines.
func groups(c *gcptest.Cloud) []string {
	var all []string
	for _, line := range c.Snapshot() {
		if path := strings.Fields(line)[0]; strings.Contains(path, "/networkEndpointGroups/") {
			all = append(all, path+" "+line[strings.LastIndexByte(line, '['):])
		}
	}
	return all
}

// TestGroupsAreShared: however many Services there are, there is one endpoint group for each zone, of this cluster's Services
// alone; it goes with the last of them.
func TestGroupsAreShared(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	for i := range 3 {
		pass(t, p, service(i, 2).Owner, service(i, 2))
	}
	want := groups(c)
	if len(want) != 2 {
		t.Fatalf("three Services on two zones have the groups %q", want)
	}
	other := service(9, 2)
	other.Owner.ClusterID += "b" // the filters of lists let it pass, too
	pass(t, p, other.Owner, other)
	pass(t, p, service(0, 2).Owner, service(0, 2))
	if all := groups(c); len(all) != 4 {
		t.Errorf("with a Service of another cluster there are %q", all)
	}
	pass(t, p, other.Owner, nil)
	for i := range 3 {
		if diff := cmp.Diff(want, groups(c)); diff != "" {
			t.Errorf("while Service %d is there (-want +got):\n%s", i, diff)
		}
		pass(t, p, service(i, 2).Owner, nil)
	}
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestGroupsElsewhere: a group of the cluster in another region is another manager's, and one that has the name of ours and another cluster's mark
// is not used.
func TestGroupsElsewhere(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(desired, func(r cloud.Resource) bool { return r.Kind == gcp.KindEndpointGroup })
	name := gcp.NameOf(spec.Owner, &desired[i])
	c.AddEndpointGroup("other-west2-a", name, "fairlead.dev/cluster="+spec.Owner.ClusterID+" fairlead.dev/key=other-west2-a")
	all, err := p.List(t.Context(), spec.Owner.ClusterID)
	if err != nil || len(all) > 0 {
		t.Errorf("of another region there are %+v (%v)", all, err)
	}
	c.AddEndpointGroup(gcptest.Zone(0), name, "fairlead.dev/cluster=cluster-b")
	if _, err := p.Create(t.Context(), spec.Owner, desired[i]); !cloud.IsClass(err, cloud.Conflict) {
		t.Errorf("another cluster's group is taken: %v", err)
	}
}

// TestGroupsInAnyOrder has one Service come or go, and another do so before each call of the first. In the end the cloud is as
// after one and then the other.
func TestGroupsInAnyOrder(t *testing.T) {
	come := func(c *gcptest.Cloud, i int, comes bool) {
		t.Helper()
		var spec *cloud.Spec
		if comes {
			spec = service(i, 2)
		}
		for range 10 {
			if out, err := try(t, c.Provider(), service(i, 2).Owner, spec); err == nil && out.Left.Empty() {
				return
			}
		}
		t.Fatalf("Service %d does not come to an end", i)
	}
	for name, tc := range map[string]struct{ first, last [2]bool }{
		"BothCome":                  {[2]bool{}, [2]bool{true, true}},
		"OneComesAsTheLastGoes":     {[2]bool{false, true}, [2]bool{true, false}},
		"TheLastGoesAsOneComes":     {[2]bool{true, false}, [2]bool{false, true}},
		"BothGo":                    {[2]bool{true, true}, [2]bool{}},
		"OneGoes, and one is there": {[2]bool{true, true}, [2]bool{false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			reference := gcptest.New(gcptest.Options{})
			for i, is := range tc.last {
				if is {
					come(reference, i, true)
				}
			}
			want := reference.Snapshot()
			for at, calls := 1, 1; calls >= at; at++ {
				c := gcptest.New(gcptest.Options{})
				for i, is := range tc.first {
					if is {
						come(c, i, true)
					}
				}
				inside := false
				calls = 0
				c.SetHook(func(call cloudtest.Call) error {
					if call.After || inside {
						return nil
					}
					if calls++; calls == at {
						inside = true
						come(c, 1, tc.last[1])
						inside = false
					}
					return nil
				})
				come(c, 0, tc.last[0])
				c.SetHook(nil)
				if calls < at {
					break
				}
				come(c, 1, tc.last[1]) // which may have been served by what the first one took along
				if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
					t.Errorf("at call %d (-want +got):\n%s", at, diff)
				}
			}
		})
	}
}

// TestLetGoLeavesOthersTheirNodes: what is let go after an adoption loses its nodes, and the Services that share them do not.
func TestLetGoLeavesOthersTheirNodes(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	other := service(7, 2)
	pass(t, c.Provider(), other.Owner, other)
	want := groups(c)
	c.SetHook(func(call cloudtest.Call) error {
		if strings.HasSuffix(call.Name, "/detachNetworkEndpoints") {
			t.Errorf("%s was sent", call.Name)
		}
		return nil
	})
	adopted(t, c)
	if diff := cmp.Diff(want, slices.DeleteFunc(groups(c), func(line string) bool { return strings.Contains(line, "/hand-made") })); diff != "" {
		t.Errorf("the groups of the other Service (-before +after):\n%s", diff)
	}
}
