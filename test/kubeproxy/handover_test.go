package kubeproxy

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// Addresses of the links between the node and others.
const (
	outsideRange, outsideAddress, outsideGateway = "198.51.100.0/24", "198.51.100.2", "198.51.100.1"
	podRange, podAddress, podGateway             = "10.244.1.0/24", "10.244.1.1", "10.244.1.254"
)

// attach links a new namespace to the node, which the test is in.
func attach(t *testing.T, name, prefix, address, gateway string) *nstest.Namespace {
	t.Helper()
	ns := nstest.New(t, name)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.FD())}))
	bits := netip.MustParsePrefix(prefix).Bits()
	up := func(link, address string) error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(netip.PrefixFrom(netip.MustParseAddr(address), bits).String())
		if err != nil {
			return err
		}
		if err := netlink.AddrReplace(l, addr); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	must(t, up(name, gateway))
	must(t, ns.Do(func() error { return up("eth0", address) }))
	ns.Route(t, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(gateway))
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	return ns
}

// TestHandOver is what install.md says: from kube-proxy to the agent and back, each starts beside the rules of the other, which
// go afterwards. New connections are served all the time, and established ones stay.
func TestHandOver(t *testing.T) {
	c := newCluster(t)
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	outside := attach(t, "outside", outsideRange, outsideAddress, outsideGateway)
	pod := attach(t, "pod", podRange, podAddress, podGateway)
	pod.Serve(t, "pod", netip.AddrPortFrom(netip.MustParseAddr(podAddress), 80))
	c.endpoint(t, true)
	to := netip.AddrPortFrom(netip.MustParseAddr(nodeAddress), uint16(c.nodePort))
	open := map[string]*nstest.Conn{}
	connect := func(when string) bool {
		conn, err := outside.Dial("tcp", to, patience)
		if err != nil {
			return false
		}
		t.Cleanup(func() { _ = conn.Close() })
		open[when] = conn
		return true
	}
	served := func(now string) {
		t.Helper()
		if !connect(now) {
			t.Errorf("%s: a new connection fails", now)
		}
		for when, conn := range open {
			if got, err := conn.Ask(patience); err != nil || got.Server != "pod" {
				t.Errorf("%s: the connection made when %s: %v, %v", now, when, got, err)
			}
		}
	}
	tables := func(want ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "nft", "list", "tables").Output()
		must(t, err)
		got := strings.Split(strings.TrimSpace(string(out)), "\n")
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tables (-want +got):\n%s", diff)
		}
	}
	tidy := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", program, args, err, out)
		}
	}

	stop := c.startKubeProxy(t)
	eventually(t, "kube-proxy's rules", func() bool { return c.synced() && connect("kube-proxy began") })
	served("kube-proxy runs")

	stop()
	served("kube-proxy has ended")
	stop = c.startNodeAgent(t)
	eventually(t, "the agent's rules", c.synced)
	served("the agent runs beside kube-proxy's rules")
	tidy(c.kubeProxy, "--cleanup", "--config="+c.config)
	served("kube-proxy's rules have gone")
	tables("table ip fairlead", "table ip fairlead-agent", "table ip6 fairlead")

	stop()
	served("the agent has ended")
	c.startKubeProxy(t)
	eventually(t, "kube-proxy's rules, again", c.synced)
	served("kube-proxy runs beside the agent's rules")
	tidy(c.nodeAgent, "--cleanup")
	served("the agent's rules have gone")
	tables("table ip kube-proxy", "table ip6 kube-proxy")
}
