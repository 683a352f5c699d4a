package azure

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// This file is how one machine joins a pool of network interfaces, or leaves it. That cannot be written in the pool: an interface names the
// pools that it is in, or, in a uniform scale set, the machine that has the interface does. It is written as a whole, over what was read of
// it, with all that others have on it.

func (m *move) poolID() string { return m.config.balancerID(m.balancer) + poolPath + m.pool }

// interfaceOf is the id of the interface that an IP configuration is of.
func interfaceOf(config string) string {
	at := strings.LastIndex(folded(config), "/ipconfigurations/")
	return config[:max(at, 0)]
}

// outdated has the interface be read anew when it is needed next, and, gone, its machine be looked for.
func (m *move) outdated(config string, gone bool) {
	m.note(func(v *view) {
		known := v.interfaces[scopeOf(config)]
		if known == nil {
			return
		}
		next := *known
		next.byID = maps.Clone(known.byID)
		next.outdated++
		delete(next.byID, folded(interfaceOf(config)))
		if gone {
			next.address, next.config = maps.Clone(known.address), maps.Clone(known.config)
			delete(next.address, folded(config))
			maps.DeleteFunc(next.config, func(_, id string) bool { return same(id, config) })
		}
		v.interfaces[scopeOf(config)] = &next
	})
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
				m.outdated(config, true) // the machine may have another one by now
				return cloud.Errorf(cloud.Conflict, "the network interface %s is gone: remove its machine's Node if the machine is, too", lastPart(interfaceOf(config)))
			case err != nil:
				return err
			}
			nic, fresh = found, true
		}
		next := deepcopy.Of(nic)
		pools, changed := join(next, config, m.poolID(), in)
		if !changed {
			if !fresh { // the pool says otherwise
				nic = nil
				continue
			}
			if over, err := m.ended(config, value(next.Properties).ProvisioningState); over {
				return err
			}
		}
		err := m.network.PutInterface(ctx, group, next, value(nic.Etag))
		if err == nil {
			m.outdated(config, false)
			return m.again(config, changed)
		}
		if !hasStatus(err, http.StatusPreconditionFailed) && !hasStatus(err, http.StatusNotFound) {
			return m.told(config, pools, err)
		}
		nic = nil
	}
	return cloud.Errorf(cloud.Pending, "others keep writing the network interface %s", lastPart(interfaceOf(config)))
}

// ended is how the write ended that has an IP configuration be as it is to be; not over: it failed, and is to be written again.
func (m *move) ended(config string, state *armnetwork.ProvisioningState) (over bool, err error) {
	switch stateOf(state) {
	case cloud.StatePending:
		return true, cloud.Errorf(cloud.Pending, "the network interface %s is being written", nicName(config))
	case cloud.StateFailed:
		return false, nil
	}
	return true, nil
}

// again is what is told of a write; not changed: it is one of what was there, and Azure had failed at it.
func (m *move) again(config string, changed bool) error {
	if changed {
		return nil
	}
	return cloud.Errorf(cloud.Retry, "Azure failed at the network interface %s, which is written again: see the machine's activity log if it stays so", nicName(config))
}

// join has an IP configuration of the interface be in the pool, or not. It returns the pools that the interface was in before, and
// whether that changes anything.
func join(nic *armnetwork.Interface, config, pool string, in bool) (pools []string, changed bool) {
	pools = poolsOf(nic)
	for _, ip := range value(nic.Properties).IPConfigurations {
		if ip.Properties == nil {
			continue
		}
		list := &ip.Properties.LoadBalancerBackendAddressPools
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
			state := armnetwork.ProvisioningState(value(value(vm.Properties).ProvisioningState))
			if over, err := m.ended(config, &state); over {
				return err
			}
		}
		if value(vm.Etag) == "" {
			return cloud.Errorf(cloud.Pending, "machine %s of scale set %s has no ETag yet", of.name, of.set)
		}
		if err = m.network.PutMachine(ctx, of.group, of.set, of.name, networkOf(vm), *vm.Etag); err == nil {
			return m.again(config, changed)
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

// poolsOf are those that an interface, which may be nil, is in.
func poolsOf(nic *armnetwork.Interface) (pools []string) {
	for _, ip := range value(value(nic).Properties).IPConfigurations {
		for _, b := range value(ip.Properties).LoadBalancerBackendAddressPools {
			pools = append(pools, value(b.ID))
		}
	}
	return pools
}

// nicName is what the interface of an IP configuration is called.
func nicName(config string) string {
	if of := scopeOf(config); of.set != "" {
		return "of " + strings.Split(config, "/")[8] + "/" + strings.Split(config, "/")[10]
	}
	return lastPart(interfaceOf(config))
}

// told is an error of Azure's about an IP configuration whose interface was in the pools.
func (m *move) told(config string, pools []string, err error) error {
	if r := refusalOf(err); r == nil || r.code != secondBalancer {
		return fmt.Errorf("network interface %s: %w", nicName(config), err)
	}
	others := m.others(pools)
	if len(others) > 0 {
		m.mu.Lock()
		m.barred[strings.Join(slices.Sorted(maps.Keys(others)), " ")] = time.Now().Add(barredFor)
		m.mu.Unlock()
	}
	return inAnother(config, others)
}

// barredFor is for how long it is not tried again whether an interface can be in a second balancer.
const barredFor = 5 * time.Minute

// others are the names of the balancers whose the pools are, but for that of the move, by folded id.
func (m *move) others(pools []string) map[string]string {
	others := map[string]string{}
	for _, pool := range pools {
		if i := strings.Index(folded(pool), folded(poolPath)); i >= 0 && !same(pool[:i], m.config.balancerID(m.balancer)) {
			others[folded(pool[:i])] = lastPart(pool[:i])
		}
	}
	return others
}

func inAnother(config string, others map[string]string) error {
	return cloud.Errorf(cloud.Conflict, "the network interface %s is in a pool of load balancer %s, and Azure lets it be in those of one internal balancer only, which has to be "+
		"that of private links: take the machines out of the other one, or remove annotation %spls-create", nicName(config), cloud.List(slices.Collect(maps.Values(others))), prefix)
}

// barredNow is why an interface cannot be in the pool by what Azure answered of another one that is in the same balancers; nil: nothing
// is known of that. What was read of it a while ago is read anew.
func (m *move) barredNow(ctx context.Context, config string) error {
	known := m.v.of(config)
	err := m.barredBy(config, poolsOf(known.byID[folded(interfaceOf(config))]))
	if err == nil || time.Since(known.at) < interfacesRest {
		return err
	}
	if failed := m.readScopes(ctx, m.v, map[scope]bool{scopeOf(config): true})[scopeOf(config)]; failed != nil {
		return failed
	}
	return m.barredBy(config, poolsOf(m.v.of(config).byID[folded(interfaceOf(config))]))
}

func (m *move) barredBy(config string, pools []string) error {
	others := m.others(pools)
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.barred, func(_ string, until time.Time) bool { return time.Now().After(until) })
	for ids := range m.barred {
		if !slices.ContainsFunc(strings.Fields(ids), func(id string) bool { return others[id] == "" }) {
			return inAnother(config, others)
		}
	}
	return nil
}
