package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// finest is the shortest time between two probes. As a wait goes on they get rarer, so that the error stays below
	// a part in sparsest of what is measured.
	finest   = 125 * time.Microsecond
	sparsest = 400
)

// prober finds out when packets of new flows begin to reach an endpoint. Each probe is a UDP packet from an address and a
// port of its own: conntrack would keep those of an older flow where the flow has gone before.
type prober struct {
	client  *namespace
	out, in int

	mu      sync.Mutex
	number  uint32
	want    netip.Addr // not valid: any
	arrived chan time.Time
	flow    atomic.Uint32
}

func newProber(client, endpoints *namespace) (*prober, error) {
	p := &prober{client: client, out: -1, in: -1}
	err := client.do(func() (err error) {
		p.out, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("opening a raw socket: %w", err)
	}
	err = endpoints.do(func() (err error) {
		if p.in, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(p.in, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
			unix.Bind(p.in, &unix.SockaddrInet4{Port: udpTargetPort}))
	})
	if err != nil {
		return p, fmt.Errorf("opening the probes' target: %w", err)
	}
	endpoints.thread(p.receive)
	return p, nil
}

func (p *prober) close() {
	if p.out >= 0 {
		_ = unix.Close(p.out)
	}
	if p.in >= 0 {
		_ = unix.Shutdown(p.in, unix.SHUT_RDWR) // an error for a socket that is not connected, but it wakes the reader
	}
}

// receive notes the arrival of probes until the socket is shut down.
func (p *prober) receive() error {
	defer func() { _ = unix.Close(p.in) }()
	payload, control := make([]byte, 16), make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	for {
		n, controlled, _, _, err := unix.Recvmsg(p.in, payload, control, 0)
		now := time.Now()
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		messages, err := unix.ParseSocketControlMessage(control[:controlled])
		if err != nil || len(messages) != 1 || n != 4 {
			continue // not a probe
		}
		// The last four bytes of an in_pktinfo are the packet's destination.
		p.note(binary.BigEndian.Uint32(payload), netip.AddrFrom4([4]byte(messages[0].Data[8:12])), now)
	}
}

func (p *prober) note(number uint32, to netip.Addr, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.arrived != nil && number == p.number && (!p.want.IsValid() || p.want == to) {
		p.arrived <- now
		p.arrived = nil
	}
}

// reach sends probes to a Service until one arrives at an endpoint, or any where that is not valid, and tells when. It
// returns at once; the answer comes later, and never where ctx ends before. Only one may be under way.
func (p *prober) reach(ctx context.Context, service netip.AddrPort, endpoint netip.Addr) <-chan time.Time {
	arrived := make(chan time.Time, 1)
	p.mu.Lock()
	p.number++
	p.want, p.arrived = endpoint, arrived
	number := p.number
	p.mu.Unlock()
	sent := p.client.thread(func() error {
		// The kernel would round the sleeps up by 50 us.
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
			return err
		}
		begin := time.Now()
		for ctx.Err() == nil && p.waiting(number) {
			if err := p.send(number, service); err != nil {
				return err
			}
			pause := unix.NsecToTimespec(int64(max(finest, time.Since(begin)/sparsest)))
			_ = unix.Nanosleep(&pause, nil) // a signal only shortens it
		}
		return nil
	})
	go func() {
		if err := <-sent; err != nil {
			log.Printf("sending probes: %v", err)
		}
	}()
	return arrived
}

func (p *prober) waiting(number uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.arrived != nil && p.number == number
}

// send sends one probe.
func (p *prober) send(number uint32, service netip.AddrPort) error {
	const header, udp = 20, 8
	flow := p.flow.Add(1)
	packet := make([]byte, header+udp+4)
	packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_UDP // the kernel fills in the length and the checksum
	source := netip.MustParsePrefix(forgedRange).Addr().As4()
	binary.BigEndian.PutUint16(source[2:], binary.BigEndian.Uint16(source[2:])+uint16(flow>>15&0x7fff)) //nolint:gosec // 15 bits
	to := service.Addr().As4()
	copy(packet[12:], source[:])
	copy(packet[16:], to[:])
	binary.BigEndian.PutUint16(packet[header:], uint16(0x8000|flow&0x7fff)) //nolint:gosec // 16 bits
	binary.BigEndian.PutUint16(packet[header+2:], service.Port())
	binary.BigEndian.PutUint16(packet[header+4:], udp+4) // no checksum: UDP over IPv4 may do without
	binary.BigEndian.PutUint32(packet[header+udp:], number)
	err := unix.Sendto(p.out, packet, 0, &unix.SockaddrInet4{Addr: to})
	// Without rules there is no way there, and the node says so by ICMP.
	if errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}
