package nftables

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/dataplane/model"
)

// group is a group of endpoints as a table holds it.
type group struct {
	id uint32
	// slots are the endpoints by index: the one at a random index is picked.
	slots []netip.AddrPort
	// members numbers the endpoints for session affinity; a number stays with its endpoint.
	members map[netip.AddrPort]uint32
	empty   model.EmptyVerdict
	// frontends are those that lead to the group. The table has no other groups: a restart could not tell which they
	// are.
	frontends []model.FrontendKey
	// sticky counts the frontends with affinity.
	sticky int
}

// group returns a group of the table, a new one as the state has it if there is none.
func (t *table) group(key model.GroupKey, state *model.State) (*group, error) {
	if g := t.groups[key]; g != nil {
		return g, nil
	}
	id, err := t.newGroupID()
	if err != nil {
		return nil, err
	}
	g := &group{id: id}
	t.groups[key] = g
	t.updateGroup(key, state)
	return g, nil
}

// updateGroup makes a group, if the table has it, as it is in the state; if it is not in there, nobody serves.
func (t *table) updateGroup(key model.GroupKey, state *model.State) {
	g := t.groups[key]
	if g == nil {
		return
	}
	var m model.Group
	if is := state.Groups[key]; is != nil {
		m = *is
	}
	g.empty = m.Empty
	t.setEndpoints(g, m.Endpoints)
}

func (t *table) newGroupID() (uint32, error) {
	if n := len(t.freeGroups); n > 0 {
		id := t.freeGroups[n-1]
		t.freeGroups = t.freeGroups[:n-1]
		return id, nil
	}
	if t.nextGroup > maxGroup {
		return 0, fmt.Errorf("numbering groups of endpoints: more than %d of IPv%d", maxGroup, t.number)
	}
	t.nextGroup++
	return t.nextGroup - 1, nil
}

// dropUnused lets a group go that no frontend leads to.
func (t *table) dropUnused(key model.GroupKey) {
	g := t.groups[key]
	if g == nil || len(g.frontends) > 0 {
		return
	}
	t.setEndpoints(g, nil)
	t.leaving = append(t.leaving, g.id)
	delete(t.groups, key)
}

// word is the group's scratch word with some low bits.
func (t *table) groupWord(g *group, low uint32) string {
	return t.word(g.id<<groupShift | low)
}

// setEndpoints gives a group its endpoints. Of those that stay, as few as possible change their index. Of more
// than maxMember endpoints the first are taken.
func (t *table) setEndpoints(g *group, endpoints []model.Endpoint) {
	endpoints = endpoints[:min(len(endpoints), maxMember)]
	want := make(map[netip.AddrPort]bool, len(endpoints))
	for _, e := range endpoints {
		want[e.Addr] = true
	}
	// 1. Keep those that stay, note the holes.
	var holes []int
	old := len(g.slots)
	for i, e := range g.slots {
		if want[e] {
			delete(want, e)
			continue
		}
		t.leave(g, e)
		holes = append(holes, i)
	}
	// 2. New ones fill the holes, then go to the end.
	for _, e := range endpoints {
		if !want[e.Addr] {
			continue
		}
		delete(want, e.Addr)
		t.hairpins[e.Addr.Addr()]++
		if len(holes) > 0 {
			g.slots[holes[0]], holes = e.Addr, holes[1:]
		} else {
			g.slots = append(g.slots, e.Addr)
		}
	}
	// 3. The last ones fill the holes that are left; hole by hole from the end, so that no hole moves.
	for i := len(holes) - 1; i >= 0; i-- {
		end := len(g.slots) - 1
		g.slots[holes[i]] = g.slots[end]
		g.slots = g.slots[:end]
	}
	for i := len(g.slots); i < old; i++ {
		t.remove(setEndpoints, t.indexKey(g.id<<groupShift, i))
		t.remove(setSlots, t.indexKey(g.id<<groupShift, i))
	}
	t.writeEndpoints(g)
}

// leave counts an endpoint out that was in a slot.
func (t *table) leave(g *group, e netip.AddrPort) {
	a := e.Addr()
	if t.hairpins[a]--; t.hairpins[a] == 0 {
		delete(t.hairpins, a)
		t.remove(setHairpin, t.addr(a)+t.addr(a))
	}
	t.forget(g, e)
}

// forget takes an endpoint out of the memory of session affinity.
func (t *table) forget(g *group, e netip.AddrPort) {
	if n, ok := g.members[e]; ok {
		delete(g.members, e)
		t.remove(setMembers, t.groupWord(g, n))
		t.remove(setBackends, t.groupWord(g, n))
	}
}

// writeEndpoints writes the elements of a group's endpoints.
func (t *table) writeEndpoints(g *group) {
	for i, e := range g.slots {
		t.put(setEndpoints, t.indexKey(g.id<<groupShift, i), t.endpoint(e))
		t.put(setHairpin, t.addr(e.Addr())+t.addr(e.Addr()), "")
	}
	if g.sticky == 0 {
		return
	}
	used := make(map[uint32]bool, len(g.members))
	for _, n := range g.members {
		used[n] = true
	}
	for i, e := range g.slots {
		n, ok := g.members[e]
		if !ok {
			n = t.nextMember(used)
			used[n] = true
			if g.members == nil {
				g.members = map[netip.AddrPort]uint32{}
			}
			g.members[e] = n
		}
		word := t.groupWord(g, n)
		t.put(setMembers, word, "")
		t.put(setBackends, word, t.endpoint(e))
		t.put(setSlots, t.indexKey(g.id<<groupShift, i), word)
	}
}

// nextMember returns a number that is not used in a group; there are more numbers than endpoints.
func (t *table) nextMember(used map[uint32]bool) uint32 {
	for {
		t.lastMember = t.lastMember%maxMember + 1
		if !used[t.lastMember] {
			return t.lastMember
		}
	}
}

// stick tells a group that one more frontend has affinity, or (-1) one less.
func (t *table) stick(g *group, by int) {
	g.sticky += by
	switch {
	case g.sticky == 0:
		for i, e := range g.slots {
			t.forget(g, e)
			t.remove(setSlots, t.indexKey(g.id<<groupShift, i))
		}
	case g.sticky == 1 && by == 1:
		t.writeEndpoints(g)
	}
}

// fate returns the number of what happens to new connections of a group.
func (t *table) fate(g *group, affinity time.Duration) uint32 {
	if len(g.slots) == 0 {
		if g.empty == model.Drop {
			return fateDrop
		}
		return fateRefuse
	}
	f := fate{endpoints: len(g.slots), affinity: wholeSeconds(affinity)}
	n, ok := t.numberFate(f)
	if !ok {
		f = t.nearestFate(f)
		n = t.fates[f]
	}
	t.put(setFates, t.word(n), f.chain())
	return n
}

// numberFate returns the number of a fate, a new one if it has none; ok is false where none is left.
func (t *table) numberFate(f fate) (n uint32, ok bool) {
	if n, ok = t.fates[f]; ok {
		return n, true
	}
	if n, ok = t.freeFate(); !ok {
		t.retireFates()
		if n, ok = t.freeFate(); !ok {
			return 0, false
		}
	}
	t.fates[f] = n
	t.newFates = append(t.newFates, f)
	return n, true
}

// lastResort is the fate that a table always has: every group with endpoints can do with it.
var lastResort = fate{endpoints: 1}

// nearestFate returns the fate a table has that comes nearest to one for which it has no number left: with affinity if
// that is wanted, to as many of the group's endpoints as possible, for about the same time. Whoever makes a thousand
// Services that differ so thereby costs some of them a little, and nobody their changes.
func (t *table) nearestFate(f fate) fate {
	likes := func(g fate) int {
		if (g.affinity > 0) == (f.affinity > 0) {
			return 1
		}
		return 0
	}
	distance := func(g fate) time.Duration { return (g.affinity - f.affinity).Abs() }
	worth := func(a, b fate) int { // more than 0: a is the better one
		return cmp.Or(cmp.Compare(likes(a), likes(b)), cmp.Compare(a.endpoints, b.endpoints),
			cmp.Compare(distance(b), distance(a)), cmp.Compare(a.affinity, b.affinity))
	}
	best := lastResort
	for g := range t.fates {
		if g.endpoints <= f.endpoints && worth(g, best) > 0 {
			best = g
		}
	}
	return best
}

// freeFate finds a number that no fate has.
func (t *table) freeFate() (n uint32, ok bool) {
	used := make(map[uint32]bool, len(t.fates))
	for _, n := range t.fates {
		used[n] = true
	}
	for n = firstFreeFate; used[n]; n++ {
	}
	return n, n <= fateMask
}

// retireFates frees the numbers of fates, but for the last resort, that no frontend has, nor has in the kernel until the changes are sent.
func (t *table) retireFates() {
	used := map[uint32]bool{}
	for _, s := range frontendSets {
		for _, data := range t.elements[s] {
			used[parseWord(data)&fateMask] = true
		}
		for _, old := range t.changed[s].entries {
			if old.there {
				used[parseWord(old.data)&fateMask] = true
			}
		}
	}
	for f, n := range t.fates {
		if !used[n] && f != lastResort {
			t.remove(setFates, t.word(n))
		}
	}
	t.forgetFates()
}

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
