package cloudproviders

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// maxRequests bounds the search for the last request of a step.
const maxRequests = 100

// stopped runs a step and stops the manager at the n-th request, before or after the server does it; false if the step is
// through before.
func (w *world) stopped(n int, after bool, step func(context.Context) (cloud.Outcome, error)) bool {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	seen := 0
	w.amazon.setHook(func(isAfter bool) bool {
		if !isAfter {
			seen++
		}
		if seen == n && isAfter == after {
			cancel()
		}
		return ctx.Err() != nil
	})
	_, _ = step(ctx) // what it says, nobody hears
	w.amazon.setHook(nil)
	return seen >= n
}

// open is what is left of being stopped inside of a method, which is the provider's own and all that an Opaque one leaves
// open (Opaque/CrashInsideACall). It makes the rule about path MTU only together with the others, and looks for target
// groups and rules by the balancer alone: once that is deleted they are not found again.
var open = []string{"create lacks rule icmp", "delete leaves group k8s-shop-cart", "delete leaves rule icmp", "delete leaves rule tcp"}

// TestStopped stops the manager before and after each request of creation and deletion. Another one tells the provider
// again, and the cloud ends up as without the stop.
func TestStopped(t *testing.T) {
	w := newWorld(t)
	w.settled(w.pass(t.Context()))
	want := w.amazon.things(w.t)
	found := map[string]bool{}
	for _, step := range []string{"create", "delete"} {
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				if n > maxRequests {
					t.Fatalf("%s takes more than %d requests", step, maxRequests)
				}
				w := newWorld(t)
				run := w.pass
				if step == "delete" {
					w.settled(w.pass(t.Context()))
					run = w.release
				}
				if !w.stopped(n, after, run) {
					break
				}
				w.restart()
				if step == "create" {
					w.settled(w.pass(t.Context()))
					note(found, "create lacks ", want, w.amazon.things(w.t))
					note(found, "create has ", w.amazon.things(w.t), want)
				}
				w.settled(w.release(t.Context()))
				note(found, step+" leaves ", w.amazon.things(w.t), nil)
			}
		}
	}
	if diff := cmp.Diff(open, slices.Sorted(maps.Keys(found))); diff != "" {
		t.Errorf("being stopped leaves something else than is known (-known +found):\n%s", diff)
	}
}

// note notes the kinds of what is in a and not in b.
func note(found map[string]bool, what string, a, b []string) {
	for _, thing := range a {
		if !slices.Contains(b, thing) {
			words := strings.Fields(thing)
			name := words[1]
			if words[0] == "group" {
				name = name[:strings.LastIndex(name, "-")] // its hash
			}
			found[what+words[0]+" "+name] = true
		}
	}
}
