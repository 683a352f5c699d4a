package gcp

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// Controllers that made what they gave names to.
const (
	serviceController = "the service controller of cloud-provider-gcp"
	gkeController     = "GKE's controller"
)

// legacyFirewall is what the service controller writes before the name in those of some firewall rules.
const legacyFirewall = "k8s-fw-"

// legacyName is what upstream's service controller calls all that it makes for a Service, and begins with what it makes beside
// it: the Service's UID, as far as 32 characters go.
func legacyName(owner cloud.Owner) string {
	name := "a" + strings.ReplaceAll(owner.ServiceUID, "-", "")
	return name[:min(len(name), 32)]
}

// maker tells by names and descriptions which controller made something for one owner.
type maker struct {
	legacy string
	// cluster is how GKE's controller knows the cluster, in all of its names: by the UID of the namespace kube-system, which is
	// our cluster's id unless another one is configured. service is what it writes into descriptions.
	cluster, service string
}

func makerFor(owner cloud.Owner) maker {
	return maker{legacy: legacyName(owner), cluster: gkeHash(owner.ClusterID), service: owner.Namespace + "/" + owner.Name}
}

// gkeHash is the form in which GKE's names hold an id: the first 8 bytes of its SHA-256, each as one of 36 characters.
func gkeHash(text string) string {
	const characters = "0123456789abcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(text))
	hash := make([]byte, 8)
	for i := range hash {
		hash[i] = characters[int(sum[i])%len(characters)]
	}
	return string(hash)
}

// names is a regular expression for names of what the controllers could have made for the owner.
func (m *maker) names() string {
	return "(" + legacyFirewall + ")?" + m.legacy + ".*|k8s[23]-((tcp|udp|l3)-)?" + m.cluster + "-.*"
}

var gkeProtocols = []string{"tcp-", "udp-", "l3-"}

// of returns who made something for the owner; empty: none of them, or not for this one. GKE's names alone do not tell: they are
// cut where they get too long. What its controller shares between Services is nobody's.
func (m *maker) of(f *found) string {
	name := strings.TrimPrefix(f.name, legacyFirewall)
	if name == m.legacy || strings.HasPrefix(name, m.legacy+"-") {
		return serviceController
	}
	rest, second := strings.CutPrefix(f.name, "k8s2-")
	if !second {
		var third bool
		if rest, third = strings.CutPrefix(f.name, "k8s3-"); !third {
			return ""
		}
	}
	for _, protocol := range gkeProtocols {
		rest = strings.TrimPrefix(rest, protocol)
	}
	var told struct {
		Service string `json:"networking.gke.io/service-name"`
	}
	if !strings.HasPrefix(rest, m.cluster+"-") || json.Unmarshal([]byte(jsonOf(f.description)), &told) != nil || told.Service != m.service {
		return ""
	}
	return gkeController
}

// jsonOf is the part of a description in which GKE's controller tells what it is for; words of ours may stand behind it.
func jsonOf(description string) string {
	return description[:strings.LastIndexByte(description, '}')+1]
}

// Adoptable implements cloud.Adopter. A balancer is a regional backend service, and its id the name of that.
func (p *Provider) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	m := makerFor(owner)
	if id != "" {
		f, err := p.api.get(ctx, KindBackendService, id)
		if hasStatus(err, http.StatusNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		return p.adoptable(ctx, &m, []found{f})
	}
	unfinished, err := p.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	things, err := p.around(ctx, &m, false)
	if err != nil {
		return nil, err
	}
	things = slices.DeleteFunc(things, func(f found) bool { return m.of(&f) == "" })
	balancers := slices.DeleteFunc(slices.Clone(things), func(f found) bool { return f.kind != KindBackendService })
	if len(balancers) == 0 { // the other controller did not come so far as to make the balancer
		return p.leftovers(&m, things, unfinished), nil
	}
	return p.adoptable(ctx, &m, balancers)
}

// adoptable tells of balancers with their parts.
func (p *Provider) adoptable(ctx context.Context, m *maker, balancers []found) ([]cloud.Adoptable, error) {
	unfinished, err := p.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	things, err := p.around(ctx, m, true)
	if err != nil {
		return nil, err
	}
	healing, err := p.api.autohealing(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]cloud.Adoptable, len(balancers))
	for i := range balancers {
		f := &balancers[i]
		all[i] = cloud.Adoptable{ID: f.id, AdoptableBy: consent(f.description), Consent: consenting, MadeBy: m.of(f),
			Resources: p.keyed(things, unfinished, p.partsOf(f, things, healing, m))}
	}
	return all, nil
}

// around lists what a balancer could consist of. All of the region is looked through only where there is a balancer; else, and of
// the firewall rules, what has another controller's name.
func (p *Provider) around(ctx context.Context, m *maker, there bool) ([]found, error) {
	var all []found
	for _, kind := range []string{KindBackendService, KindForwardingRule, KindAddress, KindHealthCheck, KindFirewall} {
		filter := ""
		if kind == KindFirewall || !there {
			filter = `name eq "` + m.names() + `"`
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
// else uses, too, is none: above all not the check by which machines are made anew (healing), which would all be if it asked them
// what we ask; nor is one of a controller's balancer that the controller did not make for it, such as a person's own
// address, or the health check that all balancers of GKE have.
func (p *Provider) partsOf(balancer *found, things []found, healing map[string]bool, m *maker) map[string]string {
	me := p.config.link(KindBackendService, balancer.id)
	keys, taken := map[string]string{}, map[string]bool{}
	part := func(f *found, key string) {
		if key == "" || taken[f.kind+"/"+key] {
			key = leftKey(f)
		}
		keys[p.config.link(f.kind, f.id)], taken[f.kind+"/"+key] = key, true
	}
	part(balancer, keyMain)
	by := m.of(balancer)
	ofIts := func(f *found) bool { return m.of(f) == by }
	mine, others := map[string]bool{}, maps.Clone(healing) // addresses and health checks, as they are pointed to
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
			vip := reservedRange(b)
			if others[vip] {
				continue
			}
			if mine[vip] && ofIts(f) {
				part(f, strings.ToLower(familyOf(b.IpVersion)))
			}
		case *compute.HealthCheck:
			if mine[link] && !others[link] && ofIts(f) {
				part(f, keyMain)
			}
		}
		if _, known := keys[link]; !known && by != "" && ofIts(f) && !others[link] {
			part(f, "")
		}
	}
	return keys
}

// leftKey is a key that no Service wants, and that fits in a label, however long the name is.
func leftKey(f *found) string { return "left-" + digest(10, f.kind, f.name) }

// ruleKey is the key that Desired gives to a rule of this kind: of one with several ports, that of the first; of an internal one of
// IPv6, that of the only one.
func ruleKey(b *compute.ForwardingRule) string {
	family := strings.ToLower(familyOf(b.IpVersion))
	ports := rulePorts(b)
	if ports == allPorts && b.IPProtocol == anyProtocol || family == "ipv6" && b.LoadBalancingScheme == schemeInternal {
		return allPorts + "-" + family
	}
	first, _, _ := strings.Cut(ports, ",")
	first, _, _ = strings.Cut(first, "-")
	return strings.ToLower(b.IPProtocol) + "-" + first + "-" + family
}

// keyed returns the things that have a key, as resources with these keys, sorted.
func (p *Provider) keyed(things []found, unfinished map[string]*compute.Operation, keys map[string]string) []cloud.Resource {
	parts := slices.DeleteFunc(slices.Clone(things), func(f found) bool { return keys[p.config.link(f.kind, f.id)] == "" })
	v := newView(&p.config, parts, things, keys)
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
func (p *Provider) leftovers(m *maker, things []found, unfinished map[string]*compute.Operation) []cloud.Adoptable {
	var all []cloud.Adoptable
	for _, by := range []string{serviceController, gkeController} {
		keys := map[string]string{}
		for i := range things {
			if m.of(&things[i]) == by {
				keys[p.config.link(things[i].kind, things[i].id)] = leftKey(&things[i])
			}
		}
		if resources := p.keyed(things, unfinished, keys); len(resources) > 0 {
			all = append(all, cloud.Adoptable{ID: resources[0].ID, MadeBy: by, Resources: resources})
		}
	}
	return all
}
