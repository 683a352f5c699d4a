package nftables

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// TestOwner: a table of our name that another program has for itself is left to it, with an error that says so, until the
// program is gone; the other family's table is not touched either, but for a clean-up.
func TestOwner(t *testing.T) {
	w := newNetwork(t, 1)
	owner, err := nftables.New(nftables.WithNetNSFd(w.node.FD()), nftables.AsLasting())
	if err != nil {
		t.Fatal(err)
	}
	owner.AddTable(&nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv6, Flags: nftables.TableFlagOwner})
	if err := owner.Flush(); err != nil {
		t.Fatal(err)
	}
	b := w.backend(t)
	state := packetsState()
	gen := generation(t, w.node)
	for range 3 {
		err = b.Sync(state.State, nil)
		if err == nil || !strings.Contains(err.Error(), "table ip6 fairlead") || !strings.Contains(err.Error(), "flag owner") {
			t.Fatalf("error %v does not tell of the owner", err)
		}
	}
	if generation(t, w.node) != gen {
		t.Error("something was written")
	}
	nft(t, w.node, "add table ip fairlead")
	err = Cleanup(Options{NetNS: w.node.FD()})
	if err == nil || !strings.Contains(err.Error(), "table ip6 fairlead") || !strings.Contains(err.Error(), "flag owner") {
		t.Errorf("cleaning up: error %v does not tell of the owner", err)
	}
	if there, err := findTable(b.conn, &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv4}); err != nil || there != nil {
		t.Errorf("after cleaning up: the table that nobody has for himself is %v (%v)", there, err)
	}
	if err := owner.CloseLasting(); err != nil {
		t.Fatal(err)
	}
	mustSync(t, b, state.State, nil)
	for _, family := range []uint8{4, 6} {
		if a := mustAsk(t, w.pods[9], "tcp", at(vip(family, "cluster", 2), 80)); a.Server != "ep1" {
			t.Errorf("IPv%d: %v answers", family, a)
		}
	}
}

// TestOrphan: a table that outlived its owner is ours again.
func TestOrphan(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	owner, err := nftables.New(nftables.WithNetNSFd(w.node.FD()), nftables.AsLasting())
	if err != nil {
		t.Fatal(err)
	}
	owner.AddTable(&nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv4,
		Flags: nftables.TableFlagOwner | nftables.TableFlagPersist})
	err = owner.Flush()
	_ = owner.CloseLasting()
	if err != nil {
		t.Skipf("the kernel has no flag persist (Linux 6.9): %v", err)
	}
	b := w.backend(t)
	state := packetsState()
	mustSync(t, b, state.State, nil)
	if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
		t.Errorf("expected, served:\n%s", diff)
	}
}

// foreign is what other tools may have beside us: our names in other families and tables, every family, and much that the
// library does not know. TestUnknown has what nft does not.
const foreign = `
	table inet fairlead {
		map frontends { type ipv4_addr : ipv4_addr; elements = { 10.96.0.1 : 10.96.0.2 }; }
		chain services { ip daddr 10.96.0.1 counter; }
		chain refuse { type filter hook input priority 0; counter; }
	}
	table ip other {
		ct timeout slow { protocol tcp; l3proto ip; policy = { established : 100, close : 4 }; }
		counter hits { }
		quota much { over 100 mbytes; }
		limit few { rate 400/minute; }
		set cluster-ips { type ipv4_addr . inet_service . mark; flags interval, timeout; elements = { 10.0.0.0/8 . 1-1024 . 7 timeout 1h }; }
		set typed { typeof vlan id . tcp option maxseg size; }
		chain services { }
		chain pick-3 { jump services; }
		chain prerouting {
			type nat hook prerouting priority -100; policy accept;
			ip saddr . tcp dport . meta mark @cluster-ips counter name hits
			jhash ip saddr . tcp dport mod 2 seed 0xdeadbeef vmap { 0 : jump services, 1 : jump pick-3 }
		}
		chain postrouting { type nat hook postrouting priority 100; ct mark 0x99 masquerade; }
		chain raw { type filter hook prerouting priority -300; tcp dport 9 ct timeout set "slow" tcp option sack-perm exists notrack; }
	}
	table ip6 other { chain services { type filter hook forward priority 0; exthdr hbh exists counter; }; }
	table arp fairlead { chain services { type filter hook input priority 0; arp operation request counter; }; }
	table netdev fairlead { chain ingress { type filter hook ingress device lo priority 0; ip daddr 10.96.0.1 counter; }; }
	table bridge fairlead { chain forward { type filter hook forward priority 0; ether type arp counter; }; }
`

// TestForeign: nothing of others is changed, nor in our way, by any sort of sync, restart or clean-up.
func TestForeign(t *testing.T) {
	w := newNetwork(t, 1)
	added := 0
	for _, table := range strings.Split(foreign, "\n\ttable ") {
		if strings.TrimSpace(table) == "" {
			continue
		}
		if err := w.node.Do(func() error {
			out, err := exec.Command("nft", "table "+table).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		}); err != nil {
			t.Logf("the kernel or nft lacks something: %v", err)
			continue
		}
		added++
	}
	if added < 3 {
		t.Skip("nft is not installed, or too old: apt-get install nftables")
	}
	iptables(t, w.node)
	list := func() string { return withoutOurs(nft(t, w.node, "list", "ruleset")) }
	before := list()

	state := stickyState()
	b, changes := watched(t, w, state)
	for _, family := range []uint8{4, 6} {
		if a := mustAsk(t, w.pods[9], "tcp", at(vip(family, "cluster", 2), 80)); a.Server != "ep1" {
			t.Errorf("IPv%d: %v answers", family, a)
		}
	}
	gen := generation(t, w.node)
	mustSync(t, w.backendNoProbe(t), state.State, nil)
	if generation(t, w.node) != gen {
		t.Error("a restart wrote")
	}
	state.Node.LocalInterfaces = []string{"cni1"}
	mustSync(t, b, state.State, &model.Changes{Node: true})
	if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
		t.Errorf("expected, served:\n%s", diff)
	}
	sentinel(t, w.node, changes)
	if diff := cmp.Diff(before, list()); diff != "" {
		t.Errorf("what others have, before and after:\n%s", diff)
	}
	if err := Cleanup(Options{NetNS: w.node.FD()}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, list()); diff != "" {
		t.Errorf("what others have, before and after our clean-up:\n%s", diff)
	}
}

// withoutOurs leaves our tables out of a listing, and what counts packets.
func withoutOurs(listing string) string {
	var out []string
	for _, table := range strings.Split(listing, "\ntable ") {
		table = strings.TrimPrefix(table, "table ")
		if strings.HasPrefix(table, "ip fairlead {") || strings.HasPrefix(table, "ip6 fairlead {") {
			continue
		}
		for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
			rest, _, _ := strings.Cut(line, "packets ")
			rest, _, _ = strings.Cut(rest, "expires ")
			out = append(out, rest)
		}
	}
	return strings.Join(out, "\n")
}

// iptables adds rules by both programs of that name, where they are installed and the kernel can.
func iptables(t *testing.T, ns *nstest.Namespace) {
	t.Helper()
	for _, program := range []string{"iptables-nft", "ip6tables-nft", "iptables-legacy"} {
		for _, args := range []string{
			"-t nat -N KUBE-SERVICES", "-t nat -A PREROUTING -m comment --comment kubernetes -j KUBE-SERVICES",
			"-t nat -A KUBE-SERVICES -m statistic --mode random --probability 0.5 -j RETURN",
			"-t nat -A POSTROUTING -m mark --mark 0x8000/0x8000 -j MASQUERADE --random-fully",
			"-A FORWARD -m conntrack --ctstate INVALID -j DROP",
		} {
			if err := ns.Do(func() error { return exec.Command(program, strings.Fields(args)...).Run() }); err != nil {
				t.Logf("%s %s: %v", program, args, err)
			}
		}
	}
}
