package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// Plan returns the writes after which the slices hold a set. It may be called again at any time: what was not written
// is planned again. It costs what has changed since, and the slices that this touches; a set that the layout has not
// seen costs all.
func (l *Layout) Plan(set *Set, pass Pass) Plan {
	l.follow(set)
	p := &planner{layout: l, set: set, pass: pass}
	work := p.work()
	for i := range l.families {
		p.packFamily(&l.families[i], work)
	}
	return p.plan()
}

type planner struct {
	layout *Layout
	set    *Set
	pass   Pass
	// named are the names given to new slices.
	named  map[string]struct{}
	drafts []*draft
	more   bool
	// added counts the endpoints that are new to the slices.
	added int
}

// draft is a slice in the making.
type draft struct {
	// bin is the slice as it is; nil for a new one.
	bin   *bin
	key   groupKey
	ports []discoveryv1.EndpointPort
	// endpoints are the bin's own, not to be changed, unless owned.
	endpoints []discoveryv1.Endpoint
	owned     bool
	// dirty: it has to be written.
	dirty bool
	// gains: it gets endpoints that it did not have.
	gains bool
	// sheds: it loses endpoints that another draft gets.
	sheds bool
	// emptied: compaction emptied it. It must not be used again in the same plan, since its endpoints would be gone
	// before they are written elsewhere.
	emptied bool
	// surplus: it is to be deleted.
	surplus bool
}

func draftOf(b *bin, key groupKey) *draft {
	return &draft{bin: b, key: key, ports: b.slice.Ports, endpoints: b.slice.Endpoints}
}

// own makes the endpoints the draft's, with room for more.
func (d *draft) own(more int) {
	if d.owned {
		d.endpoints = slices.Grow(d.endpoints, more)
		return
	}
	endpoints := make([]discoveryv1.Endpoint, len(d.endpoints), len(d.endpoints)+more)
	copy(endpoints, d.endpoints)
	d.endpoints, d.owned = endpoints, true
}

// takeOut takes out the endpoints at some ascending indexes.
func (d *draft) takeOut(indexes []int) {
	if len(indexes) == 0 {
		return
	}
	d.own(0)
	all := d.endpoints
	d.endpoints = all[:indexes[0]]
	for n, at := range indexes {
		next := len(all)
		if n+1 < len(indexes) {
			next = indexes[n+1]
		}
		d.endpoints = append(d.endpoints, all[at+1:next]...)
	}
}

// add puts as many endpoints as there is room for into a draft and returns the others.
func (d *draft) add(endpoints []*discoveryv1.Endpoint, limit int) []*discoveryv1.Endpoint {
	n := min(len(endpoints), limit-len(d.endpoints))
	if n <= 0 {
		return endpoints
	}
	d.own(n)
	for _, endpoint := range endpoints[:n] {
		d.endpoints = append(d.endpoints, *endpoint)
	}
	d.dirty, d.gains = true, true
	return endpoints[n:]
}

// held is how many endpoints a draft's bin holds.
func (d *draft) held() int {
	if d.bin == nil {
		return 0
	}
	return len(d.bin.slice.Endpoints)
}

// name is that of a draft's bin; a new one has none yet.
func (d *draft) name() string {
	if d.bin == nil {
		return ""
	}
	return d.bin.slice.Name
}

// compareDrafts orders those of bins as their bins are, and new ones last.
func compareDrafts(a, b *draft) int {
	switch {
	case a.bin != nil && b.bin != nil:
		return compareBins(a.bin, b.bin)
	case a.bin != nil:
		return -1
	case b.bin != nil:
		return 1
	}
	return 0
}

// work returns the shelves that there is something to do about, sorted.
func (p *planner) work() []*shelf {
	l := p.layout
	l.work = slices.DeleteFunc(l.work, func(sh *shelf) bool {
		sh.listed = sh.unsettled || sh.loose
		return !sh.listed
	})
	var work []*shelf
	for _, sh := range l.work {
		if sh.unsettled || !p.pass.Busy {
			work = append(work, sh)
		} else {
			p.more = true
		}
	}
	if len(work) > 1 {
		slices.SortFunc(work, func(a, b *shelf) int { return compareKeys(a.key, b.key) })
	}
	return work
}

func (p *planner) packFamily(f *family, work []*shelf) {
	var kept, fresh, empty []*draft
	filled := f.filled
	for _, sh := range work {
		if sh.key.family != f.name {
			continue
		}
		for _, d := range p.packShelf(sh) {
			switch {
			case d.bin == nil:
				fresh = append(fresh, d)
			case len(d.endpoints) == 0:
				empty = append(empty, d)
				filled--
			default:
				kept = append(kept, d)
			}
		}
	}
	p.drafts = append(p.drafts, kept...)
	p.settle(f, filled > 0, fresh, empty)
}

// packShelf spreads one group over its bins and returns those that it touches, and new ones.
//
//  1. What is in place stays there, changed or not; what is not wanted, or is there twice, goes. So does what is
//     above the limit.
//  2. New endpoints go into bins that are written anyway, fullest first.
//  3. The rest goes into one other bin if it fits, the one that it fills best, else into new ones.
//     While the Service is busy, 2 and 3 prefer the emptiest: what comes one after the other gets ready one after the
//     other, and in one slice that makes fewer writes than in many.
//  4. Bins are emptied into others while that is worth it (compact.go).
func (p *planner) packShelf(sh *shelf) []*draft {
	group := p.set.groups[sh.key]
	drafts, rest := p.keep(sh, group)
	p.added += len(rest)
	rest = p.fill(drafts, rest)
	if len(rest) > 0 {
		drafts = p.open(sh, drafts, rest, group.ports)
	}
	drafts = p.compact(sh, drafts)
	slices.SortStableFunc(drafts, compareDrafts)
	p.layout.assess(sh)
	p.layout.tidy(sh)
	return drafts
}

// fill puts endpoints into the drafts that are dirty and returns those that found no room.
func (p *planner) fill(drafts []*draft, rest []*discoveryv1.Endpoint) []*discoveryv1.Endpoint {
	if len(rest) == 0 {
		return nil
	}
	dirty := slices.DeleteFunc(slices.Clone(drafts), func(d *draft) bool { return !d.dirty })
	slices.SortStableFunc(dirty, func(a, b *draft) int {
		if p.pass.Busy {
			a, b = b, a
		}
		return cmp.Compare(len(b.endpoints), len(a.endpoints))
	})
	for _, d := range dirty {
		rest = d.add(rest, p.layout.opts.MaxEndpoints)
	}
	return rest
}

// open finds room for the rest: new drafts for whole slices, then the bin that the remainder fills best, else one
// more. The drafts that are dirty are full by now.
func (p *planner) open(sh *shelf, drafts []*draft, rest []*discoveryv1.Endpoint, ports []discoveryv1.EndpointPort) []*draft {
	limit := p.layout.opts.MaxEndpoints
	for len(rest) > 0 {
		var d *draft
		if len(rest) < limit {
			d, drafts = p.bestFit(sh, drafts, limit-len(rest))
		}
		if d == nil && p.deleting() {
			return drafts
		}
		if d == nil {
			d = &draft{key: sh.key, ports: ports}
			drafts = append(drafts, d)
		}
		rest = d.add(rest, limit)
	}
	return drafts
}

// bestFit returns the draft of the fullest bin (busy: the emptiest) that holds so many endpoints at most and is not
// written yet, and all drafts with it. It is nil where there is none.
func (p *planner) bestFit(sh *shelf, drafts []*draft, most int) (*draft, []*draft) {
	at, _ := slices.BinarySearchFunc(sh.bins, most, func(b *bin, most int) int { return most - len(b.slice.Endpoints) })
	fitting := slices.All(sh.bins[at:])
	if p.pass.Busy {
		fitting = slices.Backward(sh.bins[at:])
	}
	for _, b := range fitting {
		i := slices.IndexFunc(drafts, func(d *draft) bool { return d.bin == b })
		if i < 0 {
			d := draftOf(b, sh.key)
			return d, append(drafts, d)
		}
		if !drafts[i].dirty {
			return drafts[i], drafts
		}
	}
	return nil, drafts
}

// settle decides what becomes of the empty slices of a family: a new draft takes the place of an empty one, since one
// update is less than a create and a delete; the others are deleted; and one stays where nothing else would.
func (p *planner) settle(f *family, filled bool, fresh, empty []*draft) {
	for _, b := range f.empty {
		d := draftOf(b, groupKey{family: f.name})
		d.dirty = !maps.Equal(b.slice.Labels, p.layout.labels)
		empty = append(empty, d)
	}
	if !filled && len(fresh) == 0 {
		fresh = []*draft{{key: groupKey{family: f.name}, ports: []discoveryv1.EndpointPort{}}}
	}
	// A slice that is an empty one already stays it.
	slices.SortFunc(empty, func(a, b *draft) int {
		return cmp.Or(cmp.Compare(len(a.ports)+a.held(), len(b.ports)+b.held()), strings.Compare(a.name(), b.name()))
	})
	for _, d := range fresh {
		if at := slices.IndexFunc(empty, func(e *draft) bool { return !e.emptied }); at >= 0 {
			reused := empty[at]
			empty = slices.Delete(empty, at, at+1)
			d.dirty = reused.dirty || len(d.endpoints) > 0 || portsKey(reused.ports) != portsKey(d.ports)
			d.bin, d.sheds = reused.bin, reused.sheds
		}
	}
	for _, d := range empty {
		d.surplus = true
	}
	p.drafts = slices.Concat(p.drafts, fresh, empty)
}

// plan turns drafts into writes: first what adds endpoints, then what does not, last what only takes away.
func (p *planner) plan() Plan {
	l := p.layout
	plan := Plan{More: p.more, Endpoints: l.endpoints}
	for i := range l.families {
		plan.Slices += l.families[i].filled + len(l.families[i].empty)
	}
	var creates, gains, updates, deletes []Write
	for _, d := range p.drafts {
		plan.Endpoints += len(d.endpoints) - d.held()
		switch {
		case d.bin == nil:
			if !p.deleting() {
				creates = append(creates, Write{Verb: Create, Slice: p.build(d)})
				plan.Slices++
			}
		case d.surplus:
			deletes = append(deletes, Write{Verb: Delete, Slice: d.bin.slice, Moves: d.sheds})
			plan.Slices--
		case d.dirty && d.gains:
			gains = append(gains, Write{Verb: Update, Slice: p.build(d), Moves: d.sheds})
		case d.dirty:
			updates = append(updates, Write{Verb: Update, Slice: p.build(d), Moves: d.sheds})
		}
	}
	obsolete := slices.SortedFunc(maps.Keys(l.obsolete), func(a, b *bin) int { return strings.Compare(a.slice.Name, b.slice.Name) })
	for _, b := range obsolete {
		deletes = append(deletes, Write{Verb: Delete, Slice: b.slice, Moves: true})
	}
	plan.Writes = slices.Concat(creates, gains, updates, deletes)
	plan.Added, plan.Removed = p.added, p.added-(plan.Endpoints-l.endpoints)
	for _, g := range p.set.groups {
		plan.Ideal += (len(g.endpoints) + l.opts.MaxEndpoints - 1) / l.opts.MaxEndpoints
	}
	plan.Ideal = max(plan.Ideal, 1)
	return plan
}

// deleting says whether the Service is being deleted: what is there is kept right, nothing is added.
func (p *planner) deleting() bool { return p.set.service.DeletionTimestamp != nil }
