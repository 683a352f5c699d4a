package nftables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/dataplane/model"
)

// applyChanges brings the tables' elements from one state to the next, given the difference.
func (b *Backend) applyChanges(state *model.State, c *model.Changes) error {
	var touched []model.GroupKey
	for _, g := range c.Groups {
		touched = append(touched, g.Key)
	}
	touched = append(touched, c.GroupsGone...)
	for _, key := range touched {
		b.tableOf(key.Family).updateGroup(key, state)
	}
	// A group whose frontends all change stays, with what it remembers, since the new ones join before the old ones leave.
	for _, f := range c.Frontends {
		if err := b.tableFor(f.Key.Addr).setFrontend(f, state); err != nil {
			return err
		}
	}
	for _, key := range c.FrontendsGone {
		b.tableFor(key.Addr).removeFrontend(key)
	}
	for _, key := range touched {
		t := b.tableOf(key.Family)
		if t.groups[key] == nil {
			continue
		}
		for _, f := range t.groups[key].frontends {
			t.writeFrontend(f)
		}
	}
	for _, a := range c.ClusterIPsGone {
		t := b.tableFor(a)
		t.remove(setClusterIPs, t.addr(a))
	}
	for _, a := range c.ClusterIPs {
		t := b.tableFor(a)
		t.put(setClusterIPs, t.addr(a), "")
	}
	if c.Node {
		b.applyNode(&state.Node)
	}
	return nil
}

// applyAll puts everything that a state has, of which frontends and groups are the sorted parts.
func (b *Backend) applyAll(state *model.State, frontends []*model.Frontend, groups []*model.Group) error {
	for _, g := range groups {
		b.tableOf(g.Key.Family).updateGroup(g.Key, state)
	}
	for _, t := range b.tables {
		t.put(setFates, t.word(fateRefuse), chainRefuse)
		t.put(setFates, t.word(fateDrop), dropVerdict)
		if n, ok := t.numberFate(lastResort); ok {
			t.put(setFates, t.word(n), lastResort.chain())
		}
	}
	for _, f := range frontends {
		if err := b.tableFor(f.Key.Addr).setFrontend(f, state); err != nil {
			return err
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(state.ClusterIPs), netip.Addr.Compare) {
		t := b.tableFor(a)
		t.put(setClusterIPs, t.addr(a), "")
	}
	b.applyNode(&state.Node)
	return nil
}

// setFrontend puts a frontend, in the place of the one with its key if there is one.
func (t *table) setFrontend(f *model.Frontend, state *model.State) error {
	old, had := t.frontends[f.Key]
	t.frontends[f.Key] = f
	// The groups are joined before others are left, so that one that stays forgets nothing.
	for _, key := range groupKeys(f) {
		g, err := t.group(key, state)
		if err != nil {
			return err
		}
		if !slices.Contains(g.frontends, f.Key) {
			g.frontends = append(g.frontends, f.Key)
		}
		if f.Affinity > 0 {
			t.stick(g, 1)
		}
	}
	if had {
		t.leaveGroups(old, groupKeys(f))
	}
	for _, key := range t.sourceRanges(f) {
		t.put(setSourceRanges, key, "")
	}
	t.writeFrontend(f.Key)
	return nil
}

// removeFrontend removes a frontend, if it is there.
func (t *table) removeFrontend(key model.FrontendKey) {
	f, ok := t.frontends[key]
	if !ok {
		return
	}
	delete(t.frontends, key)
	internal, external := t.frontendSets(key)
	t.remove(internal, t.frontendKey(key))
	t.remove(external, t.frontendKey(key))
	t.leaveGroups(f, nil)
}

// leaveGroups undoes what setFrontend did for a frontend, but that the groups in kept go on to serve its key.
func (t *table) leaveGroups(f *model.Frontend, kept []model.GroupKey) {
	for _, key := range t.sourceRanges(f) {
		t.remove(setSourceRanges, key)
	}
	for _, key := range groupKeys(f) {
		g := t.groups[key]
		if !slices.Contains(kept, key) {
			g.frontends = slices.DeleteFunc(g.frontends, func(k model.FrontendKey) bool { return k == f.Key })
		}
		if f.Affinity > 0 {
			t.stick(g, -1)
		}
		t.dropUnused(key)
	}
}

// writeFrontend puts the elements of a frontend that the table has.
func (t *table) writeFrontend(key model.FrontendKey) {
	f := t.frontends[key]
	internal, external := t.frontendSets(key)
	t.put(internal, t.frontendKey(key), t.frontendWord(f, f.Internal))
	if f.External == f.Internal {
		t.remove(external, t.frontendKey(key))
		return
	}
	t.put(external, t.frontendKey(key), t.frontendWord(f, f.External))
}

// frontendWord is the scratch word of packets to a frontend that one of its groups serves.
func (t *table) frontendWord(f *model.Frontend, key model.GroupKey) string {
	g := t.groups[key]
	low := t.fate(g, f.Affinity)
	for flag, set := range map[uint32]bool{
		flagPods:    f.Masquerade.Pods,
		flagHost:    f.Masquerade.Host,
		flagOutside: f.Masquerade.Outside,
		flagGuarded: t.guarded(f),
	} {
		if set {
			low |= flag
		}
	}
	return t.groupWord(g, low)
}

func (t *table) frontendSets(key model.FrontendKey) (internal, external setID) {
	if key.Addr.IsUnspecified() {
		return setNodePorts, setExternalNodePorts
	}
	return setFrontends, setExternal
}

// guarded is false when everybody may use a frontend.
func (t *table) guarded(f *model.Frontend) bool {
	everybody := netip.PrefixFrom(zeroAddr(t.number), 0)
	return f.SourceRanges != nil && !f.Key.Addr.IsUnspecified() && !slices.Contains(t.own(f.SourceRanges), everybody)
}

// sourceRanges encodes who may use a guarded frontend.
func (t *table) sourceRanges(f *model.Frontend) []string {
	if !t.guarded(f) {
		return nil
	}
	var keys []string
	to := t.frontendKey(f.Key)
	for _, p := range t.own(f.SourceRanges) {
		keys = append(keys, to+t.addr(p.Addr())+to+t.addr(lastAddr(p)))
	}
	return keys
}

// applyNode puts what the node is.
func (b *Backend) applyNode(n *model.Node) {
	for _, t := range b.tables {
		t.replace(setServiceRanges, t.ranges(n.ServiceRanges))
		t.replace(setLocalRanges, t.ranges(n.LocalRanges))
		t.replace(setNodePortAddresses, t.ranges(t.nodePortAddresses(&n.NodePorts)))
		if !slices.Equal(t.localInterfaces, n.LocalInterfaces) {
			t.localInterfaces, t.interfacesChanged = slices.Clone(n.LocalInterfaces), true
		}
	}
}

func (t *table) nodePortAddresses(n *model.NodePortAddresses) []netip.Prefix {
	if n.AllIPv4 && t.number == 4 || n.AllIPv6 && t.number == 6 {
		return []netip.Prefix{netip.PrefixFrom(zeroAddr(t.number), 0)}
	}
	var prefixes []netip.Prefix
	for _, a := range n.Addrs {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return prefixes
}

func zeroAddr(family uint8) netip.Addr {
	if family == 4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// groupKeys are the groups of a frontend, none twice.
func groupKeys(f *model.Frontend) []model.GroupKey {
	if f.Internal == f.External {
		return []model.GroupKey{f.Internal}
	}
	return []model.GroupKey{f.Internal, f.External}
}

// tableOf returns the table of a family, tableFor that of an address.
func (b *Backend) tableOf(family uint8) *table {
	if family == 4 {
		return b.tables[0]
	}
	return b.tables[1]
}

func (b *Backend) tableFor(a netip.Addr) *table {
	if a.Is4() {
		return b.tables[0]
	}
	return b.tables[1]
}

// validate refuses frontends and groups that no table can hold: the kernel's error would not name them.
func validate(frontends []*model.Frontend, groups []*model.Group) error {
	for _, f := range frontends {
		if n := familyOf(f.Key.Addr); n == 0 || f.Internal.Family != n || f.External.Family != n {
			return fmt.Errorf("frontend %v port %d of Service %s/%s: its groups are not of its address family",
				f.Key.Addr, f.Key.Port, f.Port.Namespace, f.Port.Name)
		}
	}
	for _, g := range groups {
		for _, e := range g.Endpoints {
			if familyOf(e.Addr.Addr()) != g.Key.Family {
				return fmt.Errorf("endpoint %v of Service %s/%s: it is not of its group's address family",
					e.Addr, g.Key.Port.Namespace, g.Key.Port.Name)
			}
		}
	}
	return nil
}

// familyOf is the family of an address as in model.GroupKey; 0: none, or IPv4 in the form of IPv6.
func familyOf(a netip.Addr) uint8 {
	switch {
	case a.Is4():
		return 4
	case a.Is6() && !a.Is4In6():
		return 6
	}
	return 0
}
