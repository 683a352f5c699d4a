package azure

import (
	"context"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// SyncTargets implements cloud.Provider: one write for each backend pool, that is for each balancer and family, with the whole
// list. All Services of the cluster have the same nodes, so that what one says counts for all of the pool.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	type pool struct{ balancer, name string }
	lists := map[pool][]cloud.Target{}
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
		lists[of[i]] = change.Resource.Targets
	}
	failed := map[pool]error{}
	var throttled error
	for _, at := range order {
		if throttled != nil {
			failed[at] = throttled
			continue
		}
		if err := p.putPool(ctx, at.balancer, at.name, lists[at]); err != nil {
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
// anything newer.
func (p *Provider) putPool(ctx context.Context, balancer, name string, targets []cloud.Target) error {
	pool := p.config.pool(name, targets)
	if lb := p.knownBalancer(balancer); lb != nil {
		if slices.Equal(poolTargets(lb, *pool.Name), targets) {
			return nil
		}
		if p.works(lb) {
			// With the pool of the other family, mostly. Azure would refuse this one.
			lb, err := p.writer(balancer).load(ctx)
			if err != nil {
				return err
			}
			if p.works(lb) {
				return cloud.Errorf(cloud.Pending, "the balancer %s is being written", balancer)
			}
		}
	}
	after, err := p.network.PutPool(ctx, balancer, pool)
	if err == nil {
		p.note(func(v *view) {
			if lb := v.balancers[balancer]; lb != nil {
				v.balancers[balancer] = withPool(lb, pool, after)
			}
		})
	}
	p.forget() // it may be worked on now
	return err
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

// withPool returns a copy of the balancer with another pool, of which Azure answered after, and without an ETag, which it has
// another one of now.
func withPool(lb *armnetwork.LoadBalancer, pool, after *armnetwork.BackendAddressPool) *armnetwork.LoadBalancer {
	next, properties := *lb, *lb.Properties
	next.Properties, next.Etag = &properties, nil
	properties.BackendAddressPools = slices.Clone(properties.BackendAddressPools)
	if after.Properties != nil && after.Properties.ProvisioningState != nil {
		properties.ProvisioningState = after.Properties.ProvisioningState
	}
	i := slices.IndexFunc(properties.BackendAddressPools, func(have *armnetwork.BackendAddressPool) bool { return value(have.Name) == *pool.Name })
	if i < 0 {
		properties.BackendAddressPools = append(properties.BackendAddressPools, pool)
	} else {
		properties.BackendAddressPools[i] = pool
	}
	return &next
}

func (p *Provider) knownBalancer(name string) *armnetwork.LoadBalancer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory.current == nil {
		return nil
	}
	return p.memory.current.balancers[name]
}
