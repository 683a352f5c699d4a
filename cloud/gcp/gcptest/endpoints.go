package gcptest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"
)

// maxEndpoints of a call.
const maxEndpoints = 500

// Zone and InstanceName are those of the i-th machine.
func Zone(i int) string { return Region + "-" + string(rune('a'+i%2)) }

// InstanceName is the name of the i-th machine.
func InstanceName(i int) string { return fmt.Sprintf("n%d", i+1) }

// AddInstance adds a machine.
func (c *Cloud) AddInstance(zone, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instances[zone+"/"+name] = true
}

// RemoveInstance deletes a machine, which leaves its endpoint groups.
func (c *Cloud) RemoveInstance(zone, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.instances, zone+"/"+name)
	for _, o := range c.objects {
		if o.collection == "networkEndpointGroups" && o.scope == "zones/"+zone && o.instances[name] {
			delete(o.instances, name)
			o.body["size"] = len(o.instances)
		}
	}
}

// AddInstanceGroup adds a group of machines that somebody else keeps.
func (c *Cloud) AddInstanceGroup(zone, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.give("zones/"+zone+"/instanceGroups/"+name, map[string]any{})
}

// AddEndpointGroup adds an empty endpoint group with a description, in any zone, another region's included.
func (c *Cloud) AddEndpointGroup(zone, name, description string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.give("zones/"+zone+"/networkEndpointGroups/"+name, map[string]any{"description": description, "networkEndpointType": "GCE_VM_IP"})
}

// AddAutohealing adds a managed group of machines that are made anew where they fail the health check.
func (c *Cloud) AddAutohealing(zone, name, check string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.give("zones/"+zone+"/instanceGroupManagers/"+name, map[string]any{
		"autoHealingPolicies": []any{map[string]any{"healthCheck": host + "regions/" + Region + "/healthChecks/" + check, "initialDelaySec": 300}}})
}

// ReserveAddress reserves an external IPv4 address for somebody else, which users, as paths below the project, have already.
func (c *Cloud) ReserveAddress(name, address string, users ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := map[string]any{"address": address, "addressType": "EXTERNAL", "ipVersion": "IPV4", "networkTier": "PREMIUM", "status": "RESERVED"}
	for _, user := range users {
		links, _ := body["users"].([]any)
		body["status"], body["users"] = "IN_USE", append(links, host+user)
	}
	c.give("regions/"+Region+"/addresses/"+name, body)
}

// ReserveBrought reserves an external address of IPv6 for somebody else, of the length that its prefix gives, which they brought.
func (c *Cloud) ReserveBrought(name, address string, length int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.give("regions/"+Region+"/addresses/"+name, map[string]any{"address": address, "prefixLength": length, "addressType": "EXTERNAL", "ipVersion": "IPV6",
		"networkTier": "PREMIUM", "ipv6EndpointType": "NETLB", "status": "RESERVED", "ipCollection": host + "regions/" + Region + "/publicDelegatedPrefixes/brought"})
}

// KeepAddress reserves an address for somebody else that rules have already, or an internal one.
func (c *Cloud) KeepAddress(name, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := map[string]any{"address": address, "addressType": "INTERNAL", "ipVersion": "IPV4", "purpose": "SHARED_LOADBALANCER_VIP", "status": "IN_USE"}
	if isSix(address) {
		body["ipVersion"], body["prefixLength"], body["subnetwork"] = "IPV6", 96, host+"regions/"+Region+"/subnetworks/"+Network
	}
	for _, o := range c.objects {
		if o.collection == "forwardingRules" && sameAddress(o.body["IPAddress"], address) && o.body["loadBalancingScheme"] == "EXTERNAL" {
			body["addressType"], body["networkTier"] = "EXTERNAL", o.body["networkTier"]
			delete(body, "purpose")
		}
	}
	c.give("regions/"+Region+"/addresses/"+name, body)
}

// networkEndpoints attaches, detaches and lists.
func (c *Cloud) networkEndpoints(q *request) (any, *Refusal) {
	switch q.verb {
	case "listNetworkEndpoints":
		return c.listEndpoints(q)
	case "attachNetworkEndpoints", "detachNetworkEndpoints":
	default:
		return nil, notFound(q.path + "/" + q.verb)
	}
	o, refusal := c.at(q.path)
	if refusal != nil {
		return nil, refusal
	}
	// Others that attach and detach do not stand in the way, whatever is being made does.
	if o.pending != nil && !strings.HasSuffix(o.pending.op.OperationType, "NetworkEndpoints") {
		return nil, notReady(q.path)
	}
	var body compute.NetworkEndpointGroupsAttachEndpointsRequest // of the same form as that of detaching
	if refusal := strict(q.body, &body); refusal != nil {
		return nil, refusal
	}
	if n := len(body.NetworkEndpoints); n == 0 || n > maxEndpoints {
		return nil, invalidField("networkEndpoints", fmt.Sprint(n), "From 1 to %d endpoints a call.", maxEndpoints)
	}
	var instances []string
	for _, e := range body.NetworkEndpoints {
		name := e.Instance[strings.LastIndexByte(e.Instance, '/')+1:]
		if e.Port != 0 {
			return nil, invalidField("networkEndpoints.port", fmt.Sprint(e.Port), "Not for GCE_VM_IP.")
		}
		if q.verb == "detachNetworkEndpoints" && !o.instances[name] {
			return nil, invalidField("networkEndpoints.instance", name, "The endpoint is not in the group.")
		}
		if zone := strings.TrimPrefix(q.scope, "zones/"); !c.instances[zone+"/"+name] && q.verb == "attachNetworkEndpoints" {
			return nil, notFound(q.scope + "/instances/" + name)
		}
		instances = append(instances, name)
	}
	return c.begin(q, o, func() {
		for _, name := range instances {
			if q.verb == "attachNetworkEndpoints" {
				o.instances[name] = true
			} else {
				delete(o.instances, name)
			}
		}
		o.body["size"] = len(o.instances)
	}, func() {}), nil
}

func (c *Cloud) listEndpoints(q *request) (any, *Refusal) {
	objects, when := c.seen()
	o, refusal := visible(objects, q.path, when)
	if refusal != nil {
		return nil, refusal
	}
	var body compute.NetworkEndpointGroupsListEndpointsRequest
	if refusal := strict(q.body, &body); refusal != nil {
		return nil, refusal
	}
	if refusal := oneOf("healthStatus", &body.HealthStatus, "SKIP"); refusal != nil {
		return nil, refusal
	}
	names, next, refusal := page(q, slices.Sorted(maps.Keys(o.instances)))
	if refusal != nil {
		return nil, refusal
	}
	items := []any{}
	for _, name := range names {
		items = append(items, map[string]any{"networkEndpoint": map[string]any{"instance": name}})
	}
	answer := map[string]any{"kind": "compute#networkEndpointGroupsListNetworkEndpoints", "items": items}
	if next != "" {
		answer["nextPageToken"] = next
	}
	return answer, nil
}
