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
	type pool struct{ balancer, family string }
	lists := map[pool][]cloud.Target{}
	var order []pool
	errs := make([]error, len(changes))
	of := make([]pool, len(changes))
	for i, change := range changes {
		balancer, _, ok := splitPart(change.Resource.ID)
		if !ok {
			errs[i] = cloud.Errorf(cloud.NotFound, "%s is no part of a balancer", change.Resource.ID)
			continue
		}
		of[i] = pool{balancer, change.Resource.Key}
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
		if err := p.putPool(ctx, at.balancer, at.family, lists[at]); err != nil {
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
func (p *Provider) putPool(ctx context.Context, balancer, family string, targets []cloud.Target) error {
	pool := &armnetwork.BackendAddressPool{Name: new(poolName(family)), Properties: &armnetwork.BackendAddressPoolPropertiesFormat{}}
	for _, t := range targets {
		pool.Properties.LoadBalancerBackendAddresses = append(pool.Properties.LoadBalancerBackendAddresses, &armnetwork.LoadBalancerBackendAddress{
			Name: new(strings.ReplaceAll(t.ID, ":", "-")), Properties: &armnetwork.LoadBalancerBackendAddressPropertiesFormat{IPAddress: new(t.ID),
				VirtualNetwork: &armnetwork.SubResource{ID: new(p.config.networkID())}}})
	}
	if lb := p.knownBalancer(balancer); lb != nil && slices.Equal(poolTargets(lb, *pool.Name), targets) {
		return nil
	}
	err := p.network.PutPool(ctx, balancer, pool)
	if err == nil {
		p.note(func(v *view) {
			if lb := v.balancers[balancer]; lb != nil {
				v.balancers[balancer] = withPool(lb, pool)
			}
		})
	}
	p.forget() // it may be worked on now
	return err
}

// withPool returns a copy of the balancer with another pool, and without an ETag, which it has another one of now.
func withPool(lb *armnetwork.LoadBalancer, pool *armnetwork.BackendAddressPool) *armnetwork.LoadBalancer {
	next, properties := *lb, *lb.Properties
	next.Properties, next.Etag = &properties, nil
	properties.BackendAddressPools = slices.Clone(properties.BackendAddressPools)
	for i, have := range properties.BackendAddressPools {
		if value(have.Name) == *pool.Name {
			properties.BackendAddressPools[i] = pool
		}
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
