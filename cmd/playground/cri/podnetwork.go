package cri

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Pod hangs on its node by a pair of links, point to point: its addresses are /32 and /128, its gateway is on the link by
// decree, the node has a route for each of its addresses, and both ends know each other's hardware address for good, so
// that nothing is ever asked (no ARP, no neighbour discovery, no duplicate address detection). There is no bridge, so a
// packet from a Pod to itself by way of a Service is routed like any other, and the link it came in by says whose it is.
const (
	// linkPrefix starts the names of the node's ends of Pods' links; whoever needs to know local Pods can match on it.
	linkPrefix = "flp"
	podLink    = "eth0"
)

var (
	gateway4 = net.IPv4(169, 254, 1, 1)
	gateway6 = net.ParseIP("fe80::1")
)

// podNetwork is one Pod's network.
type podNetwork struct {
	id    string // of the sandbox
	netns *os.File
	addrs []netip.Addr
	// sources are the node's own addresses, at most one of a family.
	sources []netip.Addr
}

func (n podNetwork) linkName() string { return linkPrefix + n.id[:12] }

// hardwareAddrs are those of the node's end and of the Pod's: locally administered, different for each Pod.
func (n podNetwork) hardwareAddrs() (node, pod net.HardwareAddr) {
	raw, err := hex.DecodeString(n.id[:8])
	if err != nil {
		panic(fmt.Sprintf("sandbox id %q is not hexadecimal", n.id))
	}
	return append(net.HardwareAddr{0x0a, 0xf1}, raw...), append(net.HardwareAddr{0x0e, 0xf1}, raw...)
}

// up makes the pair and configures both ends.
func (n podNetwork) up(t *thread) error {
	nodeMAC, podMAC := n.hardwareAddrs()
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.HardwareAddr = n.linkName(), nodeMAC
	pair := netlink.NewVeth(attributes)
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerNamespace = podLink, podMAC, netlink.NsFd(int(n.netns.Fd()))
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("making the Pod's link %s: %w", n.linkName(), err)
	}
	if err := t.in(namespaces{"net": n.netns}, podSysctls); err != nil {
		return fmt.Errorf("configuring the Pod's network: %w", err)
	}
	if err := n.upInPod(nodeMAC); err != nil {
		return fmt.Errorf("configuring the Pod's network: %w", err)
	}
	if err := n.upInNode(podMAC); err != nil {
		return fmt.Errorf("configuring the node's end of the Pod's link: %w", err)
	}
	return nil
}

// down removes the pair, which is gone already if the namespace is.
func (n podNetwork) down() error {
	link, err := netlink.LinkByName(n.linkName())
	if gone := (netlink.LinkNotFoundError{}); errors.As(err, &gone) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("removing the Pod's link %s: %w", n.linkName(), err)
	}
	return nil
}

func (n podNetwork) upInPod(nodeMAC net.HardwareAddr) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(n.netns.Fd()))
	if err != nil {
		return err
	}
	defer h.Close()
	loopback, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := h.LinkByName(podLink)
	if err != nil {
		return err
	}
	for _, l := range []netlink.Link{loopback, link} {
		if err := h.LinkSetUp(l); err != nil {
			return err
		}
	}
	for _, addr := range n.addrs {
		address := &netlink.Addr{IPNet: hostNet(addr)}
		gateway := gateway4
		if addr.Is6() {
			address.Flags, gateway = unix.IFA_F_NODAD, gateway6
		}
		if err := h.AddrAdd(link, address); err != nil {
			return fmt.Errorf("adding address %s: %w", addr, err)
		}
		if err := h.NeighSet(neighbour(link, gateway, nodeMAC)); err != nil {
			return fmt.Errorf("naming the gateway: %w", err)
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway, Flags: int(netlink.FLAG_ONLINK)}
		if err := h.RouteAdd(route); err != nil {
			return fmt.Errorf("adding the default route: %w", err)
		}
	}
	return nil
}

func (n podNetwork) upInNode(podMAC net.HardwareAddr) error {
	link, err := netlink.LinkByName(n.linkName())
	if err != nil {
		return err
	}
	if err := writeSysctls(nodeSysctls(n.linkName())); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, addr := range n.addrs {
		if err := netlink.NeighSet(neighbour(link, addr.AsSlice(), podMAC)); err != nil {
			return fmt.Errorf("naming the Pod: %w", err)
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: hostNet(addr), Scope: netlink.SCOPE_LINK}
		for _, source := range n.sources {
			if source.Is4() == addr.Is4() {
				route.Src = source.AsSlice()
			}
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("adding the route to %s: %w", addr, err)
		}
	}
	return nil
}

func neighbour(link netlink.Link, ip net.IP, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: mac}
}

func hostNet(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}

// podSysctls keeps a Pod's namespace from learning anything that it was not told: a redirect, sent because a packet to the
// Pod itself leaves by the link it came in, would outlive its cause by minutes.
func podSysctls() error {
	return writeSysctls(map[string]string{
		"net/ipv4/conf/all/accept_redirects":             "0",
		"net/ipv4/conf/" + podLink + "/accept_redirects": "0",
		"net/ipv6/conf/all/accept_redirects":             "0",
		"net/ipv6/conf/" + podLink + "/accept_redirects": "0",
		"net/ipv6/conf/" + podLink + "/accept_ra":        "0",
		"net/ipv6/conf/" + podLink + "/accept_dad":       "0",
	})
}

func nodeSysctls(link string) map[string]string {
	return map[string]string{
		"net/ipv4/conf/" + link + "/forwarding":     "1",
		"net/ipv4/conf/" + link + "/send_redirects": "0",
		"net/ipv6/conf/" + link + "/forwarding":     "1",
		"net/ipv6/conf/" + link + "/accept_dad":     "0",
	}
}

// writeSysctls sets values below /proc/sys, those of the network for the namespace of the calling thread. A kernel
// without IPv6 has none of its settings.
func writeSysctls(values map[string]string) error {
	for name, value := range values {
		path := filepath.Join("/proc/sys", name)
		err := os.WriteFile(path, []byte(value), 0)
		if os.IsNotExist(err) && strings.HasPrefix(name, "net/ipv6/") {
			continue
		}
		if err != nil {
			return fmt.Errorf("setting %s to %s: %w", path, value, err)
		}
	}
	return nil
}
