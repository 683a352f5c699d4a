package nftables

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// TestSCTP: an INIT arrives at an endpoint, translated and with a checksum that is right. The kernel's SCTP may
// be missing, so the packet is made by hand.
func TestSCTP(t *testing.T) {
	w := newNetwork(t, 1)
	b := w.backend(t)
	state := newCluster()
	for _, family := range []uint8{4, 6} {
		g := state.group("signal", model.SCTP, family, model.Cluster, model.Reject, 1)
		state.frontend(model.ClusterIP, vip(family, "cluster", 1), 3868, g, g, outsideOnly)
	}
	mustSync(t, b, state.State, nil)
	for _, family := range []uint8{4, 6} {
		raw := func(ns *nstest.Namespace, addr netip.Addr) *net.IPConn {
			var c *net.IPConn
			if err := ns.Do(func() (err error) {
				c, err = net.ListenIP(fmt.Sprintf("ip%d:132", family), &net.IPAddr{IP: addr.AsSlice()})
				return err
			}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		server, client := raw(w.pods[1], podAddr(family, 1)), raw(w.pods[9], podAddr(family, 9))
		to := netip.MustParseAddr(vip(family, "cluster", 1))
		if _, err := client.WriteToIP(sctpInit(40000, 3868), &net.IPAddr{IP: to.AsSlice()}); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 1500)
		if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, from, err := server.ReadFromIP(p)
		if err != nil {
			t.Fatalf("IPv%d: %v", family, err)
		}
		p = p[:n]
		if port := binary.BigEndian.Uint16(p[2:]); port != 8080 {
			t.Errorf("IPv%d: port %d, not 8080", family, port)
		}
		if !from.IP.Equal(podAddr(family, 9).AsSlice()) {
			t.Errorf("IPv%d: from %v", family, from)
		}
		sum := binary.LittleEndian.Uint32(p[8:])
		if clear(p[8:12]); sum != crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) {
			t.Errorf("IPv%d: the checksum is wrong", family)
		}
	}
}

func sctpInit(from, to uint16) []byte {
	p := binary.BigEndian.AppendUint16(nil, from)
	p = binary.BigEndian.AppendUint16(p, to)
	p = append(p, make([]byte, 8)...)                             // verification tag of an INIT, checksum
	p = append(p, 1, 0, 0, 20)                                    // chunk INIT of 20 bytes
	p = append(p, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9) // tag, window, streams, TSN
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}
