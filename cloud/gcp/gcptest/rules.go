package gcptest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"
)

// Limits of the service.
const (
	maxBackends = 50
	maxPorts    = 5
	maxInternal = 10 // rules of one shared internal address
)

// localityPolicies that the service takes by scheme, the default first. MAGLEV for internal ones is for projects on a list
// (kubernetes/ingress-gce#2652).
var localityPolicies = map[string][]string{"EXTERNAL": {"MAGLEV", "WEIGHTED_MAGLEV"}, "INTERNAL": {"", "WEIGHTED_GCP_RENDEZVOUS"}}

func checkBackendService(c *Cloud, _ string, typed any, old map[string]any) *Refusal {
	b := typed.(*compute.BackendService)
	if refusal := firstOf(
		unless(b.LoadBalancingScheme != "", "loadBalancingScheme", "", "Must be given: EXTERNAL and INTERNAL are known here."),
		oneOf("loadBalancingScheme", &b.LoadBalancingScheme, "EXTERNAL", "INTERNAL"), oneOf("protocol", &b.Protocol, "TCP", "UDP", "UNSPECIFIED"),
		oneOf("sessionAffinity", &b.SessionAffinity, "NONE", "CLIENT_IP", "CLIENT_IP_PROTO", "CLIENT_IP_PORT_PROTO", "CLIENT_IP_NO_DESTINATION"),
		oneOf("localityLbPolicy", &b.LocalityLbPolicy, localityPolicies[b.LoadBalancingScheme]...),
		unless(len(b.HealthChecks) == 1, "healthChecks", fmt.Sprint(b.HealthChecks), "Exactly one health check is required."),
		unless(b.SessionAffinity != "CLIENT_IP_NO_DESTINATION" || b.LoadBalancingScheme == "INTERNAL", "sessionAffinity", b.SessionAffinity, "Internal only."),
		c.checkTracking(b)); refusal != nil {
		return refusal
	}
	if d := b.ConnectionDraining; d != nil {
		if refusal := inRange("connectionDraining.drainingTimeoutSec", d.DrainingTimeoutSec, 0, 3600); refusal != nil {
			return refusal
		}
	}
	check, refusal := c.linked("healthChecks[0]", b.HealthChecks[0], "healthChecks")
	if refusal != nil {
		return refusal
	}
	if b.LoadBalancingScheme == "EXTERNAL" && check.scope == "global" {
		return invalidField("healthChecks[0]", b.HealthChecks[0], "An external backend service needs a regional health check.")
	}
	if strings.HasPrefix(b.LocalityLbPolicy, "WEIGHTED_") && check.body["type"] != "HTTP" {
		return invalidField("localityLbPolicy", b.LocalityLbPolicy, "Weights come with an HTTP health check only.")
	}
	b.HealthChecks[0] = host + check.path
	if refusal := c.checkBackends(b); refusal != nil {
		return refusal
	}
	// The scheme and the protocol are fixed.
	if old != nil && (old["loadBalancingScheme"] != b.LoadBalancingScheme || old["protocol"] != b.Protocol) {
		return invalidField("protocol", b.Protocol, "The field cannot be changed.")
	}
	return nil
}

func (c *Cloud) checkTracking(b *compute.BackendService) *Refusal {
	t := b.ConnectionTrackingPolicy
	if t == nil || !t.EnableStrongAffinity {
		return nil
	}
	return firstOf(
		unless(b.LoadBalancingScheme == "EXTERNAL", "connectionTrackingPolicy.enableStrongAffinity", "true", "External only."),
		unless(b.SessionAffinity == "CLIENT_IP" || b.SessionAffinity == "CLIENT_IP_PROTO", "sessionAffinity", b.SessionAffinity, "Strong affinity needs one of the client."),
		unless(t.TrackingMode == "PER_SESSION", "connectionTrackingPolicy.trackingMode", t.TrackingMode, "Strong affinity is PER_SESSION."),
		inRange("connectionTrackingPolicy.idleTimeoutSec", t.IdleTimeoutSec, 60, 57600))
}

func (c *Cloud) checkBackends(b *compute.BackendService) *Refusal {
	if len(b.Backends) > maxBackends {
		return invalidField("backends", strconv.Itoa(len(b.Backends)), "At most %d.", maxBackends)
	}
	var groups []string
	mixed := map[string]bool{}
	for _, backend := range b.Backends {
		collection := "networkEndpointGroups"
		if strings.Contains(backend.Group, "/instanceGroups/") {
			collection = "instanceGroups"
		}
		group, refusal := c.linked("backends.group", backend.Group, collection)
		if refusal != nil {
			return refusal
		}
		if mixed[collection] = true; len(mixed) > 1 {
			return invalidField("backends.group", backend.Group, "Instance groups and network endpoint groups cannot be mixed.")
		}
		if slices.Contains(groups, group.path) {
			return invalidField("backends.group", backend.Group, "The group is there twice.")
		}
		groups = append(groups, group.path)
		backend.Group = host + group.path
		if refusal := oneOf("backends.balancingMode", &backend.BalancingMode, "CONNECTION"); refusal != nil {
			return refusal
		}
	}
	return nil
}

func checkRule(c *Cloud, path string, typed any, old map[string]any) *Refusal {
	r := typed.(*compute.ForwardingRule)
	if old != nil {
		return unless(!r.AllowGlobalAccess || r.LoadBalancingScheme == "INTERNAL", "allowGlobalAccess", "true", "Internal only.")
	}
	if refusal := firstOf(
		unless(r.IpVersion != "IPV4" || r.IPAddress == "", "ipVersion", r.IpVersion, "Both IP Version and IP Address cannot be specified."),
		oneOf("loadBalancingScheme", &r.LoadBalancingScheme, "EXTERNAL", "INTERNAL"), oneOf("IPProtocol", &r.IPProtocol, "TCP", "UDP", "L3_DEFAULT"),
		oneOf("ipVersion", &r.IpVersion, "IPV4", "IPV6"),
		unless(r.Target == "", "target", r.Target, "Only backend services are known here."),
		unless(!r.AllowGlobalAccess || r.LoadBalancingScheme == "INTERNAL", "allowGlobalAccess", "true", "Internal only."),
		c.checkPorts(r)); refusal != nil {
		return refusal
	}
	service, refusal := c.linked("backendService", r.BackendService, "backendServices")
	if refusal != nil {
		return refusal
	}
	r.BackendService = host + service.path
	protocol := service.body["protocol"]
	if service.body["loadBalancingScheme"] != r.LoadBalancingScheme {
		return invalidField("loadBalancingScheme", r.LoadBalancingScheme, "The backend service has another one.")
	}
	if protocol != "UNSPECIFIED" && protocol != r.IPProtocol {
		return invalidField("IPProtocol", r.IPProtocol, "The backend service has the protocol %v.", protocol)
	}
	if refusal := c.checkRulePlace(r); refusal != nil {
		return refusal
	}
	if r.IPAddress == "" {
		r.IPAddress = c.freeAddress(r.LoadBalancingScheme, r.IpVersion == "IPV6", r.NetworkTier)
	} else if refusal := c.resolve(r); refusal != nil {
		return refusal
	}
	if refusal := c.checkConflict(path, r); refusal != nil {
		return refusal
	}
	if r.IpVersion == "IPV6" {
		r.IPAddress = fmt.Sprintf("%s/%d", longForm(r.IPAddress), c.lengthOf(r.IPAddress)) // as in turbot/steampipe-plugin-gcp#407
	}
	return nil
}

// lengthOf is that of the range of an address of IPv6.
func (c *Cloud) lengthOf(address string) int {
	for _, o := range c.objects {
		if n, ok := o.body["prefixLength"].(int); ok && o.collection == "addresses" && sameAddress(o.body["address"], address) {
			return n
		}
	}
	return 96
}

// checkPorts accepts ports, a range or all.
func (c *Cloud) checkPorts(r *compute.ForwardingRule) *Refusal {
	given := 0
	for _, is := range []bool{len(r.Ports) > 0, r.PortRange != "", r.AllPorts} {
		if is {
			given++
		}
	}
	if refusal := firstOf(
		unless(given == 1, "ports", strings.Join(r.Ports, ","), "Exactly one of ports, portRange and allPorts must be given."),
		unless(len(r.Ports) <= maxPorts, "ports", strings.Join(r.Ports, ","), fmt.Sprintf("At most %d ports.", maxPorts)),
		unless(r.IPProtocol != "L3_DEFAULT" || r.AllPorts, "IPProtocol", r.IPProtocol, "It has all ports.")); refusal != nil {
		return refusal
	}
	for _, port := range r.Ports {
		if !isPort(port) {
			return invalidField("ports", port, "Not a port.")
		}
	}
	return nil
}

// checkRulePlace checks tier, network and subnetwork.
func (c *Cloud) checkRulePlace(r *compute.ForwardingRule) *Refusal {
	six := r.IpVersion == "IPV6"
	if r.LoadBalancingScheme == "EXTERNAL" {
		if refusal := firstOf(oneOf("networkTier", &r.NetworkTier, "PREMIUM", "STANDARD"),
			unless(r.NetworkTier == "PREMIUM" || !six, "networkTier", r.NetworkTier, "IPv6 is of the premium tier."),
			unless(six == (r.Subnetwork != ""), "subnetwork", r.Subnetwork, "An external rule needs one for IPv6, and has none for IPv4.")); refusal != nil {
			return refusal
		}
	} else {
		if r.NetworkTier != "" && r.NetworkTier != "PREMIUM" {
			return invalidField("networkTier", r.NetworkTier, "An internal rule has none.")
		}
		r.NetworkTier = "PREMIUM"
		network, refusal := c.linked("network", r.Network, "networks")
		if refusal != nil {
			return refusal
		}
		r.Network = host + network.path
	}
	if r.Subnetwork == "" {
		return unless(r.LoadBalancingScheme == "EXTERNAL", "subnetwork", "", "An internal rule needs one.")
	}
	subnetwork, refusal := c.linked("subnetwork", r.Subnetwork, "subnetworks")
	if refusal == nil {
		r.Subnetwork = host + subnetwork.path
	}
	return refusal
}

// resolve makes the address of a rule of what it was given as: the link of a reserved one, or itself.
func (c *Cloud) resolve(r *compute.ForwardingRule) *Refusal {
	var address *object
	if strings.Contains(r.IPAddress, "/addresses/") {
		o, refusal := c.linked("IPAddress", r.IPAddress, "addresses")
		if refusal != nil {
			return refusal
		}
		address = o
	} else {
		if r.LoadBalancingScheme == "EXTERNAL" && r.IpVersion == "IPV6" && !strings.HasSuffix(r.IPAddress, "/96") {
			return invalidField("IPAddress", r.IPAddress, "IPv6 addresses must be in the form of a /96 range.")
		}
		for _, o := range c.objects {
			if o.collection == "addresses" && sameAddress(o.body["address"], r.IPAddress) {
				address = o
			}
		}
		if address == nil {
			for _, o := range c.objects { // another rule's, in use without being reserved
				if o.collection == "forwardingRules" && sameAddress(o.body["IPAddress"], r.IPAddress) {
					return nil
				}
			}
			return unless(r.LoadBalancingScheme == "INTERNAL", "IPAddress", r.IPAddress, "Specified IP address is not reserved in the project.")
		}
	}
	r.IPAddress, _ = address.body["address"].(string)
	version, _ := address.body["ipVersion"].(string)
	tier, _ := address.body["networkTier"].(string)
	users, _ := address.body["users"].([]any) // other than rules
	return firstOf(
		unless(len(users) == 0, "IPAddress", r.IPAddress, "Specified IP address is already in-use."),
		unless(address.body["addressType"] == r.LoadBalancingScheme, "IPAddress", r.IPAddress, "The address is of another scheme."),
		unless((version == "IPV6") == (r.IpVersion == "IPV6"), "IPAddress", r.IPAddress, "The address is of another version."),
		unless(r.LoadBalancingScheme == "INTERNAL" || tier == r.NetworkTier, "IPAddress", r.IPAddress, "The address is of another network tier."))
}

// checkConflict refuses what another rule of the address takes already. Any protocol stands back behind a certain one.
func (c *Cloud) checkConflict(path string, r *compute.ForwardingRule) *Refusal {
	rules := 1
	for _, o := range c.objects {
		if o.collection != "forwardingRules" || o.path == path || !sameAddress(o.body["IPAddress"], r.IPAddress) {
			continue
		}
		var other compute.ForwardingRule
		text, _ := json.Marshal(o.body)
		if err := json.Unmarshal(text, &other); err != nil {
			panic(err)
		}
		rules++
		if other.IPProtocol == r.IPProtocol && overlap(portsOf(&other), portsOf(r)) {
			return invalidField("IPAddress", r.IPAddress, "Specified IP address is in-use and would result in a conflict.")
		}
	}
	if r.LoadBalancingScheme != "INTERNAL" || rules == 1 {
		return nil
	}
	for _, o := range c.objects {
		if o.collection == "addresses" && sameAddress(o.body["address"], r.IPAddress) && o.body["purpose"] == "SHARED_LOADBALANCER_VIP" {
			return unless(rules <= maxInternal, "IPAddress", r.IPAddress, fmt.Sprintf("At most %d rules can share it.", maxInternal))
		}
	}
	return invalidField("IPAddress", r.IPAddress, "Rules can share an internal address that is reserved for it only.")
}

// portsOf returns ranges.
func portsOf(r *compute.ForwardingRule) [][2]int {
	if r.AllPorts {
		return [][2]int{{1, 65535}}
	}
	if first, end, ok := strings.Cut(r.PortRange, "-"); ok {
		a, _ := strconv.Atoi(first)
		b, _ := strconv.Atoi(end)
		return [][2]int{{a, b}}
	}
	var ranges [][2]int
	for _, text := range r.Ports {
		n, _ := strconv.Atoi(text)
		ranges = append(ranges, [2]int{n, n})
	}
	return ranges
}

func overlap(a, b [][2]int) bool {
	for _, x := range a {
		for _, y := range b {
			if x[0] <= y[1] && y[0] <= x[1] {
				return true
			}
		}
	}
	return false
}
