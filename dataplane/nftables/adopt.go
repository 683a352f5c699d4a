package nftables

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
)

// found is what the kernel has of a table, besides the elements of its sets.
type found struct {
	// usable is false when there is no table, or one whose sets, elements or hooks are not such as ours: it is replaced.
	exists, usable bool
	// asleep is true when somebody has set the table's flag dormant, which turns its hooks off.
	asleep bool
	sets   map[string]*nftables.Set
	chains map[string]*nftables.Chain
	rules  map[string][]*nftables.Rule
	// expressions has of each rule how many there are.
	expressions map[string][]int
}

// read reads a table of the kernel; its elements go into t.
func (b *Backend) read(t *table) (*found, error) {
	t.reset()
	f := &found{
		sets: map[string]*nftables.Set{}, chains: map[string]*nftables.Chain{}, rules: map[string][]*nftables.Rule{},
	}
	is, err := findTable(b.conn, t.table)
	if err != nil || is == nil {
		return f, err
	}
	if err := othersOwn(is); err != nil {
		return nil, err
	}
	f.exists, f.asleep = true, is.Flags&nftables.TableFlagDormant != 0
	if err := b.readNamed(t, f); err != nil {
		return nil, err
	}
	if f.usable = is.Flags&^nftables.TableFlagDormant == 0 && t.canKeep(f); !f.usable {
		return f, nil
	}
	if f.expressions, err = b.conn.expressions(t.table); err != nil {
		return nil, fmt.Errorf("listing rules: %w", err)
	}
	for name, c := range f.chains {
		// Rules that the library cannot parse are none that we made: they count as different from ours.
		f.rules[name], _ = b.conn.GetRules(t.table, c)
	}
	for id, spec := range t.sets {
		if spec.kind == kernelsOwn || f.sets[spec.name] == nil {
			continue
		}
		if t.elements[id], err = readElements(b.conn.elements, spec, t.set[id]); errors.Is(err, errStrange) {
			t.reset()
			f.usable = false
			return f, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// readNamed reads the chains and sets of a table, the sets only by name if they are none of ours.
func (b *Backend) readNamed(t *table, f *found) error {
	names, err := b.conn.names(unix.NFT_MSG_GETCHAIN, t.table)
	if err != nil {
		return fmt.Errorf("listing chains: %w", err)
	}
	for _, name := range names {
		if f.chains[name], err = b.conn.ListChain(t.table, name); err != nil {
			return fmt.Errorf("reading chain %s: %w", name, err)
		}
	}
	if names, err = b.conn.names(unix.NFT_MSG_GETSET, t.table); err != nil {
		return fmt.Errorf("listing sets: %w", err)
	}
	for _, name := range names {
		f.sets[name] = &nftables.Set{}
		if slices.ContainsFunc(t.set[:], func(s *nftables.Set) bool { return s.Name == name }) {
			if s, err := b.conn.GetSetByName(t.table, name); err == nil { // what the library cannot parse is not as we made it
				f.sets[name] = s
			}
		}
	}
	return nil
}

// errStrange says that somebody added an element that cannot be compared with ours, nor be deleted by its key.
var errStrange = errors.New("it has an element that is none of ours")

// maxReads bounds the tries to read a set while the kernel resizes it, which takes fractions of a second.
const maxReads = 100

// readElements reads the elements of a set. While the kernel resizes the hash table behind a set (in the background,
// after elements were added), a listing has some elements twice and as many not at all: then it is read again.
func readElements(list func(*nftables.Set, func(element)) error, spec setSpec, set *nftables.Set) (map[string]string, error) {
	for range maxReads {
		elements := map[string]string{}
		var ends []rangeEnd
		listed, strange := 0, false
		err := list(set, func(e element) {
			if e.strange {
				strange = true
				return
			}
			if spec.kind == ranges { // a tree, not a hash table
				ends = append(ends, rangeEnd{string(e.key), e.end})
				return
			}
			key, data := spec.parse(e)
			elements[key] = data
			listed++
		})
		if strange {
			err = errStrange
		}
		if err != nil {
			return nil, fmt.Errorf("listing set %s: %w", spec.name, err)
		}
		for _, key := range pairRanges(ends) {
			elements[key] = ""
		}
		if listed == len(elements) || spec.kind == ranges {
			return elements, nil
		}
	}
	return nil, fmt.Errorf("listing set %s: it was still being resized at the %dth try", spec.name, maxReads)
}

// canKeep tells whether a table can be mended in place: its sets and hooks are either ours or missing.
func (t *table) canKeep(f *found) bool {
	for _, want := range t.set {
		if is := f.sets[want.Name]; is != nil && !sameSet(is, want) {
			return false
		}
	}
	for _, c := range t.chains() {
		is := f.chains[c.name]
		if is == nil {
			continue
		}
		if (is.Hooknum == nil) != (c.hook == nil) {
			return false
		}
		if c.hook != nil && (*is.Hooknum != *c.hook || *is.Priority != *c.priority || is.Type != c.kind ||
			is.Policy != nil && *is.Policy != nftables.ChainPolicyAccept) {
			return false
		}
	}
	return true
}

func sameSet(a, b *nftables.Set) bool {
	return a.KeyType.GetNFTMagic() == b.KeyType.GetNFTMagic() && a.KeyType.Bytes == b.KeyType.Bytes &&
		a.DataType.GetNFTMagic() == b.DataType.GetNFTMagic() &&
		a.IsMap == b.IsMap && a.Interval == b.Interval && a.Concatenation == b.Concatenation &&
		a.Dynamic == b.Dynamic && a.HasTimeout == b.HasTimeout && a.Constant == b.Constant && a.Size == b.Size
}

// adopt numbers the groups of a state, their endpoints and the fates as the kernel has them, as far as it does,
// so that a restart of the agent finds nothing to write and remembered clients stay where they are.
func (t *table) adopt(frontends []*model.Frontend) {
	for key, chain := range t.elements[setFates] {
		if f, ok := parseFate(chain); ok {
			t.fates[f] = parseWord(key)
		}
	}
	// 1. Numbers that the kernel mentions are not given to new groups: packets in flight may carry them.
	used := map[uint32]bool{0: true}
	slots := map[uint32]map[int]netip.AddrPort{}
	for key, data := range t.elements[setEndpoints] {
		word, index := t.parseIndexKey(key)
		id := word >> groupShift
		used[id] = true
		if slots[id] == nil {
			slots[id] = map[int]netip.AddrPort{}
		}
		if e, ok := t.parseEndpoint(data); ok {
			slots[id][index] = e
		}
	}
	for _, s := range frontendSets {
		for _, data := range t.elements[s] {
			used[parseWord(data)>>groupShift] = true
		}
	}
	// 2. A group is the one its frontends go to.
	owned := map[uint32]*group{}
	take := func(key model.GroupKey, s setID, f model.FrontendKey) {
		data, ok := t.elements[s][t.frontendKey(f)]
		if !ok || t.groups[key] != nil {
			return
		}
		if id := parseWord(data) >> groupShift; owned[id] == nil {
			owned[id] = &group{id: id}
			t.groups[key] = owned[id]
		}
	}
	for _, f := range frontends {
		if f.Key.Addr.BitLen() != 8*t.addrLen {
			continue
		}
		internal, external := t.frontendSets(f.Key)
		take(f.Internal, internal, f.Key)
		take(f.External, external, f.Key)
	}
	// 3. Its endpoints have the places and numbers they have.
	for id, g := range owned {
		for i := 0; slots[id][i].IsValid(); i++ {
			g.slots = append(g.slots, slots[id][i])
			t.hairpins[slots[id][i].Addr()]++
		}
	}
	for key, data := range t.elements[setBackends] {
		word := parseWord(key)
		g, n := owned[word>>groupShift], word&maxMember
		t.lastMember = max(t.lastMember, n)
		e, ok := t.parseEndpoint(data)
		if g == nil || n == 0 || !ok || !slices.Contains(g.slots, e) {
			continue
		}
		if g.members == nil {
			g.members = map[netip.AddrPort]uint32{}
		}
		g.members[e] = n
	}
	t.nextGroup = slices.Max(slices.Collect(maps.Keys(used))) + 1
	for id := uint32(1); id < t.nextGroup; id++ {
		if !used[id] {
			t.freeGroups = append(t.freeGroups, id)
		} else if owned[id] == nil {
			t.leaving = append(t.leaving, id)
		}
	}
}

// forgetFates frees the numbers of fates that are no element any more.
func (t *table) forgetFates() {
	for f, n := range t.fates {
		if _, ok := t.elements[setFates][t.word(n)]; !ok {
			delete(t.fates, f)
		}
	}
}

// writeProgram adds what is missing of a table, its sets and chains, and chains whose rules differ from ours.
func (b *Backend) writeProgram(tx *transaction, t *table, f *found) error {
	if !f.usable {
		if f.exists {
			b.conn.DelTable(t.table)
		}
		b.conn.AddTable(t.table)
	} else if f.asleep {
		b.conn.AddTable(t.table) // without flags
	}
	for _, set := range t.set {
		if f.usable && f.sets[set.Name] != nil {
			continue
		}
		set.ID = 0 // a number of this transaction is allocated
		if err := b.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("encoding set %s: %w", set.Name, err)
		}
	}
	for _, c := range t.allChains() {
		if f.usable && f.chains[c.name] != nil && f.hasRules(c) {
			continue
		}
		if err := b.writeChain(tx, t, c); err != nil {
			return err
		}
	}
	return nil
}

// allChains returns the fixed chains and those of the fates, none twice.
func (t *table) allChains() []chain {
	fates := slices.SortedFunc(maps.Keys(t.fates), func(a, b fate) int {
		return cmp.Or(cmp.Compare(a.affinity, b.affinity), cmp.Compare(a.endpoints, b.endpoints))
	})
	all := t.chains()
	seen := map[string]bool{}
	for _, f := range fates {
		for _, c := range t.fateChains(f) {
			if !seen[c.name] {
				all = append(all, c)
				seen[c.name] = true
			}
		}
	}
	return all
}

// hasRules tells whether a chain's rules are ours. The library passes over expressions that it does not know, so they are
// counted.
func (f *found) hasRules(c chain) bool {
	is, counts := f.rules[c.name], f.expressions[c.name]
	if len(is) != len(c.rules) || len(counts) != len(c.rules) {
		return false
	}
	for i, r := range c.rules {
		if counts[i] != len(r) || !reflect.DeepEqual(rule(is[i].Exprs), r) {
			return false
		}
	}
	return true
}

// deleteUnused deletes chains and sets that are not, or no longer, part of the program. Chains go in a
// transaction after the one that took the last element that led to them: before Linux 6.2 the kernel refuses both
// in one.
func (b *Backend) deleteUnused(t *table, f *found) error {
	if !f.usable {
		return nil
	}
	keep := map[string]bool{}
	for _, c := range t.allChains() {
		keep[c.name] = true
	}
	var stale []*nftables.Chain
	for _, name := range slices.Sorted(maps.Keys(f.chains)) {
		if !keep[name] {
			stale = append(stale, &nftables.Chain{Table: t.table, Name: name})
		}
	}
	for _, c := range stale {
		b.conn.FlushChain(c)
	}
	for _, s := range t.set {
		delete(f.sets, s.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(f.sets)) {
		b.conn.DelSet(&nftables.Set{Table: t.table, Name: name})
	}
	for _, c := range stale {
		b.conn.DelChain(c)
	}
	return b.conn.Flush()
}

// findTable returns nil if there is no such table.
func findTable(conn *connection, t *nftables.Table) (*nftables.Table, error) {
	found, err := conn.ListTableOfFamily(t.Name, t.Family)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for table %s: %w", t.Name, err)
	}
	return found, nil
}

// othersOwn is the error that another program has a table for itself, if it has.
func othersOwn(t *nftables.Table) error {
	if t.Flags&nftables.TableFlagOwner == 0 || t.Owner == 0 {
		return nil
	}
	return fmt.Errorf("another program (netlink port %d, mostly its process id) has the table for itself (flag owner): "+
		"end it, and the table goes", t.Owner)
}

func sortedGroups(state *model.State) []*model.Group {
	return slices.SortedFunc(maps.Values(state.Groups), func(a, b *model.Group) int {
		p, q := &a.Key.Port, &b.Key.Port
		return cmp.Or(
			cmp.Compare(p.Namespace, q.Namespace), cmp.Compare(p.Name, q.Name),
			cmp.Compare(p.Port, q.Port), cmp.Compare(p.Protocol, q.Protocol),
			cmp.Compare(a.Key.Family, b.Key.Family), cmp.Compare(a.Key.Scope, b.Key.Scope))
	})
}

func sortedFrontends(state *model.State) []*model.Frontend {
	return slices.SortedFunc(maps.Values(state.Frontends), func(a, b *model.Frontend) int {
		return cmp.Or(
			a.Key.Addr.Compare(b.Key.Addr), cmp.Compare(a.Key.Protocol, b.Key.Protocol), cmp.Compare(a.Key.Port, b.Key.Port))
	})
}
