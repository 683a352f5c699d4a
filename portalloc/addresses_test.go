package portalloc

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func seeded() func(uint64) uint64 { return rand.New(rand.NewPCG(1, 2)).Uint64N }

func TestAddresses(t *testing.T) {
	cases := map[string]struct {
		reason       string
		prefix       string
		first, last  string
		static       string // the last of the static band; "": there is none
		size         uint64
		outside, err string
	}{
		"Default":   {reason: "the figures of KEP-3070", prefix: "10.96.0.0/20", first: "10.96.0.1", static: "10.96.1.0", last: "10.96.15.254", size: 4094, outside: "10.96.15.255"},
		"Small":     {reason: "at least 16", prefix: "10.96.0.0/24", first: "10.96.0.1", static: "10.96.0.16", last: "10.96.0.254", size: 254, outside: "10.96.0.0"},
		"Tiny":      {reason: "too small for bands", prefix: "10.96.0.0/28", first: "10.96.0.1", last: "10.96.0.14", size: 14, outside: "10.96.0.16"},
		"Two":       {reason: "the smallest of IPv4", prefix: "10.96.0.4/30", first: "10.96.0.5", last: "10.96.0.6", size: 2, outside: "10.96.0.4"},
		"HostBits":  {reason: "host bits are ignored", prefix: "10.96.3.7/20", first: "10.96.0.1", static: "10.96.1.0", last: "10.96.15.254", size: 4094, outside: "10.95.255.255"},
		"IPv6":      {reason: "no broadcast", prefix: "fd00::/112", first: "fd00::1", static: "fd00::100", last: "fd00::ffff", size: 65535, outside: "fd00::"},
		"Huge":      {reason: "all the API server takes", prefix: "fd00::/64", first: "fd00::1", static: "fd00::100", last: "fd00::ffff:ffff:ffff:ffff", size: math.MaxUint64, outside: "fd00:0:0:1::"},
		"WholeIPv4": {reason: "more than a bitmap has", prefix: "10.0.0.0/8", first: "10.0.0.1", static: "10.0.1.0", last: "10.255.255.254", size: 1<<24 - 2, outside: "10.255.255.255"},
		"OneIPv6":   {reason: "the smallest of IPv6", prefix: "fd00::/127", first: "fd00::1", last: "fd00::1", size: 1, outside: "fd00::2"},
		"TooSmall":  {reason: "says so", prefix: "10.96.0.0/31", err: "choose a larger"},
		"TooLarge":  {reason: "says so", prefix: "fd00::/63", err: "/64 or longer"},
		"Mapped":    {reason: "neither family", prefix: "::ffff:10.0.0.0/104", err: "write it as"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			a, err := NewAddresses(netip.MustParsePrefix(tc.prefix))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%s: got %v, want %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil || a.Free() != tc.size {
				t.Fatalf("%s: %d addresses (%v), want %d", tc.reason, a.Free(), err, tc.size)
			}
			first, last := netip.MustParseAddr(tc.first), netip.MustParseAddr(tc.last)
			if err := errors.Join(a.Reserve(first), a.Reserve(last)); first != last && err != nil {
				t.Errorf("%s: %v", tc.reason, err)
			}
			if !a.Has(first) || !a.Has(last) || a.Static(last) || a.Static(first) != (tc.static != "") {
				t.Errorf("%s: the first is in use %t and static %t, the last %t and %t", tc.reason, a.Has(first), a.Static(first), a.Has(last), a.Static(last))
			}
			if tc.static != "" {
				if s := netip.MustParseAddr(tc.static); !a.Static(s) || a.Static(s.Next()) {
					t.Errorf("%s: the static band does not end with %s", tc.reason, s)
				}
			}
			if _, taken := errors.AsType[*AddressTakenError](a.Reserve(first)); !taken {
				t.Errorf("%s: the first could be had twice", tc.reason)
			}
			outside := netip.MustParseAddr(tc.outside)
			if _, is := errors.AsType[*AddressOutOfRangeError](a.Reserve(outside)); !is || a.Has(outside) || a.Release(outside) {
				t.Errorf("%s: %s could be had", tc.reason, outside)
			}
		})
	}
}

// FuzzAddresses compares with a set of addresses, and fills the prefix.
func FuzzAddresses(f *testing.F) {
	f.Add(uint8(26), true, []byte{0, 1, 1, 2, 2, 3})
	f.Add(uint8(122), false, []byte{0, 9, 1, 200, 2, 9, 1, 0})
	f.Add(uint8(64), false, []byte{0, 0, 0, 255, 1, 1})
	f.Fuzz(func(t *testing.T, bits uint8, four bool, ops []byte) {
		base, length := netip.MustParseAddr("fd00:1::"), 64+int(bits)%64
		if four {
			base, length = netip.MustParseAddr("10.32.0.0"), 11+int(bits)%20
		}
		prefix := netip.PrefixFrom(base, length)
		a, err := NewAddresses(prefix)
		if err != nil {
			t.Fatal(err)
		}
		size, model := a.Free(), map[netip.Addr]bool{}
		for i := 0; i+1 < len(ops) && i < 2000; i += 2 {
			address := base
			for range ops[i+1] {
				address = address.Next()
			}
			valid := prefix.Contains(address) && address != base && (!four || prefix.Contains(address.Next()))
			switch ops[i] % 3 {
			case 0:
				got, err := a.Allocate(func(n uint64) uint64 { return uint64(ops[i+1]) * 31 % n })
				if (err != nil) != (uint64(len(model)) == size) {
					t.Fatalf("Allocate with %d of %d in use: %v", len(model), size, err)
				}
				if err == nil && (model[got] || !prefix.Contains(got) || got == base) {
					t.Fatalf("Allocate gave %s, which is taken or nobody's", got)
				}
				if err == nil {
					model[got] = true
				}
			case 1:
				if ok := a.Reserve(address) == nil; ok != (valid && !model[address]) {
					t.Fatalf("Reserve(%s) is %t", address, ok)
				}
				if valid {
					model[address] = true
				}
			case 2:
				if got := a.Release(address); got != model[address] {
					t.Fatalf("Release(%s) is %t", address, got)
				}
				delete(model, address)
			}
		}
		if size < 4096 {
			for intn := seeded(); a.Free() > 0; {
				got, err := a.Allocate(intn)
				if err != nil || model[got] {
					t.Fatalf("with %d free: %s, %v", a.Free(), got, err)
				}
				model[got] = true
			}
		}
		list := a.List()
		if len(list) != len(model) || a.Used() != uint64(len(model)) || !slices.IsSortedFunc(list, netip.Addr.Compare) {
			t.Fatalf("%d are listed and %d counted, want %d in order", len(list), a.Used(), len(model))
		}
		for _, address := range list {
			if !model[address] {
				t.Fatalf("%s is listed", address)
			}
		}
	})
}

// TestSparseFills: a space without a bitmap is slow when it is nearly full, and right.
func TestSparseFills(t *testing.T) {
	s, intn := &sparse{n: 3000, in: map[uint64]struct{}{}}, seeded()
	for s.taken() < s.size() {
		i := s.pick(intn)
		if i >= 3000 || s.has(i) {
			t.Fatalf("%d was picked", i)
		}
		s.take(i)
	}
}

func BenchmarkAllocateAddress(b *testing.B) {
	for _, prefix := range []string{"10.96.0.0/16", "10.96.0.0/12", "fd00::/112", "fd00::/64"} {
		for _, used := range []int{0, 60000} {
			b.Run(fmt.Sprintf("%s/%dInUse", strings.ReplaceAll(prefix, "/", "-"), used), func(b *testing.B) {
				a, err := NewAddresses(netip.MustParsePrefix(prefix))
				if err != nil {
					b.Fatal(err)
				}
				intn := seeded()
				for range used {
					_, _ = a.Allocate(intn)
				}
				for b.Loop() {
					address, err := a.Allocate(intn)
					if err != nil {
						b.Fatal(err)
					}
					a.Release(address)
				}
			})
		}
	}
}
