package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// DefaultMaxEndpoints is how many endpoints a slice holds where nothing else is said, as upstream.
const DefaultMaxEndpoints = 100

// Options say how slices are written.
type Options struct {
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by.
	ManagedBy string
	// MaxEndpoints is how many endpoints a slice may hold, 1 to 1000. 0: DefaultMaxEndpoints.
	MaxEndpoints int
	// Taken says whether an object of this name exists that is not among the slices given. Nil: none does.
	Taken func(name string) bool
}

// Verb is what to do with a slice.
type Verb string

// What a Write does.
const (
	Create Verb = "Create"
	Update Verb = "Update"
	Delete Verb = "Delete"
)

// Write is one change of one slice.
type Write struct {
	Verb Verb
	// Slice is the whole object to write. For Update and Delete it carries the UID and the resourceVersion that the
	// plan was made from. Its endpoints and ports share memory with sets and other slices: a client that decodes its
	// answer into the object that it was given must be given a deep copy.
	Slice *discoveryv1.EndpointSlice
	// Moves says that this write takes endpoints away that earlier writes of the plan put elsewhere: it must not be
	// done when one of those failed, or endpoints that serve would vanish for a while.
	Moves bool
}

// Plan is what makes slices hold a set.
type Plan struct {
	// Writes are to be done in this order. It keeps every endpoint that stays, with the ports it has, in at least one
	// slice at any time.
	Writes []Write
	// Endpoints is how many the slices hold once all is written; Slices is how many slices that are.
	Endpoints, Slices int
	// More says that slices remain that compaction can empty, in another plan, once this one is written.
	More bool
}

// Pack returns the writes after which slices hold a set, as few and as small as upstream's, and more than upstream's
// where this frees a slice: once the free room reaches a whole slice, slices are emptied into the others, at most one
// slice's worth of endpoints a plan.
//
// Slices are all of the Service that ManagedBy marks, or used to mark; those that are being deleted are ignored
// (kubernetes/kubernetes#108267), and those of an earlier Service of this name are deleted, not adopted. A Service
// that is being deleted itself gets no new slices. A Service without endpoints has one empty slice a family.
//
// It is a fresh Layout that observes the slices and plans once.
func Pack(set *Set, existing []*discoveryv1.EndpointSlice, opts Options) Plan {
	layout := NewLayout(opts)
	for _, slice := range existing {
		layout.Observe(slice)
	}
	return layout.Plan(set, Pass{})
}

func pack(set *Set, existing []*discoveryv1.EndpointSlice, opts Options, pass Pass) Plan {
	p := &packer{set: set, opts: opts, trigger: pass.Trigger, labels: sliceLabels(set.service, opts.ManagedBy), names: map[string]struct{}{}}
	byFamily := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	for _, slice := range existing {
		p.names[slice.Name] = struct{}{}
		switch {
		case slice.DeletionTimestamp != nil:
		case !OwnedBy(slice, set.service), !slices.Contains(set.families, slice.AddressType):
			p.obsolete = append(p.obsolete, slice)
		default:
			byFamily[slice.AddressType] = append(byFamily[slice.AddressType], slice)
		}
	}
	for _, family := range set.families {
		p.packFamily(family, byFamily[family])
	}
	return p.plan()
}

// Release returns the writes that delete the slices of a Service that has no selector any more. Slices of others, by
// owner, are left alone.
func Release(service *corev1.Service, existing []*discoveryv1.EndpointSlice) Plan {
	var plan Plan
	for _, slice := range sortedByName(existing) {
		if slice.DeletionTimestamp == nil && OwnedBy(slice, service) {
			plan.Writes = append(plan.Writes, Write{Verb: Delete, Slice: slice.DeepCopy()})
		}
	}
	return plan
}

type packer struct {
	set      *Set
	opts     Options
	labels   map[string]string
	names    map[string]struct{}
	obsolete []*discoveryv1.EndpointSlice
	bins     []*bin
	more     bool
	trigger  time.Time
}

// bin is a slice in the making.
type bin struct {
	// old is the slice as it is; nil for a new one.
	old       *discoveryv1.EndpointSlice
	name      string
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []*discoveryv1.Endpoint
	// dirty: it has to be written.
	dirty bool
	// gains: it gets endpoints that it did not have.
	gains bool
	// sheds: it loses endpoints that another bin gets.
	sheds bool
	// emptied: compaction emptied it. It must not be used again in the same plan, since its endpoints would be gone
	// before they are written elsewhere.
	emptied bool
	// surplus: it is to be deleted.
	surplus bool
}

func (p *packer) packFamily(family discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice) {
	byPorts := map[groupKey][]*bin{}
	for _, slice := range sortedByName(existing) {
		key := groupKey{family: family, ports: portsKey(slice.Ports)}
		b := &bin{old: slice, name: slice.Name, family: family, ports: slice.Ports}
		b.dirty = !maps.Equal(slice.Labels, p.labels)
		byPorts[key] = append(byPorts[key], b)
	}
	keys := slices.Collect(maps.Keys(byPorts))
	keys = append(keys, p.set.keys(family)...)
	slices.SortFunc(keys, compareKeys)
	var all []*bin
	for _, key := range slices.Compact(keys) {
		all = append(all, p.packGroup(key, byPorts[key])...)
	}
	p.bins = append(p.bins, p.settle(family, all)...)
}

// packGroup spreads one group over its bins and returns all of them, the new ones and the empty ones too.
//
//  1. What is in place stays there, changed or not; what is not wanted, or is there twice, goes. So does what is
//     above the limit.
//  2. New endpoints go into bins that are written anyway, fullest first.
//  3. The rest goes into one other bin if it fits, the one that it fills best, else into new ones.
//  4. Bins are emptied into others while the free room is a whole slice.
func (p *packer) packGroup(key groupKey, bins []*bin) []*bin {
	wanted := p.set.groups[key]
	if wanted == nil {
		wanted = &group{}
	}
	// The fuller bin keeps an endpoint that two have: compaction fills it before it empties the other, and may have
	// been interrupted in between.
	slices.SortStableFunc(bins, func(a, b *bin) int { return cmp.Compare(len(b.old.Endpoints), len(a.old.Endpoints)) })
	inPlace := make(map[Identity]struct{}, len(wanted.endpoints))
	for _, b := range bins {
		p.keep(b, wanted, inPlace)
	}
	rest := wanted.without(inPlace)
	rest = p.fill(bins, rest)
	bins = p.open(key, bins, rest, wanted.ports)
	return p.compact(bins)
}

// keep leaves in a bin what is wanted there and not in another bin already.
func (p *packer) keep(b *bin, wanted *group, inPlace map[Identity]struct{}) {
	b.endpoints = make([]*discoveryv1.Endpoint, 0, len(b.old.Endpoints))
	for i := range b.old.Endpoints {
		id := IdentityOf(&b.old.Endpoints[i])
		endpoint := wanted.endpoints[id].endpoint
		_, twice := inPlace[id]
		if endpoint == nil || twice || len(b.endpoints) == p.opts.MaxEndpoints {
			b.dirty = true
			b.sheds = b.sheds || endpoint != nil || p.set.has(b.family, id)
			continue
		}
		inPlace[id] = struct{}{}
		b.dirty = b.dirty || !equalEndpoints(&b.old.Endpoints[i], endpoint)
		b.endpoints = append(b.endpoints, endpoint)
	}
}

// without returns the endpoints of a group that are not in place, sorted.
func (g *group) without(inPlace map[Identity]struct{}) []*discoveryv1.Endpoint {
	if len(inPlace) == len(g.endpoints) {
		return nil
	}
	missing := &group{endpoints: map[Identity]wanted{}}
	for id, endpoint := range g.endpoints {
		if _, ok := inPlace[id]; !ok {
			missing.endpoints[id] = endpoint
		}
	}
	return missing.sorted()
}

// fill puts endpoints into the bins that are dirty, fullest first, and returns those that found no room.
func (p *packer) fill(bins []*bin, rest []*discoveryv1.Endpoint) []*discoveryv1.Endpoint {
	dirty := slices.DeleteFunc(slices.Clone(bins), func(b *bin) bool { return !b.dirty })
	slices.SortStableFunc(dirty, func(a, b *bin) int { return cmp.Compare(len(b.endpoints), len(a.endpoints)) })
	for _, b := range dirty {
		rest = b.add(rest, p.opts.MaxEndpoints)
	}
	return rest
}

// add puts as many endpoints as there is room for into a bin and returns the others.
func (b *bin) add(endpoints []*discoveryv1.Endpoint, limit int) []*discoveryv1.Endpoint {
	n := min(len(endpoints), limit-len(b.endpoints))
	if n <= 0 {
		return endpoints
	}
	b.endpoints = append(b.endpoints, endpoints[:n]...)
	b.dirty, b.gains = true, true
	return endpoints[n:]
}

// open finds room for the rest: new bins for whole slices, then the bin that the remainder fills best, else one more.
func (p *packer) open(key groupKey, bins []*bin, rest []*discoveryv1.Endpoint, ports []discoveryv1.EndpointPort) []*bin {
	for len(rest) > 0 {
		var best *bin
		if len(rest) < p.opts.MaxEndpoints {
			for _, b := range bins {
				fits := len(b.endpoints)+len(rest) <= p.opts.MaxEndpoints
				if fits && (best == nil || len(b.endpoints) > len(best.endpoints)) {
					best = b
				}
			}
		}
		if best == nil && p.deleting() {
			return bins
		}
		if best == nil {
			best = &bin{family: key.family, ports: ports}
			bins = append(bins, best)
		}
		rest = best.add(rest, p.opts.MaxEndpoints)
	}
	return bins
}

// settle decides what becomes of the empty bins of a family: a new bin takes the place of an empty one, since one
// update is less than a create and a delete; the others are deleted; and one stays where nothing else would.
func (p *packer) settle(family discoveryv1.AddressType, bins []*bin) []*bin {
	var kept, fresh, empty []*bin
	for _, b := range bins {
		switch {
		case b.old == nil:
			fresh = append(fresh, b)
		case len(b.endpoints) == 0:
			empty = append(empty, b)
		default:
			kept = append(kept, b)
		}
	}
	if len(kept) == 0 && len(fresh) == 0 {
		// A slice that is the empty one already stays it.
		slices.SortStableFunc(empty, func(a, b *bin) int {
			return cmp.Compare(len(a.ports)+len(a.old.Endpoints), len(b.ports)+len(b.old.Endpoints))
		})
		fresh = append(fresh, &bin{family: family, ports: []discoveryv1.EndpointPort{}})
	}
	for _, b := range fresh {
		if at := slices.IndexFunc(empty, func(e *bin) bool { return !e.emptied }); at >= 0 {
			reused := empty[at]
			empty = slices.Delete(empty, at, at+1)
			b.dirty = reused.dirty || len(b.endpoints) > 0 || portsKey(reused.ports) != portsKey(b.ports)
			b.old, b.name, b.sheds = reused.old, reused.name, reused.sheds
		}
	}
	for _, b := range empty {
		b.surplus = true
	}
	return slices.Concat(kept, fresh, empty)
}

// plan turns bins into writes: first what adds endpoints, then what does not, last what only takes away.
func (p *packer) plan() Plan {
	plan := Plan{More: p.more}
	var creates, gains, updates, deletes []Write
	for _, b := range p.bins {
		plan.Endpoints += len(b.endpoints)
		switch {
		case b.old == nil:
			if !p.deleting() {
				creates = append(creates, Write{Verb: Create, Slice: p.build(b)})
				plan.Slices++
			}
		case b.surplus:
			deletes = append(deletes, Write{Verb: Delete, Slice: b.old.DeepCopy(), Moves: b.sheds})
		case b.dirty && b.gains:
			gains = append(gains, Write{Verb: Update, Slice: p.build(b), Moves: b.sheds})
			plan.Slices++
		case b.dirty:
			updates = append(updates, Write{Verb: Update, Slice: p.build(b), Moves: b.sheds})
			plan.Slices++
		default:
			plan.Slices++
		}
	}
	for _, slice := range sortedByName(p.obsolete) {
		deletes = append(deletes, Write{Verb: Delete, Slice: slice.DeepCopy(), Moves: true})
	}
	plan.Writes = slices.Concat(creates, gains, updates, deletes)
	return plan
}

// deleting says whether the Service is being deleted: what is there is kept right, nothing is added.
func (p *packer) deleting() bool { return p.set.service.DeletionTimestamp != nil }

func compareKeys(a, b groupKey) int {
	return compareAll(strings.Compare(string(a.family), string(b.family)), strings.Compare(a.ports, b.ports))
}

func sortedByName(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(slices.Values(all), func(a, b *discoveryv1.EndpointSlice) int {
		return strings.Compare(a.Name, b.Name)
	})
}
