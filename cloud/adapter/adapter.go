package adapter

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/fairlead/fairlead/cloud"
)

// The one resource of a Service.
const (
	kind = "LoadBalancer"
	key  = "service"
)

// Options are what the adapter, rather than the provider, needs to know. The zero value will do.
type Options struct {
	// ClusterName as the provider was given it by --cluster-name of the cloud controller manager; empty: kubernetes, as
	// there. Some providers make it part of names.
	ClusterName string
	// Concurrency is how many calls may run at once; 0: one, which is upstream's default.
	Concurrency int
	// Capabilities of the provider; with no Protocols: everything that a Service can say is passed on, by node ports, and
	// the provider refuses what it cannot. If it passes over something in silence, such as source ranges, so that its balancers
	// would be open, name what it can instead: the core refuses the rest. Opaque and Targets are set in any case, what needs
	// more than node ports and an owner of each balancer is not offered. Limits are counted in calls of the provider's
	// methods; zero Writes: 5 a second, 10 at once.
	Capabilities cloud.Capabilities
	// Classify says what kind of error the provider returned; nil, or a result of nil: not known. What k8s.io/cloud-provider
	// itself defines is known without it.
	Classify func(error) *cloud.Error
}

// Provider is a cloudprovider.LoadBalancer as a cloud.Provider.
type Provider struct {
	balancer     cloudprovider.LoadBalancer
	memory       cloud.Memory
	clusterName  string
	capabilities cloud.Capabilities
	classify     func(error) *cloud.Error
	// slots has room for as many calls as may run at once.
	slots chan struct{}

	mu     sync.Mutex
	states map[cloud.OwnerID]state
}

var _ cloud.Provider = (*Provider)(nil)

// New makes a provider of a LoadBalancer that is ready to be used. Without a memory, which may be nil, each Service is
// ensured once after a start.
func New(balancer cloudprovider.LoadBalancer, memory cloud.Memory, o Options) *Provider {
	p := &Provider{
		balancer: balancer, memory: memory, clusterName: o.ClusterName,
		capabilities: o.Capabilities, classify: o.Classify,
		slots: make(chan struct{}, max(o.Concurrency, 1)), states: map[cloud.OwnerID]state{},
	}
	if p.memory == nil {
		p.memory = forgetful{}
	}
	if p.clusterName == "" {
		p.clusterName = "kubernetes"
	}
	c := &p.capabilities
	if len(c.Protocols) == 0 {
		c.Protocols = []string{"TCP", "UDP", "SCTP"}
		c.MixedProtocols, c.DualStack, c.NodePorts, c.LocalHealthChecks = true, true, true, true
		c.SourceRanges, c.SessionAffinity, c.RequestedAddress = true, true, true
		c.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
	}
	if c.Limits.Writes == (cloud.Limit{}) {
		c.Limits.Writes = cloud.Limit{PerSecond: 5, Burst: 10}
	}
	c.Opaque = true
	c.Adopt, c.TakeBack, c.Share, c.PodTargets, c.TargetHealth = false, false, false, false, false
	c.Targets = cloud.TargetCalls{OneResource: true} // one UpdateLoadBalancer for each Service
	return p
}

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities { return p.capabilities }

// Desired implements cloud.Provider. Classes can have no parameters.
func (p *Provider) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	if err := cloud.DecodeParameters(spec.Parameters, &struct{}{}); err != nil {
		return nil, err
	}
	svc := spec.Owner.Service
	if svc == nil {
		svc = serviceOf(spec)
	}
	attributes, err := attributesOf(svc)
	if err != nil {
		return nil, err
	}
	return []cloud.Resource{{Kind: kind, Key: key, Attributes: attributes, HasTargets: true,
		Targets: targetsOf(spec.Nodes), Nodes: spec.Nodes}}, nil
}

// Observe implements cloud.Provider: it says what the provider was last told. Where that is not known, or doubtful, there
// may be a balancer, so there is one, without attributes: it is told again, or deleted.
func (p *Provider) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	s, err := p.recall(ctx, owner)
	if err != nil {
		return nil, err
	}
	if s.told.Gone {
		p.drop(owner) // the memory knows, for as long as there is a record
		return nil, nil
	}
	r := s.resource(owner)
	if r.ID == "" {
		svc, err := service(owner, nil)
		if err != nil {
			return nil, err
		}
		r.ID = p.balancer.GetLoadBalancerName(ctx, p.clusterName, svc)
	}
	return []cloud.Resource{r}, nil
}

// List implements cloud.Provider, as Observe does, for the Services that this process has seen.
func (p *Provider) List(_ context.Context, clusterID string) ([]cloud.Resource, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []cloud.Resource
	for _, s := range p.states {
		if s.owner.ClusterID == clusterID && s.known() {
			all = append(all, s.resource(s.owner))
		}
	}
	cloud.SortResources(all)
	return all, nil
}

// Create implements cloud.Provider.
func (p *Provider) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	return p.ensure(ctx, owner, desired)
}

// Update implements cloud.Provider.
func (p *Provider) Update(ctx context.Context, owner cloud.Owner, _, desired cloud.Resource) error {
	_, err := p.ensure(ctx, owner, desired)
	return err
}

// run runs a call of the provider when there is a slot for it.
func (p *Provider) run(ctx context.Context, call func() error) error {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.slots }()
	return call()
}

func (p *Provider) ensure(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	s, err := p.recall(ctx, owner)
	if err != nil {
		return cloud.Resource{}, err
	}
	want := "ensure " + desired.Attributes[attributeAnnotations] + desired.Attributes[attributeSpec]
	if err := s.held(want); err != nil {
		return cloud.Resource{}, err
	}
	svc, err := service(owner, desired.Attributes)
	if err != nil {
		return cloud.Resource{}, err
	}
	next := told{ServiceUID: owner.ServiceUID, Doubt: true, Ingress: s.told.Ingress,
		Annotations: desired.Attributes[attributeAnnotations], Spec: desired.Attributes[attributeSpec]}
	if err := p.keep(ctx, owner, next); err != nil {
		return cloud.Resource{}, err
	}
	var status *corev1.LoadBalancerStatus
	err = p.run(ctx, func() (err error) {
		next.ID = p.balancer.GetLoadBalancerName(ctx, p.clusterName, svc)
		status, err = p.balancer.EnsureLoadBalancer(ctx, p.clusterName, svc, nodesOf(desired.Nodes))
		return err
	})
	if elsewhere(err) {
		// It did nothing. What it was told before still stands, and has to be deleted one day as what it is.
		before := s.told
		before.ServiceUID, before.Doubt = owner.ServiceUID, !s.known()
		if err := p.keep(ctx, owner, before); err != nil {
			return cloud.Resource{}, err
		}
	}
	if err != nil {
		return cloud.Resource{}, p.refused(owner, want, err)
	}
	next.Doubt, next.Nodes, next.Ingress = false, targetsOf(desired.Nodes)[0].ID, ingressesOf(status)
	if err := p.keep(ctx, owner, next); err != nil {
		return cloud.Resource{}, err
	}
	return (&state{told: next}).resource(owner), nil
}

// SyncTargets implements cloud.Provider by UpdateLoadBalancer, of one Service after the other.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	errs := make([]error, len(changes))
	for i := range changes {
		errs[i] = p.update(ctx, changes[i].Owner, changes[i].Resource)
		if errs[i] != nil && p.Classify(errs[i]).Class == cloud.Throttled {
			for j := i + 1; j < len(changes); j++ {
				errs[j] = errs[i]
			}
			break
		}
	}
	return errs
}

func (p *Provider) update(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	s, err := p.recall(ctx, owner)
	if err != nil {
		return err
	}
	nodes := targetsOf(r.Nodes)[0].ID
	if s.known() && s.told.Nodes == nodes {
		return nil // EnsureLoadBalancer got them
	}
	const want = "nodes"
	if err := s.held(want); err != nil {
		return err
	}
	attributes := r.Attributes
	if s.known() {
		// Also where the Service now says something wrong: its balancer follows the nodes as it is.
		attributes = s.told.attributes()
	}
	svc, err := service(owner, attributes)
	if err != nil {
		return err
	}
	if err := cloud.Wait(ctx, cloud.Write); err != nil {
		return err
	}
	// What else the balancer is like stays as certain, or as doubtful, as it was.
	next := s.told
	next.ServiceUID, next.Doubt, next.Nodes = owner.ServiceUID, !s.known(), ""
	if err := p.keep(ctx, owner, next); err != nil {
		return err
	}
	err = p.run(ctx, func() error {
		return p.balancer.UpdateLoadBalancer(ctx, p.clusterName, svc, nodesOf(r.Nodes))
	})
	if err != nil && !elsewhere(err) {
		return p.refused(owner, want, err)
	}
	next.Nodes = nodes
	return p.keep(ctx, owner, next)
}

// Delete implements cloud.Provider. The provider gets the Service as the balancer was made from it, as far as that is
// known, and else as it is.
func (p *Provider) Delete(ctx context.Context, owner cloud.Owner, _ cloud.Resource) error {
	s, err := p.recall(ctx, owner)
	if err != nil {
		return err
	}
	const want = "delete"
	if err := s.held(want); err != nil {
		return err
	}
	svc, err := service(owner, s.told.attributes())
	if err != nil {
		return err
	}
	next := s.told
	next.ServiceUID, next.Doubt, next.Gone = owner.ServiceUID, true, false
	if err := p.keep(ctx, owner, next); err != nil {
		return err
	}
	err = p.run(ctx, func() error { return p.balancer.EnsureLoadBalancerDeleted(ctx, p.clusterName, svc) })
	if err != nil && !elsewhere(err) {
		return p.refused(owner, want, err)
	}
	return p.keep(ctx, owner, told{ServiceUID: owner.ServiceUID, Gone: true})
}
