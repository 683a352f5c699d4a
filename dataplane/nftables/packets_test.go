package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

var (
	outsideOnly  = model.Masquerade{Outside: true}
	everybody    = model.Masquerade{Pods: true, Host: true, Outside: true}
	nobody       = model.Masquerade{}
	threeServers = []string{"ep1", "ep2", "ep3"}
)

// vip is an address of the tests in one of the families.
func vip(family uint8, pool string, n int) string {
	pools := map[string][2]string{
		"cluster":  {"10.96.0.%d", "fd00:96::%x"},
		"external": {"198.51.100.%d", "2001:db8:100::%x"},
	}
	if family == 4 {
		return fmt.Sprintf(pools[pool][0], n)
	}
	return fmt.Sprintf(pools[pool][1], n)
}

// packetsState has Services of every sort, for both families and for TCP and UDP.
func packetsState() cluster {
	c := newCluster()
	for _, family := range []uint8{4, 6} {
		unspecified := "0.0.0.0"
		if family == 6 {
			unspecified = "::"
		}
		for _, proto := range []model.Protocol{model.TCP, model.UDP} {
			web := c.group("web", proto, family, model.Cluster, model.Reject, 1, 2, 3)
			c.frontend(model.ClusterIP, vip(family, "cluster", 1), 80, web, web, outsideOnly)
			c.frontend(model.NodePort, unspecified, 30080, web, web, everybody)
			c.frontend(model.LoadBalancerIP, vip(family, "external", 1), 80, web, web, everybody)
			c.frontend(model.ExternalIP, vip(family, "external", 9), 80, web, web, nobody)

			one := c.group("one", proto, family, model.Cluster, model.Reject, 1)
			c.frontend(model.ClusterIP, vip(family, "cluster", 2), 80, one, one, outsideOnly)

			local := c.group("local", proto, family, model.Cluster, model.Reject, 1, 2)
			localOnly := c.group("local", proto, family, model.Local, model.Reject, 3)
			c.frontend(model.NodePort, unspecified, 30081, local, localOnly, model.Masquerade{Host: true})
			c.frontend(model.LoadBalancerIP, vip(family, "external", 2), 80, local, localOnly, model.Masquerade{Host: true})

			elsewhere := c.group("elsewhere", proto, family, model.Cluster, model.Reject, 1)
			none := c.group("elsewhere", proto, family, model.Local, model.Drop)
			c.frontend(model.LoadBalancerIP, vip(family, "external", 3), 80, elsewhere, none, nobody)
			c.frontend(model.NodePort, unspecified, 30082, elsewhere, none, nobody)

			empty := c.group("empty", proto, family, model.Cluster, model.Reject)
			c.frontend(model.ClusterIP, vip(family, "cluster", 3), 80, empty, empty, outsideOnly)
			c.frontend(model.NodePort, unspecified, 30083, empty, empty, everybody)
			c.frontend(model.LoadBalancerIP, vip(family, "external", 4), 80, empty, empty, everybody)

			for n, ranges := range map[int][]netip.Prefix{
				5: {netip.PrefixFrom(clientAddrs[family], 24), netip.PrefixFrom(clientAddrs[family], 30)},
				6: {netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:2::/64")},
				7: {},
				8: {netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
			} {
				f := c.frontend(model.LoadBalancerIP, vip(family, "external", n), 80, web, web, nobody)
				f.SourceRanges = ranges
			}
		}
	}
	return c
}

// TestPackets sends packets of every class of client to every sort of frontend and compares their fate.
func TestPackets(t *testing.T) {
	w := newNetwork(t, 3)
	b := w.backend(t)
	mustSync(t, b, packetsState().State, nil)

	// seen says whose address a server saw.
	const client, masqueraded = "the client's", "the node's"
	type want struct {
		servers []string
		seen    string
	}
	lost := func(fate string) want { return want{servers: []string{fate}} }
	tests := map[string]struct {
		reason string
		addr   func(family uint8) string
		port   uint16
		pod    want
		host   want
		out    want
	}{
		"ClusterIP": {
			reason: "a cluster IP masquerades clients outside the local range only",
			addr:   func(f uint8) string { return vip(f, "cluster", 1) }, port: 80,
			pod: want{threeServers, client}, host: want{threeServers, ""}, out: want{threeServers, masqueraded},
		},
		"ClusterIP, one endpoint": {
			addr: func(f uint8) string { return vip(f, "cluster", 2) }, port: 80,
			pod: want{[]string{"ep1"}, client}, host: want{[]string{"ep1"}, ""}, out: want{[]string{"ep1"}, masqueraded},
		},
		"NodePort": {
			reason: "external traffic of policy Cluster is masqueraded always",
			addr:   func(f uint8) string { return nodeAddrs[f].String() }, port: 30080,
			pod: want{threeServers, masqueraded}, host: want{threeServers, ""}, out: want{threeServers, masqueraded},
		},
		"NodePort on an address that is not chosen": {
			reason: "node ports are served on the chosen addresses only; nobody listens there",
			addr:   func(f uint8) string { return podNet(f, 1, 1).Addr().String() }, port: 30080,
			pod: lost(nstest.Rejected), host: lost(nstest.Rejected), out: lost(nstest.Rejected),
		},
		"LoadBalancer": {
			addr: func(f uint8) string { return vip(f, "external", 1) }, port: 80,
			pod: want{threeServers, masqueraded}, host: want{threeServers, ""}, out: want{threeServers, masqueraded},
		},
		"ExternalIP without masquerade": {
			addr: func(f uint8) string { return vip(f, "external", 9) }, port: 80,
			pod: want{threeServers, client}, host: want{threeServers, ""}, out: want{threeServers, client},
		},
		"NodePort, policy Local": {
			reason: "Pods and the host use the Cluster endpoints, others the local ones and keep their address",
			addr:   func(f uint8) string { return nodeAddrs[f].String() }, port: 30081,
			pod: want{[]string{"ep1", "ep2"}, client}, host: want{[]string{"ep1", "ep2"}, ""}, out: want{[]string{"ep3"}, client},
		},
		"LoadBalancer, policy Local": {
			addr: func(f uint8) string { return vip(f, "external", 2) }, port: 80,
			pod: want{[]string{"ep1", "ep2"}, client}, host: want{[]string{"ep1", "ep2"}, ""}, out: want{[]string{"ep3"}, client},
		},
		"LoadBalancer, policy Local, endpoints elsewhere only": {
			addr: func(f uint8) string { return vip(f, "external", 3) }, port: 80,
			pod: want{[]string{"ep1"}, client}, host: want{[]string{"ep1"}, ""}, out: lost(nstest.Dropped),
		},
		"NodePort, policy Local, endpoints elsewhere only": {
			addr: func(f uint8) string { return nodeAddrs[f].String() }, port: 30082,
			pod: want{[]string{"ep1"}, client}, host: want{[]string{"ep1"}, ""}, out: lost(nstest.Dropped),
		},
		"ClusterIP without endpoints": {
			addr: func(f uint8) string { return vip(f, "cluster", 3) }, port: 80,
			pod: lost(nstest.Rejected), host: lost(nstest.Rejected), out: lost(nstest.Rejected),
		},
		"NodePort without endpoints": {
			addr: func(f uint8) string { return nodeAddrs[f].String() }, port: 30083,
			pod: lost(nstest.Rejected), host: lost(nstest.Rejected), out: lost(nstest.Rejected),
		},
		"LoadBalancer without endpoints": {
			addr: func(f uint8) string { return vip(f, "external", 4) }, port: 80,
			pod: lost(nstest.Rejected), host: lost(nstest.Rejected), out: lost(nstest.Rejected),
		},
		"unused port of a ClusterIP": {
			addr: func(f uint8) string { return vip(f, "cluster", 1) }, port: 81,
			pod: lost(nstest.Rejected), host: lost(nstest.Rejected), out: lost(nstest.Rejected),
		},
		"address of no Service": {
			addr: func(f uint8) string { return vip(f, "cluster", 99) }, port: 80,
			pod: lost(nstest.Dropped), host: lost(nstest.Dropped), out: lost(nstest.Dropped),
		},
		"source ranges with the client": {
			addr: func(f uint8) string { return vip(f, "external", 5) }, port: 80,
			pod: lost(nstest.Dropped), host: want{threeServers, ""}, out: want{threeServers, client},
		},
		"source ranges without": {
			addr: func(f uint8) string { return vip(f, "external", 6) }, port: 80,
			pod: lost(nstest.Dropped), host: lost(nstest.Dropped), out: lost(nstest.Dropped),
		},
		"no source range": {
			addr: func(f uint8) string { return vip(f, "external", 7) }, port: 80,
			pod: lost(nstest.Dropped), host: lost(nstest.Dropped), out: lost(nstest.Dropped),
		},
		"source range of everybody": {
			addr: func(f uint8) string { return vip(f, "external", 8) }, port: 80,
			pod: want{threeServers, client}, host: want{threeServers, ""}, out: want{threeServers, client},
		},
	}
	for name, test := range tests {
		for _, family := range []uint8{4, 6} {
			for _, proto := range []string{"tcp", "udp"} {
				t.Run(fmt.Sprintf("%s/IPv%d/%s", name, family, proto), func(t *testing.T) {
					t.Parallel() // what is dropped takes time
					to := netip.AddrPortFrom(netip.MustParseAddr(test.addr(family)), test.port)
					for who, from := range map[string]struct {
						*nstest.Namespace
						addr netip.Addr
						want
					}{
						"pod":     {w.pods[9], podAddr(family, 9), test.pod},
						"host":    {w.node, netip.Addr{}, test.host},
						"outside": {w.client, clientAddrs[family], test.out},
					} {
						got := ask(t, from.Namespace, proto, to, from.addr, from.servers)
						want := map[string]string{}
						for _, s := range from.servers {
							want[s] = from.seen
						}
						if diff := cmp.Diff(want, got); diff != "" {
							t.Errorf("%s to %v: want, got (%s):\n%s", who, to, test.reason, diff)
						}
					}
				})
			}
		}
	}
}

// ask makes connections until every server that is wanted has answered (100 at most) and says whose address
// which server saw; the host's own addresses are not told apart.
func ask(t *testing.T, from *nstest.Namespace, proto string, to netip.AddrPort, own netip.Addr, servers []string) map[string]string {
	t.Helper()
	wait := patience
	if slices.Equal(servers, []string{nstest.Dropped}) {
		wait = impatience
	}
	got := map[string]string{}
	for i := 0; i < 100 && (i < 3 || len(got) < len(servers)); i++ {
		a, err := from.Ask(proto, to, wait)
		if err != nil {
			t.Fatalf("asking %v by %s: %v", to, proto, err)
		}
		switch {
		case !a.Saw.IsValid() || !own.IsValid():
			got[a.Server] = ""
		case a.Saw == own:
			got[a.Server] = "the client's"
		default:
			got[a.Server] = "the node's"
		}
		if !a.Saw.IsValid() {
			break // one is enough
		}
	}
	return got
}

// TestOtherProxy: an address for Services that another proxy serves is left to it, though its rules come after ours.
func TestOtherProxy(t *testing.T) {
	w := newNetwork(t, 1)
	b := w.backend(t)
	mustSync(t, b, packetsState().State, nil)
	const theirs = "10.96.0.200"
	nft(t, w.node, "add table ip another")
	for _, hook := range []string{"prerouting", "output"} {
		nft(t, w.node, fmt.Sprintf("add chain ip another %s { type nat hook %s priority -99 ; }", hook, hook))
		nft(t, w.node, fmt.Sprintf("add rule ip another %s ip daddr %s tcp dport 80 dnat to %s:8080", hook, theirs, podAddr(4, 1)))
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(theirs), 80)
	for who, from := range map[string]*nstest.Namespace{"pod": w.pods[9], "host": w.node} {
		if a, err := from.Ask("tcp", to, patience); err != nil || a.Server != "ep1" {
			t.Errorf("%s asking %v: %v, %v; want the other proxy's endpoint", who, to, a, err)
		}
	}
}

// TestHairpin: a Pod that is sent to itself is masqueraded, and to others not.
func TestHairpin(t *testing.T) {
	w := newNetwork(t, 3)
	b := w.backend(t)
	mustSync(t, b, packetsState().State, nil)
	for _, family := range []uint8{4, 6} {
		for _, proto := range []string{"tcp", "udp"} {
			to := netip.AddrPortFrom(netip.MustParseAddr(vip(family, "cluster", 1)), 80)
			got := ask(t, w.pods[1], proto, to, podAddr(family, 1), threeServers)
			want := map[string]string{"ep1": "the node's", "ep2": "the client's", "ep3": "the client's"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("IPv%d %s: want, got:\n%s", family, proto, diff)
			}
		}
	}
}
