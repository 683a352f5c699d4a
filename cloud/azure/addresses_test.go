package azure_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// TestAddressOfAnotherGroup: a public address that is in another resource group is found there, by its name or by what it is, and nothing is
// made or changed there.
func TestAddressOfAnotherGroup(t *testing.T) {
	there := map[string]string{"load-balancer-resource-group": azuretest.OtherGroup}
	requested := with(service(1, 2), there)
	requested.RequestedAddress = ownAddress
	ofClass := with(service(1, 2), map[string]string{"load-balancer-ipv4": ownAddress})
	ofClass.Parameters = []byte(`{"resourceGroup":"` + strings.ToUpper(azuretest.OtherGroup) + `"}`)
	for name, spec := range map[string]cloud.Spec{
		"Requested": requested,
		"Annotated": with(with(service(1, 2), there), map[string]string{"load-balancer-ipv4": ownAddress}),
		"Class":     ofClass,
		"Named":     with(with(service(1, 2), there), map[string]string{"pip-name": "own"}),
	} {
		for _, capitals := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{Slow: time.Second, Capitals: capitals})
				c.MoveAddress("own")
				before := c.Snapshot()
				c.SetHook(func(call azuretest.Call) error {
					if call.Write() && call.Type == "publicIPAddresses" {
						t.Errorf("%s: %s of the public address %s was sent", name, call.Method, call.Name)
					}
					return nil
				})
				out, err := converge(t, provider(t, c), spec, false)
				if diff := cmp.Diff([]cloud.Ingress{{IP: ownAddress}}, cloud.Ingresses(out.Observed)); err != nil || diff != "" {
					t.Fatalf("%s: it has another address (-want +got):\n%s%v", name, diff, err)
				}
				time.Sleep(5 * time.Second)
				p := provider(t, c)
				if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 {
					t.Errorf("%s: after a restart it does %+v (%v)", name, out.Done, err)
				}
				if _, err := converge(t, p, spec, true); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				time.Sleep(5 * time.Second)
				leavesNothing(t, c, before)
			})
		}
	}
}

// TestAddressNotInThatGroup: an address that is in another group than the one that is named is told, and so is that there is no such group.
func TestAddressNotInThatGroup(t *testing.T) {
	for name, tc := range map[string]struct {
		group string
		moved bool
	}{
		"Own":     {azuretest.OtherGroup, false},
		"Others":  {azuretest.ResourceGroup, true},
		"Nowhere": {"theirs", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			if tc.moved {
				c.MoveAddress("own")
			}
			p := provider(t, c)
			_, err := converge(t, p, with(service(1, 2), map[string]string{"load-balancer-resource-group": tc.group, "load-balancer-ipv4": ownAddress}), false)
			if !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "resource group "+tc.group) || !strings.Contains(err.Error(), ownAddress) {
				t.Errorf("%s: it is told %v, want a UserError of the group and the address", name, err)
			}
		})
	}
}
