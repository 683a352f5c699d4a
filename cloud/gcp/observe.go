package gcp

import (
	"context"
	"fmt"
	"slices"
	"strconv"
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
	things, err := p.marked(ctx, owner.ClusterID, string(owner.ID()), labelUID, owner.ServiceUID)
	if err != nil {
		return nil, err
	}
	if things, err = p.withReserved(ctx, string(owner.ID()), things); err != nil {
		return nil, err
	}
	resources, err := p.shared(ctx, owner.ClusterID, things, unfinished)
	if err != nil {
		return nil, err
	}
	return append(resources, p.ownedBy(owner.ID(), things, unfinished)...), nil
}

// List implements cloud.Provider.
func (p *Provider) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	unfinished, err := p.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	things, err := p.marked(ctx, clusterID, clusterID+"/", labelCluster, clusterID)
	if err != nil {
		return nil, err
	}
	if things, err = p.withReserved(ctx, clusterID+"/", things); err != nil {
		return nil, err
	}
	all, err := p.shared(ctx, clusterID, things, unfinished)
	if err != nil {
		return nil, err
	}
	owners := map[cloud.OwnerID]bool{}
	for i := range things {
		if id := things[i].markedBy(); strings.HasPrefix(string(id), clusterID+"/") {
			owners[id] = true
		}
	}
	for id := range owners {
		all = append(all, p.ownedBy(id, things, unfinished)...)
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

// marked lists what carries a mark of the cluster's own, or of an owner that begins so: by its description, or by a label with that
// value. Of backend services it returns those of all owners, which tell who has the endpoint groups.
func (p *Provider) marked(ctx context.Context, clusterID, owner, label, value string) ([]found, error) {
	byDescription := func(word, value string) string { return `description eq ".*` + word + "=" + value + `.*"` }
	var all []found
	for _, kind := range observedKinds {
		filters := []string{byDescription(wordOwner, owner)}
		switch {
		case kind == KindFirewall && !p.config.managesFirewalls():
			continue
		case kinds[kind].labels:
			// One filter cannot ask for both: only eq finds a part of a text, and is not combined with others (compute/v1, Filter).
			filters = append(filters, fmt.Sprintf(`labels.%s = "%s"`, label, value))
		case kind == KindBackendService:
			filters[0] = byDescription(wordOwner, clusterID+"/")
		case kind == KindEndpointGroup:
			filters[0] = byDescription(wordCluster, clusterID)
		}
		for _, filter := range filters {
			things, err := p.api.list(ctx, kind, filter)
			if err != nil {
				return nil, err
			}
			all = append(all, things...)
		}
	}
	return distinct(all), nil
}

// distinct leaves out what was found before.
func distinct(things []found) []found {
	seen := map[string]bool{}
	return slices.DeleteFunc(things, func(f found) bool {
		before := seen[f.id]
		seen[f.id] = true
		return before
	})
}

// shared returns the endpoint groups of the cluster. Each has the owners of the backend services that point to it; one that none
// points to has none, and is for whoever sees it to use or to delete.
func (p *Provider) shared(ctx context.Context, clusterID string, things []found, unfinished map[string]*compute.Operation) ([]cloud.Resource, error) {
	owners := map[string][]cloud.OwnerID{} // by the link of the group
	for i := range things {
		b, ok := things[i].body.(*compute.BackendService)
		if id := things[i].markedBy(); ok && strings.HasPrefix(string(id), clusterID+"/") {
			for _, backend := range b.Backends {
				link := shortLink(backend.Group)
				owners[link] = append(owners[link], id)
			}
		}
	}
	var resources []cloud.Resource
	seen := map[string]bool{}
	for i := range things {
		f := &things[i]
		m := f.mark()
		if f.kind != KindEndpointGroup || m.cluster != clusterID {
			continue
		}
		link := p.config.link(f.kind, f.id)
		seen[link] = true
		v := newView(&p.config, nil, nil, map[string]string{link: m.key})
		r := v.resource(f)
		r.State, r.Shared, r.Owners = stateOf(unfinished[link]), true, owners[link]
		slices.Sort(r.Owners)
		r.Owners = slices.Compact(r.Owners)
		instances, err := p.api.instances(ctx, r.ID)
		if err != nil && p.Classify(err).Class != cloud.NotFound {
			return nil, fmt.Errorf("listing the endpoints of %s: %w", r.ID, err)
		}
		slices.Sort(instances)
		for _, name := range instances {
			r.Targets = append(r.Targets, cloud.Target{ID: name})
		}
		resources = append(resources, r)
	}
	for _, r := range unseen(func(name string) string { return sharedKeyOf(clusterID, name) }, unfinished, seen) {
		r.Shared = true
		resources = append(resources, r)
	}
	return resources, nil
}

// ownedBy makes resources of what of the things is one owner's.
func (p *Provider) ownedBy(id cloud.OwnerID, things []found, unfinished map[string]*compute.Operation) []cloud.Resource {
	var mine []found
	keys, seen := map[string]string{}, map[string]bool{}
	for _, f := range things {
		link, m := p.config.link(f.kind, f.id), f.mark()
		if m.owner == id {
			mine = append(mine, f)
			seen[link] = true
		}
		if m.owner == id || m.cluster != "" {
			keys[link] = m.key
		}
	}
	v := newView(&p.config, mine, things, keys)
	var resources []cloud.Resource
	for i := range mine {
		r := v.resource(&mine[i])
		r.State = stateOf(unfinished[p.config.link(r.Kind, r.ID)])
		resources = append(resources, r)
	}
	resources = append(resources, v.inUse(resources)...)
	for _, r := range unseen(func(name string) string { return keyOf(id, name) }, unfinished, seen) {
		r.Owners = []cloud.OwnerID{id}
		resources = append(resources, r)
	}
	return resources
}

// withReserved adds to things the addresses that somebody else reserved and rules have that were not told so, of owners that begin
// so: a Service may ask for one by its name. There are none but where a balancer was adopted.
func (p *Provider) withReserved(ctx context.Context, owner string, things []found) ([]found, error) {
	known := map[string]bool{}
	for i := range things {
		if a, ok := things[i].body.(*compute.Address); ok {
			known[reservedRange(a)] = true
		}
	}
	all := things
	for i := range things {
		rule, ok := things[i].body.(*compute.ForwardingRule)
		m := things[i].mark()
		switch {
		case !ok || !strings.HasPrefix(string(m.owner), owner) || known[addressRange(rule.IPAddress)]:
			continue
		case m.addresses == "" && keyOf(m.owner, things[i].name) != "": // it is at one of ours, which is not shown yet
			continue
		case m.addresses != "" && m.addresses != toldNobodys:
			continue
		}
		// Rules have all eight numbers of an address of IPv6, reserved ones the shortest form (kubernetes/ingress-gce, pkg/address/manager.go).
		reserved, err := p.api.list(ctx, KindAddress, `address = "`+plainIP(rule.IPAddress)+`"`)
		if err != nil {
			return nil, err
		}
		known[addressRange(rule.IPAddress)] = true
		all = append(all, reserved...)
	}
	return all, nil
}

// view is what of one owner, or of one balancer, is looked at together.
type view struct {
	config *Config
	things []found
	// keys by the link of each thing.
	keys map[string]string
	// vips are the balancer's addresses, each as a range, by family; of a rule that has ended up somewhere else, several.
	vips map[string][]string
	// reserved are the names of reserved addresses, whoever's, by range; forSeveral those that several rules can have.
	reserved   map[string]string
	forSeveral map[string]bool
}

// newView looks at things; around are those among which the names of their addresses may be.
func newView(config *Config, things, around []found, keys map[string]string) *view {
	v := &view{config: config, things: things, keys: keys, vips: map[string][]string{}, reserved: map[string]string{}, forSeveral: map[string]bool{}}
	for _, f := range around {
		if b, ok := f.body.(*compute.Address); ok {
			v.reserved[reservedRange(b)], v.forSeveral[reservedRange(b)] = f.name, b.Purpose == purposeSeveral
		}
	}
	for _, f := range things {
		var vip, family string
		switch b := f.body.(type) {
		case *compute.Address:
			family, vip = familyOf(b.IpVersion), reservedRange(b)
		case *compute.ForwardingRule:
			family, vip = familyOf(b.IpVersion), addressRange(b.IPAddress)
		}
		if vip != "" && !slices.Contains(v.vips[family], vip) {
			v.vips[family] = append(v.vips[family], vip)
		}
	}
	return v
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
		v.address(&r, b.Address, "")
		r.Attributes[attrReserved] = "true"
	case *compute.HealthCheck:
		r.Attributes = checkAttributes(b)
	case *compute.NetworkEndpointGroup:
		r.Attributes = map[string]string{attrZone: last(b.Zone), attrNetwork: last(b.Network), attrSubnetwork: last(b.Subnetwork)}
	case *compute.BackendService:
		v.backendService(&r, b)
	case *compute.ForwardingRule:
		v.rule(&r, b, m.addresses)
	case *compute.Firewall:
		v.firewall(&r, b)
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
	if kinds[kind].scope == regional && strings.Contains(link, "/global/") {
		id = ofAllRegions + id
	}
	key, ok := v.keys[link]
	if !ok {
		key = "foreign " + id
	}
	return cloud.Ref{Kind: kind, Key: key, ID: id}
}

// inUse are the addresses of rules that are at none of those that are looked at: reserved by somebody else, or by nobody. Such an
// address is there for as long as its rules are. A rule that we made and that was told of none is at one of ours, which
// lists do not show yet.
func (v *view) inUse(resources []cloud.Resource) []cloud.Resource {
	var made []cloud.Resource
	for i := range resources {
		r := &resources[i]
		ip, family := r.Attributes[attrIP], r.Attributes[attrFamily]
		switch {
		case r.Kind != KindForwardingRule || len(v.addressRefs(addressRange(ip))) > 0:
			continue
		case slices.ContainsFunc(made, func(a cloud.Resource) bool { return a.Attributes[attrIP] == ip }):
			continue
		case len(r.Owners) > 0 && keyOf(r.Owners[0], last(r.ID)) != "" && !v.told(r):
			continue
		}
		address := cloud.Resource{Kind: KindAddress, Key: strings.ToLower(family), ID: inUsePrefix + r.ID, State: r.State, Owners: r.Owners,
			Lent: r.Lent, Adopted: r.Adopted, Attributes: map[string]string{}}
		for _, name := range []string{attrFamily, attrScheme, attrTier, attrSubnetwork, attrIP, attrAddresses, attrUsers} {
			address.Attributes[name] = r.Attributes[name]
		}
		// Only an external address of IPv4 that nobody reserved can be; and one that stays with what is lent is not ours to reserve.
		reserves := r.Attributes[attrScheme] == schemeExternal && family == string(cloud.IPv4) && v.reserved[addressRange(ip)] == "" && r.Attributes[attrUsers] == "false" && !r.Lent
		address.Attributes[attrReserved] = strconv.FormatBool(!reserves)
		made = append(made, address)
	}
	for i := range resources {
		r := &resources[i]
		for _, a := range made {
			if r.Kind == KindForwardingRule && r.Attributes[attrIP] == a.Attributes[attrIP] ||
				r.Kind == KindFirewall && r.Attributes[attrDestination] == atBalancer && strings.ToLower(r.Attributes[attrFamily]) == a.Key && len(r.DependsOn) == 0 {
				r.DependsOn = append(r.DependsOn, cloud.Ref{Kind: KindAddress, Key: a.Key, ID: a.ID})
			}
		}
	}
	return made
}

// told reports whether a rule was told that its address is none of ours.
func (v *view) told(r *cloud.Resource) bool {
	return slices.ContainsFunc(v.things, func(f found) bool { m := f.mark(); return f.kind == r.Kind && f.id == r.ID && m.addresses != "" })
}

// Prefixes of ids of addresses that are no things of ours: one that a rule has, before the rule's, and one that somebody reserved
// and the Service asks for, before its name.
const (
	inUsePrefix = "rule/"
	givenPrefix = "given/"
)
