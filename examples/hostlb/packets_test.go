package hostlb

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

const (
	patience   = 2 * time.Minute // for what must answer, on a machine that stands still for a while too
	impatience = 2 * time.Second // for what must not
)

var clientAddress = netip.MustParseAddr("203.0.113.10")

// site is a client, the host with the balancers, and two nodes behind it.
type site struct {
	client, host *nstest.Namespace
	nodes        []*nstest.Namespace
	provider     *Provider
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{client: nstest.New(t, "client"), host: nstest.New(t, "host"),
		provider: &Provider{pools: testPools, kernel: counted{newTable(Name)}}}
	s.host.Forward(t)
	outside, any4 := netip.MustParseAddr("203.0.113.1"), netip.MustParsePrefix("0.0.0.0/0")
	s.host.Connect(t, "outside", []netip.Prefix{netip.PrefixFrom(outside, 24)}, s.client, "eth0", []netip.Prefix{netip.PrefixFrom(clientAddress, 24)})
	s.client.Route(t, testPools[0].Prefix, outside)
	for i := range 2 {
		node := nstest.New(t, fmt.Sprintf("n%d", i+1))
		gateway := netip.AddrFrom4([4]byte{172, 30, byte(i), 1})
		s.host.Connect(t, fmt.Sprintf("node%d", i+1), []netip.Prefix{netip.PrefixFrom(gateway, 24)}, node, "eth0", []netip.Prefix{netip.PrefixFrom(nodeAddress(i), 24)})
		node.Route(t, any4, gateway)
		for _, port := range []uint16{30080, 30081} {
			node.Serve(t, node.Name+fmt.Sprintf(":%d", port), netip.AddrPortFrom(nodeAddress(i), port))
		}
		s.nodes = append(s.nodes, node)
	}
	return s
}

func nodeAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 30, byte(i), 11}) }

// spec is a Service on some of the nodes.
func (s *site) spec(nodes ...int) cloud.Spec {
	spec := cloudtest.Spec(s.provider.Capabilities(), 0)
	spec.Ports = []cloud.Port{{Protocol: "TCP", Port: 80, NodePort: 30080}, {Protocol: "UDP", Port: 80, NodePort: 30080}}
	for _, i := range nodes {
		spec.Nodes = append(spec.Nodes, cloud.Node{Name: s.nodes[i].Name, Addresses: []string{nodeAddress(i).String()}})
	}
	return spec
}

// apply is one pass of the core, on the host, and returns the address that clients connect to.
func (s *site) apply(t *testing.T, spec cloud.Spec, desired []cloud.Resource) netip.Addr {
	t.Helper()
	var out cloud.Outcome
	err := s.host.Do(func() (err error) {
		out, err = cloud.Converge(context.Background(), s.provider, spec.Owner, desired, cloud.Options{})
		return err
	})
	if err != nil || !out.Left.Empty() {
		t.Fatalf("after a pass there is left to do: %+v (%v)", out.Left, err)
	}
	if len(desired) == 0 {
		return netip.Addr{}
	}
	return netip.MustParseAddr(cloud.Ingresses(out.Observed)[0].IP)
}

func (s *site) serve(t *testing.T, spec cloud.Spec) netip.Addr {
	t.Helper()
	desired, err := s.provider.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s.apply(t, spec, desired)
}

// expect asks until every server that is wanted has answered, each time on a new connection. Any other answer fails.
func (s *site) expect(t *testing.T, when, network string, to netip.AddrPort, want ...string) {
	t.Helper()
	missing, wait := map[string]bool{}, patience
	if len(want) == 1 && want[0] == nstest.Dropped {
		wait = impatience
	}
	for _, server := range want {
		missing[server] = true
	}
	// By chance one of two is not chosen 64 times in a row once in 10^19 runs. What all do is seen at once.
	for range 64 {
		got, err := s.client.Ask(network, to, wait)
		if err != nil {
			t.Fatalf("%s: asking %s %s: %v", when, network, to, err)
		}
		if _, ok := missing[got.Server]; !ok {
			t.Fatalf("%s: %s %s was answered by %s, want one of %q", when, network, to, got.Server, want)
		}
		if got.Saw.IsValid() && got.Saw != clientAddress {
			t.Fatalf("%s: the server saw %s, want the client's own address", when, got.Saw)
		}
		missing[got.Server] = false
		if len(want) == 1 && got.Server == nstest.Dropped {
			return
		}
	}
	for server, unseen := range missing {
		if unseen {
			t.Errorf("%s: %s never answered %s %s", when, server, network, to)
		}
	}
}

// expectNobody asks once. How the host refuses what it has no route for is its own business.
func (s *site) expectNobody(t *testing.T, when string, to netip.AddrPort) {
	t.Helper()
	got, err := s.client.Ask("tcp", to, impatience)
	if err == nil && got.Server != nstest.Dropped && got.Server != nstest.Rejected {
		t.Errorf("%s: %s answers at %s", when, got.Server, to)
	}
}

// TestPackets carries real packets through a life of a Service.
func TestPackets(t *testing.T) {
	s := newSite(t)
	spec := s.spec(0, 1)
	address := s.serve(t, spec)
	http := netip.AddrPortFrom(address, 80)
	for _, network := range []string{"tcp", "udp"} {
		s.expect(t, "two nodes", network, http, "n1:30080", "n2:30080")
	}
	s.expect(t, "a port without a listener", "tcp", netip.AddrPortFrom(address, 81), nstest.Dropped)

	established, err := s.client.Dial("tcp", http, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = established.Close() }()
	before, err := established.Ask(patience)
	if err != nil {
		t.Fatal(err)
	}
	leaving := 0
	if before.Server == "n2:30080" {
		leaving = 1
	}
	staying := 1 - leaving
	s.serve(t, s.spec(staying))
	s.expect(t, "one node left", "tcp", http, s.nodes[staying].Name+":30080")
	if after, err := established.Ask(patience); err != nil || after != before {
		t.Errorf("a connection to the node that left: %+v before, %+v after (%v)", before, after, err)
	}

	other := s.spec(0, 1)
	other.Ports[0].NodePort = 30081
	if again := s.serve(t, other); again != address {
		t.Errorf("the address is %s after %s", again, address)
	}
	s.expect(t, "another node port", "tcp", http, "n1:30081", "n2:30081")
	s.serve(t, s.spec())
	s.expect(t, "no node", "tcp", http, nstest.Dropped)
	s.serve(t, other)
	s.apply(t, spec, nil)
	s.expectNobody(t, "deleted", http)
}

// TestReboot: the kernel has forgotten everything; a pass makes all of it again, with the same address.
func TestReboot(t *testing.T) {
	s := newSite(t)
	spec := s.spec(0, 1)
	before := s.serve(t, spec)
	if err := s.host.Do(func() error { return dropTable(newTable(Name).table) }); err != nil {
		t.Fatal(err)
	}
	s.expectNobody(t, "after the reboot", netip.AddrPortFrom(before, 80))
	if after := s.serve(t, spec); after != before {
		t.Errorf("the address is %s after the reboot, was %s", after, before)
	}
	s.expect(t, "made again", "tcp", netip.AddrPortFrom(before, 80), "n1:30080", "n2:30080")
}
