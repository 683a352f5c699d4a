package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// poker sends clients a segment that is outside of their window, as if from the Service.
type poker struct{ fd4, fd6 int }

func newPoker(namespace int) (*poker, error) {
	p := &poker{fd4: -1, fd6: -1}
	err := inside(namespace, func() (err error) {
		if p.fd4, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		// A kernel without IPv6 has no clients there.
		p.fd6, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			return nil
		}
		return err
	})
	if err != nil {
		p.close()
		return nil, fmt.Errorf("opening a raw socket: %w", err)
	}
	return p, nil
}

func (p *poker) close() {
	for _, fd := range []int{p.fd4, p.fd6} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// poke sends one segment to the client of a connection. Nobody is told if it does not arrive: the client then is reset
// when it sends by itself.
func (p *poker) poke(o *tuple) {
	packet := segment(o.dst, o.src)
	client := o.src.Addr()
	if client.Is4() {
		_ = unix.Sendto(p.fd4, packet, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: client.As4()})
	} else {
		_ = unix.Sendto(p.fd6, packet, unix.MSG_DONTWAIT, &unix.SockaddrInet6{Addr: client.As16()})
	}
}

// segment makes a packet with an empty TCP segment of sequence number 0. RFC 9293, 3.10.7.4: who gets one that is not
// acceptable sends an acknowledgement. Where 0 happens to be acceptable nothing comes of it.
func segment(from, to netip.AddrPort) []byte {
	const size = 20
	t := binary.BigEndian.AppendUint16(nil, from.Port())
	t = binary.BigEndian.AppendUint16(t, to.Port())
	t = append(t, make([]byte, 8)...)                // sequence and acknowledgement
	t = append(t, size/4<<4, 1<<4, 0, 0, 0, 0, 0, 0) // length, ACK, window, checksum, urgent
	pseudo := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, unix.IPPROTO_TCP, 0, size)
	binary.BigEndian.PutUint16(t[16:], checksum(append(pseudo, t...)))
	if from.Addr().Is4() {
		// The kernel fills in length, identification and checksum.
		h := []byte{4<<4 | 5, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}
		h = append(h, from.Addr().AsSlice()...)
		h = append(h, to.Addr().AsSlice()...)
		return append(h, t...)
	}
	h := []byte{6 << 4, 0, 0, 0, 0, size, unix.IPPROTO_TCP, 64}
	h = append(h, from.Addr().AsSlice()...)
	h = append(h, to.Addr().AsSlice()...)
	return append(h, t...)
}

// checksum is that of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
