package endpoints

import (
	"maps"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Layout is the slices of one Service as they are, our own writes included, and knows which of them holds each
// endpoint, so that a plan costs what has changed and not what there is. It is kept from one plan to the next, whatever
// becomes of the Service: a new Set makes the next plan a full one. It is not safe for concurrent use.
//
// A cache that is behind does no harm: what a write returned counts until something newer comes, and a slice that was
// deleted does not come back. That rests on resourceVersions of one resource being ordered (guaranteed since Kubernetes
// 1.35, KEP-5504, and true of every API server on etcd before).
type Layout struct {
	opts Options
	// set is the one of the last plan, and labels are what its slices have. Nil before the first plan: until then
	// slices are only kept.
	set    *Set
	labels map[string]string
	// names are the first names of the Service's slices, as far as they were needed.
	names map[discoveryv1.AddressType][]string

	bins  map[string]*bin
	byUID map[types.UID]*bin
	// deleted are slices that are known to be gone and have not yet been seen deleted.
	deleted map[types.UID]struct{}

	// Each bin is on a shelf, or in a family among the empty, or obsolete, but for those that are being deleted.
	shelves  map[groupKey]*shelf
	families []family
	obsolete map[*bin]struct{}
	// endpoints counts those on shelves.
	endpoints int
	// work are the shelves that a plan may have to do something about, and perhaps others.
	work []*shelf
}

// family is the slices of one of the Service's families.
type family struct {
	name discoveryv1.AddressType
	// filled counts the bins on shelves; empty are those without endpoints.
	filled int
	empty  []*bin
}

// bin is a slice that is there.
type bin struct {
	slice *discoveryv1.EndpointSlice
	// shelf is where it is; nil where it is empty, obsolete or being deleted.
	shelf *shelf
	// ordered says that it is among the shelf's bins.
	ordered bool
}

// Observation is what a Layout found in a slice that it was shown.
type Observation string

const (
	// Stale: no newer than what the layout holds, and ignored.
	Stale Observation = "Stale"
	// Unchanged: newer, and the same in all that we write.
	Unchanged Observation = "Unchanged"
	// Changed: new to the layout, or not the same.
	Changed Observation = "Changed"
)

// NewLayout returns a layout without slices.
func NewLayout(opts Options) *Layout {
	if opts.MaxEndpoints == 0 {
		opts.MaxEndpoints = DefaultMaxEndpoints
	}
	return &Layout{opts: opts, bins: map[string]*bin{}, byUID: map[types.UID]*bin{}}
}

// Observe takes over a slice of the Service that came from a watch or a list. It must be one that ManagedBy marks, or
// used to mark. The layout keeps it; it must not change any more. It costs O(its endpoints).
func (l *Layout) Observe(slice *discoveryv1.EndpointSlice) Observation {
	if _, gone := l.deleted[slice.UID]; gone {
		return Stale
	}
	b := l.bins[slice.Name]
	switch {
	case b == nil:
		l.add(slice)
		return Changed
	case sameVersion(b.slice, slice):
		// What the cache has anyway need not be held twice. Where it is not the same, since an admission webhook changed
		// what we wrote, what we wrote counts: writing it again would only have it changed again.
		if l.set == nil || l.sameHead(b.slice, slice) && maps.Equal(b.slice.Labels, slice.Labels) &&
			slices.EqualFunc(b.slice.Endpoints, slice.Endpoints, func(a, b discoveryv1.Endpoint) bool { return equalEndpoints(&a, &b) }) {
			b.slice = slice
		}
		return Stale
	case !Newer(slice.ResourceVersion, b.slice.ResourceVersion):
		return Stale
	case slice.UID != b.slice.UID:
		l.bury(b.slice.UID)
		l.drop(b)
		l.add(slice)
		return Changed
	}
	return l.replace(b, slice)
}

// Remove takes out a slice that was seen deleted, or that is not to be kept any more, and says whether the layout held
// it: a slice that we deleted ourselves it does not hold.
func (l *Layout) Remove(uid types.UID) bool {
	delete(l.deleted, uid)
	b := l.byUID[uid]
	if b == nil {
		return false
	}
	l.drop(b)
	return true
}

// Wrote takes over what came of a write of a plan: the slice with the metadata that the API server returned, nil for one
// that was deleted. A write that failed is not told; the next plan makes it again.
//
// The rest of it may be what was sent: where an admission webhook changed that, nothing is done about it until something
// newer is observed.
func (l *Layout) Wrote(write Write, result *discoveryv1.EndpointSlice) {
	if write.Verb != Delete {
		if b := l.bins[result.Name]; b != nil && sameVersion(b.slice, result) {
			l.replace(b, result) // The write changed nothing, perhaps since a webhook took it back.
			return
		}
		l.Observe(result)
		return
	}
	if b := l.bins[write.Slice.Name]; b != nil && b.slice.UID == write.Slice.UID {
		l.drop(b)
	}
	l.bury(write.Slice.UID)
}

// bury notes that a slice is gone, so that a late event does not bring it back.
func (l *Layout) bury(uid types.UID) {
	if uid == "" {
		return // It was made up.
	}
	if l.deleted == nil {
		l.deleted = map[types.UID]struct{}{}
	}
	l.deleted[uid] = struct{}{}
}

// sameVersion says whether two slices are the same object at the same time.
func sameVersion(a, b *discoveryv1.EndpointSlice) bool {
	return a.UID == b.UID && a.ResourceVersion == b.ResourceVersion && a.ResourceVersion != ""
}

// Newer says whether resourceVersion a of one resource is after b (ordered since Kubernetes 1.35, KEP-5504, and on every
// API server on etcd before). What cannot be compared, as the empty one of a slice that was made up, is believed.
func Newer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order > 0
}

func (l *Layout) add(slice *discoveryv1.EndpointSlice) {
	b := &bin{slice: slice}
	l.bins[slice.Name] = b
	l.byUID[slice.UID] = b
	if l.set != nil {
		l.place(b)
	}
}

func (l *Layout) drop(b *bin) {
	if l.set != nil {
		l.displace(b)
	}
	delete(l.bins, b.slice.Name)
	if l.byUID[b.slice.UID] == b {
		delete(l.byUID, b.slice.UID)
	}
}

// replace makes slice the state of a bin.
func (l *Layout) replace(b *bin, slice *discoveryv1.EndpointSlice) Observation {
	old := b.slice
	if l.set == nil {
		b.slice = slice
		return Changed
	}
	same := l.sameHead(old, slice)
	if !same || b.shelf == nil || len(slice.Endpoints) == 0 {
		l.displace(b)
		b.slice = slice
		l.place(b)
		same = same && len(old.Endpoints) == 0 && len(slice.Endpoints) == 0 && maps.Equal(old.Labels, slice.Labels)
	} else {
		same = l.exchange(b, slice) && maps.Equal(old.Labels, slice.Labels)
	}
	if same {
		return Unchanged
	}
	return Changed
}

// sameHead says whether two states of a slice belong at the same place.
func (l *Layout) sameHead(a, b *discoveryv1.EndpointSlice) bool {
	return (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		OwnedBy(a, l.set.service) == OwnedBy(b, l.set.service) && slices.EqualFunc(a.Ports, b.Ports, equalPorts)
}

// place finds out where a bin belongs and puts it there.
func (l *Layout) place(b *bin) {
	slice := b.slice
	family := l.family(slice.AddressType)
	switch {
	case slice.DeletionTimestamp != nil:
		// As good as gone, but for its name (kubernetes/kubernetes#108267).
	case family == nil, !OwnedBy(slice, l.set.service):
		if l.obsolete == nil {
			l.obsolete = map[*bin]struct{}{}
		}
		l.obsolete[b] = struct{}{}
	case len(slice.Endpoints) == 0:
		family.empty = append(family.empty, b)
	default:
		b.shelf = l.shelf(groupKey{family: family.name, ports: portsKey(slice.Ports)})
		family.filled++
		l.exchange(b, slice)
	}
}

// displace takes a bin from where it is.
func (l *Layout) displace(b *bin) {
	delete(l.obsolete, b)
	family := l.family(b.slice.AddressType)
	if b.shelf == nil {
		if family != nil {
			family.empty = slices.DeleteFunc(family.empty, func(e *bin) bool { return e == b })
		}
		return
	}
	sh := b.shelf
	l.exchange(b, nil)
	b.shelf = nil
	family.filled--
	l.tidy(sh)
}

// tidy drops a shelf that nothing is on and nothing is to be.
func (l *Layout) tidy(sh *shelf) {
	if len(sh.bins) == 0 && len(sh.pending) == 0 && l.set.groups[sh.key] == nil {
		delete(l.shelves, sh.key)
		sh.unsettled, sh.loose = false, false
	}
}

// family returns the one of a name, or nil where the Service does not have it.
func (l *Layout) family(name discoveryv1.AddressType) *family {
	for i := range l.families {
		if l.families[i].name == name {
			return &l.families[i]
		}
	}
	return nil
}

// shelf returns the shelf of a group, a new one if need be.
func (l *Layout) shelf(key groupKey) *shelf {
	sh := l.shelves[key]
	if sh == nil {
		sh = &shelf{key: key, at: map[Identity]place{}}
		l.shelves[key] = sh
	}
	return sh
}

// exchange makes slice the content of a bin on its shelf, whose content is that of its old slice or, where it is not
// yet in order, none; nil takes it out. It compares place by place and says whether all endpoints are the same.
func (l *Layout) exchange(b *bin, slice *discoveryv1.EndpointSlice) (same bool) {
	sh := b.shelf
	var before, after []discoveryv1.Endpoint
	if b.ordered {
		before = b.slice.Endpoints
	}
	if slice != nil {
		after = slice.Endpoints
	}
	// The order goes by the number of endpoints, which most often stays.
	reorder := len(before) != len(after)
	if b.ordered && reorder {
		at, _ := slices.BinarySearchFunc(sh.bins, b, compareBins)
		sh.bins = slices.Delete(sh.bins, at, at+1)
	}
	b.ordered = slice != nil
	delete(sh.wrong, b)
	if slice != nil {
		b.slice = slice
		if reorder {
			at, _ := slices.BinarySearchFunc(sh.bins, b, compareBins)
			sh.bins = slices.Insert(sh.bins, at, b)
		}
		if !maps.Equal(slice.Labels, l.labels) {
			if sh.wrong == nil {
				sh.wrong = map[*bin]struct{}{}
			}
			sh.wrong[b] = struct{}{}
		}
	}
	sh.held += len(after) - len(before)
	l.endpoints += len(after) - len(before)
	same = l.difference(b, before, after)
	l.assess(sh)
	return same
}

// difference brings a shelf up to date with a bin whose endpoints were before and are after. Our own writes keep the
// order and append, so that the steps are few:
//
//  1. Along both, what is in neither's turn the same was taken out.
//  2. What remains was added.
func (l *Layout) difference(b *bin, before, after []discoveryv1.Endpoint) (same bool) {
	sh := b.shelf
	group := l.set.groups[sh.key]
	same = true
	var gone []Identity
	next := 0
	for i := range before {
		if next < len(after) && equalEndpoints(&before[i], &after[next]) {
			next++
			continue
		}
		same = false
		id := IdentityOf(&before[i])
		if next < len(after) && id == IdentityOf(&after[next]) {
			sh.check(group, id, &after[next])
			next++
			continue
		}
		sh.takeOff(id, b)
		gone = append(gone, id)
	}
	for i := next; i < len(after); i++ {
		same = false
		id := IdentityOf(&after[i])
		sh.putOn(id, place{bin: b, index: int32(i)})
		sh.check(group, id, &after[i])
	}
	for _, id := range gone {
		sh.check(group, id, nil)
	}
	return same
}

// assess keeps up to date what a plan has to do about a shelf.
func (l *Layout) assess(sh *shelf) {
	sh.unsettled = sh.all || len(sh.pending) > 0 || len(sh.wrong) > 0 || sh.overfull(l.opts.MaxEndpoints)
	sh.loose = sh.spare(l.opts.MaxEndpoints)
	if (sh.unsettled || sh.loose) && !sh.listed {
		sh.listed = true
		l.work = append(l.work, sh)
	}
}

// follow brings pending up to date with a set: by its changes if the layout has seen the rest, else by all.
func (l *Layout) follow(set *Set) {
	if l.set == set && set.follower == l {
		for _, change := range set.changes {
			sh := l.shelf(change.key)
			if !sh.all {
				sh.note(change.id)
			}
			l.assess(sh)
		}
		set.changes = nil
		return
	}
	if l.set == nil || l.set.service.UID != set.service.UID || l.set.service.Name != set.service.Name {
		l.names = map[discoveryv1.AddressType][]string{}
	}
	l.set, set.follower, set.changes = set, l, nil
	l.labels = sliceLabels(set.service, l.opts.ManagedBy)
	l.shelves = map[groupKey]*shelf{}
	l.obsolete, l.endpoints, l.work = nil, 0, nil
	l.families = make([]family, len(set.families))
	for i := range l.families {
		l.families[i].name = set.families[i]
	}
	for key, group := range set.groups {
		sh := &shelf{key: key, all: true, at: make(map[Identity]place, len(group.endpoints))}
		l.shelves[key] = sh
		l.assess(sh)
	}
	for _, b := range l.bins {
		b.shelf, b.ordered = nil, false
		l.place(b)
	}
}
