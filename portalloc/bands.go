package portalloc

import "slices"

// space is a set of numbers below a size, some of which are taken.
type space interface {
	size() uint64
	taken() uint64
	has(i uint64) bool
	// take and free must be called for a number that is free, or taken, and below the size.
	take(i uint64)
	free(i uint64)
	// pick returns a free number, of which there must be one. intn(n) returns a number below n.
	pick(intn func(uint64) uint64) uint64
	// list returns the numbers that are taken, sorted.
	list() []uint64
}

// mostBits is how many numbers a bitmap may stand for: two million, a quarter of a MiB. Beyond, what is taken is a set.
const mostBits = 1 << 21

func newSpace(size uint64) space {
	if size > mostBits {
		return &sparse{n: size, in: map[uint64]struct{}{}}
	}
	return newBitmap(int(size))
}

// bands are two spaces, one behind the other: numbers of the first are handed out only when the second is full.
type bands struct{ static, dynamic space }

func newBands(size, static uint64) bands {
	return bands{static: newSpace(static), dynamic: newSpace(size - static)}
}

// in returns the band of a number, and the number in the band.
func (b bands) in(i uint64) (space, uint64) {
	if n := b.static.size(); i >= n {
		return b.dynamic, i - n
	}
	return b.static, i
}

func (b bands) size() uint64  { return b.static.size() + b.dynamic.size() }
func (b bands) taken() uint64 { return b.static.taken() + b.dynamic.taken() }

func (b bands) has(i uint64) bool {
	band, i := b.in(i)
	return band.has(i)
}

// take reports whether the number was free.
func (b bands) take(i uint64) bool {
	band, i := b.in(i)
	if band.has(i) {
		return false
	}
	band.take(i)
	return true
}

// free reports whether the number was taken.
func (b bands) free(i uint64) bool {
	band, i := b.in(i)
	if !band.has(i) {
		return false
	}
	band.free(i)
	return true
}

// allocate takes a free number; false: there is none.
func (b bands) allocate(intn func(uint64) uint64) (uint64, bool) {
	before := b.static.size()
	for _, band := range []space{b.dynamic, b.static} {
		if band.taken() < band.size() {
			i := band.pick(intn)
			band.take(i)
			return before + i, true
		}
		before = 0
	}
	return 0, false
}

func (b bands) list() []uint64 {
	all := b.static.list()
	for _, i := range b.dynamic.list() {
		all = append(all, b.static.size()+i)
	}
	return slices.Clip(all)
}
