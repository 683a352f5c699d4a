package gcp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// try is one pass, whatever becomes of it.
func try(t *testing.T, p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) (cloud.Outcome, error) {
	t.Helper()
	var desired []cloud.Resource
	if spec != nil {
		var err error
		if desired, err = p.Desired(*spec); err != nil {
			return cloud.Outcome{}, err
		}
	}
	return cloud.Converge(t.Context(), p, owner, desired, cloud.Options{})
}

// settle passes, with time in between, until nothing is left, and expects that nothing is ever in the way; it returns the errors that
// a user would have read, but for those that say that the cloud is still at it.
func settle(t *testing.T, p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) []*cloud.Error {
	t.Helper()
	var told []*cloud.Error
	for range 100 {
		out, err := try(t, p, owner, spec)
		if err == nil && out.Left.Empty() {
			return told
		}
		if len(out.Left.Blocked) > 0 {
			t.Errorf("blocked: %+v", out.Left.Blocked)
		}
		if err != nil && !cloud.IsClass(err, cloud.Pending) {
			told = append(told, cloud.Classify(err))
		}
		time.Sleep(3 * time.Second)
	}
	t.Fatal("it does not come to an end")
	return nil
}

// TestOperationsFailLate has the operation of each kind of change fail after it was accepted: the user reads what it failed
// with, once, and the change is made anew.
func TestOperationsFailLate(t *testing.T) {
	moved := service(0, 3)
	moved.LocalOnly = true
	for i := range moved.Ports {
		moved.Ports[i].HealthCheck = cloud.HealthCheck{Protocol: "HTTP", Port: 32000, Path: cloud.HealthzPath}
	}
	for method, spec := range map[string]*cloud.Spec{
		"compute.addresses.insert": service(0, 2), "compute.regionHealthChecks.insert": service(0, 2), "compute.networkEndpointGroups.insert": service(0, 2),
		"compute.regionBackendServices.insert": service(0, 2), "compute.forwardingRules.insert": service(0, 2), "compute.firewalls.insert": service(0, 2),
		"compute.regionHealthChecks.patch": moved, "compute.firewalls.patch": moved, "compute.networkEndpointGroups.attachNetworkEndpoints": moved,
		"compute.forwardingRules.delete": nil, "compute.regionBackendServices.delete": nil, "compute.addresses.delete": nil, "compute.networkEndpointGroups.delete": nil,
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
				p := c.Provider()
				owner := service(0, 2).Owner
				if !strings.HasSuffix(method, ".insert") {
					settle(t, p, owner, service(0, 2))
				}
				c.Inject(gcptest.Fault{Method: method, Late: true,
					Err: &gcptest.Refusal{Status: http.StatusForbidden, Reason: "QUOTA_EXCEEDED", Message: "Quota 'THINGS' exceeded."}})
				told := settle(t, p, owner, spec)
				if len(told) != 1 || told[0].Class != cloud.Quota || !strings.Contains(told[0].Error(), "Quota 'THINGS' exceeded.") {
					t.Errorf("the user was told %v, want what the operation failed with, once", told)
				}
				if spec == nil && len(c.Snapshot()) > 0 {
					t.Errorf("left: %q", c.Snapshot())
				}
				if told := settle(t, c.Provider(), owner, spec); len(told) > 0 {
					t.Errorf("after a restart the user is told %v", told)
				}
			})
		})
	}
}

// TestDeletedWhileBeingMade deletes a Service at each moment of its creation, by another process, and expects that nothing is
// left, also of what the API did not show yet.
func TestDeletedWhileBeingMade(t *testing.T) {
	for seconds := range 60 {
		synctest.Test(t, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
			spec := service(0, 2)
			p := c.Provider()
			for start := time.Now(); time.Since(start) < time.Duration(seconds)*time.Second; time.Sleep(time.Second) {
				if _, err := try(t, p, spec.Owner, spec); err != nil && !cloud.IsClass(err, cloud.Pending) {
					t.Fatal(err)
				}
			}
			settle(t, c.Provider(), spec.Owner, nil)
			time.Sleep(time.Minute)
			if left := c.Snapshot(); len(left) > 0 {
				t.Errorf("deleted %d s after its creation began, it leaves %q", seconds, left)
			}
		})
	}
}

// TestUnseenIsDeleted: what was begun when something else failed goes with the Service, though the API does not show it yet: its own things,
// and endpoint groups.
func TestUnseenIsDeleted(t *testing.T) {
	for _, denied := range [][]string{{"compute.networkEndpointGroups.create"},
		{"compute.addresses.create", "compute.regionHealthChecks.create", "compute.firewalls.create"}} {
		synctest.Test(t, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
			c.Deny(denied...)
			spec := service(0, 2)
			if _, err := try(t, c.Provider(), spec.Owner, spec); !cloud.IsClass(err, cloud.RetryAfter) {
				t.Fatalf("the error is %v", err)
			}
			settle(t, c.Provider(), spec.Owner, nil)
			time.Sleep(time.Minute)
			if left := c.Snapshot(); len(left) > 0 {
				t.Errorf("without %q it leaves %q", denied, left)
			}
		})
	}
}

// TestRefusals: what the API refuses has the class by which the core and the user know what to do, and a text in one line that
// says what the API said.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		refusal gcptest.Refusal
		class   cloud.Class
	}{
		"Quota":    {gcptest.Refusal{Status: 403, Reason: "quotaExceeded", Message: "Quota 'FORWARDING_RULES' exceeded.\nLimit: 5.0"}, cloud.Quota},
		"Rate":     {gcptest.Refusal{Status: 403, Reason: "rateLimitExceeded", Message: "Too fast"}, cloud.Throttled},
		"TooMany":  {gcptest.Refusal{Status: 429, Reason: "rateLimitExceeded", Message: "Too fast"}, cloud.Throttled},
		"Fields":   {gcptest.Refusal{Status: 400, Reason: "invalid", Message: "Invalid value"}, cloud.UserError},
		"InUse":    {gcptest.Refusal{Status: 400, Reason: "resourceInUseByAnotherResource", Message: "In use"}, cloud.Pending},
		"NotReady": {gcptest.Refusal{Status: 400, Reason: "resourceNotReady", Message: "Not ready"}, cloud.Pending},
		// As in GoogleCloudPlatform/cloud-ops-sandbox#392: not of a fingerprint, which what is made has none of.
		"Policy": {gcptest.Refusal{Status: 412, Reason: "conditionNotMet", Message: "Constraint constraints/compute.restrictLoadBalancerCreationForTypes violated"}, cloud.RetryAfter},
		"Denied": {gcptest.Refusal{Status: 403, Reason: "forbidden", Message: "Required a right", RetryAfter: 2 * time.Minute}, cloud.RetryAfter},
		"Scopes": {gcptest.Refusal{Status: 403, Reason: "insufficientPermissions", Message: "Request had insufficient authentication scopes."}, cloud.RetryAfter},
		// As in kubernetes/ingress-gce#2735, where a machine has it.
		"IPInUse":    {gcptest.Refusal{Status: 409, Message: "IP_IN_USE_BY_ANOTHER_RESOURCE - IP '10.164.0.18' is already being used by another resource."}, cloud.Conflict},
		"Exhausted":  {gcptest.Refusal{Status: 403, Reason: "IP_SPACE_EXHAUSTED_WITH_DETAILS", Message: "IP space of a subnetwork is exhausted."}, cloud.Quota},
		"PolicyLate": {gcptest.Refusal{Status: 412, Reason: "CONDITION_NOT_MET", Message: "Constraint constraints/compute.restrictLoadBalancerCreationForTypes violated"}, cloud.RetryAfter},
		"Backend":    {gcptest.Refusal{Status: 503, Reason: "backendError", Message: "Try again"}, cloud.Retry},
	} {
		c := gcptest.New(gcptest.Options{})
		c.Inject(gcptest.Fault{Method: "compute.addresses.insert", Late: strings.HasSuffix(name, "Late"), Err: &tc.refusal})
		spec := service(0, 2)
		_, err := try(t, c.Provider(), spec.Owner, spec)
		want := tc.refusal.RetryAfter
		if want == 0 && tc.class == cloud.RetryAfter {
			want = time.Minute
		}
		if e := cloud.Classify(err); e.After != want {
			t.Errorf("%s: %v is tried again after %s, want %s", name, err, e.After, want)
		}
		if !cloud.IsClass(err, tc.class) {
			t.Errorf("%s: %v has the class %v, want %s", name, err, cloud.Classify(err).Class, tc.class)
		} else if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, strings.Fields(tc.refusal.Message)[0]) {
			t.Errorf("%s: the text is %q", name, text)
		} else if name == "Scopes" && !strings.Contains(text, "scopes: give the manager's machine the scope https://www.googleapis.com/auth/compute,") {
			t.Errorf("the text does not say what to do: %q", text)
		}
	}
}

// TestQuotaIsTold: a project without room for another rule says so, and all comes up when there is.
func TestQuotaIsTold(t *testing.T) {
	quotas := map[string]int{"FORWARDING_RULES": 0}
	c := gcptest.New(gcptest.Options{Quotas: quotas})
	spec := service(0, 2)
	if _, err := try(t, c.Provider(), spec.Owner, spec); !cloud.IsClass(err, cloud.Quota) || !strings.Contains(err.Error(), "FORWARDING_RULES") {
		t.Errorf("without room the error is %v", err)
	}
	quotas["FORWARDING_RULES"] = 1
	pass(t, c.Provider(), spec.Owner, spec)
}

// TestDeniedPermissionsAreNamed takes each permission that is needed away, by itself: the error names it, and it works when it
// is back.
func TestDeniedPermissionsAreNamed(t *testing.T) {
	reference := gcptest.New(gcptest.Options{})
	spec := service(0, 2)
	pass(t, reference.Provider(), spec.Owner, spec)
	needed := reference.Permissions()
	if len(needed) < 15 {
		t.Fatalf("a balancer needs the permissions %q only", needed)
	}
	for _, permission := range needed {
		c := gcptest.New(gcptest.Options{})
		c.Deny(permission)
		_, err := try(t, c.Provider(), spec.Owner, spec)
		if e := cloud.Classify(err); e.Class != cloud.RetryAfter || e.After != time.Minute || !strings.Contains(err.Error(), "'"+permission+"'") {
			t.Errorf("without %s the error is %v", permission, err)
		}
		c.Permit()
		pass(t, c.Provider(), spec.Owner, spec)
	}
}

// TestStaleFingerprint has another write come between the read and the patch: it is not overwritten.
func TestStaleFingerprint(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	spec := service(0, 2)
	p := c.Provider()
	pass(t, p, spec.Owner, spec)
	c.Inject(gcptest.Fault{Method: "compute.regionBackendServices.patch", Err: &gcptest.Refusal{Status: 412, Reason: "conditionNotMet", Message: "Fingerprint"}})
	sticky := service(0, 2)
	sticky.AffinitySeconds = 600
	if _, err := try(t, p, sticky.Owner, sticky); !cloud.IsClass(err, cloud.Conflict) {
		t.Errorf("a patch of what changed meanwhile gives %v, want a Conflict", err)
	}
	pass(t, p, sticky.Owner, sticky)
}

// TestAttachingFailsLate replaces the machines of a group, of some or of all, and has the attaching of the new ones fail after it was
// accepted, while other changes of the group succeed: the user reads it, once, and the group is never without a machine.
func TestAttachingFailsLate(t *testing.T) {
	for name, tc := range map[string]struct{ before, after []int }{
		"Some":    {[]int{0, 2}, []int{2, 4}},
		"All":     {[]int{0, 2}, []int{4, 6}},
		"Smaller": {[]int{0, 2, 4}, []int{6}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
				p := c.Provider()
				settle(t, p, service(0, 0).Owner, onMachines(tc.before))
				c.Inject(gcptest.Fault{Method: "compute.networkEndpointGroups.attachNetworkEndpoints", Late: true,
					Err: &gcptest.Refusal{Status: http.StatusForbidden, Reason: "QUOTA_EXCEEDED", Message: "Quota 'ENDPOINTS' exceeded."}})
				c.SetHook(func(cloudtest.Call) error {
					if all := groups(c); len(all) != 1 || strings.HasSuffix(all[0], "[]") {
						t.Errorf("groups are %q", all)
					}
					return nil
				})
				told := settle(t, p, service(0, 0).Owner, onMachines(tc.after))
				if len(told) != 1 || told[0].Class != cloud.Quota {
					t.Errorf("the user was told %v, want what attaching failed with, once", told)
				}
				var want []string
				for _, i := range tc.after {
					want = append(want, gcptest.InstanceName(i))
				}
				if all := groups(c); len(all) != 1 || !strings.HasSuffix(all[0], fmt.Sprint(want)) {
					t.Errorf("groups are %q, want %v", all, want)
				}
			})
		})
	}
}

// onMachines is a Service on those machines.
func onMachines(numbers []int) *cloud.Spec {
	spec := service(0, 8)
	var nodes []cloud.Node
	for _, i := range numbers {
		nodes = append(nodes, spec.Nodes[i])
	}
	spec.Nodes = nodes
	return spec
}

// TestDeletedOnce: what the API is deleting already is waited for, and not deleted again, however long that takes. A first try can come
// while what points to it still is.
func TestDeletedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 20 * time.Second})
		p, spec := c.Provider(), service(0, 2)
		settle(t, p, spec.Owner, spec)
		times := map[string]int{}
		c.SetHook(func(call cloudtest.Call) error {
			if strings.HasPrefix(call.Name, http.MethodDelete) && !call.After {
				times[call.Name]++
			}
			return nil
		})
		settle(t, p, spec.Owner, nil)
		for name, n := range times {
			if n > 2 {
				t.Errorf("%s is sent %d times", name, n)
			}
		}
		if len(times) < 7 || len(c.Snapshot()) > 0 {
			t.Errorf("deleted are %v, left are %q", times, c.Snapshot())
		}
	})
}

// TestGroupVanishes: an endpoint group that goes between being listed and being looked into stands in nobody's way.
func TestGroupVanishes(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	pass(t, p, spec.Owner, spec)
	c.SetHook(func(call cloudtest.Call) error {
		if strings.HasSuffix(call.Name, "/listNetworkEndpoints") {
			return &gcptest.Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: "It was not found"}
		}
		return nil
	})
	if observed, err := p.Observe(t.Context(), spec.Owner); err != nil || len(observed) < 8 {
		t.Errorf("observed are %d things (%v)", len(observed), err)
	}
}
