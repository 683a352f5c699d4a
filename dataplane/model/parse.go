package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netutils "k8s.io/utils/net"
)

// parseAddr reads an address as API servers stored it over the years: IPv4 octets may have leading zeros, IPv4
// may be written as IPv4-mapped IPv6.
func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		sloppy, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(s))
		if !ok {
			return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
		}
		addr = sloppy
	}
	addr = addr.Unmap()
	if addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q has a zone", s)
	}
	return addr, nil
}

// parsePrefix reads a CIDR with the same tolerance as parseAddr, and trims blanks, which the API server's
// validation of loadBalancerSourceRanges lets through. Host bits are cleared.
func parsePrefix(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		_, sloppy, sloppyErr := netutils.ParseCIDRSloppy(s)
		if sloppyErr != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not a CIDR", s)
		}
		addr, _ := netip.AddrFromSlice(sloppy.IP)
		ones, _ := sloppy.Mask.Size()
		prefix = netip.PrefixFrom(addr, ones)
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q mixes IPv4 and IPv6", s)
	}
	return prefix.Masked(), nil
}

// ParsePrefixes reads a list of CIDRs; the error names every bad one. The result is as mergePrefixes gives it.
func ParsePrefixes(values []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	var bad []string
	for _, value := range values {
		prefix, err := parsePrefix(value)
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		prefixes = append(prefixes, prefix)
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(bad, "; "))
	}
	return mergePrefixes(prefixes), nil
}

// mergePrefixes sorts prefixes and leaves out those inside another, since interval sets of kernels refuse
// overlaps. nil stays nil, and an empty list stays empty.
func mergePrefixes(prefixes []netip.Prefix) []netip.Prefix {
	if prefixes == nil {
		return nil
	}
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	merged := make([]netip.Prefix, 0, len(sorted))
	for _, p := range sorted {
		// Sorted by address, then by length: whatever contains p came before it, and is the last one kept, since
		// prefixes either nest or are disjoint.
		if n := len(merged); n > 0 && merged[n-1].Overlaps(p) {
			continue
		}
		merged = append(merged, p)
	}
	return merged
}

// family is 4 or 6.
func family(addr netip.Addr) uint8 {
	if addr.Is4() {
		return 4
	}
	return 6
}

// unspecified is 0.0.0.0 or ::.
func unspecified(f uint8) netip.Addr {
	if f == 4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// servable says whether packets to addr can be a Service's. Unspecified stands for node ports in a FrontendKey;
// loopback and multicast would capture the node's own traffic.
func servable(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsMulticast()
}

// reachable says whether addr can be an endpoint's: the API server refuses the others in EndpointSlices, and a
// slice from elsewhere must not lead clients to a node's own loopback.
func reachable(addr netip.Addr) bool {
	return servable(addr) && !addr.IsLinkLocalUnicast()
}

// parseProtocol maps the API's name to a number. Empty means TCP, as everywhere in the API.
func parseProtocol(p corev1.Protocol) (Protocol, error) {
	switch p {
	case corev1.ProtocolTCP, "":
		return TCP, nil
	case corev1.ProtocolUDP:
		return UDP, nil
	case corev1.ProtocolSCTP:
		return SCTP, nil
	}
	return 0, fmt.Errorf("unknown protocol %q", p)
}

// parsePort accepts 1 to 65535.
func parsePort(port int32) (uint16, error) {
	if port < 1 || port > 65535 {
		return 0, fmt.Errorf("port %d is outside 1-65535", port)
	}
	return uint16(port), nil
}
