package endpoints

import (
	"cmp"
	"slices"
	"strings"
)

// compact empties bins into others while the free room of all is at least a whole slice: always the bin with the
// fewest endpoints, into bins that are written anyway, fullest first, then into those with the most room. At most one
// slice's worth of endpoints is moved; more stays for the next plan.
func (p *packer) compact(bins []*bin) []*bin {
	limit := p.opts.MaxEndpoints
	live := slices.DeleteFunc(slices.Clone(bins), func(b *bin) bool { return len(b.endpoints) == 0 })
	free := 0
	for _, b := range live {
		free += limit - len(b.endpoints)
	}
	for budget := limit; free >= limit && len(live) > 1; free -= limit {
		slices.SortStableFunc(live, func(a, b *bin) int {
			return compareAll(cmp.Compare(len(b.endpoints), len(a.endpoints)), strings.Compare(a.name, b.name))
		})
		source := live[len(live)-1]
		if len(source.endpoints) > budget {
			p.more = true
			break
		}
		budget -= len(source.endpoints)
		live = live[:len(live)-1]
		slices.SortStableFunc(live, compareDestinations)
		rest := source.endpoints
		for _, b := range live {
			rest = b.add(rest, limit)
		}
		source.endpoints, source.dirty, source.sheds, source.emptied = nil, true, true, true
	}
	return slices.DeleteFunc(bins, func(b *bin) bool { return b.old == nil && len(b.endpoints) == 0 })
}

// compareDestinations orders bins by how gladly they take what another bin loses.
func compareDestinations(a, b *bin) int {
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
