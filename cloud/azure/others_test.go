package azure_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// Tests of this file have others at work on what is ours.

// edit changes every balancer as somebody else would.
func edit(t *testing.T, c *azuretest.Cloud, change func(lb *armnetwork.LoadBalancer)) {
	t.Helper()
	if err := c.Edit(change); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// TestSomebodysFrontend: what somebody puts on a balancer of ours stays, also when the last of ours goes.
func TestSomebodysFrontend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		workers(t, p, 1, []cloud.Spec{service(1, 2)}, false)
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			lb.Properties.FrontendIPConfigurations = append(lb.Properties.FrontendIPConfigurations, &armnetwork.FrontendIPConfiguration{Name: new("somebodys"),
				Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{PublicIPAddress: &armnetwork.PublicIPAddress{ID: new(networkPath + "publicIPAddresses/own")}}})
		})
		workers(t, p, 1, []cloud.Spec{service(1, 3), service(2, 3)}, false)
		workers(t, p, 1, []cloud.Spec{service(1, 3), service(2, 3)}, true)
		left := c.Snapshot()
		if !slices.ContainsFunc(left, func(line string) bool { return strings.Contains(line, "frontend somebodys of own") }) {
			t.Errorf("somebody's frontend is gone:\n%s", strings.Join(left, "\n"))
		}
		if slices.ContainsFunc(left, func(line string) bool { return strings.Contains(line, " rule ") || strings.Contains(line, " pool ") }) {
			t.Errorf("something of ours is left:\n%s", strings.Join(left, "\n"))
		}
	})
}

// TestSomebodysNATRule: a rule of another kind that somebody made for a frontend, or a pool, of ours keeps it, and nobody else of the
// cluster is held up by that.
func TestSomebodysNATRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		workers(t, p, 1, []cloud.Spec{service(1, 2)}, false)
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			lb.Properties.InboundNatRules = []*armnetwork.InboundNatRule{{Name: new("ssh"), Properties: &armnetwork.InboundNatRulePropertiesFormat{
				Protocol: new(armnetwork.TransportProtocolTCP), FrontendPort: new(int32(22)), BackendPort: new(int32(22)),
				FrontendIPConfiguration: &armnetwork.SubResource{ID: lb.Properties.FrontendIPConfigurations[0].ID},
				BackendAddressPool:      &armnetwork.SubResource{ID: lb.Properties.BackendAddressPools[0].ID}}}}
		})
		for range 20 { // its address is in use, which is somebody's to put right
			if _, err := cloud.Converge(t.Context(), p, service(1, 2).Owner, nil, cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		workers(t, p, 1, []cloud.Spec{service(2, 3)}, false)
		workers(t, p, 1, []cloud.Spec{service(2, 3)}, true)
		left := c.Snapshot()
		for what, want := range map[string]int{" rule ": 0, " probe ": 0, " frontend ": 1, " pool ": 1} {
			if n := len(slices.DeleteFunc(slices.Clone(left), func(line string) bool { return !strings.HasPrefix(line, "fl-") || !strings.Contains(line, what) })); n != want {
				t.Errorf("%d lines with%sare left, want %d:\n%s", n, what, want, strings.Join(left, "\n"))
			}
		}
		edit(t, c, func(lb *armnetwork.LoadBalancer) { lb.Properties.InboundNatRules = nil })
		workers(t, p, 1, []cloud.Spec{service(2, 3)}, false)
		workers(t, p, 1, []cloud.Spec{service(1, 3), service(2, 3)}, true)
		if left := c.Names("loadBalancers"); len(left) > 0 {
			t.Errorf("left are balancers %q", left)
		}
	})
}

// TestOthersKeepWriting: somebody changes the balancer before each of our writes, for a while.
func TestOthersKeepWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		if _, err := converge(t, p, service(1, 2), false); err != nil {
			t.Fatal(err)
		}
		storm := 10
		c.SetHook(func(call azuretest.Call) error {
			if call.After || call.Method != http.MethodPut || call.Type != "loadBalancers" || storm == 0 {
				return nil
			}
			storm--
			return c.Edit(func(lb *armnetwork.LoadBalancer) { lb.Tags["storm"] = new(fmt.Sprint(storm)) })
		})
		if _, err := converge(t, p, service(2, 2), false); err != nil {
			t.Fatal(err)
		}
		if _, rules := c.Count("loadBalancers"); rules != 2 || storm > 0 {
			t.Errorf("after the storm, of which %d were left, there are %d rules", storm, rules)
		}
		if !strings.Contains(strings.Join(c.Snapshot(), "\n"), "storm=0") {
			t.Error("what somebody wrote is gone")
		}
	})
}

// TestAddressOfAnotherService: a Service does not get at the address of another one by its name, not even for the moment in which that
// one lets go of it.
func TestAddressOfAnotherService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		if _, err := converge(t, p, service(1, 2), false); err != nil {
			t.Fatal(err)
		}
		names := slices.DeleteFunc(c.Names("publicIPAddresses"), func(name string) bool { return name == "own" })
		if len(names) != 1 {
			t.Fatalf("there are addresses %q", names)
		}
		desired := func(spec cloud.Spec) []cloud.Resource {
			resources, err := p.Desired(spec)
			if err != nil {
				t.Fatal(err)
			}
			return resources
		}
		thief := with(service(2, 2), map[string]string{"pip-name": names[0]})
		for range 20 { // while the other one goes
			if _, err := cloud.Converge(t.Context(), p, thief.Owner, desired(thief), cloud.Options{}); !cloud.IsClass(err, cloud.Conflict) && len(c.Names("publicIPAddresses")) > 1 {
				t.Errorf("the other one is told %v", err)
			}
			if _, err := cloud.Converge(t.Context(), p, service(1, 2).Owner, nil, cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if names := c.Names("publicIPAddresses"); len(names) != 1 {
			t.Errorf("left are addresses %q", names)
		}
	})
}

// TestTwoManagers: where two managers write at once, as when one takes over from another that does not know it yet, nothing of either
// is lost, nor left.
func TestTwoManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{Slow: 2 * time.Second})
		before := c.Snapshot()
		managers := []cloud.Provider{provider(t, c), provider(t, c)}
		specs := make([][]cloud.Spec, len(managers))
		for n := range 12 {
			specs[n%2] = append(specs[n%2], service(n, 2))
		}
		both := func(gone bool) {
			var wg sync.WaitGroup
			for i, p := range managers {
				wg.Go(func() { workers(t, p, 4, specs[i], gone) })
			}
			wg.Wait()
		}
		both(false)
		if balancers, rules := c.Count("loadBalancers"); balancers != 1 || rules != 12 {
			t.Errorf("there are %d balancers, of which one has %d rules", balancers, rules)
		}
		if _, rules := c.Count("networkSecurityGroups"); rules != 12 {
			t.Errorf("there are %d security rules", rules)
		}
		time.Sleep(time.Minute)
		for i, p := range managers { // each sees what the other has done, too
			for _, spec := range specs[1-i] {
				if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 {
					t.Errorf("manager %d does %+v for the other one's Service (%v)", i, out.Done, err)
				}
			}
		}
		both(true)
		time.Sleep(time.Minute)
		leavesNothing(t, c, before)
	})
}
