package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Network is the playground's network:
//
//	fl-root      bridge 172.30.0.0/24: the API server and, as ports, the nodes and the cloud's router
//	fl-n1..3     default route to fl-cloud; routes to the other nodes' Pods
//	fl-cloud     router between nodes and internet; balancer addresses (198.51.100.0/24) are dealt with there
//	fl-internet  203.0.113.0/24, default route to fl-cloud: knows balancer and node addresses alone
//
// Answers to the internet leave every node through fl-cloud, so that what it translated on the way in it
// translates back, without taking the client's address from the packet.
type Network struct {
	Root, Cloud, Internet *Namespace
	// Nodes by the node's name.
	Nodes map[string]*Namespace
}

// New makes all namespaces, links, addresses and the routes that do not depend on Pod networks.
func New(nodes []Node) (*Network, error) {
	n := &Network{Nodes: map[string]*Namespace{}}
	var err error
	if n.Root, err = NameOwn(RootName); err != nil {
		return nil, err
	}
	if n.Cloud, err = NewNamespace(CloudName); err != nil {
		return nil, err
	}
	if n.Internet, err = NewNamespace(InternetName); err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if n.Nodes[node.Name], err = NewNamespace(node.Namespace()); err != nil {
			return nil, err
		}
	}
	for _, ns := range n.All() {
		if err := ns.prepare(); err != nil {
			return nil, err
		}
	}
	if err := n.connect(nodes); err != nil {
		return nil, err
	}
	return n, nil
}

// All returns all namespaces.
func (n *Network) All() []*Namespace {
	all := []*Namespace{n.Root, n.Cloud, n.Internet}
	for _, ns := range n.Nodes {
		all = append(all, ns)
	}
	return all
}

func (n *Network) connect(nodes []Node) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name = bridgeName
	if err := n.Root.Link.LinkAdd(bridge); err != nil {
		return fmt.Errorf("making the bridge: %w", err)
	}
	if err := n.Root.up(bridge, rootAddresses); err != nil {
		return err
	}
	type port struct {
		ns        *Namespace
		name      string
		addresses [2]netip.Prefix
	}
	ports := []port{{n.Cloud, "cloud", cloudAddresses}}
	for _, node := range nodes {
		ports = append(ports, port{n.Nodes[node.Name], node.Name, node.Addresses})
	}
	for _, p := range ports {
		if err := veth(n.Root, "to-"+p.name, p.ns, nodeLink); err != nil {
			return err
		}
		end, err := n.Root.Link.LinkByName("to-" + p.name)
		if err != nil {
			return fmt.Errorf("finding the bridge's port to %s: %w", p.name, err)
		}
		if err := n.Root.Link.LinkSetMaster(end, bridge); err != nil {
			return fmt.Errorf("adding the port to %s to the bridge: %w", p.name, err)
		}
		if err := n.Root.Link.LinkSetUp(end); err != nil {
			return fmt.Errorf("setting up the bridge's port to %s: %w", p.name, err)
		}
		if err := p.ns.upByName(nodeLink, p.addresses); err != nil {
			return err
		}
	}
	if err := veth(n.Cloud, outsideName, n.Internet, nodeLink); err != nil {
		return err
	}
	if err := n.Cloud.upByName(outsideName, outsideAddresses); err != nil {
		return err
	}
	if err := n.Internet.upByName(nodeLink, internetAddresses); err != nil {
		return err
	}
	return n.defaultRoutes(outsideAddresses)
}

func (n *Network) defaultRoutes(outside [2]netip.Prefix) error {
	for _, ns := range n.All() {
		gateways := cloudAddresses
		switch ns {
		case n.Cloud:
			continue
		case n.Internet:
			gateways = outside
		}
		for _, gateway := range gateways {
			if err := ns.route(netip.PrefixFrom(unspecified(gateway.Addr()), 0), gateway.Addr()); err != nil {
				return err
			}
		}
	}
	return nil
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// RoutePods leads a node's Pod networks to it, from the other nodes, the control plane and the cloud's router (which
// may have Pods as targets). The internet gets no such route.
func (n *Network) RoutePods(node Node, cidrs []netip.Prefix) error {
	for _, ns := range n.All() {
		if ns == n.Internet || ns == n.Nodes[node.Name] {
			continue
		}
		for _, cidr := range cidrs {
			gateway := node.Addresses[0]
			if cidr.Addr().Is6() {
				gateway = node.Addresses[1]
			}
			if err := ns.route(cidr.Masked(), gateway.Addr()); err != nil {
				return err
			}
		}
	}
	return nil
}

// veth makes a pair of links between two namespaces.
func veth(a *Namespace, aName string, b *Namespace, bName string) error {
	peer, err := os.Open(Dir + "/" + b.Name)
	if err != nil {
		return fmt.Errorf("opening namespace %s: %w", b.Name, err)
	}
	defer func() { _ = peer.Close() }()
	link := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: bName, PeerNamespace: netlink.NsFd(int(peer.Fd()))}
	link.Name = aName
	if err := a.Link.LinkAdd(link); err != nil {
		return fmt.Errorf("linking %s with %s: %w", a.Name, b.Name, err)
	}
	return nil
}

func (n *Namespace) upByName(name string, addresses [2]netip.Prefix) error {
	link, err := n.Link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s of %s: %w", name, n.Name, err)
	}
	return n.up(link, addresses)
}

// up gives a link its addresses and sets it up. IPv6 addresses serve at once, without looking for a duplicate.
func (n *Namespace) up(link netlink.Link, addresses [2]netip.Prefix) error {
	for _, prefix := range addresses {
		address := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := n.Link.AddrAdd(link, address); err != nil {
			return fmt.Errorf("adding %s to %s of %s: %w", prefix, link.Attrs().Name, n.Name, err)
		}
	}
	if err := n.Link.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting up %s of %s: %w", link.Attrs().Name, n.Name, err)
	}
	return nil
}

func (n *Namespace) route(to netip.Prefix, gateway netip.Addr) error {
	err := n.Link.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: gateway.AsSlice()})
	if err != nil {
		return fmt.Errorf("routing %s through %s in %s: %w", to, gateway, n.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sysctls of every namespace, set before it has links, which take over what "default" says.
var sysctls = []struct{ name, value string }{
	{"ipv4/ip_forward", "1"},
	{"ipv6/conf/all/forwarding", "1"},
	{"ipv6/conf/default/forwarding", "1"},
	// A packet that passes a node only on its way to a Service must not teach its sender a shorter way, which
	// would be remembered for minutes after the node's rules have come.
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	{"ipv4/conf/all/accept_redirects", "0"},
	{"ipv4/conf/default/accept_redirects", "0"},
	{"ipv6/conf/all/accept_redirects", "0"},
	{"ipv6/conf/default/accept_redirects", "0"},
	// Distributions turn this on for the host, and IPv4 settings are inherited.
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv6/conf/all/accept_dad", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	{"ipv6/conf/all/disable_ipv6", "0"},
	{"ipv6/conf/default/disable_ipv6", "0"},
}

// prepare sets the namespace's sysctls and its loopback.
func (n *Namespace) prepare() error {
	err := n.Do(func() error {
		for _, s := range sysctls {
			if err := os.WriteFile("/proc/sys/net/"+s.name, []byte(s.value), 0o644); err != nil {
				return explainSysctl(s.name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	lo, err := n.Link.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding loopback of %s: %w", n.Name, err)
	}
	if err := n.Link.LinkSetUp(lo); err != nil {
		return fmt.Errorf("setting up loopback of %s: %w", n.Name, err)
	}
	return nil
}

func explainSysctl(name string, err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("setting net.%s: /proc/sys is read-only, as in most containers: run the playground on the machine "+
			"itself, or in a container started with --privileged", strings.ReplaceAll(name, "/", "."))
	case errors.Is(err, os.ErrNotExist) && strings.HasPrefix(name, "ipv6/"):
		return errors.New("this kernel runs without IPv6 (ipv6.disable=1?), and the playground is dual-stack: boot with IPv6")
	}
	return fmt.Errorf("setting net.%s: %w", strings.ReplaceAll(name, "/", "."), err)
}
