package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside marks the run of this test binary that is in namespaces of its own.
const inside = "FAIRLEAD_TEST_INSIDE"

// TestMain runs the tests in namespaces of their own, so that they need no root and touch nothing of the host.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := prepareInside(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		// `playground up` says what to do about it.
		fmt.Fprintln(os.Stderr, "the network's tests need user namespaces:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

func prepareInside() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("covering /run: %w", err)
	}
	return os.Mkdir(Dir, 0o755)
}

// whoami answers each connection with the address it came from.
func whoami(t *testing.T, ns *Namespace, address string) {
	t.Helper()
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().String())
			_ = c.Close()
		}
	}()
}

func TestNetwork(t *testing.T) {
	nodes := Nodes()
	n, err := New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	names, err := Names()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"fl-cloud", "fl-internet", "fl-n1", "fl-n2", "fl-n3", "fl-root"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	// A Pod network of n2, whose Pod is the node's own loopback.
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:244:0:1::/64")}
	for _, p := range pods {
		lo, err := n.Nodes["n2"].Link.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		host := netip.PrefixFrom(p.Addr().Next(), p.Addr().BitLen())
		if err := n.Nodes["n2"].Link.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(host), Flags: unix.IFA_F_NODAD}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time changes nothing
		if err := n.RoutePods(nodes[1], pods); err != nil {
			t.Fatal(err)
		}
	}
	whoami(t, n.Nodes["n2"], ":80")
	whoami(t, n.Root, ":80")
	for name, tc := range map[string]struct{ from, to, seen string }{
		"NodeToNode":         {"fl-n1", "172.30.0.12:80", "172.30.0.11"},
		"NodeToNode6":        {"fl-n1", "[fd00:172:30::12]:80", "fd00:172:30::11"},
		"NodeToAPIServer":    {"fl-n3", "172.30.0.1:80", "172.30.0.13"},
		"InternetToNode":     {"fl-internet", "172.30.0.12:80", InternetClient},
		"InternetToNode6":    {"fl-internet", "[fd00:172:30::12]:80", "fd00:203:0:113::a"},
		"NodeToPod":          {"fl-n1", "10.244.1.1:80", "172.30.0.11"},
		"NodeToPod6":         {"fl-n3", "[fd00:244:0:1::1]:80", "fd00:172:30::13"},
		"ControlPlaneToPod":  {"fl-root", "10.244.1.1:80", "172.30.0.1"},
		"CloudToPod":         {"fl-cloud", "10.244.1.1:80", "172.30.0.254"},
		"OwnControlPlane":    {"fl-root", "127.0.0.1:80", "127.0.0.1"},
		"CloudToPod6":        {"fl-cloud", "[fd00:244:0:1::1]:80", "fd00:172:30::fe"},
		"InternetToRouter":   {"fl-internet", "203.0.113.1:80", ""},
		"InternetToBalancer": {"fl-internet", "198.51.100.1:80", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			conn, err := Dial(ctx, tc.from, tc.to)
			if tc.seen == "" {
				if err == nil {
					t.Fatal("connected")
				}
				if ctx.Err() != nil {
					t.Fatalf("not refused at once: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(conn)
			_ = conn.Close()
			if err != nil {
				t.Fatal(err)
			}
			if host, _, _ := net.SplitHostPort(string(text)); host != tc.seen {
				t.Errorf("seen as %s, want %s", host, tc.seen)
			}
		})
	}
	testPodNamespace(t)
}

func testPodNamespace(t *testing.T) {
	pod, err := NewNamespace(PodPrefix + "0123456789ab")
	if err != nil {
		t.Fatal(err)
	}
	lo, err := pod.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.up(lo, pair("10.244.0.9/32", "fd00:244::9/128")); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"10.244.0.9", "fd00:244::9"} {
		if got, err := PodNamespace(netip.MustParseAddr(ip)); err != nil || got != pod.Name {
			t.Errorf("namespace of %s: %q, %v", ip, got, err)
		}
	}
	if got, err := PodNamespace(netip.MustParseAddr("172.30.0.11")); err == nil {
		t.Errorf("a node's address is in %q, want an error", got)
	}
}

func TestEnterRefuses(t *testing.T) {
	for name, want := range map[string]string{"fl-nowhere": "playground list", "../net": "a name, not a path"} {
		err := Enter(name, func() error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("entering %q: %v, want an error with %q", name, err, want)
		}
	}
}
