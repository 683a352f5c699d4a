package azuretest

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

// kinds of resources, in no order that counts. Set by init, since they refer to each other.
var kinds []*kind

var balancers, publicIPs, prefixes, groups, linkServices, interfaces, machines *kind

func init() {
	balancers = &kind{name: "loadBalancers", read: reader[armnetwork.LoadBalancer](), accept: acceptBalancer,
		stamp: stampBalancer, free: freeBalancer, child: childOfBalancer, inner: innerOfBalancer}
	publicIPs = &kind{name: "publicIPAddresses", read: reader[armnetwork.PublicIPAddress](), accept: acceptPublicIP,
		stamp: stampPublicIP, free: freePublicIP}
	prefixes = &kind{name: "publicIPPrefixes", read: reader[armnetwork.PublicIPPrefix](), accept: acceptPrefix, stamp: stampPrefix, free: freePrefix}
	groups = &kind{name: "networkSecurityGroups", read: reader[armnetwork.SecurityGroup](), accept: acceptGroup,
		stamp: stampGroup, free: func(*Cloud, *thing) *Refusal { return nil }}
	linkServices = &kind{name: "privateLinkServices", read: reader[armnetwork.PrivateLinkService](), accept: acceptLinkService,
		stamp: stampLinkService, free: freeLinkService}
	interfaces = &kind{name: "networkInterfaces", read: reader[armnetwork.Interface](), accept: acceptInterface,
		stamp: stampInterface, free: func(*Cloud, *thing) *Refusal { return nil }}
	machines = &kind{name: setMachines, compute: true, read: reader[armcompute.VirtualMachineScaleSetVM](), accept: acceptMachine,
		stamp: stampMachine, free: func(*Cloud, *thing) *Refusal { return nil }}
	kinds = []*kind{balancers, publicIPs, prefixes, groups, linkServices, interfaces, machines}
}

func reader[T any]() func(text []byte) (any, *Refusal) {
	return func(text []byte) (any, *Refusal) {
		body := new(T)
		if r := decode(text, body); r != nil {
			return nil, r
		}
		return body, nil
	}
}

// Limits of tags.
const (
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
)

var (
	resourceName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,78}[A-Za-z0-9_])?$`)
	dnsLabel     = regexp.MustCompile(`^[a-z]([-a-z0-9]{1,61}[a-z0-9])$`)
)

// checkResource holds what all resources have in common.
func checkResource(name string, location *string, tags map[string]*string) *Refusal {
	switch {
	case !resourceName.MatchString(name):
		return bad("InvalidResourceName", "resource name %s is invalid: at most 80 letters, digits, dots, dashes and underscores", name)
	case value(location) == "":
		return bad("LocationRequired", "the location property is required for this definition")
	case !strings.EqualFold(value(location), Location):
		return bad("LocationNotAvailableForResourceType", "the provided location '%s' is not available", value(location))
	case len(tags) > maxTags:
		return bad("InvalidTags", "the number of tags is %d, %d at most", len(tags), maxTags)
	}
	for name, text := range tags {
		if name == "" || len(name) > maxTagName || strings.ContainsAny(name, `<>%&\?/`) {
			return bad("InvalidTagNameCharacters", "the tag name '%s' is empty, too long or holds one of <>%%&\\?/", name)
		}
		if len(value(text)) > maxTagValue {
			return bad("TagValueTooLarge", "the value of tag '%s' has more than %d characters", name, maxTagValue)
		}
	}
	return nil
}

func acceptPublicIP(c *Cloud, t, before *thing) *Refusal {
	ip := t.body.(*armnetwork.PublicIPAddress)
	if r := checkResource(t.path.name, ip.Location, ip.Tags); r != nil {
		return r
	}
	if ip.Properties == nil {
		ip.Properties = &armnetwork.PublicIPAddressPropertiesFormat{}
	}
	p := ip.Properties
	if p.PublicIPAddressVersion == nil {
		p.PublicIPAddressVersion = new(armnetwork.IPVersionIPv4)
	}
	v6 := *p.PublicIPAddressVersion == armnetwork.IPVersionIPv6
	switch {
	case ip.SKU == nil || value(ip.SKU.Name) != armnetwork.PublicIPAddressSKUNameStandard:
		return bad("IPv4BasicSkuPublicIpCountLimitReached", "cannot create more than 0 Basic SKU public IP addresses")
	case value(p.PublicIPAllocationMethod) != armnetwork.IPAllocationMethodStatic:
		return bad("PublicIPAndSKUAllocationMethodMismatch", "Standard sku publicIp %s must have AllocationMethod set to Static", t.path.name)
	case p.IdleTimeoutInMinutes != nil && (*p.IdleTimeoutInMinutes < 4 || *p.IdleTimeoutInMinutes > 30):
		return bad("PublicIPAddressIdleTimeoutIsOutOfRange", "the idle timeout must be from 4 to 30 minutes")
	case p.IPAddress != nil && (before == nil || value(before.body.(*armnetwork.PublicIPAddress).Properties.IPAddress) != *p.IPAddress):
		return bad("PublicIPAddressCannotBeSet", "the address of %s is chosen by the service", t.path.name)
	}
	var hadZones []*string
	if before != nil {
		hadZones = before.body.(*armnetwork.PublicIPAddress).Zones
	}
	if r := checkZones(t.path.id(), ip.Zones, hadZones, before != nil); r != nil {
		return r
	}
	if r := c.checkDNS(t, p); r != nil {
		return r
	}
	if before == nil && c.count(publicIPs) >= c.options.MaxPublicIPs {
		return bad(string(*p.PublicIPAddressVersion)+"StandardSkuPublicIpCountLimitReached", "cannot create more than %d %s Standard SKU public IP addresses for this subscription in this region",
			c.options.MaxPublicIPs, *p.PublicIPAddressVersion)
	}
	if p.PublicIPPrefix != nil && c.find(prefixes, value(p.PublicIPPrefix.ID)) == nil {
		return bad("InvalidResourceReference", "resource %s referenced by %s was not found", value(p.PublicIPPrefix.ID), t.path.id())
	}
	if p.PublicIPPrefix != nil {
		if r := c.linked("publicIPPrefixes/join/action"); r != nil {
			return r
		}
	}
	if before == nil {
		p.IPAddress = new(c.takeAddress(v6))
		return nil
	}
	was := before.body.(*armnetwork.PublicIPAddress).Properties
	if value(was.PublicIPAddressVersion) != value(p.PublicIPAddressVersion) || subID(was.PublicIPPrefix) != subID(p.PublicIPPrefix) {
		return bad("PropertyChangeNotAllowed", "version and prefix of %s cannot change", t.path.id())
	}
	p.IPAddress = was.IPAddress
	return nil
}

// checkZones refuses zones that there are not, and, of what is there already, other ones than it had.
func checkZones(id string, zones, had []*string, there bool) *Refusal {
	for _, zone := range zones {
		if z := value(zone); z != "1" && z != "2" && z != "3" {
			return bad("AvailabilityZoneNotSupported", "the zone(s) '%s' for resource '%s' is not supported: '1','2','3' are", z, id)
		}
	}
	if there && zonesText(zones) != zonesText(had) {
		return bad("ResourceAvailabilityZonesCannotBeModified", "resource %s has an existing availability zone constraint %s and the request has availability zone constraint %s, which do not match",
			id, zonesText(had), zonesText(zones))
	}
	return nil
}

func zonesText(zones []*string) string {
	texts := make([]string, 0, len(zones))
	for _, zone := range zones {
		texts = append(texts, value(zone))
	}
	slices.Sort(texts)
	return strings.Join(texts, "")
}

func subID(ref *armnetwork.SubResource) string {
	if ref == nil {
		return ""
	}
	return key(value(ref.ID))
}

func (c *Cloud) checkDNS(t *thing, p *armnetwork.PublicIPAddressPropertiesFormat) *Refusal {
	if p.DNSSettings == nil || p.DNSSettings.DomainNameLabel == nil {
		return nil
	}
	label := *p.DNSSettings.DomainNameLabel
	if !dnsLabel.MatchString(label) {
		return bad("InvalidDomainNameLabel", "the domain name label %s is invalid", label)
	}
	for _, other := range c.things {
		if other.kind != publicIPs || key(other.path.id()) == key(t.path.id()) {
			continue
		}
		if dns := other.body.(*armnetwork.PublicIPAddress).Properties.DNSSettings; dns != nil && value(dns.DomainNameLabel) == label {
			return bad("DnsRecordInUse", "DNS record %s.%s.cloudapp.azure.com is already used by another public IP", label, Location)
		}
	}
	p.DNSSettings.Fqdn = new(label + "." + Location + ".cloudapp.azure.com")
	return nil
}

func (c *Cloud) count(k *kind) int {
	n := 0
	for _, t := range c.things {
		if t.kind == k {
			n++
		}
	}
	return n
}

// find returns the resource of a kind with the id; nil: there is none.
func (c *Cloud) find(k *kind, id string) *thing {
	if t := c.things[key(id)]; t != nil && t.kind == k {
		return t
	}
	return nil
}

// takeAddress gives out an address of those for documentation that is not used.
func (c *Cloud) takeAddress(v6 bool) string {
	for {
		i, first := 0, netip.MustParseAddr("20.50.0.0")
		if v6 {
			i, first = 1, netip.MustParseAddr("2603:1020::")
		}
		c.nextAddress[i]++
		bytes := first.AsSlice()
		bytes[len(bytes)-1], bytes[len(bytes)-2] = byte(c.nextAddress[i]), byte(c.nextAddress[i]>>8)
		address, _ := netip.AddrFromSlice(bytes)
		used := false
		for _, t := range c.things {
			if ip, ok := t.body.(*armnetwork.PublicIPAddress); ok && value(ip.Properties.IPAddress) == address.String() {
				used = true
			}
		}
		if !used {
			return address.String()
		}
	}
}

// users are the ids of the frontends that have public addresses, by those.
func (c *Cloud) users() map[string]string {
	users := map[string]string{}
	for _, t := range c.things {
		lb, ok := t.body.(*armnetwork.LoadBalancer)
		if !ok {
			continue
		}
		for _, f := range lb.Properties.FrontendIPConfigurations {
			if p := f.Properties.PublicIPAddress; p != nil {
				users[key(value(p.ID))] = t.path.id() + "/frontendIPConfigurations/" + value(f.Name)
			}
		}
	}
	return users
}

func stampPublicIP(t *thing) any {
	ip := deepcopy.Of(t.body.(*armnetwork.PublicIPAddress))
	ip.ID, ip.Name, ip.Type, ip.Etag = new(t.path.id()), new(t.path.name), new("Microsoft.Network/publicIPAddresses"), new(t.etag)
	ip.Properties.ProvisioningState = new(t.state)
	return ip
}

func freePublicIP(c *Cloud, t *thing) *Refusal {
	if user := c.users()[key(t.path.id())]; user != "" {
		return bad("PublicIPAddressCannotBeDeleted", "public IP address %s can not be deleted since it is still allocated to resource %s", t.path.id(), user)
	}
	return nil
}

func acceptPrefix(_ *Cloud, t, _ *thing) *Refusal {
	prefix := t.body.(*armnetwork.PublicIPPrefix)
	if prefix.Properties == nil {
		prefix.Properties = &armnetwork.PublicIPPrefixPropertiesFormat{}
	}
	return checkResource(t.path.name, prefix.Location, prefix.Tags)
}

func stampPrefix(t *thing) any {
	prefix := deepcopy.Of(t.body.(*armnetwork.PublicIPPrefix))
	prefix.ID, prefix.Name, prefix.Etag = new(t.path.id()), new(t.path.name), new(t.etag)
	prefix.Properties.ProvisioningState = new(t.state)
	return prefix
}

func freePrefix(c *Cloud, t *thing) *Refusal {
	for _, other := range c.things {
		if ip, ok := other.body.(*armnetwork.PublicIPAddress); ok && subID(ip.Properties.PublicIPPrefix) == key(t.path.id()) {
			return bad("PublicIpPrefixInUse", "prefix %s is used by %s", t.path.id(), other.path.id())
		}
	}
	return nil
}

// SetAddress has a public address be another one, as with a range that a customer brought along.
func (c *Cloud) SetAddress(name, address string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := path{subscription: Subscription, group: ResourceGroup, kind: publicIPs.name, name: name}.id()
	t := c.find(publicIPs, id)
	if t == nil {
		return fmt.Errorf("there is no public address %s: %d", name, http.StatusNotFound)
	}
	next := *t
	ip := deepcopy.Of(t.body.(*armnetwork.PublicIPAddress))
	ip.Properties.IPAddress = new(address)
	next.body, next.text = ip, nil
	c.things[key(id)] = &next
	return nil
}
