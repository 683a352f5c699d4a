package balancer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
	"github.com/fairlead/fairlead/cloud/fake"
)

// server answers on a machine's node port 30080, by TCP and UDP and on both families, with the machine's name and the
// client it saw, and on port 32000 as a node's health check does.
type server struct {
	healthy atomic.Bool
}

func (n *network) serve(name string) *server {
	n.Helper()
	s := &server{}
	s.healthy.Store(true)
	n.in(n.spaces[name], func() error {
		tcp, err := net.Listen("tcp", ":30080")
		if err != nil {
			return err
		}
		udp, err := net.ListenPacket("udp4", ":30080")
		if err != nil {
			return err
		}
		health, err := net.Listen("tcp", ":32000")
		if err != nil {
			return err
		}
		n.Cleanup(func() { tcp.Close(); udp.Close(); health.Close() })
		go func() {
			for {
				conn, err := tcp.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(conn, "%s %s\n", name, conn.RemoteAddr())
				conn.Close()
			}
		}()
		go func() {
			buffer := make([]byte, 64)
			for {
				_, client, err := udp.ReadFrom(buffer)
				if err != nil {
					return
				}
				_, _ = udp.WriteTo([]byte(fmt.Sprintf("%s %s\n", name, client)), client)
			}
		}()
		go func() {
			_ = http.Serve(health, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" || !s.healthy.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
		}()
		return nil
	})
	return s
}

const (
	patience   = 2 * time.Minute // for what must come, on a machine that stands still for a while too
	impatience = time.Second     // for what must not, or is asked for again
)

// ask connects from a machine and returns which machine answered within a time and which client it saw.
func (n *network) ask(from, protocol, address string, within time.Duration) (string, netip.Addr, error) {
	n.Helper()
	var line string
	var dialErr error
	n.in(n.spaces[from], func() error {
		conn, err := (&net.Dialer{Timeout: within}).Dial(protocol, address)
		if err != nil {
			dialErr = err
			return nil
		}
		defer conn.Close()
		line, dialErr = exchange(conn, protocol, within)
		return nil
	})
	if dialErr != nil {
		return "", netip.Addr{}, dialErr
	}
	name, client, _ := strings.Cut(strings.TrimSpace(line), " ")
	return name, netip.MustParseAddrPort(client).Addr(), nil
}

func exchange(conn net.Conn, protocol string, within time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if strings.HasPrefix(protocol, "udp") {
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return "", err
		}
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// eventually polls until check is content.
func (n *network) eventually(check func() error) {
	n.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("after %s still: %v", patience, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// count asks many times and counts the answers by machine.
func (n *network) count(from, protocol, address string, times int) (map[string]int, error) {
	counts := map[string]int{}
	for range times {
		name, _, err := n.ask(from, protocol, address, patience)
		if err != nil {
			return counts, err
		}
		counts[name]++
	}
	return counts, nil
}

// balancerOf is a balancer with TCP and UDP on port 80 of both families, to both machines. The edit is of each listener.
func balancerOf(edit func(*hardware.Listener)) []hardware.Balancer {
	check := hardware.HealthCheck{Protocol: "HTTP", Port: 32000, Path: "/healthz", Interval: 50 * time.Millisecond, Threshold: 2}
	listener := func(protocol, address string, targets ...string) hardware.Listener {
		l := hardware.Listener{Protocol: protocol, Address: netip.MustParseAddrPort(address), HealthCheck: check}
		for _, t := range targets {
			l.Targets = append(l.Targets, netip.MustParseAddrPort(t))
		}
		return l
	}
	b := hardware.Balancer{ID: "balancer-1", Name: "test", Listeners: []hardware.Listener{
		listener("TCP", "198.51.100.1:80", "172.30.0.11:30080", "172.30.0.12:30080"),
		listener("TCP", "[2001:db8:51::1]:80", "[fd00:172:30::b]:30080", "[fd00:172:30::c]:30080"),
		listener("UDP", "198.51.100.1:80", "172.30.0.11:30080", "172.30.0.12:30080"),
	}}
	for i := range b.Listeners {
		if edit != nil {
			edit(&b.Listeners[i])
		}
	}
	return []hardware.Balancer{b}
}

func TestPackets(t *testing.T) {
	n := newNetwork(t)
	servers := map[string]*server{"n1": n.serve("n1"), "n2": n.serve("n2")}
	hw, err := newForwarder()
	n.must(err)
	t.Cleanup(hw.close)
	program := func(edit func(*hardware.Listener)) {
		t.Helper()
		n.must(hw.Program(t.Context(), balancerOf(edit)))
		n.eventually(func() error {
			for _, h := range hw.Health() {
				if !h.Healthy {
					return fmt.Errorf("%s is not healthy", h.Target)
				}
			}
			return nil
		})
	}
	program(nil)

	t.Run("SpreadsAndKeepsTheSource", func(t *testing.T) {
		for protocol, address := range map[string]string{"tcp4": "198.51.100.1:80", "tcp6": "[2001:db8:51::1]:80", "udp4": "198.51.100.1:80"} {
			n.eventually(func() error { // a machine that does not answer its check in time has none for a while
				counts, err := n.count("internet", protocol, address, 200)
				// 200 fair throws: fewer than 60 on one side has a chance below 1e-8.
				if err != nil || counts["n1"] < 60 || counts["n2"] < 60 {
					return fmt.Errorf("%s: %v (%w)", protocol, counts, err)
				}
				return nil
			})
			_, client, err := n.ask("internet", protocol, address, patience)
			n.must(err)
			want := netip.MustParsePrefix(machines["internet"][0]).Addr()
			if protocol == "tcp6" {
				want = netip.MustParsePrefix(machines["internet"][1]).Addr()
			}
			if client != want {
				t.Errorf("%s: the machine saw the client %s, want %s", protocol, client, want)
			}
		}
	})
	t.Run("ReachesTheMachinesThemselves", func(t *testing.T) {
		// Behind the same link as the targets: the router answers for them.
		n.eventually(func() error {
			counts, err := n.count("n1", "tcp4", "198.51.100.1:80", 60)
			if err != nil || counts["n1"] == 0 || counts["n2"] == 0 {
				return fmt.Errorf("%v (%w)", counts, err)
			}
			return nil
		})
	})
	t.Run("RefusesOtherPorts", func(t *testing.T) {
		if _, _, err := n.ask("internet", "tcp4", "198.51.100.1:81", patience); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("port 81: %v, want a refusal", err)
		}
	})
	t.Run("LeavesOutTheUnhealthy", func(t *testing.T) { testHealth(t, n, hw, servers) })
	t.Run("DropsOtherSources", func(t *testing.T) {
		program(func(l *hardware.Listener) { l.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")} })
		if _, _, err := n.ask("internet", "tcp4", "198.51.100.1:80", impatience); !isTimeout(err) {
			t.Errorf("a client outside the ranges: %v, want a timeout", err)
		}
		if _, _, err := n.ask("internet", "tcp6", "[2001:db8:51::1]:80", impatience); !isTimeout(err) {
			t.Errorf("a client of a family without a range: %v, want a timeout", err)
		}
		program(func(l *hardware.Listener) { l.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")} })
		_, err := n.count("internet", "tcp4", "198.51.100.1:80", 10)
		n.must(err)
	})
	t.Run("KeepsTheClientOnOneMachine", func(t *testing.T) {
		program(func(l *hardware.Listener) { l.Affinity = time.Hour })
		n.eventually(func() error { // another machine while the first does not answer its check in time
			counts, err := n.count("internet", "tcp4", "198.51.100.1:80", 40)
			if err != nil || len(counts) != 1 {
				return fmt.Errorf("one client reached %v (%w)", counts, err)
			}
			return nil
		})
	})
	t.Run("RulesCanBeRead", func(t *testing.T) {
		path, err := exec.LookPath("nft")
		if err != nil {
			t.Skip("nft is not installed: apt-get install nftables")
		}
		out, err := exec.Command(path, "list", "ruleset").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "198.51.100.1") {
			t.Errorf("nft list ruleset: %v\n%s", err, out)
		}
	})
	t.Run("LeavesNothingBehind", func(t *testing.T) {
		n.must(hw.Program(t.Context(), nil))
		hw.close()
		conn, err := nftables.New()
		n.must(err)
		tables, err := conn.ListTables()
		n.must(err)
		if len(tables) > 0 {
			t.Errorf("%d tables are left", len(tables))
		}
		lo, err := netlink.LinkByName("lo")
		n.must(err)
		addresses, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
		n.must(err)
		for _, a := range addresses {
			if !a.IP.IsLoopback() {
				t.Errorf("address %s is left", a.IP)
			}
		}
	})
}

func testHealth(t *testing.T, n *network, hw *forwarder, servers map[string]*server) {
	// One UDP socket, as of a client that keeps its port.
	var conn net.Conn
	n.in(n.spaces["internet"], func() (err error) {
		conn, err = net.Dial("udp4", "198.51.100.1:80")
		return err
	})
	defer conn.Close()
	line, err := exchange(conn, "udp4", patience)
	n.must(err)
	bad, _, _ := strings.Cut(line, " ")
	good := map[string]string{"n1": "n2", "n2": "n1"}[bad]

	servers[bad].healthy.Store(false)
	n.eventually(func() error {
		counts, err := n.count("internet", "tcp4", "198.51.100.1:80", 30)
		if err != nil || counts[good] != 30 {
			return fmt.Errorf("%s is not healthy, yet %v (%w)", bad, counts, err)
		}
		return nil
	})
	n.eventually(func() error {
		if line, err := exchange(conn, "udp4", impatience); err != nil || !strings.HasPrefix(line, good) {
			return fmt.Errorf("the UDP flow is still answered by %q (%w)", line, err)
		}
		return nil
	})
	// Without a healthy machine all of them are tried, as AWS and GCP do it, and told to be unhealthy all the same.
	servers[good].healthy.Store(false)
	n.eventually(func() error {
		counts, err := n.count("internet", "tcp4", "198.51.100.1:80", 30)
		if err != nil || len(counts) != 2 {
			return fmt.Errorf("no machine is healthy: %v (%w), want answers of both", counts, err)
		}
		return nil
	})
	for _, h := range hw.Health() {
		if h.Healthy {
			n.Errorf("%s is healthy to the cloud, and is not", h.Target)
		}
	}
	servers[bad].healthy.Store(true)
	servers[good].healthy.Store(true)
	n.eventually(func() error {
		counts, err := n.count("internet", "tcp4", "198.51.100.1:80", 30)
		if err != nil || len(counts) != 2 {
			return fmt.Errorf("both are healthy again, yet %v (%w)", counts, err)
		}
		return nil
	})
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// TestServes runs the whole process's work: API, cloud, hardware.
func TestServes(t *testing.T) {
	n := newNetwork(t)
	n.serve("n1")
	socket := t.TempDir() + "/cloud.sock"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, settings{socket: socket}) }()
	t.Cleanup(func() {
		cancel()
		n.must(<-ended)
	})
	client, err := fake.NewClient("unix://" + socket)
	n.must(err)
	create := func(kind string, fields map[string]string, refs ...string) (object fake.Object) {
		t.Helper()
		n.eventually(func() (err error) {
			object, err = client.Create(t.Context(), fake.Object{Kind: kind, Name: "test", Fields: fields, Refs: refs})
			return err
		})
		return object
	}
	address := create(fake.KindAddress, map[string]string{"family": "IPv4", "pool": "", "requested": ""})
	check := create(fake.KindHealthCheck, map[string]string{"protocol": "TCP", "port": "30080", "path": "", "intervalSeconds": "1", "threshold": "2"})
	set := create(fake.KindTargetSet, map[string]string{"protocol": "TCP", "port": "30080", "family": "IPv4"}, check.ID)
	n.must(client.SyncTargets(t.Context(), []fake.TargetsRequest{{ID: set.ID, Add: []string{"172.30.0.11"}}}))
	balancer := create(fake.KindBalancer, nil, address.ID)
	create(fake.KindListener, map[string]string{"protocol": "TCP", "port": "80", "family": "IPv4", "sourceRanges": "", "affinitySeconds": "0"}, balancer.ID, set.ID)
	n.eventually(func() error {
		_, err := n.count("internet", "tcp4", address.Address+":80", 3)
		return err
	})
	n.eventually(func() error {
		health, err := client.Health(t.Context())
		if err != nil || len(health) != 1 || !health[0].Healthy {
			return fmt.Errorf("the health is %+v (%w)", health, err)
		}
		return nil
	})
}
