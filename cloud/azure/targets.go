package azure

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// SyncTargets implements cloud.Provider: one write for each backend pool, that is for each balancer and family, with the whole
// list; one for each machine that comes or goes, where the pool is of network interfaces: those pools are last. All Services of the cluster
// have the same nodes, so that what one says counts for all of the pool.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	type pool struct{ balancer, name string }
	lists, nodes := map[pool][]cloud.Target{}, map[pool][]cloud.Node{}
	var order []pool
	errs := make([]error, len(changes))
	of := make([]pool, len(changes))
	for i, change := range changes {
		at := p.config.locate(change.Resource.ID)
		if at.balancer == "" {
			errs[i] = cloud.Errorf(cloud.NotFound, "%s is no part of a balancer", change.Resource.ID)
			continue
		}
		of[i] = pool{at.balancer, poolName(change.Resource.Key)}
		if at.frontend != "" {
			of[i].name = heldPool(change.Owner, change.Resource.Key)
		}
		if _, ok := lists[of[i]]; !ok {
			order = append(order, of[i])
		}
		lists[of[i]], nodes[of[i]] = change.Resource.Targets, change.Resource.Nodes
	}
	slices.SortStableFunc(order, func(a, b pool) int { return cmp.Compare(rank(!isLinked(a.balancer)), rank(!isLinked(b.balancer))) }) // which take long
	failed := map[pool]error{}
	var throttled error
	for _, at := range order {
		if throttled != nil {
			failed[at] = throttled
			continue
		}
		var err error
		if isLinked(at.balancer) && at.name == poolName(familyKey(cloud.IPv4)) {
			err = beside(p.putMembers(ctx, at.balancer, at.name, lists[at], nodes[at]))
		} else {
			err = p.putPool(ctx, at.balancer, at.name, lists[at])
		}
		if err != nil {
			failed[at] = err
			if p.Classify(err).Class == cloud.Throttled {
				throttled = err
			}
		}
	}
	for i := range changes {
		if errs[i] == nil {
			errs[i] = failed[of[i]]
		}
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return errs
}

// putPool writes the list of a pool, unless it is what the pool was last seen to have: whoever wants it changed has not seen
// anything newer. It never makes a pool: one that is gone had the last of its rules taken away meanwhile, or is still to be written
// with them.
func (p *Provider) putPool(ctx context.Context, balancer, name string, targets []cloud.Target) error {
	lb := p.knownBalancer(balancer)
	for range 4 {
		if lb != nil && slices.Equal(poolTargets(lb, name), targets) {
			return nil
		}
		there, err := p.idlePoolOf(ctx, lb, balancer, name)
		if err != nil {
			return err
		}
		pool := p.config.withTargets(there, targets)
		after, err := p.network.PutPool(ctx, balancer, pool, value(there.Etag))
		if err == nil {
			p.note(func(v *view) {
				if lb := v.balancers[folded(balancer)]; lb != nil {
					v.balancers[folded(balancer)] = withPool(lb, pool, after)
				}
			})
		}
		p.forget() // it may be worked on now
		if !hasStatus(err, http.StatusPreconditionFailed) {
			return p.blamed(p.knownBalancer(balancer), err)
		}
		lb = nil
	}
	return cloud.Errorf(cloud.Pending, "others keep writing the balancer %s", balancer)
}

// idlePoolOf is a pool of a balancer that nobody works on, as it was last seen, or else as it is read. Azure would refuse what is
// written while it works, mostly on the pool of the other family.
func (p *Provider) idlePoolOf(ctx context.Context, lb *armnetwork.LoadBalancer, balancer, name string) (*armnetwork.BackendAddressPool, error) {
	if lb == nil || p.works(lb) {
		var err error
		if lb, err = p.writer(balancer).load(ctx); err != nil {
			return nil, err
		}
		if p.works(lb) {
			return nil, cloud.Errorf(cloud.Pending, "the balancer %s is being written", balancer)
		}
	}
	pool := poolOf(lb, name)
	if pool == nil {
		return nil, cloud.Errorf(cloud.Pending, "the balancer %s has no pool %s yet, or any more", balancer, name)
	}
	return pool, nil
}

// poolOf is the pool of that name; nil: there is none.
func poolOf(lb *armnetwork.LoadBalancer, name string) *armnetwork.BackendAddressPool {
	if lb == nil {
		return nil
	}
	i := slices.IndexFunc(lb.Properties.BackendAddressPools, func(b *armnetwork.BackendAddressPool) bool { return same(value(b.Name), name) })
	if i < 0 {
		return nil
	}
	return lb.Properties.BackendAddressPools[i]
}

func (p *Provider) works(lb *armnetwork.LoadBalancer) bool {
	return lb != nil && stateOf(lb.Properties.ProvisioningState) == cloud.StatePending
}

// pool is one of that name with these addresses.
func (c Config) pool(name string, targets []cloud.Target) *armnetwork.BackendAddressPool {
	pool := &armnetwork.BackendAddressPool{Name: new(name), Properties: &armnetwork.BackendAddressPoolPropertiesFormat{}}
	for _, t := range targets {
		pool.Properties.LoadBalancerBackendAddresses = append(pool.Properties.LoadBalancerBackendAddresses, &armnetwork.LoadBalancerBackendAddress{
			Name: new(strings.ReplaceAll(t.ID, ":", "-")), Properties: &armnetwork.LoadBalancerBackendAddressPropertiesFormat{IPAddress: new(t.ID),
				VirtualNetwork: &armnetwork.SubResource{ID: new(c.networkID())}}})
	}
	return pool
}

// withTargets returns a copy of a pool with these addresses. What stays is as it was, such as a state that somebody gave an address to drain it.
func (c Config) withTargets(pool *armnetwork.BackendAddressPool, targets []cloud.Target) *armnetwork.BackendAddressPool {
	next, list := deepcopy.Of(pool), c.pool(value(pool.Name), targets).Properties.LoadBalancerBackendAddresses
	if next.Properties == nil {
		next.Properties = &armnetwork.BackendAddressPoolPropertiesFormat{}
	}
	had := map[string]*armnetwork.LoadBalancerBackendAddress{}
	for _, a := range next.Properties.LoadBalancerBackendAddresses {
		if of := value(a.Properties); same(value(value(of.VirtualNetwork).ID), c.networkID()) {
			had[canonical(value(of.IPAddress))] = a
		}
	}
	for i, a := range list {
		list[i] = cmp.Or(had[canonical(*a.Properties.IPAddress)], a)
	}
	next.Properties.LoadBalancerBackendAddresses = list
	return next
}

// withPool returns a copy of the balancer with another pool, of which Azure answered after. The balancer has another ETag now, which
// is not known, and that of its pools is taken to be the answer's: Azure changes them together. Should it not, it refuses what is
// written over that, and is asked.
func withPool(lb *armnetwork.LoadBalancer, pool, after *armnetwork.BackendAddressPool) *armnetwork.LoadBalancer {
	next, properties := *lb, *lb.Properties
	next.Properties, next.Etag, properties.BackendAddressPools = &properties, nil, nil
	if after.Properties != nil && after.Properties.ProvisioningState != nil {
		properties.ProvisioningState = after.Properties.ProvisioningState
	}
	for _, have := range lb.Properties.BackendAddressPools {
		of := *have
		if same(value(have.Name), *pool.Name) {
			of = *pool
		}
		of.Etag = after.Etag
		properties.BackendAddressPools = append(properties.BackendAddressPools, &of)
	}
	return &next
}

func (p *Provider) knownBalancer(name string) *armnetwork.LoadBalancer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory.current == nil {
		return nil
	}
	return p.memory.current.balancers[folded(name)]
}

// knownAddress is a public address as it was last read or written; nil: there is none.
func (p *Provider) knownAddress(id string) *armnetwork.PublicIPAddress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory.current == nil {
		return nil
	}
	return p.memory.current.addresses[folded(id)]
}
