package main

import (
	"fmt"
	"slices"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/endpointslice/topologycache"
	"k8s.io/endpointslice/trafficdist"

	"github.com/fairlead/fairlead/topology"
)

// giver gives hints to the endpoints of one Service at a time.
type giver interface {
	// begin forgets the last Service. The endpoints come in the order given.
	begin(s service, order []int)
	// update returns the hints of all endpoints by their number; those of endpoints that are not ready do not count.
	update(ready []bool) []int
}

// nodes is one node for each zone.
func nodes(weights []int64) []*corev1.Node {
	var all []*corev1.Node
	for z, weight := range weights {
		all = append(all, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node-" + zoneName(z), Labels: map[string]string{corev1.LabelTopologyZone: zoneName(z)}},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(8*weight, resource.DecimalSI)},
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
	}
	return all
}

func address(e int) string { return fmt.Sprintf("10.0.0.%d", e+1) }

// zoneNumber returns the zone that hints name, which must be one.
func zoneNumber(hints *discoveryv1.EndpointHints) int {
	if hints == nil || len(hints.ForZones) != 1 {
		return noHint
	}
	return int(hints.ForZones[0].Name[len(zoneName(0))-1] - 'a')
}

// library is ours: an Assignment that is kept up to date.
type library struct {
	policy     topology.Policy
	assignment *topology.Assignment
	service    service
	order      []int
	given      []bool
}

func (l *library) begin(s service, order []int) {
	var counted []topology.Node
	for _, node := range nodes(s.weights) {
		counted = append(counted, topology.NodeOf(node))
	}
	l.assignment = topology.NewAssignment(l.policy, topology.CapacitiesOf(slices.Values(counted)))
	l.service, l.order, l.given = s, order, make([]bool, len(order))
}

func (l *library) update(ready []bool) []int {
	for _, e := range l.order {
		switch {
		case ready[e] && !l.given[e]:
			l.assignment.Put(topology.Endpoint{Key: address(e), Zone: zoneName(l.service.places[e])})
		case !ready[e] && l.given[e]:
			l.assignment.Delete(address(e))
		}
		l.given[e] = ready[e]
	}
	l.assignment.Update()
	hints := make([]int, len(ready))
	for e := range hints {
		hints[e] = zoneNumber(l.assignment.Hints(address(e)))
	}
	return hints
}

// upstream is what kube-controller-manager does, with one slice for a Service.
type upstream struct {
	// hint gives a slice its hints, as one that is new or that has changed.
	hint  func(slice *discoveryv1.EndpointSlice, isNew bool)
	cache *topologycache.TopologyCache
	slice *discoveryv1.EndpointSlice
	order []int
	isNew bool
}

func upstreamAuto() *upstream {
	u := &upstream{}
	u.hint = func(slice *discoveryv1.EndpointSlice, isNew bool) {
		info := &topologycache.SliceInfo{ServiceKey: "default/service", AddressType: discoveryv1.AddressTypeIPv4}
		if isNew {
			info.ToCreate = []*discoveryv1.EndpointSlice{slice}
		} else {
			info.ToUpdate = []*discoveryv1.EndpointSlice{slice}
		}
		u.cache.AddHints(logr.Discard(), info)
	}
	return u
}

func upstreamSameZone() *upstream {
	distribution := corev1.ServiceTrafficDistributionPreferSameZone
	return &upstream{hint: func(slice *discoveryv1.EndpointSlice, _ bool) {
		trafficdist.ReconcileHints(&distribution, nil, []*discoveryv1.EndpointSlice{slice}, nil)
	}}
}

func (u *upstream) begin(s service, order []int) {
	u.cache = topologycache.NewTopologyCache()
	u.cache.SetNodes(logr.Discard(), nodes(s.weights))
	u.slice, u.order, u.isNew = &discoveryv1.EndpointSlice{}, order, true
	for _, e := range order {
		zone := zoneName(s.places[e])
		u.slice.Endpoints = append(u.slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address(e)}, Zone: &zone})
	}
}

func (u *upstream) update(ready []bool) []int {
	for i, e := range u.order {
		u.slice.Endpoints[i].Conditions.Ready = &ready[e]
	}
	u.hint(u.slice, u.isNew)
	u.isNew = false
	hints := make([]int, len(ready))
	for i, e := range u.order {
		hints[e] = zoneNumber(u.slice.Endpoints[i].Hints)
	}
	return hints
}
