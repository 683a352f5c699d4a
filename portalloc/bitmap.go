package portalloc

import "math/bits"

// fan is how many words or sums one sum stands for.
const fan = 64

// bitmap is a space in which a bit says that its number is taken. Above the bits stand sums of those that are clear, 64
// words to a sum and 64 sums to the next, so that the n-th free number is found in the same time whatever is taken.
type bitmap struct {
	n, used int
	words   []uint64
	// clear[0][i] counts the clear bits of words[64i:64i+64], clear[k+1][i] is the sum of clear[k][64i:64i+64]. The last
	// has one entry.
	clear [][]int32
}

func newBitmap(n int) *bitmap {
	b := &bitmap{n: n, words: make([]uint64, max(1, (n+63)/64))}
	for per, count := 64*fan, len(b.words); ; per *= fan {
		count = (count + fan - 1) / fan
		sums := make([]int32, count)
		for i := range sums {
			sums[i] = int32(min(per, n-i*per))
		}
		if b.clear = append(b.clear, sums); count == 1 {
			return b
		}
	}
}

func (b *bitmap) size() uint64      { return uint64(b.n) }
func (b *bitmap) taken() uint64     { return uint64(b.used) }
func (b *bitmap) has(i uint64) bool { return b.words[i/64]&(1<<(i%64)) != 0 }

func (b *bitmap) take(i uint64) { b.flip(int(i), -1) }
func (b *bitmap) free(i uint64) { b.flip(int(i), 1) }

func (b *bitmap) flip(i int, by int32) {
	b.words[i/64] ^= 1 << (i % 64)
	b.used -= int(by)
	at := i / 64
	for _, sums := range b.clear {
		at /= fan
		sums[at] += by
	}
}

// pick gives each free number the same chance.
func (b *bitmap) pick(intn func(uint64) uint64) uint64 {
	n := int32(intn(uint64(b.n - b.used)))
	// 1. Go down to the group of words that has the n-th clear bit.
	at := 0
	for level := len(b.clear) - 1; level >= 0; level-- {
		for at *= fan; n >= b.clear[level][at]; at++ {
			n -= b.clear[level][at]
		}
	}
	// 2. Find the word.
	for at *= fan; ; at++ {
		k := int32(bits.OnesCount64(^b.words[at]))
		if n < k {
			break
		}
		n -= k
	}
	// 3. Find the bit. Those behind the last number are never reached: n is below the clear ones before.
	free := ^b.words[at]
	for ; n > 0; n-- {
		free &= free - 1
	}
	return uint64(64*at + bits.TrailingZeros64(free))
}

func (b *bitmap) list() []uint64 {
	all := make([]uint64, 0, b.used)
	for w, word := range b.words {
		for ; word != 0; word &= word - 1 {
			all = append(all, uint64(64*w+bits.TrailingZeros64(word)))
		}
	}
	return all
}
