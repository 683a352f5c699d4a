package conntrack

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

func dial(tb testing.TB, from *nstest.Namespace, network string, to netip.AddrPort) *nstest.Conn {
	tb.Helper()
	c, err := from.Dial(network, to, patience)
	check(tb, err)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func local(c *nstest.Conn) netip.AddrPort {
	a, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		panic(err)
	}
	return a
}

// asksUntil sends datagrams from the same port until the server is the wanted one.
func asksUntil(tb testing.TB, c *nstest.Conn, want string) {
	tb.Helper()
	last := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		a, err := c.Ask(impatience)
		if err == nil && a.Server == want {
			return
		}
		last = fmt.Sprint(a, err)
	}
	tb.Fatalf("%v to %v never reached %s; last: %s", c.LocalAddr(), c.RemoteAddr(), want, last)
}

var dns = service{name: "dns", protocol: corev1.ProtocolUDP}

// TestUDPEndpointGoes: a client that keeps its port gets another endpoint when its own goes, whoever it is and whatever
// address it uses; also when the endpoint is still there but does not serve.
func TestUDPEndpointGoes(t *testing.T) {
	for name, after := range map[string]map[int]condition{
		"gone":                        pods(ready, 2),
		"no longer ready":             {1: notReady, 2: ready},
		"terminating without serving": {1: ending, 2: ready},
	} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 2)
			a := w.startAgent(t)
			a.change(dns.set(pods(ready, 1)))
			var clients []*nstest.Conn
			for _, family := range families {
				vip := netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[family]), 80)
				nodePort := netip.AddrPortFrom(nodeAddrs[family], 30080)
				for _, from := range []*nstest.Namespace{w.pods[9], w.node, w.client, w.pods[2]} {
					clients = append(clients, dial(t, from, "udp", vip))
				}
				for _, from := range []*nstest.Namespace{w.pods[9], w.client} {
					clients = append(clients, dial(t, from, "udp", nodePort))
				}
			}
			for _, c := range clients {
				asksUntil(t, c, "ep1")
			}
			a.change(dns.set(pods(ready, 1, 2)))
			a.settled()
			for _, c := range clients {
				if got, err := c.Ask(patience); err != nil || got.Server != "ep1" {
					t.Fatalf("%v, %v: a flow whose endpoint still serves was forgotten", got, err)
				}
			}
			w.killPod(t, 1)
			a.change(dns.set(after))
			for _, c := range clients {
				asksUntil(t, c, "ep2")
			}
		})
	}
}

// TestUDPServingEndpointKeepsFlows: while an endpoint drains, its flows stay.
func TestUDPServingEndpointKeepsFlows(t *testing.T) {
	w := newNetwork(t, 2)
	a := w.startAgent(t)
	a.change(dns.set(pods(ready, 1)))
	c := dial(t, w.pods[9], "udp", netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[4]), 80))
	asksUntil(t, c, "ep1")
	a.change(dns.set(map[int]condition{1: serving, 2: ready}))
	a.settled()
	if got, err := c.Ask(patience); err != nil || got.Server != "ep1" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestUDPServiceMade: a client that sent before the Service was there, or was served by none of its endpoints, is
// served once there are some. An address that a real host has stays that host's.
func TestUDPServiceMade(t *testing.T) {
	w := newNetwork(t, 1)
	a := w.startAgent(t)
	// Packets to addresses of ServiceCIDRs that no Service has are dropped before they make a flow.
	a.change(func(t *model.Tracker) error {
		t.DeleteServiceCIDR("kubernetes")
		return nil
	})
	external := service{name: "dns", protocol: corev1.ProtocolUDP, edit: func(svc *corev1.Service) {
		svc.Spec.ExternalIPs = []string{"198.51.100.1", "203.0.113.5"}
	}}
	w.client.Serve(t, "real", netip.MustParseAddrPort("203.0.113.5:80"))
	var clients []*nstest.Conn
	for _, to := range []string{clusterIPs[4] + ":80", "198.51.100.1:80"} {
		c := dial(t, w.pods[9], "udp", netip.MustParseAddrPort(to))
		eventually(t, "a flow of the client of "+to, func() bool {
			if a, err := c.Ask(impatience); err == nil {
				t.Fatalf("%s answered before there is a Service: %v", to, a)
			}
			return w.count(t, local(c)) == 1
		})
		clients = append(clients, c)
	}
	real := dial(t, w.pods[9], "udp", netip.MustParseAddrPort("203.0.113.5:80"))
	asksUntil(t, real, "real")
	a.change(external.set(pods(ready, 1)))
	for _, c := range clients {
		asksUntil(t, c, "ep1")
	}
	a.settled()
	if got, err := real.Ask(patience); err != nil || got.Server != "real" {
		t.Errorf("the client of a host that has a Service's external address: %v, %v", got, err)
	}
}

// TestUDPServiceDeleted: the kernel forgets the flows of a Service that is deleted, and the client is told; the node port's
// flows too.
func TestUDPServiceDeleted(t *testing.T) {
	w := newNetwork(t, 1)
	a := w.startAgent(t)
	a.change(dns.set(pods(ready, 1)))
	var clients []*nstest.Conn
	for _, family := range families {
		clients = append(clients, dial(t, w.pods[9], "udp", netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[family]), 80)),
			dial(t, w.client, "udp", netip.AddrPortFrom(nodeAddrs[family], 30080)))
	}
	for _, c := range clients {
		asksUntil(t, c, "ep1")
	}
	a.change(func(t *model.Tracker) error {
		t.DeleteService(types.NamespacedName{Namespace: "default", Name: "dns"})
		return nil
	})
	for _, c := range clients {
		eventually(t, "flow of "+c.RemoteAddr().String()+" forgotten", func() bool { return w.count(t, local(c)) == 0 })
		if got, err := c.Ask(impatience); err == nil {
			t.Errorf("%v: still answered by %v", c.RemoteAddr(), got)
		}
	}
}

// TestUDPServiceReplaced: a Service that is deleted and made again with other endpoints between two looks leaves no
// flow to the old ones, and one whose address goes to another Service neither.
func TestUDPServiceReplaced(t *testing.T) {
	for name, next := range map[string]service{"same name": dns, "other name": {name: "other", protocol: corev1.ProtocolUDP}} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 2)
			a := w.startAgent(t)
			a.change(dns.set(pods(ready, 1)))
			c := dial(t, w.pods[9], "udp", netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[4]), 80))
			n := dial(t, w.client, "udp", netip.AddrPortFrom(nodeAddrs[6], 30080))
			asksUntil(t, c, "ep1")
			asksUntil(t, n, "ep1")
			a.change(func(t *model.Tracker) error {
				t.DeleteService(types.NamespacedName{Namespace: "default", Name: "dns"})
				for _, es := range dns.slices(nil) {
					t.DeleteSlice(types.NamespacedName{Namespace: "default", Name: es.Name})
				}
				return next.set(pods(ready, 2))(t)
			})
			asksUntil(t, c, "ep2")
			asksUntil(t, n, "ep2")
		})
	}
}

// TestUDPAfterStart: what went wrong while no agent ran is put right after the start.
func TestUDPAfterStart(t *testing.T) {
	w := newNetwork(t, 2)
	first := w.startAgent(t, func(o *Options) { o.Flows = false })
	first.change(dns.set(pods(ready, 1)))
	var clients []*nstest.Conn
	for _, family := range families {
		clients = append(clients, dial(t, w.pods[9], "udp", netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[family]), 80)),
			dial(t, w.client, "udp", netip.AddrPortFrom(nodeAddrs[family], 30080)))
	}
	for _, c := range clients {
		asksUntil(t, c, "ep1")
	}
	first.change(dns.set(pods(ready, 2)))
	for _, c := range clients {
		if got, err := c.Ask(patience); err != nil || got.Server != "ep1" {
			t.Fatalf("with the switch off: %v, %v", got, err)
		}
	}
	second := w.startAgent(t)
	second.change(dns.set(pods(ready, 2)))
	for _, c := range clients {
		asksUntil(t, c, "ep2")
	}
}
