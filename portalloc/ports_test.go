package portalloc

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var whole = Ranges{DefaultRange}

func TestBands(t *testing.T) {
	a := New(whole)
	intn := rand.New(rand.NewSource(1)).Intn
	dynamic := DefaultRange.Size() - 86
	for i := range DefaultRange.Size() {
		port, err := a.Allocate(intn)
		if err != nil {
			t.Fatalf("port %d of %d: %v", i, DefaultRange.Size(), err)
		}
		if inStatic := port < 30086; inStatic != (i >= dynamic) || inStatic != a.Static(port) {
			t.Fatalf("the %dth port is %d", i, port)
		}
	}
	_, err := a.Allocate(intn)
	if _, ok := errors.AsType[*ExhaustedError](err); !ok {
		t.Errorf("a full range gives %v, want an ExhaustedError", err)
	}
	if a.Free() != 0 || len(a.Ports()) != DefaultRange.Size() {
		t.Errorf("%d are free, %d are listed", a.Free(), len(a.Ports()))
	}
}

func TestNoPorts(t *testing.T) {
	_, err := New(nil).Allocate(func(int) int { t.Error("nothing is drawn of nothing"); return 0 })
	if _, ok := errors.AsType[*ExhaustedError](err); !ok {
		t.Errorf("got %v, want an ExhaustedError", err)
	}
}

func TestAllocationIsDeterministicAndEven(t *testing.T) {
	draw := func(seed int64) []int {
		a, intn := New(whole), rand.New(rand.NewSource(seed)).Intn
		var ports []int
		for range 100 {
			port, _ := a.Allocate(intn)
			ports = append(ports, port)
		}
		return ports
	}
	if diff := cmp.Diff(draw(7), draw(7)); diff != "" {
		t.Errorf("the same source gives other ports:\n%s", diff)
	}
	if cmp.Equal(draw(7), draw(8)) {
		t.Error("another source gives the same ports")
	}
	// Ranges with holes: each free port has the same chance.
	a := New(Ranges{{30000, 30099}, {30200, 30299}})
	for _, r := range a.Ranges() {
		for port := r.First; port <= r.Last; port++ {
			if port%7 != 0 {
				_ = a.Reserve(port)
			}
		}
	}
	free := a.Free()
	hits, intn := map[int]int{}, rand.New(rand.NewSource(1)).Intn
	for range 10000 {
		port, err := a.Allocate(intn)
		if err != nil {
			t.Fatal(err)
		}
		hits[port]++
		a.Release(port)
	}
	// Of the 28 free ports 2 are in the static band: 385 hits each on average, with a deviation of 19.
	for port, n := range hits {
		if n < 280 || n > 490 {
			t.Errorf("port %d came %d times", port, n)
		}
	}
	if len(hits) != free-2 {
		t.Errorf("%d ports came of %d free ones", len(hits), free)
	}
}

// FuzzAllocator compares with a set of ports: the simplest thing that does the same.
func FuzzAllocator(f *testing.F) {
	f.Add(uint16(30000), uint16(200), uint16(10), []byte{0, 0, 1, 5, 2, 5, 1, 5, 0, 0})
	f.Add(uint16(1), uint16(0), uint16(0), []byte{0, 0, 0, 0})
	f.Add(uint16(65000), uint16(130), uint16(1), []byte{1, 255, 2, 255, 1, 64, 0, 63})
	f.Add(uint16(20000), uint16(299), uint16(5000), []byte{0, 255, 0, 255, 1, 200, 2, 255, 0, 9})
	f.Fuzz(func(t *testing.T, first, size, gap uint16, ops []byte) {
		var given []Range
		for next := max(1, int(first)); next <= 65535 && len(given) < 3; {
			r := Range{First: next, Last: min(65535, next+int(size)%300)}
			given = append(given, r)
			next = r.Last + 2 + int(gap)%9000
		}
		ranges, err := NewRanges(given...)
		if err != nil {
			t.Fatal(err)
		}
		var all []int
		for _, r := range ranges {
			for p := r.First; p <= r.Last; p++ {
				all = append(all, p)
			}
		}
		a, model := New(ranges), map[int]bool{}
		for i := 0; i+1 < len(ops) && i < 2000; i += 2 {
			port := all[int(ops[i+1])*7%len(all)] + int(ops[i]/8)%3 - 1 // also just outside
			inside := slices.Contains(all, port)
			switch ops[i] % 3 {
			case 0:
				got, err := a.Allocate(func(n int) int { return int(ops[i+1]) * 11 % n })
				if (err != nil) != (len(model) == len(all)) {
					t.Fatalf("Allocate with %d of %d in use: %v", len(model), len(all), err)
				}
				if err != nil {
					continue
				}
				at := slices.Index(all, got)
				if model[got] || at < 0 {
					t.Fatalf("Allocate gave %d, which is taken or not in %s", got, ranges)
				}
				if static := StaticSize(len(all)); at < static && slices.ContainsFunc(all[static:], func(p int) bool { return !model[p] }) {
					t.Fatalf("Allocate gave %d of the static band while the dynamic one has room", got)
				}
				model[got] = true
			case 1:
				_, taken := errors.AsType[*TakenError](a.Reserve(port))
				if taken != model[port] || a.Has(port) != inside {
					t.Fatalf("Reserve(%d): taken %t, afterwards in use %t", port, taken, a.Has(port))
				}
				if inside {
					model[port] = true
				}
			case 2:
				if got := a.Release(port); got != model[port] {
					t.Fatalf("Release(%d) is %t", port, got)
				}
				delete(model, port)
			}
		}
		if want := slices.Sorted(maps.Keys(model)); !slices.Equal(want, a.Ports()) || a.Used() != len(model) || a.Used()+a.Free() != len(all) {
			t.Fatalf("in use are %v, want %v", a.Ports(), want)
		}
	})
}

// BenchmarkAllocate shows that choosing takes as long in a range that is nearly full as in an empty one.
func BenchmarkAllocate(b *testing.B) {
	for _, ranges := range []Ranges{{DefaultRange}, {{1024, 65535}}} {
		for _, share := range []int{0, 50, 100} {
			used := (ranges.Size() - 1) * share / 100
			b.Run(fmt.Sprintf("%dPorts/%dInUse", ranges.Size(), used), func(b *testing.B) {
				a, intn := New(ranges), rand.New(rand.NewSource(1)).Intn
				for range used {
					_, _ = a.Allocate(intn)
				}
				for b.Loop() {
					port, err := a.Allocate(intn)
					if err != nil {
						b.Fatal(err)
					}
					a.Release(port)
				}
			})
		}
	}
}

// BenchmarkFill takes every port of the default range.
func BenchmarkFill(b *testing.B) {
	intn := rand.New(rand.NewSource(1)).Intn
	for b.Loop() {
		a := New(whole)
		for a.Free() > 0 {
			_, _ = a.Allocate(intn)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(whole.Size()), "ns/port")
}
