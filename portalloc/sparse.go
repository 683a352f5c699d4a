package portalloc

import (
	"maps"
	"slices"
)

// tries is how often a number is drawn before the next free one is taken. While half of them are free, it is needed
// once in 2^64 times.
const tries = 64

// sparse is a space that is too large for a bitmap, and of which little is ever taken.
type sparse struct {
	n  uint64
	in map[uint64]struct{}
}

func (s *sparse) size() uint64  { return s.n }
func (s *sparse) taken() uint64 { return uint64(len(s.in)) }
func (s *sparse) take(i uint64) { s.in[i] = struct{}{} }
func (s *sparse) free(i uint64) { delete(s.in, i) }

func (s *sparse) has(i uint64) bool {
	_, taken := s.in[i]
	return taken
}

func (s *sparse) pick(intn func(uint64) uint64) uint64 {
	i := intn(s.n)
	for range tries {
		if !s.has(i) {
			return i
		}
		i = intn(s.n)
	}
	for s.has(i) {
		i = (i + 1) % s.n
	}
	return i
}

func (s *sparse) list() []uint64 { return slices.Sorted(maps.Keys(s.in)) }
