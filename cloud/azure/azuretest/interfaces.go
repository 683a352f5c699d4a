package azuretest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// This file is about network interfaces, those that are resources and those of machines of uniform scale sets, and about the pools of
// balancers that they are in. Codes are Azure's, but for that of a pool that is in use, of which none was found written down.

func acceptInterface(c *Cloud, t, before *thing) *Refusal {
	nic := t.body.(*armnetwork.Interface)
	if r := checkResource(t.path.name, nic.Location, nic.Tags); r != nil {
		return r
	}
	p := nic.Properties
	if p == nil || len(p.IPConfigurations) == 0 {
		return bad("NetworkInterfaceMustHaveIpConfiguration", "network interface %s has no IP configuration", t.path.id())
	}
	for _, ip := range p.IPConfigurations {
		if ip.Properties == nil || ip.Properties.Subnet == nil || value(ip.Name) == "" {
			return bad("InvalidIPConfiguration", "an IP configuration of %s needs a name and a subnet", t.path.id())
		}
		if len(ip.Properties.LoadBalancerBackendAddressPools) == 0 {
			ip.Properties.LoadBalancerBackendAddressPools = nil
		}
	}
	p.VirtualMachine, p.Primary, p.MacAddress = nil, nil, nil // which the machine says
	if before != nil {
		was := before.body.(*armnetwork.Interface).Properties
		p.VirtualMachine, p.Primary, p.MacAddress = was.VirtualMachine, was.Primary, was.MacAddress
	}
	if p.NetworkSecurityGroup != nil {
		if r := c.linked("networkSecurityGroups/join/action"); r != nil {
			return r
		}
	}
	return c.checkPools(t)
}

func acceptMachine(c *Cloud, t, before *thing) *Refusal {
	vm := t.body.(*armcompute.VirtualMachineScaleSetVM)
	if before == nil {
		return refuse(404, "NotFound", "the entity was not found in this Azure location: %s", t.path.id())
	}
	if vm.Properties == nil || vm.Properties.NetworkProfileConfiguration == nil {
		return bad("InvalidParameter", "machine %s has no network profile", t.path.id())
	}
	if storage := vm.Properties.StorageProfile; storage != nil && storage.ImageReference != nil && storage.ImageReference.ID != nil {
		return refuse(403, "LinkedAuthorizationFailed", "the client has permission to perform action 'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/write' on scope %s, "+
			"but not 'Microsoft.Compute/galleries/images/versions/read' on the linked scope %s", t.path.id(), *storage.ImageReference.ID)
	}
	keepMachine(vm, before.body.(*armcompute.VirtualMachineScaleSetVM))
	for _, nic := range vm.Properties.NetworkProfileConfiguration.NetworkInterfaceConfigurations {
		for _, ip := range nic.Properties.IPConfigurations {
			if len(ip.Properties.LoadBalancerBackendAddressPools) == 0 {
				ip.Properties.LoadBalancerBackendAddressPools = nil
			}
		}
	}
	return c.checkPools(t)
}

// keepMachine has a machine keep what a write of it leaves out.
func keepMachine(vm, was *armcompute.VirtualMachineScaleSetVM) {
	p, before := vm.Properties, was.Properties
	if vm.Tags == nil {
		vm.Tags = was.Tags
	}
	vm.Identity = cmp.Or(vm.Identity, was.Identity)
	p.StorageProfile, p.OSProfile = cmp.Or(p.StorageProfile, before.StorageProfile), cmp.Or(p.OSProfile, before.OSProfile)
	p.HardwareProfile, p.ProtectionPolicy = cmp.Or(p.HardwareProfile, before.HardwareProfile), cmp.Or(p.ProtectionPolicy, before.ProtectionPolicy)
	p.LicenseType = cmp.Or(p.LicenseType, before.LicenseType)
}

// pools are those that a thing's interfaces are in, each with the IP configurations that are.
func (t *thing) pools() map[string][]string {
	in := map[string][]string{}
	if t == nil {
		return in
	}
	switch body := t.body.(type) {
	case *armnetwork.Interface:
		for _, ip := range body.Properties.IPConfigurations {
			for _, pool := range ip.Properties.LoadBalancerBackendAddressPools {
				in[key(value(pool.ID))] = append(in[key(value(pool.ID))], childID(t, "ipConfigurations", value(ip.Name)))
			}
		}
	case *armcompute.VirtualMachineScaleSetVM:
		for _, nic := range body.Properties.NetworkProfileConfiguration.NetworkInterfaceConfigurations {
			for _, ip := range nic.Properties.IPConfigurations {
				for _, pool := range ip.Properties.LoadBalancerBackendAddressPools {
					in[key(value(pool.ID))] = append(in[key(value(pool.ID))], childID(t, "networkInterfaces", value(nic.Name))+"/ipConfigurations/"+value(ip.Name))
				}
			}
		}
	}
	return in
}

// members are the pools that show a thing's interfaces, with the IP configurations: those that it was in before while it is written.
func (t *thing) members() map[string][]string {
	if t != nil && t.shown != nil {
		return t.shown
	}
	return t.pools()
}

// checkPools holds the pools that a thing's interfaces are to be in against what there is.
func (c *Cloud) checkPools(t *thing) *Refusal {
	if r := c.linked("virtualNetworks/subnets/join/action"); r != nil {
		return r
	}
	of := map[bool][]string{} // balancers, by whether they are internal
	for _, pool := range slices.Sorted(maps.Keys(t.pools())) {
		if r := c.linked("loadBalancers/backendAddressPools/join/action"); r != nil {
			return r
		}
		id, name, _ := strings.Cut(pool, "/backendaddresspools/")
		balancer := c.find(balancers, id)
		if balancer == nil {
			return bad("InvalidResourceReference", "resource %s referenced by %s was not found", pool, t.path.id())
		}
		p := balancer.body.(*armnetwork.LoadBalancer).Properties
		i := slices.IndexFunc(p.BackendAddressPools, func(b *armnetwork.BackendAddressPool) bool { return strings.EqualFold(value(b.Name), name) })
		switch {
		case i < 0:
			return bad("InvalidResourceReference", "resource %s referenced by %s was not found", pool, t.path.id())
		case !balancer.until.IsZero():
			return notProvisioned(balancer, t.path.id())
		case isOfAddresses(p.BackendAddressPools[i]):
			return mixed(pool)
		}
		internal := slices.ContainsFunc(p.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return f.Properties.Subnet != nil })
		if len(p.FrontendIPConfigurations) > 0 && !slices.Contains(of[internal], id) {
			of[internal] = append(of[internal], id)
		}
	}
	for _, several := range of {
		if len(several) > 1 {
			return bad("NetworkInterfaceUsesMultipleLoadBalancersOfSameType", "network interface %s references more than one load balancer of the same type (internal or public): %s",
				t.path.id(), strings.Join(several, ", "))
		}
	}
	return c.checkLoad(t)
}

func mixed(pool string) *Refusal {
	return bad("CannotMixIPBasedAddressesAndIPConfigurationsOnLoadBalancerBackendAddressPool", "pool %s would have addresses and network interfaces", pool)
}

// isOfAddresses reports whether a pool has members that are no interfaces.
func isOfAddresses(b *armnetwork.BackendAddressPool) bool {
	return b.Properties != nil && slices.ContainsFunc(b.Properties.LoadBalancerBackendAddresses, func(a *armnetwork.LoadBalancerBackendAddress) bool { return !ofInterface(a) })
}

func ofInterface(a *armnetwork.LoadBalancerBackendAddress) bool {
	return a.Properties != nil && a.Properties.NetworkInterfaceIPConfiguration != nil
}

func checkPool(pool *armnetwork.BackendAddressPool) *Refusal {
	if pool.Properties == nil {
		pool.Properties = &armnetwork.BackendAddressPoolPropertiesFormat{}
	}
	seen, families := map[string]bool{}, map[bool]bool{}
	for _, a := range pool.Properties.LoadBalancerBackendAddresses {
		p := a.Properties
		if p != nil && p.NetworkInterfaceIPConfiguration != nil {
			continue
		}
		if p == nil || p.IPAddress == nil {
			return bad("InvalidBackendAddress", "backend address %s of pool %s has no IP address", value(a.Name), value(pool.Name))
		}
		address, err := netip.ParseAddr(*p.IPAddress)
		switch {
		case err != nil:
			return bad("InvalidIPAddressFormat", "backend address %s of pool %s is no IP address", *p.IPAddress, value(pool.Name))
		case value(a.Name) == "" || seen[value(a.Name)] || seen[address.String()]:
			return bad("DuplicateBackendAddress", "backend address %s of pool %s occurs twice, or has no name", *p.IPAddress, value(pool.Name))
		case subID(p.VirtualNetwork) == "" && subID(pool.Properties.VirtualNetwork) == "":
			return bad("VirtualNetworkRequired", "backend address %s of pool %s has no virtual network", value(a.Name), value(pool.Name))
		}
		seen[value(a.Name)], seen[address.String()], families[address.Is4()] = true, true, true
	}
	if len(families) > 1 {
		return bad("MixedIPVersionsInBackendPool", "pool %s has addresses of both versions", value(pool.Name))
	}
	return nil
}

// members are the IP configurations in a pool, sorted.
func (c *Cloud) members(pool string) []string {
	var all []string
	for _, t := range c.things {
		if t.kind == interfaces || t.kind == machines {
			all = append(all, t.members()[key(pool)]...)
		}
	}
	slices.Sort(all)
	return all
}

// naming are the IP configurations that name a pool, also those whose write has not come about.
func (c *Cloud) naming(pool string) []string {
	var all []string
	for _, t := range c.things {
		all = append(all, t.pools()[key(pool)]...)
	}
	slices.Sort(all)
	return all
}

// checkMembers refuses a pool that would have addresses beside interfaces, or other interfaces than name it, and has it show its members.
func (c *Cloud) checkMembers(t *thing, pool *armnetwork.BackendAddressPool) *Refusal {
	id := childID(t, "backendAddressPools", value(pool.Name))
	members := c.members(id)
	if len(members) > 0 && isOfAddresses(pool) {
		return mixed(id)
	}
	var given []string
	for _, a := range pool.Properties.LoadBalancerBackendAddresses {
		if ofInterface(a) {
			given = append(given, value(a.Properties.NetworkInterfaceIPConfiguration.ID))
		}
	}
	slices.Sort(given)
	if !slices.EqualFunc(given, members, strings.EqualFold) {
		return bad("ModificationOfNICIpConfigBackendPoolNotSupported",
			"pool %s has members that are given by network interfaces, and is to have others: these are changed by the interfaces", id)
	}
	setMembers(pool, members)
	return nil
}

// setMembers has a pool show its members, in both places in which Azure does.
func setMembers(pool *armnetwork.BackendAddressPool, members []string) {
	p := pool.Properties
	p.BackendIPConfigurations = nil
	p.LoadBalancerBackendAddresses = slices.DeleteFunc(p.LoadBalancerBackendAddresses, ofInterface)
	for _, id := range members {
		parts := strings.Split(id, "/")
		p.BackendIPConfigurations = append(p.BackendIPConfigurations, &armnetwork.InterfaceIPConfiguration{ID: new(id)})
		p.LoadBalancerBackendAddresses = append(p.LoadBalancerBackendAddresses, &armnetwork.LoadBalancerBackendAddress{
			Name:       new(strings.Join(parts[8:], "_")),
			Properties: &armnetwork.LoadBalancerBackendAddressPropertiesFormat{NetworkInterfaceIPConfiguration: &armnetwork.SubResource{ID: new(id)}}})
	}
}

// keepMembers refuses to take away a pool that interfaces are in; t is nil where the balancer is to go.
func (c *Cloud) keepMembers(t, before *thing) *Refusal {
	if before == nil {
		return nil
	}
	for _, b := range before.body.(*armnetwork.LoadBalancer).Properties.BackendAddressPools {
		kept := t != nil && slices.ContainsFunc(t.body.(*armnetwork.LoadBalancer).Properties.BackendAddressPools,
			func(now *armnetwork.BackendAddressPool) bool {
				return strings.EqualFold(value(now.Name), value(b.Name))
			})
		id := childID(before, "backendAddressPools", value(b.Name))
		if members := append(c.members(id), c.naming(id)...); len(members) > 0 && !kept {
			return bad("InUseBackendAddressPoolCannotBeDeleted", "pool %s is used by %s", id, members[0])
		}
	}
	return nil
}

// showMembers has the pools show that something's interfaces are in others now.
func (c *Cloud) showMembers(before, after *thing, at time.Time) {
	changed := map[string]bool{}
	was, is := before.members(), after.members()
	for _, pools := range []map[string][]string{was, is} {
		for pool := range pools {
			if !slices.Equal(was[pool], is[pool]) {
				id, _, _ := strings.Cut(pool, "/backendaddresspools/")
				changed[id] = true
			}
		}
	}
	for id := range changed {
		t := c.things[id]
		if t == nil {
			continue
		}
		next, lb := *t, deepcopy.Of(t.body.(*armnetwork.LoadBalancer))
		for _, b := range lb.Properties.BackendAddressPools {
			setMembers(b, c.members(childID(t, "backendAddressPools", value(b.Name))))
		}
		next.body, next.text, next.etag = lb, nil, c.newETag()
		c.set(t.path.id(), &next, at)
	}
}

func stampInterface(t *thing) any {
	nic := deepcopy.Of(t.body.(*armnetwork.Interface))
	nic.ID, nic.Name, nic.Type, nic.Etag = new(t.path.id()), new(t.path.name), new("Microsoft.Network/networkInterfaces"), new(t.etag)
	nic.Properties.ProvisioningState = new(t.state)
	for _, ip := range nic.Properties.IPConfigurations {
		ip.ID, ip.Etag, ip.Properties.ProvisioningState = new(childID(t, "ipConfigurations", value(ip.Name))), new(t.etag), new(t.state)
	}
	return nic
}

func stampMachine(t *thing) any {
	vm := deepcopy.Of(t.body.(*armcompute.VirtualMachineScaleSetVM))
	set, n, _ := strings.Cut(t.path.name, "/")
	vm.ID, vm.Name, vm.InstanceID, vm.Etag = new(t.path.id()), new(set+"_"+n), new(n), new(t.etag)
	if t.unversioned {
		vm.Etag = nil
	}
	vm.Properties.ProvisioningState = new(string(t.state))
	return vm
}

// AddMachine makes a machine with a network interface that has the address, and returns the provider id of its node.
func (c *Cloud) AddMachine(name, address string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachines/%s", Subscription, ResourceGroup, name)
	p := path{subscription: Subscription, group: ResourceGroup, kind: interfaces.name, name: "nic-" + name}
	c.add(interfaces, p, &armnetwork.Interface{Location: new(Location), Tags: map[string]*string{"somebody": new("else")},
		Properties: &armnetwork.InterfacePropertiesFormat{VirtualMachine: &armnetwork.SubResource{ID: new(id)}, Primary: new(true),
			MacAddress: new("00-0D-3A-00-00-01"), EnableAcceleratedNetworking: new(true), EnableIPForwarding: new(true),
			NetworkSecurityGroup: &armnetwork.SecurityGroup{ID: new(networkID("networkSecurityGroups", "nodes"))},
			IPConfigurations: []*armnetwork.InterfaceIPConfiguration{
				ipConfiguration("ipv6", armnetwork.IPVersionIPv6, "fd00:db8::1"), ipConfiguration("ipconfig1", armnetwork.IPVersionIPv4, address)}}})
	return "azure://" + id
}

func ipConfiguration(name string, version armnetwork.IPVersion, address string) *armnetwork.InterfaceIPConfiguration {
	return &armnetwork.InterfaceIPConfiguration{Name: new(name), Properties: &armnetwork.InterfaceIPConfigurationPropertiesFormat{
		Primary: new(version == armnetwork.IPVersionIPv4), PrivateIPAddressVersion: new(version), PrivateIPAddress: new(address),
		PrivateIPAllocationMethod: new(armnetwork.IPAllocationMethodDynamic),
		Subnet:                    &armnetwork.Subnet{ID: new(networkID("virtualNetworks", "nodes/subnets/nodes"))}}}
}

// AddScaleSet makes a uniform scale set with a machine for each address, and returns the provider ids of their nodes.
func (c *Cloud) AddScaleSet(name string, addresses ...string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for i, address := range addresses {
		p := path{subscription: Subscription, group: ResourceGroup, kind: machines.name, name: fmt.Sprintf("%s/%d", name, i), compute: true}
		c.given[key(p.id())] = address
		c.add(machines, p, &armcompute.VirtualMachineScaleSetVM{Location: new(Location), Tags: map[string]*string{"somebody": new("else")},
			Identity: &armcompute.VirtualMachineIdentity{Type: new(armcompute.ResourceIdentityTypeUserAssigned),
				UserAssignedIdentities: map[string]*armcompute.UserAssignedIdentitiesValue{"kubelet": {}}},
			Properties: &armcompute.VirtualMachineScaleSetVMProperties{LicenseType: new("none"),
				HardwareProfile: &armcompute.HardwareProfile{VMSize: new(armcompute.VirtualMachineSizeTypesStandardD2V3)},
				OSProfile:       &armcompute.OSProfile{ComputerName: new(name)},
				StorageProfile: &armcompute.StorageProfile{ImageReference: &armcompute.ImageReference{
					ID: new("/subscriptions/somebody-elses/resourceGroups/images/providers/Microsoft.Compute/galleries/nodes/images/linux/versions/1.0.0")}},
				ProtectionPolicy: &armcompute.VirtualMachineScaleSetVMProtectionPolicy{ProtectFromScaleIn: new(true)},
				NetworkProfileConfiguration: &armcompute.VirtualMachineScaleSetVMNetworkProfileConfiguration{
					NetworkInterfaceConfigurations: []*armcompute.VirtualMachineScaleSetNetworkConfiguration{
						setInterface("storage", false), setInterface("nodes", true)}}}})
		ids = append(ids, "azure://"+p.id())
	}
	return ids
}

func setInterface(name string, primary bool) *armcompute.VirtualMachineScaleSetNetworkConfiguration {
	return &armcompute.VirtualMachineScaleSetNetworkConfiguration{Name: new(name), Properties: &armcompute.VirtualMachineScaleSetNetworkConfigurationProperties{
		Primary: new(primary), EnableAcceleratedNetworking: new(true),
		IPConfigurations: []*armcompute.VirtualMachineScaleSetIPConfiguration{{Name: new("ipv4"), Properties: &armcompute.VirtualMachineScaleSetIPConfigurationProperties{
			Primary: new(true), PrivateIPAddressVersion: new(armcompute.IPVersionIPv4),
			Subnet: &armcompute.APIEntityReference{ID: new(networkID("virtualNetworks", "nodes/subnets/nodes"))}}}}}}
}

// setInterfaces lists the network interfaces of a uniform scale set's machines, which can be read alone.
func (c *Cloud) setInterfaces(set path) *answer {
	list := []*armnetwork.Interface{}
	things := c.seen()
	for _, id := range slices.Sorted(maps.Keys(things)) {
		t := things[id]
		if name, _, _ := strings.Cut(t.path.name, "/"); t.kind != machines || !strings.EqualFold(name, set.name) {
			continue
		}
		for _, config := range t.body.(*armcompute.VirtualMachineScaleSetVM).Properties.NetworkProfileConfiguration.NetworkInterfaceConfigurations {
			at := childID(t, "networkInterfaces", value(config.Name))
			ip := ipConfiguration("ipv4", armnetwork.IPVersionIPv4, c.given[id])
			if ip.ID = new(at + "/ipConfigurations/ipv4"); !value(config.Properties.Primary) {
				ip.Properties.PrivateIPAddress = new("192.0.2.1") // of another network
			}
			for _, pool := range config.Properties.IPConfigurations[0].Properties.LoadBalancerBackendAddressPools {
				ip.Properties.LoadBalancerBackendAddressPools = append(ip.Properties.LoadBalancerBackendAddressPools, &armnetwork.BackendAddressPool{ID: pool.ID})
			}
			list = append(list, &armnetwork.Interface{ID: new(at), Name: config.Name, Properties: &armnetwork.InterfacePropertiesFormat{
				Primary: config.Properties.Primary, VirtualMachine: &armnetwork.SubResource{ID: new(t.path.id())},
				IPConfigurations: []*armnetwork.InterfaceIPConfiguration{ip}}})
		}
	}
	return &answer{status: 200, body: armnetwork.InterfaceListResult{Value: list}}
}

func networkID(kind, name string) string {
	return path{subscription: Subscription, group: ResourceGroup, kind: kind, name: name}.id()
}

// add puts something in its place that is no client's to make. With c.mu held.
func (c *Cloud) add(k *kind, p path, body any) {
	c.set(p.id(), &thing{kind: k, path: p, body: body, etag: c.newETag(), state: armnetwork.ProvisioningStateSucceeded}, time.Now())
}

// RemoveMachine deletes a machine that AddMachine made, with its interface.
func (c *Cloud) RemoveMachine(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(networkID(interfaces.name, "nic-"+name), nil, time.Now())
}

// EditInterface changes the network interface of a machine that AddMachine made.
func (c *Cloud) EditInterface(machine string, change func(nic *armnetwork.Interface)) error {
	nic := stampInterface(c.thing(interfaces, "nic-"+machine)).(*armnetwork.Interface)
	change(nic)
	return c.Put(interfaces.name, "nic-"+machine, nic)
}

// Interface is the network interface of a machine that AddMachine made.
func (c *Cloud) Interface(machine string) *armnetwork.Interface {
	return stampInterface(c.thing(interfaces, "nic-"+machine)).(*armnetwork.Interface)
}

// EditMachine changes a machine of a uniform scale set, of which it is the provider id.
func (c *Cloud) EditMachine(providerID string, change func(vm *armcompute.VirtualMachineScaleSetVM)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := *c.things[key(strings.TrimPrefix(providerID, "azure://"))]
	vm := deepcopy.Of(next.body.(*armcompute.VirtualMachineScaleSetVM))
	change(vm)
	next.body, next.text, next.etag = vm, nil, c.newETag()
	c.set(next.path.id(), &next, time.Now())
}

// HideETag has a machine of a uniform scale set be read without its ETag, or with it again.
func (c *Cloud) HideETag(providerID string, hidden bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := *c.things[key(strings.TrimPrefix(providerID, "azure://"))]
	next.unversioned, next.text = hidden, nil
	c.set(next.path.id(), &next, time.Now())
}

// Machine is a machine of a uniform scale set, of which it is the provider id.
func (c *Cloud) Machine(providerID string) *armcompute.VirtualMachineScaleSetVM {
	c.mu.Lock()
	defer c.mu.Unlock()
	return deepcopy.Of(c.things[key(strings.TrimPrefix(providerID, "azure://"))].body.(*armcompute.VirtualMachineScaleSetVM))
}
