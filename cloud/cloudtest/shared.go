package cloudtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// testSharedInAnyOrder has one Service join or leave the balancer of a group, and another do so before each call of the
// first, and expects what two such changes one after the other give. Whoever stays keeps its address. What one gives up that no
// other has goes.
func testSharedInAnyOrder(t *testing.T, factory func(t *testing.T) *Harness) {
	giveUpFamily(t, factory)
	cases := []struct {
		name string
		// members at first, and at last; the first one of the test is 1, the one in between 2.
		first, last []int
	}{
		{"both join", nil, []int{1, 2}},
		{"both join a third", []int{3}, []int{1, 2, 3}},
		{"one joins as the last leaves", []int{2}, []int{1}},
		{"the last leaves as one joins", []int{1}, []int{2}},
		{"both leave", []int{1, 2}, nil},
		{"both leave a third", []int{1, 2, 3}, []int{3}},
	}
	for _, tc := range cases {
		reference := factory(t)
		for _, n := range tc.last {
			settleMember(t, reference, n, true)
		}
		want := reference.Snapshot()
		for at := 1; ; at++ {
			if at > maxCalls {
				t.Fatalf("%s: more than %d calls", tc.name, maxCalls)
			}
			h := factory(t)
			for _, n := range tc.first {
				settleMember(t, h, n, true)
			}
			calls, inside := 0, false
			var address []cloud.Ingress
			h.SetHook(func(c Call) error {
				if c.After || inside {
					return nil
				}
				if calls++; calls == at {
					inside = true
					address = settleMember(t, h, 2, slices.Contains(tc.last, 2))
					inside = false
				}
				return nil
			})
			settleMember(t, h, 1, slices.Contains(tc.last, 1))
			h.SetHook(nil)
			if calls < at {
				break
			}
			// At once: another pass of the second one would put right what the first one did to it.
			if diff := cmp.Diff(want, h.Snapshot()); diff != "" {
				t.Errorf("%s, at call %d: the cloud is not as after one and then the other (-want +got):\n%s", tc.name, at, diff)
			}
			if slices.Contains(tc.last, 2) {
				if diff := cmp.Diff(address, settleMember(t, h, 2, true)); diff != "" {
					t.Errorf("%s, at call %d: the one that stays lost its address (-before +after):\n%s", tc.name, at, diff)
				}
			}
		}
	}
}

// giveUpFamily has a Service of a group give up a family that it alone has, and expects what there is where it never had that.
func giveUpFamily(t *testing.T, factory func(t *testing.T) *Harness) {
	reference, h := factory(t), factory(t)
	first, both := member(h, 1), member(h, 2)
	second := both
	first.Families, second.Families = first.Families[:1], both.Families[:1]
	for _, spec := range []cloud.Spec{first, second} {
		settle(t, reference.restart(), spec.Owner, &spec)
	}
	for _, spec := range []cloud.Spec{first, both, second} {
		settle(t, h.restart(), spec.Owner, &spec)
	}
	if diff := cmp.Diff(reference.Snapshot(), h.Snapshot()); diff != "" {
		t.Errorf("a Service gave up a family that no other has: the cloud is not as where it never had that (-want +got):\n%s", diff)
	}
}

// settleMember has a Service join the group or leave, and returns where its clients connect to.
func settleMember(t *testing.T, h *Harness, n int, joins bool) []cloud.Ingress {
	t.Helper()
	spec := member(h, n)
	if !joins {
		settle(t, h.restart(), spec.Owner, nil)
		return nil
	}
	return cloud.Ingresses(settle(t, h.restart(), spec.Owner, &spec).Observed)
}

// testSharedConcurrently has many Services join the balancer of a group at once, half of them leave, then the others.
func testSharedConcurrently(t *testing.T, factory func(t *testing.T) *Harness) {
	const members = 8
	reference, h := factory(t), factory(t)
	// All of them observe, then all of them make their first call, and so on.
	h.SetHook(func(c Call) error {
		if !c.After {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
	p := h.restart()
	together := func(from, to int, joins bool) {
		t.Helper()
		errs := make([]error, members)
		var wg sync.WaitGroup
		for n := from; n < to; n++ {
			wg.Go(func() {
				spec := member(h, n)
				if joins {
					_, errs[n] = converge(p, spec.Owner, &spec)
				} else {
					_, errs[n] = converge(p, spec.Owner, nil)
				}
			})
			settleMember(t, reference, n, joins)
		}
		wg.Wait()
		for n, err := range errs {
			if err != nil {
				t.Fatalf("Service %d: %v", n, err)
			}
		}
		if diff := cmp.Diff(reference.Snapshot(), h.Snapshot()); diff != "" {
			t.Errorf("Services %d to %d, joining %t: the cloud is not as after one by one (-want +got):\n%s", from, to-1, joins, diff)
		}
	}
	together(0, members, true)
	addresses := map[string]bool{}
	for n := range members {
		addresses[fmt.Sprint(settleMember(t, h, n, true))] = true
	}
	if len(addresses) != 1 {
		t.Errorf("the Services of one group have different addresses: %v", addresses)
	}
	together(0, members/2, false)
	together(members/2, members, false)
	if left := h.Snapshot(); len(left) > 0 {
		t.Errorf("left after all have gone: %q", left)
	}
}
