package portalloc

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultRange is the API server's default (--service-node-port-range).
var DefaultRange = Range{First: 30000, Last: 32767}

// Range of ports, both ends included.
type Range struct{ First, Last int }

// ParseRange reads "30000-32767". Its error says how to write it.
func ParseRange(text string) (Range, error) {
	first, last, ok := strings.Cut(text, "-")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(last)
	if !ok || errA != nil || errB != nil {
		return Range{}, fmt.Errorf("%q is not a range of ports: write it as 30000-32767", text)
	}
	r := Range{First: a, Last: b}
	return r, r.check()
}

func (r Range) check() error {
	switch {
	case r.First > r.Last:
		return fmt.Errorf("%s is upside down: write %d-%d", r, r.Last, r.First)
	case r.First < 1 || r.Last > 65535:
		return fmt.Errorf("%s leaves the ports from 1 to 65535", r)
	}
	return nil
}

// String returns "first-last".
func (r Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Size is the number of ports.
func (r Range) Size() int { return r.Last - r.First + 1 }

// Contains reports whether a port is in the range.
func (r Range) Contains(port int) bool { return r.First <= port && port <= r.Last }

// StaticSize is how many ports at the beginning are the static band, which people choose from, and which is handed out
// only when the rest is taken. Upstream's formula (KEP-3668): a 32nd of the range, at least 16 and at most 128, none in
// a range of 16 or fewer.
func (r Range) StaticSize() int {
	const least, most, share = 16, 128, 32
	if r.Size() <= least {
		return 0
	}
	return min(max(least, r.Size()/share), most)
}
