package conformance

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Family is 4 or 6. A case is written once, and tried with the addresses of both.
type Family uint8

// Families are both.
var Families = []Family{4, 6}

func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }

// pick chooses what differs between the families.
func pick[T any](f Family, four, six T) T {
	if f == 4 {
		return four
	}
	return six
}

// other is the other family.
func (f Family) other() Family { return pick[Family](f, 6, 4) }

func (f Family) api() corev1.IPFamily { return pick(f, corev1.IPv4Protocol, corev1.IPv6Protocol) }

func (f Family) addressType() discoveryv1.AddressType {
	return pick(f, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
}

// addr makes an address of a pattern with one verb for a number, decimal in IPv4 and hexadecimal in IPv6.
func (f Family) addr(four, six string, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(pick(f, four+"%d", six+"%x"), n))
}

// prefix chooses one.
func (f Family) prefix(four, six string) netip.Prefix {
	return netip.MustParsePrefix(pick(f, four, six))
}

// ServiceCIDR is the range of cluster IPs.
func (f Family) ServiceCIDR() netip.Prefix { return f.prefix("10.96.0.0/16", "fd00:96::/112") }

// Other ranges and addresses of the network; network.go draws it.
func (f Family) clusterCIDR() netip.Prefix     { return f.prefix("10.244.0.0/16", "fd00:244::/32") }
func (f Family) podCIDR() netip.Prefix         { return f.prefix("10.244.1.0/24", "fd00:244:1::/64") }
func (f Family) newCIDR() netip.Prefix         { return f.prefix("10.97.0.0/24", "fd00:97::/120") }
func (f Family) outsideNet() netip.Prefix      { return f.prefix("203.0.113.0/24", "2001:db8:113::/64") }
func (f Family) crowdNet() netip.Prefix        { return f.prefix("203.0.113.64/26", "2001:db8:113::40/122") }
func (f Family) externalNet() netip.Prefix     { return f.prefix("198.51.100.0/24", "2001:db8:100::/64") }
func (f Family) nowhere() netip.Prefix         { return f.prefix("192.0.2.128/25", "2001:db8:dead::/64") }
func (f Family) everything() netip.Prefix      { return f.prefix("0.0.0.0/0", "::/0") }
func (f Family) uplinkNet() netip.Prefix       { return f.prefix("198.18.0.0/24", "2001:db8:18::/64") }
func (f Family) loopbackAddr() netip.Addr      { return f.addr("127.0.0.", "::", 1) }
func (f Family) newAddr(n int) netip.Addr      { return f.addr("10.97.0.", "fd00:97::", n) }
func (f Family) externalAddr(n int) netip.Addr { return f.addr("198.51.100.", "2001:db8:100::", n) }
func (f Family) podAddr(n int) netip.Addr      { return f.addr("10.244.1.", "fd00:244:1::", n) }
func (f Family) farPodAddr(n int) netip.Addr   { return f.addr("10.244.2.", "fd00:244:2::", n) }

// clusterAddr leaves the first numbers to what every API server has there.
func (f Family) clusterAddr(n int) netip.Addr { return f.addr("10.96.0.", "fd00:96::", 20+n) }

// nodeAddr is the node's first address in its Node object, nodeTwoAddr the other node's; uplinkAddr is another address
// of the node, by which outside clients come.
func (f Family) nodeAddr() netip.Addr    { return f.addr("172.30.0.", "fd00:172:30::", 17) }
func (f Family) nodeTwoAddr() netip.Addr { return f.addr("172.30.0.", "fd00:172:30::", 18) }
func (f Family) uplinkAddr() netip.Addr  { return f.addr("198.18.0.", "2001:db8:18::", 1) }

// crowdSize is how many addresses the crowdNets have.
const crowdSize = 64

// localExternal is the number of an external address that the node itself has.
const localExternal = 200

// nodePort makes numbers that no other n and family has: a number belongs to one Service over both families.
func (f Family) nodePort(n int) int32 { return int32(30000 + 10*n + int(f)) }

// healthPort is as nodePort, for healthCheckNodePort.
func (f Family) healthPort(n int) int32 { return int32(31000 + 10*n + int(f)) }

// name is the name of an object of one family.
func (f Family) name(base string) string { return fmt.Sprintf("%s-%d", base, f) }
