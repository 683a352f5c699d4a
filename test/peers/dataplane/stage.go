package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Where everything is. The client and the endpoints are Pods, to the peers; the endpoints' namespace answers at every
// address of its range.
const (
	controlAddress = "10.255.255.1" // the API server's
	controlSide    = "192.168.255.1"
	nodeAddress    = "192.168.255.2"
	clientRange    = "10.244.0.0/16"
	clientAddress  = "10.244.1.2"
	// forgedRange is where the probes come from; nobody is there.
	forgedRange   = "10.244.128.0/17"
	endpointRange = "172.16.0.0/12"
	serviceRange  = "10.96.0.0/12"
)

// stage is what one peer works on: a node with a client on one side and endpoints on the other.
//
//	control ---- node ---- client
//	              `------- endpoints
type stage struct {
	control, node, client, endpoints *namespace
	listeners                        []int
	acceptors                        []<-chan error
	probes                           *prober
}

// newStage makes one; without control if that is nil. Close it, whatever it returns.
func newStage(control *namespace) (s *stage, err error) {
	s = &stage{control: control}
	for _, n := range []struct {
		into **namespace
		name string
	}{{&s.node, "node"}, {&s.client, "client"}, {&s.endpoints, "endpoints"}} {
		if *n.into, err = newNamespace(n.name, true); err != nil {
			return s, err
		}
	}
	err = errors.Join(
		s.node.sysctls("ipv4/ip_forward=1",
			// Entries of thousands of connections a second would fill the table. The same for both peers.
			"netfilter/nf_conntrack_udp_timeout=2", "netfilter/nf_conntrack_tcp_timeout_close=1"),
		s.node.connect("client", "10.244.1.1/24", s.client, "node", clientAddress+"/24"),
		s.node.route(forgedRange, clientAddress),
		s.client.route("0.0.0.0/0", "10.244.1.1"),
		s.node.connect("endpoints", "10.244.2.1/24", s.endpoints, "node", "10.244.2.2/24"),
		s.node.route(endpointRange, "10.244.2.2"),
		s.endpoints.route("0.0.0.0/0", "10.244.2.1"),
		s.endpoints.route(endpointRange, ""),
	)
	if err == nil && control != nil {
		err = errors.Join(
			s.node.connect("control", nodeAddress+"/30", control, "node", controlSide+"/30"),
			s.node.route(controlAddress+"/32", controlSide))
	}
	if err != nil {
		return s, err
	}
	if err := s.serve(); err != nil {
		return s, err
	}
	s.probes, err = newProber(s.client, s.endpoints)
	return s, err
}

// close ends the servers and namespaces. Programs in them must have ended.
func (s *stage) close() {
	for _, fd := range s.listeners {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // who accepts is woken
	}
	for _, ended := range s.acceptors {
		<-ended //nolint:errcheck // that it was shut down is no error
	}
	for _, fd := range s.listeners {
		_ = unix.Close(fd)
	}
	if s.probes != nil {
		s.probes.close()
	}
	// The kernel takes its time to end a namespace; the next stage needs the link's name at once.
	if s.control != nil {
		if link, err := s.control.link.LinkByName("node"); err == nil {
			_ = s.control.link.LinkDel(link) // it went with the namespace
		}
	}
	for _, n := range []*namespace{s.node, s.client, s.endpoints} {
		if n != nil {
			n.close()
		}
	}
}

// get makes an HTTP request to a port of the node's loopback, from there.
func (s *stage) get(ctx context.Context, port int, path string) (*http.Response, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (conn net.Conn, err error) {
		err = s.node.do(func() error {
			conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
			return err
		})
		return conn, err
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		return nil, err
	}
	return transport.RoundTrip(request)
}

// forgetConnections empties the node's conntrack table.
func (s *stage) forgetConnections() error {
	return s.node.do(func() error {
		if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			return fmt.Errorf("emptying the conntrack table: %w", err)
		}
		return nil
	})
}
