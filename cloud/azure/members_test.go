package azure_test

import (
	"errors"
	"net/http"
	"strconv"
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

// TestNodeTurnsOut: a node that is told to be a machine's only later on joins then, and until then nothing is to be done for it, nor are
// its targets seen to change.
func TestNodeTurnsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		p, spec := provider(t, c), linked(service(1, 2))
		id := spec.Nodes[1].ProviderID
		spec.Nodes[1].ProviderID = ""
		left, err := converge(t, p, spec, false)
		if err != nil || pooled(c) != "n1" {
			t.Fatalf("in the pool are %s (%v)", pooled(c), err)
		}
		time.Sleep(time.Hour)
		out, err := converge(t, p, spec, false)
		if seen := cloud.Differences(left.Observed, out.Observed); err != nil || len(out.Done) > 0 || len(seen) > 0 {
			t.Errorf("it does %+v, and sees %+v (%v)", out.Done, seen, err)
		}
		spec.Nodes[1].ProviderID = id
		if _, err := converge(t, p, spec, false); err != nil || pooled(c) != "n1,n2" {
			t.Errorf("in the pool are %s (%v)", pooled(c), err)
		}
	})
}

// TestLateMachine: what Azure accepts of a machine or an interface, and cannot do in the end, is told, and written again.
func TestLateMachine(t *testing.T) {
	for _, kind := range []string{"virtualMachineScaleSets/virtualMachines", "networkInterfaces"} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{Slow: 5 * time.Second})
			spec := linked(service(1, 1))
			if machines(c, 1); kind != "networkInterfaces" {
				spec, _ = ofSet(c, 1)
			}
			c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: kind, Late: true,
				Err: &azuretest.Refusal{Status: http.StatusConflict, Code: "InternalExecutionError", Message: "it did not work"}})
			p := provider(t, c)
			_, err := converge(t, p, spec, false)
			if p.Classify(err).Class != cloud.Retry || !strings.Contains(err.Error(), "Azure failed at the network interface") {
				t.Errorf("%s: it is told %v", kind, err)
			}
			if _, err := converge(t, p, spec, false); err != nil || pooled(c) == "none" {
				t.Errorf("%s: in the pool are %s (%v)", kind, pooled(c), err)
			}
			if _, err := converge(t, p, spec, true); err != nil || pooled(c) != "none" {
				t.Errorf("%s: in the end in the pool are %s (%v)", kind, pooled(c), err)
			}
		})
	}
}

// TestWriteGoesOn: while an interface or a machine is written nobody is told that it is in the pool.
func TestWriteGoesOn(t *testing.T) {
	for _, set := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{Slow: time.Minute})
			spec := linked(service(1, 2))
			if machines(c, 2); set {
				spec, _ = ofSet(c, 2)
			}
			p := provider(t, c)
			for range 10 {
				if _, err := cloud.Converge(t.Context(), p, spec.Owner, desiredOf(t, p, nodes(spec, 0)), cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
			}
			changes := targetChanges(t, p, spec.Owner, spec)
			first := p.SyncTargets(t.Context(), changes)
			if len(first) > 0 {
				t.Fatalf("of a set: %t: it is told %v", set, first)
			}
			time.Sleep(2 * time.Second)
			if _, err := p.Observe(t.Context(), spec.Owner); err != nil {
				t.Fatal(err)
			}
			if second := p.SyncTargets(t.Context(), changes); len(second) != 1 || !cloud.IsClass(second[0], cloud.Pending) {
				t.Errorf("of a set: %t: while it is written it is told %v", set, second)
			}
		})
	}
}

func desiredOf(t *testing.T, p cloud.Provider, spec cloud.Spec) []cloud.Resource {
	t.Helper()
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	return desired
}

// lists counts the lists of interfaces, and answers those of Kind with an error.
type lists struct {
	kind  string
	err   error
	count int
}

func (l *lists) hook(call azuretest.Call) error {
	if call.After || call.Method != http.MethodGet || call.Type != l.kind || l.kind == "networkInterfaces" && call.Name != "" {
		return nil
	}
	l.count++
	return l.err
}

// TestInterfacesUnread: where interfaces of a scale set cannot be listed no Service without a private link is held up, machines of other
// scopes join and leave, none of the set's leaves unless all are to, and nobody asks again before Azure says so.
func TestInterfacesUnread(t *testing.T) {
	for status, after := range map[int]int{http.StatusInternalServerError: 0, http.StatusTooManyRequests: 120, http.StatusForbidden: 0} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			machines(c, 4)
			spec := linked(service(1, 4))
			for i, id := range c.AddScaleSet("pool", spec.Nodes[0].Address(cloud.IPv4), spec.Nodes[1].Address(cloud.IPv4)) {
				spec.Nodes[i].ProviderID = id
			}
			if _, err := converge(t, provider(t, c), nodes(spec, 0, 1, 2), false); err != nil {
				t.Fatal(err)
			}
			in := func() int { return strings.Count(strings.Join(c.Snapshot(), "\n"), "virtualMachines/") }
			before := in()
			deny := &lists{kind: "virtualMachineScaleSets/networkInterfaces", err: (&azuretest.Refusal{Status: status, Code: "No", RetryAfter: after}).AsError()}
			c.SetHook(deny.hook)
			p := provider(t, c)
			plain := internal(service(2, 2))
			if _, err := converge(t, p, plain, false); err != nil {
				t.Errorf("%d: a Service without a private link is told %v", status, err)
			}
			_, err := converge(t, p, nodes(spec, 0, 3), false)
			if err == nil {
				t.Errorf("%d: the Service is told nothing", status)
			}
			if after > 0 {
				if deny.count > 1 {
					t.Errorf("%d: it is listed %d times", status, deny.count)
				}
			} else if got := pooled(c); !strings.Contains(got, "n4") || strings.Contains(got, "n3") || in() != before {
				t.Errorf("%d: in the pool are %s", status, got)
			}
			if _, err := converge(t, p, spec, true); err != nil || pooled(c) != "none" {
				t.Errorf("%d: in the end in the pool are %s (%v)", status, pooled(c), err)
			}
		})
	}
}

// TestAddressesAreKept: interfaces that were known, and cannot be listed again, still tell who is in the pool.
func TestAddressesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		p, spec := provider(t, c), linked(service(1, 2))
		if _, err := converge(t, p, spec, false); err != nil {
			t.Fatal(err)
		}
		c.Deny("Microsoft.Network/networkInterfaces/read")
		time.Sleep(time.Hour)
		if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 {
			t.Errorf("it does %+v (%v)", out.Done, err)
		}
	})
}

// TestOtherClusters: interfaces of another cluster's balancer for private links are not read.
func TestOtherClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 1)
		if _, err := converge(t, provider(t, c), linked(service(1, 1)), false); err != nil {
			t.Fatal(err)
		}
		count := &lists{kind: "networkInterfaces"}
		c.SetHook(count.hook)
		spec := internal(service(2, 1))
		spec.Owner.ClusterID = "another"
		if _, err := converge(t, provider(t, c), spec, false); err != nil || count.count > 0 {
			t.Errorf("interfaces are listed %d times (%v)", count.count, err)
		}
	})
}

// TestNodeWithoutInterface: a Node whose machine has no interface is told, and its scope listed once in half a minute.
func TestNodeWithoutInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		count := &lists{kind: "networkInterfaces"}
		c.SetHook(count.hook)
		p, spec, end := provider(t, c), linked(service(1, 3)), time.Now().Add(2*time.Minute)
		for time.Now().Before(end) {
			if _, err := converge(t, p, spec, false); p.Classify(err).Class != cloud.Conflict || !strings.Contains(err.Error(), "n3 has no network interface") {
				t.Fatalf("it is told %v", err)
			}
			time.Sleep(2 * time.Second)
		}
		if count.count > 5 || pooled(c) != "n1,n2" {
			t.Errorf("interfaces are listed %d times, and in the pool are %s", count.count, pooled(c))
		}
	})
}

// TestManyJoin: of many machines that join some are written at a time, after the pools of addresses, and what Azure has too much of holds
// up none of those.
func TestManyJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 200)
		p, specs := provider(t, c), []cloud.Spec{linked(service(1, 200)), internal(service(2, 200))}
		for _, spec := range specs {
			if _, err := converge(t, p, nodes(spec, 0), false); err != nil {
				t.Fatal(err)
			}
		}
		var changes []cloud.TargetChange
		for _, spec := range specs {
			changes = append(changes, targetChanges(t, p, spec.Owner, spec)...)
		}
		for _, busy := range []bool{true, false} {
			if busy {
				c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: "networkInterfaces", Err: &azuretest.Refusal{Status: http.StatusTooManyRequests, Code: "TooManyRequests"}})
			}
			want := map[bool]cloud.Class{true: cloud.Throttled, false: cloud.Pending}[busy]
			errs := p.SyncTargets(t.Context(), changes)
			if len(errs) < 2 || !cloud.IsClass(p.Classify(errs[0]), want) {
				t.Fatalf("too busy: %t: it is told %v", busy, errs)
			}
			if errs[len(errs)-1] != nil {
				t.Errorf("too busy: %t: addresses are told %v", busy, errs[len(errs)-1])
			}
		}
		if n := strings.Count(pooled(c), ",") + 1; n != 61 {
			t.Errorf("in the pool are %d after one call, want 61", n)
		}
		if _, err := converge(t, p, specs[0], false); err != nil || strings.Count(pooled(c), ",") != 199 {
			t.Errorf("in the pool are %s (%v)", pooled(c), err)
		}
	})
}

// TestRefusedMachines: what is refused for each machine is not tried with all of them at once, and keeps no other one out for good.
func TestRefusedMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 40)
		p, spec := provider(t, c), linked(service(1, 40))
		if _, err := converge(t, p, nodes(spec, 0), false); err != nil {
			t.Fatal(err)
		}
		count := &calls{}
		c.SetHook(count.hook)
		c.Deny("Microsoft.Network/networkInterfaces/write")
		if errs := p.SyncTargets(t.Context(), targetChanges(t, p, spec.Owner, spec)); len(errs) == 0 || count.seen[linkPut] != 10 {
			t.Errorf("without the right there are %d writes (%v)", count.seen[linkPut], errs)
		}

		const bad = 25
		c = network(t, azuretest.Options{})
		machines(c, 40)
		p = provider(t, c)
		if _, err := converge(t, p, nodes(spec, 0), false); err != nil {
			t.Fatal(err)
		}
		c.SetHook(func(call azuretest.Call) error {
			if n, err := strconv.Atoi(strings.TrimPrefix(call.Name, "nic-n")); call.Write() && err == nil && n <= bad {
				return errors.New("odd")
			}
			return nil
		})
		for range 10 {
			p.SyncTargets(t.Context(), targetChanges(t, p, spec.Owner, spec))
		}
		if n := strings.Count(pooled(c), ",") + 1; n != 1+40-bad { // the first was in already
			t.Errorf("in the pool are %d machines, want %d: %s", n, 1+40-bad, pooled(c))
		}
	})
}

// TestMachinesAreThrottled: the limits of machines are not those of balancers.
func TestMachinesAreThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		spec, _ := ofSet(c, 2)
		p := provider(t, c)
		if _, err := converge(t, p, nodes(spec, 0), false); err != nil {
			t.Fatal(err)
		}
		c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: "virtualMachineScaleSets/virtualMachines",
			Err: &azuretest.Refusal{Status: http.StatusTooManyRequests, Code: "TooManyRequests", RetryAfter: 300}})
		errs := p.SyncTargets(t.Context(), targetChanges(t, p, spec.Owner, spec))
		if len(errs) != 1 || !cloud.IsClass(errs[0], cloud.RetryAfter) || p.Classify(errs[0]).After != 300*time.Second {
			t.Errorf("it is told %v", errs)
		}
	})
}
