package model

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Tracker keeps the State of a node up to date. Set and Delete methods take what the API server says, parse it, and
// cost no more than the object's own size; Changes brings the State up to date, at the cost of the Services
// that changed since it was last called. Only a change of the Node's zone, addresses or Pod ranges touches all.
//
// A Tracker is for one goroutine at a time. It keeps no reference to the objects it is given.
type Tracker struct {
	opts     Options
	state    State
	services map[types.NamespacedName]*entry
	// sliceOwner finds the Service of a slice, which may change by its label.
	sliceOwner map[types.NamespacedName]types.NamespacedName
	// claims are all frontends that Services want, in order of precedence: the first one is served.
	claims map[FrontendKey][]*Frontend
	dirty  map[types.NamespacedName]*entry
	// conflicts are the claims of several Services each.
	conflicts map[FrontendKey][]types.NamespacedName

	node    nodeFacts
	machine []netip.Addr
	cidrs   map[string][]netip.Prefix
	// nodeDirty asks for a new State.Node, allDirty for a look at every Service.
	nodeDirty, allDirty bool

	// peaks are what the maps' memory was made for.
	peaks struct{ services, sliceOwner, claims, frontends, groups, clusterIPs int }

	suspects    *Suspects
	unserved    [2]Unserved // by familyIndex
	checks      []HealthCheck
	checksStale bool
}

// entry is what is known of one Service, which may have slices before it exists itself.
type entry struct {
	key     types.NamespacedName
	service *service // nil: does not exist, or is not ours
	slices  map[string]*slice
	// replaced are slices that were there since the last Changes, in order.
	replaced []*slice
	// serviceDirty asks for new frontends; an entry that is dirty at all gets new groups.
	serviceDirty bool

	// What was derived from the above last time.
	claims   []FrontendKey
	groups   []GroupKey
	unserved [2]Unserved
	checks   []HealthCheck
}

// NewTracker starts with nothing known. The first Changes report the node's facts as changed.
func NewTracker(opts Options) *Tracker {
	return &Tracker{
		opts: opts,
		state: State{
			Frontends:  map[FrontendKey]*Frontend{},
			Groups:     map[GroupKey]*Group{},
			ClusterIPs: map[netip.Addr]int{},
		},
		services:   map[types.NamespacedName]*entry{},
		sliceOwner: map[types.NamespacedName]types.NamespacedName{},
		claims:     map[FrontendKey][]*Frontend{},
		dirty:      map[types.NamespacedName]*entry{},
		conflicts:  map[FrontendKey][]types.NamespacedName{},
		cidrs:      map[string][]netip.Prefix{},
		nodeDirty:  true,
		suspects:   &Suspects{All: true},
	}
}

// State is the state as of the last Changes. It is valid, and must not be changed, until the next Changes.
func (t *Tracker) State() *State { return &t.state }

// SetService adds or replaces a Service. The error names what of it is malformed; all else is served, and other
// Services are not affected.
func (t *Tracker) SetService(svc *corev1.Service) error {
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	if !serves(svc, t.opts.Coexist) {
		t.DeleteService(key)
		return nil
	}
	parsed, err := readService(svc, t.opts)
	e := t.touch(key)
	e.service = parsed
	e.serviceDirty = true
	return err
}

// DeleteService removes a Service; one that is not known is fine.
func (t *Tracker) DeleteService(key types.NamespacedName) {
	if e, ok := t.services[key]; ok && e.service != nil {
		e.service = nil
		e.serviceDirty = true
		t.dirty[key] = e
	}
}

// SetSlice adds or replaces an EndpointSlice, with errors as SetService has them.
func (t *Tracker) SetSlice(es *discoveryv1.EndpointSlice) error {
	parsed, err := readSlice(es, t.opts.NodeName)
	key := types.NamespacedName{Namespace: es.Namespace, Name: es.Name}
	if owner, ok := t.sliceOwner[key]; ok && (parsed == nil || owner != parsed.service) {
		t.DeleteSlice(key)
	}
	if parsed == nil {
		return err
	}
	t.sliceOwner[key] = parsed.service
	e := t.touch(parsed.service)
	t.replaceSlice(e, es.Name, parsed)
	e.slices[es.Name] = parsed
	return err
}

// DeleteSlice removes an EndpointSlice; one that is not known is fine.
func (t *Tracker) DeleteSlice(key types.NamespacedName) {
	owner, ok := t.sliceOwner[key]
	if !ok {
		return
	}
	delete(t.sliceOwner, key)
	e := t.touch(owner)
	t.replaceSlice(e, key.Name, nil)
	delete(e.slices, key.Name)
}

// touch finds or makes the entry of a Service and marks it as changed.
func (t *Tracker) touch(key types.NamespacedName) *entry {
	e, ok := t.services[key]
	if !ok {
		e = &entry{key: key, slices: map[string]*slice{}}
		t.services[key] = e
	}
	t.dirty[key] = e
	return e
}

// SetNode takes this node's Node object. What does not matter to packets, like a heartbeat, costs nothing.
func (t *Tracker) SetNode(node *corev1.Node) error {
	facts, err := readNode(node)
	if facts.zone != t.node.zone || !slices.Equal(facts.addresses, t.node.addresses) ||
		!slices.Equal(facts.podCIDRs, t.node.podCIDRs) {
		t.node = facts
		t.nodeDirty, t.allDirty = true, true
	}
	return err
}

// SetMachineAddresses takes the addresses of the machine's interfaces, among which NodePortPolicy.CIDRs choose.
func (t *Tracker) SetMachineAddresses(addrs []netip.Addr) {
	sorted := make([]netip.Addr, 0, len(addrs))
	for _, addr := range addrs {
		sorted = append(sorted, addr.Unmap().WithZone(""))
	}
	slices.SortFunc(sorted, netip.Addr.Compare)
	sorted = slices.Compact(sorted)
	if !slices.Equal(sorted, t.machine) {
		t.machine = sorted
		t.nodeDirty = true
	}
}

// SetServiceCIDR adds or replaces a ServiceCIDR; the error names ranges that cannot be read.
func (t *Tracker) SetServiceCIDR(cidr *networkingv1.ServiceCIDR) error {
	prefixes, err := ParsePrefixes(cidr.Spec.CIDRs)
	if !slices.Equal(prefixes, t.cidrs[cidr.Name]) {
		t.cidrs[cidr.Name] = prefixes
		t.nodeDirty = true
	}
	return err
}

// DeleteServiceCIDR removes a ServiceCIDR; one that is not known is fine.
func (t *Tracker) DeleteServiceCIDR(name string) {
	if _, ok := t.cidrs[name]; ok {
		delete(t.cidrs, name)
		t.nodeDirty = true
	}
}

// ServiceKeys, SliceKeys and ServiceCIDRNames list what is known, in no order, for callers that get a whole list
// and must delete what it lacks.
func (t *Tracker) ServiceKeys() []types.NamespacedName {
	var keys []types.NamespacedName
	for key, e := range t.services {
		if e.service != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// SliceKeys: see ServiceKeys.
func (t *Tracker) SliceKeys() []types.NamespacedName {
	keys := make([]types.NamespacedName, 0, len(t.sliceOwner))
	for key := range t.sliceOwner {
		keys = append(keys, key)
	}
	return keys
}

// ServiceCIDRNames: see ServiceKeys.
func (t *Tracker) ServiceCIDRNames() []string {
	names := make([]string, 0, len(t.cidrs))
	for name := range t.cidrs {
		names = append(names, name)
	}
	return names
}
