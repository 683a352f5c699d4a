package endpoints

import (
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// shelf is the bins that hold endpoints of one group.
type shelf struct {
	key groupKey
	// bins are sorted by compareBins; held counts their endpoints.
	bins []*bin
	held int
	// at says where an endpoint is, more where else it is, in another bin or the same.
	at   map[Identity]place
	more map[Identity][]*bin
	// wrong are the bins that have other labels than they should.
	wrong map[*bin]struct{}
	// pending are the endpoints that are not where, or not what, they should be, or may not be. All: any may be one.
	pending map[Identity]struct{}
	all     bool
	// unsettled says that a plan has to look at it, loose that a bin can be freed; listed, that it is in the work.
	unsettled, loose, listed bool
}

// place is a position in a bin. The endpoint is there or, since removals move those behind, mostly a little before.
type place struct {
	bin   *bin
	index int32
}

// find returns the index of an endpoint that is at a place.
func (p place) find(id Identity) int {
	endpoints := p.bin.slice.Endpoints
	for i := min(int(p.index), len(endpoints)-1); i >= 0; i-- {
		if IdentityOf(&endpoints[i]) == id {
			return i
		}
	}
	return slices.IndexFunc(endpoints, func(e discoveryv1.Endpoint) bool { return IdentityOf(&e) == id })
}

func (sh *shelf) putOn(id Identity, p place) {
	if _, ok := sh.at[id]; !ok {
		sh.at[id] = p
		return
	}
	if sh.more == nil {
		sh.more = map[Identity][]*bin{}
	}
	sh.more[id] = append(sh.more[id], p.bin)
}

func (sh *shelf) takeOff(id Identity, b *bin) {
	more := sh.more[id]
	if len(more) == 0 {
		delete(sh.at, id)
		return
	}
	if at := slices.Index(more, b); at >= 0 {
		more = slices.Delete(more, at, at+1)
	} else {
		sh.at[id], more = place{bin: more[0]}, more[1:]
	}
	if sh.more[id] = more; len(more) > 0 {
		return
	}
	if delete(sh.more, id); len(sh.more) == 0 {
		sh.more = nil
	}
}

// check notes whether an endpoint is pending, given what a slice says of it: nil where it was taken out of one.
func (sh *shelf) check(group *group, id Identity, endpoint *discoveryv1.Endpoint) {
	if sh.all {
		return
	}
	want := group.wants(id)
	fine := len(sh.more[id]) == 0 && (want == nil && sh.at[id].bin == nil || want != nil && endpoint != nil && equalEndpoints(want, endpoint))
	if fine {
		sh.forget(id)
	} else {
		sh.note(id)
	}
}

func (sh *shelf) note(id Identity) {
	if sh.pending == nil {
		sh.pending = map[Identity]struct{}{}
	}
	sh.pending[id] = struct{}{}
}

// forget takes an endpoint off those pending. A map that was large once would stay slow to go through.
func (sh *shelf) forget(id Identity) {
	if delete(sh.pending, id); len(sh.pending) == 0 {
		sh.pending = nil
	}
}

// overfull says whether a bin holds more than it may.
func (sh *shelf) overfull(limit int) bool {
	return len(sh.bins) > 0 && len(sh.bins[0].slice.Endpoints) > limit
}

// compareBins orders the fullest first, then by name.
func compareBins(a, b *bin) int {
	if d := len(b.slice.Endpoints) - len(a.slice.Endpoints); d != 0 {
		return d
	}
	return strings.Compare(a.slice.Name, b.slice.Name)
}
