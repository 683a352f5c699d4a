package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

var (
	outsideOnly = model.Masquerade{Outside: true}
	everybody   = model.Masquerade{Pods: true, Host: true, Outside: true}
	nobody      = model.Masquerade{}
)

// vip is an address of the tests in one of the families.
func vip(family uint8, pool string, n int) string {
	pools := map[string][2]string{
		"cluster":  {"10.96.0.%d", "fd00:96::%x"},
		"external": {"198.51.100.%d", "2001:db8:100::%x"},
	}
	if family == 4 {
		return fmt.Sprintf(pools[pool][0], n)
	}
	return fmt.Sprintf(pools[pool][1], n)
}

// packetsState has Services of every sort, for both families and for TCP and UDP.
func packetsState() cluster {
	c := newCluster()
	for _, family := range []uint8{4, 6} {
		unspecified := "0.0.0.0"
		if family == 6 {
			unspecified = "::"
		}
		for _, proto := range []model.Protocol{model.TCP, model.UDP} {
			web := c.group("web", proto, family, model.Cluster, model.Reject, 1, 2, 3)
			c.frontend(model.ClusterIP, vip(family, "cluster", 1), 80, web, web, outsideOnly)
			c.frontend(model.NodePort, unspecified, 30080, web, web, everybody)
			c.frontend(model.LoadBalancerIP, vip(family, "external", 1), 80, web, web, everybody)
			c.frontend(model.ExternalIP, vip(family, "external", 9), 80, web, web, nobody)

			one := c.group("one", proto, family, model.Cluster, model.Reject, 1)
			c.frontend(model.ClusterIP, vip(family, "cluster", 2), 80, one, one, outsideOnly)

			local := c.group("local", proto, family, model.Cluster, model.Reject, 1, 2)
			localOnly := c.group("local", proto, family, model.Local, model.Reject, 3)
			c.frontend(model.NodePort, unspecified, 30081, local, localOnly, model.Masquerade{Host: true})
			c.frontend(model.LoadBalancerIP, vip(family, "external", 2), 80, local, localOnly, model.Masquerade{Host: true})

			elsewhere := c.group("elsewhere", proto, family, model.Cluster, model.Reject, 1)
			none := c.group("elsewhere", proto, family, model.Local, model.Drop)
			c.frontend(model.LoadBalancerIP, vip(family, "external", 3), 80, elsewhere, none, nobody)
			c.frontend(model.NodePort, unspecified, 30082, elsewhere, none, nobody)

			empty := c.group("empty", proto, family, model.Cluster, model.Reject)
			c.frontend(model.ClusterIP, vip(family, "cluster", 3), 80, empty, empty, outsideOnly)
			c.frontend(model.NodePort, unspecified, 30083, empty, empty, everybody)
			c.frontend(model.LoadBalancerIP, vip(family, "external", 4), 80, empty, empty, everybody)

			for n, ranges := range map[int][]netip.Prefix{
				5: {netip.PrefixFrom(clientAddrs[family], 24), netip.PrefixFrom(clientAddrs[family], 30)},
				6: {netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:2::/64")},
				7: {},
				8: {netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
			} {
				f := c.frontend(model.LoadBalancerIP, vip(family, "external", n), 80, web, web, nobody)
				f.SourceRanges = ranges
			}
		}
	}
	return c
}

// TestOtherProxy: an address for Services that another proxy serves is left to it, though its rules come after ours.
func TestOtherProxy(t *testing.T) {
	w := newNetwork(t, 1)
	b := w.backend(t)
	mustSync(t, b, packetsState().State, nil)
	const theirs = "10.96.0.200"
	nft(t, w.node, "add table ip another")
	for _, hook := range []string{"prerouting", "output"} {
		nft(t, w.node, fmt.Sprintf("add chain ip another %s { type nat hook %s priority -99 ; }", hook, hook))
		nft(t, w.node, fmt.Sprintf("add rule ip another %s ip daddr %s tcp dport 80 dnat to %s:8080", hook, theirs, podAddr(4, 1)))
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(theirs), 80)
	for who, from := range map[string]*nstest.Namespace{"pod": w.pods[9], "host": w.node} {
		if a, err := from.Ask("tcp", to, patience); err != nil || a.Server != "ep1" {
			t.Errorf("%s asking %v: %v, %v; want the other proxy's endpoint", who, to, a, err)
		}
	}
}

// TestMarkOfOthers: connections that are no Service's are not masqueraded, though another program uses our bit of the mark.
func TestMarkOfOthers(t *testing.T) {
	w := newNetwork(t, 3)
	b := w.backend(t)
	mustSync(t, b, packetsState().State, nil)
	for _, family := range []string{"ip", "ip6"} {
		nft(t, w.node, "add table "+family+" marker")
		nft(t, w.node, "add chain "+family+" marker prerouting { type filter hook prerouting priority -150 ; }")
		nft(t, w.node, "add rule "+family+" marker prerouting meta mark set 0x4000")
	}
	for _, family := range []uint8{4, 6} {
		// From Pod to Pod, and to a Service that masquerades nobody but marked ones.
		if a := mustAsk(t, w.pods[9], "tcp", netip.AddrPortFrom(podAddr(family, 1), 8080)); a.Saw != podAddr(family, 9) {
			t.Errorf("IPv%d: the server saw %v of a marked connection to a Pod, want the client's own %v", family, a.Saw, podAddr(family, 9))
		}
		if a := mustAsk(t, w.pods[9], "tcp", at(vip(family, "external", 9), 80)); !a.Saw.IsValid() || a.Saw == podAddr(family, 9) {
			t.Errorf("IPv%d: %v: the mark does not masquerade a Service's connection, so that this test shows nothing", family, a)
		}
	}
}
