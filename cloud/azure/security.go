package azure

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// Priorities of security rules: those that allow come from the lowest free one on, those that deny from the highest down, so
// that what a Service denies to others comes after what any allows.
const (
	lowestPriority  = 500
	highestPriority = 4096
)

// mark is the description of a security rule: whose it is.
func mark(clusterID, uid string) string { return "fairlead " + clusterID + "/" + uid }

func markedBy(rule *armnetwork.SecurityRule) (clusterID, uid string, ok bool) {
	if rule.Properties == nil {
		return "", "", false
	}
	text, ok := strings.CutPrefix(value(rule.Properties.Description), "fairlead ")
	if !ok {
		return "", "", false
	}
	return strings.Cut(text, "/")
}

func securityID(group *armnetwork.SecurityGroup, part string) string {
	return value(group.ID) + "#" + part
}

// observedSecurity are the Services' parts of the security group.
func (v *view) observedSecurity() []cloud.Resource {
	if v.group == nil || v.group.Properties == nil {
		return nil
	}
	byID := map[string]*cloud.Resource{}
	sources := map[string]map[string][]string{} // of each part, by what they are allowed
	var order []string
	for _, rule := range v.group.Properties.SecurityRules {
		m := securityPattern.FindStringSubmatch(value(rule.Name))
		clusterID, uid, ok := markedBy(rule)
		if m == nil || !ok || m[2] != uid {
			continue
		}
		id := securityID(v.group, m[1])
		r := byID[id]
		if r == nil {
			owner := cloud.Owner{ClusterID: clusterID, ServiceUID: uid}
			r = &cloud.Resource{Kind: KindSecurityRule, Key: m[3], ID: id, State: cloud.StateReady, Owners: []cloud.OwnerID{owner.ID()},
				Attributes: map[string]string{"sources": "", "destination": "", "deny": "", "tcp": "", "udp": "", "all": "", "provisioned": "true"}}
			if stateOf(v.group.Properties.ProvisioningState) == cloud.StateFailed {
				r.Attributes["provisioned"] = "false" // it is written anew
			}
			byID[id], sources[id] = r, map[string][]string{}
			order = append(order, id)
		}
		observeSecurityRule(r, rule, m[4])
		if m[4] != "deny" {
			sources[id][m[4]] = append(sources[id][m[4]], either(rule.Properties.SourceAddressPrefix, rule.Properties.SourceAddressPrefixes)...)
		}
	}
	for part := range deniedFirst(v.group) {
		if r := byID[securityID(v.group, part)]; r != nil {
			r.Attributes["deny"] = "before what is allowed"
		}
	}
	var all []cloud.Resource
	for _, id := range order {
		r := byID[id]
		for _, what := range slices.Sorted(maps.Keys(sources[id])) {
			agree(r, "sources", cloud.List(sources[id][what]))
		}
		v.pointSecurity(r)
		all = append(all, *r)
	}
	return all
}

// deniedFirst are the parts of a group that deny before they allow, since somebody changed priorities.
func deniedFirst(group *armnetwork.SecurityGroup) map[string]bool {
	denies, first := map[string]int32{}, map[string]bool{}
	for _, allow := range []bool{false, true} {
		for _, rule := range group.Properties.SecurityRules {
			m := securityPattern.FindStringSubmatch(value(rule.Name))
			if m == nil || rule.Properties == nil {
				continue
			}
			priority := value(rule.Properties.Priority)
			switch {
			case !allow && m[4] == "deny":
				denies[m[1]] = priority
			case allow && m[4] != "deny" && denies[m[1]] != 0 && denies[m[1]] < priority:
				first[m[1]] = true
			}
		}
	}
	return first
}

// observeSecurityRule adds one rule, but for its sources.
func observeSecurityRule(r *cloud.Resource, rule *armnetwork.SecurityRule, what string) {
	p := rule.Properties
	ports := cloud.List(either(p.DestinationPortRange, p.DestinationPortRanges))
	if value(p.Direction) != armnetwork.SecurityRuleDirectionInbound || cloud.List(either(p.SourcePortRange, p.SourcePortRanges)) != "*" {
		ports = "changed"
	}
	agree(r, "destination", cloud.List(either(p.DestinationAddressPrefix, p.DestinationAddressPrefixes)))
	if what == "deny" {
		r.Attributes["deny"] = ports
		if value(p.Access) != armnetwork.SecurityRuleAccessDeny || cloud.List(either(p.SourceAddressPrefix, p.SourceAddressPrefixes)) != "*" {
			r.Attributes["deny"] = "changed"
		}
		return
	}
	if value(p.Access) != armnetwork.SecurityRuleAccessAllow || !strings.EqualFold(string(value(p.Protocol)), securityProtocol(what)) {
		ports = "changed"
	}
	agree(r, what, ports)
}

// agree notes what rules of one part are to have in common, as ours do. Where they do not, all is shown.
func agree(r *cloud.Resource, name, text string) {
	if have := r.Attributes[name]; have != "" && have != text {
		text = have + " or " + text
	}
	r.Attributes[name] = text
}

// securityProtocol is Azure's word.
func securityProtocol(what string) string {
	switch what {
	case "tcp":
		return string(armnetwork.SecurityRuleProtocolTCP)
	case "udp":
		return string(armnetwork.SecurityRuleProtocolUDP)
	}
	return string(armnetwork.SecurityRuleProtocolAsterisk)
}

func either(one *string, many []*string) []string {
	if one != nil {
		return []string{*one}
	}
	texts := make([]string, len(many))
	for i, text := range many {
		texts[i] = value(text)
	}
	return texts
}

// pointSecurity finds the part of a balancer that the rules are for, among those that are there already, and says so rather than
// its address.
func (v *view) pointSecurity(r *cloud.Resource) {
	var loose *cloud.Resource
	for _, n := range v.index.byOwner[r.Owners[0]] {
		rules := &v.index.all[n]
		if rules.Kind != KindRules || rules.Key != r.Key {
			continue
		}
		address := ""
		if len(rules.Ingress) > 0 {
			address = rules.Ingress[0].IP
		}
		for _, dep := range rules.DependsOn {
			if ip := v.addresses[folded(dep.ID)]; ip != nil {
				address = value(ip.Properties.IPAddress)
			}
		}
		if address != "" && address == r.Attributes["destination"] {
			r.Attributes["destination"] = "frontend"
			loose = rules
			break
		}
		if loose == nil || rules.ID < loose.ID {
			loose = rules
		}
	}
	if r.Attributes["destination"] == "*" {
		r.Attributes["destination"] = "nodes"
	}
	if loose != nil {
		r.DependsOn = []cloud.Ref{{Kind: KindRules, Key: loose.Key, ID: loose.ID}}
	}
}

// putSecurity writes a Service's part into the group. Where there is one, its priorities stay.
func putSecurity(group *armnetwork.SecurityGroup, owner cloud.Owner, want cloud.Resource, destination string) error {
	part := securityPart(owner, want.Key)
	priorities := map[string]int32{}
	for _, rule := range group.Properties.SecurityRules {
		priorities[value(rule.Name)] = value(rule.Properties.Priority)
	}
	if deniedFirst(group)[part] {
		clear(priorities)
	}
	if err := dropSecurity(group, owner, part); err != nil {
		return err
	}
	for _, what := range []string{"tcp", "udp", "all"} {
		ports := cloud.SplitList(want.Attributes[what])
		if len(ports) == 0 {
			continue
		}
		for i, sources := range together(cloud.SplitList(want.Attributes["sources"])) {
			name := part + "-" + what
			if i > 0 {
				name += "-" + strconv.Itoa(i+1)
			}
			rule := securityRule(owner, name, armnetwork.SecurityRuleAccessAllow, securityProtocol(what), sources, destination, ports)
			if err := place(group, rule, priorities, lowestPriority, 1); err != nil {
				return err
			}
		}
	}
	denied := cloud.SplitList(want.Attributes["deny"])
	if len(denied) == 0 {
		return nil
	}
	rule := securityRule(owner, part+"-deny", armnetwork.SecurityRuleAccessDeny, "*", []string{"*"}, destination, denied)
	return place(group, rule, priorities, highestPriority, -1)
}

// together are the sources that one rule can have: all prefixes, but of service tags one each.
func together(sources []string) [][]string {
	var prefixes []string
	var lists [][]string
	for _, source := range sources {
		if _, err := netip.ParsePrefix(source); err == nil {
			prefixes = append(prefixes, source)
		} else {
			lists = append(lists, []string{source})
		}
	}
	if len(prefixes) > 0 {
		lists = slices.Insert(lists, 0, prefixes)
	}
	return lists
}

func securityPart(owner cloud.Owner, family string) string {
	return "fl-" + hash(6, owner.ClusterID) + "-" + owner.ServiceUID + "-" + family
}

func securityRule(owner cloud.Owner, name string, access armnetwork.SecurityRuleAccess, protocol string, sources []string, destination string, ports []string) *armnetwork.SecurityRule {
	p := &armnetwork.SecurityRulePropertiesFormat{Access: new(access), Direction: new(armnetwork.SecurityRuleDirectionInbound),
		Protocol: new(armnetwork.SecurityRuleProtocol(protocol)), Description: new(mark(owner.ClusterID, owner.ServiceUID)),
		SourcePortRange: new("*"), DestinationAddressPrefix: new(destination)}
	if len(sources) == 1 {
		p.SourceAddressPrefix = new(sources[0])
	} else {
		p.SourceAddressPrefixes = pointers(sources)
	}
	if len(ports) == 1 {
		p.DestinationPortRange = new(ports[0])
	} else {
		p.DestinationPortRanges = pointers(ports)
	}
	return &armnetwork.SecurityRule{Name: new(name), Properties: p}
}

func pointers(texts []string) []*string {
	list := make([]*string, len(texts))
	for i := range texts {
		list[i] = &texts[i]
	}
	return list
}

// place gives a rule the priority that it had, or else the first free one.
func place(group *armnetwork.SecurityGroup, rule *armnetwork.SecurityRule, had map[string]int32, from, step int32) error {
	taken := map[int32]bool{}
	for _, other := range group.Properties.SecurityRules {
		if value(other.Properties.Direction) == armnetwork.SecurityRuleDirectionInbound {
			taken[value(other.Properties.Priority)] = true
		}
	}
	priority := had[*rule.Name]
	for priority == 0 || taken[priority] {
		if priority = from; priority < lowestPriority || priority > highestPriority {
			return cloud.Errorf(cloud.Quota, "security group %s has no priority left from %d to %d", value(group.Name), lowestPriority, highestPriority)
		}
		from += step
	}
	rule.Properties.Priority = new(priority)
	group.Properties.SecurityRules = append(group.Properties.SecurityRules, rule)
	return nil
}

// dropSecurity takes a Service's part out of the group. A rule of the name that is not marked as the Service's stays, and is
// an error.
func dropSecurity(group *armnetwork.SecurityGroup, owner cloud.Owner, part string) error {
	var kept []*armnetwork.SecurityRule
	for _, rule := range group.Properties.SecurityRules {
		m := securityPattern.FindStringSubmatch(value(rule.Name))
		if m == nil || m[1] != part {
			kept = append(kept, rule)
			continue
		}
		if clusterID, uid, _ := markedBy(rule); clusterID != owner.ClusterID || uid != owner.ServiceUID {
			return cloud.Errorf(cloud.Conflict, "security rule %s is not this Service's", value(rule.Name))
		}
	}
	group.Properties.SecurityRules = kept
	return nil
}

// destination is where a Service's traffic goes, as the security group sees it.
func (v *view) destination(want cloud.Resource) (string, error) {
	if want.Attributes["destination"] == "nodes" {
		return "*", nil
	}
	for _, dep := range want.DependsOn {
		if address, err := netip.ParseAddr(v.frontendAddress(dep.ID)); err == nil {
			return address.String(), nil
		}
	}
	return "", cloud.Errorf(cloud.Pending, "%s waits for the address of the balancer", fmt.Sprint(want.Name()))
}
