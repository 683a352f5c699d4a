package gcp_test

import (
	"fmt"
	"net/http"
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

// members expects the machines of the only endpoint group.
func members(t *testing.T, c *gcptest.Cloud, numbers ...int) {
	t.Helper()
	var want []string
	for _, i := range numbers {
		want = append(want, gcptest.InstanceName(i))
	}
	slices.Sort(want)
	if all := groups(c); len(all) != 1 || !strings.HasSuffix(all[0], " "+fmt.Sprint(want)) {
		t.Errorf("groups are %q, want one of %v", all, want)
	}
}

// TestDeadMachine: one machine that is gone, while its node is there, keeps neither others from coming in nor others from going; it is told
// as what the Service waits for.
func TestDeadMachine(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	pass(t, p, service(0, 0).Owner, onMachines([]int{0, 2}))
	c.RemoveInstance(gcptest.Zone(0), gcptest.InstanceName(2))
	for _, step := range []struct{ nodes, members []int }{
		{[]int{0, 2, 4, 6}, []int{0, 4, 6}},
		{[]int{0, 2, 4, 6}, []int{0, 4, 6}}, // it alone is tried again
		{[]int{2, 4}, []int{4}},
		{[]int{2, 6}, []int{6}}, // all that come are new
	} {
		_, err := try(t, p, service(0, 0).Owner, onMachines(step.nodes))
		if !cloud.IsClass(err, cloud.Pending) || !strings.Contains(err.Error(), "machine "+gcptest.InstanceName(2)+" cannot be attached") {
			t.Errorf("the error is %v", err)
		}
		members(t, c, step.members...)
	}
	// What is there stays where nothing can come in its place.
	if _, err := try(t, p, service(0, 0).Owner, onMachines([]int{2})); !cloud.IsClass(err, cloud.Pending) {
		t.Errorf("without any machine that is there the error is %v", err)
	}
	members(t, c, 6)
	pass(t, p, service(0, 0).Owner, onMachines([]int{6}))
	members(t, c, 6)
}

// TestDeadMachineIsFoundLate: where the service finds out only after it accepted a call, what comes is sent again in halves.
func TestDeadMachineIsFoundLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		p := c.Provider()
		settle(t, p, service(0, 0).Owner, onMachines([]int{0}))
		c.Inject(gcptest.Fault{Method: "compute.networkEndpointGroups.attachNetworkEndpoints", Late: true,
			Err: &gcptest.Refusal{Status: http.StatusNotFound, Reason: "RESOURCE_NOT_FOUND", Message: "The resource 'n7' was not found"}})
		attaches := 0
		c.SetHook(func(call cloudtest.Call) error {
			if strings.HasSuffix(call.Name, "/attachNetworkEndpoints") && !call.After {
				attaches++
			}
			return nil
		})
		told := settle(t, p, service(0, 0).Owner, onMachines([]int{0, 2, 4, 6}))
		if len(told) != 1 || told[0].Class != cloud.NotFound || attaches != 3 {
			t.Errorf("the user was told %v, and %d calls were sent, want one whole one and two halves", told, attaches)
		}
		members(t, c, 0, 2, 4, 6)
	})
}

// TestLargeGroup: more machines than a call takes come and go in several.
func TestLargeGroup(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	out := pass(t, p, service(0, 0).Owner, onMachines([]int{0}))
	i := slices.IndexFunc(out.Observed, func(r cloud.Resource) bool { return r.HasTargets })
	var many []cloud.Target
	for n := range 1001 {
		many = append(many, cloud.Target{ID: fmt.Sprintf("m%04d", n)})
		c.AddInstance(gcptest.Zone(0), many[n].ID)
	}
	sent := map[string]int{}
	c.SetHook(func(call cloudtest.Call) error {
		if call.Write && !call.After {
			sent[call.Name[strings.LastIndexByte(call.Name, '/')+1:]]++
		}
		return nil
	})
	for _, change := range []cloud.TargetChange{{Add: many}, {Remove: many}} {
		change.Resource = out.Observed[i]
		if errs := p.SyncTargets(t.Context(), []cloud.TargetChange{change}); errs != nil {
			t.Error(errs)
		}
	}
	if diff := cmp.Diff(map[string]int{"attachNetworkEndpoints": 3, "detachNetworkEndpoints": 3}, sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	members(t, c, 0)
}

// TestDetachingIsBehind: machines that are listed still, and that the service has no more, are waited for: nobody has made a mistake.
func TestDetachingIsBehind(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	pass(t, p, service(0, 0).Owner, onMachines([]int{0, 2, 4}))
	c.Inject(gcptest.Fault{Method: "compute.networkEndpointGroups.detachNetworkEndpoints",
		Err: &gcptest.Refusal{Status: http.StatusBadRequest, Reason: "invalid", Message: "The endpoint is not in the group."}})
	if _, err := try(t, p, service(0, 0).Owner, onMachines([]int{0})); !cloud.IsClass(err, cloud.Retry) {
		t.Errorf("the error is %v", err)
	}
	members(t, c, 0, 2, 4)
	pass(t, p, service(0, 0).Owner, onMachines([]int{0}))
	members(t, c, 0)
}

// TestMissingGroup: where the group is not there, either, no machine is looked for.
func TestMissingGroup(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	var targets []cloud.Target
	for i := range 256 {
		targets = append(targets, cloud.Target{ID: fmt.Sprintf("m%03d", i)})
	}
	sent := 0
	c.SetHook(func(call cloudtest.Call) error {
		if !call.After {
			sent++
		}
		return nil
	})
	errs := p.SyncTargets(t.Context(), []cloud.TargetChange{{Resource: cloud.Resource{Kind: "NetworkEndpointGroup", ID: gcptest.Zone(0) + "/gone"}, Add: targets}})
	if len(errs) != 1 || p.Classify(errs[0]).Class != cloud.NotFound || sent > 10 {
		t.Errorf("after %d calls the errors are %v", sent, errs)
	}
}
