package endpoints

import (
	"cmp"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// keep leaves in bins what is wanted there and not in another bin already. It returns the drafts of the bins that it
// had to look at, and the endpoints that are in none, sorted.
func (p *planner) keep(sh *shelf, group *group) ([]*draft, []*discoveryv1.Endpoint) {
	k := keeper{
		shelf: sh, group: group, limit: p.layout.opts.MaxEndpoints,
		all:   sh.all || sh.overfull(p.layout.opts.MaxEndpoints),
		other: func(id Identity) bool { return p.set.has(sh.key.family, id) },
	}
	if sh.all {
		sh.all, sh.pending = false, nil
	}
	// The fuller bin keeps an endpoint that two have: compaction fills it before it empties the other, and may have
	// been interrupted in between.
	var drafts []*draft
	if k.all || len(sh.more) > 0 {
		var looks []look
		for _, b := range sh.bins {
			looks = k.search(looks[:0], b)
			drafts = append(drafts, k.draft(b, looks))
		}
		return drafts, k.missing()
	}
	for looks := k.looks(); len(looks) > 0; {
		b := looks[0].bin
		n := 1
		for n < len(looks) && looks[n].bin == b {
			n++
		}
		drafts = append(drafts, k.draft(b, looks[:n]))
		looks = looks[n:]
	}
	return drafts, k.missing()
}

// keeper decides what stays on a shelf.
type keeper struct {
	shelf *shelf
	group *group
	limit int
	// all: every endpoint is to be looked at, not only those pending.
	all bool
	// stay counts the endpoints that stay, of those looked at; seen are those of them that are there more than once.
	stay int
	seen map[Identity]struct{}
	// over are those that are above the limit where they are.
	over []*discoveryv1.Endpoint
	// other says whether another group of the family wants an endpoint.
	other func(Identity) bool
}

// look is an endpoint to look at in a bin; a bin with no such has one with a negative index.
type look struct {
	bin   *bin
	index int
	id    Identity
}

// looks returns what is pending and the bins that are wrong, by bins in their order.
func (k *keeper) looks() []look {
	sh := k.shelf
	looks := make([]look, 0, len(sh.pending)+len(sh.wrong))
	for b := range sh.wrong {
		looks = append(looks, look{bin: b, index: -1})
	}
	for id := range sh.pending {
		if p, ok := sh.at[id]; ok {
			looks = append(looks, look{bin: p.bin, index: p.find(id), id: id})
		}
	}
	if len(looks) > 1 {
		slices.SortFunc(looks, func(a, b look) int { return cmp.Or(compareBins(a.bin, b.bin), cmp.Compare(a.index, b.index)) })
	}
	return looks
}

// search appends what to look at in a bin, by going through all that is there.
func (k *keeper) search(looks []look, b *bin) []look {
	for i := range b.slice.Endpoints {
		id := IdentityOf(&b.slice.Endpoints[i])
		if _, pending := k.shelf.pending[id]; pending || k.all {
			looks = append(looks, look{bin: b, index: i, id: id})
		}
	}
	return looks
}

// draft returns a bin's draft without what does not stay, and with the rest up to date.
func (k *keeper) draft(b *bin, looks []look) *draft {
	d := draftOf(b, k.shelf.key)
	_, d.dirty = k.shelf.wrong[b]
	before := d.bin.slice.Endpoints
	var out []int
	for _, at := range looks {
		if at.index < 0 {
			continue
		}
		stays := k.judge(d, at.id, &before[at.index], at.index-len(out) >= k.limit)
		switch {
		case stays == nil:
			out = append(out, at.index)
		case stays != &before[at.index]:
			d.own(0)
			d.endpoints[at.index] = *stays
		}
	}
	d.takeOut(out)
	d.dirty = d.dirty || d.owned
	return d
}

// judge returns what an endpoint in a bin is to be: itself, another of its identity, or nil. Full: the bin has no room
// for it.
func (k *keeper) judge(d *draft, id Identity, is *discoveryv1.Endpoint, full bool) *discoveryv1.Endpoint {
	sh := k.shelf
	want := k.group.wants(id)
	_, twice := k.seen[id]
	if want == nil || twice || full {
		if want != nil && !twice {
			k.over = append(k.over, want)
		}
		sh.note(id)
		d.sheds = d.sheds || want != nil || k.other(id)
		return nil
	}
	k.stay++
	if len(sh.more[id]) > 0 {
		if k.seen == nil {
			k.seen = map[Identity]struct{}{}
		}
		k.seen[id] = struct{}{}
		sh.note(id)
	}
	if !equalEndpoints(is, want) {
		sh.note(id)
		return want
	}
	if len(sh.more[id]) == 0 {
		sh.forget(id)
	}
	return is
}

// missing returns the endpoints that are wanted and in no bin, sorted.
func (k *keeper) missing() []*discoveryv1.Endpoint {
	sh := k.shelf
	missing := slices.DeleteFunc(k.over, func(e *discoveryv1.Endpoint) bool {
		_, seen := k.seen[IdentityOf(e)]
		return seen
	})
	switch {
	case !k.all:
		for id := range sh.pending {
			if _, held := sh.at[id]; held {
				continue
			}
			if want := k.group.wants(id); want != nil {
				missing = append(missing, want)
			} else {
				sh.forget(id)
			}
		}
	case k.group != nil && k.stay < len(k.group.endpoints):
		for id, w := range k.group.endpoints {
			if _, held := sh.at[id]; !held {
				missing = append(missing, w.endpoint)
				sh.note(id)
			}
		}
	}
	if len(missing) > 1 {
		slices.SortFunc(missing, func(a, b *discoveryv1.Endpoint) int { return IdentityOf(a).compare(IdentityOf(b)) })
	}
	return slices.Compact(missing)
}
