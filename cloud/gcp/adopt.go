package gcp

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// serviceController is who made what is called as upstream's service controller calls it.
const serviceController = "the service controller of cloud-provider-gcp"

// legacyFirewall is what it writes before the name in those of some firewall rules.
const legacyFirewall = "k8s-fw-"

// legacyName is what upstream's service controller calls all that it makes for a Service, and begins with what it makes beside
// it: the Service's UID, as far as 32 characters go.
func legacyName(owner cloud.Owner) string {
	name := "a" + strings.ReplaceAll(owner.ServiceUID, "-", "")
	return name[:min(len(name), 32)]
}

// Adoptable implements cloud.Adopter. A balancer is a regional backend service, and its id the name of that.
func (p *Provider) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	legacy := legacyName(owner)
	madeFor := func(f *found) bool {
		name := strings.TrimPrefix(f.name, legacyFirewall)
		return name == legacy || strings.HasPrefix(name, legacy+"-")
	}
	if id == "" {
		id = legacy
	}
	f, err := p.api.get(ctx, KindBackendService, id)
	if hasStatus(err, http.StatusNotFound) {
		if id != legacy {
			return nil, nil
		}
	} else if err != nil {
		return nil, err
	}
	unfinished, err := p.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	things, err := p.around(ctx, legacy, f.body != nil)
	if err != nil {
		return nil, err
	}
	if f.body == nil { // the other controller did not come so far as to make the balancer
		return p.leftovers(things, unfinished, madeFor), nil
	}
	keys := p.partsOf(&f, things, madeFor)
	a := cloud.Adoptable{ID: f.id, AdoptableBy: consent(f.description), Resources: p.keyed(things, unfinished, keys)}
	if madeFor(&f) {
		a.MadeBy = serviceController
	}
	return []cloud.Adoptable{a}, nil
}

// around lists what a balancer could consist of. All of the region is looked through only where there is a balancer; else, and of
// the firewall rules, what has the other controller's name.
func (p *Provider) around(ctx context.Context, legacy string, there bool) ([]found, error) {
	var all []found
	for _, kind := range []string{KindBackendService, KindForwardingRule, KindAddress, KindHealthCheck, KindFirewall} {
		filter := ""
		if kind == KindFirewall || !there {
			filter = `name eq "(` + legacyFirewall + `)?` + legacy + `.*"`
		}
		if kind == KindFirewall && !p.config.managesFirewalls() {
			continue
		}
		things, err := p.api.list(ctx, kind, filter)
		if err != nil {
			return nil, err
		}
		all = append(all, things...)
	}
	return all, nil
}

// partsOf returns the keys of a balancer's parts by their links, itself included. An address or a health check that something
// else uses, too, is none.
func (p *Provider) partsOf(balancer *found, things []found, madeFor func(*found) bool) map[string]string {
	me := p.config.link(KindBackendService, balancer.id)
	keys, taken := map[string]string{}, map[string]bool{}
	part := func(f *found, key string) {
		if key == "" || taken[f.kind+"/"+key] {
			key = "left-" + f.name // no Service wants a key like that
		}
		keys[p.config.link(f.kind, f.id)], taken[f.kind+"/"+key] = key, true
	}
	part(balancer, keyMain)
	mine, others := map[string]bool{}, map[string]bool{} // addresses and health checks, as they are pointed to
	for i := range things {
		switch b := things[i].body.(type) {
		case *compute.ForwardingRule:
			if b.BackendService != "" && shortLink(b.BackendService) == me {
				part(&things[i], ruleKey(b))
				mine[addressRange(b.IPAddress)] = true
			} else {
				others[addressRange(b.IPAddress)] = true
			}
		case *compute.BackendService:
			for _, link := range b.HealthChecks {
				if things[i].id == balancer.id {
					mine[shortLink(link)] = true
				} else {
					others[shortLink(link)] = true
				}
			}
		}
	}
	for i := range things {
		f := &things[i]
		link := p.config.link(f.kind, f.id)
		switch b := f.body.(type) {
		case *compute.Address:
			if vip := addressRange(b.Address); mine[vip] && !others[vip] {
				part(f, strings.ToLower(familyOf(b.IpVersion)))
			}
		case *compute.HealthCheck:
			if mine[link] && !others[link] {
				part(f, keyMain)
			}
		}
		if _, known := keys[link]; !known && madeFor(f) && madeFor(balancer) && !others[link] {
			part(f, "")
		}
	}
	return keys
}

// ruleKey is the key that Desired gives to a rule of this kind: of one with several ports, that of the first.
func ruleKey(b *compute.ForwardingRule) string {
	family := strings.ToLower(familyOf(b.IpVersion))
	ports := rulePorts(b)
	if ports == allPorts && b.IPProtocol == anyProtocol {
		return allPorts + "-" + family
	}
	first, _, _ := strings.Cut(ports, ",")
	first, _, _ = strings.Cut(first, "-")
	return strings.ToLower(b.IPProtocol) + "-" + first + "-" + family
}

// keyed returns the things that have a key, as resources with these keys, sorted.
func (p *Provider) keyed(things []found, unfinished map[string]*compute.Operation, keys map[string]string) []cloud.Resource {
	parts := slices.DeleteFunc(slices.Clone(things), func(f found) bool { return keys[p.config.link(f.kind, f.id)] == "" })
	v := newView(&p.config, parts, keys)
	var resources []cloud.Resource
	for i := range parts {
		r := v.resource(&parts[i])
		r.State = stateOf(unfinished[p.config.link(r.Kind, r.ID)])
		resources = append(resources, r)
	}
	resources = append(resources, v.inUse(resources)...)
	cloud.SortResources(resources)
	return resources
}

// leftovers are what was made for the owner before there was a balancer, under the id of the first.
func (p *Provider) leftovers(things []found, unfinished map[string]*compute.Operation, madeFor func(*found) bool) []cloud.Adoptable {
	keys := map[string]string{}
	for i := range things {
		if madeFor(&things[i]) {
			keys[p.config.link(things[i].kind, things[i].id)] = "left-" + things[i].name
		}
	}
	resources := p.keyed(things, unfinished, keys)
	if len(resources) == 0 {
		return nil
	}
	return []cloud.Adoptable{{ID: resources[0].ID, MadeBy: serviceController, Resources: resources}}
}
