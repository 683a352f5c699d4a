package azure_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// machines makes the machines of the first nodes.
func machines(c *azuretest.Cloud, n int) {
	for _, node := range service(1, n).Nodes {
		c.AddMachine(node.Name, node.Address(cloud.IPv4))
	}
}

// otherMachines makes those of another cluster's first nodes, which have the same addresses in another network.
func otherMachines(c *azuretest.Cloud, n int) {
	for _, node := range service(1, n).Nodes {
		c.AddMachine("b-"+node.Name, node.Address(cloud.IPv4))
	}
}

// linked is an internal Service with a private link, on nodes that are machines.
func linked(spec cloud.Spec) cloud.Spec {
	spec = with(internal(spec), map[string]string{"load-balancer-internal": "true", "pls-create": "true"})
	spec.Nodes = slices.Clone(spec.Nodes)
	for i := range spec.Nodes {
		spec.Nodes[i].ProviderID = "azure:///subscriptions/" + azuretest.Subscription + "/resourceGroups/" + azuretest.ResourceGroup +
			"/providers/Microsoft.Compute/virtualMachines/" + spec.Nodes[i].Name
	}
	return spec
}

// pooled are the names of the machines whose interfaces are in the pool of the balancer for private links.
func pooled(c *azuretest.Cloud) string {
	for _, line := range c.Snapshot() {
		if _, members, ok := strings.Cut(line, "-linked-1 pool fl-ipv4 "); ok {
			var names []string
			for _, member := range strings.Split(members, ",") {
				_, name, _ := strings.Cut(member, "networkInterfaces/nic-")
				names = append(names, strings.TrimSuffix(name, "/ipConfigurations/ipconfig1"))
			}
			return strings.Join(names, ",")
		}
	}
	return "none"
}

// linkPut is the write of an interface, as calls counts it.
const linkPut = "PUT networkInterfaces"

// TestLinkedCalls: a machine that joins or leaves is one write, whatever Services have private links; what does not change is none.
func TestLinkedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 4)
		empty := c.Snapshot()
		p := provider(t, c)
		count := &calls{}
		c.SetHook(count.hook)
		both := func(nodes int) []cloud.Spec {
			return []cloud.Spec{linked(service(1, nodes)), linked(service(2, nodes))}
		}
		for _, step := range []struct {
			what  string
			specs []cloud.Spec
			gone  bool
			want  map[string]int
			in    string
		}{
			{"the first Service", both(2)[:1], false, map[string]int{"PUT loadBalancers": 1, linkPut: 2, "PUT privateLinkServices": 1}, "n1,n2"},
			{"the second", both(2)[1:], false, map[string]int{"PUT loadBalancers": 1, "PUT privateLinkServices": 1}, "n1,n2"},
			{"a node more", both(3), false, map[string]int{linkPut: 1}, "n1,n2,n3"},
			{"two less, one more", []cloud.Spec{nodes(both(4)[0], 2, 3), nodes(both(4)[1], 2, 3)}, false, map[string]int{linkPut: 3}, "n3,n4"},
			{"nothing", []cloud.Spec{nodes(both(4)[0], 2, 3), nodes(both(4)[1], 2, 3)}, false, nil, "n3,n4"},
			{"one Service deleted", both(4)[:1], true, map[string]int{"DELETE privateLinkServices": 1, "PUT loadBalancers": 1}, "n3,n4"},
			{"the last one", both(4)[1:], true, map[string]int{"DELETE privateLinkServices": 1, linkPut: 2, "DELETE loadBalancers": 1}, "none"},
		} {
			count.seen = nil
			workers(t, p, 1, step.specs, step.gone)
			for name := range count.seen {
				if strings.Contains(name, " fl-") {
					delete(count.seen, name)
				}
			}
			if diff := cmp.Diff(step.want, count.seen, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: other writes (-want +got):\n%s", step.what, diff)
			}
			if got := pooled(c); got != step.in {
				t.Errorf("%s: in the pool are %s, want %s", step.what, got, step.in)
			}
			time.Sleep(time.Hour)
		}
		leavesNothing(t, c, empty)
	})
}

// nodes leaves of a Spec's nodes those with the numbers, from 0.
func nodes(spec cloud.Spec, numbers ...int) cloud.Spec {
	var left []cloud.Node
	for _, n := range numbers {
		left = append(left, spec.Nodes[n])
	}
	spec.Nodes = left
	return spec
}

// theirBalancer makes a balancer of somebody else's with a pool, and has machines be in that.
func theirBalancer(t *testing.T, c *azuretest.Cloud, name string, internal bool, machines ...string) {
	t.Helper()
	f := &armnetwork.FrontendIPConfigurationPropertiesFormat{PublicIPAddress: &armnetwork.PublicIPAddress{ID: new(networkPath + "publicIPAddresses/own")}}
	if internal {
		f = &armnetwork.FrontendIPConfigurationPropertiesFormat{Subnet: &armnetwork.Subnet{ID: new(networkPath + "virtualNetworks/nodes/subnets/nodes")}}
	}
	if err := c.Put("loadBalancers", name, armnetwork.LoadBalancer{Location: new(azuretest.Location),
		SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)}, Properties: &armnetwork.LoadBalancerPropertiesFormat{
			FrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{Name: new("web"), Properties: f}},
			BackendAddressPools:      []*armnetwork.BackendAddressPool{{Name: new("theirs")}}}}); err != nil {
		t.Fatal(err)
	}
	for _, machine := range machines {
		if err := c.EditInterface(machine, func(nic *armnetwork.Interface) {
			ip := nic.Properties.IPConfigurations[1].Properties
			ip.LoadBalancerBackendAddressPools = append(ip.LoadBalancerBackendAddressPools,
				&armnetwork.BackendAddressPool{ID: new(networkPath + "loadBalancers/" + name + "/backendAddressPools/theirs")})
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInterfaceIsKept: of an interface nothing changes but that it is in the pool, also where others write it at the same time, and in
// the end nothing at all has.
func TestInterfaceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		theirBalancer(t, c, "outbound", false, "n1")
		p, spec := provider(t, c), linked(service(1, 2))
		plain := func() *armnetwork.Interface {
			nic := c.Interface("n1")
			nic.Etag, nic.Properties.IPConfigurations[0].Etag, nic.Properties.IPConfigurations[1].Etag = nil, nil, nil
			return nic
		}
		again := false
		c.SetHook(func(call azuretest.Call) error {
			if call.After || call.Method != http.MethodPut || call.Name != "nic-n1" {
				return nil
			}
			if again = !again; !again {
				return nil
			}
			return c.EditInterface("n1", func(nic *armnetwork.Interface) {
				nic.Tags[fmt.Sprintf("meanwhile-%d", len(nic.Tags))] = new("1")
				nic.Properties.EnableAcceleratedNetworking = new(false)
			})
		})
		before := plain()
		for _, gone := range []bool{false, true} {
			if _, err := converge(t, p, spec, gone); err != nil {
				t.Fatal(err)
			}
			want := before
			want.Tags[fmt.Sprintf("meanwhile-%d", len(want.Tags))] = new("1")
			want.Properties.EnableAcceleratedNetworking = new(false)
			pools := &want.Properties.IPConfigurations[1].Properties.LoadBalancerBackendAddressPools
			ours := &armnetwork.BackendAddressPool{ID: new(networkPath + "loadBalancers/" + azure.BalancerName(spec.Owner.ClusterID, "linked", 1) + "/backendAddressPools/fl-ipv4")}
			if *pools = (*pools)[:1]; !gone {
				*pools = append(*pools, ours)
			}
			if diff := cmp.Diff(want, plain()); diff != "" {
				t.Errorf("gone: %t: more than the pool changed (-want +got):\n%s", gone, diff)
			}
		}
	})
}

// TestOtherInternalBalancer: where machines are in another internal balancer the user is told which, and it comes up once they are not.
func TestOtherInternalBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 3)
		theirBalancer(t, c, "kubernetes-internal", true, "n1", "n2")
		p, spec := provider(t, c), linked(service(1, 3))
		_, err := converge(t, p, spec, false)
		if p.Classify(err).Class != cloud.Conflict || !strings.Contains(err.Error(), "nic-n1 is in a pool of load balancer kubernetes-internal,") {
			t.Errorf("it is told %v", err)
		}
		if got := pooled(c); got != "n3" {
			t.Errorf("in the pool are %s, want those that can be", got)
		}
		for _, machine := range []string{"n1", "n2"} {
			if err := c.EditInterface(machine, func(nic *armnetwork.Interface) {
				nic.Properties.IPConfigurations[1].Properties.LoadBalancerBackendAddressPools = nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Second) // after which a Conflict is looked at again
		if _, err := converge(t, p, spec, false); err != nil || pooled(c) != "n1,n2,n3" {
			t.Errorf("in the pool are %s (%v)", pooled(c), err)
		}
	})
}

// TestMachinesGo: a machine that is gone leaves no trace and holds up nobody; one that has gone before its Node is told, and one that
// comes back with another interface joins.
func TestMachinesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 3)
		p := provider(t, c)
		three := linked(service(1, 3))
		if _, err := converge(t, p, three, false); err != nil {
			t.Fatal(err)
		}
		c.RemoveMachine("n2")
		time.Sleep(time.Minute)
		if _, err := converge(t, p, three, false); p.Classify(err).Class != cloud.Conflict || !strings.Contains(err.Error(), "nic-n2 is gone") {
			t.Errorf("with a Node whose machine is gone it is told %v", err)
		}
		if out, err := converge(t, p, nodes(three, 0, 2), false); err != nil || pooled(c) != "n1,n3" {
			t.Errorf("in the pool are %s; it does %+v (%v)", pooled(c), out.Done, err)
		}
		c.RemoveMachine("n3") // while it is to leave
		if _, err := converge(t, p, nodes(three, 0), false); err != nil || pooled(c) != "n1" {
			t.Errorf("in the pool are %s (%v)", pooled(c), err)
		}
		c.AddMachine("n2", "172.30.0.12")
		if _, err := converge(t, p, nodes(three, 0, 1), false); err != nil || pooled(c) != "n1,n2" {
			t.Errorf("in the pool are %s (%v)", pooled(c), err)
		}
		other := nodes(three, 0, 1)
		other.Nodes = append(other.Nodes, service(1, 3).Nodes[2]) // of no machine
		if _, err := converge(t, p, other, false); err != nil || pooled(c) != "n1,n2" {
			t.Errorf("with a node that is no machine in the pool are %s (%v)", pooled(c), err)
		}
		if out, err := converge(t, p, other, false); err != nil || len(out.Done) > 0 {
			t.Errorf("with a node that is no machine it does %+v (%v)", out.Done, err)
		}
		if _, err := converge(t, p, three, true); err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(c.Snapshot(), "\n"); strings.Contains(all, "backendAddressPools") {
			t.Errorf("left is\n%s", all)
		}
	})
}

// TestLinkMoves: a Service that comes to ask for a private link, or does no longer, stays where it is, with its nodes, until it allows a
// replacement, and then is on a balancer of the other kind.
func TestLinkMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 3)
		empty, p := c.Snapshot(), provider(t, c)
		plain := linked(service(1, 2))
		plain.Annotations = map[string]string{internalAnnotation: "true"}
		specs := []cloud.Spec{plain, linked(service(1, 2))}
		balancers := []string{"internal", "linked"}
		if _, err := converge(t, p, specs[0], false); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			to := specs[1-i]
			is, wanted := azure.BalancerName(to.Owner.ClusterID, balancers[i], 1), azure.BalancerName(to.Owner.ClusterID, balancers[1-i], 1)
			desired, err := p.Desired(to)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			before := c.Snapshot()
			out, err := cloud.Converge(t.Context(), p, to.Owner, desired, cloud.Options{})
			if diff := cmp.Diff(before, c.Snapshot()); diff != "" || len(out.Left.Blocked) == 0 || err != nil {
				t.Errorf("without leave it does (%v)\n%s", err, diff)
			}
			if _, err := convergeWith(t, p, to, cloud.Options{Replacement: v1alpha1.ReplacementRecreate}); err != nil {
				t.Fatal(err)
			}
			if names := c.Names("loadBalancers"); !slices.Contains(names, wanted) || slices.Contains(names, is) {
				t.Errorf("there are %q, want %s instead of %s", names, wanted, is)
			}
		}
		if _, err := converge(t, p, specs[0], true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		leavesNothing(t, c, empty)
	})
}

// TestOneLinkedBalancer: what does not fit on the balancer for private links is told that there is no second one.
func TestOneLinkedBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 1)
		p := provider(t, c)
		for n := range 2 {
			spec := linked(service(n, 1))
			for i := range 129 {
				port := spec.Ports[0]
				port.Port = int32(1000 + i)
				spec.Ports = append(spec.Ports, port)
			}
			_, err := converge(t, p, spec, false)
			if n == 0 && err != nil || n == 1 && (p.Classify(err).Class != cloud.Quota || !strings.Contains(err.Error(), "one such balancer only")) {
				t.Errorf("Service %d is told %v", n, err)
			}
		}
	})
}

// TestLinkedDenied: a permission that is missing is named, and holds up no Service without a private link.
func TestLinkedDenied(t *testing.T) {
	for _, action := range []string{"Microsoft.Network/networkInterfaces/read", "Microsoft.Network/networkInterfaces/write",
		"Microsoft.Network/loadBalancers/backendAddressPools/join/action", "Microsoft.Network/networkSecurityGroups/join/action",
		"Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read", "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
		"Microsoft.Compute/virtualMachineScaleSets/virtualMachines/write"} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			machines(c, 1)
			spec := linked(service(1, 2))
			spec.Nodes[1].ProviderID = c.AddScaleSet("pool", spec.Nodes[1].Address(cloud.IPv4))[0]
			first := 1
			if strings.Contains(action, "Compute") || strings.HasSuffix(action, "Network/networkInterfaces/read") { // which there are some of already
				first = 0
			}
			if _, err := converge(t, provider(t, c), nodes(spec, first), false); err != nil {
				t.Fatal(err)
			}
			c.Deny(action)
			p := provider(t, c)
			_, err := converge(t, p, spec, false)
			if err == nil || !strings.Contains(err.Error(), action) || p.Classify(err).Class != cloud.Retry {
				t.Errorf("without %s it says %v", action, err)
			}
			if _, err := converge(t, p, internal(service(2, 2)), false); err != nil {
				t.Errorf("without %s another Service is told %v", action, err)
			}
		})
	}
}
