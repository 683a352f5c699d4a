package azure

import (
	"context"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// groupDocument says how the security group is read and written. It is somebody else's: never made, never deleted.
func (p *Provider) groupDocument() document[armnetwork.SecurityGroup] {
	return document[armnetwork.SecurityGroup]{
		known: func() *armnetwork.SecurityGroup {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.memory.current == nil {
				return nil
			}
			return p.memory.current.group
		},
		stale: func(*armnetwork.SecurityGroup) bool { return false },
		load: func(ctx context.Context) (*armnetwork.SecurityGroup, error) {
			group, err := p.network.SecurityGroup(ctx)
			if err != nil && !hasStatus(err, http.StatusNotFound) {
				return nil, err
			}
			p.note(func(v *view) { v.group = group })
			return group, nil
		},
		copied: func(group *armnetwork.SecurityGroup) *armnetwork.SecurityGroup {
			if group == nil {
				return &armnetwork.SecurityGroup{Properties: &armnetwork.SecurityGroupPropertiesFormat{}}
			}
			return deepcopy.Of(group)
		},
		store: func(ctx context.Context, next, was *armnetwork.SecurityGroup) (*armnetwork.SecurityGroup, outcome, error) {
			if was == nil {
				return nil, nil, p.noGroup()
			}
			after, ended, err := p.network.PutSecurityGroup(ctx, next, value(was.Etag))
			if err == nil {
				p.note(func(v *view) { v.group = after })
			}
			return after, ended, err
		},
		state: func(group *armnetwork.SecurityGroup) cloud.State {
			if group == nil || group.Properties == nil {
				return cloud.StateReady
			}
			return stateOf(group.Properties.ProvisioningState)
		},
	}
}

// submitSecurity asks for a Service's part of the security group to be as desired.
func (p *Provider) submitSecurity(ctx context.Context, v *view, owner cloud.Owner, desired cloud.Resource) error {
	if v.group == nil {
		return p.noGroup()
	}
	if has(v.find(KindSecurityRule, desired.ID), owner, desired) && !p.group.wants(changeKey(desired)) {
		cloud.Unsent(ctx)
		return nil
	}
	destination, err := v.destination(desired)
	if err != nil {
		return err
	}
	want := desired
	want.Owners = []cloud.OwnerID{owner.ID()}
	return p.group.submit(ctx, &change[armnetwork.SecurityGroup]{key: changeKey(want), owner: owner.ID(), want: want,
		apply: func(group *armnetwork.SecurityGroup) (bool, error) {
			before := group.Properties.SecurityRules
			if err := putSecurity(group, owner, want, destination); err != nil {
				group.Properties.SecurityRules = before
				return false, err
			}
			return true, nil
		}})
}

func (p *Provider) deleteSecurity(ctx context.Context, v *view, owner cloud.Owner, observed cloud.Resource) error {
	if v.find(KindSecurityRule, observed.ID) == nil {
		if !p.group.withdraw(changeKey(observed)) && p.group.wants(changeKey(observed)) {
			return waiting(observed.Name()) // it is being written now
		}
		cloud.Unsent(ctx)
		return nil
	}
	return p.group.submit(ctx, &change[armnetwork.SecurityGroup]{key: changeKey(observed), owner: owner.ID(), want: observed, gone: true,
		apply: func(group *armnetwork.SecurityGroup) (bool, error) {
			before := group.Properties.SecurityRules
			if err := dropSecurity(group, owner, securityPart(owner, observed.Key)); err != nil {
				return false, err
			}
			return len(group.Properties.SecurityRules) != len(before), nil
		}})
}
