package gcptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// permissions that methods need, as the service's reference has them, without the "compute." before them.
var permissions = map[string][]string{
	"addresses.list": {"addresses.list"}, "addresses.get": {"addresses.get"},
	"addresses.insert": {"addresses.create", "subnetworks.use"}, "addresses.delete": {"addresses.delete"}, "addresses.setLabels": {"addresses.setLabels"},
	"regionHealthChecks.list": {"regionHealthChecks.list"}, "regionHealthChecks.get": {"regionHealthChecks.get"},
	"regionHealthChecks.insert": {"regionHealthChecks.create"}, "regionHealthChecks.patch": {"regionHealthChecks.update"}, "regionHealthChecks.delete": {"regionHealthChecks.delete"},
	"networkEndpointGroups.list": {"networkEndpointGroups.list"}, "networkEndpointGroups.get": {"networkEndpointGroups.get"},
	"networkEndpointGroups.insert": {"networkEndpointGroups.create", "networks.use", "subnetworks.use"}, "networkEndpointGroups.delete": {"networkEndpointGroups.delete"},
	"networkEndpointGroups.attachNetworkEndpoints": {"networkEndpointGroups.attachNetworkEndpoints", "instances.use"},
	"networkEndpointGroups.detachNetworkEndpoints": {"networkEndpointGroups.detachNetworkEndpoints", "instances.use"},
	"networkEndpointGroups.listNetworkEndpoints":   {"networkEndpointGroups.get"},
	"regionBackendServices.list":                   {"regionBackendServices.list"}, "regionBackendServices.get": {"regionBackendServices.get"},
	"regionBackendServices.insert": {"regionBackendServices.create"}, "regionBackendServices.patch": {"regionBackendServices.update"},
	"regionBackendServices.delete": {"regionBackendServices.delete"},
	"forwardingRules.list":         {"forwardingRules.list"}, "forwardingRules.get": {"forwardingRules.get"},
	"forwardingRules.insert": {"forwardingRules.create", "regionBackendServices.use", "addresses.use", "subnetworks.use"},
	"forwardingRules.patch":  {"forwardingRules.update"}, "forwardingRules.setLabels": {"forwardingRules.setLabels"}, "forwardingRules.delete": {"forwardingRules.delete"},
	"firewalls.list": {"firewalls.list"}, "firewalls.get": {"firewalls.get"}, "firewalls.insert": {"firewalls.create", "networks.updatePolicy"},
	"firewalls.patch": {"firewalls.update", "networks.updatePolicy"}, "firewalls.delete": {"firewalls.delete", "networks.updatePolicy"},
	"instanceGroupManagers.list": {"instanceGroupManagers.list"},
	"operations.list":            {"globalOperations.list"}, "operations.get": {"globalOperations.get"}, "regionOperations.get": {"regionOperations.get"},
}

// allow refuses a call for which a permission is denied, and notes what is needed. With c.mu held.
func (c *Cloud) allow(q *request) *Refusal {
	needed := permissions[strings.TrimPrefix(q.id(), "compute.")]
	if q.collection == "operations" && strings.HasPrefix(q.scope, "zones/") {
		needed = []string{"zoneOperations.get"}
	}
	needed = append(slices.Clip(needed), backendPermissions(q)...)
	for _, name := range needed {
		name = "compute." + name
		if other := internal[name]; other != "" && c.isInternal(q) {
			name = other
		}
		if c.denied[name] {
			return &Refusal{Status: http.StatusForbidden, Reason: "forbidden", Message: fmt.Sprintf("Required '%s' permission for 'projects/%s/%s'", name, Project, q.path)}
		}
		c.permitted[name] = true
	}
	return nil
}

// backendPermissions are those on each kind of health check and backend that the body of a backend service names.
func backendPermissions(q *request) []string {
	var body struct {
		HealthChecks []string
		Backends     []struct{ Group string }
	}
	if q.collection != "backendServices" || json.Unmarshal(q.body, &body) != nil {
		return nil
	}
	var needed []string
	for _, link := range body.HealthChecks {
		if strings.Contains(link, "/global/") {
			needed = append(needed, "healthChecks.useReadOnly")
		} else {
			needed = append(needed, "regionHealthChecks.useReadOnly")
		}
	}
	for _, backend := range body.Backends {
		for _, collection := range []string{"instanceGroups", "networkEndpointGroups"} {
			if strings.Contains(backend.Group, "/"+collection+"/") {
				needed = append(needed, collection+".use")
			}
		}
	}
	return needed
}

// internal permissions stand in the place of others where an address is an internal one.
var internal = map[string]string{
	"compute.addresses.create": "compute.addresses.createInternal", "compute.addresses.delete": "compute.addresses.deleteInternal",
	"compute.addresses.use": "compute.addresses.useInternal",
}

// isInternal reports whether a call is about an internal address, by its body or by what is there.
func (c *Cloud) isInternal(q *request) bool {
	var body struct{ AddressType, LoadBalancingScheme string }
	if o := c.objects[q.path]; o != nil {
		body.AddressType, _ = o.body["addressType"].(string)
	} else if err := json.Unmarshal(q.body, &body); err != nil {
		return false
	}
	return body.AddressType == "INTERNAL" || body.LoadBalancingScheme == "INTERNAL"
}
