package endpoints

import (
	"cmp"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// maxTargets is into how many slices, beside those that are written anyway, a slice is emptied at most: a slice less is
// not worth more writes than that. What this leaves are slices that are, but for two, more than half full.
const maxTargets = 2

// roomy says whether the free room of some bins is a whole slice, so that one might be emptied into the others.
func roomy(bins, held, limit int) bool { return bins > 1 && bins*limit-held >= limit }

// spare says whether a bin of a shelf can be emptied into others that nothing else is written to.
func (sh *shelf) spare(limit int) bool {
	last := len(sh.bins) - 1
	if !roomy(len(sh.bins), sh.held, limit) {
		return false
	}
	room := 0
	for _, b := range sh.bins[max(0, last-maxTargets):last] {
		room += limit - len(b.slice.Endpoints)
	}
	return len(sh.bins[last].slice.Endpoints) <= room
}

// compact empties bins into others while the free room is a whole slice: always the one with the fewest endpoints,
// into bins that are written anyway, fullest first, then into the maxTargets with the most room. At most one slice's
// worth of endpoints is moved; more stays for the next plan. While the Service is busy, only bins that are written
// anyway take part, so that it makes no write more.
func (p *planner) compact(sh *shelf, drafts []*draft) []*draft {
	limit := p.layout.opts.MaxEndpoints
	bins, held := len(sh.bins), sh.held
	for _, d := range drafts {
		held += len(d.endpoints) - d.held()
		switch {
		case len(d.endpoints) == 0 && d.bin != nil:
			bins--
		case len(d.endpoints) > 0 && d.bin == nil:
			bins++
		}
	}
	if !roomy(bins, held, limit) {
		return drafts
	}
	if !p.pass.Busy {
		drafts = draftAll(sh, drafts)
	}
	live := slices.DeleteFunc(slices.Clone(drafts), func(d *draft) bool { return len(d.endpoints) == 0 || p.pass.Busy && !d.dirty })
	for budget := limit; roomy(bins, held, limit); bins-- {
		source, targets := emptiest(live, limit)
		if source == nil {
			p.more = p.more || p.pass.Busy
			break
		}
		if len(source.endpoints) > budget {
			p.more = true
			break
		}
		budget -= len(source.endpoints)
		rest := pointers(source.endpoints)
		for _, d := range targets {
			rest = d.add(rest, limit)
		}
		source.endpoints, source.owned = nil, true
		source.dirty, source.sheds, source.emptied = true, true, true
		live = slices.DeleteFunc(live, func(d *draft) bool { return d == source })
	}
	return slices.DeleteFunc(drafts, func(d *draft) bool { return d.bin == nil && len(d.endpoints) == 0 })
}

// emptiest returns the draft with the fewest endpoints and those that take them; nil where there is no room for them.
func emptiest(live []*draft, limit int) (source *draft, targets []*draft) {
	if len(live) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(live, func(a, b *draft) int {
		return cmp.Or(cmp.Compare(len(b.endpoints), len(a.endpoints)), strings.Compare(a.name(), b.name()))
	})
	source, targets = live[len(live)-1], slices.Clone(live[:len(live)-1])
	slices.SortStableFunc(targets, compareTargets)
	clean, room := 0, 0
	targets = slices.DeleteFunc(targets, func(d *draft) bool {
		if !d.dirty {
			clean++
		}
		if clean > maxTargets {
			return true
		}
		room += limit - len(d.endpoints)
		return false
	})
	if room < len(source.endpoints) {
		return nil, nil
	}
	return source, targets
}

// compareTargets orders drafts by how gladly they take what another loses.
func compareTargets(a, b *draft) int {
	switch {
	case a.dirty && !b.dirty:
		return -1
	case !a.dirty && b.dirty:
		return 1
	case a.dirty:
		return cmp.Compare(len(b.endpoints), len(a.endpoints))
	default:
		return cmp.Compare(len(a.endpoints), len(b.endpoints))
	}
}

// draftAll returns drafts of all bins of a shelf.
func draftAll(sh *shelf, drafts []*draft) []*draft {
	drafted := make(map[*bin]struct{}, len(drafts))
	for _, d := range drafts {
		drafted[d.bin] = struct{}{}
	}
	for _, b := range sh.bins {
		if _, ok := drafted[b]; !ok {
			drafts = append(drafts, draftOf(b, sh.key))
		}
	}
	slices.SortStableFunc(drafts, compareDrafts)
	return drafts
}

func pointers(endpoints []discoveryv1.Endpoint) []*discoveryv1.Endpoint {
	pointers := make([]*discoveryv1.Endpoint, len(endpoints))
	for i := range endpoints {
		pointers[i] = &endpoints[i]
	}
	return pointers
}
