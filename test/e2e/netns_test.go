//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/network"
)

// internet is the namespace of the client outside.
const internet = "fl-internet"

var nodes = []string{"n1", "n2", "n3"}

func nodeNS(node string) string { return "fl-" + node }

// dial opens a connection from a namespace. The connect timeout is the one that the promise of no lost connection
// is made for.
func dial(ns, protocol string, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := network.Enter(ns, func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		conn, err = (&net.Dialer{}).DialContext(ctx, protocol, to.String())
		return err
	})
	return conn, err
}

// podNS finds the namespace of a Pod by its address.
func podNS(t *testing.T, ip netip.Addr) string {
	t.Helper()
	ns, err := network.PodNamespace(ip)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// counter reads a counter of /proc/net/netstat or /proc/net/snmp in a namespace.
func counter(t *testing.T, ns, file, group, name string) int {
	t.Helper()
	var value int
	err := network.Enter(ns, func() error {
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
