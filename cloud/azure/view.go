package azure

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// viewAge is for how long what was read counts. The Services that are worked on at the same time share it; what this process
// writes is in it at once.
const viewAge = time.Second

// view is what the network was when it was last read, and what was written since. Not changed once others have it: nor is what it
// holds, which is copied before it is.
type view struct {
	config     Config
	balancers  map[string]*armnetwork.LoadBalancer       // by folded name
	addresses  map[string]*armnetwork.PublicIPAddress    // by folded id
	group      *armnetwork.SecurityGroup                 // nil: there is none
	links      map[string]*armnetwork.PrivateLinkService // by folded name
	interfaces map[scope]*interfaces                     // those that were asked for
	strangers  map[string][]cloud.Target                 // by folded name of the balancer; see strangersOf
	unread     map[string]error                          // for what the manager has no rights: folded ids of addresses, and allLinks

	indexed sync.Once
	index   index // see resources
}

// allLinks stands for the private link services among what is not read.
const allLinks = "privateLinkServices"

// without notes that something that few Services need may not be read, which is theirs alone; other errors it returns.
func (v *view) without(what string, err error) error {
	if !hasStatus(err, http.StatusForbidden) {
		return err
	}
	v.unread[what] = err
	return nil
}

// memory keeps the view.
type memory struct {
	// looking is held by who looks; a channel rather than a mutex, since it is held for as long as Azure takes to answer.
	looking chan struct{}
	current *view
	at      time.Time // of current; zero: it has to be read anew
	// reading says that current is being read anew, and written what was noted since that began: what is read may lack it.
	reading bool
	written []func(v *view)
	forgets int
}

// look returns a view that is young enough, with the members of the cluster's pools.
func (p *Provider) look(ctx context.Context, clusterID string) (*view, error) {
	select {
	case p.memory.looking <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.memory.looking }()
	p.mu.Lock()
	if clusterID != "" && !p.clusters[clusterID] { // empty: of a class alone
		p.clusters[clusterID], p.memory.at = true, time.Time{}
	}
	current, forgets := p.memory.current, p.memory.forgets
	p.memory.reading = current == nil || time.Since(p.memory.at) >= viewAge
	reading := p.memory.reading
	p.mu.Unlock()
	if !reading {
		return current, nil
	}
	begin := time.Now()
	read, err := p.read(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	written := p.memory.written
	p.memory.reading, p.memory.written = false, nil
	if err != nil {
		return nil, err
	}
	for _, change := range written {
		change(read)
	}
	if p.memory.forgets != forgets {
		begin = time.Time{} // perhaps it was read too early
	}
	p.memory.current, p.memory.at = read, begin
	return read, nil
}

func (p *Provider) read(ctx context.Context) (*view, error) {
	v := &view{config: p.config, balancers: map[string]*armnetwork.LoadBalancer{}, addresses: map[string]*armnetwork.PublicIPAddress{},
		links: map[string]*armnetwork.PrivateLinkService{}, interfaces: p.youngInterfaces(), strangers: p.knownStrangers(),
		unread: map[string]error{}}
	balancers, err := p.network.Balancers(ctx)
	if err != nil {
		return nil, err
	}
	for _, lb := range balancers {
		v.balancers[folded(value(lb.Name))] = lb
	}
	addresses, err := p.network.PublicIPs(ctx, p.config.ResourceGroup)
	if err != nil {
		return nil, err
	}
	for _, ip := range addresses {
		v.addresses[folded(value(ip.ID))] = ip
	}
	if err := p.readNamed(ctx, v); err != nil {
		return nil, err
	}
	if v.group, err = p.network.SecurityGroup(ctx); err != nil && !hasStatus(err, http.StatusNotFound) {
		return nil, err
	}
	links, err := p.network.LinkServices(ctx)
	if err := v.without(allLinks, err); err != nil {
		return nil, err
	}
	for _, link := range links {
		v.links[folded(value(link.Name))] = link
	}
	return v, p.readMembers(ctx, v)
}

// readNamed reads public addresses of other resource groups that frontends of ours have.
func (p *Provider) readNamed(ctx context.Context, v *view) error {
	missing := map[string]map[string]bool{} // folded ids by folded group
	for _, lb := range v.balancers {
		for _, f := range lb.Properties.FrontendIPConfigurations {
			if f.Properties.PublicIPAddress == nil || !frontendPattern.MatchString(value(f.Name)) {
				continue
			}
			id := folded(value(f.Properties.PublicIPAddress.ID))
			group := groupOf(id)
			if v.addresses[id] != nil || group == "" {
				continue
			}
			if missing[group] == nil {
				missing[group] = map[string]bool{}
			}
			missing[group][id] = true
		}
	}
	for _, group := range sortedNames(missing) {
		if err := p.readGroup(ctx, v, group, missing[group]); err != nil {
			return err
		}
	}
	return nil
}

// readGroup reads those of the public addresses of a resource group that there are: many of them by a list, and one by one what is not in that,
// since who may read one need not be allowed to list all, and a list can be behind.
func (p *Provider) readGroup(ctx context.Context, v *view, group string, ids map[string]bool) error {
	if len(ids) > fewReads {
		there, err := p.network.PublicIPs(ctx, group)
		if err != nil && !hasStatus(err, http.StatusForbidden) && !hasStatus(err, http.StatusNotFound) {
			return err
		}
		for _, ip := range there {
			if id := folded(value(ip.ID)); ids[id] {
				v.addresses[id] = ip
				delete(ids, id)
			}
		}
	}
	for _, id := range sortedNames(ids) {
		ip, err := p.network.PublicIP(ctx, group, lastPart(id))
		switch {
		case err == nil:
			v.addresses[id] = ip
		case hasStatus(err, http.StatusNotFound):
		default:
			if err := v.without(id, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// note changes the view by what was written.
func (p *Provider) note(change func(v *view)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory.reading {
		p.memory.written = append(p.memory.written, change)
	}
	if was := p.memory.current; was != nil {
		v := &view{config: was.config, balancers: maps.Clone(was.balancers), addresses: maps.Clone(was.addresses), group: was.group, links: maps.Clone(was.links),
			interfaces: maps.Clone(was.interfaces), strangers: maps.Clone(was.strangers), unread: was.unread}
		change(v)
		p.memory.current = v
	}
}

// forget has the network be read anew.
func (p *Provider) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.forgets++
	p.memory.at = time.Time{}
}

// index are the resources of a view, and how they are found.
type index struct {
	all     []cloud.Resource
	byID    map[string]int // by kind and folded id
	byOwner map[cloud.OwnerID][]int
	byGroup map[string][]int // what is shared
	unread  map[cloud.OwnerID]error
}

// resources are what a view holds as resources of whatever cluster and owner, in no order. Made when they are asked for first.
func (v *view) resources() *index {
	v.indexed.Do(func() {
		v.index = index{byID: map[string]int{}, byOwner: map[cloud.OwnerID][]int{}, byGroup: map[string][]int{}, unread: map[cloud.OwnerID]error{}}
		for _, ip := range v.addresses {
			if tag(ip.Tags, tagCluster) != "" {
				v.index.add(v.config.observedAddress(ip))
			}
		}
		for _, lb := range v.balancers {
			if clusterID := tag(lb.Tags, tagCluster); clusterID != "" {
				v.index.add(v.observedRules(lb, clusterID)...)
			} else {
				v.index.add(v.observedHeld(lb)...)
			}
		}
		v.index.add(v.observedSecurity()...)
		for _, link := range v.links {
			if tag(link.Tags, tagCluster) != "" {
				v.index.add(v.observedLink(link))
			}
		}
	})
	return &v.index
}

func (i *index) add(resources ...cloud.Resource) {
	for _, r := range resources {
		n := len(i.all)
		i.all = append(i.all, r)
		i.byID[changeKey(r)] = n
		for _, owner := range r.Owners {
			i.byOwner[owner] = append(i.byOwner[owner], n)
		}
		if group := r.Attributes["group"]; r.Shared && group != "" {
			i.byGroup[group] = append(i.byGroup[group], n)
		}
	}
}

// find returns what is observed with the id; nil: nothing is.
func (v *view) find(kind, id string) *cloud.Resource {
	of := v.resources()
	n, ok := of.byID[changeKey(cloud.Resource{Kind: kind, ID: id})]
	if !ok {
		return nil
	}
	return &of.all[n]
}
