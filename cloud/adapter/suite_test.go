package adapter_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/adapter"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/apart"
)

func unchanged(p *adapter.Provider) cloud.Provider { return p }

// suiteEnv names the one of suites that TestSuite runs.
const suiteEnv = "FAIRLEAD_SUITE"

var suites = map[string]adapter.Options{
	"OneCallAtOnce": {},
	"ManyCalls":     {Concurrency: 4, ClusterName: "blue"},
}

// notPromised are the cases whose outcome is up to what the adapter passes its Services on to.
var notPromised = []string{
	"BlockedChangesNothing", "EveryCallIsCounted", "ForeignIsUntouched", "ListIsComplete",
	"Opaque/CrashInsideACall", "Opaque/DriftIsFound", "Opaque/OrderOfSteps", "Opaque/PlanSaysWhatIsDone",
	"TargetsAreAddedFirst",
}

// notDeclared are those about what nothing that the adapter passes its Services on to can do.
var notDeclared = []string{
	"AdoptedWithConsent", "AdoptionCrashAnywhere", "Feature/Share", "HealthIsTold", "NotAdoptedWithoutConsent",
	"OfferedAndTakenOver", "PodsAreCheap", "PodsAreTargets", "SharedConcurrently", "SharedCrashAnywhere", "SharedInAnyOrder",
}

// TestSuite is what TestProvider runs in a process of its own, since cases of it are skipped. By itself it tests nothing.
func TestSuite(t *testing.T) {
	if name := os.Getenv(suiteEnv); name != "" {
		cloudtest.Run(t, harness(suites[name], unchanged))
	}
}

// TestProvider: the adapter passes the suite, of which exactly what it cannot promise or does not declare is skipped.
func TestProvider(t *testing.T) {
	skipped := slices.Sorted(slices.Values(slices.Concat(notPromised, notDeclared)))
	for name := range suites {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apart.Passes(t, "TestSuite", suiteEnv+"="+name, skipped...)
		})
	}
}

// brokenEnv names the defect that TestBroken runs the suite with.
const brokenEnv = "FAIRLEAD_BROKEN_ADAPTER"

// defects, and the case of the suite that must see each.
var defects = map[string]struct{ defect, property string }{
	"forgetful":  {"forgets what it told when the manager stops", "NoChangeNoWrite"},
	"trusting":   {"takes a call that was stopped for done", "CrashAnywhere"},
	"incurious":  {"deletes nothing that it is in doubt of", "CrashAnywhere"},
	"thorough":   {"ensures where nodes alone differ", "NodesAreCheap"},
	"uninformed": {"leaves out what it is told", "Feature/SourceRanges"},
}

// broken is the adapter with one defect.
type broken struct {
	cloud.Provider
	defect string
}

func (b broken) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	if b.defect == "uninformed" {
		spec.SourceRanges = nil
	}
	return b.Provider.Desired(spec)
}

// Observe of the incurious sees only what some call succeeded for.
func (b broken) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	resources, err := b.Provider.Observe(ctx, owner)
	if b.defect == "incurious" {
		resources = slices.DeleteFunc(resources, func(r cloud.Resource) bool { return r.Attributes == nil })
	}
	return resources, err
}

func (b broken) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	if b.defect != "thorough" {
		return b.Provider.SyncTargets(ctx, changes)
	}
	errs := make([]error, len(changes))
	for i, change := range changes {
		for range 2 {
			_, errs[i] = b.Create(ctx, change.Owner, change.Resource)
		}
	}
	return errs
}

// undoubting takes the marks of doubt off what is kept.
type undoubting struct{ *memory }

func (u undoubting) Keep(ctx context.Context, owner cloud.Owner, text string) error {
	return u.memory.Keep(ctx, owner, strings.Replace(text, `,"doubt":true`, "", 1))
}

func brokenHarness(defect string) func(t *testing.T) *cloudtest.Harness {
	return func(t *testing.T) *cloudtest.Harness {
		h := harness(adapter.Options{}, unchanged)(t)
		b, m := newBalancers(), newMemory()
		h.SetHook, h.Snapshot = b.setHook, b.snapshot
		h.New = func() cloud.Provider {
			var kept cloud.Memory = m
			switch defect {
			case "forgetful":
				kept = nil
			case "trusting":
				kept = undoubting{m}
			}
			return broken{adapter.New(b, kept, adapter.Options{Classify: classify}), defect}
		}
		return h
	}
}

// TestBroken runs the suite in another process on an adapter with each defect, and expects the case that is about it to
// fail.
func TestBroken(t *testing.T) {
	if defect := os.Getenv(brokenEnv); defect != "" {
		cloudtest.Run(t, brokenHarness(defect))
		return
	}
	for name, d := range defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apart.Catches(t, "TestBroken/"+d.property, brokenEnv+"="+name)
		})
	}
}

// TestNotPromised holds the suite to naming what it leaves out.
func TestNotPromised(t *testing.T) {
	o := apart.Run(t.Context(), "TestSuite", suiteEnv+"=OneCallAtOnce")
	if o.Err != nil {
		t.Fatalf("%v:\n%s", o.Err, o.Output)
	}
	for _, name := range notPromised {
		_, after, _ := strings.Cut(o.Output, "=== RUN   TestSuite/"+name+"\n")
		if reason, _, _ := strings.Cut(after, "\n"); !strings.Contains(reason, "not promised, since the provider is Opaque: ") {
			t.Errorf("%s is not skipped with the reason: %q", name, reason)
		}
	}
}
