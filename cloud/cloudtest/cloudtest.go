package cloudtest

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// Harness is one empty cloud and the ways to look at it behind the provider's back.
type Harness struct {
	// New returns a provider for the cloud, as after a restart of the manager: it remembers nothing. All providers of a
	// harness share one cloud.Memory, if they are Opaque.
	New func() cloud.Provider
	// SetHook has the cloud call hook before and after each call that reaches it: behind cloud.Wait, which has calls wait
	// before they are sent. An error of the hook is returned instead of the call being done, or instead of its answer. Nil
	// takes the hook away. The hook may make calls itself.
	SetHook func(hook func(Call) error)
	// Snapshot describes each thing in the cloud as it is now, whoever owns it, without ids or addresses that differ from
	// one run to the next, sorted.
	Snapshot func() []string
	// PlantForeign makes a thing that the owner does not own, under the name that the provider would give to r. The
	// ids in r.DependsOn are empty where r needs others: make it without them, or return ErrCannotPlant.
	PlantForeign func(owner cloud.Owner, r cloud.Resource) error
	// PlantBalancer makes a balancer as somebody else would, who does not know of us, and returns its id. Only for a
	// provider that declares Adopt.
	PlantBalancer func(Plant) (id string, err error)
	// Throttled returns an error as the cloud's client would for too many calls, with the time to wait, or without where
	// that is 0. For a cloud that never says so, or never for how long: a *cloud.Error of class Throttled.
	Throttled func(after time.Duration) error
	// Address that a Service can request, for a provider with RequestedAddress.
	Address string
	// SetAnswering has a target answer health checks, or not. At first all do. Needed for a provider with TargetHealth.
	SetAnswering func(target cloud.Target, answering bool)
	// Replacements are annotations, by a name for each set of them, that ask for another of what is Fixed, such as another
	// scheme. Beside them the suite asks for another address where the provider has RequestedAddress. Needed where it has not,
	// and something is Fixed.
	Replacements map[string]map[string]string
	// Refused are annotations, by a name for each set of them, that Desired takes and that ask for something Fixed which the cloud
	// refuses to make; RefusedAddress is such an address. A Service that asks for it keeps what it has, also where replacement is
	// allowed. Both are for a provider that is a cloud.Checker; nil and empty: it is not tried.
	Refused        map[string]map[string]string
	RefusedAddress string
	// Adapt makes a Spec of the suite fit: parameters or annotations that the provider cannot do without. Nil leaves
	// it.
	Adapt func(cloud.Spec) cloud.Spec
}

// Plant is a balancer of somebody else's.
type Plant struct {
	// Spec that it is complete for, targets included.
	Spec cloud.Spec
	// AdoptableBy is the value of the tag fairlead.dev/adoptable-by on the balancer; empty: there is none.
	AdoptableBy string
	// MadeFor: it carries the marks of a controller that made it for this very Spec.Owner.
	MadeFor bool
}

// Call is one call that reaches the cloud; for an Opaque provider one that it passes on, whatever that sends.
type Call struct {
	// Name of the call, for messages.
	Name string
	// Write: it changes the cloud.
	Write bool
	// After: it is done, and its answer is on the way.
	After bool
}

// ErrCannotPlant: things of that kind cannot stand alone in this cloud.
var ErrCannotPlant = errors.New("it cannot stand alone")

// Run holds a provider to the contract. The factory is called for each case anew, and more than once in some. Each case
// runs in a bubble of testing/synctest, where time is virtual and waits cost nothing: emulator and client must be in
// this process and not talk over sockets, so an HTTP client gets a transport that calls the emulator's handler. A kernel
// that answers at once needs no emulator.
func Run(t *testing.T, factory func(t *testing.T) *Harness) { run(t, factory, true) }

// RunLive is Run for clouds outside of this process, in real time.
func RunLive(t *testing.T, factory func(t *testing.T) *Harness) { run(t, factory, false) }

func run(t *testing.T, factory func(t *testing.T) *Harness, virtual bool) {
	caps := factory(t).New().Capabilities()
	in := func(name string, test func(t *testing.T, factory func(t *testing.T) *Harness)) {
		t.Run(name, func(t *testing.T) {
			if why, ok := notPromised[name]; ok && caps.Opaque {
				t.Skip("not promised, since the provider is Opaque: " + why)
			}
			if virtual {
				synctest.Test(t, func(t *testing.T) { test(t, factory) })
			} else {
				test(t, factory)
			}
		})
	}
	without := func(name, why string) {
		t.Run(name, func(t *testing.T) { t.Skip(why) })
	}
	in("DesiredIsPure", testPure)
	in("ReplayIsIdempotent", testReplay)
	in("NoChangeNoWrite", testNoWrite)
	in("CrashAnywhere", func(t *testing.T, factory func(t *testing.T) *Harness) { testCrashes(t, factory, alone) })
	in("ForeignIsUntouched", testForeign)
	in("DeleteWhateverIsThere", testPartialDelete)
	in("ThrottlingWithRetryAfter", testThrottlingWithRetryAfter)
	in("ThrottlingWithoutRetryAfter", testThrottlingWithoutRetryAfter)
	if virtual {
		in("EveryCallIsCounted", testCounted)
	} else {
		without("EveryCallIsCounted", "it takes virtual time: the emulator must be in the test's process (Run)")
	}
	in("BlockedChangesNothing", testBlocked)
	in("NodesAreCheap", testNodes)
	in("FailedTargetsAreTold", testTargetsFail)
	in("TargetsAreAddedFirst", testAddedFirst)
	in("ListIsComplete", testList)
	if caps.PodTargets {
		in("PodsAreTargets", testPods)
		in("PodsAreCheap", testPodsAreCheap)
	} else {
		for _, name := range []string{"PodsAreTargets", "PodsAreCheap"} {
			without(name, "the provider does not declare PodTargets: Services that ask for it are refused before any call")
		}
	}
	if caps.TargetHealth {
		in("HealthIsTold", testHealth)
	} else {
		without("HealthIsTold", "the provider does not declare TargetHealth: Pods with a readiness gate wait to be registered, no longer")
	}
	if caps.Share {
		in("SharedInAnyOrder", testSharedInAnyOrder)
		in("SharedConcurrently", testSharedConcurrently)
		in("SharedCrashAnywhere", func(t *testing.T, factory func(t *testing.T) *Harness) { testCrashes(t, factory, beside) })
	} else {
		for _, name := range []string{"SharedInAnyOrder", "SharedConcurrently", "SharedCrashAnywhere"} {
			without(name, "the provider does not declare Share: Services that ask for it are refused before any call")
		}
	}
	for _, c := range adoptions {
		if caps.Adopt {
			in(c.name, c.test)
		} else {
			without(c.name, "the provider does not declare Adopt: Services that ask for it are refused before any call")
		}
	}
	if caps.Opaque {
		for _, name := range slices.Sorted(maps.Keys(beyondOpaque)) {
			without(name, "not promised, since the provider is Opaque: "+beyondOpaque[name])
		}
	}
	for _, f := range features {
		switch {
		case f.declared(caps):
			in("Feature/"+f.name, func(t *testing.T, factory func(t *testing.T) *Harness) { testFeature(t, factory(t), f) })
		case f.name == "SourceRanges" && caps.Passthrough:
			without("Feature/"+f.name, "the provider does not declare "+f.name+", but Passthrough: nodes enforce them")
		default:
			without("Feature/"+f.name, "the provider does not declare "+f.name+": Services that need it are refused before any call")
		}
	}
}
