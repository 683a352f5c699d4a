package azure

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// This file changes who is in a pool of network interfaces. That cannot be written in the pool: an interface names the pools that it
// is in, or, in a uniform scale set, the machine that has the interface does. It is written as a whole, over what was read of it, with
// all that others have on it.

// putMembers has the nodes with the addresses, and nobody else, be in a pool. Those that come are first.
func (p *Provider) putMembers(ctx context.Context, balancer, name string, targets []cloud.Target, nodes []cloud.Node) error {
	lb := p.knownBalancer(balancer)
	v := &view{config: p.config, interfaces: p.youngInterfaces()}
	if pool := poolOf(lb, name); pool != nil && slices.Equal(v.members(pool), targets) {
		return nil
	}
	pool, err := p.idlePoolOf(ctx, lb, balancer, name)
	if err != nil {
		return err
	}
	if err := p.readConfigs(ctx, v, configsIn(pool)); err != nil {
		return err
	}
	m := &move{Provider: p, v: v, balancer: balancer, pool: name, went: map[string]bool{}}
	defer m.end()
	have := v.members(pool)
	coming := slices.DeleteFunc(slices.Clone(targets), func(t cloud.Target) bool { return slices.Contains(have, t) })
	if err := m.come(ctx, coming, nodes); err != nil {
		return err
	}
	for _, config := range slices.Sorted(slices.Values(configsIn(pool))) {
		if !slices.Contains(targets, cloud.Target{ID: v.member(config)}) && !m.one(ctx, config, false) {
			break
		}
	}
	return m.err
}

// move brings IP configurations into a pool, and takes others out.
type move struct {
	*Provider
	v              *view
	balancer, pool string
	came           []string        // ids of IP configurations
	went           map[string]bool // the same
	err            error           // the first that is more than Pending, or else the first
}

// come brings in what has the addresses. Its error is one after which nothing else can be tried.
func (m *move) come(ctx context.Context, targets []cloud.Target, nodes []cloud.Node) error {
	machines := map[string]string{} // by address
	missing := map[scope]bool{}
	for _, node := range nodes {
		address, id := canonical(node.Address(cloud.IPv4)), m.config.machineID(node)
		machines[address] = id
		if id != "" && slices.Contains(targets, cloud.Target{ID: address}) && m.v.of(id).config[id+" "+address] == "" {
			missing[scopeOf(id)] = true
		}
	}
	if err := m.readScopes(ctx, m.v, missing); err != nil {
		return err
	}
	for _, t := range targets {
		id := machines[t.ID]
		config := m.v.of(id).config[id+" "+t.ID]
		switch {
		case id == "":
			m.wrong(cloud.Errorf(cloud.NotFound, "the node with the address %s is no machine of the subscription, and so can have no private links: exclude it from load balancers", t.ID))
		case config == "":
			m.wrong(cloud.Errorf(cloud.NotFound, "machine %s has no network interface with the address %s in its resource group: remove its Node if it is gone", lastPart(id), t.ID))
		case !m.one(ctx, config, true):
			return m.err
		}
	}
	return nil
}

// one IP configuration comes or goes. It reports whether another one can be tried.
func (m *move) one(ctx context.Context, config string, in bool) bool {
	put := m.putInterface
	if scopeOf(config).set != "" {
		put = m.putMachine
	}
	err := put(ctx, config, in)
	switch {
	case err != nil:
		m.wrong(err)
	case in:
		m.came = append(m.came, config)
	default:
		m.went[config] = true
	}
	return ctx.Err() == nil && !isClass(err, cloud.Throttled)
}

func (m *move) wrong(err error) {
	if m.err == nil || isClass(m.err, cloud.Pending) && !isClass(err, cloud.Pending) || isClass(err, cloud.Throttled) {
		m.err = err
	}
}

// end has the known balancer have the members that it has now.
func (m *move) end() {
	if len(m.came)+len(m.went) > 0 {
		m.note(func(v *view) {
			if lb := v.balancers[folded(m.balancer)]; lb != nil {
				v.balancers[folded(m.balancer)] = m.moved(lb)
			}
		})
		m.forget()
	}
}

// moved returns a copy of the balancer with other members. Its ETag is not known.
func (m *move) moved(lb *armnetwork.LoadBalancer) *armnetwork.LoadBalancer {
	next, properties := *lb, *lb.Properties
	next.Properties, next.Etag, properties.BackendAddressPools = &properties, nil, slices.Clone(lb.Properties.BackendAddressPools)
	for i, have := range properties.BackendAddressPools {
		if !same(value(have.Name), m.pool) {
			continue
		}
		of, pool := *have, value(have.Properties)
		pool.BackendIPConfigurations = nil
		for _, id := range append(configsIn(have), m.came...) {
			if !m.went[id] {
				pool.BackendIPConfigurations = append(pool.BackendIPConfigurations, &armnetwork.InterfaceIPConfiguration{ID: new(id)})
			}
		}
		of.Properties = &pool
		properties.BackendAddressPools[i] = &of
	}
	return &next
}

func (m *move) poolID() string { return m.config.balancerID(m.balancer) + poolPath + m.pool }

// interfaceOf is the id of the interface that an IP configuration is of.
func interfaceOf(config string) string {
	at := strings.LastIndex(folded(config), "/ipconfigurations/")
	return config[:max(at, 0)]
}

// outdated has the interfaces of the scope be read anew when they are needed next.
func (m *move) outdated(config string) {
	m.note(func(v *view) { delete(v.interfaces, scopeOf(config)) })
}

// putInterface has an interface's IP configuration be in the pool, or not. An interface that is gone is in none.
func (m *move) putInterface(ctx context.Context, config string, in bool) error {
	nic, group := m.v.of(config).byID[folded(interfaceOf(config))], strings.Split(config, "/")[4]
	fresh := false
	for range 5 {
		if nic == nil {
			found, err := m.network.Interface(ctx, group, lastPart(interfaceOf(config)))
			switch {
			case hasStatus(err, http.StatusNotFound) && !in:
				return nil
			case hasStatus(err, http.StatusNotFound):
				m.outdated(config) // the machine may have another one by now
				return cloud.Errorf(cloud.NotFound, "the network interface %s is gone: remove its machine's Node if the machine is, too", lastPart(interfaceOf(config)))
			case err != nil:
				return err
			}
			nic, fresh = found, true
		}
		next := deepcopy.Of(nic)
		pools, changed := join(next, config, m.poolID(), in)
		switch {
		case !changed && fresh:
			return nil
		case !changed: // the pool says otherwise
			nic = nil
			continue
		}
		err := m.network.PutInterface(ctx, group, next, value(nic.Etag))
		if err == nil {
			m.outdated(config)
			return nil
		}
		if !hasStatus(err, http.StatusPreconditionFailed) && !hasStatus(err, http.StatusNotFound) {
			return m.told(config, pools, err)
		}
		nic = nil
	}
	return cloud.Errorf(cloud.Pending, "others keep writing the network interface %s", lastPart(interfaceOf(config)))
}

// join has an IP configuration of the interface be in the pool, or not. It returns the pools that the interface was in before, and
// whether that changes anything.
func join(nic *armnetwork.Interface, config, pool string, in bool) (pools []string, changed bool) {
	for _, ip := range value(nic.Properties).IPConfigurations {
		if ip.Properties == nil {
			continue
		}
		list := &ip.Properties.LoadBalancerBackendAddressPools
		for _, b := range *list {
			pools = append(pools, value(b.ID))
		}
		if !same(value(ip.ID), config) {
			continue
		}
		is := func(b *armnetwork.BackendAddressPool) bool { return same(value(b.ID), pool) }
		*list, changed = joined(*list, is, in, &armnetwork.BackendAddressPool{ID: new(pool)})
	}
	return pools, changed
}

// joined is a list of pools with the one that is meant, or without it, and whether that is another list. Without any it is empty and not
// nil, which would be left out of what is written, and mean that nothing changes.
func joined[P any](list []*P, is func(*P) bool, in bool, pool *P) (after []*P, changed bool) {
	switch {
	case slices.ContainsFunc(list, is) == in:
		return list, false
	case in:
		return append(slices.Clone(list), pool), true
	}
	return slices.DeleteFunc(slices.Clone(list), is), true
}

// putMachine is putInterface for a machine of a uniform scale set.
func (m *move) putMachine(ctx context.Context, config string, in bool) error {
	id, _, _ := strings.Cut(folded(config), "/networkinterfaces/")
	of, _ := parseMachine(config[:len(id)])
	for range 4 {
		vm, err := m.network.Machine(ctx, of.group, of.set, of.name)
		if hasStatus(err, http.StatusNotFound) && !in {
			return nil
		}
		if err != nil {
			return err
		}
		pools, changed := joinMachine(vm, config, m.poolID(), in)
		if !changed {
			return nil
		}
		if value(vm.Etag) == "" {
			return cloud.Errorf(cloud.Pending, "machine %s of scale set %s has no ETag yet", of.name, of.set)
		}
		if err = m.network.PutMachine(ctx, of.group, of.set, of.name, networkOf(vm), *vm.Etag); err == nil {
			return nil
		}
		if !hasStatus(err, http.StatusPreconditionFailed) {
			return m.told(config, pools, err)
		}
	}
	return cloud.Errorf(cloud.Pending, "others keep writing the machine %s of scale set %s", of.name, of.set)
}

// networkOf is of a machine what is written to have its interfaces change. Azure keeps what is left out; with the image that a machine
// is of it would ask for rights on that, and with the disks it would take away one that is attached meanwhile.
func networkOf(vm *armcompute.VirtualMachineScaleSetVM) *armcompute.VirtualMachineScaleSetVM {
	p := value(vm.Properties)
	return &armcompute.VirtualMachineScaleSetVM{Location: vm.Location, Tags: vm.Tags, Properties: &armcompute.VirtualMachineScaleSetVMProperties{
		HardwareProfile: p.HardwareProfile, NetworkProfileConfiguration: p.NetworkProfileConfiguration, ProtectionPolicy: p.ProtectionPolicy}}
}

// joinMachine is join for a machine of a uniform scale set.
func joinMachine(vm *armcompute.VirtualMachineScaleSetVM, config, pool string, in bool) (pools []string, changed bool) {
	for _, nic := range value(value(vm.Properties).NetworkProfileConfiguration).NetworkInterfaceConfigurations {
		for _, ip := range value(nic.Properties).IPConfigurations {
			if ip.Properties == nil {
				continue
			}
			list := &ip.Properties.LoadBalancerBackendAddressPools
			for _, b := range *list {
				pools = append(pools, value(b.ID))
			}
			if !same(lastPart(interfaceOf(config)), value(nic.Name)) || !same(lastPart(config), value(ip.Name)) {
				continue
			}
			is := func(b *armcompute.SubResource) bool { return same(value(b.ID), pool) }
			*list, changed = joined(*list, is, in, &armcompute.SubResource{ID: new(pool)})
		}
	}
	return pools, changed
}

// told is an error of Azure's about an IP configuration whose interface was in the pools.
func (m *move) told(config string, pools []string, err error) error {
	nic := lastPart(interfaceOf(config))
	if of := scopeOf(config); of.set != "" {
		nic = "of " + strings.Split(config, "/")[8] + "/" + strings.Split(config, "/")[10]
	}
	if r := refusalOf(err); r == nil || r.code != secondBalancer {
		return fmt.Errorf("network interface %s: %w", nic, err)
	}
	others := map[string]bool{}
	for _, pool := range pools {
		if parts := strings.Split(pool, "/"); len(parts) > 8 && !same(parts[8], m.balancer) {
			others[parts[8]] = true
		}
	}
	return cloud.Errorf(cloud.Conflict, "the network interface %s is in a pool of load balancer %s, and Azure lets it be in those of one internal balancer only, which has to be "+
		"that of private links: take the machines out of the other one, or remove annotation %spls-create", nic, cloud.List(slices.Collect(maps.Keys(others))), prefix)
}

// vacate takes the machines out of pools that a balancer is to have no longer: Azure keeps a pool that interfaces name. Its error is of
// class Pending as long as there were any.
func (p *Provider) vacate(ctx context.Context, was, next *armnetwork.LoadBalancer) error {
	if was == nil || !isLinked(value(was.Name)) {
		return nil
	}
	for _, pool := range was.Properties.BackendAddressPools {
		if len(configsIn(pool)) == 0 || poolOf(next, value(pool.Name)) != nil {
			continue
		}
		if err := p.putMembers(ctx, value(was.Name), value(pool.Name), nil, nil); err != nil {
			// Without the refusal, which would be taken for that of a change of the balancer.
			e := classified(err)
			return &cloud.Error{Class: e.Class, After: e.After, Err: fmt.Errorf("taking the machines out of balancer %s: %s", value(was.Name), err.Error())}
		}
		return cloud.Errorf(cloud.Pending, "the machines are leaving the balancer %s", value(was.Name))
	}
	return nil
}
