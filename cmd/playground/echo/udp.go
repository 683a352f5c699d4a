package echo

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// packetServer answers datagrams of one family, from the address that each was sent to: on the host network there are
// several, and a client drops an answer from another.
type packetServer struct {
	conn net.PacketConn
	// read returns the datagram's size, its destination (nil if unknown) and its source.
	read func(buffer []byte) (n int, to net.IP, from net.Addr, err error)
	// write answers from the address source.
	write func(data []byte, source net.IP, to net.Addr) error
}

// listenUDP listens in both families, or in that of the address.
func (s *server) listenUDP(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	ip := net.ParseIP(host)
	if host == "" || ip.To4() != nil {
		if err := s.addPackets("udp4", address, newPacketServer4); err != nil {
			return err
		}
	}
	if host == "" || ip != nil && ip.To4() == nil {
		err := s.addPackets("udp6", address, newPacketServer6)
		// A kernel without IPv6 has only the other family, which is then enough.
		if err != nil && host != "" {
			return err
		}
	}
	return nil
}

func (s *server) addPackets(network, address string, wrap func(net.PacketConn) (*packetServer, error)) error {
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	p, err := wrap(conn)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("listening: %w", err)
	}
	s.packets = append(s.packets, p)
	go s.servePackets(p)
	return nil
}

func newPacketServer4(conn net.PacketConn) (*packetServer, error) {
	c := ipv4.NewPacketConn(conn)
	if err := c.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, err
	}
	return &packetServer{
		conn: conn,
		read: func(buffer []byte) (int, net.IP, net.Addr, error) {
			n, control, from, err := c.ReadFrom(buffer)
			if control == nil {
				return n, nil, from, err
			}
			return n, control.Dst, from, err
		},
		write: func(data []byte, source net.IP, to net.Addr) error {
			_, err := c.WriteTo(data, &ipv4.ControlMessage{Src: source}, to)
			return err
		},
	}, nil
}

func newPacketServer6(conn net.PacketConn) (*packetServer, error) {
	c := ipv6.NewPacketConn(conn)
	if err := c.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return nil, err
	}
	return &packetServer{
		conn: conn,
		read: func(buffer []byte) (int, net.IP, net.Addr, error) {
			n, control, from, err := c.ReadFrom(buffer)
			if control == nil {
				return n, nil, from, err
			}
			return n, control.Dst, from, err
		},
		write: func(data []byte, source net.IP, to net.Addr) error {
			_, err := c.WriteTo(data, &ipv6.ControlMessage{Src: source}, to)
			return err
		},
	}, nil
}

func (s *server) servePackets(p *packetServer) {
	buffer := make([]byte, maxLine)
	for {
		n, to, from, err := p.read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an ICMP error about an earlier answer, say
			continue
		}
		request := string(buffer[:n])
		go func() {
			local := *p.conn.LocalAddr().(*net.UDPAddr)
			if to != nil {
				local.IP = to
			}
			a := newAnswer(s.options.Identity, "udp", from, &local)
			s.log(a)
			time.Sleep(s.options.Delay)
			_ = p.write(format(a, request), to, from) // a client that is gone needs no answer
		}()
	}
}
