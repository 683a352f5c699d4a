package gcptest

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"
)

// oneOf refuses what is not among values. The first is filled in for nothing, unless it is nothing.
func oneOf(field string, value *string, values ...string) *Refusal {
	if *value == "" && len(values) > 0 {
		*value = values[0]
	}
	if !slices.Contains(values, *value) {
		return invalidField(field, *value, "Must be one of %s.", strings.Join(values, ", "))
	}
	return nil
}

func firstOf(refusals ...*Refusal) *Refusal {
	for _, r := range refusals {
		if r != nil {
			return r
		}
	}
	return nil
}

// linked returns what a link points to, which must be of a collection and ready.
func (c *Cloud) linked(field, link, collection string) (*object, *Refusal) {
	path := below(link)
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[len(parts)-2] != collection {
		return nil, invalidField(field, link, "The URL is malformed.")
	}
	return c.ready(path)
}

func checkAddress(c *Cloud, path string, typed any, _ map[string]any) *Refusal {
	a := typed.(*compute.Address)
	if refusal := firstOf(oneOf("addressType", &a.AddressType, "EXTERNAL", "INTERNAL"), oneOf("ipVersion", &a.IpVersion, "IPV4", "IPV6")); refusal != nil {
		return refusal
	}
	six := a.IpVersion == "IPV6"
	if a.AddressType == "INTERNAL" {
		if a.NetworkTier != "" {
			return invalidField("networkTier", a.NetworkTier, "An internal address has none.")
		}
		if a.Purpose == "" {
			a.Purpose = "GCE_ENDPOINT"
		}
		if refusal := oneOf("purpose", &a.Purpose, "GCE_ENDPOINT", "SHARED_LOADBALANCER_VIP"); refusal != nil {
			return refusal
		}
	} else if refusal := firstOf(oneOf("networkTier", &a.NetworkTier, "PREMIUM", "STANDARD"), unless(a.Purpose == "", "purpose", a.Purpose, "Not for an external address.")); refusal != nil {
		return refusal
	}
	if six && a.AddressType == "EXTERNAL" {
		if refusal := firstOf(unless(a.NetworkTier == "PREMIUM", "networkTier", a.NetworkTier, "IPv6 is of the premium tier."),
			oneOf("ipv6EndpointType", &a.Ipv6EndpointType, "", "VM", "NETLB")); refusal != nil {
			return refusal
		}
	}
	if needs := six || a.AddressType == "INTERNAL"; needs || a.Subnetwork != "" {
		if !needs {
			return invalidField("subnetwork", a.Subnetwork, "An external IPv4 address is in none.")
		}
		o, refusal := c.linked("subnetwork", a.Subnetwork, "subnetworks")
		if refusal != nil {
			return refusal
		}
		a.Subnetwork = host + o.path
	}
	if a.Address != "" {
		return c.takeAddress(a)
	}
	a.Address = c.freeAddress(a.AddressType, six, a.NetworkTier)
	if six {
		a.PrefixLength = 96
	}
	a.Status = "RESERVED"
	return nil
}

// takeAddress reserves one that is asked for: of the subnetwork, or external and in use by a rule of the project. An internal one that is
// in use cannot become one that rules share.
func (c *Cloud) takeAddress(a *compute.Address) *Refusal {
	used := false
	for _, o := range c.objects {
		if o.collection == "addresses" && sameAddress(o.body["address"], a.Address) {
			return invalidField("address", a.Address, "Specified IP address is already reserved.")
		}
		used = used || o.collection == "forwardingRules" && sameAddress(o.body["IPAddress"], a.Address)
	}
	if a.AddressType == "EXTERNAL" && !used {
		return invalidField("address", a.Address, "Specified IP address is not in use by the project.")
	}
	if a.Purpose == "SHARED_LOADBALANCER_VIP" && used {
		return &Refusal{Status: http.StatusConflict, Reason: "IP_IN_USE_BY_ANOTHER_RESOURCE",
			Message: fmt.Sprintf("IP '%s' is already being used by another resource.", a.Address)}
	}
	a.Status = "RESERVED"
	return nil
}

// freeAddress is the first of its kind that nothing has.
func (c *Cloud) freeAddress(scheme string, six bool, tier string) string {
	for i := 1; ; i++ {
		text := fmt.Sprintf("203.0.113.%d", i)
		switch {
		case six && scheme == "INTERNAL":
			text = fmt.Sprintf("fd20:0:0:%x::", i)
		case six:
			text = fmt.Sprintf("2001:db8:1:%x::", i)
		case scheme == "INTERNAL":
			text = fmt.Sprintf("10.128.1.%d", i)
		case tier == "STANDARD":
			text = fmt.Sprintf("198.51.100.%d", i)
		}
		free := true
		for _, o := range c.objects {
			if sameAddress(o.body["address"], text) || sameAddress(o.body["IPAddress"], text) {
				free = false
			}
		}
		if free {
			return text
		}
	}
}

func unless(ok bool, field, value, why string) *Refusal {
	if ok {
		return nil
	}
	return invalidField(field, value, "%s", why)
}

func inRange(field string, value, low, high int64) *Refusal {
	return unless(value >= low && value <= high, field, strconv.FormatInt(value, 10), fmt.Sprintf("Must be from %d to %d.", low, high))
}

func checkHealthCheck(_ *Cloud, _ string, typed any, _ map[string]any) *Refusal {
	h := typed.(*compute.HealthCheck)
	for into, value := range map[*int64]int64{&h.CheckIntervalSec: 5, &h.TimeoutSec: 5, &h.HealthyThreshold: 2, &h.UnhealthyThreshold: 2} {
		if *into == 0 {
			*into = value
		}
	}
	var port int64
	switch {
	case h.Type == "HTTP" && h.HttpHealthCheck != nil && h.TcpHealthCheck == nil:
		port = h.HttpHealthCheck.Port
		if h.HttpHealthCheck.RequestPath == "" {
			h.HttpHealthCheck.RequestPath = "/"
		}
		if !strings.HasPrefix(h.HttpHealthCheck.RequestPath, "/") {
			return invalidField("httpHealthCheck.requestPath", h.HttpHealthCheck.RequestPath, "Must begin with a slash.")
		}
		h.HttpHealthCheck.ProxyHeader = "NONE"
	case h.Type == "TCP" && h.TcpHealthCheck != nil && h.HttpHealthCheck == nil:
		port = h.TcpHealthCheck.Port
		h.TcpHealthCheck.ProxyHeader = "NONE"
	default:
		return invalidField("type", h.Type, "Exactly the member of the type must be set; TCP and HTTP are known here.")
	}
	return firstOf(inRange("port", port, 1, 65535), inRange("checkIntervalSec", h.CheckIntervalSec, 1, 300), inRange("timeoutSec", h.TimeoutSec, 1, h.CheckIntervalSec),
		inRange("healthyThreshold", h.HealthyThreshold, 1, 10), inRange("unhealthyThreshold", h.UnhealthyThreshold, 1, 10))
}

func checkEndpointGroup(c *Cloud, _ string, typed any, _ map[string]any) *Refusal {
	g := typed.(*compute.NetworkEndpointGroup)
	if refusal := firstOf(unless(g.NetworkEndpointType == "GCE_VM_IP", "networkEndpointType", g.NetworkEndpointType, "Only GCE_VM_IP is known here."),
		unless(g.DefaultPort == 0, "defaultPort", strconv.FormatInt(g.DefaultPort, 10), "Not for GCE_VM_IP.")); refusal != nil {
		return refusal
	}
	network, refusal := c.linked("network", g.Network, "networks")
	if refusal != nil {
		return refusal
	}
	subnetwork, refusal := c.linked("subnetwork", g.Subnetwork, "subnetworks")
	if refusal != nil {
		return refusal
	}
	g.Network, g.Subnetwork = host+network.path, host+subnetwork.path
	return nil
}

func checkFirewall(c *Cloud, _ string, typed any, _ map[string]any) *Refusal {
	f := typed.(*compute.Firewall)
	network, refusal := c.linked("network", f.Network, "networks")
	if refusal != nil {
		return refusal
	}
	f.Network = host + network.path
	if f.Priority == 0 {
		f.Priority = 1000
	}
	if refusal := firstOf(oneOf("direction", &f.Direction, "INGRESS", "EGRESS"), inRange("priority", f.Priority, 0, 65535),
		unless((len(f.Allowed) > 0) != (len(f.Denied) > 0), "allowed", "", "Exactly one of allowed and denied must be set."),
		checkRanges("sourceRanges", f.SourceRanges), checkRanges("destinationRanges", f.DestinationRanges)); refusal != nil {
		return refusal
	}
	if f.Direction == "INGRESS" && len(f.SourceRanges) == 0 {
		f.SourceRanges = []string{"0.0.0.0/0"}
	}
	for _, ranges := range [][]string{f.SourceRanges, f.DestinationRanges} {
		for i, text := range ranges {
			if prefix := netip.MustParsePrefix(text); isSix(text) { // not as it was sent (kubernetes/ingress-gce#2898)
				ranges[i] = fmt.Sprintf("%s/%d", longForm(text), prefix.Bits())
			}
		}
	}
	if len(f.DestinationRanges) > 0 && isSix(f.SourceRanges[0]) != isSix(f.DestinationRanges[0]) {
		return invalidField("destinationRanges", f.DestinationRanges[0], "Sources and destinations must be of one family.")
	}
	for _, a := range f.Allowed {
		if !slices.Contains([]string{"tcp", "udp", "icmp", "sctp", "all"}, a.IPProtocol) {
			return invalidField("allowed.IPProtocol", a.IPProtocol, "Unknown protocol.")
		}
		for _, port := range a.Ports {
			if !isPort(port) {
				return invalidField("allowed.ports", port, "Not a port.")
			}
		}
	}
	for _, tag := range f.TargetTags {
		if !isName(tag) {
			return invalidField("targetTags", tag, "Not a tag.")
		}
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n > 0 && n < 65536
}

// longForm is an address, or that of a range, without its length, as the service writes it in rules: of IPv6 all eight numbers.
func longForm(text string) string {
	text, _, _ = strings.Cut(text, "/")
	address, err := netip.ParseAddr(text)
	if err != nil || address.Is4() {
		return text
	}
	var parts []string
	for b := address.As16(); len(parts) < 8; {
		parts = append(parts, fmt.Sprintf("%x", uint16(b[2*len(parts)])<<8|uint16(b[2*len(parts)+1])))
	}
	return strings.Join(parts, ":")
}

func isSix(text string) bool { return strings.Contains(text, ":") }

// checkRanges refuses what is no range, or of two families.
func checkRanges(field string, ranges []string) *Refusal {
	for _, text := range ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Masked() != prefix {
			return invalidField(field, text, "Must be a valid range of addresses.")
		}
		if isSix(text) != isSix(ranges[0]) {
			return invalidField(field, text, "IPv4 and IPv6 cannot be mixed in one rule.")
		}
	}
	return nil
}
