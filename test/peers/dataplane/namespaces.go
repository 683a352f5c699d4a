package main

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
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const insideVariable = "FAIRLEAD_PEERS_INSIDE"

// inside tells whether this is the process in namespaces of its own.
func inside() bool { return os.Getenv(insideVariable) != "" }

// reexecute runs this program again in namespaces of its own and returns its exit code. They are of processes, so that
// nothing outlives it; of mounts; of networks; and, for users other than root, of users, as whose root it then runs.
func reexecute() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Setpgid:    true, // Ctrl-C comes by the signals below
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
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("making namespaces (run it as root, or allow user namespaces): %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// settleIn arranges the namespaces that the process is in.
func settleIn() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return nil
}

// namespace is a network namespace with a thread that lives in it.
type namespace struct {
	name string
	link *netlink.Handle

	fd   netns.NsHandle
	jobs chan func()
}

// newNamespace makes a namespace, or takes the one that the process is in, and sets up its loopback. Close it.
func newNamespace(name string, fresh bool) (*namespace, error) {
	n := &namespace{name: name, jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		ready <- n.enter(fresh)
		for job := range n.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		n.close()
		return nil, fmt.Errorf("making network namespace %s: %w", name, err)
	}
	if err := n.up("lo"); err != nil {
		n.close()
		return nil, err
	}
	// Distributions turn the filter on for the host, and namespaces inherit it.
	return n, n.sysctls("ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0", "ipv4/ip_local_port_range=1024 65535")
}

func (n *namespace) enter(fresh bool) (err error) {
	if fresh {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
	}
	if n.fd, err = netns.Get(); err != nil {
		return err
	}
	n.link, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return err
}

// close ends the thread. The namespace goes with the last process, socket and link end in it.
func (n *namespace) close() {
	close(n.jobs)
	if n.link != nil {
		n.link.Close()
	}
	_ = n.fd.Close()
}

// do runs f on the namespace's thread. Programs that f starts and sockets that it opens are in the namespace; programs
// are killed when it is closed.
func (n *namespace) do(f func() error) error {
	done := make(chan error)
	n.jobs <- func() { done <- f() }
	return <-done
}

// thread runs f beside others on a new thread in the namespace, and tells when it has returned.
func (n *namespace) thread(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, as above
		if err := netns.Set(n.fd); err != nil {
			done <- fmt.Errorf("entering network namespace %s: %w", n.name, err)
			return
		}
		done <- f()
	}()
	return done
}

// sysctls sets values below /proc/sys/net, each as name=value.
func (n *namespace) sysctls(settings ...string) error {
	return n.do(func() error {
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0); err != nil {
				return fmt.Errorf("setting %s of %s: %w", name, n.name, err)
			}
		}
		return nil
	})
}

func (n *namespace) up(name string, addresses ...string) error {
	link, err := n.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s of %s: %w", name, n.name, err)
	}
	for _, a := range addresses {
		if err := n.link.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(a))}); err != nil {
			return fmt.Errorf("adding %s to %s of %s: %w", a, name, n.name, err)
		}
	}
	if err := n.link.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting up %s of %s: %w", name, n.name, err)
	}
	return nil
}

// connect makes a pair of links, one end in each namespace, with an address each.
func (n *namespace) connect(link, address string, peer *namespace, peerLink, peerAddress string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = link
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: peerLink, PeerNamespace: netlink.NsFd(int(peer.fd))}
	if err := n.link.LinkAdd(pair); err != nil {
		return fmt.Errorf("linking %s with %s: %w", n.name, peer.name, err)
	}
	return errors.Join(n.up(link, address), peer.up(peerLink, peerAddress))
}

// route adds a route; without a gateway the whole prefix is the namespace's own.
func (n *namespace) route(to, gateway string) error {
	r := &netlink.Route{Dst: ipNet(netip.MustParsePrefix(to)), Gw: net.ParseIP(gateway)}
	if gateway == "" {
		lo, err := n.link.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("finding loopback of %s: %w", n.name, err)
		}
		r.LinkIndex, r.Type, r.Scope, r.Table = lo.Attrs().Index, unix.RTN_LOCAL, netlink.SCOPE_HOST, unix.RT_TABLE_LOCAL
	}
	if err := n.link.RouteAdd(r); err != nil {
		return fmt.Errorf("routing %s in %s: %w", to, n.name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
