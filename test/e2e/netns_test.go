//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// The namespaces of a playground.
const (
	netnsDir = "/run/netns"
	internet = "fl-internet"
)

var nodes = []string{"n1", "n2", "n3"}

func nodeNS(node string) string { return "fl-" + node }

// in runs f on a thread that is in a network namespace. What f opens stays there.
func in(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked when it could not be brought back, so that it ends with the goroutine.
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = home.Close() }()
		target, err := netns.GetFromPath(filepath.Join(netnsDir, ns))
		if err != nil {
			done <- fmt.Errorf("opening namespace %s: %w", ns, err)
			return
		}
		defer func() { _ = target.Close() }()
		if err := netns.Set(target); err != nil {
			done <- fmt.Errorf("entering namespace %s: %w", ns, err)
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// dial opens a connection from a namespace. The connect timeout is the one that the promise of no lost connection
// is made for.
func dial(ns, network string, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := in(ns, func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		conn, err = (&net.Dialer{}).DialContext(ctx, network, to.String())
		return err
	})
	return conn, err
}

// podNS finds the namespace of a Pod by its address.
func podNS(t *testing.T, ip netip.Addr) string {
	t.Helper()
	entries, err := os.ReadDir(netnsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "fl-pod-") {
			continue
		}
		found := false
		err := in(e.Name(), func() error {
			addrs, err := net.InterfaceAddrs()
			for _, a := range addrs {
				if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == ip {
					found = true
				}
			}
			return err
		})
		if err == nil && found { // a namespace may go while we look
			return e.Name()
		}
	}
	t.Fatalf("no Pod's namespace has the address %s", ip)
	return ""
}

// counter reads a counter of /proc/net/netstat or /proc/net/snmp in a namespace.
func counter(t *testing.T, ns, file, group, name string) int {
	t.Helper()
	var value int
	err := in(ns, func() error {
		// /proc/net is that of the process's first thread: /proc/thread-self is ours.
		f, err := os.Open("/proc/thread-self/net/" + file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		var names []string
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) == 0 || fields[0] != group+":" {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			for i, n := range names {
				if n == name {
					value, err = strconv.Atoi(fields[i])
					return err
				}
			}
		}
		return fmt.Errorf("no counter %s of %s", name, group)
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}
