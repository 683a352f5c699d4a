package nftables

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefixes(ss ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestRanges(t *testing.T) {
	tests := map[string]struct {
		prefixes []netip.Prefix
		want     []string
	}{
		"none":             {nil, nil},
		"another family":   {prefixes("fd00::/64"), nil},
		"one":              {prefixes("10.0.0.0/8"), []string{"\x0a\x00\x00\x00\x0b\x00\x00\x00"}},
		"one inside other": {prefixes("10.1.0.0/16", "10.0.0.0/8"), []string{"\x0a\x00\x00\x00\x0b\x00\x00\x00"}},
		"neighbours":       {prefixes("10.0.0.0/9", "10.128.0.0/9"), []string{"\x0a\x00\x00\x00\x0b\x00\x00\x00"}},
		"not masked":       {prefixes("10.7.7.7/8"), []string{"\x0a\x00\x00\x00\x0b\x00\x00\x00"}},
		"everything":       {prefixes("0.0.0.0/0"), []string{"\x00\x00\x00\x00"}},
		"up to the end":    {prefixes("128.0.0.0/2", "192.0.0.0/2"), []string{"\x80\x00\x00\x00"}},
		"after the end":    {prefixes("128.0.0.0/1", "255.0.0.0/8"), []string{"\x80\x00\x00\x00"}},
		"two": {prefixes("192.168.0.0/16", "10.0.0.0/8"), []string{
			"\x0a\x00\x00\x00\x0b\x00\x00\x00",
			"\xc0\xa8\x00\x00\xc0\xa9\x00\x00",
		}},
	}
	table := newTable(families[0], Options{}.withDefaults())
	for name, test := range tests {
		if diff := cmp.Diff(test.want, table.ranges(test.prefixes)); diff != "" {
			t.Errorf("%s: want, got:\n%s", name, diff)
		}
	}
}

// FuzzRanges: an address is in the ranges when it is in one of the prefixes, and the ranges neither touch nor
// overlap.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 8, 10, 1, 0, 0, 16, 255, 255, 255, 255, 32}, uint32(0x0a010203))
	f.Add([]byte{0, 0, 0, 0, 1, 128, 0, 0, 0, 1}, uint32(0xffffffff))
	table := newTable(families[0], Options{}.withDefaults())
	f.Fuzz(func(t *testing.T, data []byte, probe uint32) {
		var ps []netip.Prefix
		for ; len(data) >= 5; data = data[5:] {
			ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte(data[:4])), int(data[4]%33)))
		}
		addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, probe)))
		want := false
		for _, p := range ps {
			want = want || p.Contains(addr)
		}
		got, last := false, ""
		for i, key := range table.ranges(ps) {
			start, end := key[:4], key[4:]
			if i > 0 && (last == "" || start <= last) {
				t.Fatalf("%v: %x after %x", ps, key, last)
			}
			got = got || start <= string(addr.AsSlice()) && (end == "" || string(addr.AsSlice()) < end)
			last = end
		}
		if got != want {
			t.Errorf("%v in %v: %v, want %v", addr, ps, got, want)
		}
	})
}

func TestFateNames(t *testing.T) {
	for _, f := range []fate{{1, 0}, {3, 0}, {5000, 0}, {1, time.Second}, {7, 3 * time.Hour}} {
		got, ok := parseFate(f.chain())
		if !ok || got != f {
			t.Errorf("%v became %q became %v, %v", f, f.chain(), got, ok)
		}
	}
	for _, name := range []string{"", chainRefuse, dropVerdict, "pick-", "pick-0", "pick-3x", "pick-3-0s", "pick--1"} {
		if f, ok := parseFate(name); ok {
			t.Errorf("%q became %v", name, f)
		}
	}
}
