package azure_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// ofSet is linked on machines of a uniform scale set, which it makes. It returns their provider ids, too.
func ofSet(c *azuretest.Cloud, n int) (cloud.Spec, []string) {
	spec := linked(service(1, n))
	var addresses []string
	for _, node := range spec.Nodes {
		addresses = append(addresses, node.Address(cloud.IPv4))
	}
	ids := c.AddScaleSet("pool", addresses...)
	for i := range spec.Nodes {
		spec.Nodes[i].ProviderID = ids[i]
	}
	return spec, ids
}

// TestMachineIsKept: of a machine of a uniform scale set nothing is written but its network, nothing changes but the pool, and a disk that
// is attached meanwhile stays.
func TestMachineIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		spec, ids := ofSet(c, 1)
		want := c.Machine(ids[0])
		disk := &armcompute.DataDisk{Lun: new(int32(1)), Name: new("meanwhile")}
		attached := false
		c.SetHook(func(call azuretest.Call) error {
			if call.Method == http.MethodPut && call.Compute && !call.After && !attached {
				attached = true
				c.EditMachine(ids[0], func(vm *armcompute.VirtualMachineScaleSetVM) {
					vm.Properties.StorageProfile.DataDisks = append(vm.Properties.StorageProfile.DataDisks, disk)
				})
			}
			return nil
		})
		p := provider(t, c)
		if _, err := converge(t, p, spec, false); err != nil {
			t.Fatal(err)
		}
		if pools := c.Machine(ids[0]).Properties.NetworkProfileConfiguration.NetworkInterfaceConfigurations[1].Properties.IPConfigurations[0].Properties.LoadBalancerBackendAddressPools; len(pools) != 1 {
			t.Errorf("it is in %d pools, want 1", len(pools))
		}
		if _, err := converge(t, p, spec, true); err != nil {
			t.Fatal(err)
		}
		want.Properties.StorageProfile.DataDisks = append(want.Properties.StorageProfile.DataDisks, disk)
		if diff := cmp.Diff(want, c.Machine(ids[0])); diff != "" {
			t.Errorf("in the end more than the pool has changed (-want +got):\n%s", diff)
		}
	})
}

// TestMachineWithoutETag: a machine that cannot be written over what was read of it is not written until it can.
func TestMachineWithoutETag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		spec, ids := ofSet(c, 1)
		c.HideETag(ids[0], true)
		puts := 0
		c.SetHook(func(call azuretest.Call) error {
			if call.Method == http.MethodPut && call.Compute && call.After {
				puts++
			}
			return nil
		})
		time.AfterFunc(20*time.Second, func() {
			if puts > 0 {
				t.Errorf("it was written %d times", puts)
			}
			c.HideETag(ids[0], false)
		})
		if _, err := converge(t, provider(t, c), spec, false); err != nil || puts != 1 {
			t.Errorf("it was written %d times (%v)", puts, err)
		}
	})
}
