package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// Name under which the provider is registered.
const Name = "fake"

// AnnotationPrefix of the provider's annotations: the same settings as the class's parameters, for one Service.
const AnnotationPrefix = "fake.fairlead.dev/"

// Tags on every object of ours. tagOwner alone decides; the others are for people.
const (
	tagOwner   = "fairlead.dev/owner"
	tagCluster = "fairlead.dev/cluster"
	tagService = "fairlead.dev/service"
	tagKey     = "fairlead.dev/key"
	tagIPMode  = "fairlead.dev/ip-mode"
)

func init() {
	cloud.Register(Name, func(config cloud.Config) (cloud.Provider, error) {
		if config.File != nil {
			return nil, fmt.Errorf("the fake cloud has no configuration file: leave it out")
		}
		if config.Endpoint == "" {
			return NewProvider(New(Options{})), nil
		}
		client, err := NewClient(config.Endpoint)
		if err != nil {
			return nil, err
		}
		return NewProvider(client), nil
	})
}

// Provider makes balancers in a fake cloud. It keeps no state.
type Provider struct{ api API }

var _ cloud.Provider = (*Provider)(nil)

// NewProvider makes a provider for a cloud in the same process (a *Cloud) or behind HTTP (a *Client).
func NewProvider(api API) *Provider { return &Provider{api: api} }

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{
		Protocols:          []string{"TCP", "UDP"},
		MixedProtocols:     true,
		Families:           []cloud.Family{cloud.IPv4, cloud.IPv6},
		DualStack:          true,
		NodePorts:          true,
		SourceRanges:       true,
		SessionAffinity:    true,
		RequestedAddress:   true,
		AnnotationPrefixes: []string{AnnotationPrefix},
		TargetsPerCall:     MaxTargetsPerCall,
	}
}

// settings are the class's parameters, or what the Service's annotations say instead.
type settings struct {
	Pool                       string `json:"pool"`
	HealthCheckIntervalSeconds int    `json:"healthCheckIntervalSeconds"`
	UnhealthyThreshold         int    `json:"unhealthyThreshold"`
	IPMode                     string `json:"ipMode"`
}

func readSettings(spec cloud.Spec) (settings, error) {
	s := settings{HealthCheckIntervalSeconds: 1, UnhealthyThreshold: 2, IPMode: "VIP"}
	if err := cloud.DecodeParameters(spec.Parameters, &s); err != nil {
		return s, err
	}
	a := cloud.NewAnnotations(spec.Annotations, AnnotationPrefix)
	a.String(AnnotationPrefix+"pool", &s.Pool)
	a.Int(AnnotationPrefix+"health-check-interval-seconds", &s.HealthCheckIntervalSeconds, 1, 300)
	a.Int(AnnotationPrefix+"unhealthy-threshold", &s.UnhealthyThreshold, 1, 10)
	cloud.Enum(a, AnnotationPrefix+"ip-mode", &s.IPMode, "VIP", "Proxy")
	return s, a.Err()
}

// Desired implements cloud.Provider: per family an Address; one Balancer; per port a HealthCheck, and per port and
// family a TargetSet and a Listener.
func (p *Provider) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	s, err := readSettings(spec)
	if err != nil {
		return nil, err
	}
	balancer := cloud.Resource{Kind: KindBalancer, Key: "main", Attributes: map[string]string{
		"sourceRanges":    prefixList(spec.SourceRanges),
		"affinitySeconds": strconv.Itoa(int(spec.AffinitySeconds)),
	}}
	var resources []cloud.Resource
	for _, family := range spec.Families {
		address := cloud.Resource{Kind: KindAddress, Key: strings.ToLower(string(family)), Fixed: true,
			Attributes: map[string]string{"family": string(family), "pool": s.Pool, "requested": "", "ipMode": s.IPMode},
			Immutable:  []string{"family", "pool", "requested"},
		}
		if requested, err := netip.ParseAddr(spec.RequestedAddress); err == nil && requested.Is4() == (family == cloud.IPv4) {
			address.Attributes["requested"] = requested.String()
		}
		balancer.DependsOn = append(balancer.DependsOn, cloud.Ref{Kind: KindAddress, Key: address.Key})
		resources = append(resources, address)
	}
	for _, port := range spec.Ports {
		resources = append(resources, portResources(spec, s, port)...)
	}
	return append(resources, balancer), nil
}

func portResources(spec cloud.Spec, s settings, port cloud.Port) []cloud.Resource {
	check := cloud.Resource{Kind: KindHealthCheck, Key: port.Key(), Immutable: []string{"protocol"},
		Attributes: map[string]string{
			"protocol":        port.HealthCheck.Protocol,
			"port":            strconv.Itoa(int(port.HealthCheck.Port)),
			"path":            port.HealthCheck.Path,
			"intervalSeconds": strconv.Itoa(s.HealthCheckIntervalSeconds),
			"threshold":       strconv.Itoa(s.UnhealthyThreshold),
		}}
	resources := []cloud.Resource{check}
	for _, family := range spec.Families {
		key := port.Key() + "-" + strings.ToLower(string(family))
		set := cloud.Resource{Kind: KindTargetSet, Key: key, Immutable: []string{"protocol", "family"}, HasTargets: true,
			Attributes: map[string]string{"protocol": port.Protocol, "port": strconv.Itoa(int(port.NodePort)),
				"family": string(family)},
			DependsOn: []cloud.Ref{{Kind: KindHealthCheck, Key: check.Key}},
		}
		for _, node := range spec.Nodes {
			if address := node.Address(family); address != "" {
				set.Targets = append(set.Targets, cloud.Target{ID: address})
			}
		}
		slices.SortFunc(set.Targets, func(a, b cloud.Target) int { return cmp.Compare(a.ID, b.ID) })
		listener := cloud.Resource{Kind: KindListener, Key: key, Immutable: []string{"protocol", "port", "family"},
			Attributes: map[string]string{"protocol": port.Protocol, "port": strconv.Itoa(int(port.Port)),
				"family": string(family)},
			DependsOn: []cloud.Ref{
				{Kind: KindBalancer, Key: "main", Parent: true},
				{Kind: KindTargetSet, Key: key},
			},
		}
		resources = append(resources, set, listener)
	}
	return resources
}

func prefixList(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		texts[i] = prefix.String()
	}
	return cloud.List(texts)
}

// Observe implements cloud.Provider.
func (p *Provider) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	return p.list(ctx, map[string]string{tagOwner: string(owner.ID())})
}

// List implements cloud.Provider.
func (p *Provider) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	return p.list(ctx, map[string]string{tagCluster: clusterID})
}

func (p *Provider) list(ctx context.Context, tags map[string]string) ([]cloud.Resource, error) {
	objects, err := p.api.List(ctx, tags)
	if err != nil {
		return nil, err
	}
	refs := make(map[string]cloud.Ref, len(objects))
	for _, o := range objects {
		refs[o.ID] = cloud.Ref{Kind: o.Kind, Key: o.Tags[tagKey], ID: o.ID}
	}
	resources := make([]cloud.Resource, 0, len(objects))
	for _, o := range objects {
		resources = append(resources, observed(o, refs))
	}
	return resources, nil
}

func observed(o Object, refs map[string]cloud.Ref) cloud.Resource {
	r := cloud.Resource{Kind: o.Kind, Key: o.Tags[tagKey], ID: o.ID, State: cloud.State(o.State),
		Attributes: maps.Clone(o.Fields), Owners: []cloud.OwnerID{cloud.OwnerID(o.Tags[tagOwner])},
		HasTargets: o.Kind == KindTargetSet}
	for _, id := range o.Refs {
		ref, ok := refs[id]
		if !ok {
			ref = cloud.Ref{ID: id} // foreign: the core will want ours instead
		}
		ref.Parent = o.Kind == KindListener && ref.Kind == KindBalancer
		r.DependsOn = append(r.DependsOn, ref)
	}
	for _, t := range o.Targets {
		r.Targets = append(r.Targets, cloud.Target{ID: t})
	}
	if o.Kind == KindAddress {
		// The mode is not the cloud's business: it is kept in a tag.
		r.Attributes["ipMode"] = o.Tags[tagIPMode]
		if o.Address != "" {
			r.Ingress = []cloud.Ingress{{IP: o.Address, IPMode: o.Tags[tagIPMode]}}
		}
	}
	return r
}

// object turns a resource into what the cloud takes.
func object(owner cloud.Owner, r cloud.Resource) Object {
	o := Object{Kind: r.Kind, Name: cloud.Name(owner, r, 63), ID: r.ID, Fields: maps.Clone(r.Attributes),
		Tags: map[string]string{
			tagOwner:   string(owner.ID()),
			tagCluster: owner.ClusterID,
			tagService: owner.Namespace + "/" + owner.Name,
			tagKey:     r.Key,
		}}
	if mode, ok := o.Fields["ipMode"]; ok {
		o.Tags[tagIPMode] = mode
		delete(o.Fields, "ipMode")
	}
	for _, dep := range r.DependsOn {
		o.Refs = append(o.Refs, dep.ID)
	}
	return o
}

// Create implements cloud.Provider. A name that is taken is looked up: names carry the owner and the immutable
// attributes, so that an object of the owner with this name is this very resource, made by a call whose answer was lost.
func (p *Provider) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	want := object(owner, desired)
	made, err := p.api.Create(ctx, want)
	if hasCode(err, CodeDuplicateName) {
		objects, listErr := p.api.List(ctx, map[string]string{tagOwner: string(owner.ID())})
		if listErr != nil {
			return cloud.Resource{}, listErr
		}
		i := slices.IndexFunc(objects, func(o Object) bool { return o.Kind == want.Kind && o.Name == want.Name })
		if i < 0 {
			return cloud.Resource{}, cloud.Errorf(cloud.Conflict, "a %s called %s is not this Service's", want.Kind, want.Name)
		}
		made = objects[i]
	} else if err != nil {
		return cloud.Resource{}, err
	}
	return observed(made, nil), nil
}

// Update implements cloud.Provider.
func (p *Provider) Update(ctx context.Context, owner cloud.Owner, was, desired cloud.Resource) error {
	o := object(owner, desired)
	o.ID, o.Kind = was.ID, was.Kind
	_, err := p.api.Update(ctx, o)
	return err
}

// Delete implements cloud.Provider.
func (p *Provider) Delete(ctx context.Context, _ cloud.Owner, r cloud.Resource) error {
	if err := p.api.Delete(ctx, r.ID); err != nil && !hasCode(err, CodeNotFound) {
		return err
	}
	return nil
}

// SyncTargets implements cloud.Provider, in calls of MaxTargetsPerCall.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) error {
	var batch []TargetsRequest
	room := MaxTargetsPerCall
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := p.api.SyncTargets(ctx, batch)
		batch, room = nil, MaxTargetsPerCall
		return err
	}
	for _, change := range changes {
		add, remove := ids(change.Add), ids(change.Remove)
		for len(add)+len(remove) > 0 {
			if room == 0 {
				if err := flush(); err != nil {
					return err
				}
			}
			// Additions first: a set is never emptied on the way to another one.
			a := min(room, len(add))
			r := min(room-a, len(remove))
			batch = append(batch, TargetsRequest{ID: change.Resource.ID, Add: add[:a], Remove: remove[:r]})
			add, remove, room = add[a:], remove[r:], room-a-r
		}
	}
	return flush()
}

func ids(targets []cloud.Target) []string {
	result := make([]string, len(targets))
	for i, t := range targets {
		result[i] = t.ID
	}
	return result
}
