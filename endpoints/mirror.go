package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MirrorCapacity is how many addresses of one subset are mirrored at most, both families together, as upstream.
const MirrorCapacity = 1000

// MirrorOptions say how mirrored slices are written.
type MirrorOptions struct {
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by.
	ManagedBy string
	// MaxEndpoints is how many addresses of a subset are mirrored, 1 to 1000. 0: MirrorCapacity.
	MaxEndpoints int
	// Taken says whether an object of this name exists that is not among the slices given. Nil: none does.
	Taken func(name string) bool
}

// MirrorPlan is what makes slices show an Endpoints object.
type MirrorPlan struct {
	Plan
	// Added, Updated and Removed count the endpoints that the plan changes.
	Added, Updated, Removed int
	// Invalid is how many addresses are left out since they are no IP addresses, Skipped how many since their subset
	// has too many.
	Invalid, Skipped int
}

// Mirrored says whether slices are to be made from an Endpoints object. Service is the one of its name; either may be
// nil, where there is none. An ExternalName Service's are mirrored, too, if it has no selector, as upstream's.
func Mirrored(service *corev1.Service, source *corev1.Endpoints) bool {
	if service == nil || service.Spec.Selector != nil || source == nil || source.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return false
	}
	_, lock := source.Annotations[leaderAnnotation]
	return !lock
}

// Mirror returns the writes after which slices show an Endpoints object that somebody wrote by hand: one slice for each
// set of ports and family that has addresses, and none beside those. What shows it already is not written, in whatever
// order it lists it, and hints are left to whoever sets them.
//
// Slices are all that mirror this object, or used to; those that are being deleted are ignored, and those of an earlier
// object of this name become this one's. An object that is being deleted itself gets no new slices.
func Mirror(source *corev1.Endpoints, existing []*discoveryv1.EndpointSlice, opts MirrorOptions) MirrorPlan {
	if opts.MaxEndpoints == 0 {
		opts.MaxEndpoints = MirrorCapacity
	}
	m := &mirror{source: source, opts: opts, names: map[string]struct{}{},
		tried: map[discoveryv1.AddressType]int{}, groups: map[groupKey]*mirrorGroup{}}
	m.labels, m.annotations = mirrorMeta(source, opts.ManagedBy)
	for _, subset := range canonicalSubsets(source.Subsets) {
		m.addSubset(subset)
	}
	for _, slice := range sortedByName(existing) {
		m.names[slice.Name] = struct{}{}
		if slice.DeletionTimestamp == nil {
			m.existing = append(m.existing, slice)
		}
	}
	m.plan.Writes = m.order(m.match())
	return m.plan
}

// Unmirror returns the writes that delete the slices of an Endpoints object that is not mirrored any more.
func Unmirror(existing []*discoveryv1.EndpointSlice) MirrorPlan {
	var plan MirrorPlan
	for _, slice := range sortedByName(existing) {
		if slice.DeletionTimestamp == nil {
			plan.Writes = append(plan.Writes, Write{Verb: Delete, Slice: slice.DeepCopy()})
			plan.Removed += len(slice.Endpoints)
		}
	}
	return plan
}

// mirror is one plan in the making.
type mirror struct {
	source              *corev1.Endpoints
	opts                MirrorOptions
	labels, annotations map[string]string
	groups              map[groupKey]*mirrorGroup
	existing            []*discoveryv1.EndpointSlice
	names               map[string]struct{}
	// tried is how many names of each family have been tried.
	tried map[discoveryv1.AddressType]int
	plan  MirrorPlan
}

// mirrorGroup is what one slice is to hold.
type mirrorGroup struct {
	key       groupKey
	ports     []discoveryv1.EndpointPort
	endpoints map[Identity]*discoveryv1.Endpoint
}

// mirrorMeta returns all labels and annotations of mirrored slices. Labels are the object's, but for the reserved ones;
// annotations are, but for the time of its last change, which is not the slice's, and what kubectl applied.
func mirrorMeta(source *corev1.Endpoints, managedBy string) (labels, annotations map[string]string) {
	labels = make(map[string]string, len(source.Labels)+2)
	maps.Copy(labels, source.Labels)
	labels[discoveryv1.LabelServiceName] = source.Name
	labels[discoveryv1.LabelManagedBy] = managedBy
	annotations = maps.Clone(source.Annotations)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return labels, annotations
}

// addSubset adds the addresses of a subset, ready ones first, as many as are mirrored. Of two that make the same
// endpoint the later one stands for both, but for one that is ready, which does not hide that the other is not.
func (m *mirror) addSubset(subset mirrorSubset) {
	added := 0
	for _, address := range subset.addresses {
		if added == m.opts.MaxEndpoints {
			m.plan.Skipped++
			continue
		}
		endpoint, family, ok := mirrorEndpoint(address)
		if !ok {
			m.plan.Invalid++
			continue
		}
		added++
		key := groupKey{family: family, ports: portsKey(subset.ports)}
		g := m.groups[key]
		if g == nil {
			g = &mirrorGroup{key: key, ports: subset.ports, endpoints: map[Identity]*discoveryv1.Endpoint{}}
			m.groups[key] = g
		}
		id := IdentityOf(endpoint)
		switch before := g.endpoints[id]; {
		case before == nil && len(g.endpoints) == m.opts.MaxEndpoints:
			m.plan.Skipped++
		case before == nil || *before.Conditions.Ready || !address.ready:
			g.endpoints[id] = endpoint
		}
	}
}

// match decides which slice is to hold which group. Of several that could, the one that is right already, else the one
// with the most endpoints in common. A slice that no group needs takes a group that has none, since one update is less
// than a create and a delete.
func (m *mirror) match() []mirrorChange {
	byKey := map[groupKey][]*discoveryv1.EndpointSlice{}
	var updates, deletes []mirrorChange
	for _, slice := range m.existing {
		key := groupKey{family: slice.AddressType, ports: portsKey(slice.Ports)}
		if m.groups[key] == nil {
			deletes = append(deletes, mirrorChange{old: slice})
			m.plan.Removed += len(slice.Endpoints)
			continue
		}
		byKey[key] = append(byKey[key], slice)
	}
	var fresh []*mirrorGroup
	for _, key := range slices.SortedFunc(maps.Keys(m.groups), compareKeys) {
		g := m.groups[key]
		m.plan.Endpoints += len(g.endpoints)
		m.plan.Slices++
		if len(byKey[key]) == 0 {
			fresh = append(fresh, g)
			m.plan.Added += len(g.endpoints)
			continue
		}
		candidates := make([]difference, len(byKey[key]))
		for i, slice := range byKey[key] {
			candidates[i] = m.compare(slice, g)
		}
		best := slices.MinFunc(candidates, difference.compare)
		for i := range candidates {
			if candidates[i].slice != best.slice {
				deletes = append(deletes, mirrorChange{old: candidates[i].slice})
			}
		}
		if !best.none() {
			updates = append(updates, mirrorChange{old: best.slice, group: g})
			m.plan.Added += best.added
			m.plan.Updated += best.updated
			m.plan.Removed += best.removed
		}
	}
	var creates []mirrorChange
	for _, g := range fresh {
		at := slices.IndexFunc(deletes, func(c mirrorChange) bool { return c.old.AddressType == g.key.family })
		if at < 0 {
			creates = append(creates, mirrorChange{group: g})
			continue
		}
		updates = append(updates, mirrorChange{old: deletes[at].old, group: g})
		deletes = slices.Delete(deletes, at, at+1)
	}
	return slices.Concat(creates, updates, deletes)
}

// difference is how far a slice is from what it is to hold.
type difference struct {
	slice                   *discoveryv1.EndpointSlice
	added, updated, removed int
	// meta says that labels, annotations or owner differ, or that an endpoint is there twice.
	meta bool
}

func (d difference) none() bool { return d.added+d.updated+d.removed == 0 && !d.meta }

func (d difference) compare(other difference) int {
	if d.none() != other.none() {
		if d.none() {
			return -1
		}
		return 1
	}
	return compareAll(cmp.Compare(d.added+d.removed, other.added+other.removed), strings.Compare(d.slice.Name, other.slice.Name))
}

func (m *mirror) compare(slice *discoveryv1.EndpointSlice, g *mirrorGroup) difference {
	d := difference{slice: slice}
	d.meta = !maps.Equal(slice.Labels, m.labels) || !maps.Equal(slice.Annotations, m.annotations) || !m.owns(slice)
	found := make(map[Identity]struct{}, len(slice.Endpoints))
	for i := range slice.Endpoints {
		id := IdentityOf(&slice.Endpoints[i])
		_, twice := found[id]
		switch wanted := g.endpoints[id]; {
		case wanted == nil:
			d.removed++
		case twice:
			d.meta = true
		case !equalMirrored(&slice.Endpoints[i], wanted):
			d.updated++
		}
		if g.endpoints[id] != nil {
			found[id] = struct{}{}
		}
	}
	d.added = len(g.endpoints) - len(found)
	return d
}

// owns says whether a slice is controlled by this Endpoints object and by none of this name before it.
func (m *mirror) owns(slice *discoveryv1.EndpointSlice) bool {
	return metav1.IsControlledBy(slice, m.source) && !slices.ContainsFunc(slice.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind == "Endpoints" && ref.UID != m.source.UID
	})
}

// equalMirrored says whether two endpoints of equal identity are the same in everything that mirroring writes. Hints
// are not: an admission webhook may add them to every slice. The version of what an address refers to is not compared,
// as upstream: it changes with every status of a Pod.
func equalMirrored(a, b *discoveryv1.Endpoint) bool {
	return slices.Equal(a.Addresses, b.Addresses) &&
		apiequality.Semantic.DeepEqual(a.Conditions, b.Conditions) &&
		value(a.Hostname) == value(b.Hostname) && value(a.NodeName) == value(b.NodeName) && value(a.Zone) == value(b.Zone) &&
		(a.TargetRef == nil) == (b.TargetRef == nil) && withoutVersion(a.TargetRef) == withoutVersion(b.TargetRef)
}

func withoutVersion(ref *corev1.ObjectReference) corev1.ObjectReference {
	copied := value(ref)
	copied.ResourceVersion = ""
	return copied
}

// build returns the object that holds a group; old is the slice that is to become it, nil for a new one. It shares
// nothing with what Mirror was given. Endpoints that stay keep their place and, if nothing else changed, their hints.
func (m *mirror) build(old *discoveryv1.EndpointSlice, g *mirrorGroup) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{AddressType: g.key.family, Ports: []discoveryv1.EndpointPort{}, Endpoints: []discoveryv1.Endpoint{}}
	placed := map[Identity]struct{}{}
	if old == nil {
		slice.Namespace, slice.Name = m.source.Namespace, m.freeName(g.key.family)
	} else {
		old.ObjectMeta.DeepCopyInto(&slice.ObjectMeta)
		slice.ManagedFields = nil
		for i := range old.Endpoints {
			id := IdentityOf(&old.Endpoints[i])
			wanted := g.endpoints[id]
			if _, twice := placed[id]; wanted == nil || twice {
				continue
			}
			placed[id] = struct{}{}
			if equalMirrored(&old.Endpoints[i], wanted) {
				wanted = &old.Endpoints[i]
			}
			slice.Endpoints = append(slice.Endpoints, *wanted.DeepCopy())
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(g.endpoints), Identity.compare) {
		if _, ok := placed[id]; !ok {
			slice.Endpoints = append(slice.Endpoints, *g.endpoints[id].DeepCopy())
		}
	}
	for i := range g.ports {
		slice.Ports = append(slice.Ports, *g.ports[i].DeepCopy())
	}
	slice.Labels, slice.Annotations = maps.Clone(m.labels), maps.Clone(m.annotations)
	if !m.owns(slice) {
		slice.OwnerReferences = []metav1.OwnerReference{
			*metav1.NewControllerRef(m.source, corev1.SchemeGroupVersion.WithKind("Endpoints")),
		}
	}
	return slice
}

// freeName returns the first name of the object's slices that is free: see packer.freeName.
func (m *mirror) freeName(family discoveryv1.AddressType) string {
	for {
		name := sliceName(m.source, family, m.tried[family])
		m.tried[family]++
		if _, used := m.names[name]; !used && (m.opts.Taken == nil || !m.opts.Taken(name)) {
			return name
		}
	}
}
