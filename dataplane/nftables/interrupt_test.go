package nftables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

var errKilled = errors.New("killed")

// shifting has n Services whose endpoints, affinity, source ranges and existence depend on shift, and the Services of packetsState, which
// do not. The third byte of an endpoint's address is its Service's number.
func shifting(n, shift int) cluster {
	c := packetsState()
	for i := range n {
		if (i+shift)%5 == 0 {
			continue
		}
		g := c.group(fmt.Sprint("shifting", i), model.TCP, 4, model.Cluster, model.Reject)
		for e := range (i*3 + shift*2) % 5 {
			a := netip.AddrFrom4([4]byte{10, 128, byte(i), byte(10*((shift+e)%7) + e)})
			c.Groups[g].Endpoints = append(c.Groups[g].Endpoints, model.Endpoint{Addr: netip.AddrPortFrom(a, 8080)})
		}
		f := c.frontend(model.ClusterIP, fmt.Sprintf("10.96.1.%d", i), 80, g, g, outsideOnly)
		if (i+shift)%3 == 0 {
			f.Affinity = time.Duration(1+i%4) * time.Hour
		}
		if (i+shift)%4 == 0 {
			f.SourceRanges = []netip.Prefix{netip.PrefixFrom(clientAddrs[4], 24+i%3).Masked()}
		}
	}
	return c
}

// consistent checks that what the kernel serves right now is right for all Services that do not change, and sends nobody
// to another Service or to nothing.
func consistent(t *testing.T, b *Backend, steady map[string]service) {
	t.Helper()
	for _, table := range b.tables {
		there, err := findTable(b.conn, table.table)
		if err != nil {
			t.Fatal(err)
		}
		if there == nil && steady == nil {
			return
		}
	}
	is := served(t, b)
	for key, want := range steady {
		if diff := cmp.Diff(want, is[key]); diff != "" {
			t.Errorf("%s, which does not change: want, served:\n%s", key, diff)
		}
	}
	for key, s := range is {
		var number byte
		if _, err := fmt.Sscanf(key, "ip 0a6001%02x", &number); err != nil {
			continue // does not change
		}
		if f, ok := parseFate(s.Fate); ok != (f.endpoints > 0) || ok && len(s.Endpoints) == 0 || !ok && s.Fate != chainRefuse {
			t.Errorf("%s has fate %q with endpoints %v", key, s.Fate, s.Endpoints)
		}
		for _, e := range append(s.Endpoints, s.Sticky...) {
			if !strings.HasPrefix(e, fmt.Sprintf("10.128.%d.", number)) {
				t.Errorf("%s leads to %q", key, e)
			}
		}
	}
}

// TestSourceRangesChangeAtOnce: whoever may use a Service before and after its source ranges change may do so all the while,
// also where the change takes several transactions: what fits into one is not spread over two.
func TestSourceRangesChangeAtOnce(t *testing.T) {
	const limit = 4 << 10
	w := &network{node: nstest.New(t, "node")}
	b := w.backend(t)
	b.conn.transaction = limit
	table := b.tables[0]
	ranges := func() []string {
		elements, err := readElements(b.conn.elements, table.sets[setSourceRanges], table.set[setSourceRanges])
		if err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(elements))
	}
	several := false
	for endpoints := range 40 { // the border between two transactions moves through all changes
		c := newCluster()
		web := c.group("web", model.TCP, 4, model.Cluster, model.Reject, 1)
		f := c.frontend(model.LoadBalancerIP, vip(4, "external", 1), 80, web, web, everybody)
		f.SourceRanges = prefixes("198.51.100.0/26", "203.0.113.0/26", "192.0.2.0/26")
		big := c.group("big", model.TCP, 4, model.Cluster, model.Reject)
		c.frontend(model.ClusterIP, vip(4, "cluster", 2), 80, big, big, nobody)
		mustSync(t, b, c.State, nil)
		before := ranges()

		g := *f
		g.SourceRanges = prefixes("198.51.100.0/25", "203.0.113.0/25", "192.0.2.0/25")
		c.Frontends[f.Key] = &g
		for i := range endpoints {
			e := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 128, 0, byte(i)}), 8080)
			c.Groups[big].Endpoints = append(c.Groups[big].Endpoints, model.Endpoint{Addr: e})
		}
		after, commits := slices.Sorted(slices.Values(table.sourceRanges(&g))), 0
		b.committed = func() error {
			commits++
			if is := ranges(); !slices.Equal(is, before) && !slices.Equal(is, after) {
				t.Errorf("%d endpoints: %x after transaction %d, want all of\n%x, or of\n%x", endpoints, is, commits, before, after)
			}
			return nil
		}
		mustSync(t, b, c.State, &model.Changes{Frontends: []*model.Frontend{&g}, Groups: []*model.Group{c.Groups[big]}})
		b.committed = nil
		several = several || commits > 1
	}
	if !several {
		t.Error("one transaction has room for everything")
	}
}

// TestInterrupted kills the agent after each transaction of a sync that takes many, from nothing and from another state:
// nobody is ever led astray, connections to Services that do not change do not notice, and the next agent goes on.
func TestInterrupted(t *testing.T) {
	const services, small = 40, 4 << 10
	w := newNetwork(t, 3)
	a, z := shifting(services, 0), shifting(services, 1)
	var steady map[string]service
	start := func() *Backend {
		b := w.backendNoProbe(t)
		b.conn.transaction, b.conn.bulk = small, small
		return b
	}
	sync := func(b *Backend, to cluster, killed int) (alive bool) {
		t.Helper()
		n := 0
		b.committed = func() error {
			consistent(t, b, steady)
			if n++; n == killed {
				return errKilled
			}
			return nil
		}
		err := b.Sync(to.State, nil)
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if err == nil {
			if diff := cmp.Diff(expected(to.State), served(t, b)); diff != "" {
				t.Fatalf("expected, served:\n%s", diff)
			}
		}
		_ = b.Close()
		return err == nil
	}
	for killed := 1; ; killed++ {
		if err := Cleanup(Options{NetNS: w.node.FD()}); err != nil {
			t.Fatal(err)
		}
		steady = nil // nothing is there yet
		alive := sync(start(), a, killed)
		sync(start(), a, 0)
		if alive {
			if killed < 10 {
				t.Errorf("only %d transactions from nothing", killed)
			}
			break
		}
	}
	steady = expected(packetsState().State)
	sync(start(), a, 0)
	for found, i := map[string]bool{}, 0; len(found) < 3 && i < 100; i++ { // The neighbours are found meanwhile.
		found[mustAsk(t, w.pods[9], "tcp", at(vip(4, "cluster", 1), 80)).Server] = true
	}
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if err := connects(w.pods[9], at(vip(4, "cluster", 1), 80)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for killed := 1; !t.Failed(); killed++ {
		alive := sync(start(), z, killed)
		sync(start(), z, 0)
		sync(start(), a, 0)
		if alive {
			if killed < 10 {
				t.Errorf("only %d transactions", killed)
			}
			break
		}
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Errorf("a connection to a Service that does not change: %v", err)
	}
}
