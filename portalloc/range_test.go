package portalloc

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRange(t *testing.T) {
	cases := map[string]struct {
		reason string
		text   string
		want   Range
		static int
		err    string
	}{
		"Default":    {reason: "30000-30085 is static", text: "30000-32767", want: DefaultRange, static: 86},
		"Large":      {reason: "never more than 128", text: "1024-65535", want: Range{1024, 65535}, static: 128},
		"Small":      {reason: "at least 16", text: "30000-30016", want: Range{30000, 30016}, static: 16},
		"Tiny":       {reason: "too small for bands", text: "30000-30015", want: Range{30000, 30015}},
		"One":        {reason: "one port is a range", text: "30000-30000", want: Range{30000, 30000}},
		"UpsideDown": {reason: "names what was meant", text: "32767-30000", err: "write 30000-32767"},
		"Words":      {reason: "says how to write it", text: "some", err: "write it as 30000-32767"},
		"Negative":   {reason: "a third dash", text: "-1-5", err: "write it as"},
		"TooHigh":    {reason: "there is no such port", text: "65000-65536", err: "1 to 65535"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseRange(tc.text)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%s: got error %v, want %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want || StaticSize(got.Size()) != tc.static {
				t.Errorf("%s: got %v with %d static (%v), want %v with %d", tc.reason, got, StaticSize(got.Size()), err, tc.want, tc.static)
			}
		})
	}
}

func TestNewRanges(t *testing.T) {
	given := []Range{{30100, 30199}, {30000, 30009}, {30010, 30019}, {30150, 30300}, {30305, 30305}}
	before := slices.Clone(given)
	got, err := NewRanges(given...)
	if err != nil || got.String() != "30000-30019, 30100-30300, 30305" || got.Size() != 222 {
		t.Errorf("got %s with %d ports, %v", got, got.Size(), err)
	}
	if diff := cmp.Diff(before, given); diff != "" {
		t.Errorf("the argument was changed:\n%s", diff)
	}
	if _, err := NewRanges(Range{2, 1}, Range{1, 2}, Range{0, 1}); err == nil || !strings.Contains(err.Error(), "write 1-2") || !strings.Contains(err.Error(), "0-1 leaves") {
		t.Errorf("every mistake is named: got %v", err)
	}
	if text := Ranges(nil).String(); text != "no ports" {
		t.Errorf("nothing is called %q", text)
	}
}

// FuzzRanges compares with sets of ports.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{0, 5, 10, 3, 14, 0}, []byte{3, 4, 9, 1, 20, 2})
	f.Add([]byte{7, 0}, []byte{7, 0})
	f.Add([]byte{}, []byte{1, 200})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		read := func(text []byte) (Ranges, map[int]bool) {
			var ranges []Range
			in := map[int]bool{}
			for i := 0; i+1 < len(text) && i < 64; i += 2 {
				r := Range{1 + int(text[i]), 1 + int(text[i]) + int(text[i+1])%16}
				ranges = append(ranges, r)
				for p := r.First; p <= r.Last; p++ {
					in[p] = true
				}
			}
			rs, err := NewRanges(ranges...)
			if err != nil {
				t.Fatal(err)
			}
			return rs, in
		}
		check := func(what string, got Ranges, want map[int]bool) {
			t.Helper()
			ports := map[int]bool{}
			for i, r := range got {
				if r.First > r.Last || i > 0 && r.First <= got[i-1].Last+1 {
					t.Fatalf("%s: %s is not in order", what, got)
				}
				for p := r.First; p <= r.Last; p++ {
					ports[p] = true
				}
			}
			if !maps.Equal(ports, want) || got.Size() != len(want) {
				t.Fatalf("%s: got %s, want %v", what, got, slices.Sorted(maps.Keys(want)))
			}
			for p := range 300 {
				if got.Contains(p) != want[p] {
					t.Fatalf("%s: Contains(%d) is %t", what, p, !want[p])
				}
			}
		}
		x, inX := read(a)
		y, inY := read(b)
		both, rest := map[int]bool{}, map[int]bool{}
		for p := range inX {
			if inY[p] {
				both[p] = true
			} else {
				rest[p] = true
			}
		}
		check("as given", x, inX)
		// What is cut out touches nothing, so that parts need not be joined again.
		check("intersection", x.Intersect(y), both)
		check("difference", x.Subtract(y), rest)
	})
}
