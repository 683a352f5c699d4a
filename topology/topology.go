// Package topology decides which zones and nodes each endpoint of a Service serves: the hints on EndpointSlices, by
// which a proxy chooses endpoints near to the client.
//
// It is pure: endpoints and a policy in, hints out, in whatever order the endpoints come. It neither watches nodes nor
// writes slices, and it does not enforce anything: a proxy uses hints only where every ready endpoint has one.
package topology

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Policy is what a Service asks for.
type Policy string

const (
	// None: the whole cluster is equally near, and endpoints have no hints.
	None Policy = ""
	// SameZone: an endpoint serves the zone that it is in.
	SameZone Policy = "SameZone"
	// SameNode: an endpoint serves the node that it is on, and its zone where a node has none.
	SameNode Policy = "SameNode"
)

// PolicyOf returns the policy of a Service's spec.trafficDistribution. PreferClose is the old name of PreferSameZone;
// a value that is not known means None, as upstream.
func PolicyOf(service *corev1.Service) Policy {
	if service.Spec.TrafficDistribution == nil {
		return None
	}
	switch *service.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return SameZone
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return SameNode
	default:
		return None
	}
}

// Input is what an assignment is made from: the endpoints of one Service in one family. Hints are given per family,
// since a client chooses among the endpoints of one.
type Input struct {
	Policy Policy
	// Endpoints are not changed.
	Endpoints []*discoveryv1.Endpoint
}

// Result is an assignment.
type Result struct {
	// Hints has one element for each endpoint of the input; nil means no hints.
	Hints []*discoveryv1.EndpointHints
}

// Assign returns the hints that endpoints should have. Under SameZone and SameNode the hints of one endpoint depend on
// it alone, so that a change of one never changes another's; endpoints that are not ready have none, and so have those
// whose zone, or node, is not known.
func Assign(in Input) Result {
	hints := make([]*discoveryv1.EndpointHints, len(in.Endpoints))
	if in.Policy == None {
		return Result{Hints: hints}
	}
	for i, endpoint := range in.Endpoints {
		hints[i] = local(in.Policy, endpoint)
	}
	return Result{Hints: hints}
}

// Local returns the assignment of one endpoint, for policies under which it depends on that endpoint alone: SameZone
// and SameNode. It is nil for None.
func Local(policy Policy) func(*discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if policy == None {
		return nil
	}
	return func(endpoint *discoveryv1.Endpoint) *discoveryv1.EndpointHints { return local(policy, endpoint) }
}

func local(policy Policy, endpoint *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if endpoint.Conditions.Ready == nil || !*endpoint.Conditions.Ready {
		return nil
	}
	var hints discoveryv1.EndpointHints
	if endpoint.Zone != nil {
		hints.ForZones = []discoveryv1.ForZone{{Name: *endpoint.Zone}}
	}
	if endpoint.NodeName != nil && policy == SameNode {
		hints.ForNodes = []discoveryv1.ForNode{{Name: *endpoint.NodeName}}
	}
	if hints.ForZones == nil && hints.ForNodes == nil {
		return nil
	}
	return &hints
}
