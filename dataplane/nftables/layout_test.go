package nftables

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"github.com/fairlead/fairlead/dataplane/model"
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

// TestFatesInUse: what frontends have in the kernel keeps its number until the changes are sent, since packets follow it
// until then.
func TestFatesInUse(t *testing.T) {
	table := newTable(families[0], Options{}.withDefaults())
	frontend := func(n uint32) string {
		return table.frontendKey(model.FrontendKey{Addr: netip.MustParseAddr("10.96.0.1"), Protocol: model.TCP, Port: uint16(n)})
	}
	for f := lastResort; ; f.affinity += time.Second {
		n, ok := table.numberFate(f)
		if !ok {
			break
		}
		table.put(setFates, table.word(n), f.chain())
		table.put(setFrontends, frontend(n), table.word(n))
	}
	table.sent()
	const changed = 77
	table.put(setFrontends, frontend(changed), table.word(fateRefuse))
	if n, ok := table.numberFate(fate{endpoints: 2}); ok {
		t.Errorf("number %d is given away though frontends lead there", n)
	}
	table.sent()
	if n, ok := table.numberFate(fate{endpoints: 2}); !ok || n != changed {
		t.Errorf("got number %d, %v, want %d, to which nothing leads any more", n, ok, changed)
	}
}

// TestReadWhileResized: a listing that has some elements twice lacks others, and is made again, not for ever.
func TestReadWhileResized(t *testing.T) {
	table := newTable(families[0], Options{}.withDefaults())
	a, b := element{key: []byte(table.word(1))}, element{key: []byte(table.word(2))}
	listed := 0
	read := func(listings ...[]element) (map[string]string, error) {
		listed = 0
		return readElements(func(_ *nftables.Set, each func(element)) error {
			for _, e := range listings[min(listed, len(listings)-1)] {
				each(e)
			}
			listed++
			return nil
		}, table.sets[setMembers], table.set[setMembers])
	}
	got, err := read([]element{a, a}, []element{b, a})
	if diff := cmp.Diff(map[string]string{table.word(1): "", table.word(2): ""}, got); diff != "" || err != nil {
		t.Errorf("error %v, want, got:\n%s", err, diff)
	}
	if got, err := read([]element{a, a}); err == nil || !strings.Contains(err.Error(), "members") || listed != maxReads {
		t.Errorf("got %v, %v after %d listings", got, err, listed)
	}
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
