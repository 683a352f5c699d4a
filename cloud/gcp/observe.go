package gcp

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// observedKinds in the order in which they are listed.
var observedKinds = []string{KindAddress, KindBackendService, KindEndpointGroup, KindFirewall, KindForwardingRule, KindHealthCheck}

// Observe implements cloud.Provider. Operations come first: what ends while the rest is read is then taken for unfinished,
// never for gone.
func (p *Provider) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	unfinished, err := p.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.late.settle(ctx, p.api, owner.ID(), unfinished); err != nil {
		return nil, fmt.Errorf("reading an operation: %w", err)
	}
	things, err := p.marked(ctx, string(owner.ID()), "labels."+labelUID+` = "`+owner.ServiceUID+`"`)
	if err != nil {
		return nil, err
	}
	things = slices.DeleteFunc(things, func(f found) bool { m := f.mark(); return m.owner != owner.ID() })
	resources, err := p.assemble(ctx, things, unfinished)
	if err != nil {
		return nil, err
	}
	return append(resources, unseen(owner.ID(), unfinished, p.links(things))...), nil
}

// List implements cloud.Provider.
func (p *Provider) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	unfinished, err := p.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	things, err := p.marked(ctx, clusterID+"/", "labels."+labelCluster+` = "`+clusterID+`"`)
	if err != nil {
		return nil, err
	}
	byOwner := map[cloud.OwnerID][]found{}
	for _, f := range things {
		m := f.mark()
		if of, _, _ := strings.Cut(string(m.owner), "/"); of == clusterID {
			byOwner[m.owner] = append(byOwner[m.owner], f)
		}
	}
	var all []cloud.Resource
	for id, things := range byOwner {
		resources, err := p.assemble(ctx, things, unfinished)
		if err != nil {
			return nil, err
		}
		all = append(append(all, resources...), unseen(id, unfinished, p.links(things))...)
	}
	return all, nil
}

func (p *Provider) unfinished(ctx context.Context) (map[string]*compute.Operation, error) {
	ops, err := p.api.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	return byTarget(ops), nil
}

// marked lists what carries a mark of an owner that begins so: by its description, or by a label.
func (p *Provider) marked(ctx context.Context, owner, byLabel string) ([]found, error) {
	var all []found
	for _, kind := range observedKinds {
		if kind == KindFirewall && !p.config.managesFirewalls() {
			continue
		}
		filter := `description eq ".*` + wordOwner + "=" + owner + `.*"`
		if kinds[kind].labels {
			filter = byLabel
		}
		things, err := p.api.list(ctx, kind, filter)
		if err != nil {
			return nil, err
		}
		all = append(all, things...)
	}
	return all, nil
}

func (p *Provider) links(things []found) map[string]bool {
	links := map[string]bool{}
	for _, f := range things {
		links[p.config.link(f.kind, f.id)] = true
	}
	return links
}

// view is what of one owner, or of one balancer, is looked at together.
type view struct {
	config *Config
	things []found
	// keys by the link of each thing.
	keys map[string]string
	// vips are the balancer's addresses, each as a range, by family; of a rule that has ended up somewhere else, several.
	vips map[string][]string
}

func newView(config *Config, things []found, keys map[string]string) *view {
	v := &view{config: config, things: things, keys: keys, vips: map[string][]string{}}
	for _, f := range things {
		var vip, family string
		switch b := f.body.(type) {
		case *compute.Address:
			family, vip = familyOf(b.IpVersion), addressRange(b.Address)
		case *compute.ForwardingRule:
			family, vip = familyOf(b.IpVersion), addressRange(b.IPAddress)
		}
		if vip != "" && !slices.Contains(v.vips[family], vip) {
			v.vips[family] = append(v.vips[family], vip)
		}
	}
	return v
}

// assemble makes resources of one owner's things.
func (p *Provider) assemble(ctx context.Context, things []found, unfinished map[string]*compute.Operation) ([]cloud.Resource, error) {
	keys := map[string]string{}
	for _, f := range things {
		m := f.mark()
		keys[p.config.link(f.kind, f.id)] = m.key
	}
	v := newView(&p.config, things, keys)
	var resources []cloud.Resource
	for i := range things {
		r := v.resource(&things[i])
		r.State = stateOf(unfinished[p.config.link(r.Kind, r.ID)])
		if r.Kind == KindEndpointGroup {
			instances, err := p.api.instances(ctx, r.ID)
			if err != nil && p.Classify(err).Class != cloud.NotFound {
				return nil, fmt.Errorf("listing the endpoints of %s: %w", r.ID, err)
			}
			slices.Sort(instances)
			for _, name := range instances {
				r.Targets = append(r.Targets, cloud.Target{ID: name})
			}
		}
		resources = append(resources, r)
	}
	return append(resources, v.inUse(resources)...), nil
}

// resource makes a resource of a thing. Its key is the view's.
func (v *view) resource(f *found) cloud.Resource {
	m := f.mark()
	r := cloud.Resource{Kind: f.kind, Key: v.keys[v.config.link(f.kind, f.id)], ID: f.id, State: cloud.StateReady,
		Adopted: m.adopted, Lent: m.lent, HasTargets: f.kind == KindEndpointGroup}
	if m.owner != "" {
		r.Owners = []cloud.OwnerID{m.owner}
	}
	switch b := f.body.(type) {
	case *compute.Address:
		r.Attributes = placeOf(b.AddressType, b.IpVersion, b.NetworkTier, b.Subnetwork)
	case *compute.HealthCheck:
		r.Attributes = checkAttributes(b)
	case *compute.NetworkEndpointGroup:
		r.Attributes = map[string]string{attrZone: last(b.Zone), attrNetwork: last(b.Network), attrSubnetwork: last(b.Subnetwork)}
	case *compute.BackendService:
		v.backendService(&r, b)
	case *compute.ForwardingRule:
		v.rule(&r, b, m.addresses)
	case *compute.Firewall:
		v.firewall(&r, b, m.addresses)
	}
	return r
}

// ref points to another thing by its link. Of what is not looked at together the core will want another one instead.
func (v *view) ref(kind, link string) cloud.Ref {
	link = shortLink(link)
	var zone string
	if parts := strings.Split(link, "/"); len(parts) > 4 {
		zone = parts[3]
	}
	id := idOf(kind, zone, last(link))
	key, ok := v.keys[link]
	if !ok {
		key = "foreign " + id
	}
	return cloud.Ref{Kind: kind, Key: key, ID: id}
}

// inUse are the addresses that adopted rules have without there being one reserved that is looked at, too: such an address
// lives as long as its rules do.
func (v *view) inUse(resources []cloud.Resource) []cloud.Resource {
	var made []cloud.Resource
	for i := range resources {
		r := &resources[i]
		if r.Kind != KindForwardingRule || len(r.Owners) > 0 && keyOf(r.Owners[0], last(r.ID)) != "" || r.Attributes[attrAddresses] != "" {
			continue
		}
		key := strings.ToLower(r.Attributes[attrFamily])
		if slices.ContainsFunc(append(resources, made...), func(a cloud.Resource) bool { return a.Kind == KindAddress && a.Key == key }) {
			continue
		}
		address := cloud.Resource{Kind: KindAddress, Key: key, ID: inUsePrefix + r.ID, State: r.State, Owners: r.Owners, Lent: r.Lent, Adopted: r.Adopted,
			Attributes: map[string]string{attrFamily: r.Attributes[attrFamily], attrScheme: r.Attributes[attrScheme],
				attrTier: r.Attributes[attrTier], attrSubnetwork: r.Attributes[attrSubnetwork]}}
		made = append(made, address)
	}
	for i := range resources {
		r := &resources[i]
		for _, a := range made {
			if (r.Kind == KindForwardingRule || r.Kind == KindFirewall && r.Attributes[attrDestination] == atBalancer) &&
				strings.ToLower(r.Attributes[attrFamily]) == a.Key && r.Attributes[attrAddresses] == "" {
				r.DependsOn = append(r.DependsOn, cloud.Ref{Kind: KindAddress, Key: a.Key, ID: a.ID})
			}
		}
	}
	return made
}

// inUsePrefix begins the id of an address that only a rule has.
const inUsePrefix = "rule/"
