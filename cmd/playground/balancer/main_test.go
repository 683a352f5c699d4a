package balancer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/fairlead/fairlead/cloud/fake"
)

// insideEnv tells the process that it is in namespaces of its own.
const insideEnv = "FAIRLEAD_BALANCER_TEST_INSIDE"

// TestMain runs the tests in a user and network namespace of their own, which stands for the cloud's router; where that
// is not allowed, only the tests that need none.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), insideEnv+"=1")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	if err := self.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no namespaces:", err)
		os.Exit(m.Run())
	}
	err := self.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestParse(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		want   settings
		err    string
	}{
		"Both": {
			reason: "both ways, two pools",
			args:   []string{"--listen=172.30.0.254:9000", "--socket=/run/cloud.sock", "--pool=a=198.51.100.0/24", "--pool", "six=2001:db8::/64"},
			want: settings{listen: "172.30.0.254:9000", socket: "/run/cloud.sock", pools: []fake.Pool{
				{Name: "a", Prefix: netip.MustParsePrefix("198.51.100.0/24")}, {Name: "six", Prefix: netip.MustParsePrefix("2001:db8::/64")}}},
		},
		"NoName":   {reason: "the pool is called default", args: []string{"--socket=s", "--pool=198.51.100.0/24"}, want: settings{socket: "s", pools: []fake.Pool{{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")}}}},
		"Nowhere":  {reason: "nobody could reach it", err: "set --listen, --socket or both"},
		"HostBits": {reason: "which range is meant", args: []string{"--socket=s", "--pool=198.51.100.1/24"}, err: "write it as name=range"},
		"AWS": {
			reason: "an account with one machine",
			args:   []string{"--socket=s", "--aws=172.30.0.254:4566", "--machine=i-00000001=zone-a=172.30.0.11"},
			want: settings{socket: "s", amazon: "172.30.0.254:4566",
				machines: []machine{{id: "i-00000001", zone: "zone-a", address: netip.MustParseAddr("172.30.0.11")}}},
		},
		"AWSWithIPv6": {
			reason: "a machine that is a target of both families",
			args:   []string{"--socket=s", "--aws=172.30.0.254:4566", "--machine=i-00000001=zone-a=172.30.0.11=fd00:172:30::11"},
			want: settings{socket: "s", amazon: "172.30.0.254:4566",
				machines: []machine{{id: "i-00000001", zone: "zone-a", address: netip.MustParseAddr("172.30.0.11"), ipv6: netip.MustParseAddr("fd00:172:30::11")}}},
		},
		"NoMachine": {reason: "balancers would have no zone", args: []string{"--socket=s", "--aws=172.30.0.254:4566"}, err: "set --machine"},
		"NoAWS":     {reason: "machines of what", args: []string{"--socket=s", "--machine=i-00000001=zone-a=172.30.0.11"}, err: "set --aws"},
		"NoZone":    {reason: "where the machine is", args: []string{"--socket=s", "--machine=i-00000001=172.30.0.11"}, err: "write it as id=zone=address"},
		"Argument":  {reason: "there are none", args: []string{"--socket=s", "now"}, err: `unexpected argument "now"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := parse(tc.args)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%s: got error %v, want %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(settings{}, machine{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// network is the router, which is the process's own namespace, two machines on a switch, and a client on another link.
// The switch has a namespace of its own: where the kernel shows bridged packets to the firewall, the router's must not
// see those between the machines.
type network struct {
	*testing.T
	spaces map[string]netns.NsHandle
}

const router = "router"

// The addresses of the test's machines, and of the router on the link to them.
var (
	machines = map[string][2]string{
		"n1":       {"172.30.0.11/24", "fd00:172:30::b/64"},
		"n2":       {"172.30.0.12/24", "fd00:172:30::c/64"},
		"internet": {"203.0.113.10/24", "fd00:203:0:113::a/64"},
	}
	nodeGateways    = [2]string{"172.30.0.254/24", "fd00:172:30::fe/64"}
	outsideGateways = [2]string{"203.0.113.1/24", "fd00:203:0:113::1/64"}
)

func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Skip("user namespaces are not allowed here: set the sysctl kernel.unprivileged_userns_clone to 1, and on Ubuntu kernel.apparmor_restrict_unprivileged_userns to 0")
	}
	n := &network{T: t, spaces: map[string]netns.NsHandle{}}
	own, err := netns.Get()
	n.must(err)
	n.spaces[router] = own
	t.Cleanup(func() { own.Close() })
	for _, name := range []string{"switch", "n1", "n2", "internet"} {
		n.in(own, func() error {
			space, err := netns.New()
			n.spaces[name] = space
			return err
		})
		space := n.spaces[name]
		t.Cleanup(func() { space.Close() })
	}
	for path, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		// A router that translates must not tell clients of a shorter way past it.
		"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
	} {
		n.must(os.WriteFile("/proc/sys/net/"+path, []byte(value), 0))
	}
	n.up(router, "lo", [2]string{})
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bridge", Namespace: netlink.NsFd(n.spaces["switch"])}}
	n.must(netlink.LinkAdd(bridge))
	n.up("switch", "bridge", [2]string{})
	n.connect(router, "nodes", "switch", "to-router")
	n.connect("n1", "eth0", "switch", "to-n1")
	n.connect("n2", "eth0", "switch", "to-n2")
	n.connect(router, "outside", "internet", "eth0")
	for _, port := range []string{"to-router", "to-n1", "to-n2"} {
		handle := n.handle("switch")
		bridge, err := handle.LinkByName("bridge")
		n.must(err)
		n.must(handle.LinkSetMaster(n.up("switch", port, [2]string{}), bridge))
	}
	n.up(router, "nodes", nodeGateways)
	n.up(router, "outside", outsideGateways)
	for name, addresses := range machines {
		n.up(name, "lo", [2]string{})
		link := n.up(name, "eth0", addresses)
		gateways := nodeGateways
		if name == "internet" {
			gateways = outsideGateways
		}
		for _, gateway := range gateways {
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParsePrefix(gateway).Addr().AsSlice()}
			n.must(n.handle(name).RouteAdd(route))
		}
	}
	return n
}

func (n *network) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

func (n *network) handle(space string) *netlink.Handle {
	n.Helper()
	handle, err := netlink.NewHandleAt(n.spaces[space])
	n.must(err)
	n.Cleanup(handle.Close)
	return handle
}

// connect makes a cable. It goes at the end of the test; the kernel takes its time with namespaces.
func (n *network) connect(space, name, peerSpace, peerName string) {
	n.Helper()
	n.must(netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, Namespace: netlink.NsFd(n.spaces[space])},
		PeerName:  peerName, PeerNamespace: netlink.NsFd(n.spaces[peerSpace]),
	}))
	handle := n.handle(space)
	link, err := handle.LinkByName(name)
	n.must(err)
	n.Cleanup(func() { n.must(handle.LinkDel(link)) })
}

// up sets a link up, with addresses where they are not empty.
func (n *network) up(space, name string, addresses [2]string) netlink.Link {
	n.Helper()
	handle := n.handle(space)
	link, err := handle.LinkByName(name)
	n.must(err)
	n.must(handle.LinkSetUp(link))
	for _, text := range addresses {
		if text != "" {
			address, err := netlink.ParseAddr(text)
			n.must(err)
			address.Flags = syscall.IFA_F_NODAD
			n.must(handle.AddrAdd(link, address))
		}
	}
	return link
}

// in runs f on a thread of its own in a namespace.
func (n *network) in(space netns.NsHandle, f func() error) {
	n.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := netns.Set(space); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	n.must(<-done)
}
