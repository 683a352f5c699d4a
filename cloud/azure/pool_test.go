package azure_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// TestPoolIsWrittenOver: the addresses of a pool are written over what was read of it. What somebody changed meanwhile is read anew,
// and a pool that went meanwhile is not made again: nobody would take it away.
func TestPoolIsWrittenOver(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(lb *armnetwork.LoadBalancer)
		want      string
	}{
		"Changed": {func(lb *armnetwork.LoadBalancer) { lb.Tags["storm"] = new("1") }, "172.30.0.11,172.30.0.12,172.30.0.13"},
		"Same": {func(lb *armnetwork.LoadBalancer) {
			pool := lb.Properties.BackendAddressPools[0].Properties
			third := *pool.LoadBalancerBackendAddresses[0]
			properties := *third.Properties
			third.Name, third.Properties, properties.IPAddress = new("third"), &properties, new("172.30.0.13")
			pool.LoadBalancerBackendAddresses = append(pool.LoadBalancerBackendAddresses, &third)
		}, "172.30.0.11,172.30.0.12,172.30.0.13"},
		"Gone": {func(lb *armnetwork.LoadBalancer) {
			p := lb.Properties
			p.LoadBalancingRules, p.Probes, p.BackendAddressPools, p.FrontendIPConfigurations = nil, nil, nil, nil
		}, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p := provider(t, c)
				workers(t, p, 1, []cloud.Spec{service(1, 2)}, false)
				changes := targetChanges(t, p, service(1, 2).Owner, service(1, 3))
				writes := 0
				c.SetHook(func(call azuretest.Call) error {
					if call.After || call.Method != http.MethodPut || !strings.HasSuffix(call.Type, "backendAddressPools") {
						return nil
					}
					if writes++; writes > 1 {
						return nil
					}
					return c.Edit(tc.meanwhile)
				})
				errs := p.SyncTargets(t.Context(), changes)
				c.SetHook(nil)
				if gone := tc.want == "none"; gone != (errs != nil) || gone && !cloud.IsClass(errs[0], cloud.Pending) {
					t.Errorf("it says %v", errs)
				}
				got := "none"
				for _, line := range c.Snapshot() {
					if _, addresses, ok := strings.Cut(line, "pool fl-ipv4 "); ok {
						got = addresses
					}
				}
				if got != tc.want || writes == 0 {
					t.Errorf("after %d writes the pool has %s, want %s", writes, got, tc.want)
				}
				time.Sleep(time.Minute)
				workers(t, p, 1, []cloud.Spec{service(1, 3)}, false)
				if all := strings.Join(c.Snapshot(), "\n"); !strings.Contains(all, "pool fl-ipv4 172.30.0.11,172.30.0.12,172.30.0.13") {
					t.Errorf("in the end there is\n%s", all)
				}
			})
		})
	}
}

// TestPoolKeepsStates: a node that comes leaves those that are there as somebody has set them, and the pool, too.
func TestPoolKeepsStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		workers(t, p, 1, []cloud.Spec{service(1, 2)}, false)
		pool := func(lb *armnetwork.LoadBalancer) *armnetwork.BackendAddressPoolPropertiesFormat {
			return lb.Properties.BackendAddressPools[0].Properties
		}
		if err := c.Edit(func(lb *armnetwork.LoadBalancer) {
			pool(lb).DrainPeriodInSeconds = new(int32(30))
			pool(lb).LoadBalancerBackendAddresses[1].Properties.AdminState = new(armnetwork.LoadBalancerBackendAddressAdminStateDown)
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		workers(t, p, 1, []cloud.Spec{service(1, 3)}, false)
		if err := c.Edit(func(lb *armnetwork.LoadBalancer) {
			states := map[string]armnetwork.LoadBalancerBackendAddressAdminState{}
			for _, a := range pool(lb).LoadBalancerBackendAddresses {
				if states[*a.Properties.IPAddress] = ""; a.Properties.AdminState != nil {
					states[*a.Properties.IPAddress] = *a.Properties.AdminState
				}
			}
			want := map[string]armnetwork.LoadBalancerBackendAddressAdminState{"172.30.0.11": "", "172.30.0.12": armnetwork.LoadBalancerBackendAddressAdminStateDown, "172.30.0.13": ""}
			if diff := cmp.Diff(want, states); diff != "" || pool(lb).DrainPeriodInSeconds == nil {
				t.Errorf("other states (-want +got):\n%s", diff)
			}
		}); err != nil {
			t.Fatal(err)
		}
	})
}
