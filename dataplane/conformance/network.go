package conformance

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// Network is the network of namespaces that all cases share. The node under test, n1, stands in the middle; every way
// between two others leads through it, so that it sees the answers too.
//
//	outside ── router ─┐                     ┌─ world: has every external address and every cluster IP, and
//	203.0.113.5        │                     │  answers for those that n1 lets pass
//	                   ├──────── n1 ─────────┤
//	Pods of n1:        │   172.30.0.17       ├─ n2 172.30.0.18 ── Pods c, d
//	a, b, here, bridge ┤   198.18.0.1        │                    10.244.2.2, .3
//	10.244.1.2, .3, .9, .10                  └─ n3 ── Pod there 10.244.3.9
//	stranger 10.245.1.9, of a second range of Pods
type Network struct {
	node    *nstest.Namespace
	clients map[Client]*client
	foreign *foreign
}

// Client is who asks.
type Client string

// The clients. Endpoints a to d are clients as well.
const (
	Here     Client = "Pod"                     // on this node
	Bridge   Client = "Pod behind cni0"         // on this node, too
	There    Client = "Pod of another node"     // routed through this node
	Stranger Client = "Pod of the second range" // on this node, outside the local range
	Node     Client = "node"
	Outside  Client = "outside client"
	Crowd    Client = "many outside clients" // each connection comes from another address
	podA     Client = "a"
	podC     Client = "c"
)

// client is a namespace, and the address its connections come from, or, of a crowd, the range of addresses.
type client struct {
	ns    *nstest.Namespace
	addr  map[Family]netip.Addr
	crowd map[Family]netip.Prefix
	ports atomic.Uint32 // that were used
}

// Ports that clients use: below are node ports, above is what programs on the node get from the kernel.
const (
	firstClientPort = 33000
	clientPorts     = 27000
)

// source returns an address, and a port that no connection has had for long. Of a crowd each number has another address.
func (c *client) source(f Family, number int) netip.AddrPort {
	port := uint16(firstClientPort + c.ports.Add(1)%clientPorts)
	net, isCrowd := c.crowd[f]
	if !isCrowd {
		return netip.AddrPortFrom(pick(f, netip.IPv4Unspecified(), netip.IPv6Unspecified()), port)
	}
	b := net.Addr().AsSlice()
	b[len(b)-1] += byte(number % crowdSize)
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr, port)
}

// Ports on which the endpoints listen, for all protocols; on the second one they answer with the port in their name.
const (
	targetPort       = 8080
	secondTargetPort = 8443
)

// External addresses and cluster IPs that the world answers for, from 1 on, at port 80.
const worldAddresses = 20

// world is the name of the server that stands for everything beyond the node.
const world = "world"

// NewNetwork makes the network. It goes with the test.
func NewNetwork(tb testing.TB) *Network {
	tb.Helper()
	n := &Network{node: namespace(tb, "n1"), clients: map[Client]*client{}}
	n.node.Forward(tb)
	n.clients[Node] = &client{ns: n.node, addr: byFamily(Family.nodeAddr)}
	two := router(tb, "n2")
	link(tb, n.node, "n2", byFamily(Family.nodeAddr), two, byFamily(Family.nodeTwoAddr))
	three := router(tb, "n3")
	link(tb, n.node, "n3", ends("172.30.3.", "fd00:172:33::", 1), three, ends("172.30.3.", "fd00:172:33::", 2))

	podGateway := ends("10.244.1.", "fd00:244:1::", 1)
	n.clients[podA] = pod(tb, n.node, "poda", podGateway, byFamily(func(f Family) netip.Addr { return f.podAddr(2) }))
	b := pod(tb, n.node, "podb", podGateway, byFamily(func(f Family) netip.Addr { return f.podAddr(3) }))
	n.clients[Here] = pod(tb, n.node, "podhere", podGateway, byFamily(func(f Family) netip.Addr { return f.podAddr(9) }))
	n.clients[Bridge] = pod(tb, n.node, "cni0", podGateway, byFamily(func(f Family) netip.Addr { return f.podAddr(10) }))
	n.clients[Stranger] = pod(tb, n.node, "second0", ends("10.245.1.", "fd00:245:1::", 1), ends("10.245.1.", "fd00:245:1::", 9))
	farGateway := ends("10.244.2.", "fd00:244:2::", 1)
	n.clients[podC] = pod(tb, two, "podc", farGateway, byFamily(func(f Family) netip.Addr { return f.farPodAddr(2) }))
	d := pod(tb, two, "podd", farGateway, byFamily(func(f Family) netip.Addr { return f.farPodAddr(3) }))
	n.clients[There] = pod(tb, three, "podthere", ends("10.244.3.", "fd00:244:3::", 1), ends("10.244.3.", "fd00:244:3::", 9))
	for name, c := range map[string]*client{"a": n.clients[podA], "b": b, "c": n.clients[podC], "d": d} {
		for _, f := range Families {
			serve(tb, c.ns, name, c.addr[f], targetPort)
			serve(tb, c.ns, fmt.Sprint(name, ":", secondTargetPort), c.addr[f], secondTargetPort)
		}
	}
	for _, f := range Families {
		n.node.Route(tb, f.prefix("10.244.2.0/24", "fd00:244:2::/64"), f.nodeTwoAddr())
		n.node.Route(tb, f.prefix("10.244.3.0/24", "fd00:244:3::/64"), f.addr("172.30.3.", "fd00:172:33::", 2))
		two.Route(tb, f.everything(), f.nodeAddr())
		three.Route(tb, f.everything(), f.addr("172.30.3.", "fd00:172:33::", 1))
		n.node.Loopback(tb, f.externalAddr(localExternal))
	}
	n.addOutside(tb)
	n.addWorld(tb)
	n.foreign = newForeign(tb, n.node)
	return n
}

// addOutside adds the outside clients, behind a router.
func (n *Network) addOutside(tb testing.TB) {
	tb.Helper()
	edge, outside := router(tb, "router"), namespace(tb, "outside")
	link(tb, n.node, "edge", byFamily(Family.uplinkAddr), edge, ends("198.18.0.", "2001:db8:18::", 2))
	addr := ends("203.0.113.", "2001:db8:113::", 5)
	gateway := ends("203.0.113.", "2001:db8:113::", 1)
	link(tb, edge, "outside", gateway, outside, addr)
	crowd := map[Family]netip.Prefix{}
	for _, f := range Families {
		crowd[f] = f.crowdNet()
		n.node.Route(tb, f.outsideNet(), f.addr("198.18.0.", "2001:db8:18::", 2))
		edge.Route(tb, f.everything(), f.uplinkAddr())
		edge.Route(tb, f.crowdNet(), addr[f])
		outside.Route(tb, f.everything(), gateway[f])
		outside.Own(tb, f.crowdNet())
	}
	n.clients[Outside] = &client{ns: outside, addr: addr}
	n.clients[Crowd] = &client{ns: outside, crowd: crowd}
}

// addWorld adds what answers for the addresses that the node lets pass.
func (n *Network) addWorld(tb testing.TB) {
	tb.Helper()
	w := namespace(tb, world)
	near, far := ends("192.0.2.", "2001:db8:2::", 1), ends("192.0.2.", "2001:db8:2::", 2)
	link(tb, n.node, world, near, w, far)
	for _, f := range Families {
		// The node's own connections come from its first address.
		n.node.RouteFrom(tb, f.everything(), far[f], f.nodeAddr())
		w.Route(tb, f.everything(), near[f])
		for _, owned := range []netip.Prefix{f.externalNet(), f.ServiceCIDR(), f.newCIDR()} {
			w.Own(tb, owned)
		}
		for i := range worldAddresses {
			for _, addr := range []netip.Addr{f.clusterAddr(i + 1), f.externalAddr(i + 1), f.newAddr(i + 1)} {
				serve(tb, w, world, addr, servicePort)
			}
		}
	}
}

// NodeFD is a file descriptor of the node's network namespace, open as long as the test.
func (n *Network) NodeFD() int { return n.node.FD() }

// InNode runs a function inside the node's network namespace: see nstest.Namespace.Do.
func (n *Network) InNode(f func() error) error { return n.node.Do(f) }

// NodeAddresses are all addresses of the node.
func (n *Network) NodeAddresses(tb testing.TB) []netip.Addr { return n.node.Addresses(tb) }

// Close checks what must have been so all the time: nobody touched other programs' rules and marks.
func (n *Network) Close(tb testing.TB) {
	tb.Helper()
	n.foreign.check(tb)
}

func namespace(tb testing.TB, name string) *nstest.Namespace {
	tb.Helper()
	ns := nstest.New(tb, name)
	ns.UnlimitICMP(tb)
	return ns
}

func router(tb testing.TB, name string) *nstest.Namespace {
	tb.Helper()
	ns := namespace(tb, name)
	ns.Forward(tb)
	return ns
}

// pod makes a Pod on a node, at the end of a link of its own. All Pods of a node see the same gateway.
func pod(tb testing.TB, node *nstest.Namespace, name string, gateway, addr map[Family]netip.Addr) *client {
	tb.Helper()
	ns := namespace(tb, name)
	node.Connect(tb, name, hosts(gateway), ns, "eth0", hosts(addr))
	for _, f := range Families {
		node.RouteLink(tb, netip.PrefixFrom(addr[f], addr[f].BitLen()), name)
		ns.RouteLink(tb, netip.PrefixFrom(gateway[f], gateway[f].BitLen()), "eth0")
		ns.Route(tb, f.everything(), gateway[f])
	}
	return &client{ns: ns, addr: addr}
}

// serve answers TCP, UDP and SCTP at an address.
func serve(tb testing.TB, ns *nstest.Namespace, name string, addr netip.Addr, port uint16) {
	tb.Helper()
	ns.Serve(tb, name, netip.AddrPortFrom(addr, port))
	ns.ServeSCTP(tb, name, addr, port)
}

// link connects two namespaces by a network of two addresses for each family.
func link(tb testing.TB, ns *nstest.Namespace, name string, addr map[Family]netip.Addr, peer *nstest.Namespace, peerAddr map[Family]netip.Addr) {
	tb.Helper()
	with := func(addrs map[Family]netip.Addr) []netip.Prefix {
		return []netip.Prefix{netip.PrefixFrom(addrs[4], 24), netip.PrefixFrom(addrs[6], 64)}
	}
	ns.Connect(tb, name, with(addr), peer, "to-"+ns.Name, with(peerAddr))
}

func hosts(addrs map[Family]netip.Addr) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(addrs[4], 32), netip.PrefixFrom(addrs[6], 128)}
}

func byFamily(of func(Family) netip.Addr) map[Family]netip.Addr {
	return map[Family]netip.Addr{4: of(4), 6: of(6)}
}

func ends(four, six string, n int) map[Family]netip.Addr {
	return byFamily(func(f Family) netip.Addr { return f.addr(four, six, n) })
}
