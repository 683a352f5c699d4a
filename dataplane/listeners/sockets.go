package listeners

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
)

// Socket is one that takes packets from anybody.
type Socket struct {
	Protocol model.Protocol
	// Addr is unspecified for all addresses of its family; that of an IPv6 socket takes IPv4, too, unless Only6.
	Addr  netip.Addr
	Port  uint16
	Only6 bool
	// Inode and UID are those of the socket's file and owner.
	Inode, UID uint32
}

// States of sockets in the kernel's numbers: a UDP socket that is not connected is closed.
const (
	tcpClose  = 7
	tcpListen = 10
)

// The kernel's inet_diag_req_v2 and inet_diag_msg (linux/inet_diag.h).
const (
	requestSize = 56
	messageSize = 72
	// attributeOnly6 is INET_DIAG_SKV6ONLY.
	attributeOnly6 = 11
)

// request asks for sockets of a family and protocol that are in one of some states.
type request struct {
	family   uint8
	protocol uint8
	states   uint32
}

func (r request) Len() int { return requestSize }

func (r request) Serialize() []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = r.family, r.protocol
	binary.NativeEndian.PutUint32(b[4:], r.states)
	return b
}

// Sockets lists the sockets of the calling thread's network namespace that listen (TCP), or are bound and take packets
// from anybody (UDP). The kernel is asked for no others, so that it costs the same on a node with many connections.
// A family or protocol that the kernel does not have has no sockets.
func Sockets() ([]Socket, error) {
	var all []Socket
	for _, r := range []request{
		{unix.AF_INET, unix.IPPROTO_TCP, 1 << tcpListen},
		{unix.AF_INET6, unix.IPPROTO_TCP, 1 << tcpListen},
		{unix.AF_INET, unix.IPPROTO_UDP, 1 << tcpClose},
		{unix.AF_INET6, unix.IPPROTO_UDP, 1 << tcpClose},
	} {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.AddData(r)
		messages, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing sockets of protocol %d: %w", r.protocol, err)
		}
		for _, m := range messages {
			s, err := parse(m)
			if err != nil {
				return nil, fmt.Errorf("reading a socket of protocol %d: %w", r.protocol, err)
			}
			s.Protocol = model.Protocol(r.protocol)
			if s.Port != 0 {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

func parse(m []byte) (Socket, error) {
	if len(m) < messageSize {
		return Socket{}, fmt.Errorf("%d bytes where %d belong", len(m), messageSize)
	}
	s := Socket{
		Port:  binary.BigEndian.Uint16(m[4:]),
		UID:   binary.NativeEndian.Uint32(m[64:]),
		Inode: binary.NativeEndian.Uint32(m[68:]),
	}
	if m[0] == unix.AF_INET {
		s.Addr = netip.AddrFrom4([4]byte(m[8:12]))
		return s, nil
	}
	s.Addr = netip.AddrFrom16([16]byte(m[8:24])).Unmap()
	attributes, err := nl.ParseRouteAttr(m[messageSize:])
	if err != nil {
		return Socket{}, fmt.Errorf("reading attributes: %w", err)
	}
	for _, a := range attributes {
		if a.Attr.Type == attributeOnly6 && len(a.Value) > 0 {
			s.Only6 = a.Value[0] != 0
		}
	}
	return s, nil
}
