package azuretest

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// Limits of a security group.
const (
	maxDescription = 140
	maxPrefixes    = 4000
)

func acceptGroup(c *Cloud, t, _ *thing) *Refusal {
	group := t.body.(*armnetwork.SecurityGroup)
	if r := checkResource(t.path.name, group.Location, group.Tags); r != nil {
		return r
	}
	if group.Properties == nil {
		group.Properties = &armnetwork.SecurityGroupPropertiesFormat{}
	}
	rules := group.Properties.SecurityRules
	if most := c.options.MaxSecurityRules; len(rules) > most {
		return bad("SecurityRuleCountLimitReached", "security group %s has %d rules, %d at most", t.path.name, len(rules), most)
	}
	if r := checkNames("securityRules", rules, func(r *armnetwork.SecurityRule) *string { return r.Name }); r != nil {
		return r
	}
	priorities := map[string]string{}
	for _, rule := range rules {
		if r := checkSecurityRule(rule); r != nil {
			return r
		}
		p := rule.Properties
		at := string(*p.Direction) + strconv.Itoa(int(*p.Priority))
		if other := priorities[at]; other != "" {
			return bad("SecurityRuleConflict", "security rules %s and %s have the same priority %d and direction", other, value(rule.Name), *p.Priority)
		}
		priorities[at] = value(rule.Name)
	}
	return nil
}

func checkSecurityRule(rule *armnetwork.SecurityRule) *Refusal {
	p, name := rule.Properties, value(rule.Name)
	switch {
	case p == nil || p.Access == nil || p.Direction == nil || p.Protocol == nil:
		return bad("SecurityRuleMissingProperty", "security rule %s needs access, direction and protocol", name)
	case value(p.Priority) < 100 || value(p.Priority) > 4096:
		return bad("SecurityRuleInvalidPriority", "security rule %s has priority %d: 100 to 4096", name, value(p.Priority))
	case len(value(p.Description)) > maxDescription:
		return bad("SecurityRuleDescriptionTooLong", "security rule %s has a description of more than %d characters", name, maxDescription)
	}
	for _, side := range []struct {
		one      *string
		many     []*string
		valid    func(string) bool
		property string
	}{
		{p.SourceAddressPrefix, p.SourceAddressPrefixes, isPrefix, "SourceAddressPrefix"},
		{p.DestinationAddressPrefix, p.DestinationAddressPrefixes, isPrefix, "DestinationAddressPrefix"},
		{p.SourcePortRange, p.SourcePortRanges, isPortRange, "SourcePortRange"},
		{p.DestinationPortRange, p.DestinationPortRanges, isPortRange, "DestinationPortRange"},
	} {
		if (side.one == nil) == (len(side.many) == 0) {
			return bad("SecurityRuleParameterConflict", "security rule %s must have either %s or its plural", name, side.property)
		}
		if len(side.many) > maxPrefixes {
			return bad("SecurityRuleTooManyPrefixes", "security rule %s has %d of %s", name, len(side.many), side.property)
		}
		all := side.many
		if side.one != nil {
			all = append(all[:0:0], side.one)
		}
		family := 0
		var before []netip.Prefix
		for _, text := range all {
			if len(side.many) > 0 && isServiceTag(value(text)) {
				return bad("SecurityRuleParameterContainsUnsupportedValue", "security rule parameter %s for rule %s cannot specify system tags; unsupported value used: %s",
					side.property, name, value(text))
			}
			if !side.valid(value(text)) || len(side.many) > 0 && value(text) == "*" {
				return bad("SecurityRuleInvalid"+side.property, "security rule %s has the value '%s' of %s", name, value(text), side.property)
			}
			if prefix, err := netip.ParsePrefix(value(text)); err == nil {
				is := 4
				if prefix.Addr().Is6() {
					is = 6
				}
				if family != 0 && family != is {
					return bad("SecurityRuleMixedIPVersions", "security rule %s has prefixes of both versions in %s", name, side.property)
				}
				family = is
				if slices.ContainsFunc(before, prefix.Overlaps) {
					return bad("OverlappingSubnetsNotPermittedInSecurityRule", "security rule parameter %s for rule %s contains overlapping subnets, with %s", side.property, name, prefix)
				}
				before = append(before, prefix)
			}
		}
	}
	return nil
}

func isPrefix(text string) bool {
	if text == "*" {
		return true
	}
	if _, err := netip.ParsePrefix(text); err == nil {
		return true
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return isServiceTag(text)
}

// isServiceTag reports whether it is one, such as Internet or AzureCloud.westeurope.
func isServiceTag(text string) bool {
	return text != "" && text[0] >= 'A' && text[0] <= 'Z' && !strings.ContainsAny(text, " ,/:")
}

func isPortRange(text string) bool {
	if text == "*" {
		return true
	}
	from, to, isRange := strings.Cut(text, "-")
	low, err := strconv.Atoi(from)
	if err != nil || low < 0 || low > 65535 {
		return false
	}
	if !isRange {
		return true
	}
	high, err := strconv.Atoi(to)
	return err == nil && high >= low && high <= 65535
}

func stampGroup(t *thing) any {
	group := deepcopy.Of(t.body.(*armnetwork.SecurityGroup))
	group.ID, group.Name, group.Type, group.Etag = new(t.path.id()), new(t.path.name), new("Microsoft.Network/networkSecurityGroups"), new(t.etag)
	group.Properties.ProvisioningState = new(t.state)
	for _, rule := range group.Properties.SecurityRules {
		rule.ID, rule.Etag, rule.Properties.ProvisioningState = new(childID(t, "securityRules", value(rule.Name))), new(t.etag), new(t.state)
	}
	return group
}
