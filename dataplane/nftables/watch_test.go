package nftables

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// watched makes a backend that watches, with a state in the kernel.
func watched(tb testing.TB, w *network, state cluster) (*Backend, <-chan string) {
	tb.Helper()
	b := w.backend(tb)
	ctx, cancel := context.WithCancel(context.Background())
	changes, err := b.Watch(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel()
		for range changes { // until it is closed
		}
	})
	mustSync(tb, b, state.State, nil)
	return b, changes
}

func nextReport(t *testing.T, changes <-chan string) string {
	t.Helper()
	select {
	case what := <-changes:
		return what
	case <-time.After(patience):
		t.Fatal("no report")
		return ""
	}
}

// sentinel makes a change that must be the next one that is reported: nothing else was.
func sentinel(t *testing.T, ns *nstest.Namespace, changes <-chan string) {
	t.Helper()
	nft(t, ns, "add chain ip fairlead sentinel")
	if what := nextReport(t, changes); !strings.Contains(what, "chain sentinel") {
		t.Errorf("reported without need: %s", what)
	}
}

// TestWatch: whatever another program does to our tables is reported with its name, and repaired by a full sync, which is
// not reported.
func TestWatch(t *testing.T) {
	tests := map[string]struct{ commands, report string }{
		"ruleset flushed": {"flush ruleset", "deleted table ip"},
		"table deleted":   {"delete table ip6 fairlead", "deleted table ip6 fairlead"},
		"table flushed":   {"flush table ip fairlead", "deleted a rule of chain "},
		"dormant":         {"add table ip fairlead { flags dormant ; }", "changed table ip fairlead"},
		"hook deleted": {"flush chain ip fairlead postrouting ; delete chain ip fairlead postrouting",
			"deleted chain postrouting in table ip fairlead"},
		"chain renamed": {"rename chain ip fairlead refuse other", "changed chain other"},
		"chain added":   {"add chain ip fairlead mine", "changed chain mine"},
		"rules deleted": {"flush chain ip fairlead services", "deleted a rule of chain services"},
		"rule added":    {"insert rule ip fairlead services accept", "changed a rule of chain services"},
		"rule that is hard to read": {
			"insert rule ip fairlead services tcp dport . ip saddr vmap { 80 . 192.0.2.0/24 : drop , 81-90 . 192.0.2.1 : accept }",
			"changed a rule of chain services"},
		"rules of many kinds": {
			`insert rule ip fairlead services ct mark set jhash ip saddr mod 2 seed 0x7 counter log prefix "x" ; ` +
				`insert rule ip fairlead services meta length > 60 limit rate 1/second tcp option maxseg exists accept`,
			"changed a rule of chain services"},
		"element deleted": {"delete element ip fairlead cluster-ips { 10.96.0.1 }", "deleted elements of set cluster-ips"},
		"element added":   {"add element ip6 fairlead cluster-ips { fd00:96::77 }", "changed elements of set cluster-ips in table ip6"},
		"element replaced": {
			"delete element ip fairlead frontends { 10.96.0.1 . tcp . 80 } ; add element ip fairlead frontends { 10.96.0.1 . tcp . 80 : 0.0.0.2 }",
			"elements of set frontends"},
		"verdict replaced": {
			"delete element ip fairlead fates { 0.0.0.2 } ; add element ip fairlead fates { 0.0.0.2 : accept }",
			"elements of set fates"},
		"goto replaced by jump": {
			"delete element ip fairlead fates { 0.0.0.1 } ; add element ip fairlead fates { 0.0.0.1 : jump refuse }",
			"elements of set fates"},
		"verdict for everything":  {"add element ip fairlead fates { * : accept }", "changed elements of set fates"},
		"word for everything":     {"add element ip6 fairlead frontends { * : ::1 }", "changed elements of set frontends"},
		"endpoint for everything": {"add element ip fairlead endpoints { * : 192.0.2.1 . 80 }", "changed elements of set endpoints"},
		"set of everything":       {"add element ip fairlead cluster-ips { * }", "changed elements of set cluster-ips"},
		"everybody passes":        {"add element ip fairlead source-ranges { * }", "changed elements of set source-ranges"},
		"map flushed":             {"flush map ip fairlead endpoints", "deleted elements of set endpoints"},
		"set of other flags": {
			"delete table ip fairlead ; add table ip fairlead ; add set ip fairlead cluster-ips { type ipv4_addr ; flags interval ; }",
			"table ip fairlead"},
		"set added":    {"add set ip fairlead mine { type ipv4_addr . mark ; flags interval ; }", "changed set mine"},
		"object added": {"add counter ip fairlead mine", "changed an object"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 1)
			state := stickyState()
			b, changes := watched(t, w, state)
			refusals := fixedFates(t, b)
			nft(t, w.node, test.commands)
			if what := nextReport(t, changes); !strings.HasPrefix(what, "nft (process ") || !strings.Contains(what, test.report) {
				t.Errorf("reported %q, which does not tell that nft %q", what, test.report)
			}
			mustSync(t, b, state.State, nil)
			if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
				t.Errorf("expected, served:\n%s", diff)
			}
			if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
				t.Errorf("believed, in the kernel:\n%s", diff)
			}
			if diff := cmp.Diff(refusals, fixedFates(t, b)); diff != "" {
				t.Errorf("verdicts of refusal and drop, before and after:\n%s", diff)
			}
			for _, family := range []uint8{4, 6} {
				if a := mustAsk(t, w.pods[9], "tcp", at(vip(family, "cluster", 2), 80)); a.Server != "ep1" {
					t.Errorf("IPv%d: %v answers after the repair", family, a)
				}
			}
			gen := generation(t, w.node)
			mustSync(t, b, state.State, nil)
			if generation(t, w.node) != gen {
				t.Error("a sync after the repair wrote again")
			}
			sentinel(t, w.node, changes)
		})
	}
}

// fixedFates are the verdicts of those who find no endpoint, byte by byte.
func fixedFates(t *testing.T, b *Backend) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, table := range b.tables {
		if err := b.conn.elements(table.set[setFates], func(e element) {
			if word := parseWord(string(e.key)); word < firstFreeFate {
				all[fmt.Sprint(table.familyName(), " ", word)] = fmt.Sprintf("%x", e.data)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestWatchIgnores: our own changes, those of other tables and of what is remembered of clients are not reported.
func TestWatchIgnores(t *testing.T) {
	w := newNetwork(t, 1)
	state := newCluster()
	_, addrs := stickyWeb(state, 4, time.Hour, 1)
	b, changes := watched(t, w, state)
	mustAsk(t, w.pods[9], "tcp", addrs[0])
	for _, commands := range []string{
		"add table inet fairlead ; add chain inet fairlead services",
		"add table ip fairlead2 ; add set ip fairlead2 cluster-ips { type ipv4_addr ; } ; add element ip fairlead2 cluster-ips { 10.96.0.1 }",
		"flush map ip fairlead affinity",
		"delete table inet fairlead",
	} {
		nft(t, w.node, commands)
	}
	many := scaleState(100)
	mustSync(t, b, many.State, nil)
	many.Node.LocalInterfaces = []string{"cni0"}
	mustSync(t, b, many.State, &model.Changes{Node: true})
	sentinel(t, w.node, changes)
}

// TestWatchSeen: what a full sync has read is not reported any more; what came after is.
func TestWatchSeen(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	mustSync(t, b, packetsState().State, nil)
	c := subscription(t, b, watchBuffer)
	watch := &watch{table: "fairlead", changes: make(chan string, 1)}
	nft(t, w.node, "add chain ip fairlead early")
	watch.seen.Store(generation(t, w.node))
	nft(t, w.node, "add chain ip fairlead late")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go watch.run(ctx, c)
	if what := nextReport(t, watch.changes); !strings.Contains(what, "chain late") {
		t.Errorf("reported: %s", what)
	}
}

// TestWatchUnheard: while many rules are written nothing is heard of, but that others wrote meanwhile is reported, and
// afterwards everything is heard of again.
func TestWatchUnheard(t *testing.T) {
	w := newNetwork(t, 1)
	b, changes := watched(t, w, newCluster())
	transactions := 0
	b.committed = func() error {
		transactions++
		if b.census == nil {
			t.Error("what many rules are written with is heard of")
		}
		return nil
	}
	mustSync(t, b, scaleState(2000).State, nil)
	if transactions < 3 {
		t.Fatalf("%d transactions: this tests nothing", transactions)
	}
	sentinel(t, w.node, changes)
	mustSync(t, b, newCluster().State, nil) // takes the sentinel away, and all Services
	for _, command := range []string{"delete element ip fairlead cluster-ips { 10.96.0.1 }", "add table ip stranger"} {
		state := scaleState(2000)
		done := 0
		b.committed = func() error {
			if done++; done == 3 {
				b.committed = nil
				nft(t, w.node, "add element ip fairlead cluster-ips { 10.96.0.1 } ; "+command)
			}
			return nil
		}
		mustSync(t, b, state.State, nil)
		if what := nextReport(t, changes); !strings.HasPrefix(what, "somebody changed nftables") {
			t.Errorf("after %q: reported %q", command, what)
		}
		mustSync(t, b, state.State, nil)
		if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
			t.Errorf("after %q: believed, in the kernel:\n%s", command, diff)
		}
		sentinel(t, w.node, changes)
		mustSync(t, b, newCluster().State, nil)
	}
}

// TestWatchOverrun: more changes than the subscription can hold count as damage.
func TestWatchOverrun(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	mustSync(t, b, packetsState().State, nil)
	c := subscription(t, b, 0)
	for range 20 {
		nft(t, w.node, "add table ip foreign ; delete table ip foreign")
	}
	watch := &watch{table: "fairlead", changes: make(chan string, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go watch.run(ctx, c)
	if what := nextReport(t, watch.changes); !strings.Contains(what, "more changes") {
		t.Errorf("reported: %s", what)
	}
	sentinel(t, w.node, watch.changes)
}

// subscription subscribes with a receive buffer of a size, for a watch that the test runs by itself.
func subscription(t *testing.T, b *Backend, size int) *connection {
	t.Helper()
	c, err := subscribe(b.options, b.conn.port(), size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.netlink.Close() })
	return c
}

// BenchmarkForeignChanges is another program that replaces 1,000 elements of its own set; with=watch while we listen. What
// listening costs us comes on top of what it costs that program.
func BenchmarkForeignChanges(b *testing.B) {
	for _, listening := range []string{"nobody", "watch"} {
		b.Run("with="+listening, func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			if listening == "watch" {
				watched(b, w, scaleState(100))
			}
			c, err := nftables.New(nftables.WithNetNSFd(w.node.FD()), nftables.AsLasting())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.CloseLasting() }()
			set := &nftables.Set{Table: c.AddTable(&nftables.Table{Name: "foreign", Family: nftables.TableFamilyINet}),
				Name: "blocked", KeyType: nftables.TypeIPAddr}
			var elements []nftables.SetElement
			for i := range 1000 {
				elements = append(elements, nftables.SetElement{Key: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}).AsSlice()})
			}
			if err := c.AddSet(set, elements); err != nil {
				b.Fatal(err)
			}
			if err := c.Flush(); err != nil {
				b.Fatal(err)
			}
			before := cpu(b)
			for b.Loop() {
				if err := c.SetDeleteElements(set, elements); err != nil {
					b.Fatal(err)
				}
				if err := c.SetAddElements(set, elements); err != nil {
					b.Fatal(err)
				}
				if err := c.Flush(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpu is the time that all threads of the process have used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
