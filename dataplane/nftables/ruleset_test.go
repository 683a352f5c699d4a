package nftables

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

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
			elements, err := readElements(b.conn.elements, spec, t.set[id])
			if err != nil {
				tb.Fatal(err)
			}
			for key, data := range elements {
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
		"10.96.0.0/16", "fd00:244::/32", "masquerade fully-random", "reject with tcp reset",
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

// TestOtherOptions: options of a new agent change the rules that depend on them, and no more than that.
func TestOtherOptions(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	state := stickyState()
	b := w.backend(t)
	mustSync(t, b, state.State, nil)
	before := contents(t, b)
	other, err := New(Options{NetNS: w.node.FD(), MasqueradeMark: 1 << 20, MasqueradePredictable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	for _, want := range []uint32{1, 0} { // transactions
		gen := generation(t, w.node)
		mustSync(t, other, state.State, nil)
		if got := generation(t, w.node) - gen; got != want {
			t.Errorf("%d transactions, not %d", got, want)
		}
	}
	if diff := cmp.Diff(before, contents(t, b)); diff != "" {
		t.Errorf("contents before, after:\n%s", diff)
	}
	if out := nft(t, w.node, "list", "ruleset"); !strings.Contains(out, "0x00100000") || strings.Contains(out, "fully-random") {
		t.Errorf("rules with the old options:\n%s", out)
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
	b := &Backend{options: o, conn: conn}
	for i, f := range families {
		b.tables[i] = newTable(f, o)
	}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

// TestManyCounts lets a group grow one endpoint at a time past the number of fates, and a restart go on from there.
func TestManyCounts(t *testing.T) {
	node := nstest.New(t, "node")
	w := &network{node: node}
	grow := func(b *Backend, from, to int) {
		t.Helper()
		for n := from; n <= to; n++ {
			c := newCluster()
			web := c.group("web", model.TCP, 4, model.Cluster, model.Reject)
			for i := range n {
				addr := netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)})
				c.Groups[web].Endpoints = append(c.Groups[web].Endpoints, model.Endpoint{Addr: netip.AddrPortFrom(addr, 8080)})
			}
			c.frontend(model.ClusterIP, vip(4, "cluster", 1), 80, web, web, nobody)
			changes := &model.Changes{Groups: []*model.Group{c.Groups[web]}}
			if n == from {
				changes = nil
			}
			if err := b.Sync(c.State, changes); err != nil {
				t.Fatalf("%d endpoints: %v", n, err)
			}
			if n%97 == 0 || n == to {
				if diff := cmp.Diff(expected(c.State), served(t, b)); diff != "" {
					t.Fatalf("%d endpoints: expected, served:\n%s", n, diff)
				}
			}
		}
	}
	const all = maxFate - firstFreeFate + 1
	grow(w.backend(t), 1, all)
	restarted := w.backendNoProbe(t)
	grow(restarted, all+1, 2*all+20)
}

// TestTooManyFates: whoever uses up all pairs of endpoint count and affinity timeout keeps nobody else from being served,
// nor from changes, and a restart writes nothing.
func TestTooManyFates(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	c := newCluster()
	endpoint := func(i int) model.Endpoint {
		return model.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), 8080)}
	}
	// The only pair without affinity that has a number, and is too much for the others.
	first := c.group("first", model.TCP, 4, model.Cluster, model.Reject)
	c.Groups[first].Endpoints = []model.Endpoint{endpoint(6), endpoint(7), endpoint(8), endpoint(9), endpoint(10)}
	c.frontend(model.ClusterIP, "10.96.0.0", 80, first, first, nobody)
	greedy := c.group("greedy", model.TCP, 4, model.Cluster, model.Reject)
	c.Groups[greedy].Endpoints = []model.Endpoint{endpoint(1), endpoint(2)}
	web := c.group("web", model.TCP, 4, model.Cluster, model.Reject)
	c.Groups[web].Endpoints = []model.Endpoint{endpoint(3), endpoint(4), endpoint(5)}
	c.frontend(model.ClusterIP, vip(4, "cluster", 2), 80, web, web, nobody)
	for i := range maxFate + 10 {
		f := c.frontend(model.ClusterIP, vip(4, "cluster", 1), uint16(i+1), greedy, greedy, nobody)
		f.Affinity = time.Duration(i+1) * time.Second
	}
	b := w.backend(t)
	mustSync(t, b, c.State, nil)
	for range 2 {
		for key, s := range served(t, b) {
			if n := len(s.Endpoints); n == 0 || slices.Contains(s.Endpoints, netip.AddrPort{}.String()) {
				t.Fatalf("%s has fate %q with endpoints %v", key, s.Fate, s.Endpoints)
			}
		}
		c.Groups[web].Endpoints = c.Groups[web].Endpoints[1:]
		mustSync(t, b, c.State, &model.Changes{Groups: []*model.Group{c.Groups[web]}})
	}
	before := served(t, b)
	restarted := w.backendNoProbe(t)
	mustSync(t, restarted, c.State, nil)
	if diff := cmp.Diff(before, served(t, restarted)); diff != "" {
		t.Errorf("before, after a restart:\n%s", diff)
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

// TestInvalid: what no table can hold is refused by name, and nothing is written.
func TestInvalid(t *testing.T) {
	tests := map[string]struct {
		spoil func(c cluster)
		want  string
	}{
		"group of another family": {
			func(c cluster) {
				g := c.group("mixed", model.TCP, 6, model.Cluster, model.Reject)
				c.frontend(model.ClusterIP, "10.96.0.77", 80, g, g, nobody)
			}, "Service default/mixed",
		},
		"IPv4 in the form of IPv6": {
			func(c cluster) {
				g := c.group("mapped", model.TCP, 6, model.Cluster, model.Reject)
				c.frontend(model.ClusterIP, "::ffff:10.96.0.77", 80, g, g, nobody)
			}, "Service default/mapped",
		},
		"endpoint of another family": {
			func(c cluster) {
				g := c.group("stray", model.TCP, 4, model.Cluster, model.Reject, 1)
				c.Groups[g].Endpoints[0].Addr = netip.MustParseAddrPort("[fd00::1]:80")
			}, "endpoint [fd00::1]:80 of Service default/stray",
		},
	}
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	for name, test := range tests {
		gen := generation(t, w.node)
		state := packetsState()
		test.spoil(state)
		err := b.Sync(state.State, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v does not name %q", name, err, test.want)
		}
		if generation(t, w.node) != gen {
			t.Errorf("%s: something was written", name)
		}
	}
}
