package sync

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNamespace makes a network namespace without touching the test's own: it is entered on a thread that is thrown
// away.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	type made struct {
		ns  netns.NsHandle
		err error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		result <- made{ns, err}
	}()
	m := <-result
	if m.err != nil {
		t.Skipf("cannot make a network namespace (%v): run as root, or under unshare --user --map-root-user --net", m.err)
	}
	t.Cleanup(func() { _ = m.ns.Close() })
	return m.ns
}

func TestMachineAddresses(t *testing.T) {
	ns := newNamespace(t)
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	if err := handle.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "d0"}, PeerName: "d1"}); err != nil {
		t.Fatal(err)
	}
	link, err := handle.LinkByName("d0")
	if err != nil {
		t.Fatal(err)
	}
	add := func(cidr string) *netlink.Addr {
		t.Helper()
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if err := handle.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	first := add("192.0.2.1/24")

	var mu sync.Mutex
	var current []netip.Addr
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		machineAddresses(ctx, logr.Discard(), ns, func(addrs []netip.Addr) {
			mu.Lock()
			defer mu.Unlock()
			current = addrs
		})
	}()
	expect := func(what string, has, hasNot []string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			mu.Lock()
			got := slices.Clone(current)
			mu.Unlock()
			ok := true
			for _, a := range has {
				ok = ok && slices.Contains(got, netip.MustParseAddr(a))
			}
			for _, a := range hasNot {
				ok = ok && !slices.Contains(got, netip.MustParseAddr(a))
			}
			if ok && len(got) > 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v, want %v and not %v", what, got, has, hasNot)
			}
			time.Sleep(time.Millisecond)
		}
	}
	expect("at the start", []string{"192.0.2.1"}, nil)
	add("192.0.2.2/24")
	add("2001:db8::1/64")
	expect("after two came", []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}, nil)
	if err := handle.AddrDel(link, first); err != nil {
		t.Fatal(err)
	}
	expect("after one went", []string{"2001:db8::1"}, []string{"192.0.2.1"})
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it does not end with its context")
	}
}
