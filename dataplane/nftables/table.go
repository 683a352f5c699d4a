package nftables

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/fairlead/fairlead/dataplane/model"
)

// table is the table of one family: what the kernel holds, what it shall hold, and how groups and frontends are
// numbered.
type table struct {
	program
	table *nftables.Table
	set   [setCount]*nftables.Set

	// elements is what the sets hold once changed has been sent.
	elements [setCount]map[string]string
	// changed has what the kernel holds of elements that differ.
	changed [setCount]journal
	// wanted has, during a full sync, what belongs into the sets that were not empty; nil otherwise.
	wanted *[setCount]map[string]struct{}

	groups    map[model.GroupKey]*group
	frontends map[model.FrontendKey]*model.Frontend
	// hairpins counts the endpoints by address.
	hairpins map[netip.Addr]int

	fates map[fate]uint32
	// newFates have no chains yet.
	newFates []fate
	// interfacesChanged is true when chain local-interfaces must be written anew.
	interfacesChanged bool

	// Numbers of groups: those from nextGroup on and those in freeGroups are free. leaving ones become free once
	// nothing in the kernel mentions them.
	nextGroup  uint32
	freeGroups []uint32
	leaving    []uint32
	// lastMember is the number that a member of a group was given last. One that became free, even with its group, is used
	// again as late as possible: clients that are remembered with it would all go to its new owner.
	lastMember uint32
}

// prior is what the kernel holds for a key; there is false when it holds nothing.
type prior struct {
	data  string
	there bool
}

// journal has priors in the order in which their keys were first changed, which is that of writing.
type journal struct {
	noted   map[string]struct{}
	entries []entry
}

type entry struct {
	key string
	prior
}

func newTable(f *family, o Options) *table {
	t := &table{
		program: program{family: f, sets: f.sets(), masqueradeMark: o.MasqueradeMark, randomFully: !o.MasqueradePredictable},
		table:   &nftables.Table{Name: o.Table, Family: f.table},
	}
	for i, spec := range t.sets {
		t.set[i] = spec.set(t.table)
	}
	t.reset()
	return t
}

// reset forgets everything.
func (t *table) reset() {
	for i := range t.elements {
		t.elements[i] = map[string]string{}
		t.changed[i] = journal{}
	}
	t.groups = map[model.GroupKey]*group{}
	t.frontends = map[model.FrontendKey]*model.Frontend{}
	t.hairpins = map[netip.Addr]int{}
	t.fates = map[fate]uint32{}
	t.newFates = nil
	t.localInterfaces, t.interfacesChanged = nil, false
	t.nextGroup, t.freeGroups, t.leaving, t.lastMember = 1, nil, nil, 0
	t.wanted = nil
}

// put sees to it that an element is there.
func (t *table) put(s setID, key, data string) {
	if t.wanted != nil && t.wanted[s] != nil {
		t.wanted[s][key] = struct{}{}
	}
	is, there := t.elements[s][key]
	if there && is == data {
		return
	}
	t.note(s, key, prior{is, there})
	t.elements[s][key] = data
}

// remove sees to it that an element is not there.
func (t *table) remove(s setID, key string) {
	if t.wanted != nil {
		delete(t.wanted[s], key)
	}
	if is, there := t.elements[s][key]; there {
		t.note(s, key, prior{is, true})
		delete(t.elements[s], key)
	}
}

func (t *table) note(s setID, key string, p prior) {
	j := &t.changed[s]
	if _, noted := j.noted[key]; noted {
		return
	}
	if j.noted == nil {
		j.noted = map[string]struct{}{}
	}
	j.noted[key] = struct{}{}
	j.entries = append(j.entries, entry{key, p})
}

// replace sees to it that a set holds exactly some keys.
func (t *table) replace(s setID, keys []string) {
	for _, key := range keys {
		t.put(s, key, "")
	}
	for _, key := range slices.Sorted(maps.Keys(t.elements[s])) {
		if !slices.Contains(keys, key) {
			t.remove(s, key)
		}
	}
}

// want begins to note what is put.
func (t *table) want() {
	t.wanted = new([setCount]map[string]struct{})
	for s := range t.elements {
		if len(t.elements[s]) > 0 {
			t.wanted[s] = make(map[string]struct{}, len(t.elements[s]))
		}
	}
}

// sweep removes what nobody has put since wanted was made.
func (t *table) sweep() {
	for s := range t.elements {
		if t.wanted[s] == nil {
			continue // what is there was put
		}
		var unwanted []string
		for key := range t.elements[s] {
			if _, ok := t.wanted[s][key]; !ok {
				unwanted = append(unwanted, key)
			}
		}
		slices.Sort(unwanted)
		for _, key := range unwanted {
			t.remove(setID(s), key)
		}
	}
	t.wanted = nil
}

// change is one element to be written.
type change struct {
	t    *table
	set  setID
	key  string
	old  prior
	data string
	now  bool // false: it goes
}

// size estimates the bytes of the change's messages.
func (c change) size() int {
	const attributes = 48
	n := 0
	if c.old.there {
		n += len(c.key) + attributes
	}
	if c.now {
		n += len(c.key) + len(c.data) + attributes
	}
	return n
}

// pending appends the changes to one set, and of those only the ones that leave an element behind, or only the ones that
// do not.
func (t *table) pending(cs []change, s setID, now bool) []change {
	for _, e := range t.changed[s].entries {
		data, is := t.elements[s][e.key]
		if is != now || !is && !e.there || is && e.there && e.data == data {
			continue
		}
		cs = append(cs, change{t: t, set: s, key: e.key, old: e.prior, data: data, now: is})
	}
	return cs
}

// differences counts the elements that pending has, about.
func (t *table) differences() int {
	n := 0
	for _, j := range t.changed {
		n += len(j.entries)
	}
	return n
}

// sent is called when the kernel holds what elements says.
func (t *table) sent() {
	for s := range t.changed {
		t.changed[s] = journal{} // not cleared: that would cost as much as the largest sync there ever was
	}
	t.newFates, t.interfacesChanged = nil, false
	t.freeGroups = append(t.freeGroups, t.leaving...)
	t.leaving = nil
}

// ranges encodes address prefixes of the table's family as disjoint ranges, neighbours merged.
func (t *table) ranges(prefixes []netip.Prefix) []string {
	var keys []string
	for _, p := range t.own(prefixes) {
		// After the last address there is none, which addr makes an open end of.
		start, end := t.addr(p.Addr()), t.addr(lastAddr(p).Next())
		if n := len(keys) - 1; n >= 0 && keys[n][t.addrLen:] == start {
			keys[n] = keys[n][:t.addrLen] + end
		} else {
			keys = append(keys, start+end)
		}
	}
	return keys
}

// own returns the prefixes of the table's family, masked and sorted, without those that are inside another: no two overlap.
func (t *table) own(prefixes []netip.Prefix) []netip.Prefix {
	var own []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().BitLen() == 8*t.addrLen {
			own = append(own, p.Masked())
		}
	}
	slices.SortFunc(own, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var outer []netip.Prefix
	for _, p := range own {
		if n := len(outer); n == 0 || !outer[n-1].Overlaps(p) {
			outer = append(outer, p)
		}
	}
	return outer
}

// lastAddr is the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
