package azuretest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// Snapshot describes what there is, one line for each thing and for each part of one, sorted, without what the service
// chooses: addresses, priorities, ETags.
func (c *Cloud) Snapshot() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	lines := []string{}
	for _, t := range c.things {
		lines = append(lines, c.describe(t)...)
	}
	slices.Sort(lines)
	return lines
}

func (c *Cloud) describe(t *thing) []string {
	name := t.path.name
	line := func(format string, args ...any) string { return name + " " + fmt.Sprintf(format, args...) }
	lines := []string{}
	switch body := t.body.(type) {
	case *armnetwork.PublicIPAddress:
		p := body.Properties
		dns := ""
		if p.DNSSettings != nil {
			dns = value(p.DNSSettings.DomainNameLabel)
		}
		lines = append(lines, line("address %s %s dns=%s zones=%s prefix=%s failed=%t", value(p.PublicIPAddressVersion), tagText(body.Tags), dns, zonesText(body.Zones), subID(p.PublicIPPrefix),
			t.state == armnetwork.ProvisioningStateFailed))
	case *armnetwork.PublicIPPrefix:
		lines = append(lines, line("prefix"))
	case *armnetwork.LoadBalancer:
		lines = append(lines, line("balancer %s failed=%t", tagText(body.Tags), t.state == armnetwork.ProvisioningStateFailed))
		for _, f := range body.Properties.FrontendIPConfigurations {
			from := value(f.Properties.PrivateIPAllocationMethod)
			text := ""
			if f.Properties.PublicIPAddress != nil {
				text = last(value(f.Properties.PublicIPAddress.ID))
			} else if f.Properties.Subnet != nil {
				text = last(value(f.Properties.Subnet.ID))
			}
			if len(f.Zones) > 0 {
				text += " zones=" + zonesText(f.Zones)
			}
			lines = append(lines, line("frontend %s of %s %s", value(f.Name), text, from))
		}
		for _, b := range body.Properties.BackendAddressPools {
			var addresses []string
			for _, a := range b.Properties.LoadBalancerBackendAddresses {
				if a.Properties.IPAddress != nil {
					addresses = append(addresses, *a.Properties.IPAddress)
				}
			}
			for _, ip := range b.Properties.BackendIPConfigurations {
				addresses = append(addresses, strings.TrimPrefix(value(ip.ID), "/subscriptions/"+Subscription))
			}
			slices.Sort(addresses)
			lines = append(lines, line("pool %s %s", value(b.Name), strings.Join(addresses, ",")))
		}
		for _, b := range body.Properties.Probes {
			lines = append(lines, line("probe %s", plain(b)))
		}
		for _, b := range body.Properties.LoadBalancingRules {
			lines = append(lines, line("rule %s", plain(b)))
		}
	case *armnetwork.SecurityGroup:
		lines = append(lines, line("security group failed=%t", t.state == armnetwork.ProvisioningStateFailed))
		for _, rule := range body.Properties.SecurityRules {
			described := deepcopy.Of(rule)
			described.Properties.Priority = nil
			if to := described.Properties.DestinationAddressPrefix; to != nil {
				described.Properties.DestinationAddressPrefix = new(c.nameOf(*to))
			}
			lines = append(lines, line("security rule %s", plain(described)))
		}
	case *armnetwork.Interface:
		lines = append(lines, line("interface %s %s failed=%t", tagText(body.Tags), plain(body.Properties), t.state == armnetwork.ProvisioningStateFailed))
	case *armcompute.VirtualMachineScaleSetVM:
		lines = append(lines, line("machine %s %s", tagText(body.Tags), plain(body.Properties)))
	case *armnetwork.PrivateLinkService:
		p := deepcopy.Of(body.Properties)
		lines = append(lines, line("private link service %s %s", tagText(body.Tags), plain(p)))
	}
	return lines
}

// nameOf is whose address it is.
func (c *Cloud) nameOf(address string) string {
	for _, t := range c.things {
		switch body := t.body.(type) {
		case *armnetwork.PublicIPAddress:
			if value(body.Properties.IPAddress) == address {
				return "address of " + t.path.name
			}
		case *armnetwork.LoadBalancer:
			for _, f := range body.Properties.FrontendIPConfigurations {
				if value(f.Properties.PrivateIPAddress) == address {
					return "address of " + value(f.Name)
				}
			}
		}
	}
	return address
}

func last(id string) string { return id[strings.LastIndex(id, "/")+1:] }

func tagText(tags map[string]*string) string {
	var texts []string
	for name, text := range tags {
		texts = append(texts, name+"="+value(text))
	}
	slices.Sort(texts)
	return "[" + strings.Join(texts, " ") + "]"
}

// plain is a value as JSON without what the service fills in: members that a client wrote back are in one and not in another.
func plain(body any) string {
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("azuretest: %T cannot be written as JSON: %v", body, err))
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		panic(fmt.Sprintf("azuretest: %T cannot be read from JSON: %v", body, err))
	}
	strip(tree)
	text, err = json.Marshal(tree)
	if err != nil {
		panic(fmt.Sprintf("azuretest: %T cannot be written as JSON: %v", body, err))
	}
	return string(text)
}

func strip(body any) {
	switch b := body.(type) {
	case map[string]any:
		if _, isReference := b["id"]; !isReference || len(b) > 1 {
			for _, name := range []string{"id", "etag", "type", "provisioningState"} {
				delete(b, name)
			}
		}
		for _, inner := range b {
			strip(inner)
		}
	case []any:
		for _, inner := range b {
			strip(inner)
		}
	}
}

// Count returns how many resources of a type there are, and the most parts that one of them has: rules of balancers, and of
// security groups.
func (c *Cloud) Count(typ string) (things, parts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.things {
		if t.kind.name != typ {
			continue
		}
		things++
		switch body := t.body.(type) {
		case *armnetwork.LoadBalancer:
			parts = max(parts, len(body.Properties.LoadBalancingRules))
		case *armnetwork.SecurityGroup:
			parts = max(parts, len(body.Properties.SecurityRules))
		}
	}
	return things, parts
}
