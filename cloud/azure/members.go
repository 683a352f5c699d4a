package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// This file changes who is in a pool of network interfaces: who comes and who goes, how many at once, and what is told of it.

// putMembers has the nodes with the addresses, and nobody else, be in a pool, but for nodes that are no machines. Those that come are
// first.
func (p *Provider) putMembers(ctx context.Context, balancer, name string, targets []cloud.Target, nodes []cloud.Node) error {
	lb := p.knownBalancer(balancer)
	m := &move{Provider: p, v: &view{config: p.config, interfaces: p.youngInterfaces()}, balancer: balancer, pool: name,
		machines: map[string]string{}, went: map[string]bool{}}
	for _, node := range nodes {
		m.machines[canonical(node.Address(cloud.IPv4))] = p.config.machineID(node)
	}
	wanted := m.withMachines(targets)
	if pool := poolOf(lb, name); pool != nil && slices.Equal(m.v.members(pool), wanted) {
		return nil
	}
	pool, err := p.idlePoolOf(ctx, lb, balancer, name)
	if err != nil {
		return err
	}
	if len(wanted) > 0 { // or else all are to go, whoever they are
		m.failed = p.readConfigs(ctx, m.v, configsIn(pool))
	}
	defer m.end()
	have := m.v.members(pool)
	coming := slices.DeleteFunc(slices.Clone(wanted), func(t cloud.Target) bool { return slices.Contains(have, t) })
	if !m.come(ctx, coming) {
		return m.err
	}
	for _, config := range slices.Sorted(slices.Values(configsIn(pool))) {
		failed := m.failed[scopeOf(config)]
		switch {
		case slices.Contains(wanted, cloud.Target{ID: m.v.member(config)}):
		case failed != nil && m.v.of(config).address[folded(config)] == "":
			m.wrong(failed) // perhaps it is to stay
		case !m.one(ctx, config, false):
			return m.err
		}
	}
	return m.err
}

// withMachines are the targets that can be in the pool. The others are noted.
func (m *move) withMachines(targets []cloud.Target) []cloud.Target {
	var wanted, others []cloud.Target
	for _, t := range targets {
		if m.machines[t.ID] == "" {
			others = append(others, t)
		} else {
			wanted = append(wanted, t)
		}
	}
	if name := folded(m.balancer); !slices.Equal(others, m.knownStrangers()[name]) {
		m.note(func(v *view) { v.strangers[name] = others })
	}
	return wanted
}

// move brings IP configurations into a pool, and takes others out.
type move struct {
	*Provider
	v              *view
	balancer, pool string
	machines       map[string]string // folded ids, by address; empty: the node has none
	failed         map[scope]error   // why interfaces could not be read
	came           []string          // ids of IP configurations
	went           map[string]bool   // the same
	refused        int               // writes
	err            error             // the first that is more than Pending, or else the first
}

// maxMoves is how many interfaces are written before others have their turn.
const maxMoves = 60

// maxRefused is how many refused writes there are before others have their turn: what one interface is refused for, such as a right
// that is missing, the next one mostly is, too.
const maxRefused = 10

// fewReads are cheaper than a list, of interfaces, and of addresses of another resource group.
const fewReads = 5

// come brings in what has the addresses. It reports whether anything else can be tried.
func (m *move) come(ctx context.Context, targets []cloud.Target) bool {
	failed := m.know(ctx, targets)
	for _, s := range sortedScopes(failed) {
		if m.wrong(failed[s]); ends(ctx, failed[s]) {
			return false
		}
	}
	for _, t := range m.turned(targets) {
		id := m.machines[t.ID]
		config := m.v.of(id).config[id+" "+t.ID]
		switch {
		case config == "" && failed[scopeOf(id)] != nil: // it is told
		case config == "":
			m.wrong(cloud.Errorf(cloud.Conflict, "machine %s has no network interface with the address %s in its resource group: remove its Node if it is gone", lastPart(id), t.ID))
		case !m.one(ctx, config, true):
			return false
		}
	}
	return true
}

// know lists the interfaces that have the addresses where they are not known, or where many were written since. It returns why some could
// not be listed; that they were listed a moment ago is no reason, since who is missing there is told.
func (m *move) know(ctx context.Context, targets []cloud.Target) map[scope]error {
	missing, outdated := map[scope]bool{}, map[scope]int{}
	for _, t := range targets {
		id := m.machines[t.ID]
		known, s := m.v.of(id), scopeOf(id)
		if config := known.config[id+" "+t.ID]; config == "" {
			missing[s] = true
		} else if known.byID[folded(interfaceOf(config))] == nil {
			outdated[s]++
		}
	}
	for s := range m.failed {
		delete(missing, s)
	}
	failed := m.readScopes(ctx, m.v, missing)
	for s := range failed {
		delete(missing, s) // what is left there was listed right now
	}
	maps.Copy(failed, m.failed)
	maps.DeleteFunc(failed, func(_ scope, err error) bool { return errors.Is(err, errListed) })
	for _, s := range sortedScopes(outdated) {
		if outdated[s] <= fewReads || missing[s] || failed[s] != nil || ctx.Err() != nil {
			continue
		}
		if err := m.unlistedYet(m.v, s); err != nil && !errors.Is(err, errListed) {
			continue
		}
		if err := m.readScope(ctx, m.v, s); err != nil {
			failed[s] = err
		}
	}
	return failed
}

// turned begins with others than the last time, where that ended with refusals: those that are refused keep nobody out for good.
func (m *move) turned(targets []cloud.Target) []cloud.Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(targets) == 0 {
		return nil
	}
	first := m.turn % len(targets)
	return slices.Concat(targets[first:], targets[:first])
}

// one IP configuration comes or goes. It reports whether another one can be tried.
func (m *move) one(ctx context.Context, config string, in bool) bool {
	if len(m.came)+len(m.went) >= maxMoves {
		m.err = cloud.Errorf(cloud.Pending, "%d machines have joined or left the balancer %s, and more are to", maxMoves, m.balancer)
		return false
	}
	if in {
		if err := m.barredNow(ctx, config); err != nil {
			m.wrong(err)
			return !ends(ctx, err)
		}
	}
	put := m.putInterface
	if scopeOf(config).set != "" {
		put = m.putMachine
	}
	err := put(ctx, config, in)
	switch {
	case err != nil:
		m.wrong(err)
		if m.fails(err) {
			return false
		}
	case in:
		m.came = append(m.came, config)
	default:
		m.went[config] = true
	}
	return !ends(ctx, err)
}

// fails counts a write that was refused, and reports whether there were enough of them.
func (m *move) fails(err error) bool {
	if isClass(err, cloud.Pending) {
		return false
	}
	if m.refused++; m.refused < maxRefused {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn += maxRefused
	return true
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

// beside is an error without the limits of others than balancers: machines, and lists of interfaces, have limits of their own, and
// whoever exceeds those can go on to write balancers.
func beside(err error) error {
	r := refusalOf(err)
	if r == nil || !isClass(err, cloud.Throttled) || !strings.HasPrefix(r.action, "Microsoft.Compute/") && !strings.HasSuffix(r.action, "/read") {
		return err
	}
	return &cloud.Error{Class: cloud.RetryAfter, After: cmp.Or(classified(err).After, interfacesRest), Err: err}
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
			e := classified(beside(err))
			return &cloud.Error{Class: e.Class, After: e.After, Err: fmt.Errorf("taking the machines out of balancer %s: %s", value(was.Name), err.Error())}
		}
		return cloud.Errorf(cloud.Pending, "the machines are leaving the balancer %s", value(was.Name))
	}
	return nil
}
