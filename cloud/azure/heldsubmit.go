package azure

import (
	"context"
	"maps"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// This file asks for changes of what is held.

// isHeld reports whether a resource is, was or is to be somebody else's, which an Update says.
func isHeld(observed, desired cloud.Resource) bool {
	return !desired.Shared && (observed.Adopted != desired.Adopted || observed.Lent != desired.Lent || len(observed.Owners) == 0 || len(desired.Owners) == 0)
}

// submitHeld asks for a part that is held, or is to be, to be as desired: marked, changed, or let go.
func (p *Provider) submitHeld(ctx context.Context, v *view, owner cloud.Owner, observed, desired cloud.Resource) error {
	at := p.config.locate(desired.ID)
	w := p.writer(at.balancer)
	key := changeKey(desired)
	adopts := slices.Contains(desired.Owners, owner.ID()) && !slices.Contains(observed.Owners, owner.ID())
	have := v.find(KindRules, desired.ID)
	marked := have != nil && slices.Contains(have.Owners, owner.ID())
	if !adopts && !marked && w.holds(key) {
		cloud.Unsent(ctx)
		return waiting(desired.Name()) // a mark that is still to be written is not to be replaced by what needs it
	}
	mine := slices.Contains(desired.Owners, owner.ID())
	done := mine && has(have, owner, desired) && have.Adopted == desired.Adopted && have.Lent == desired.Lent ||
		!mine && !marked
	if done && !w.wants(key) {
		cloud.Unsent(ctx)
		return nil
	}
	content := mine && !maps.Equal(observed.Attributes, desired.Attributes)
	pt := &part{} // what is marked or let go may have rules that no Service can ask for
	if content {
		var err error
		if pt, err = partOf(owner, desired); err != nil {
			return cloud.Errorf(cloud.UserError, "%w", err)
		}
	}
	pt.hold(owner, desired, at)
	return w.submit(ctx, &change[armnetwork.LoadBalancer]{key: key, owner: owner.ID(), want: desired, rules: len(pt.rules), marks: adopts,
		apply: func(lb *armnetwork.LoadBalancer) (bool, error) {
			before, there := parseHolding(tag(lb.Tags, tagPart+at.frontend))
			switch own := there && before.owner().ID() == owner.ID(); {
			case !mine && !own:
				return false, nil
			case !mine:
				delete(lb.Tags, tagPart+at.frontend)
				pt.letGo(lb)
				return true, nil
			case there && !own:
				return false, cloud.Errorf(cloud.Conflict, "the frontend %s is another Service's meanwhile", desired.ID)
			case !there && !adopts:
				return false, cloud.Errorf(cloud.Conflict, "the frontend %s is not this Service's any more", desired.ID)
			case !slices.ContainsFunc(lb.Properties.FrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return same(value(f.Name), at.frontend) }):
				return false, cloud.Errorf(cloud.Conflict, "the frontend %s is gone", desired.ID)
			case !there && len(lb.Tags) >= maxTags:
				return false, cloud.Errorf(cloud.Quota, "balancer %s has %d tags, which is all that it can have, and each frontend that is adopted takes one: remove some", at.balancer, maxTags)
			}
			if content {
				if err := pt.putHeld(p.config, lb); err != nil {
					return false, err
				}
			}
			if lb.Tags == nil {
				lb.Tags = map[string]*string{}
			}
			lb.Tags[tagPart+at.frontend] = new(holdingOf(owner, desired).String())
			return true, nil
		}})
}

func (p *Provider) deleteHeld(ctx context.Context, v *view, owner cloud.Owner, observed cloud.Resource) error {
	at := p.config.locate(observed.ID)
	w := p.writer(at.balancer)
	if have := v.find(KindRules, observed.ID); have == nil || !slices.Contains(have.Owners, owner.ID()) {
		if w.wants(changeKey(observed)) && !w.withdraw(changeKey(observed)) {
			return waiting(observed.Name())
		}
		cloud.Unsent(ctx)
		return nil
	}
	pt := &part{}
	pt.hold(owner, observed, at)
	return w.submit(ctx, &change[armnetwork.LoadBalancer]{key: changeKey(observed), owner: owner.ID(), want: observed, gone: true,
		apply: func(lb *armnetwork.LoadBalancer) (bool, error) {
			h, there := parseHolding(tag(lb.Tags, tagPart+at.frontend))
			if !there || h.owner().ID() != owner.ID() || h.how == lent {
				return false, nil
			}
			delete(lb.Tags, tagPart+at.frontend)
			pt.rules, pt.probes = nil, nil
			if err := pt.putHeld(p.config, lb); err != nil {
				return false, err
			}
			pt.dropFrontend(lb)
			return true, nil
		}})
}

// holdAddress marks an address for a Service, or as nobody's of ours.
func (p *Provider) holdAddress(ip *armnetwork.PublicIPAddress, owner cloud.Owner, observed, desired cloud.Resource) error {
	for _, id := range ownersOf(ip.Tags) {
		if id != owner.ID() {
			return cloud.Errorf(cloud.Conflict, "the public address %s is another's meanwhile", value(ip.Name))
		}
	}
	if len(desired.Owners) == 0 {
		for _, name := range []string{tagCluster, tagKey, tagService, tagAdopted, tagTags, tagLabel, tagOwner + owner.ServiceUID} {
			delete(ip.Tags, name)
		}
		return nil
	}
	if len(observed.Owners) > 0 && len(ownersOf(ip.Tags)) == 0 {
		return cloud.Errorf(cloud.Conflict, "the public address %s is nobody's of ours any more", value(ip.Name))
	}
	ip.Tags[tagCluster], ip.Tags[tagKey] = new(owner.ClusterID), new(desired.Key)
	ip.Tags[tagService], ip.Tags[tagOwner+owner.ServiceUID] = new(owner.Namespace+"/"+owner.Name), new(owner.ClusterID)
	at := p.config.locate(desired.Adopted)
	ip.Tags[tagAdopted] = new(holdingOf(owner, desired).how + " " + at.balancer + "/" + at.frontend)
	return nil
}
