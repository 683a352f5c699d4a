package nftables

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// nft runs the nft binary in a namespace.
func nft(tb testing.TB, ns *nstest.Namespace, args ...string) string {
	tb.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		tb.Skip("nft is not installed: apt-get install nftables")
	}
	var out bytes.Buffer
	if err := ns.Do(func() error {
		cmd := exec.Command(path, args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	}); err != nil {
		tb.Fatalf("nft %v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// generation is a number that every transaction of the namespace changes.
func generation(tb testing.TB, ns *nstest.Namespace) uint32 {
	tb.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
	if err != nil {
		tb.Fatal(err)
	}
	gen, err := conn.GetGen()
	if err != nil {
		tb.Fatal(err)
	}
	return gen.ID
}

// contents reads the elements of our tables out of the kernel, by set, key and data.
func contents(tb testing.TB, b *Backend) map[string]string {
	tb.Helper()
	all := map[string]string{}
	for _, t := range b.tables {
		for id, spec := range t.sets {
			if spec.kind == kernelsOwn {
				continue
			}
			elements, err := b.conn.GetSetElements(t.set[id])
			if err != nil {
				tb.Fatal(err)
			}
			for _, e := range elements {
				key, data := spec.parseElement(e)
				all[fmt.Sprintf("%s %s %x", t.familyName(), spec.name, key)] = fmt.Sprintf("%x", data)
			}
		}
	}
	return all
}

// held is what the backend believes the kernel to have.
func held(b *Backend) map[string]string {
	all := map[string]string{}
	for _, t := range b.tables {
		for id, spec := range t.sets {
			for key, data := range t.elements[id] {
				all[fmt.Sprintf("%s %s %x", t.familyName(), spec.name, key)] = fmt.Sprintf("%x", data)
			}
		}
	}
	return all
}

func stickyState() cluster {
	c := packetsState()
	for _, f := range c.Frontends {
		if f.Port.Name == "web" && f.Kind != model.ExternalIP {
			f.Affinity = 3 * time.Hour
		}
	}
	c.Node.LocalInterfaces = []string{"cni0", "cali*"}
	return c
}

// TestList: nft prints what we wrote.
func TestList(t *testing.T) {
	node := nstest.New(t, "node")
	b := (&network{node: node}).backend(t)
	mustSync(t, b, stickyState().State, nil)
	got := nft(t, node, "list", "ruleset")
	for _, want := range []string{
		"table ip fairlead", "table ip6 fairlead",
		"ip daddr set ip daddr . meta l4proto . th dport map @frontends goto frontend",
		"numgen random mod 3 map @endpoints",
		"update @affinity { ip saddr . ip daddr & 255.255.192.0 timeout 3h",
		"update @affinity { ip6 saddr . ip6 daddr & ffff:c000:: timeout 3h",
		`iifname "cali*" goto from-pods`, `iifname "cni0" goto from-pods`,
		"10.96.0.0/16", "fd00:244::/32", "masquerade fully-random",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("nft does not list %q", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// TestRestart: a new backend that finds the state in the kernel writes nothing, whatever history led there.
func TestRestart(t *testing.T) {
	node := nstest.New(t, "node")
	w := &network{node: node}
	b := w.backend(t)
	state := stickyState()
	mustSync(t, b, state.State, nil)
	before := contents(t, b)
	gen := generation(t, node)

	mustSync(t, w.backendNoProbe(t), state.State, nil)
	if got := generation(t, node); got != gen {
		t.Errorf("generation %d became %d: something was written", gen, got)
	}
	if diff := cmp.Diff(before, contents(t, b)); diff != "" {
		t.Errorf("contents before, after:\n%s", diff)
	}
}

// backendNoProbe makes a backend without the transactions of probe.
func (w *network) backendNoProbe(tb testing.TB) *Backend {
	tb.Helper()
	o := Options{NetNS: w.node.FD()}.withDefaults()
	conn, err := dial(o)
	if err != nil {
		tb.Fatal(err)
	}
	b := &Backend{conn: conn}
	for i, f := range families {
		b.tables[i] = newTable(f, o)
	}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

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
	Pods      bool
}

// served follows every frontend through the kernel's maps, for clients inside and outside.
func served(t *testing.T, b *Backend) map[string]service {
	t.Helper()
	all := map[string]service{}
	for _, table := range b.tables {
		elements := [setCount]map[string]string{}
		for id, spec := range table.sets {
			elements[id] = map[string]string{}
			if spec.kind == kernelsOwn {
				continue
			}
			found, err := b.conn.GetSetElements(table.set[id])
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range found {
				key, data := spec.parseElement(e)
				elements[id][key] = data
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
				all[fmt.Sprintf("%s %x inside", table.familyName(), key)] = follow(word)
				if external, ok := elements[sets[1]][key]; ok {
					word = external
				}
				all[fmt.Sprintf("%s %x outside", table.familyName(), key)] = follow(word)
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
			s := service{Fate: "refuse", Guarded: f.SourceRanges != nil && !slices.ContainsFunc(f.SourceRanges, open), Pods: f.Masquerade.Pods}
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

// TestDamage: whatever somebody does to our table, a full sync mends it, and a partial one fails or is followed
// by a full one.
func TestDamage(t *testing.T) {
	conn := func(t *testing.T, ns *nstest.Namespace) *nftables.Conn {
		c, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ip := &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv4}
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	tests := map[string]func(c *nftables.Conn, b *Backend){
		"table deleted":     func(c *nftables.Conn, _ *Backend) { c.DelTable(ip) },
		"rules flushed":     func(c *nftables.Conn, _ *Backend) { c.FlushTable(ip) },
		"one chain flushed": func(c *nftables.Conn, _ *Backend) { c.FlushChain(&nftables.Chain{Table: ip, Name: "pick-3"}) },
		"frontends flushed": func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setFrontends]) },
		"endpoints flushed": func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setEndpoints]) },
		"ranges flushed":    func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setServiceRanges]) },
		"guards flushed":    func(c *nftables.Conn, b *Backend) { c.FlushSet(b.tables[0].set[setSourceRanges]) },
		"rule inserted": func(c *nftables.Conn, _ *Backend) {
			c.InsertRule(&nftables.Rule{Table: ip, Chain: &nftables.Chain{Table: ip, Name: chainServices}, Exprs: accept})
		},
		"foreign chains": func(c *nftables.Conn, _ *Backend) {
			inner := c.AddChain(&nftables.Chain{Table: ip, Name: "another"})
			outer := c.AddChain(&nftables.Chain{Table: ip, Name: "foreign"})
			c.AddRule(&nftables.Rule{Table: ip, Chain: outer, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: inner.Name}}})
		},
		"foreign set": func(c *nftables.Conn, _ *Backend) {
			_ = c.AddSet(&nftables.Set{Table: ip, Name: "foreign", KeyType: nftables.TypeMark}, nil)
		},
		"set of another type": func(c *nftables.Conn, _ *Backend) {
			c.DelTable(ip)
			c.AddTable(ip)
			_ = c.AddSet(&nftables.Set{Table: ip, Name: "frontends", KeyType: nftables.TypeMark}, nil)
		},
		"another hook": func(c *nftables.Conn, _ *Backend) {
			c.DelTable(ip)
			c.AddTable(ip)
			c.AddChain(&nftables.Chain{Table: ip, Name: "prerouting", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 1)
			b := w.backend(t)
			state := stickyState()
			mustSync(t, b, state.State, nil)

			c := conn(t, w.node)
			damage(c, b)
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			mustSync(t, b, state.State, nil)

			if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
				t.Errorf("expected, served:\n%s", diff)
			}
			if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
				t.Errorf("believed, in the kernel:\n%s", diff)
			}
			to := netip.AddrPortFrom(netip.MustParseAddr(vip(4, "cluster", 2)), 80)
			if a, err := w.pods[9].Ask("tcp", to, patience); err != nil || a.Server != "ep1" {
				t.Errorf("asking %v: %v, %v", to, a, err)
			}
			gen := generation(t, w.node)
			mustSync(t, b, state.State, nil)
			if got := generation(t, w.node); got != gen {
				t.Error("a sync after the repair wrote again")
			}
		})
	}
}

// TestFullAfterError: a partial sync that fails is followed by a full one, whatever is asked for.
func TestFullAfterError(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	state := packetsState()
	mustSync(t, b, state.State, nil)
	if err := Cleanup(Options{NetNS: w.node.FD()}); err != nil {
		t.Fatal(err)
	}
	var f *model.Frontend
	for _, g := range state.Frontends {
		f = g
		break
	}
	delete(state.Frontends, f.Key)
	changes := &model.Changes{FrontendsGone: []model.FrontendKey{f.Key}}
	if err := b.Sync(state.State, changes); err == nil {
		t.Fatal("a change to a table that is gone succeeded")
	}
	mustSync(t, b, state.State, &model.Changes{})
	if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
		t.Errorf("expected, served:\n%s", diff)
	}
}

// TestCleanup removes our tables alone, and may find none.
func TestCleanup(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	foreign := []*nftables.Table{
		{Name: "fairlead2", Family: nftables.TableFamilyIPv4},
		{Name: "fairlead", Family: nftables.TableFamilyINet},
	}
	conn, err := nftables.New(nftables.WithNetNSFd(w.node.FD()))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range foreign {
		conn.AddTable(table)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	tables := func() []string {
		list, err := conn.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, table := range list {
			names[fmt.Sprint(table.Family, " ", table.Name)] = true
		}
		return slices.Sorted(maps.Keys(names))
	}
	before := tables()
	mustSync(t, w.backend(t), packetsState().State, nil)
	for range 2 {
		if err := Cleanup(Options{NetNS: w.node.FD()}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, tables()); diff != "" {
			t.Errorf("tables before and after:\n%s", diff)
		}
	}
}
