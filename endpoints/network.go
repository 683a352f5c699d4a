package endpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// NetworkStatusAnnotation is where Multus, and the CNI plugins that do as it does, say which networks a Pod is on: the
// Network Plumbing Working Group's specification of multiple networks, version 1.2. Whoever may write Pods can write
// it, so that nothing in it may be believed without an AddressFilter.
const NetworkStatusAnnotation = "k8s.v1.cni.cncf.io/network-status"

// MaxNetworkStatus is how many bytes of that annotation are read at most. An interface takes some 200; the API server
// would take 256 KiB of it from anyone.
const MaxNetworkStatus = 32 << 10

// Attachment is one interface of a Pod.
type Attachment struct {
	// Network is the name of the network as namespace/name: that of a NetworkAttachmentDefinition. Where the
	// annotation has a bare name, which is that of the cluster's default network or an older Multus's writing, the
	// namespace is the Pod's.
	Network string
	// IPs are as the annotation has them, unchecked.
	IPs []string
}

// Attachments reads the annotation NetworkStatusAnnotation of a Pod, in its order. A Pod without it has none. The error
// says what is wrong with the annotation, and nothing else of it is believed then.
func Attachments(pod *corev1.Pod) ([]Attachment, error) {
	text := pod.Annotations[NetworkStatusAnnotation]
	if text == "" {
		return nil, nil
	}
	if len(text) > MaxNetworkStatus {
		return nil, fmt.Errorf("it is longer than %d bytes", MaxNetworkStatus)
	}
	var entries []struct {
		Name string   `json:"name"`
		IPs  []string `json:"ips"`
	}
	if err := json.Unmarshal([]byte(text), &entries); err != nil {
		return nil, errors.New("it is no list of networks in JSON")
	}
	attachments := make([]Attachment, 0, len(entries))
	for _, e := range entries {
		attachments = append(attachments, Attachment{Network: QualifiedNetwork(pod.Namespace, e.Name), IPs: e.IPs})
	}
	return attachments, nil
}

// QualifiedNetwork returns the name of a network as namespace/name, given where a bare name is meant.
func QualifiedNetwork(namespace, name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return namespace + "/" + name
}

// neverServed are the ranges that no Pod's own address is in, whatever is allowed: this host and this network,
// loopback, link-local (with it the metadata service of most clouds), multicast, reserved and broadcast; and the IPv6
// ranges that carry an IPv4 address to whom a translator would deliver (IANA's special-purpose registries; RFC 4291,
// 6052, 8215, 3056).
var neverServed = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// AddressFilter says which addresses that a Pod claims are served. It cannot tell whether an address is that Pod's:
// what is allowed should hold nothing but Pods' addresses on secondary networks. The zero value lets nothing through.
type AddressFilter struct {
	// Allowed holds every address that is served.
	Allowed []netip.Prefix
	// Denied are taken out of it: the ranges of cluster IPs.
	Denied []netip.Prefix
}

// Select returns the addresses of a list that are served, at most one of each family, the first, as podIPs and the
// slices of kube-controller-manager have them; and how many of the list may not be. What cannot be read as an address
// in its one usual form may not be: a host that reads 010.0.0.1 or ::ffff:10.0.0.1 otherwise would be another.
func (f AddressFilter) Select(ips []string) (served []string, excluded int) {
	var v4, v6 bool
	for _, text := range ips {
		ip, err := netip.ParseAddr(text)
		switch {
		case err != nil || !f.allows(ip):
			excluded++
		case ip.Is4() && !v4, ip.Is6() && !v6:
			v4, v6 = v4 || ip.Is4(), v6 || ip.Is6()
			served = append(served, ip.String())
		}
	}
	return served, excluded
}

// allows says whether one address is served. One with a zone is in no range.
func (f AddressFilter) allows(ip netip.Addr) bool {
	return !ip.Is4In6() && within(f.Allowed, ip) && !within(f.Denied, ip) && !within(neverServed, ip)
}

func within(prefixes []netip.Prefix, ip netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
