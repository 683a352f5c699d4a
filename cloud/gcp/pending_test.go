package gcp_test

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestGroupOutlivesWhoBeganIt: what attaching failed with is told to those that still want the group, when the Service that had it
// begun is gone.
func TestGroupOutlivesWhoBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		p, first, second := c.Provider(), service(0, 2), service(1, 2)
		settle(t, p, first.Owner, first)
		settle(t, p, second.Owner, second)
		attachFails(t, c, p, 0)
		if told := settle(t, p, second.Owner, service(1, 3)); len(told) != 1 || told[0].Class != cloud.Quota {
			t.Errorf("the other Service was told %v, want what attaching failed with, once", told)
		}
	})
}

// attachFails has a Service attach a third machine, which fails after it was accepted, and waits until it has.
func attachFails(t *testing.T, c *gcptest.Cloud, p cloud.Provider, i int) {
	t.Helper()
	c.Inject(gcptest.Fault{Method: "compute.networkEndpointGroups.attachNetworkEndpoints", Late: true,
		Err: &gcptest.Refusal{Status: http.StatusForbidden, Reason: "QUOTA_EXCEEDED", Message: "Quota 'ENDPOINTS' exceeded."}})
	if _, err := try(t, p, service(i, 3).Owner, service(i, 3)); err != nil && !cloud.IsClass(err, cloud.Pending) {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// TestBegunMeanwhile: what is begun on a shared group between the list of operations and the look at what became of them is not taken
// for ended.
func TestBegunMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		p, spec := c.Provider(), service(0, 2)
		settle(t, p, spec.Owner, spec)
		observed, err := p.Observe(t.Context(), spec.Owner)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.HasTargets && r.Key == gcptest.Zone(0) })
		group := observed[i]
		begins := false
		c.SetHook(func(call cloudtest.Call) error {
			if call.After && !begins && strings.HasSuffix(call.Name, "/aggregated/operations") {
				begins = true
				if errs := p.SyncTargets(t.Context(), []cloud.TargetChange{{Resource: group, Add: []cloud.Target{{ID: gcptest.InstanceName(2)}}}}); errs != nil {
					t.Error(errs)
				}
			}
			return nil
		})
		if observed, err = p.Observe(t.Context(), spec.Owner); err != nil || !begins {
			t.Fatal(err)
		}
		if j := slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.ID == group.ID }); observed[j].State != cloud.StatePending {
			t.Errorf("while an endpoint is attached the group is %s", observed[j].State)
		}
	})
}

// isZoneOperation reports whether a call reads an operation on an endpoint group.
func isZoneOperation(call cloudtest.Call) bool {
	return strings.Contains(call.Name, "/zones/") && strings.Contains(call.Name, "/operations/")
}

// TestFailureIsToldOnce: two Services look at what became of one operation at a time, and one of them is told what it failed with before
// the other has its answer. That is no second failure.
func TestFailureIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		p, first, second := c.Provider(), service(0, 3), service(1, 3)
		settle(t, p, first.Owner, service(0, 2))
		settle(t, p, second.Owner, service(1, 2))
		attachFails(t, c, p, 0)
		asked, told, seen := make(chan bool), make(chan bool), make(chan error)
		var waits atomic.Bool
		c.SetHook(func(call cloudtest.Call) error {
			if call.After && isZoneOperation(call) && waits.CompareAndSwap(false, true) {
				close(asked)
				<-told
			}
			return nil
		})
		go func() {
			_, err := p.Observe(t.Context(), second.Owner)
			seen <- err
		}()
		<-asked
		if _, err := try(t, p, first.Owner, first); !cloud.IsClass(err, cloud.Quota) {
			t.Errorf("the first Service was told %v, want what attaching failed with", err)
		}
		close(told)
		if err := <-seen; err != nil {
			t.Error(err)
		}
		if told := settle(t, p, second.Owner, second); len(told) > 0 {
			t.Errorf("the second Service was told %v again", told)
		}
	})
}

// TestUnreadableOperations: an operation of a Service's own that cannot be read stops that Service, and one on a shared group none; what
// that one failed with is told when it can be read again.
func TestUnreadableOperations(t *testing.T) {
	for name, refusal := range map[string]*gcptest.Refusal{
		"Denied": {Status: http.StatusForbidden, Reason: "forbidden", Message: "Required 'compute.zoneOperations.get' permission"},
		"Down":   {Status: http.StatusServiceUnavailable, Reason: "backendError", Message: "Try again"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
				p, first, second, begins := c.Provider(), service(0, 2), service(1, 2), service(2, 2)
				settle(t, p, first.Owner, first)
				settle(t, p, second.Owner, second)
				if _, err := try(t, p, begins.Owner, begins); err != nil && !cloud.IsClass(err, cloud.Pending) {
					t.Fatal(err)
				}
				attachFails(t, c, p, 0)
				refused := map[bool]int{}
				c.SetHook(func(call cloudtest.Call) error {
					if !strings.Contains(call.Name, "/operations/") {
						return nil
					}
					refused[isZoneOperation(call)]++
					return refusal
				})
				for _, spec := range []*cloud.Spec{first, second} {
					if _, err := p.Observe(t.Context(), spec.Owner); err != nil {
						t.Errorf("%s cannot be observed: %v", spec.Owner.Name, err)
					}
				}
				if _, err := p.Observe(t.Context(), begins.Owner); err == nil || refused[true] == 0 || refused[false] == 0 {
					t.Errorf("what became of its own operations is unknown, and the error is %v; refused were %v", err, refused)
				}
				c.SetHook(nil)
				time.Sleep(time.Minute)
				if told := settle(t, p, second.Owner, service(1, 3)); len(told) != 1 || told[0].Class != cloud.Quota {
					t.Errorf("when operations can be read again, told is %v, want what attaching failed with, once", told)
				}
			})
		})
	}
}

// TestRightToReadOperations: without the right to read operations on groups, what they are changed by is done, and who wanted it is told
// which right is missing; they are not read for every look at every Service.
func TestRightToReadOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		p := c.Provider()
		settle(t, p, service(0, 2).Owner, service(0, 2))
		c.Deny("compute.zoneOperations.get")
		for _, nodes := range []int{4, 6} {
			told := settle(t, p, service(0, nodes).Owner, service(0, nodes))
			if nodes == 4 { // it is found out once the first operation has ended
				continue
			}
			if len(told) != 1 || told[0].Class != cloud.RetryAfter || told[0].After != time.Minute || !strings.Contains(told[0].Error(), "'compute.zoneOperations.get'") {
				t.Errorf("the user was told %v, want which right is missing", told)
			}
		}
		reads := 0
		c.SetHook(func(call cloudtest.Call) error {
			if isZoneOperation(call) && !call.After {
				reads++
			}
			return nil
		})
		for i := range 100 {
			if _, err := p.Observe(t.Context(), service(i, 2).Owner); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if reads == 0 || reads > 6 {
			t.Errorf("in 100 s operations were read %d times", reads)
		}
		c.Permit()
		time.Sleep(time.Minute)
		if told := settle(t, p, service(0, 8).Owner, service(0, 8)); len(told) > 0 {
			t.Errorf("when they can be read the user is told %v", told)
		}
	})
}

// TestFailureGetsStale: what an operation failed with is no news to a change that comes long after.
func TestFailureGetsStale(t *testing.T) {
	for _, after := range []time.Duration{time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
			p := c.Provider()
			settle(t, p, service(0, 2).Owner, service(0, 2))
			attachFails(t, c, p, 0)
			settle(t, p, service(0, 2).Owner, service(0, 2)) // it wants no third machine any more
			time.Sleep(after)
			if told := settle(t, p, service(0, 4).Owner, service(0, 4)); len(told) != 1 && after < staleAfter || len(told) > 0 && after > staleAfter {
				t.Errorf("%s later the user is told %v", after, told)
			}
		})
	}
}

// staleAfter is how long failures are told.
const staleAfter = 10 * time.Minute

// TestForgottenOperations: an operation that the API has forgotten is over, and stops nobody.
func TestForgottenOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		p, spec := c.Provider(), service(0, 2)
		if _, err := try(t, p, spec.Owner, spec); err != nil && !cloud.IsClass(err, cloud.Pending) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		asked := 0
		c.SetHook(func(call cloudtest.Call) error {
			if !strings.Contains(call.Name, "/operations/") || call.After {
				return nil
			}
			asked++
			return &gcptest.Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: "The resource was not found"}
		})
		for range 2 {
			if _, err := p.Observe(t.Context(), spec.Owner); err != nil {
				t.Error(err)
			}
		}
		if asked != 5 { // what was begun, once
			t.Errorf("asked for operations %d times", asked)
		}
	})
}
