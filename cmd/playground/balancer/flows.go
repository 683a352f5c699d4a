package balancer

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dropFlows makes the kernel forget the UDP flows to targets that are no longer used: UDP has no end of a connection,
// so that a client that keeps sending from one port would be sent to a dead target for good. TCP connections are left
// to drain.
func dropFlows(before, after []forward) error {
	type flow struct{ listener, target netip.AddrPort }
	stale := map[flow]bool{}
	for _, f := range before {
		if f.protocol == "UDP" {
			for _, t := range f.targets {
				stale[flow{f.address, t}] = true
			}
		}
	}
	for _, f := range after {
		for _, t := range f.targets {
			if f.protocol == "UDP" {
				delete(stale, flow{f.address, t})
			}
		}
	}
	if len(stale) == 0 {
		return nil
	}
	match := flowFilter(func(f *netlink.ConntrackFlow) bool {
		return f.Forward.Protocol == unix.IPPROTO_UDP &&
			stale[flow{addrPort(f.Forward.DstIP, f.Forward.DstPort), addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)}]
	})
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, match); err != nil {
			return fmt.Errorf("forgetting UDP flows: %w", err)
		}
	}
	return nil
}

// flowFilter implements netlink.CustomConntrackFilter.
type flowFilter func(*netlink.ConntrackFlow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool { return f(flow) }

func addrPort(ip []byte, port uint16) netip.AddrPort {
	address, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(address.Unmap(), port)
}
