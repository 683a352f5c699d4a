package portalloc

import "slices"

// Allocator knows which ports of some ranges are in use. The lowest ports are the static band (StaticSize of all).
// Taking, giving back and choosing take the same time however many are in use. Not for several goroutines.
type Allocator struct {
	ranges Ranges
	// before[i] is how many ports the ranges before the i-th have.
	before []int
	bands  bands
}

// New makes an allocator with every port free.
func New(ranges Ranges) *Allocator {
	a := &Allocator{ranges: slices.Clone(ranges), before: make([]int, len(ranges))}
	size := 0
	for i, r := range a.ranges {
		a.before[i] = size
		size += r.Size()
	}
	a.bands = newBands(uint64(size), uint64(StaticSize(size)))
	return a
}

// Ranges returns the allocator's ranges.
func (a *Allocator) Ranges() Ranges { return slices.Clone(a.ranges) }

// Used returns the number of ports in use.
func (a *Allocator) Used() int { return int(a.bands.taken()) }

// Free returns the number of ports that are not in use.
func (a *Allocator) Free() int { return int(a.bands.size() - a.bands.taken()) }

// Has reports whether a port is in use; false for one outside the ranges.
func (a *Allocator) Has(port int) bool {
	i, ok := a.offset(port)
	return ok && a.bands.has(i)
}

// Static reports whether a port is in the static band.
func (a *Allocator) Static(port int) bool {
	i, ok := a.offset(port)
	return ok && i < a.bands.static.size()
}

// Reserve takes a port. Its error is a *TakenError or an *OutOfRangeError.
func (a *Allocator) Reserve(port int) error {
	i, ok := a.offset(port)
	if !ok {
		return &OutOfRangeError{Port: port, Ranges: a.Ranges()}
	}
	if !a.bands.take(i) {
		return &TakenError{Port: port}
	}
	return nil
}

// Release gives a port back and reports whether it was in use.
func (a *Allocator) Release(port int) bool {
	i, ok := a.offset(port)
	return ok && a.bands.free(i)
}

// Allocate takes a free port of the dynamic band, each with the same chance, or of the static band if the dynamic one
// is full. intn(n) returns a number from 0 to n-1; the same answers lead to the same ports. Its error is an
// *ExhaustedError.
func (a *Allocator) Allocate(intn func(n int) int) (int, error) {
	i, ok := a.bands.allocate(func(n uint64) uint64 { return uint64(intn(int(n))) })
	if !ok {
		return 0, &ExhaustedError{Ranges: a.Ranges()}
	}
	return a.port(i), nil
}

// Ports returns the ports in use, sorted.
func (a *Allocator) Ports() []int {
	offsets := a.bands.list()
	ports := make([]int, len(offsets))
	for i, offset := range offsets {
		ports[i] = a.port(offset)
	}
	return ports
}

// offset returns how many ports of the ranges are below one of theirs.
func (a *Allocator) offset(port int) (uint64, bool) {
	i, found := a.ranges.find(port)
	if !found {
		return 0, false
	}
	return uint64(a.before[i] + port - a.ranges[i].First), true
}

func (a *Allocator) port(offset uint64) int {
	i, found := slices.BinarySearch(a.before, int(offset))
	if !found {
		i--
	}
	return a.ranges[i].First + int(offset) - a.before[i]
}
