package portalloc

import (
	"fmt"
	"math/bits"
)

// TakenError says that a port is in use.
type TakenError struct{ Port int }

// Error names the port.
func (e *TakenError) Error() string { return fmt.Sprintf("port %d is taken", e.Port) }

// OutOfRangeError says that a port is not in the allocator's range.
type OutOfRangeError struct {
	Port  int
	Range Range
}

// Error names the port and the range.
func (e *OutOfRangeError) Error() string { return fmt.Sprintf("port %d is not in %s", e.Port, e.Range) }

// ExhaustedError says that every port of the range is in use.
type ExhaustedError struct{ Range Range }

// Error names the range.
func (e *ExhaustedError) Error() string { return fmt.Sprintf("every port of %s is taken", e.Range) }

// Allocator knows which ports of a range are in use. Its time does not depend on how many are: one word of the bitmap
// stands for 64 ports. Not for several goroutines.
type Allocator struct {
	ports Range
	words []uint64 // bit i of word w: port First + 64w + i is in use
	used  int
}

// New makes an allocator with every port free. The range must be one that ParseRange accepts; New panics otherwise.
func New(ports Range) *Allocator {
	if err := ports.check(); err != nil {
		panic("portalloc: " + err.Error())
	}
	return &Allocator{ports: ports, words: make([]uint64, (ports.Size()+63)/64)}
}

// Range returns the allocator's range.
func (a *Allocator) Range() Range { return a.ports }

// Used and Free count ports.
func (a *Allocator) Used() int { return a.used }

// Free returns the number of ports that are not in use.
func (a *Allocator) Free() int { return a.ports.Size() - a.used }

// Has reports whether a port is in use; false for one outside the range.
func (a *Allocator) Has(port int) bool {
	if !a.ports.Contains(port) {
		return false
	}
	w, bit := a.position(port)
	return a.words[w]&bit != 0
}

// Reserve takes a port. Its error is a *TakenError or an *OutOfRangeError.
func (a *Allocator) Reserve(port int) error {
	if !a.ports.Contains(port) {
		return &OutOfRangeError{Port: port, Range: a.ports}
	}
	w, bit := a.position(port)
	if a.words[w]&bit != 0 {
		return &TakenError{Port: port}
	}
	a.words[w] |= bit
	a.used++
	return nil
}

// Release gives a port back and reports whether it was in use.
func (a *Allocator) Release(port int) bool {
	if !a.Has(port) {
		return false
	}
	w, bit := a.position(port)
	a.words[w] &^= bit
	a.used--
	return true
}

// Allocate takes a free port of the dynamic band, each with the same chance, or of the static band if the dynamic one
// is full. intn(n) returns a number from 0 to n-1; the same answers lead to the same ports. Its error is an
// *ExhaustedError.
func (a *Allocator) Allocate(intn func(n int) int) (int, error) {
	static := a.ports.StaticSize()
	for _, band := range [][2]int{{static, a.ports.Size()}, {0, static}} {
		if free := band[1] - band[0] - a.count(band[0], band[1]); free > 0 {
			port := a.ports.First + a.nthFree(band[0], intn(free))
			return port, a.Reserve(port)
		}
	}
	return 0, &ExhaustedError{Range: a.ports}
}

// Ports returns the ports in use, sorted.
func (a *Allocator) Ports() []int {
	ports := make([]int, 0, a.used)
	for w, word := range a.words {
		for ; word != 0; word &= word - 1 {
			ports = append(ports, a.ports.First+64*w+bits.TrailingZeros64(word))
		}
	}
	return ports
}

func (a *Allocator) position(port int) (word int, bit uint64) {
	offset := port - a.ports.First
	return offset / 64, 1 << (offset % 64)
}

// mask has the bits of word w that lie between two offsets, the second excluded.
func mask(w, from, to int) uint64 {
	low, high := max(from-64*w, 0), min(to-64*w, 64)
	if low >= 64 || high <= low {
		return 0
	}
	return ^uint64(0) >> (64 - (high - low)) << low
}

// count returns how many ports between two offsets are in use.
func (a *Allocator) count(from, to int) int {
	n := 0
	for w, word := range a.words {
		n += bits.OnesCount64(word & mask(w, from, to))
	}
	return n
}

// nthFree returns the offset of the n-th free port from an offset on, counted from 0. There must be one.
func (a *Allocator) nthFree(from, n int) int {
	for w, word := range a.words {
		free := ^word & mask(w, from, a.ports.Size())
		if k := bits.OnesCount64(free); n >= k {
			n -= k
			continue
		}
		for ; n > 0; n-- {
			free &= free - 1
		}
		return 64*w + bits.TrailingZeros64(free)
	}
	panic("portalloc: nthFree was asked for more ports than there are")
}
