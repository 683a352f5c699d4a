package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// TestDifference goes through random states by difference. After every step the kernel holds what the backend
// believes, serves exactly what the state says, and a restart has nothing to write.
func TestDifference(t *testing.T) {
	const seed, steps = 7, 60
	random := rand.New(rand.NewPCG(seed, 0))
	node := nstest.New(t, "node")
	w := &network{node: node}
	b := w.backend(t)
	state := randomState(random, nil)
	mustSync(t, b, state.State, nil)
	for step := range steps {
		next := randomState(random, state.State)
		changes := difference(state.State, next.State)
		gen := generation(t, node)
		mustSync(t, b, next.State, changes)
		state = next
		if got := generation(t, node) - gen; got > 1 {
			t.Errorf("step %d: %d transactions", step, got)
		}
		kernel := contents(t, b)
		if diff := cmp.Diff(held(b), kernel); diff != "" {
			t.Fatalf("step %d: believed, in the kernel:\n%s", step, diff)
		}
		if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
			t.Fatalf("step %d: expected, served:\n%s", step, diff)
		}
		if step%10 != 9 {
			continue
		}
		restarted := w.backendNoProbe(t)
		mustSync(t, restarted, state.State, nil) // deletes chains that are not used any more
		gen = generation(t, node)
		mustSync(t, w.backendNoProbe(t), state.State, nil)
		if got := generation(t, node); got != gen {
			t.Errorf("step %d: a restart wrote", step)
		}
		if diff := cmp.Diff(kernel, contents(t, b)); diff != "" && !onlyFates(diff) {
			t.Errorf("step %d: contents before and after a restart:\n%s", step, diff)
		}
		b = restarted
	}
}

// onlyFates tells whether all changed lines of a diff are about fates, which a restart tidies.
func onlyFates(diff string) bool {
	for line := range strings.Lines(diff) {
		if (line[0] == '+' || line[0] == '-') && !strings.Contains(line, " fates ") {
			return false
		}
	}
	return true
}

// randomState makes a state of a few Services; about two thirds of it are as in the last one.
func randomState(random *rand.Rand, last *model.State) cluster {
	c := newCluster()
	for n := range 8 {
		for _, family := range []uint8{4, 6} {
			keep := last != nil && random.IntN(3) > 0
			name := fmt.Sprint("svc", n)
			if keep {
				copyService(c, last, name, family)
				continue
			}
			if random.IntN(4) == 0 {
				continue
			}
			pods := random.Perm(9)[:random.IntN(6)]
			slices.Sort(pods)
			group := c.group(name, model.TCP, family, model.Cluster, model.EmptyVerdict(random.IntN(2)), pods...)
			external := group
			if random.IntN(2) == 0 {
				external = c.group(name, model.TCP, family, model.Local, model.Drop, pods[:len(pods)/2]...)
			}
			if random.IntN(6) == 0 {
				continue // another Service has all its addresses
			}
			var affinity time.Duration
			if random.IntN(2) == 0 {
				affinity = time.Duration(1+random.IntN(2)) * time.Hour
			}
			c.frontend(model.ClusterIP, vip(family, "cluster", n+1), 80, group, group, outsideOnly).Affinity = affinity
			lb := c.frontend(model.LoadBalancerIP, vip(family, "external", n+1), 80, group, external, everybody)
			lb.Affinity = affinity
			if random.IntN(2) == 0 {
				lb.SourceRanges = []netip.Prefix{netip.PrefixFrom(clientAddrs[family], 24+random.IntN(2))}
			}
			zero := netip.IPv4Unspecified()
			if family == 6 {
				zero = netip.IPv6Unspecified()
			}
			c.frontend(model.NodePort, zero.String(), uint16(30000+n), group, external, everybody).Affinity = affinity
		}
	}
	return c
}

func copyService(to cluster, from *model.State, name string, family uint8) {
	for key, g := range from.Groups {
		if key.Port.Name == name && key.Family == family {
			to.Groups[key] = g
		}
	}
	for key, f := range from.Frontends {
		if f.Port.Name == name && f.Internal.Family == family {
			to.Frontends[key] = f
			if f.Kind == model.ClusterIP {
				to.ClusterIPs[key.Addr]++
			}
		}
	}
}

// difference is what model would say.
func difference(a, b *model.State) *model.Changes {
	c := &model.Changes{}
	for key, f := range b.Frontends {
		if !cmp.Equal(a.Frontends[key], f, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
			c.Frontends = append(c.Frontends, f)
		}
	}
	for key := range a.Frontends {
		if b.Frontends[key] == nil {
			c.FrontendsGone = append(c.FrontendsGone, key)
		}
	}
	for key, g := range b.Groups {
		if !cmp.Equal(a.Groups[key], g, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
			c.Groups = append(c.Groups, g)
		}
	}
	for key := range a.Groups {
		if b.Groups[key] == nil {
			c.GroupsGone = append(c.GroupsGone, key)
		}
	}
	for addr := range b.ClusterIPs {
		if _, ok := a.ClusterIPs[addr]; !ok {
			c.ClusterIPs = append(c.ClusterIPs, addr)
		}
	}
	for addr := range a.ClusterIPs {
		if _, ok := b.ClusterIPs[addr]; !ok {
			c.ClusterIPsGone = append(c.ClusterIPsGone, addr)
		}
	}
	return c
}

// service is what the kernel serves at a frontend, read out of its maps as a packet would.
type service struct {
	Fate      string
	Endpoints []string
	Sticky    []string
	Guarded   bool
	Ranges    int // that pass the guard
	Pods      bool
}

// served follows every frontend through the kernel's maps, for clients inside and outside.
func served(t *testing.T, b *Backend) map[string]service {
	t.Helper()
	all := map[string]service{}
	for _, table := range b.tables {
		elements := [setCount]map[string]string{}
		for id, spec := range table.sets {
			if spec.kind == kernelsOwn {
				continue
			}
			var err error
			if elements[id], err = readElements(b.conn.elements, spec, table.set[id]); err != nil {
				t.Fatal(err)
			}
		}
		follow := func(word string) service {
			w := parseWord(word)
			s := service{Fate: elements[setFates][table.word(w&fateMask)], Guarded: w&flagGuarded != 0, Pods: w&flagPods != 0}
			f, _ := parseFate(s.Fate)
			for i := range f.endpoints {
				index := table.indexKey(w&groupMask, i)
				e, _ := table.parseEndpoint(elements[setEndpoints][index])
				s.Endpoints = append(s.Endpoints, e.String())
				if f.affinity == 0 {
					continue
				}
				slot := elements[setSlots][index]
				if _, ok := elements[setMembers][slot]; !ok {
					t.Errorf("slot %x is no member", slot)
				}
				e, _ = table.parseEndpoint(elements[setBackends][slot])
				s.Sticky = append(s.Sticky, e.String())
			}
			slices.Sort(s.Endpoints)
			slices.Sort(s.Sticky)
			return s
		}
		for _, sets := range [][2]setID{{setFrontends, setExternal}, {setNodePorts, setExternalNodePorts}} {
			for key, word := range elements[sets[0]] {
				ranges := 0
				for r := range elements[setSourceRanges] {
					if sets[0] == setFrontends && strings.HasPrefix(r, key) {
						ranges++
					}
				}
				inside := follow(word)
				if external, ok := elements[sets[1]][key]; ok {
					word = external
				}
				outside := follow(word)
				inside.Ranges, outside.Ranges = ranges, ranges
				all[fmt.Sprintf("%s %x inside", table.familyName(), key)] = inside
				all[fmt.Sprintf("%s %x outside", table.familyName(), key)] = outside
			}
		}
	}
	return all
}

// expected is what served must find.
func expected(state *model.State) map[string]service {
	all := map[string]service{}
	open := func(p netip.Prefix) bool { return p.Bits() == 0 }
	for _, f := range state.Frontends {
		table := newTable(families[0], Options{}.withDefaults())
		if f.Key.Addr.Is6() {
			table = newTable(families[1], Options{}.withDefaults())
		}
		for side, key := range map[string]model.GroupKey{"inside": f.Internal, "outside": f.External} {
			g := state.Groups[key]
			s := service{Fate: "refuse", Guarded: f.SourceRanges != nil && !slices.ContainsFunc(f.SourceRanges, open), Pods: f.Masquerade.Pods,
				Ranges: len(table.sourceRanges(f))}
			if g.Empty == model.Drop {
				s.Fate = "drop"
			}
			for _, e := range g.Endpoints {
				s.Endpoints = append(s.Endpoints, e.Addr.String())
				if f.Affinity > 0 {
					s.Sticky = append(s.Sticky, e.Addr.String())
				}
			}
			if n := len(g.Endpoints); n > 0 {
				s.Fate = fate{n, f.Affinity}.chain()
			}
			slices.Sort(s.Endpoints)
			slices.Sort(s.Sticky)
			all[fmt.Sprintf("%s %x %s", table.familyName(), table.frontendKey(f.Key), side)] = s
		}
	}
	return all
}

// TestRangesChange goes through random ranges that share ends, touch and contain each other: the kernel takes each step,
// whether by difference or in full.
func TestRangesChange(t *testing.T) {
	const seed, steps = 3, 500
	random := rand.New(rand.NewPCG(seed, 0))
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	c := newCluster()
	mustSync(t, b, c.State, nil)
	some := func() []netip.Prefix {
		var ps []netip.Prefix
		for range random.IntN(5) {
			switch random.IntN(8) {
			case 0:
				ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, byte(random.IntN(2) * 255)}), random.IntN(25)).Masked())
			case 1, 2:
				ps = append(ps, netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(random.IntN(4))}), 125+random.IntN(4)).Masked())
			default:
				ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96 + byte(random.IntN(3))}), 14+random.IntN(5)).Masked())
			}
		}
		return ps
	}
	for step := range steps {
		before := c.Node.ServiceRanges
		c.Node.ServiceRanges, c.Node.LocalRanges = some(), some()
		changes := &model.Changes{Node: true}
		if random.IntN(4) == 0 {
			changes = nil
		}
		if err := b.Sync(c.State, changes); err != nil {
			t.Fatalf("step %d, from %v to %v: %v", step, before, c.Node.ServiceRanges, err)
		}
		if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
			t.Fatalf("step %d, from %v to %v: believed, in the kernel:\n%s", step, before, c.Node.ServiceRanges, diff)
		}
	}
}
