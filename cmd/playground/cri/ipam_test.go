package cri

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func TestPool(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, prefix string
		give           string // given back before the last one is taken
		want           []string
	}{
		"IPv4":   {reason: "the network's and the node's addresses are left out", prefix: "10.0.0.0/29", want: []string{"10.0.0.2", "10.0.0.3"}},
		"IPv6":   {reason: "there is no broadcast address", prefix: "fd00::/126", want: []string{"fd00::2", "fd00::3"}},
		"later":  {reason: "an address that was given back is used last", prefix: "10.0.0.0/29", give: "10.0.0.2", want: []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"}},
		"round":  {reason: "after the end comes the beginning", prefix: "10.0.0.0/29", give: "10.0.0.3", want: []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3"}},
		"masked": {reason: "a range may be written with any of its addresses", prefix: "10.0.0.7/29", want: []string{"10.0.0.2"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(netip.MustParsePrefix(tc.prefix))
			var got []netip.Addr
			for i := range tc.want {
				if i == len(tc.want)-1 && tc.give != "" {
					p.giveBack(netip.MustParseAddr(tc.give))
				}
				addr, err := p.take()
				if err != nil {
					t.Fatalf("%s: %v", tc.reason, err)
				}
				got = append(got, addr)
			}
			if diff := cmp.Diff(addrs(tc.want...), got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// FuzzPool takes and gives back in any order: no address is handed out twice, none outside, and none is lost.
func FuzzPool(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0, 0, 3, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		prefix := netip.MustParsePrefix("10.1.1.0/29")
		const room = 5 // 8 without the network's, the node's and the broadcast address
		p := newPool(prefix)
		var held []netip.Addr
		for _, step := range steps {
			if step > 0 && len(held) > 0 {
				i := int(step) % len(held)
				p.giveBack(held[i])
				held = append(held[:i], held[i+1:]...)
				continue
			}
			addr, err := p.take()
			if (err != nil) != (len(held) == room) {
				t.Fatalf("with %d of %d in use: %v", len(held), room, err)
			}
			if err != nil {
				continue
			}
			for _, other := range held {
				if other == addr {
					t.Fatalf("%s was handed out twice", addr)
				}
			}
			if !prefix.Contains(addr) {
				t.Fatalf("%s is outside", addr)
			}
			held = append(held, addr)
		}
	})
}

func TestIPAMGivesBackOnFailure(t *testing.T) {
	var m ipam
	if _, err := m.take(); err == nil {
		t.Fatal("addresses without a range")
	}
	m.set([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/127")})
	for range 3 {
		if got, err := m.take(); err == nil {
			t.Fatalf("the second range has no room, but %v", got)
		}
	}
	if used := len(m.pools[0].used); used != 0 {
		t.Errorf("%d addresses of the first range are lost", used)
	}
}

func TestIPAMKeepsKnownRanges(t *testing.T) {
	var m ipam
	old := netip.MustParsePrefix("10.0.0.0/24")
	m.set([]netip.Prefix{old})
	first, err := m.take()
	if err != nil {
		t.Fatal(err)
	}
	m.set([]netip.Prefix{old, netip.MustParsePrefix("fd00::/64")})
	second, err := m.take()
	if err != nil {
		t.Fatal(err)
	}
	if len(second) != 2 || second[0] == first[0] {
		t.Errorf("after %v came %v", first, second)
	}
}
