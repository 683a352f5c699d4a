package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	netutils "k8s.io/utils/net"
)

// store keeps EndpointSlices as an API server does: versions, generations and UIDs, conflicts, names made up, and what
// must not change.
type store struct {
	slices map[types.NamespacedName]*discoveryv1.EndpointSlice
	count  int
	// watch is told of each change, whoever made it.
	watch func(old, now *discoveryv1.EndpointSlice)
	// limit is how many endpoints a slice may hold.
	limit int
	// triggers are, by Service, the times that the first pass of a step wrote in the annotation; passed are the Services
	// that have had that pass.
	triggers map[types.NamespacedName]map[string]bool
	passed   map[types.NamespacedName]bool
}

func newStore(limit int) *store {
	return &store{
		slices: map[types.NamespacedName]*discoveryv1.EndpointSlice{}, limit: limit,
		triggers: map[types.NamespacedName]map[string]bool{}, passed: map[types.NamespacedName]bool{},
		watch: func(_, _ *discoveryv1.EndpointSlice) {},
	}
}

var sliceResource = schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}

func (s *store) put(old, slice *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s.count++
	slice.ResourceVersion = fmt.Sprint(s.count)
	switch {
	case old == nil:
		slice.UID, slice.Generation = types.UID(fmt.Sprint("slice-uid-", s.count)), 1
	case !apiequality.Semantic.DeepEqual(old.Endpoints, slice.Endpoints) || !apiequality.Semantic.DeepEqual(old.Ports, slice.Ports):
		slice.UID, slice.Generation = old.UID, old.Generation+1
	default:
		slice.UID, slice.Generation = old.UID, old.Generation
	}
	s.slices[keyOf(slice)] = slice
	s.watch(old, slice)
	return slice.DeepCopy()
}

func (s *store) note(slice *discoveryv1.EndpointSlice) {
	key := types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
	if s.passed[key] {
		return
	}
	if s.triggers[key] == nil {
		s.triggers[key] = map[string]bool{}
	}
	s.triggers[key][slice.Annotations[corev1.EndpointsLastChangeTriggerTime]] = true
}

func (s *store) create(slice *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	slice = slice.DeepCopy()
	if slice.Name == "" {
		slice.Name = fmt.Sprintf("%s%05d", slice.GenerateName, s.count)
	}
	if s.slices[keyOf(slice)] != nil {
		return nil, apierrors.NewAlreadyExists(sliceResource, slice.Name)
	}
	if err := s.validate(slice); err != nil {
		return nil, err
	}
	s.note(slice)
	return s.put(nil, slice), nil
}

func (s *store) update(slice *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	slice = slice.DeepCopy()
	old := s.slices[keyOf(slice)]
	if old == nil {
		return nil, apierrors.NewNotFound(sliceResource, slice.Name)
	}
	if slice.ResourceVersion != "" && slice.ResourceVersion != old.ResourceVersion || slice.UID != "" && slice.UID != old.UID {
		return nil, apierrors.NewConflict(sliceResource, slice.Name, fmt.Errorf("version %s is not %s", slice.ResourceVersion, old.ResourceVersion))
	}
	if slice.AddressType != old.AddressType {
		return nil, fmt.Errorf("%s changes its address type, which the API forbids", slice.Name)
	}
	if err := s.validate(slice); err != nil {
		return nil, err
	}
	slice.DeletionTimestamp = old.DeletionTimestamp
	s.note(slice)
	return s.put(old, slice), nil
}

// remove deletes a slice, of that UID if one is given.
func (s *store) remove(key types.NamespacedName, uid types.UID) error {
	old := s.slices[key]
	if old == nil {
		return apierrors.NewNotFound(sliceResource, key.Name)
	}
	if uid != "" && uid != old.UID {
		return apierrors.NewConflict(sliceResource, key.Name, fmt.Errorf("UID %s is not %s", uid, old.UID))
	}
	delete(s.slices, key)
	s.watch(old, nil)
	return nil
}

// collect deletes what a Service that is gone owned.
func (s *store) collect(service types.UID) {
	for _, key := range sortedKeys(s.slices) {
		for _, owner := range s.slices[key].OwnerReferences {
			if owner.UID == service {
				_ = s.remove(key, "")
			}
		}
	}
}

func (s *store) validate(slice *discoveryv1.EndpointSlice) error {
	if len(slice.Endpoints) > s.limit {
		return fmt.Errorf("%s holds %d endpoints, %d are allowed", slice.Name, len(slice.Endpoints), s.limit)
	}
	names := map[string]bool{}
	for _, port := range slice.Ports {
		if names[*port.Name] {
			return fmt.Errorf("%s has two ports named %q", slice.Name, *port.Name)
		}
		names[*port.Name] = true
	}
	for _, endpoint := range slice.Endpoints {
		if len(endpoint.Addresses) == 0 {
			return fmt.Errorf("%s has an endpoint without addresses", slice.Name)
		}
		for _, address := range endpoint.Addresses {
			if netutils.IsIPv6String(address) != (slice.AddressType == discoveryv1.AddressTypeIPv6) || netutils.ParseIPSloppy(address).String() != address {
				return fmt.Errorf("%s, of %s, holds %s", slice.Name, slice.AddressType, address)
			}
		}
	}
	if slice.Namespace == "" || slice.AddressType == "" {
		return fmt.Errorf("%s lacks its namespace or address type", slice.Name)
	}
	return nil
}

// of returns the slices of a Service that somebody manages, sorted by name.
func (s *store) of(service types.NamespacedName, managedBy string) []*discoveryv1.EndpointSlice {
	var found []*discoveryv1.EndpointSlice
	for _, key := range sortedKeys(s.slices) {
		slice := s.slices[key]
		if key.Namespace == service.Namespace && slice.Labels[discoveryv1.LabelServiceName] == service.Name &&
			slice.Labels[discoveryv1.LabelManagedBy] == managedBy && slice.DeletionTimestamp == nil {
			found = append(found, slice)
		}
	}
	return found
}

// frame is what the endpoints of a slice have in common, its name and annotations left out.
type frame struct {
	family discoveryv1.AddressType
	ports  string
	labels string
	owners string
}

// content is what slices say, however it is packed.
type content map[frame][]string

// contentOf leaves out slices without endpoints where their family has some, and the ports of those that it does not
// leave out: upstream may keep such slices while there are Pods without addresses.
func contentOf(all []*discoveryv1.EndpointSlice) content {
	c := content{}
	filled := map[discoveryv1.AddressType]bool{}
	for _, slice := range all {
		filled[slice.AddressType] = filled[slice.AddressType] || len(slice.Endpoints) > 0
	}
	for _, slice := range all {
		if filled[slice.AddressType] && len(slice.Endpoints) == 0 {
			continue
		}
		f := frame{family: slice.AddressType, ports: showPorts(slice.Ports), labels: showLabels(slice.Labels), owners: showOwners(slice.OwnerReferences)}
		if len(slice.Endpoints) == 0 {
			f.ports = ""
		}
		c[f] = slices.Grow(c[f], len(slice.Endpoints))
		for i := range slice.Endpoints {
			c[f] = append(c[f], showEndpoint(&slice.Endpoints[i]))
		}
	}
	for f := range c {
		slices.Sort(c[f])
	}
	return c
}

func showLabels(labels map[string]string) string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		lines = append(lines, key+"="+labels[key])
	}
	return strings.Join(lines, ",")
}

func showOwners(owners []metav1.OwnerReference) string {
	var lines []string
	for _, o := range owners {
		lines = append(lines, fmt.Sprint(o.APIVersion, o.Kind, o.Name, o.UID, *o.Controller, *o.BlockOwnerDeletion))
	}
	return strings.Join(lines, ",")
}

func showPorts(ports []discoveryv1.EndpointPort) string {
	var lines []string
	for _, p := range ports {
		lines = append(lines, fmt.Sprint(show(p.Name), show(p.Port), show(p.Protocol), show(p.AppProtocol)))
	}
	slices.Sort(lines)
	return strings.Join(lines, ",")
}

// showEndpoint names everything that an endpoint has.
func showEndpoint(e *discoveryv1.Endpoint) string {
	target := "none"
	if e.TargetRef != nil {
		target = fmt.Sprintf("%+v", *e.TargetRef)
	}
	hints := "none"
	if e.Hints != nil && len(e.Hints.ForZones)+len(e.Hints.ForNodes) > 0 {
		hints = fmt.Sprintf("%+v", *e.Hints)
	}
	return fmt.Sprintf("%v ready %s serving %s terminating %s hostname %s node %s zone %s target %s hints %s topology %v",
		e.Addresses, show(e.Conditions.Ready), show(e.Conditions.Serving), show(e.Conditions.Terminating), show(e.Hostname),
		show(e.NodeName), show(e.Zone), target, hints, e.DeprecatedTopology)
}

// show writes a value so that nil differs from empty.
func show[T any](p *T) string {
	if p == nil {
		return "nil"
	}
	return fmt.Sprintf("%q", fmt.Sprint(*p))
}

// place is an endpoint with its ports: what must not vanish while it moves from slice to slice.
type place struct{ family, ports, identity string }

func placesOf(all []*discoveryv1.EndpointSlice) map[place]int {
	held := map[place]int{}
	for _, slice := range all {
		ports := showPorts(slice.Ports)
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			held[place{string(slice.AddressType), ports, fmt.Sprint(e.Addresses, show(e.Hostname), e.TargetRef.Name)}]++
		}
	}
	return held
}
