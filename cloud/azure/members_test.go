package azure_test

import (
	"net/http"
	"strings"
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
		puts, begin := 0, time.Now()
		c.SetHook(func(call azuretest.Call) error {
			if call.Method == http.MethodPut && call.Compute && call.After {
				if puts++; time.Since(begin) < 20*time.Second {
					t.Error("it was written without an ETag")
				}
			}
			return nil
		})
		time.AfterFunc(20*time.Second, func() { c.HideETag(ids[0], false) })
		if _, err := converge(t, provider(t, c), spec, false); err != nil || puts != 1 {
			t.Errorf("it was written %d times (%v)", puts, err)
		}
	})
}

// TestOtherBalancerIsTriedOnce: where all machines are in another internal balancer, and in a public one, one write of theirs is refused,
// and no other is sent for some minutes; who is in the public one alone joins.
func TestOtherBalancerIsTriedOnce(t *testing.T) {
	for _, set := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			spec := linked(service(1, 20))
			theirs := map[bool][]string{}
			if set {
				theirBalancer(t, c, "kubernetes-internal", true)
				var ids []string
				spec, ids = ofSet(c, 20)
				for _, id := range ids[1:] {
					c.EditMachine(id, func(vm *armcompute.VirtualMachineScaleSetVM) {
						ip := vm.Properties.NetworkProfileConfiguration.NetworkInterfaceConfigurations[1].Properties.IPConfigurations[0].Properties
						ip.LoadBalancerBackendAddressPools = []*armcompute.SubResource{{ID: new(networkPath + "loadBalancers/kubernetes-internal/backendAddressPools/theirs")}}
					})
				}
			} else {
				machines(c, 20)
				for i, node := range spec.Nodes {
					theirs[false] = append(theirs[false], node.Name)
					if i > 0 {
						theirs[true] = append(theirs[true], node.Name)
					}
				}
				theirBalancer(t, c, "kubernetes", false, theirs[false]...)
				theirBalancer(t, c, "kubernetes-internal", true, theirs[true]...)
			}
			puts, reads := 0, 0
			c.SetHook(func(call azuretest.Call) error {
				switch {
				case call.After:
				case call.Method == http.MethodPut && (call.Compute || call.Type == "networkInterfaces"):
					puts++
				case call.Compute || call.Type == "networkInterfaces":
					reads++
				}
				return nil
			})
			p := provider(t, c)
			for range 8 {
				if _, err := converge(t, p, spec, false); p.Classify(err).Class != cloud.Conflict || !strings.Contains(err.Error(), "kubernetes-internal") {
					t.Errorf("of a set: %t: it is told %v", set, err)
				}
				time.Sleep(30 * time.Second)
			}
			if puts != 2 || reads > 16 {
				t.Errorf("of a set: %t: there are %d writes and %d reads of interfaces, want one that joins and one that is refused, and a list each time", set, puts, reads)
			}
		})
	}
}

// TestHeldKeepsOthersNodes: a Service that is to move to the balancer for private links, and may not, leaves nodes that are no machines to
// the others of the pool that it is still in.
func TestHeldKeepsOthersNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		p := provider(t, c)
		mixed := func(spec cloud.Spec) cloud.Spec {
			spec.Nodes[2].ProviderID = "" // of no machine
			return spec
		}
		for n := range 2 {
			plain := mixed(linked(service(n, 3)))
			plain.Annotations = map[string]string{internalAnnotation: "true"}
			if _, err := converge(t, p, plain, false); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		before, spec := c.Snapshot(), mixed(linked(service(1, 3)))
		desired, err := p.Desired(spec)
		if err != nil {
			t.Fatal(err)
		}
		out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{})
		if diff := cmp.Diff(before, c.Snapshot()); err != nil || diff != "" || len(out.Left.Blocked) == 0 {
			t.Errorf("without leave it does (%v)\n%s", err, diff)
		}
	})
}
