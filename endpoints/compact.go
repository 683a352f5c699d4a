package endpoints

import (
	"cmp"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// spare says whether bins of a shelf can be spared: there is more than one, and the free room of all is at least a
// whole slice.
func spare(bins, held, limit int) bool { return bins > 1 && bins*limit-held >= limit }

// compact empties bins into others while one can be spared: always the one with the fewest endpoints, into bins that
// are written anyway, fullest first, then into those with the most room. At most one slice's worth of endpoints is
// moved; more stays for the next plan. While the Service is busy, only bins that are written anyway take part, so that
// it makes no write more.
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
	if !spare(bins, held, limit) {
		return drafts
	}
	if !p.pass.Busy {
		drafts = draftAll(sh, drafts)
	}
	live := slices.DeleteFunc(slices.Clone(drafts), func(d *draft) bool { return len(d.endpoints) == 0 || p.pass.Busy && !d.dirty })
	for budget := limit; spare(bins, held, limit); bins-- {
		source := p.source(&live)
		if source == nil || len(source.endpoints) > budget {
			p.more = true
			break
		}
		budget -= len(source.endpoints)
		slices.SortStableFunc(live, compareDestinations)
		rest := pointers(source.endpoints)
		for _, d := range live {
			rest = d.add(rest, limit)
		}
		source.endpoints, source.owned = nil, true
		source.dirty, source.sheds, source.emptied = true, true, true
	}
	return slices.DeleteFunc(drafts, func(d *draft) bool { return d.bin == nil && len(d.endpoints) == 0 })
}

// source takes the draft with the fewest endpoints out of live; nil where the others have no room for them.
func (p *planner) source(live *[]*draft) *draft {
	slices.SortStableFunc(*live, func(a, b *draft) int {
		return cmp.Or(cmp.Compare(len(b.endpoints), len(a.endpoints)), strings.Compare(a.name(), b.name()))
	})
	last := len(*live) - 1
	if last < 0 {
		return nil
	}
	source := (*live)[last]
	room := 0
	for _, d := range (*live)[:last] {
		room += p.layout.opts.MaxEndpoints - len(d.endpoints)
	}
	if room < len(source.endpoints) {
		return nil
	}
	*live = (*live)[:last]
	return source
}

// compareDestinations orders drafts by how gladly they take what another loses.
func compareDestinations(a, b *draft) int {
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
