package network

import (
	"fmt"
	"net/netip"
)

// Addresses, all only inside the namespaces. The first of a pair is IPv4, the second IPv6.
const (
	PodCIDRs     = "10.244.0.0/16,fd00:244::/56"
	ServiceCIDRs = "10.96.0.0/16,fd00:96::/112"
	// BalancerCIDRs are what the cloud gives its load balancers.
	BalancerCIDRs = "198.51.100.0/24,fd00:198:51:100::/112"

	// Amazon is where the emulated AWS is, at the cloud's router.
	Amazon = "172.30.0.254:4566"

	// APIServer is where the API server is, as every node and Pod reaches it.
	APIServer     = "172.30.0.1"
	APIServerPort = 6443
	// InternetClient is the address of whoever connects from outside.
	InternetClient = "203.0.113.10"
)

// Names of the namespaces beside the nodes'.
const (
	RootName     = "fl-root"
	CloudName    = "fl-cloud"
	InternetName = "fl-internet"
	// PodPrefix begins the names of Pods' namespaces.
	PodPrefix = "fl-pod-"
)

// bridgeName is the node network's bridge in fl-root, outsideName the cloud router's link to the internet.
const (
	bridgeName  = "fl-nodes"
	nodeLink    = "eth0"
	outsideName = "eth1"
)

var (
	rootAddresses     = pair("172.30.0.1/24", "fd00:172:30::1/64")
	cloudAddresses    = pair("172.30.0.254/24", "fd00:172:30::fe/64")
	outsideAddresses  = pair("203.0.113.1/24", "fd00:203:0:113::1/64")
	internetAddresses = pair(InternetClient+"/24", "fd00:203:0:113::a/64")
)

func pair(v4, v6 string) [2]netip.Prefix {
	return [2]netip.Prefix{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
}

// Node is one node of the playground.
type Node struct {
	Name, Zone string
	// Addresses of the node on the node network, IPv4 first.
	Addresses [2]netip.Prefix
}

// Instance is the node as the emulated AWS knows it.
func (n Node) Instance() string {
	return fmt.Sprintf("i-%08x", n.Addresses[0].Addr().As4()[3])
}

// ProviderID is what AWS's node controller would write.
func (n Node) ProviderID() string { return "aws:///" + n.Zone + "/" + n.Instance() }

// Namespace is the name of the node's namespace.
func (n Node) Namespace() string { return "fl-" + n.Name }

// Nodes are n1 and n2 in zone-a, n3 in zone-b: two nodes of one zone show what a zone is, and two zones of
// different size what topology hints must weigh.
func Nodes() []Node {
	zones := []string{"zone-a", "zone-a", "zone-b"}
	nodes := make([]Node, len(zones))
	for i, zone := range zones {
		nodes[i] = Node{
			Name: fmt.Sprintf("n%d", i+1), Zone: zone,
			Addresses: pair(fmt.Sprintf("172.30.0.%d/24", 11+i), fmt.Sprintf("fd00:172:30::%d/64", 11+i)),
		}
	}
	return nodes
}
