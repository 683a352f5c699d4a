package azure

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// Desired implements cloud.Provider.
func (p *Provider) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	s, wrong := readSettings(p.config, spec)
	group := spec.Owner.GroupID()
	var resources []cloud.Resource
	for _, family := range spec.Families {
		key := familyKey(family)
		from := source{internal: s.internal, address: s.addresses[family]}
		if s.internal {
			from.subnet, from.linked = s.subnet, s.link.create && family == cloud.IPv4
		} else if name := s.names[family]; name != "" {
			from.named = s.resourceGroup + "/" + name
		} else if from.address != "" {
			from.group = p.config.otherGroup(s.resourceGroup)
		}
		frontend := frontendName(spec.Owner, key, from)
		rules := cloud.Resource{Kind: KindRules, Key: key, Fixed: true, HasTargets: true, Immutable: []string{"frontend"},
			Attributes: map[string]string{"frontend": frontend, "source": from.String(), "provisioned": "true"},
			Nodes:      spec.Nodes} // whose machines are to be found
		if from.linked {
			p.meet(spec.Nodes)
		}
		rules.Targets = targets(rules.Nodes, family)
		var ports []string
		for _, rule := range wantedRules(spec, s, family) {
			ports = append(ports, rule.key)
			keepRule(rules.Attributes, rule.key, rule.String())
			rules.Follows = append(rules.Follows, probeOf(rule.key))
		}
		rules.Attributes["ports"] = cloud.List(ports)
		if from.mode() == 'o' {
			address := cloud.Resource{Kind: KindPublicIP, Key: key, Fixed: true, Shared: group != "",
				Attributes: map[string]string{"family": string(family), "prefix": folded(s.prefixes[family]), "group": group,
					"dns": s.dnsLabel, "tags": pairs(s.tags)},
				Immutable: []string{"family", "prefix", "group"}}
			rules.DependsOn = []cloud.Ref{{Kind: KindPublicIP, Key: key}}
			resources = append(resources, address)
		}
		resources = append(resources, rules)
		if security, ok := wantedSecurity(spec, s, family); ok {
			resources = append(resources, security)
		}
		if s.link.create && family == cloud.IPv4 {
			resources = append(resources, wantedLink(s))
		}
	}
	return resources, wrong
}

// targets are the nodes' addresses of the family, sorted.
func targets(nodes []cloud.Node, family cloud.Family) []cloud.Target {
	var all []cloud.Target
	for _, node := range nodes {
		if address := node.Address(family); address != "" {
			all = append(all, cloud.Target{ID: address})
		}
	}
	return sortedTargets(all)
}

// sortedTargets sorts, and leaves out repetitions.
func sortedTargets(all []cloud.Target) []cloud.Target {
	slices.SortFunc(all, func(a, b cloud.Target) int { return cmp.Compare(a.ID, b.ID) })
	return slices.Compact(all)
}

// wantedRules returns a rule for each port, or one for all.
func wantedRules(spec cloud.Spec, s settings, family cloud.Family) []rule {
	// An internal frontend of IPv6 has no floating IP: Azure puts no second address of that version on nodes.
	floating := s.floatingIP && (!s.internal || family == cloud.IPv4)
	affinity := "Default"
	if spec.AffinitySeconds > 0 {
		affinity = "SourceIP"
	}
	var rules []rule
	for _, port := range spec.Ports {
		if s.noRule[port.Key()] {
			continue
		}
		r := rule{key: port.Key(), protocol: port.Protocol, port: port.Port, backend: port.NodePort, floating: floating,
			reset: s.tcpReset && port.Protocol == "TCP", idle: s.idleMinutes, affinity: affinity, probe: wantedProbe(port, s.ports[port.Key()])}
		if floating {
			r.backend = port.Port
		}
		rules = append(rules, r)
	}
	if s.allPorts && family == cloud.IPv4 && len(rules) > 0 {
		all := rules[0]
		all.key, all.protocol, all.port, all.backend, all.reset = "all-0", "All", 0, 0, s.tcpReset
		return []rule{all}
	}
	return rules
}

// wantedProbe is the Service's health check, or what the annotations say instead.
func wantedProbe(port cloud.Port, s probeSettings) string {
	if s.none {
		return "none"
	}
	p := probe{protocol: strings.ToLower(port.HealthCheck.Protocol), port: port.HealthCheck.Port, path: port.HealthCheck.Path,
		interval: int32(s.interval), count: int32(s.count)}
	if s.protocol != "" {
		p.protocol = s.protocol
	}
	if s.port != 0 {
		p.port = int32(s.port)
	}
	switch {
	case p.protocol == "tcp":
		p.path = ""
	case s.path != "":
		p.path = s.path
	case p.path == "":
		p.path = "/"
	}
	return p.String()
}

// wantedSecurity says what the security group is to let through; false: it need say nothing.
func wantedSecurity(spec cloud.Spec, s settings, family cloud.Family) (cloud.Resource, bool) {
	r := cloud.Resource{Kind: KindSecurityRule, Key: familyKey(family), DependsOn: []cloud.Ref{{Kind: KindRules, Key: familyKey(family)}}}
	restricted := len(s.sources)+len(s.serviceTags) > 0
	sources := slices.Clone(s.serviceTags)
	for _, prefix := range s.sources {
		if prefix.Addr().Is4() == (family == cloud.IPv4) {
			sources = append(sources, prefix.String())
		}
	}
	if !restricted {
		if s.internal {
			return r, false // the network's own are let in by Azure's last rules
		}
		sources = []string{"Internet"}
	}
	var every []string
	ports := map[string][]string{}
	destination := "frontend"
	for _, rule := range wantedRules(spec, s, family) {
		what, number := strings.ToLower(rule.protocol), strconv.Itoa(int(rule.backend))
		if !rule.floating {
			destination = "nodes"
		}
		if what == "all" {
			number = "*"
		}
		ports[what], every = append(ports[what], number), append(every, number)
	}
	if restricted && s.internal && destination == "nodes" && len(sources) > 0 {
		sources = append(sources, "AzureLoadBalancer") // its probes come to the same ports, and would be denied with the others
	}
	r.Attributes = map[string]string{"sources": cloud.List(sources), "destination": destination, "deny": "", "provisioned": "true"}
	for _, what := range []string{"tcp", "udp", "all"} {
		r.Attributes[what] = ""
		if len(sources) > 0 {
			r.Attributes[what] = cloud.List(ports[what])
		}
	}
	if restricted && s.internal {
		r.Attributes["deny"] = cloud.List(every) // others of the network would be let in by Azure's last rules
	}
	return r, len(sources) > 0 || r.Attributes["deny"] != ""
}

// pairs is the canonical form of tags.
func pairs(tags map[string]string) string {
	list := make([]string, 0, len(tags))
	for name := range maps.Keys(tags) {
		list = append(list, name+"="+tags[name])
	}
	return cloud.List(list)
}

func wantedLink(s settings) cloud.Resource {
	return cloud.Resource{Kind: KindLinkService, Key: "ipv4", Immutable: []string{"name"}, Fixed: true,
		DependsOn: []cloud.Ref{{Kind: KindRules, Key: "ipv4"}},
		Attributes: map[string]string{"name": s.link.name, "subnet": folded(s.link.subnet), "count": strconv.Itoa(s.link.count), "addresses": cloud.List(s.link.addresses),
			"fqdns": cloud.List(s.link.fqdns), "visibility": cloud.List(s.link.visibility), "autoApproval": cloud.List(s.link.autoApproval),
			"proxyProtocol": strconv.FormatBool(s.link.proxyProtocol)}}
}
