package nftables

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// network is a node with Pods, and a client outside:
//
//	client --- node --- ep1 (10.244.1.2, fd00:244:1::2), ep2, ep3, ... and Pod 9, a client
//	203.0.113.5         each behind a link of its own
type network struct {
	node, client *nstest.Namespace
	pods         map[int]*nstest.Namespace
}

const (
	patience   = 2 * time.Minute // for what must answer, on a machine that stands still for a while too
	impatience = 300 * time.Millisecond
)

var (
	nodeAddrs   = map[uint8]netip.Addr{4: netip.MustParseAddr("172.30.0.11"), 6: netip.MustParseAddr("fd00:172:30::11")}
	clientAddrs = map[uint8]netip.Addr{4: netip.MustParseAddr("203.0.113.5"), 6: netip.MustParseAddr("2001:db8:113::5")}
)

func podAddr(family uint8, pod int) netip.Addr { return podNet(family, pod, 2).Addr() }

func podNet(family uint8, pod, host int) netip.Prefix {
	if family == 4 {
		return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.%d/24", pod, host))
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:244:%d::%d/64", pod, host))
}

// newNetwork makes the network with endpoint Pods 1 to n, which serve port 8080 as ep1 to epn, and Pod 9.
func newNetwork(tb testing.TB, n int) *network {
	tb.Helper()
	w := &network{
		node:   nstest.New(tb, "node"),
		client: nstest.New(tb, "client"),
		pods:   map[int]*nstest.Namespace{},
	}
	w.node.Forward(tb)
	w.node.UnlimitICMP(tb)
	w.node.Loopback(tb, nodeAddrs[4], nodeAddrs[6])
	w.node.Connect(tb, "out", []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8:113::1/64")},
		w.client, "eth0", []netip.Prefix{netip.PrefixFrom(clientAddrs[4], 24), netip.PrefixFrom(clientAddrs[6], 64)})
	defaults := func(ns *nstest.Namespace, via4, via6 string) {
		ns.Route(tb, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(via4))
		ns.Route(tb, netip.MustParsePrefix("::/0"), netip.MustParseAddr(via6))
	}
	defaults(w.client, "203.0.113.1", "2001:db8:113::1")
	// The host's own connections to a cluster IP need a route before they meet the rules.
	defaults(w.node, "203.0.113.5", "2001:db8:113::5")
	for _, pod := range append(intsTo(n), 9) {
		ns := nstest.New(tb, fmt.Sprint("pod", pod))
		w.node.Connect(tb, fmt.Sprint("pod", pod), []netip.Prefix{podNet(4, pod, 1), podNet(6, pod, 1)},
			ns, "eth0", []netip.Prefix{podNet(4, pod, 2), podNet(6, pod, 2)})
		defaults(ns, podNet(4, pod, 1).Addr().String(), podNet(6, pod, 1).Addr().String())
		w.pods[pod] = ns
		if pod == 9 {
			continue
		}
		for _, family := range []uint8{4, 6} {
			ns.Serve(tb, fmt.Sprint("ep", pod), netip.AddrPortFrom(podAddr(family, pod), 8080))
		}
	}
	return w
}

func intsTo(n int) []int {
	var is []int
	for i := range n {
		is = append(is, i+1)
	}
	return is
}

// backend makes a backend for the network's node.
func (w *network) backend(tb testing.TB) *Backend {
	tb.Helper()
	b, err := New(Options{NetNS: w.node.FD()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

func mustSync(tb testing.TB, b *Backend, s *model.State, c *model.Changes) {
	tb.Helper()
	if err := b.Sync(s, c); err != nil {
		tb.Fatal(err)
	}
}

// cluster builds states.
type cluster struct{ *model.State }

func newCluster() cluster {
	return cluster{&model.State{
		Frontends: map[model.FrontendKey]*model.Frontend{}, Groups: map[model.GroupKey]*model.Group{},
		ClusterIPs: map[netip.Addr]int{},
		Node: model.Node{
			NodePorts:   model.NodePortAddresses{Addrs: []netip.Addr{nodeAddrs[4], nodeAddrs[6]}},
			LocalRanges: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")},
			ServiceRanges: []netip.Prefix{
				netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112"),
			},
		},
	}}
}

func (c cluster) group(name string, proto model.Protocol, family uint8, scope model.Scope, empty model.EmptyVerdict, pods ...int) model.GroupKey {
	key := model.GroupKey{
		Port:   model.ServicePortName{Namespace: "default", Name: name, Protocol: proto},
		Family: family, Scope: scope,
	}
	g := &model.Group{Key: key, Empty: empty}
	for _, pod := range pods {
		g.Endpoints = append(g.Endpoints, model.Endpoint{Addr: netip.AddrPortFrom(podAddr(family, pod), 8080), Local: true})
	}
	c.Groups[key] = g
	return key
}

func (c cluster) frontend(kind model.FrontendKind, addr string, port uint16, internal, external model.GroupKey, m model.Masquerade) *model.Frontend {
	f := &model.Frontend{
		Key: model.FrontendKey{Addr: netip.MustParseAddr(addr), Protocol: internal.Port.Protocol, Port: port}, Kind: kind,
		Port: internal.Port, Internal: internal, External: external, Masquerade: m,
	}
	c.Frontends[f.Key] = f
	if kind == model.ClusterIP {
		c.ClusterIPs[f.Key.Addr]++
	}
	return f
}
