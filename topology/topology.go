// Package topology decides which zones and nodes each endpoint of a Service serves: the hints on EndpointSlices, by
// which a proxy chooses endpoints near to the client.
//
// Parse reads what a Service asks for. Under a policy of trafficDistribution the hints of an endpoint depend on it alone
// (Local). Under topology-mode Auto, and under values of that annotation of our own, they depend on all ready endpoints of
// one family and on the zones' capacities: as little traffic as possible crosses zones under a bound on overload, and of
// all ways to have that, the hints that stand are changed least. Assign computes them from nothing; an Assignment is kept
// up to date endpoint by endpoint and gives the same.
//
// It is pure: endpoints, capacities and a policy in, hints and a Report out, in whatever order the endpoints come. It
// neither watches nodes nor writes slices, and it does not enforce anything: a proxy uses hints only where every ready
// endpoint has one.
package topology

import (
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Endpoint is a ready endpoint of one family of a Service. Those that are not ready have no hints and are not given.
type Endpoint struct {
	// Key tells the endpoints of a family apart. Where some of several equals must change, it is those with the least.
	Key string
	// Zone is where it is; empty: not known, which is far from everybody.
	Zone string
	// Hints are those that it has. Nil: none.
	Hints *discoveryv1.EndpointHints
}

// Change is what an endpoint's hints become. Nil: none. Hints are shared and must not be changed.
type Change struct {
	Key   string
	Hints *discoveryv1.EndpointHints
}

// Assign returns the hints that the ready endpoints of one family should have under a policy for the whole of them
// (Policy.Whole), one for each endpoint, and the report. Endpoints are not changed. It costs O(n log n).
func Assign(policy Policy, capacities Capacities, endpoints []Endpoint) ([]*discoveryv1.EndpointHints, Report) {
	a := newAssignment(policy, capacities, len(endpoints))
	for _, e := range endpoints {
		a.Put(e)
	}
	_, report := a.update()
	hints := make([]*discoveryv1.EndpointHints, len(endpoints))
	for i, e := range endpoints {
		hints[i] = a.Hints(e.Key)
	}
	return hints, report
}

// Local returns the assignment of one endpoint, for policies under which it depends on that endpoint alone: those of
// trafficDistribution. It is nil for others. Endpoints that are not ready get no hints, and neither do those whose zone,
// or node, is not known.
func Local(policy Policy) func(*discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if policy.Mode != ModeSameZone && policy.Mode != ModeSameNode {
		return nil
	}
	return func(endpoint *discoveryv1.Endpoint) *discoveryv1.EndpointHints { return local(policy, endpoint) }
}

func local(policy Policy, endpoint *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if endpoint.Conditions.Ready == nil || !*endpoint.Conditions.Ready {
		return nil
	}
	var hints discoveryv1.EndpointHints
	if endpoint.Zone != nil && *endpoint.Zone != "" {
		hints.ForZones = []discoveryv1.ForZone{{Name: *endpoint.Zone}}
	}
	if endpoint.NodeName != nil && policy.Mode == ModeSameNode {
		hints.ForNodes = []discoveryv1.ForNode{{Name: *endpoint.NodeName}}
	}
	if hints.ForZones == nil && hints.ForNodes == nil {
		return nil
	}
	return &hints
}
