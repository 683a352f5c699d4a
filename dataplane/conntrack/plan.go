package conntrack

import (
	"cmp"
	"slices"

	"github.com/fairlead/fairlead/dataplane/model"
)

// maxFilters is how many dumps of one family and protocol are asked for before one of the whole protocol takes their
// place. For each dump the kernel walks through its whole table; one of a protocol also copies all its flows.
const maxFilters = 8

// scope says which suspects are followed.
type scope struct{ flows, resets bool }

func (s scope) covers(p model.Protocol) bool {
	if p == model.TCP {
		return s.resets
	}
	return s.flows
}

// plan lists the dumps in which all flows that may be stale are found, sorted.
func plan(s *model.Suspects, in scope) []filter {
	type table struct {
		family   uint8
		protocol model.Protocol
	}
	wanted := map[table]map[filter]struct{}{}
	want := func(f filter) {
		t := table{f.family, f.protocol}
		if wanted[t] == nil {
			wanted[t] = map[filter]struct{}{}
		}
		wanted[t][f] = struct{}{}
	}
	for e, ended := range s.Endpoints {
		// Connections end with their endpoint alone.
		if p := e.Port.Protocol; in.covers(p) && (ended || p != model.TCP) {
			want(filter{family: familyOf(e.Addr.Addr().Is4()), protocol: p, from: e.Addr, translated: true})
		}
	}
	for key, was := range s.Frontends {
		nodePort := key.Addr.IsUnspecified()
		if !in.covers(key.Protocol) || nodePort && !was {
			continue
		}
		f := filter{family: familyOf(key.Addr.Is4()), protocol: key.Protocol, toPort: key.Port, translated: nodePort}
		if !nodePort {
			f.toAddr = key.Addr
		}
		want(f)
	}
	if s.All && in.flows {
		for _, family := range []uint8{4, 6} {
			wanted[table{family, model.UDP}] = map[filter]struct{}{{family: family, protocol: model.UDP}: {}}
		}
	}
	var all []filter
	for t, filters := range wanted {
		if len(filters) <= maxFilters {
			for f := range filters {
				all = append(all, f)
			}
			continue
		}
		wide := filter{family: t.family, protocol: t.protocol, translated: true}
		for f := range filters {
			wide.translated = wide.translated && f.translated
		}
		all = append(all, wide)
	}
	slices.SortFunc(all, filter.compare)
	return all
}

func (f filter) compare(other filter) int {
	return cmp.Or(cmp.Compare(f.family, other.family), cmp.Compare(f.protocol, other.protocol),
		f.toAddr.Compare(other.toAddr), cmp.Compare(f.toPort, other.toPort), f.from.Compare(other.from))
}

func familyOf(is4 bool) uint8 {
	if is4 {
		return 4
	}
	return 6
}
