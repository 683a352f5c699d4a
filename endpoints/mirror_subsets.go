package endpoints

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	netutils "k8s.io/utils/net"
)

// mirrorSubset is a set of ports and the addresses that have exactly these, ready ones first, each sorted. Ports are
// sorted.
type mirrorSubset struct {
	ports     []discoveryv1.EndpointPort
	addresses []mirrorAddress
}

type mirrorAddress struct {
	*corev1.EndpointAddress
	ready bool
}

// addressKey tells the addresses of an Endpoints object apart: several Pods may have one address.
type addressKey struct {
	ip  string
	uid types.UID
}

// noPort stands for the ports of a subset that has none.
const noPort = -1

// canonicalSubsets brings subsets that people wrote in any layout into upstream's, which decides on the slices: each
// address once, with all the ports that it has and the readiness that it has there.
//
//  1. The addresses of each port. An address that is not ready in one subset is not ready in any with that port, and
//     what is said of it first counts for the rest of it.
//  2. Ports with the same addresses make one subset. A subset without ports is one of its own unless a port has the
//     same addresses, which says more.
//
// Ports are compared as upstream does, which never holds two with an appProtocol for the same: their subsets are not
// split into parts that they have in common.
func canonicalSubsets(subsets []corev1.EndpointSubset) []mirrorSubset {
	addresses := map[addressKey]*corev1.EndpointAddress{}
	byPort := map[corev1.EndpointPort]map[addressKey]bool{}
	add := func(port corev1.EndpointPort, all []corev1.EndpointAddress, ready bool) {
		for i := range all {
			key := keyOfAddress(&all[i])
			if addresses[key] == nil {
				addresses[key] = &all[i]
			}
			if byPort[port] == nil {
				byPort[port] = map[addressKey]bool{}
			}
			before, known := byPort[port][key]
			byPort[port][key] = ready && (before || !known)
		}
	}
	for i := range subsets {
		ports := subsets[i].Ports
		if len(ports) == 0 {
			ports = []corev1.EndpointPort{{Port: noPort}}
		}
		for _, port := range ports {
			add(port, subsets[i].Addresses, true)
			add(port, subsets[i].NotReadyAddresses, false)
		}
	}
	bySet := map[string]*mirrorSubset{}
	for port, members := range byPort {
		sorted := sortAddresses(members, addresses)
		id := setID(sorted)
		subset := bySet[id]
		if subset == nil {
			subset = &mirrorSubset{addresses: sorted, ports: []discoveryv1.EndpointPort{}}
			bySet[id] = subset
		}
		if port.Port != noPort {
			subset.ports = append(subset.ports, mirrorPort(port))
		}
	}
	all := make([]mirrorSubset, 0, len(bySet))
	for _, subset := range bySet {
		slices.SortFunc(subset.ports, comparePorts)
		subset.ports = slices.CompactFunc(subset.ports, func(a, b discoveryv1.EndpointPort) bool { return comparePorts(a, b) == 0 })
		all = append(all, *subset)
	}
	// Subsets may have equal ports with an appProtocol: their addresses decide then.
	slices.SortFunc(all, func(a, b mirrorSubset) int {
		return compareAll(strings.Compare(portsKey(a.ports), portsKey(b.ports)), strings.Compare(setID(a.addresses), setID(b.addresses)))
	})
	return all
}

func keyOfAddress(address *corev1.EndpointAddress) addressKey {
	key := addressKey{ip: address.IP}
	if address.TargetRef != nil {
		key.uid = address.TargetRef.UID
	}
	return key
}

// sortAddresses returns addresses in upstream's order, which decides which ones are left out where there are too many.
func sortAddresses(members map[addressKey]bool, addresses map[addressKey]*corev1.EndpointAddress) []mirrorAddress {
	sorted := make([]mirrorAddress, 0, len(members))
	for key := range maps.Keys(members) {
		sorted = append(sorted, mirrorAddress{EndpointAddress: addresses[key], ready: members[key]})
	}
	slices.SortFunc(sorted, func(a, b mirrorAddress) int {
		switch {
		case a.ready && !b.ready:
			return -1
		case !a.ready && b.ready:
			return 1
		}
		return compareAddresses(*a.EndpointAddress, *b.EndpointAddress)
	})
	return sorted
}

// setID is equal for equal sets of addresses of one Endpoints object.
func setID(addresses []mirrorAddress) string {
	var b strings.Builder
	for _, address := range addresses {
		key := keyOfAddress(address.EndpointAddress)
		fmt.Fprintf(&b, "%q %q %t\n", key.ip, key.uid, address.ready)
	}
	return b.String()
}

func mirrorPort(port corev1.EndpointPort) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &port.Name, Port: &port.Port, Protocol: &port.Protocol, AppProtocol: port.AppProtocol}
}

// mirrorEndpoint returns the endpoint of an address. It says of its condition only whether it is ready: an Endpoints
// object knows no more. Not ok: what is given as an address is none.
func mirrorEndpoint(address mirrorAddress) (endpoint *discoveryv1.Endpoint, family discoveryv1.AddressType, ok bool) {
	ip := netutils.ParseIPSloppy(address.IP)
	if ip == nil {
		return nil, "", false
	}
	family = discoveryv1.AddressTypeIPv4
	if ip.To4() == nil {
		family = discoveryv1.AddressTypeIPv6
	}
	endpoint = &discoveryv1.Endpoint{
		Addresses:  []string{ip.String()},
		Conditions: discoveryv1.EndpointConditions{Ready: &address.ready},
		TargetRef:  address.TargetRef,
		NodeName:   address.NodeName,
	}
	if address.Hostname != "" {
		endpoint.Hostname = &address.Hostname
	}
	return endpoint, family, true
}
