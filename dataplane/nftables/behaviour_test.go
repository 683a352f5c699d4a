package nftables

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

func at(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

func mustAsk(t *testing.T, from *nstest.Namespace, proto string, to netip.AddrPort) nstest.Answer {
	t.Helper()
	a, err := from.Ask(proto, to, patience)
	if err != nil {
		t.Fatalf("asking %v by %s: %v", to, proto, err)
	}
	return a
}

// stickyWeb is a Service with affinity and its frontends of every kind.
func stickyWeb(c cluster, family uint8, timeout time.Duration, pods ...int) (model.GroupKey, []netip.AddrPort) {
	web := c.group("web", model.TCP, family, model.Cluster, model.Reject, pods...)
	zero := "0.0.0.0"
	if family == 6 {
		zero = "::"
	}
	c.frontend(model.ClusterIP, vip(family, "cluster", 1), 80, web, web, outsideOnly).Affinity = timeout
	c.frontend(model.LoadBalancerIP, vip(family, "external", 1), 80, web, web, everybody).Affinity = timeout
	c.frontend(model.NodePort, zero, 30080, web, web, everybody).Affinity = timeout
	return web, []netip.AddrPort{
		at(vip(family, "cluster", 1), 80), at(vip(family, "external", 1), 80), at(nodeAddrs[family].String(), 30080),
	}
}

// TestAffinityOverRestart: a client stays with its endpoint, over all addresses of the Service port, when the agent
// restarts, though endpoints have changed their places in the group before.
func TestAffinityOverRestart(t *testing.T) {
	for _, family := range []uint8{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			w := newNetwork(t, 3)
			b := w.backend(t)
			state := newCluster()
			web, addrs := stickyWeb(state, family, time.Hour, 1, 2, 3)
			mustSync(t, b, state.State, nil)
			own := mustAsk(t, w.pods[9], "tcp", addrs[0]).Server
			n := int(own[2] - '0')
			others := slices.DeleteFunc([]int{1, 2, 3}, func(i int) bool { return i == n })
			for _, pods := range [][]int{{n, others[0]}, {n}, {n, others[1], others[0]}} {
				state.group("web", model.TCP, family, model.Cluster, model.Reject, pods...)
				mustSync(t, b, state.State, &model.Changes{Groups: []*model.Group{state.Groups[web]}})
				b = w.backend(t)
				mustSync(t, b, state.State, nil)
				for i := range 12 {
					if got := mustAsk(t, w.pods[9], "tcp", addrs[i%len(addrs)]).Server; got != own {
						t.Fatalf("connection %d to %v went to %s, not %s", i, addrs[i%len(addrs)], got, own)
					}
				}
			}
		})
	}
}

// TestMembersOverRestart: the number of an endpoint that left is not given to the next one, though the agent restarts in
// between: clients that are remembered with it would all go there.
func TestMembersOverRestart(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	state := newCluster()
	web, _ := stickyWeb(state, 4, time.Hour, 1, 2)
	mustSync(t, b, state.State, nil)
	number := func(pod int) uint32 {
		return b.tables[0].groups[web].members[netip.AddrPortFrom(podAddr(4, pod), 8080)]
	}
	old := number(1)
	for _, pods := range [][]int{{2}, {2, 3}} {
		state.group("web", model.TCP, 4, model.Cluster, model.Reject, pods...)
		b = w.backendNoProbe(t)
		mustSync(t, b, state.State, nil)
	}
	if now := number(3); old == 0 || now == 0 || now == old {
		t.Errorf("the number was %d and is %d", old, now)
	}
}

// TestMembersOfNewGroup: nor is the number of an endpoint whose Service went given to those of the next Service, which may get
// the number of its group.
func TestMembersOfNewGroup(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	used := map[uint32]bool{} // words: group and member
	for _, restart := range []bool{false, true, false} {
		state := newCluster()
		web, _ := stickyWeb(state, 4, time.Hour, 1, 2)
		mustSync(t, b, state.State, &model.Changes{Groups: []*model.Group{state.Groups[web]},
			Frontends: slices.SortedFunc(maps.Values(state.Frontends), func(a, b *model.Frontend) int { return a.Key.Addr.Compare(b.Key.Addr) }),
		})
		g := b.tables[0].groups[web]
		for e, n := range g.members {
			if used[g.id<<groupShift|n] {
				t.Errorf("%v has group and number of an endpoint of a Service that went", e)
			}
			used[g.id<<groupShift|n] = true
		}
		if restart { // with the Service, which goes while the agent does not run
			b = w.backendNoProbe(t)
			mustSync(t, b, newCluster().State, nil)
			continue
		}
		mustSync(t, b, newCluster().State, &model.Changes{GroupsGone: []model.GroupKey{web}, FrontendsGone: slices.Collect(maps.Keys(state.Frontends))})
	}
	if len(used) != 6 {
		t.Errorf("%d numbers, not 6", len(used))
	}
}

// TestAffinityNotReady: a client leaves an endpoint that is merely not ready, and stays at its new one when the old is back.
func TestAffinityNotReady(t *testing.T) {
	w := newNetwork(t, 3)
	b := w.backend(t)
	tracker := model.NewTracker(model.Options{NodeName: "n1"})
	svc, es := good("web", 0, 0)
	svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	for pod := range 3 {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{podAddr(4, pod+1).String()}})
	}
	if err := tracker.SetService(svc); err != nil {
		t.Fatal(err)
	}
	client := func(ready ...bool) string {
		t.Helper()
		for i := range ready {
			es.Endpoints[i].Conditions.Ready = &ready[i]
		}
		if err := tracker.SetSlice(es); err != nil {
			t.Fatal(err)
		}
		mustSync(t, b, tracker.State(), tracker.Changes())
		first := mustAsk(t, w.pods[9], "tcp", at("10.96.0.1", 80)).Server
		for range 10 {
			if next := mustAsk(t, w.pods[9], "tcp", at("10.96.0.1", 80)).Server; next != first {
				t.Fatalf("went to %s after %s", next, first)
			}
		}
		return first
	}
	own := client(true, true, true)
	ready := []bool{own != "ep1", own != "ep2", own != "ep3"}
	next := client(ready...)
	if next == own {
		t.Errorf("still at %s, which is not ready", own)
	}
	if got := client(true, true, true); got != next {
		t.Errorf("went from %s to %s, which is back", next, got)
	}
}

// TestEvenness: new connections are spread evenly, by a chi-square test over 3,000 of them at p < 1e-6.
func TestEvenness(t *testing.T) {
	const connections = 3000
	w := newNetwork(t, 3)
	b := w.backend(t)
	state := packetsState()
	mustSync(t, b, state.State, nil)
	// A history of changes must not leave a trace.
	for _, pods := range [][]int{{2, 3}, {3}, {1, 2, 3}} {
		for _, family := range []uint8{4, 6} {
			key := state.group("web", model.TCP, family, model.Cluster, model.Reject, pods...)
			mustSync(t, b, state.State, &model.Changes{Groups: []*model.Group{state.Groups[key]}})
		}
	}
	for _, family := range []uint8{4, 6} {
		counts := map[string]int{}
		for range connections {
			counts[mustAsk(t, w.pods[9], "tcp", at(vip(family, "cluster", 1), 80)).Server]++
		}
		chi := 0.0
		for _, server := range []string{"ep1", "ep2", "ep3"} {
			chi += math.Pow(float64(counts[server])-connections/3, 2) / (connections / 3)
		}
		if limit := -2 * math.Log(1e-6); chi > limit { // exact for two degrees of freedom
			t.Errorf("IPv%d: %v: chi-square %.1f, more than %.1f", family, counts, chi, limit)
		}
	}
}

// TestEstablished: a connection goes on whatever happens to the rules.
func TestEstablished(t *testing.T) {
	w := newNetwork(t, 2)
	b := w.backend(t)
	state := packetsState()
	web := state.group("web", model.TCP, 4, model.Cluster, model.Reject, 1)
	mustSync(t, b, state.State, nil)
	conn, err := w.client.Dial("tcp", at(vip(4, "cluster", 1), 80), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	goesOn := func(after string) {
		t.Helper()
		if a, err := conn.Ask(patience); err != nil || a.Server != "ep1" {
			t.Errorf("after %s: %v, %v", after, a, err)
		}
	}
	goesOn("nothing")
	mustSync(t, w.backend(t), state.State, nil)
	goesOn("a restart")
	state.group("web", model.TCP, 4, model.Cluster, model.Reject, 2)
	mustSync(t, b, state.State, &model.Changes{Groups: []*model.Group{state.Groups[web]}})
	goesOn("the endpoint left")
	replaceTable(t, w.node)
	goesOn("somebody replaced the table")
	mustSync(t, b, state.State, nil)
	goesOn("the repair")
}

// TestEndpointMissing: what a packet looks for may not be there while a transaction takes endpoints away, and then it goes to
// the first one, with affinity or without.
func TestEndpointMissing(t *testing.T) {
	for name, affinity := range map[string]time.Duration{"random": 0, "sticky": time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 3)
			b := w.backend(t)
			state := newCluster()
			web, addrs := stickyWeb(state, 4, affinity, 1, 2, 3)
			mustSync(t, b, state.State, nil)
			table := b.tables[0]
			for _, set := range []setID{setEndpoints, setSlots} {
				var last []nftables.SetElement
				for i := 1; i < 3; i++ {
					if key := table.indexKey(table.groups[web].id<<groupShift, i); table.elements[set][key] != "" {
						last = append(last, nftables.SetElement{Key: []byte(key)})
					}
				}
				if err := b.conn.SetDeleteElements(table.set[set], last); err != nil {
					t.Fatal(err)
				}
			}
			first := table.groups[web].slots[0].Addr()
			for range 20 {
				b.conn.FlushSet(table.set[setAffinity])
				if err := b.conn.Flush(); err != nil {
					t.Fatal(err)
				}
				if a := mustAsk(t, w.pods[9], "tcp", addrs[0]); a.Server != "ep1" || first != podAddr(4, 1) {
					t.Fatalf("%v answers; the first one is %v", a, first)
				}
			}
		})
	}
}

// TestServiceRangeComes: connections to a real host go on when its address turns out to be one for Services; new ones are
// dropped.
func TestServiceRangeComes(t *testing.T) {
	w := newNetwork(t, 1)
	b := w.backend(t)
	state := packetsState()
	mustSync(t, b, state.State, nil)
	to := netip.AddrPortFrom(clientAddrs[4], 80)
	w.client.Serve(t, "real", to)
	conn, err := w.pods[9].Dial("tcp", to, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if a, err := conn.Ask(patience); err != nil || a.Server != "real" {
		t.Fatal(a, err)
	}
	state.Node.ServiceRanges = append(state.Node.ServiceRanges, netip.MustParsePrefix("203.0.113.0/24"))
	mustSync(t, b, state.State, &model.Changes{Node: true})
	if a, err := conn.Ask(patience); err != nil || a.Server != "real" {
		t.Errorf("the connection from before: %v, %v", a, err)
	}
	if a, err := w.pods[9].Ask("tcp", to, impatience); err != nil || a.Server != nstest.Dropped {
		t.Errorf("a new connection: %v, %v", a, err)
	}
}

// connects makes one connection, without a second try.
func connects(from *nstest.Namespace, to netip.AddrPort) error {
	conn, err := from.Dial("tcp", to, patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	lost, err := conn.Retransmits()
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d SYNs were lost", lost)
	}
	if err == nil {
		_, err = conn.Ask(patience)
	}
	return err
}

// replaceTable puts a table with another hook in the place of ours, in one transaction: the kernel translates
// established connections only as long as somebody needs NAT and conntrack.
func replaceTable(t *testing.T, ns *nstest.Namespace) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
	if err != nil {
		t.Fatal(err)
	}
	ip := &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyIPv4}
	c.DelTable(ip)
	c.AddTable(ip)
	chain := c.AddChain(&nftables.Chain{Table: ip, Name: "prerouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: ip, Chain: chain, Exprs: rule{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestNewConnections: while the agent restarts, endpoints come and go, and thousands of Services at once (in
// several transactions), no SYN is lost.
func TestNewConnections(t *testing.T) {
	w := newNetwork(t, 3)
	b := w.backend(t)
	state := packetsState()
	mustSync(t, b, state.State, nil)
	// Neighbours are found first: that can take a second, in which nothing moves.
	for range 20 {
		mustAsk(t, w.pods[9], "tcp", at(vip(4, "cluster", 1), 80))
	}
	const enough = 100
	var stop atomic.Bool
	var made atomic.Int64
	done := make(chan error, 1)
	go func() {
		for !stop.Load() {
			err := connects(w.pods[9], at(vip(4, "cluster", 1), 80))
			if err != nil {
				done <- fmt.Errorf("connection %d: %w", made.Load(), err)
				return
			}
			made.Add(1)
		}
		done <- nil
	}()
	for i := 0; i < 300 || made.Load() < enough && i < 100000 && len(done) == 0; i++ {
		pods := [][]int{{1, 2, 3}, {2, 3}, {1}, {1, 2}}[i%4]
		key := state.group("web", model.TCP, 4, model.Cluster, model.Reject, pods...)
		mustSync(t, b, state.State, &model.Changes{Groups: []*model.Group{state.Groups[key]}})
		if i%10 == 0 {
			b = w.backendNoProbe(t)
			mustSync(t, b, state.State, nil)
		}
		if i == 50 || i == 150 {
			many := scaleState(2000)
			maps.Copy(many.Frontends, state.Frontends)
			maps.Copy(many.Groups, state.Groups)
			maps.Copy(many.ClusterIPs, state.ClusterIPs)
			gen := generation(t, w.node)
			mustSync(t, b, many.State, nil)
			if generation(t, w.node)-gen < 3 {
				t.Error("thousands of Services fitted into one transaction")
			}
			if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
				t.Errorf("believed, in the kernel:\n%s", diff)
			}
			mustSync(t, b, state.State, nil)
		}
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if made.Load() < enough {
		t.Errorf("only %d connections were made", made.Load())
	}
}

// TestInterfacesOverRestart: a restart finds the names of Pods' interfaces as it would write them, whatever they are.
func TestInterfacesOverRestart(t *testing.T) {
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	state := packetsState()
	mustSync(t, b, state.State, nil)
	for _, names := range [][]string{nil, {"pod"}, {"cni0", "pod9"}, {"po*"}, {"*"}} {
		state.Node = model.Node{LocalInterfaces: names, NodePorts: model.NodePortAddresses{AllIPv4: true, AllIPv6: true}}
		mustSync(t, b, state.State, &model.Changes{Node: true})
		gen := generation(t, w.node)
		mustSync(t, w.backendNoProbe(t), state.State, nil)
		if generation(t, w.node) != gen {
			t.Errorf("interfaces %q: a restart wrote", names)
		}
	}
}
