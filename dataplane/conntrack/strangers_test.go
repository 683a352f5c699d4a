package conntrack

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// nft runs the nft program in a namespace.
func nft(tb testing.TB, ns *nstest.Namespace, command string) {
	tb.Helper()
	check(tb, ns.Do(func() error { return run("nft", command) }))
}

// TestStrangersSurvive: flows that look like ours and are not are left alone, when endpoints go, when Services come and
// go, and after a start: of a program on the node with the number of a node port, straight to a Pod, of another proxy's
// Services with the same endpoints, and of a conntrack zone.
func TestStrangersSurvive(t *testing.T) {
	for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
		t.Run(string(protocol), func(t *testing.T) {
			w := newNetwork(t, 2)
			svc := service{name: "dns", protocol: protocol}
			network := map[corev1.Protocol]string{corev1.ProtocolUDP: "udp", corev1.ProtocolTCP: "tcp"}[protocol]
			const theirVIP = "10.99.0.1"
			nft(t, w.node, "add table ip another; add chain ip another prerouting { type nat hook prerouting priority -99 ; }")
			// Without a rule that needs it the kernel keeps no track of flows.
			nft(t, w.node, "add table ip6 another; add chain ip6 another prerouting { type nat hook prerouting priority -99 ; }; "+
				"add rule ip6 another prerouting ct state new accept")
			for to, endpoint := range map[string]string{theirVIP: podAddr(4, 1).String(), "203.0.113.1": podAddr(4, 2).String()} {
				nft(t, w.node, fmt.Sprintf("add rule ip another prerouting ip daddr %s %s dport 30080 dnat to %s:8080", to, network, endpoint))
			}
			for _, family := range families {
				// On the very address of node ports, before there is one.
				w.node.Serve(t, "program", netip.AddrPortFrom(nodeAddrs[family], 30080))
			}
			w.pods[1].Serve(t, "direct", netip.AddrPortFrom(podAddr(4, 1), 30080))

			strangers := map[string]*nstest.Conn{}
			want := map[string]string{}
			stranger := func(name, server string, from *nstest.Namespace, to netip.AddrPort) {
				t.Helper()
				c := dial(t, from, network, to)
				asksUntil(t, c, server)
				strangers[name], want[name] = c, server
			}
			for _, family := range families {
				stranger(fmt.Sprint("program on the node, IPv", family), "program", w.client, netip.AddrPortFrom(nodeAddrs[family], 30080))
				stranger(fmt.Sprint("straight to the Pod, IPv", family), "ep1", w.client, netip.AddrPortFrom(podAddr(family, 1), 8080))
			}
			stranger("straight to the Pod, a node port's number", "direct", w.client, netip.AddrPortFrom(podAddr(4, 1), 30080))
			stranger("another proxy's Service", "ep1", w.pods[9], netip.MustParseAddrPort(theirVIP+":30080"))
			stranger("another's redirection on an address of no node ports", "ep2", w.client, netip.MustParseAddrPort("203.0.113.1:30080"))

			zoned := map[uint8]netip.AddrPort{}
			for _, family := range families {
				zoned[family] = netip.AddrPortFrom(podAddr(family, 9), 33333)
				makeFlows(t, w.node, []made{{
					protocol: map[corev1.Protocol]model.Protocol{corev1.ProtocolUDP: model.UDP, corev1.ProtocolTCP: model.TCP}[protocol],
					client:   zoned[family], to: netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[family]), 80),
					endpoint: netip.AddrPortFrom(podAddr(family, 1), 8080), zone: 7,
				}})
			}

			a := w.startAgent(t)
			// One of ours goes each time, which shows that the look took place.
			ours := func(pod int) *nstest.Conn {
				c := dial(t, w.pods[9], network, netip.AddrPortFrom(netip.MustParseAddr(clusterIPs[4]), 80))
				asksUntil(t, c, fmt.Sprint("ep", pod))
				return c
			}
			survive := func(when string, gone *nstest.Conn) {
				t.Helper()
				if gone != nil {
					eventually(t, "ours forgotten after "+when, func() bool { return w.count(t, local(gone)) == 0 })
				}
				a.settled()
				for family, client := range zoned {
					if n := w.count(t, client); n != 1 {
						t.Errorf("after %s: %d flows of a conntrack zone, IPv%d", when, n, family)
					}
				}
				for name, c := range strangers {
					if n := w.count(t, local(c)); n != 1 {
						t.Errorf("after %s: %d flows of %s", when, n, name)
					}
					if got, err := c.Ask(patience); err != nil || got.Server != want[name] {
						t.Errorf("after %s: %s: %v, %v", when, name, got, err)
					}
				}
			}
			a.change(svc.set(pods(ready, 1, 2)))
			survive("the start", nil)
			a.change(svc.set(pods(ready, 1)))
			c := ours(1)
			a.change(svc.set(map[int]condition{1: ending, 2: ready}))
			a.change(svc.set(pods(ready, 2)))
			survive("an endpoint's end", c)
			if protocol == corev1.ProtocolTCP {
				return // a Service's end ends no connection
			}
			c = ours(2)
			a.change(func(t *model.Tracker) error {
				t.DeleteService(types.NamespacedName{Namespace: "default", Name: "dns"})
				return nil
			})
			survive("the Service's end", c)
			a.change(svc.set(pods(ready, 1, 2)))
			survive("the Service's return", nil)
		})
	}
}

// TestCoexist: of a Service that another proxy serves nothing is touched.
func TestCoexist(t *testing.T) {
	labelled := func(svc *corev1.Service) { svc.Labels = map[string]string{model.LabelProxyName: model.ProxyName} }
	tracker := model.NewTracker(model.Options{NodeName: "n1", Coexist: true})
	ours := service{name: "ours", protocol: corev1.ProtocolUDP, edit: labelled, addresses: map[uint8]string{4: "10.96.0.11", 6: "fd00:96::b"}}
	theirs := service{name: "theirs", protocol: corev1.ProtocolUDP}
	for _, s := range []service{ours, theirs} {
		check(t, s.set(pods(ready, 1))(tracker))
	}
	tracker.Changes()
	all := tracker.TakeSuspects()
	for _, s := range []service{ours, theirs} {
		check(t, s.set(pods(ready, 2))(tracker))
	}
	tracker.Changes()
	left := tracker.TakeSuspects()
	for name, suspects := range map[string]*model.Suspects{"start": all, "endpoint gone": left} {
		for _, s := range []service{ours, theirs} {
			f := model.Flow{Protocol: model.UDP, Translated: true, Endpoint: netip.AddrPortFrom(podAddr(4, 1), 8080),
				To: netip.AddrPortFrom(netip.MustParseAddr(s.object().Spec.ClusterIP), 80)}
			if got := tracker.Stale(suspects, f); got != (s.name == "ours") {
				t.Errorf("%s: flow of %s is stale: %v", name, s.name, got)
			}
		}
	}
}
