// Package model says what a node must do with packets for Services, and nothing of how: it turns
// Services, EndpointSlices and facts about this node into frontends and groups of endpoints, and keeps
// them up to date by difference. It is pure: no kernel, no API server, no clock. Backends
// (dataplane/nftables and its siblings) program what it says.
package model

import (
	"net/netip"
	"strconv"
	"time"
)

// Protocol is an IANA protocol number.
type Protocol uint8

// The protocols a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the API's name.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return strconv.Itoa(int(p))
}

// ServicePortName names one port of one Service. Port is empty for an unnamed port.
type ServicePortName struct {
	Namespace, Name, Port string
	Protocol              Protocol
}

// FrontendKind says where a frontend comes from.
type FrontendKind uint8

// Frontend kinds. The order is the order of precedence when two Services claim one address and port: what the
// cluster gave to a Service comes before externalIPs, which anybody who may write Services can set to any address
// (CVE-2020-8554). Within a kind the Service with the smaller namespace/name wins.
const (
	ClusterIP FrontendKind = iota
	LoadBalancerIP
	ExternalIP
	NodePort
)

// FrontendKey is what a packet is addressed to. For node ports Addr is the unspecified address of the
// family (0.0.0.0 or ::): the port is served on the addresses of Node.NodePorts.
type FrontendKey struct {
	Addr     netip.Addr
	Protocol Protocol
	Port     uint16
}

// Scope says which endpoints of a Service port a group holds.
type Scope uint8

// Scopes. Cluster holds the endpoints that traffic policy Cluster chooses, after hints; Local holds those
// on this node and ignores hints. Both fall back, each by itself, from ready endpoints to serving
// terminating ones.
const (
	Cluster Scope = iota
	Local
)

// GroupKey names a group of endpoints. Family is 4 or 6.
type GroupKey struct {
	Port   ServicePortName
	Family uint8
	Scope  Scope
}

// EmptyVerdict is the fate of a packet whose group has no endpoint.
type EmptyVerdict uint8

// Verdicts. Reject: nobody serves anywhere. Drop: nobody serves on this node, but others do (traffic policy
// Local), and a client may be routed there on its next try.
const (
	Reject EmptyVerdict = iota
	Drop
)

// Endpoint is one address that serves.
type Endpoint struct {
	Addr netip.AddrPort
	// Local is true when the endpoint runs on this node.
	Local bool
	// Terminating is true when the endpoint is here only by the fallback to serving terminating ones.
	Terminating bool
}

// Group is a list of endpoints of which each new connection takes one with equal chance (or by affinity).
// Endpoints are sorted by address and port and hold none twice.
type Group struct {
	Key       GroupKey
	Endpoints []Endpoint
	// Empty is meant only when Endpoints is empty.
	Empty EmptyVerdict
}

// Masquerade says for each class of client whether its source address is replaced by the node's. A connection
// whose chosen endpoint is the client itself (hairpin) is masqueraded in any case, by the backend.
type Masquerade struct {
	// Pods are clients in the node's local range (Node.LocalRanges, Node.LocalInterfaces).
	Pods bool
	// Host are clients whose source address is one of the node's own.
	Host bool
	// Outside are all others.
	Outside bool
}

// Frontend is one address and port that the node answers for.
type Frontend struct {
	Key  FrontendKey
	Kind FrontendKind
	Port ServicePortName
	// Internal serves the Pods of the local range and the host itself; External serves everybody else. They
	// differ only for external frontends of externalTrafficPolicy Local.
	Internal, External GroupKey
	Masquerade         Masquerade
	// SourceRanges are those of whom new connections are accepted; others are dropped. nil: everybody. An empty,
	// non-nil list: nobody. The node's own connections are accepted when the node's address is in a range, as
	// kube-proxy does.
	SourceRanges []netip.Prefix
	// Affinity is the time for which a client (by address, over all frontends of Port) stays with its endpoint,
	// counted from its last new connection. 0: no affinity.
	Affinity time.Duration
}

// NodePortAddresses are the addresses of the node on which node ports are served. Loopback never counts.
type NodePortAddresses struct {
	// AllIPv4 and AllIPv6: every local address of that family.
	AllIPv4, AllIPv6 bool
	// Addrs are meant for families that are not All. Sorted, none twice.
	Addrs []netip.Addr
}

// Node is what the backends need to know of this node.
type Node struct {
	NodePorts NodePortAddresses
	// LocalRanges and LocalInterfaces tell Pods from outside clients: a source in one of the ranges, or a packet
	// that came in by an interface of that name (a trailing * is a prefix). Both empty: no client counts as a Pod,
	// and Frontend.Masquerade of the model takes that into account.
	LocalRanges     []netip.Prefix
	LocalInterfaces []string
	// ServiceRanges are the ServiceCIDRs: packets to an address of theirs that no Service has are dropped. Empty
	// in coexist mode, where another proxy owns them.
	ServiceRanges []netip.Prefix
}

// State is everything a node programs. It is read-only for backends.
type State struct {
	Frontends map[FrontendKey]*Frontend
	Groups    map[GroupKey]*Group
	// ClusterIPs are the cluster IPs we serve: a packet to a port of theirs that has no frontend is rejected.
	// The value counts the frontends; it is of no use to backends.
	ClusterIPs map[netip.Addr]int
	Node       Node
}

// Changes is the difference between two States. Lists are sorted, so that equal histories give equal
// transactions. A key is in at most one of a set/gone pair.
type Changes struct {
	Frontends      []*Frontend
	FrontendsGone  []FrontendKey
	Groups         []*Group
	GroupsGone     []GroupKey
	ClusterIPs     []netip.Addr
	ClusterIPsGone []netip.Addr
	// Node is true when State.Node differs.
	Node bool
	// Conflicts are those that began, changed or ended. They tell people why an address is not served as they asked, and
	// are nothing to a backend.
	Conflicts []Conflict
}

// Empty is true when nothing differs for packets.
func (c *Changes) Empty() bool {
	return c == nil || len(c.Frontends) == 0 && len(c.FrontendsGone) == 0 && len(c.Groups) == 0 &&
		len(c.GroupsGone) == 0 && len(c.ClusterIPs) == 0 && len(c.ClusterIPsGone) == 0 && !c.Node
}

// CleanupError is a backend's: all that serves packets is written, but something of no more use could not be removed.
type CleanupError struct {
	// Family is 4 or 6.
	Family uint8
	Err    error
}

func (e *CleanupError) Error() string { return e.Err.Error() }
func (e *CleanupError) Unwrap() error { return e.Err }
