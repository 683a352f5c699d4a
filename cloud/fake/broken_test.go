package fake_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// brokenEnv names the defect that TestBroken runs the suite with.
const brokenEnv = "FAIRLEAD_BROKEN_PROVIDER"

// broken is the real provider with one defect, by name.
type broken struct {
	cloud.Provider
	defect string
}

// defects, and the case of the suite that must see each.
var defects = map[string]string{
	"impure":    "DesiredIsPure",
	"unsettled": "NoChangeNoWrite",
	"unmarked":  "CrashAnywhere",
	"greedy":    "ForeignIsUntouched",
	"strict":    "DeleteWhateverIsThere",
	"deaf":      "Throttling",
	"chatty":    "NodesAreCheap",
}

var calls atomic.Int32

// Desired: "impure" gives another answer each time.
func (b broken) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	resources, err := b.Provider.Desired(spec)
	if b.defect == "impure" && len(resources) > 0 {
		resources[0].Attributes["pool"] = fmt.Sprint(calls.Add(1))
	}
	return resources, err
}

// Observe: "unsettled" reads an attribute otherwise than Desired writes it; "greedy" takes everything for its own.
func (b broken) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	if b.defect == "greedy" {
		all, err := b.List(ctx, "")
		for i := range all {
			all[i].Owners = []cloud.OwnerID{owner.ID()}
		}
		return all, err
	}
	resources, err := b.Provider.Observe(ctx, owner)
	for i := range resources {
		if b.defect == "unsettled" && resources[i].Kind == "Balancer" {
			resources[i].Attributes["affinitySeconds"] = "0s"
		}
	}
	return resources, err
}

// Create: "unmarked" marks what it makes in a second call.
func (b broken) Create(ctx context.Context, owner cloud.Owner, r cloud.Resource) (cloud.Resource, error) {
	if b.defect == "unmarked" {
		nobody := owner
		nobody.ServiceUID = fmt.Sprint("nobody-", calls.Add(1))
		made, err := b.Provider.Create(ctx, nobody, r)
		if err != nil {
			return made, err
		}
		return made, b.Update(ctx, owner, made, r)
	}
	return b.Provider.Create(ctx, owner, r)
}

// Delete: "strict" fails on what is gone.
func (b broken) Delete(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	if b.defect == "strict" {
		resources, err := b.Provider.Observe(ctx, owner)
		if err != nil {
			return err
		}
		for _, other := range resources {
			if other.ID == r.ID {
				return b.Provider.Delete(ctx, owner, r)
			}
		}
		return fmt.Errorf("%s does not exist", r.Name())
	}
	return b.Provider.Delete(ctx, owner, r)
}

// SyncTargets: "chatty" makes a call for each target.
func (b broken) SyncTargets(ctx context.Context, changes []cloud.TargetChange) error {
	if b.defect != "chatty" {
		return b.Provider.SyncTargets(ctx, changes)
	}
	for _, change := range changes {
		for _, target := range change.Add {
			one := cloud.TargetChange{Owner: change.Owner, Resource: change.Resource, Add: []cloud.Target{target}}
			if err := b.Provider.SyncTargets(ctx, []cloud.TargetChange{one}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Classify: "deaf" takes throttling for any other error.
func (b broken) Classify(err error) *cloud.Error {
	if b.defect == "deaf" {
		return &cloud.Error{Class: cloud.Retry, Err: err}
	}
	return b.Provider.Classify(err)
}

// TestBroken is what TestSuiteCatchesDefects runs in a process of its own, since it must fail. By itself it tests nothing.
func TestBroken(t *testing.T) {
	defect := os.Getenv(brokenEnv)
	if defect == "" {
		return
	}
	cloudtest.Run(t, func(t *testing.T) *cloudtest.Harness {
		h := harness(0, false)(t)
		provider := h.New
		h.New = func() cloud.Provider { return broken{provider(), defect} }
		return h
	})
}

// TestSuiteCatchesDefects shows of each property that the suite would see its absence.
func TestSuiteCatchesDefects(t *testing.T) {
	for defect, property := range defects {
		t.Run(defect, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestBroken$/^"+property+"$", "-test.v")
			cmd.Env = append(os.Environ(), brokenEnv+"="+defect)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBroken/"+property) {
				t.Errorf("%s passes a provider that is %s (%v):\n%s", property, defect, err, out)
			}
			if strings.Contains(string(out), "panic:") {
				t.Errorf("the suite panicked:\n%s", out)
			}
		})
	}
}
