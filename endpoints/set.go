package endpoints

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Set is the endpoints that one Service should have. It is made for one version of the Service and kept up to date
// Pod by Pod; a Pod costs the same however many there are. It is not safe for concurrent use.
type Set struct {
	service  *corev1.Service
	families []discoveryv1.AddressType
	resolver resolver
	members  map[string]*member
	groups   map[groupKey]*group
	// waiting are the Pods left out because their node is not known.
	waiting map[string]struct{}
}

// groupKey names the endpoints that may share a slice: one family, one set of ports.
type groupKey struct {
	family discoveryv1.AddressType
	ports  string
}

type group struct {
	ports     []discoveryv1.EndpointPort
	endpoints map[Identity]*discoveryv1.Endpoint
}

// member is what the set holds of one Pod.
type member struct {
	placed []placed
	// ready and leaving say which Pods count for UnresolvedPorts.
	ready, leaving bool
	// missing are the indexes of the Service's ports that the Pod lacks, have the ports that it names. Have is nil
	// where nothing is missing.
	missing []int
	have    []string
}

type placed struct {
	key groupKey
	id  Identity
}

// NewSet returns a set without Pods. The Service must be Selected and stay unchanged.
func NewSet(service *corev1.Service) *Set {
	return &Set{
		service:  service,
		families: Families(service),
		resolver: resolver{service: service, byPorts: map[string]*resolution{}},
		members:  map[string]*member{},
		groups:   map[groupKey]*group{},
		waiting:  map[string]struct{}{},
	}
}

// Service returns the Service that the set was made for.
func (s *Set) Service() *corev1.Service { return s.service }

// Families returns the families of the Service, the primary one first.
func (s *Set) Families() []discoveryv1.AddressType { return s.families }

// Put adds a Pod that the selector matches, or replaces what the set has of a Pod of that name. A Pod that cannot be
// an endpoint is left out. So is one whose node is missing, unless the Service publishes addresses that are not ready
// (kubernetes/kubernetes#107927); Waiting names those, and they are to be put again when the node appears.
func (s *Set) Put(pod *corev1.Pod, zone Zone) {
	s.Delete(pod.Name)
	if !publishable(pod) {
		return
	}
	resolved := s.resolver.resolve(pod)
	m := &member{ready: podReady(pod), leaving: pod.DeletionTimestamp != nil, missing: resolved.missing}
	if len(m.missing) > 0 {
		m.have = namedPorts(pod)
	}
	s.members[pod.Name] = m
	if zone.NodeMissing && !s.service.Spec.PublishNotReadyAddresses {
		s.waiting[pod.Name] = struct{}{}
		return
	}
	key := groupKey{ports: resolved.key}
	for _, key.family = range s.families {
		endpoint := endpointOf(s.service, pod, zone.Name, key.family)
		if len(endpoint.Addresses) == 0 {
			continue
		}
		g := s.groups[key]
		if g == nil {
			g = &group{ports: resolved.ports, endpoints: map[Identity]*discoveryv1.Endpoint{}}
			s.groups[key] = g
		}
		id := IdentityOf(&endpoint)
		g.endpoints[id] = &endpoint
		m.placed = append(m.placed, placed{key: key, id: id})
	}
}

// Delete removes what the set has of a Pod.
func (s *Set) Delete(podName string) {
	m := s.members[podName]
	if m == nil {
		return
	}
	for _, p := range m.placed {
		g := s.groups[p.key]
		delete(g.endpoints, p.id)
		if len(g.endpoints) == 0 {
			delete(s.groups, p.key)
		}
	}
	delete(s.members, podName)
	delete(s.waiting, podName)
}

// Waiting returns the names of the Pods left out because their node is missing, sorted.
func (s *Set) Waiting() []string { return slices.Sorted(maps.Keys(s.waiting)) }

// Endpoints returns the endpoints of one family, sorted. Their hints, and nothing else, may be set through it.
func (s *Set) Endpoints(family discoveryv1.AddressType) []*discoveryv1.Endpoint {
	var all []*discoveryv1.Endpoint
	for _, key := range s.keys(family) {
		all = append(all, s.groups[key].sorted()...)
	}
	return all
}

// keys returns the groups of one family, sorted.
func (s *Set) keys(family discoveryv1.AddressType) []groupKey {
	var keys []groupKey
	for key := range s.groups {
		if key.family == family {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// has says whether any group of a family holds an endpoint.
func (s *Set) has(family discoveryv1.AddressType, id Identity) bool {
	for key, g := range s.groups {
		if key.family == family && g.endpoints[id] != nil {
			return true
		}
	}
	return false
}

func (g *group) sorted() []*discoveryv1.Endpoint {
	ids := slices.SortedFunc(maps.Keys(g.endpoints), Identity.compare)
	endpoints := make([]*discoveryv1.Endpoint, len(ids))
	for i, id := range ids {
		endpoints[i] = g.endpoints[id]
	}
	return endpoints
}

// UnresolvedPorts returns the Service's ports that some Pods lack, in the Service's order, and how many Pods that was
// judged by. Where Pods are ready, only those count; else all that are not going away do, since a probe by port name
// keeps such a Pod from getting ready.
func (s *Set) UnresolvedPorts() (unresolved []UnresolvedPort, pods int) {
	anyReady := false
	for _, m := range s.members {
		anyReady = anyReady || m.ready && !m.leaving
	}
	missing := map[int]int{}
	have := map[int]map[string]struct{}{}
	for _, m := range s.members {
		if m.leaving || anyReady && !m.ready {
			continue
		}
		pods++
		for _, port := range m.missing {
			missing[port]++
			if have[port] == nil {
				have[port] = map[string]struct{}{}
			}
			for _, name := range m.have {
				have[port][name] = struct{}{}
			}
		}
	}
	for _, port := range slices.Sorted(maps.Keys(missing)) {
		unresolved = append(unresolved, UnresolvedPort{
			Port:    s.service.Spec.Ports[port],
			Missing: missing[port],
			Pods:    pods,
			Have:    slices.Sorted(maps.Keys(have[port])),
		})
	}
	return unresolved, pods
}

// namedPorts lists the ports that a Pod has a name for, as name/number/protocol.
func namedPorts(pod *corev1.Pod) []string {
	names := []string{}
	for p := range containerPorts(pod) {
		if p.Name != "" {
			names = append(names, fmt.Sprintf("%s/%d/%s", p.Name, p.ContainerPort, p.Protocol))
		}
	}
	return names
}
