// Package conformance is for tests only: the table of what must become of packets to Services, and the network in which
// it is tried. Every backend runs the same table (Run), and so do whole programs, ours and kube-proxy, in test/proxies.
//
// A case is written in the objects of the API (Services, EndpointSlices, ServiceCIDRs, this node's Node) and in probes:
// a client, an address, and what must become of its connections: the set of endpoints that answer, and whose address
// they see; or DROP: nothing comes back; or REJECT: a reset or an ICMP error does.
//
// It does not measure how evenly connections are spread, nor what changes do to established ones: a backend's own
// tests do. Product code does not import it.
package conformance
