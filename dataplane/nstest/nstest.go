// Package nstest is for tests only: network namespaces, links between them, and servers and clients inside, all in
// one process. Product code does not import it. It changes nothing in the network namespace in which the test was
// started: Main moves the tests into namespaces of their own first, as root or as any user.
package nstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const insideVariable = "FAIRLEAD_NSTEST_INSIDE"

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

// Main runs the tests in a fresh network and mount namespace (and, for users other than root, a user namespace in
// which they are root) and exits. Call it from TestMain. Where namespaces cannot be had the tests run outside and
// New skips them with the remedy.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for tests that have something to tidy up outside of the namespaces: it returns what to exit with.
func Run(m *testing.M) (code int) {
	if Inside() {
		if err := loopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, "Bringing up the loopback of the tests' namespace:", err)
			return 1
		}
		return m.Run()
	}
	code, err := reexecute()
	if err == nil {
		return code
	}
	refused = err
	return m.Run()
}

// Inside is true in the process that runs the tests, false in the one that makes namespaces for it.
func Inside() bool { return os.Getenv(insideVariable) != "" }

// loopbackUp lets the tests' own process use 127.0.0.1, as in the namespace that it came from.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// refused is why Main could not make namespaces.
var refused error

func reexecute() (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	// Pdeathsig is sent when the thread that starts the child ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	signal.Stop(signals)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "The tests inside the namespaces ended:", err)
		return 1, nil
	}
	return 0, nil
}

// Namespace is a network namespace.
type Namespace struct {
	Name   string
	fd     netns.NsHandle
	handle *netlink.Handle
	sctp   sctpTurns
}

// New makes a network namespace with its loopback up. It goes with the test.
func New(tb testing.TB, name string) *Namespace {
	tb.Helper()
	if refused != nil {
		tb.Skipf("namespaces are not to be had: %v; run as root, or allow user namespaces: "+
			"sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0", refused)
	}
	ns := &Namespace{Name: name}
	check(tb, ns.create())
	tb.Cleanup(func() {
		ns.handle.Close()
		_ = ns.fd.Close()
	})
	lo, err := ns.handle.LinkByName("lo")
	check(tb, err)
	check(tb, ns.handle.LinkSetUp(lo))
	// Addresses are ready at once, without a second or two of looking for duplicates.
	ns.Sysctl(tb, "ipv6/conf/default/accept_dad", "0")
	return ns
}

func (ns *Namespace) create() error {
	return onThread(func() error {
		before, err := netns.Get()
		if err != nil {
			return err
		}
		defer func() { _ = before.Close() }()
		if ns.fd, err = netns.New(); err != nil {
			return err
		}
		ns.handle, err = netlink.NewHandleAt(ns.fd)
		return errors.Join(err, netns.Set(before))
	})
}

// onThread runs a function on a thread that nobody else uses meanwhile.
func onThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

// FD is a file descriptor of the namespace, open as long as the test.
func (ns *Namespace) FD() int { return int(ns.fd) }

// Do runs a function inside the namespace. Sockets that it opens stay there; goroutines that it starts do not.
func (ns *Namespace) Do(f func() error) error {
	return onThread(func() error {
		before, err := netns.Get()
		if err != nil {
			return err
		}
		defer func() { _ = before.Close() }()
		if err := netns.Set(ns.fd); err != nil {
			return err
		}
		return errors.Join(f(), netns.Set(before))
	})
}

// Sysctl sets a value below /proc/sys/net of the namespace.
func (ns *Namespace) Sysctl(tb testing.TB, name, value string) {
	tb.Helper()
	check(tb, ns.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0)
	}))
}

// UnlimitICMP lets every refusal by ICMP out: tests ask more often than a kernel otherwise answers.
func (ns *Namespace) UnlimitICMP(tb testing.TB) {
	tb.Helper()
	ns.Sysctl(tb, "ipv4/icmp_ratelimit", "0")
	ns.Sysctl(tb, "ipv6/icmp/ratelimit", "0")
	for _, name := range []string{"icmp_msgs_per_sec", "icmp_msgs_burst"} {
		err := ns.Do(func() error {
			return os.WriteFile(filepath.Join("/proc/sys/net/ipv4", name), []byte("1000000"), 0)
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) { // older kernels have it for the whole machine
			tb.Fatal(err)
		}
	}
}

// Forward makes the namespace a router.
func (ns *Namespace) Forward(tb testing.TB) {
	tb.Helper()
	ns.Sysctl(tb, "ipv4/ip_forward", "1")
	ns.Sysctl(tb, "ipv6/conf/all/forwarding", "1")
}

// Loopback adds addresses that the namespace has whatever its links are.
func (ns *Namespace) Loopback(tb testing.TB, addrs ...netip.Addr) {
	tb.Helper()
	var prefixes []netip.Prefix
	for _, a := range addrs {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	ns.up(tb, "lo", prefixes)
}

// Connect makes a pair of links, one end in each namespace, with addresses, and waits until both can send.
func (ns *Namespace) Connect(tb testing.TB, link string, addrs []netip.Prefix, peer *Namespace, peerLink string, peerAddrs []netip.Prefix) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = link
	check(tb, ns.handle.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: peerLink, PeerNamespace: netlink.NsFd(peer.FD()),
	}))
	ns.up(tb, link, addrs)
	peer.up(tb, peerLink, peerAddrs)
	// The end that was up first loses all that it sends until the kernel has noticed its peer: an answer to who has an
	// address, say, which is asked for again a second later. A kernel that is asked for the state of a link notices at once.
	ns.operational(tb, link)
	peer.operational(tb, peerLink)
}

func (ns *Namespace) operational(tb testing.TB, name string) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		link, err := ns.handle.LinkByName(name)
		check(tb, err)
		if link.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("link %s of %s is %s", name, ns.Name, link.Attrs().OperState)
		}
	}
}

// Disconnect removes a link and its other end, with their addresses and routes.
func (ns *Namespace) Disconnect(tb testing.TB, link string) {
	tb.Helper()
	l, err := ns.handle.LinkByName(link)
	check(tb, err)
	check(tb, ns.handle.LinkDel(l))
}

// Down shuts a link down; its addresses stay.
func (ns *Namespace) Down(tb testing.TB, link string) {
	tb.Helper()
	l, err := ns.handle.LinkByName(link)
	check(tb, err)
	check(tb, ns.handle.LinkSetDown(l))
}

func (ns *Namespace) up(tb testing.TB, name string, addrs []netip.Prefix) {
	tb.Helper()
	link, err := ns.handle.LinkByName(name)
	check(tb, err)
	for _, p := range addrs {
		addr, err := netlink.ParseAddr(p.String())
		check(tb, err)
		addr.Flags = unix.IFA_F_NODAD // an address that waits for duplicates to answer cannot be used yet
		check(tb, ns.handle.AddrAdd(link, addr))
	}
	check(tb, ns.handle.LinkSetUp(link))
}

// Route adds a route; a prefix of no bits is the default one.
func (ns *Namespace) Route(tb testing.TB, dst netip.Prefix, via netip.Addr) {
	tb.Helper()
	ns.RouteFrom(tb, dst, via, netip.Addr{})
}

// RouteFrom adds a route whose packets, where the namespace itself sends them, come from an address of it.
func (ns *Namespace) RouteFrom(tb testing.TB, dst netip.Prefix, via, from netip.Addr) {
	tb.Helper()
	check(tb, ns.handle.RouteAdd(&netlink.Route{Dst: ipNet(tb, dst), Gw: via.AsSlice(), Src: from.AsSlice()}))
}

// RouteLink adds a route to what is at the other end of a link.
func (ns *Namespace) RouteLink(tb testing.TB, dst netip.Prefix, link string) {
	tb.Helper()
	l, err := ns.handle.LinkByName(link)
	check(tb, err)
	check(tb, ns.handle.RouteAdd(&netlink.Route{
		Dst: ipNet(tb, dst), LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK,
	}))
}

// Own makes every address of a prefix one of the namespace's own, without a link that has it.
func (ns *Namespace) Own(tb testing.TB, dst netip.Prefix) {
	tb.Helper()
	// For a socket IPv6 counts only the addresses that links have.
	ns.Sysctl(tb, "ipv6/ip_nonlocal_bind", "1")
	lo, err := ns.handle.LinkByName("lo")
	check(tb, err)
	check(tb, ns.handle.RouteAdd(&netlink.Route{
		Dst: ipNet(tb, dst), LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL,
		Scope: netlink.SCOPE_HOST,
	}))
}

// ForgetConnections empties the namespace's connection tracking, so that a client's port that comes round again finds
// no translation of its last use.
func (ns *Namespace) ForgetConnections(tb testing.TB) {
	tb.Helper()
	check(tb, ns.handle.ConntrackTableFlush(netlink.ConntrackTable))
}

// Addresses are all addresses of the namespace's links.
func (ns *Namespace) Addresses(tb testing.TB) []netip.Addr {
	tb.Helper()
	list, err := ns.handle.AddrList(nil, netlink.FAMILY_ALL)
	check(tb, err)
	addrs := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

func ipNet(tb testing.TB, p netip.Prefix) *net.IPNet {
	tb.Helper()
	n, err := netlink.ParseIPNet(p.String())
	check(tb, err)
	return n
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
