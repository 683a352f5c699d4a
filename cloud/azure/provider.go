package azure

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// Name under which the provider is registered.
const Name = "azure"

func init() { cloud.Register(Name, newFromConfig) }

// maxRules of one balancer.
const maxRules = 250

// maxLoad is how many rules one network interface can have, of all balancers, both families and all kinds together. Azure's list of limits
// has one more, and its refusals this; see load.go.
const maxLoad = 299

// Provider makes balancers in Azure.
type Provider struct {
	config  Config
	network network
	maxLoad int // maxLoad, but in tests

	mu        sync.Mutex
	memory    memory
	balancers map[string]*writer[armnetwork.LoadBalancer] // by folded name
	group     *writer[armnetwork.SecurityGroup]

	turn     int                  // with which machines the next change of a pool of network interfaces begins
	clusters map[string]bool      // whose pools of network interfaces are read
	unlisted map[scope]unlisted   // of network interfaces
	barred   map[string]time.Time // until when, by ids of balancers, sorted, with spaces: who is in all of them can be in no pool of ours
}

var _ cloud.Provider = (*Provider)(nil)

// New makes a provider for a network.
func New(config Config, network network) *Provider {
	p := &Provider{config: config, network: network, maxLoad: maxLoad, memory: memory{looking: make(chan struct{}, 1)},
		balancers: map[string]*writer[armnetwork.LoadBalancer]{}, clusters: map[string]bool{}, unlisted: map[scope]unlisted{}, barred: map[string]time.Time{}}
	p.group = newWriter(p.groupDocument())
	return p
}

// Capabilities implements cloud.Provider. The limits are those of a subscription in a region. What Targets says is not true of private
// links, where each machine is a write (see members.go): each waits for the limits.
func (p *Provider) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{
		Protocols:          []string{"TCP", "UDP"},
		MixedProtocols:     true,
		Families:           []cloud.Family{cloud.IPv4, cloud.IPv6},
		DualStack:          true,
		NodePorts:          true,
		LocalHealthChecks:  true,
		SourceRanges:       true,
		SessionAffinity:    true,
		RequestedAddress:   true,
		Share:              true,
		Adopt:              true,
		AnnotationPrefixes: []string{prefix, portPrefix},
		MaxPorts:           maxRules,
		Targets:            cloud.TargetCalls{Together: true},
		Limits:             cloud.Limits{Reads: cloud.Limit{PerSecond: 25, Burst: 250}, Writes: cloud.Limit{PerSecond: 10, Burst: 200}},
	}
}

// Observe implements cloud.Provider.
func (p *Provider) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	v, err := p.look(ctx, owner.ClusterID)
	if err != nil {
		return nil, err
	}
	id := owner.ID()
	of := v.resources()
	if err := of.unread[id]; err != nil {
		return nil, err
	}
	there := of.byOwner[id]
	if group := owner.GroupID(); group != "" {
		there = slices.Concat(there, of.byGroup[group])
	}
	var observed []cloud.Resource
	for _, n := range slices.Compact(slices.Sorted(slices.Values(there))) {
		observed = append(observed, of.all[n])
	}
	cloud.SortResources(observed)
	return p.overlay(observed, func(other cloud.OwnerID) bool { return other == id }, true), nil
}

// List implements cloud.Provider.
func (p *Provider) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	v, err := p.look(ctx, clusterID)
	if err != nil {
		return nil, err
	}
	of := func(id cloud.OwnerID) bool { return strings.HasPrefix(string(id), clusterID+"/") }
	var listed []cloud.Resource
	for _, r := range v.resources().all {
		if slices.ContainsFunc(r.Owners, of) || len(r.Owners) == 0 && strings.HasPrefix(r.Attributes["group"], clusterID+"/") {
			listed = append(listed, r)
		}
	}
	cloud.SortResources(listed)
	return p.overlay(listed, of, false), nil
}

func (p *Provider) overlay(observed []cloud.Resource, match func(cloud.OwnerID) bool, offer bool) []cloud.Resource {
	for _, w := range p.writers() {
		observed = w.overlay(observed, match, offer)
	}
	return p.group.overlay(observed, match, offer)
}

func (p *Provider) writers() []*writer[armnetwork.LoadBalancer] {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*writer[armnetwork.LoadBalancer]
	for _, w := range p.balancers {
		all = append(all, w)
	}
	return all
}

func (p *Provider) writer(balancer string) *writer[armnetwork.LoadBalancer] {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.balancers[folded(balancer)]
	if w == nil {
		w = newWriter(p.balancerDocument(balancer))
		p.balancers[folded(balancer)] = w
	}
	return w
}

// Create implements cloud.Provider.
func (p *Provider) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	v, err := p.look(ctx, owner.ClusterID)
	if err != nil {
		return cloud.Resource{}, err
	}
	switch desired.Kind {
	case KindPublicIP:
		return p.createAddress(ctx, owner, desired)
	case KindRules:
		return p.createRules(ctx, v, owner, desired)
	case KindSecurityRule:
		if v.group == nil {
			return cloud.Resource{}, p.noGroup()
		}
		desired.ID = securityID(v.group, securityPart(owner, desired.Key))
		return p.submitted(desired, p.submitSecurity(ctx, v, owner, desired))
	case KindLinkService:
		return p.createLink(ctx, v, owner, desired)
	}
	return cloud.Resource{}, cloud.Errorf(cloud.UserError, "there is no kind %s", desired.Kind)
}

// submitted is what Create returns of a resource that was written, or is to be.
func (p *Provider) submitted(made cloud.Resource, err error) (cloud.Resource, error) {
	made.Targets, made.State = nil, cloud.StateReady
	if isClass(err, cloud.Pending) {
		made.State = cloud.StatePending
		return made, nil
	}
	if err != nil {
		return cloud.Resource{}, err
	}
	return made, nil
}

// Update implements cloud.Provider. What waits to be written is Pending from then on.
func (p *Provider) Update(ctx context.Context, owner cloud.Owner, observed, desired cloud.Resource) error {
	v, err := p.look(ctx, owner.ClusterID)
	if err != nil {
		return err
	}
	desired.ID = observed.ID
	switch desired.Kind {
	case KindPublicIP:
		return p.updateAddress(ctx, owner, observed, desired)
	case KindRules:
		if p.config.locate(desired.ID).frontend != "" {
			if err = p.submitHeld(ctx, v, owner, observed, desired); isHeld(observed, desired) {
				return err // what is to be marked is not yet: nothing that needs the mark may be done
			}
			break
		}
		err = p.submitRules(ctx, v, owner, desired)
	case KindSecurityRule:
		err = p.submitSecurity(ctx, v, owner, desired)
	case KindLinkService:
		return p.updateLink(ctx, v, owner, observed, desired)
	default:
		return cloud.Errorf(cloud.UserError, "there is no kind %s", desired.Kind)
	}
	if isClass(err, cloud.Pending) {
		return nil
	}
	return err
}

// Delete implements cloud.Provider.
func (p *Provider) Delete(ctx context.Context, owner cloud.Owner, observed cloud.Resource) error {
	v, err := p.look(ctx, owner.ClusterID)
	if err != nil {
		return err
	}
	switch observed.Kind {
	case KindPublicIP:
		return p.deleteAddress(ctx, owner, observed)
	case KindRules:
		return p.deleteRules(ctx, v, owner, observed)
	case KindSecurityRule:
		return p.deleteSecurity(ctx, v, owner, observed)
	case KindLinkService:
		return p.deleteLink(ctx, v, owner, observed)
	}
	return cloud.Errorf(cloud.UserError, "there is no kind %s", observed.Kind)
}

func (p *Provider) noGroup() error {
	return cloud.Errorf(cloud.Retry, "there is no security group %s in resource group %s: correct securityGroupName in the configuration",
		p.config.SecurityGroupName, p.config.SecurityGroupResourceGroup)
}

// has reports whether a resource is the owner's, and as it is to be.
func has(have *cloud.Resource, owner cloud.Owner, want cloud.Resource) bool {
	if have == nil || !slices.Contains(have.Owners, owner.ID()) {
		return false
	}
	for name, text := range want.Attributes {
		if have.Attributes[name] != text {
			return false
		}
	}
	for _, dep := range want.DependsOn {
		if !slices.ContainsFunc(have.DependsOn, func(d cloud.Ref) bool { return d.Kind == dep.Kind && same(d.ID, dep.ID) }) {
			return false
		}
	}
	return len(have.DependsOn) == len(want.DependsOn)
}

func changeKey(r cloud.Resource) string { return r.Kind + " " + folded(r.ID) }
