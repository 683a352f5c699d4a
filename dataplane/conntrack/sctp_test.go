package conntrack

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// TestSCTP: a client that repeats its INIT from the same port reaches another endpoint when its own is gone. The
// kernel's SCTP may be missing, so packets are made by hand.
func TestSCTP(t *testing.T) {
	w := newNetwork(t, 2)
	a := w.startAgent(t)
	signal := service{name: "signal", protocol: corev1.ProtocolSCTP}
	a.change(signal.set(pods(ready, 1)))
	for _, family := range families {
		client := listenSCTP(t, w.pods[9], family, podAddr(family, 9))
		servers := map[int]*net.IPConn{}
		for pod := 1; pod <= 2; pod++ {
			servers[pod] = listenSCTP(t, w.pods[pod], family, podAddr(family, pod))
		}
		to := &net.IPAddr{IP: netip.MustParseAddr(clusterIPs[family]).AsSlice()}
		arrives := func(pod int) bool {
			if _, err := client.WriteToIP(sctpInit(40000, 80), to); err != nil {
				t.Fatal(err)
			}
			check(t, servers[pod].SetReadDeadline(time.Now().Add(impatience)))
			_, _, err := servers[pod].ReadFromIP(make([]byte, 1500))
			return err == nil
		}
		eventually(t, fmt.Sprintf("IPv%d: an INIT at Pod 1", family), func() bool { return arrives(1) })
		a.change(signal.set(pods(ready, 2)))
		eventually(t, fmt.Sprintf("IPv%d: an INIT at Pod 2", family), func() bool { return arrives(2) })
		a.change(signal.set(pods(ready, 1)))
	}
}

func listenSCTP(t *testing.T, ns *nstest.Namespace, family uint8, addr netip.Addr) *net.IPConn {
	t.Helper()
	var c *net.IPConn
	check(t, ns.Do(func() (err error) {
		c, err = net.ListenIP(fmt.Sprintf("ip%d:132", family), &net.IPAddr{IP: addr.AsSlice()})
		return err
	}))
	t.Cleanup(func() { _ = c.Close() })
	return c
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
