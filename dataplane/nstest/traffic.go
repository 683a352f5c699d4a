package nstest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What became of a packet that nobody answered for.
const (
	Dropped  = "DROP"
	Rejected = "REJECT"
)

// Answer is what a client got: the name of the server and the address that it saw of the client, or only Dropped
// or Rejected as the name.
type Answer struct {
	Server string
	Saw    netip.Addr
}

// SCTP is a network of Ask and AskFrom beside tcp and udp: see sctp.go.
const SCTP = "sctp"

// Serve answers TCP and UDP at an address until the test ends: with the question, which is a byte, and the server's name.
func (ns *Namespace) Serve(tb testing.TB, name string, at netip.AddrPort) {
	tb.Helper()
	var stream net.Listener
	var packets net.PacketConn
	check(tb, ns.Do(func() (err error) {
		if stream, err = net.Listen("tcp", at.String()); err == nil {
			packets, err = net.ListenPacket("udp", at.String())
		}
		return err
	}))
	tb.Cleanup(func() { _, _ = stream.Close(), packets.Close() })
	go func() {
		for {
			c, err := stream.Accept()
			if err != nil {
				return
			}
			// The peer of a connection may be gone without a word.
			context.AfterFunc(tb.Context(), func() { _ = c.Close() })
			go func() {
				defer func() { _ = c.Close() }()
				serveStream(name, c)
			}()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := packets.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = packets.WriteTo(answer(b[:n], name, from), from)
			}
		}
	}()
}

// serveStream answers every byte.
func serveStream(name string, c net.Conn) {
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		if _, err := c.Write(answer(b, name, c.RemoteAddr())); err != nil {
			return
		}
	}
}

func answer(question []byte, name string, from net.Addr) []byte {
	host, _, _ := net.SplitHostPort(from.String())
	return fmt.Appendf(nil, "%s%s %s\n", question, name, host)
}

// Conn is a connection of a client.
type Conn struct {
	net.Conn
	answers *bufio.Reader
	// asked numbers the questions: an answer that comes after its time is none to a later one.
	asked byte
}

// Dial connects from inside the namespace; network is tcp or udp.
func (ns *Namespace) Dial(network string, to netip.AddrPort, timeout time.Duration) (*Conn, error) {
	return ns.dial(network, netip.AddrPort{}, to, timeout)
}

// dial connects from an address and port of the namespace; what of it is zero the kernel chooses.
func (ns *Namespace) dial(network string, from, to netip.AddrPort, timeout time.Duration) (*Conn, error) {
	var dialer net.Dialer
	switch {
	case !from.IsValid():
	case network == "tcp":
		dialer.LocalAddr = net.TCPAddrFromAddrPort(from)
	default:
		dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	var c net.Conn
	err := ns.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		c, err = dialer.DialContext(ctx, network, to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, answers: bufio.NewReader(c)}, nil
}

// Retransmits counts the segments of a TCP connection that were sent again: right after Dial, lost SYNs.
func (c *Conn) Retransmits() (int, error) {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	controlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return 0, err
	}
	return int(info.Total_retrans), nil
}

// Ask asks the server at the other end who it is.
func (c *Conn) Ask(timeout time.Duration) (Answer, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Answer{}, err
	}
	// A datagram that is refused or dropped on its way out of the host fails the write with EPERM either way; the
	// refusal itself waits to be read.
	c.asked++
	if _, err := c.Write([]byte{c.asked}); err != nil && !errors.Is(err, unix.EPERM) {
		return Answer{}, err
	}
	for {
		question, err := c.answers.ReadByte()
		if err != nil {
			return Answer{}, err
		}
		text, err := c.answers.ReadString('\n')
		if err != nil {
			return Answer{}, err
		}
		if question == c.asked {
			return readAnswer(text)
		}
	}
}

func readAnswer(text string) (Answer, error) {
	name, saw, _ := strings.Cut(strings.TrimSpace(text), " ")
	a, err := netip.ParseAddr(saw)
	return Answer{Server: name, Saw: a}, err
}

// Ask makes one new connection and says what became of it. A connection that gets no answer within the timeout
// counts as dropped.
func (ns *Namespace) Ask(network string, to netip.AddrPort, timeout time.Duration) (Answer, error) {
	return ns.AskFrom(network, netip.AddrPort{}, to, timeout)
}

// AskFrom is Ask from an address and port of the namespace; what of it is zero the kernel chooses. An error that is
// EADDRINUSE says that the port is taken.
func (ns *Namespace) AskFrom(network string, from, to netip.AddrPort, timeout time.Duration) (Answer, error) {
	if network == SCTP {
		return ns.askSCTP(from, to, timeout)
	}
	c, err := ns.dial(network, from, to, timeout)
	if err != nil {
		return fate(err)
	}
	defer func() { _ = c.Close() }()
	a, err := c.Ask(timeout)
	if err != nil {
		return fate(err)
	}
	return a, nil
}

func fate(err error) (Answer, error) {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return Answer{Server: Rejected}, nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return Answer{Server: Dropped}, nil
	}
	return Answer{}, err
}
