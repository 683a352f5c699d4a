package nstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Many kernels have no SCTP sockets, and what a dataplane does with SCTP shows in its first two packets: the client's
// INIT, and the server's INIT ACK. Both are made by hand and sent by raw sockets. The INIT ACK carries the server's
// answer as its cookie.
const (
	protocolSCTP = 132
	sctpHeader   = 12
	initChunk    = 1
	initAckChunk = 2
	chunkHeader  = 4
	initFields   = 16 // tag, window, streams out and in, TSN
	cookieParam  = 7
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sctpPacket makes a packet of one chunk. The tag in its header is the one that the receiver chose: 0 for an INIT.
func sctpPacket(from, to uint16, tag uint32, chunkType byte, ownTag uint32, cookie []byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, from)
	p = binary.BigEndian.AppendUint16(p, to)
	p = binary.BigEndian.AppendUint32(p, tag)
	p = append(p, 0, 0, 0, 0) // checksum
	length := chunkHeader + initFields
	if len(cookie) > 0 {
		length += chunkHeader + len(cookie)
	}
	p = append(p, chunkType, 0)
	p = binary.BigEndian.AppendUint16(p, uint16(length))
	p = binary.BigEndian.AppendUint32(p, ownTag)
	p = append(p, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9)
	if len(cookie) > 0 {
		p = binary.BigEndian.AppendUint16(p, cookieParam)
		p = binary.BigEndian.AppendUint16(p, uint16(chunkHeader+len(cookie)))
		p = append(p, cookie...)
	}
	for len(p)%4 != 0 {
		p = append(p, 0)
	}
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, castagnoli))
	return p
}

// sctpChunk is what is of interest in a packet that begins with an INIT or INIT ACK.
type sctpChunk struct {
	from, to uint16
	kind     byte
	ownTag   uint32
	cookie   []byte
}

// readSCTP reads a packet; ok is false for other chunks and for a wrong checksum, with which a receiver drops it.
func readSCTP(p []byte) (c sctpChunk, ok bool) {
	if len(p) < sctpHeader+chunkHeader+initFields {
		return c, false
	}
	p = append([]byte(nil), p...)
	sum := binary.LittleEndian.Uint32(p[8:])
	clear(p[8:12])
	if crc32.Checksum(p, castagnoli) != sum {
		return c, false
	}
	chunk := p[sctpHeader:]
	c = sctpChunk{
		from: binary.BigEndian.Uint16(p), to: binary.BigEndian.Uint16(p[2:]),
		kind: chunk[0], ownTag: binary.BigEndian.Uint32(chunk[chunkHeader:]),
	}
	if c.kind != initChunk && c.kind != initAckChunk {
		return c, false
	}
	if params := chunk[chunkHeader+initFields:]; len(params) >= chunkHeader {
		n := int(binary.BigEndian.Uint16(params[2:]))
		if n < chunkHeader || n > len(params) {
			return c, false
		}
		c.cookie = params[chunkHeader:n]
	}
	return c, true
}

func rawNetwork(addr netip.Addr) string {
	if addr.Is4() {
		return fmt.Sprint("ip4:", protocolSCTP)
	}
	return fmt.Sprint("ip6:", protocolSCTP)
}

// ServeSCTP answers an INIT at an address and at one of some ports until the test ends, with the server's name.
func (ns *Namespace) ServeSCTP(tb testing.TB, name string, at netip.Addr, ports ...uint16) {
	tb.Helper()
	var c *net.IPConn
	check(tb, ns.Do(func() (err error) {
		c, err = net.ListenIP(rawNetwork(at), &net.IPAddr{IP: at.AsSlice()})
		return err
	}))
	tb.Cleanup(func() { _ = c.Close() })
	open := map[uint16]bool{}
	for _, port := range ports {
		open[port] = true
	}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFromIP(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if in, ok := readSCTP(b[:n]); ok && in.kind == initChunk && open[in.to] {
				answer := fmt.Appendf(nil, "%s %s", name, from)
				_, _ = c.WriteToIP(sctpPacket(in.to, in.from, in.ownTag, initAckChunk, 8, answer), from)
			}
		}
	}()
}

// sctpTurns lets one client of a namespace and a server's address ask at a time: an ICMP error reaches all raw sockets of
// the pair.
type sctpTurns struct {
	mu  sync.Mutex
	all map[netip.Addr]*sync.Mutex
}

func (t *sctpTurns) take(to netip.Addr) (done func()) {
	t.mu.Lock()
	if t.all == nil {
		t.all = map[netip.Addr]*sync.Mutex{}
	}
	turn := t.all[to]
	if turn == nil {
		turn = &sync.Mutex{}
		t.all[to] = turn
	}
	t.mu.Unlock()
	turn.Lock()
	return turn.Unlock
}

// askSCTP sends one INIT from a port, which must not be 0, and waits for its INIT ACK.
func (ns *Namespace) askSCTP(from, to netip.AddrPort, timeout time.Duration) (Answer, error) {
	defer ns.sctp.take(to.Addr())()
	var local *net.IPAddr
	if a := from.Addr(); a.IsValid() && !a.IsUnspecified() {
		local = &net.IPAddr{IP: a.AsSlice()}
	}
	var c *net.IPConn
	if err := ns.Do(func() (err error) {
		c, err = net.DialIP(rawNetwork(to.Addr()), local, &net.IPAddr{IP: to.Addr().AsSlice()})
		return err
	}); err != nil {
		return fate(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Answer{}, err
	}
	if _, err := c.Write(sctpPacket(from.Port(), to.Port(), 0, initChunk, 7, nil)); err != nil && !errors.Is(err, unix.EPERM) {
		return fate(err)
	}
	b := make([]byte, 1500)
	for {
		n, _, err := c.ReadFromIP(b) // Read would leave the header of IPv4 where it is
		if err != nil {
			return fate(err)
		}
		if in, ok := readSCTP(b[:n]); ok && in.kind == initAckChunk && in.to == from.Port() {
			return readAnswer(string(in.cookie))
		}
	}
}
