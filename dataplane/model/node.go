package model

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Options are the administrator's choices; they do not change while the agent runs.
type Options struct {
	// NodeName is the name of this node's Node object. Endpoints of that nodeName are local.
	NodeName string
	// Coexist serves only Services that carry the label service.kubernetes.io/service-proxy-name with our name,
	// and leaves addresses of the ServiceCIDRs alone: another proxy owns them. Otherwise Services with our name
	// and those without any are served.
	Coexist bool
	// MasqueradeAll replaces the source address of every connection to a cluster IP.
	MasqueradeAll bool
	// IgnoreExternalIPs leaves spec.externalIPs out, which anybody who may write Services can set to any address
	// (CVE-2020-8554).
	IgnoreExternalIPs bool
	NodePorts         NodePortPolicy
	LocalDetection    LocalDetection
}

// NodePortPolicy chooses the addresses of the node on which node ports are served. The zero value means Primary.
type NodePortPolicy struct {
	// Primary are the first addresses, one per family, that the Node object has.
	Primary bool
	// All are all addresses but loopback.
	All bool
	// CIDRs choose among the machine's addresses. A family that has none here is served on all its addresses, as
	// kube-proxy does, unless Primary speaks for it.
	CIDRs []netip.Prefix
}

// ParseNodePortPolicy reads a list of the words primary, all and localhost, and of CIDRs, in any combination.
// Loopback is never served: localhost alone means no address at all.
func ParseNodePortPolicy(values []string) (NodePortPolicy, error) {
	var policy NodePortPolicy
	var cidrs []string
	for _, value := range values {
		switch value {
		case "primary":
			policy.Primary = true
		case "all":
			policy.All = true
		case "localhost":
			cidrs = append(cidrs, "127.0.0.0/8", "::1/128")
		default:
			cidrs = append(cidrs, value)
		}
	}
	prefixes, err := ParsePrefixes(cidrs)
	if err != nil {
		return NodePortPolicy{}, fmt.Errorf("%w (want primary, all, localhost or CIDRs)", err)
	}
	policy.CIDRs = prefixes
	return policy, nil
}

// choose applies the policy to the node's addresses.
func (p NodePortPolicy) choose(primary, machine []netip.Addr) NodePortAddresses {
	var out NodePortAddresses
	onlyPrimary := p.Primary || len(p.CIDRs) == 0 && !p.All
	for _, f := range []uint8{4, 6} {
		all := &out.AllIPv4
		if f == 6 {
			all = &out.AllIPv6
		}
		cidrs := slices.DeleteFunc(slices.Clone(p.CIDRs), func(c netip.Prefix) bool { return family(c.Addr()) != f })
		zero := slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return c.Bits() == 0 })
		*all = p.All || zero || len(cidrs) == 0 && !onlyPrimary
		if *all {
			continue
		}
		if onlyPrimary {
			isServable := func(a netip.Addr) bool { return family(a) == f && servable(a) }
			if i := slices.IndexFunc(primary, isServable); i >= 0 {
				out.Addrs = append(out.Addrs, primary[i])
			}
		}
		for _, addr := range machine {
			if servable(addr) && slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return c.Contains(addr) }) {
				out.Addrs = append(out.Addrs, addr)
			}
		}
	}
	slices.SortFunc(out.Addrs, netip.Addr.Compare)
	out.Addrs = slices.Compact(out.Addrs)
	return out
}

// LocalDetection tells Pods of this node from outside clients. The zero value cannot: then no connection to a
// cluster IP is masqueraded (but for MasqueradeAll), and Pods count as outside clients of Local Services. At
// most one field is meant to be set.
type LocalDetection struct {
	// ClusterCIDRs are the ranges of all Pods.
	ClusterCIDRs []netip.Prefix
	// NodeCIDR takes the ranges of this node's Pods from its Node object.
	NodeCIDR bool
	// InterfacePrefixes are the beginnings of names of the interfaces by which packets of Pods come in.
	InterfacePrefixes []string
	// Interfaces are whole names of such interfaces.
	Interfaces []string
}

// nodeFacts is what the model needs of the Node object.
type nodeFacts struct {
	zone      string
	addresses []netip.Addr // InternalIPs, then ExternalIPs, in the order of the object
	podCIDRs  []netip.Prefix
}

// readNode takes the facts out of the object. Bad addresses and ranges are left out and named by the error.
func readNode(node *corev1.Node) (nodeFacts, error) {
	facts := nodeFacts{zone: node.Labels[corev1.LabelTopologyZone]}
	var problems []string
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range node.Status.Addresses {
			if a.Type != kind {
				continue
			}
			addr, err := parseAddr(a.Address)
			if err != nil {
				problems = append(problems, fmt.Sprintf("address %v", err))
				continue
			}
			facts.addresses = append(facts.addresses, addr)
		}
	}
	cidrs := node.Spec.PodCIDRs
	if len(cidrs) == 0 && node.Spec.PodCIDR != "" {
		cidrs = []string{node.Spec.PodCIDR}
	}
	for _, cidr := range cidrs {
		prefix, err := parsePrefix(cidr)
		if err != nil {
			problems = append(problems, fmt.Sprintf("podCIDR %v", err))
			continue
		}
		facts.podCIDRs = append(facts.podCIDRs, prefix)
	}
	if len(problems) > 0 {
		return facts, fmt.Errorf("Node %s: %s", node.Name, strings.Join(problems, "; "))
	}
	return facts, nil
}

// buildNode puts together what backends need to know of the node.
func buildNode(opts Options, facts nodeFacts, machine []netip.Addr, cidrs map[string][]netip.Prefix) Node {
	node := Node{NodePorts: opts.NodePorts.choose(facts.addresses, machine)}
	detection := opts.LocalDetection
	ranges := slices.Clone(detection.ClusterCIDRs)
	if detection.NodeCIDR {
		ranges = append(ranges, facts.podCIDRs...)
	}
	node.LocalRanges = mergePrefixes(ranges)
	for _, prefix := range detection.InterfacePrefixes {
		node.LocalInterfaces = append(node.LocalInterfaces, prefix+"*")
	}
	node.LocalInterfaces = append(node.LocalInterfaces, detection.Interfaces...)
	slices.Sort(node.LocalInterfaces)
	node.LocalInterfaces = slices.Compact(node.LocalInterfaces)
	if !opts.Coexist {
		var all []netip.Prefix
		for _, prefixes := range cidrs {
			all = append(all, prefixes...)
		}
		node.ServiceRanges = mergePrefixes(all)
	}
	return node
}

// detects says whether Pods of the family can be told from outside clients.
func (n *Node) detects(f uint8) bool {
	return len(n.LocalInterfaces) > 0 ||
		slices.ContainsFunc(n.LocalRanges, func(p netip.Prefix) bool { return family(p.Addr()) == f })
}

func (n *Node) equal(other *Node) bool { return reflect.DeepEqual(n, other) }
