package hostlb

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// TestMain runs the tests in a network namespace of their own: they write to a kernel, but not to this host's rules.
func TestMain(m *testing.M) { nstest.Main(m) }

// TestSuite holds the provider to the contract. The kernel answers at once and needs no emulator.
func TestSuite(t *testing.T) { cloudtest.Run(t, newHarness) }

// hooked lets the suite see each call, and fail it.
type hooked struct {
	kernel
	hook *atomic.Pointer[func(cloudtest.Call) error]
}

func (h hooked) call(name string, write bool, call func() error) error {
	hook := h.hook.Load()
	if hook == nil {
		return call()
	}
	if err := (*hook)(cloudtest.Call{Name: name, Write: write}); err != nil {
		return err // it never reached the kernel
	}
	err := call()
	if lost := (*hook)(cloudtest.Call{Name: name, Write: write, After: true}); lost != nil {
		return lost // it did, and nobody hears of it
	}
	return err
}

func (h hooked) read(ctx context.Context) (s *state, err error) {
	err = h.call("read", false, func() error {
		s, err = h.kernel.read(ctx)
		return err
	})
	return s, err
}

func (h hooked) write(ctx context.Context, what string, since *state, build func(*transaction) error) error {
	return h.call(what, true, func() error { return h.kernel.write(ctx, what, since, build) })
}

var tables atomic.Int32

var testPools = []pool{{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")}}

// newKernel makes an empty cloud: a table of its own, which goes with the test.
func newKernel(t *testing.T) *table {
	t.Helper()
	if !nstest.Inside() {
		t.Skip("namespaces are not to be had: run as root, or allow user namespaces")
	}
	k := newTable(fmt.Sprintf("hostlb-%d", tables.Add(1)))
	t.Cleanup(func() {
		if err := dropTable(k.table); err != nil {
			t.Errorf("removing table %s: %v", k.table.Name, err)
		}
	})
	return k
}

func dropTable(table *nftables.Table) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.DelTable(conn.AddTable(table)) // adding first: it may not be there
	return conn.Flush()
}

func newHarness(t *testing.T) *cloudtest.Harness {
	t.Helper()
	cloudside := newKernel(t)
	var hook atomic.Pointer[func(cloudtest.Call) error]
	return &cloudtest.Harness{
		New: func() cloud.Provider { return &Provider{pools: testPools, kernel: counted{hooked{cloudside, &hook}}} },
		SetHook: func(h func(cloudtest.Call) error) {
			if h == nil {
				hook.Store(nil)
				return
			}
			hook.Store(&h)
		},
		Snapshot:     func() []string { return snapshot(t, cloudside) },
		PlantForeign: func(owner cloud.Owner, r cloud.Resource) error { return plant(cloudside, owner, r) },
		// The kernel never says for how long.
		Throttled: func(after time.Duration) error {
			return &cloud.Error{Class: cloud.Throttled, After: after, Err: unix.ENOBUFS}
		},
		Address: "198.51.100.77",
	}
}

// snapshot says what there is without addresses and numbers, which depend on what was there before.
func snapshot(t *testing.T, k kernel) []string {
	t.Helper()
	s, err := k.read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, m := range s.addresses {
		lines = append(lines, fmt.Sprintf("address %s", m))
	}
	for _, set := range s.sets {
		lines = append(lines, fmt.Sprintf("targets %s: %v", set.mark, set.targets))
	}
	for at, l := range s.listeners {
		lines = append(lines, fmt.Sprintf("listener %s at the address of [%s], %s %d, to %d of [%s]",
			l.mark, s.addresses[at.address], at.protocol, at.port, l.nodePort, s.sets[l.set].mark))
	}
	slices.Sort(lines)
	return lines
}

// plant puts somebody else's element where the provider would put r first.
func plant(k kernel, owner cloud.Owner, r cloud.Resource) error {
	s, err := k.read(context.Background())
	if err != nil {
		return err
	}
	somebody := mark{owner: "somebody/else", key: "by-hand"}
	name := cloud.Name(owner, r, 63)
	return k.write(context.Background(), "planting", s, func(tx *transaction) error {
		switch r.Kind {
		case KindAddress:
			for a := range testPools[0].addresses(name) {
				return tx.add(tx.addresses, addressElement(a, somebody))
			}
		case KindTargetSet:
			return tx.add(tx.targets, targetSetElement(hashOf(name)+1, somebody))
		}
		return cloudtest.ErrCannotPlant // a listener stands at an address
	})
}

// TestMarks: what is written is read again, and what is not ours is nobody's.
func TestMarks(t *testing.T) {
	longest := mark{owner: cloud.Owner{ClusterID: strings.Repeat("c", 63), ServiceUID: strings.Repeat("u", 36)}.ID(),
		key: addressKey, attributes: map[string]string{"pool": strings.Repeat("p", 40), "requested": "255.255.255.255"}}
	if err := longest.check(); err != nil {
		t.Error(err)
	}
	if got := parseMark(longest.String()); got.String() != longest.String() || got.owner != longest.owner {
		t.Errorf("%q is read as %q", longest, got)
	}
	for _, comment := range []string{"", "http", "to the printer", "a/b c d", "a/b/c ipv4"} {
		if m := parseMark(comment); m.owner != "" {
			t.Errorf("%q is somebody's: %+v", comment, m)
		}
	}
}
