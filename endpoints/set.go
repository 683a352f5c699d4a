package endpoints

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Set is the endpoints that one Service should have. It is made for one version of the Service and kept up to date
// endpoint by endpoint, each at the same cost however many there are. It is not safe for concurrent use.
//
// An endpoint never changes once it is made: sets, layouts and the slices of plans share it.
type Set struct {
	service  *corev1.Service
	families []discoveryv1.AddressType
	opts     SetOptions
	resolver resolver
	members  map[string]*member
	groups   map[groupKey]*group
	// waiting are the Pods left out because their node is not known.
	waiting map[string]struct{}
	ready   tally
	staying tally
	ranks   map[int]*rank
	// active is the lowest rank with a ready endpoint, and noRank where there is none.
	active int
	// follower is the layout that has seen everything but changes.
	follower *Layout
	changes  []placed
	// rerouted says that traffic goes elsewhere since Rerouted was last asked.
	rerouted bool
}

// SetOptions say what a Service's endpoints are like where that is not the usual. Its functions must give the same
// answer to the same question for as long as a Set lives.
type SetOptions struct {
	// Addresses returns the addresses of a Pod, of all families. Nil: those of status.podIPs.
	Addresses func(pod *corev1.Pod) []string
	// Hints returns the hints of an endpoint, which depend on it alone (topology.Local). Nil: no hints but those of Hint.
	Hints func(endpoint *discoveryv1.Endpoint) *discoveryv1.EndpointHints
	// Rank says which group of Pods a Pod belongs to, active or standby: the Pods of a rank are endpoints only while
	// no lower rank has a ready one. Nil: 0.
	Rank func(pod *corev1.Pod) int
}

// member is what the set holds of one Pod, or of one name of PutEndpoint.
type member struct {
	name string
	rank int
	// endpoints are one for each family at most.
	endpoints []membership
	// wanted says that they are in their groups, since no lower rank serves.
	wanted bool
	// serving: one of the endpoints is ready.
	serving bool
	// fallback: one of the endpoints serves. A proxy that finds no ready one of the Service takes it (KEP-1669).
	fallback bool
	// ready and leaving say which Pods count for UnresolvedPorts; known is false where it is no Pod that is published.
	ready, leaving, known bool
	// missing are the indexes of the Service's ports that the Pod lacks, have the ports that it names. Have is nil
	// where nothing is missing.
	missing []int
	have    []string
}

type membership struct {
	group    *group
	endpoint *discoveryv1.Endpoint
}

type placed struct {
	key groupKey
	id  Identity
}

type rank struct {
	size int
	// members are kept where there can be more than one rank.
	members map[*member]struct{}
	// published members have an endpoint, serving ones a ready one.
	published, serving int
}

const noRank = math.MaxInt

// NewSet returns a set without endpoints. The Service must stay unchanged.
func NewSet(service *corev1.Service, opts SetOptions) *Set {
	return &Set{
		service:  service,
		families: Families(service),
		opts:     opts,
		resolver: resolver{service: service, byPorts: map[string]*resolution{}},
		members:  map[string]*member{},
		groups:   map[groupKey]*group{},
		ranks:    map[int]*rank{},
		active:   noRank,
		rerouted: true,
	}
}

// Service returns the Service that the set was made for.
func (s *Set) Service() *corev1.Service { return s.service }

// Families returns the families of the Service, the primary one first.
func (s *Set) Families() []discoveryv1.AddressType { return s.families }

// Put adds a Pod that the selector matches, or replaces what the set has under its name. A Pod that cannot be an
// endpoint is left out. So is one whose node is missing, unless the Service publishes addresses that are not ready
// (kubernetes/kubernetes#107927); Waiting names those, and they are to be put again when the node appears.
func (s *Set) Put(pod *corev1.Pod, zone Zone) {
	if !Publishable(pod) {
		s.replace(pod.Name, nil)
		return
	}
	if s.opts.Addresses != nil && len(s.opts.Addresses(pod)) == 0 {
		s.replace(pod.Name, nil)
		return
	}
	resolved := s.resolver.resolve(pod)
	m := &member{name: pod.Name, known: true, ready: podReady(pod), leaving: pod.DeletionTimestamp != nil, missing: resolved.missing}
	if len(m.missing) > 0 {
		m.have = namedPorts(pod)
	}
	if s.opts.Rank != nil {
		m.rank = s.opts.Rank(pod)
	}
	if zone.NodeMissing && !s.service.Spec.PublishNotReadyAddresses {
		s.replace(pod.Name, m)
		if s.waiting == nil {
			s.waiting = map[string]struct{}{}
		}
		s.waiting[pod.Name] = struct{}{}
		return
	}
	for _, family := range s.families {
		endpoint := s.endpointOf(pod, zone.Name, family)
		if len(endpoint.Addresses) == 0 {
			continue
		}
		if s.opts.Hints != nil {
			endpoint.Hints = s.opts.Hints(endpoint)
		}
		m.endpoints = append(m.endpoints, membership{group: s.group(groupKey{family: family, ports: resolved.key}, resolved.ports), endpoint: endpoint})
		m.serving = m.serving || *endpoint.Conditions.Ready
		m.fallback = m.fallback || *endpoint.Conditions.Serving
	}
	s.replace(pod.Name, m)
}

// PutEndpoint adds an endpoint that is no Pod's, or replaces what the set has under this name, which is unique among
// all that are put: an address of either family of one machine needs two names. Ports are what a Service's ports are
// on this endpoint, by the names that they have in the Service; SetOptions do not apply. The endpoint and the ports
// must not change any more. It is an error if the addresses are not of one family, and of one that the Service has.
func (s *Set) PutEndpoint(name string, endpoint discoveryv1.Endpoint, ports []discoveryv1.EndpointPort) error {
	family, err := familyOf(endpoint.Addresses)
	if err != nil {
		return fmt.Errorf("putting endpoint %s: %w", name, err)
	}
	if !slices.Contains(s.families, family) {
		return fmt.Errorf("putting endpoint %s: its addresses are %s, the Service has %v", name, family, s.families)
	}
	sorted := slices.SortedFunc(slices.Values(ports), comparePorts)
	if sorted == nil {
		sorted = []discoveryv1.EndpointPort{}
	}
	ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
	s.replace(name, &member{
		name:      name,
		serving:   ready,
		fallback:  ready && endpoint.Conditions.Serving == nil || value(endpoint.Conditions.Serving),
		endpoints: []membership{{group: s.group(groupKey{family: family, ports: portsKey(sorted)}, sorted), endpoint: &endpoint}},
	})
	return nil
}

// familyOf returns the family that all of some addresses have.
func familyOf(addresses []string) (discoveryv1.AddressType, error) {
	var family discoveryv1.AddressType
	for i, address := range addresses {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return "", fmt.Errorf("%q is no IP address", address)
		}
		this := discoveryv1.AddressTypeIPv4
		if ip.Is6() {
			this = discoveryv1.AddressTypeIPv6
		}
		if i > 0 && this != family {
			return "", fmt.Errorf("%s and %s are of two families; put them under two names", addresses[0], address)
		}
		family = this
	}
	if family == "" {
		return "", fmt.Errorf("it has no address")
	}
	return family, nil
}

// Delete removes what the set has under the name of a Pod, or of PutEndpoint.
func (s *Set) Delete(name string) { s.replace(name, nil) }

// group returns the group of a key, a new one if need be.
func (s *Set) group(key groupKey, ports []discoveryv1.EndpointPort) *group {
	g := s.groups[key]
	if g == nil {
		g = &group{key: key, ports: ports, endpoints: map[Identity]wanted{}}
		s.groups[key] = g
	}
	return g
}

// replace makes m, or nothing, what the set has under a name.
func (s *Set) replace(name string, m *member) {
	delete(s.waiting, name)
	old := s.members[name]
	if old != nil {
		s.count(old, -1)
		s.setWanted(old, false)
	}
	delete(s.members, name)
	if m != nil {
		s.members[name] = m
		s.count(m, 1)
		for _, e := range m.endpoints {
			e.group.members++
		}
	}
	s.rerank()
	if m != nil {
		s.setWanted(m, m.rank <= s.active)
	}
	s.rerouted = s.rerouted || s.reroutes(old) || s.reroutes(m)
	if old != nil {
		for _, e := range old.endpoints {
			if e.group.members--; e.group.members == 0 {
				delete(s.groups, e.group.key)
			}
		}
	}
}

// reroutes says whether traffic may go to a member, so that it goes elsewhere with the member's coming or going.
func (s *Set) reroutes(m *member) bool {
	return m != nil && (m.serving || m.fallback && s.active == noRank)
}

// Rerouted says whether anything that was put or deleted since the last call may change where traffic goes; at the
// first call it does. An endpoint that is not ready yet, or that stops being one after it had stopped being ready,
// changes nothing as long as others are ready: a caller may write it later, with what comes next.
func (s *Set) Rerouted() bool {
	was := s.rerouted
	s.rerouted = false
	return was
}

// count adds a member to the sums, or takes it off.
func (s *Set) count(m *member, n int) {
	if m.known && !m.leaving {
		s.staying.add(m, n)
		if m.ready {
			s.ready.add(m, n)
		}
	}
	r := s.ranks[m.rank]
	if r == nil {
		r = &rank{}
		s.ranks[m.rank] = r
	}
	r.size += n
	if len(m.endpoints) > 0 {
		r.published += n
	}
	if m.serving {
		r.serving += n
	}
	switch {
	case r.size == 0:
		delete(s.ranks, m.rank)
	case s.opts.Rank == nil:
	case n > 0:
		r.put(m)
	default:
		delete(r.members, m)
	}
}

func (r *rank) put(m *member) {
	if r.members == nil {
		r.members = map[*member]struct{}{}
	}
	r.members[m] = struct{}{}
}

// rerank finds out which rank serves. Where that changes, so does what is wanted of the ranks in between.
func (s *Set) rerank() {
	active := noRank
	for number, r := range s.ranks {
		if r.serving > 0 {
			active = min(active, number)
		}
	}
	if active == s.active {
		return
	}
	lower, upper := min(active, s.active), max(active, s.active)
	s.active, s.rerouted = active, true
	for number, r := range s.ranks {
		if number <= lower || number > upper {
			continue
		}
		for m := range r.members {
			s.setWanted(m, number <= active)
		}
	}
}

// setWanted puts a member's endpoints into their groups, or takes them out.
func (s *Set) setWanted(m *member, is bool) {
	if m.wanted == is {
		return
	}
	m.wanted = is
	for _, e := range m.endpoints {
		id := IdentityOf(e.endpoint)
		if is {
			e.group.put(id, wanted{member: m, endpoint: e.endpoint})
		} else {
			e.group.remove(id, m)
		}
		s.note(e.group.key, id)
	}
}

// note keeps a change for the layout that follows the set.
func (s *Set) note(key groupKey, id Identity) {
	if s.follower != nil {
		s.changes = append(s.changes, placed{key: key, id: id})
	}
}

// Serving is what a Set holds in numbers of Pods. One counts once, whatever its families.
type Serving struct {
	// Rank is the lowest rank that has a ready endpoint. Any is false where none has: then all ranks are wanted.
	Rank int
	Any  bool
	// Published Pods of the ranks that are wanted are endpoints, Ready ones of them ready.
	Published, Ready int
	// Standby Pods would be endpoints if their rank were wanted.
	Standby int
}

// Serving says which rank serves, and how much of it there is.
func (s *Set) Serving() Serving {
	var is Serving
	for number, r := range s.ranks {
		if number > s.active {
			is.Standby += r.published
			continue
		}
		is.Published += r.published
		is.Ready += r.serving
	}
	if s.active != noRank {
		is.Rank, is.Any = s.active, true
	}
	return is
}

// Waiting returns the names of the Pods left out because their node is missing, sorted.
func (s *Set) Waiting() []string { return slices.Sorted(maps.Keys(s.waiting)) }

// Endpoints returns the endpoints of one family, sorted.
func (s *Set) Endpoints(family discoveryv1.AddressType) []*discoveryv1.Endpoint {
	var all []*discoveryv1.Endpoint
	for _, key := range s.keys(family) {
		all = append(all, s.groups[key].sorted()...)
	}
	return all
}

// Endpoint returns what the set holds under a name in one family: nil where that is nothing, or no endpoint as long as a
// lower rank serves.
func (s *Set) Endpoint(name string, family discoveryv1.AddressType) *discoveryv1.Endpoint {
	m := s.members[name]
	if m == nil || !m.wanted {
		return nil
	}
	for _, e := range m.endpoints {
		if e.group.key.family == family {
			return e.endpoint
		}
	}
	return nil
}

// Hint gives what the set holds under a name in one family other hints: such as depend on other endpoints, too
// (topology.Assignment). The next Put of that name takes them off again.
func (s *Set) Hint(name string, family discoveryv1.AddressType, hints *discoveryv1.EndpointHints) {
	m := s.members[name]
	if m == nil {
		return
	}
	for i := range m.endpoints {
		e := &m.endpoints[i]
		if e.group.key.family != family || equalHints(e.endpoint.Hints, hints) {
			continue
		}
		hinted := *e.endpoint
		hinted.Hints = hints
		was := m.wanted
		s.setWanted(m, false)
		e.endpoint = &hinted
		s.setWanted(m, was)
		s.rerouted = s.rerouted || s.reroutes(m)
	}
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
		if key.family == family && g.wants(id) != nil {
			return true
		}
	}
	return false
}
