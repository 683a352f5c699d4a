package portalloc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
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
		return fmt.Errorf("%d-%d is upside down: write %d-%d", r.First, r.Last, r.Last, r.First)
	case r.First < 1 || r.Last > 65535:
		return fmt.Errorf("%s leaves the ports from 1 to 65535", r)
	}
	return nil
}

// String returns "first-last", or the port where it is one.
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Size is the number of ports.
func (r Range) Size() int { return r.Last - r.First + 1 }

// Contains reports whether a port is in the range.
func (r Range) Contains(port int) bool { return r.First <= port && port <= r.Last }

// StaticSize is how many ports at the beginning of so many are the static band, which people choose from, and which is
// handed out only when the rest is taken. Upstream's formula (KEP-3668): a 32nd, at least 16 and at most 128, none of
// 16 or fewer.
func StaticSize(size int) int {
	const least, most, share = 16, 128, 32
	if size <= least {
		return 0
	}
	return min(max(least, size/share), most)
}

// Ranges of ports: sorted, and neither overlapping nor touching each other. Nil holds no port.
type Ranges []Range

// NewRanges puts ranges in order and joins those that touch or overlap. Its error names every range that cannot be.
func NewRanges(ranges ...Range) (Ranges, error) {
	var mistakes []error
	for _, r := range ranges {
		mistakes = append(mistakes, r.check())
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var joined Ranges
	for _, r := range sorted {
		if n := len(joined); n > 0 && r.First <= joined[n-1].Last+1 {
			joined[n-1].Last = max(joined[n-1].Last, r.Last)
			continue
		}
		joined = append(joined, r)
	}
	return joined, nil
}

// String returns the ranges, separated by commas, or "no ports".
func (rs Ranges) String() string {
	if len(rs) == 0 {
		return "no ports"
	}
	texts := make([]string, len(rs))
	for i, r := range rs {
		texts[i] = r.String()
	}
	return strings.Join(texts, ", ")
}

// Size is the number of ports.
func (rs Ranges) Size() int {
	n := 0
	for _, r := range rs {
		n += r.Size()
	}
	return n
}

// Contains reports whether a port is in one of the ranges.
func (rs Ranges) Contains(port int) bool {
	_, found := rs.find(port)
	return found
}

// find returns the index of the range that has the port.
func (rs Ranges) find(port int) (int, bool) {
	return slices.BinarySearchFunc(rs, port, func(r Range, port int) int {
		switch {
		case r.Last < port:
			return -1
		case r.First > port:
			return 1
		}
		return 0
	})
}

// Intersect returns the ports that are in both.
func (rs Ranges) Intersect(other Ranges) Ranges {
	var both Ranges
	for i, j := 0, 0; i < len(rs) && j < len(other); {
		if r := (Range{max(rs[i].First, other[j].First), min(rs[i].Last, other[j].Last)}); r.First <= r.Last {
			both = append(both, r)
		}
		if rs[i].Last < other[j].Last {
			i++
		} else {
			j++
		}
	}
	return both
}

// Subtract returns the ports of rs that are not in other.
func (rs Ranges) Subtract(other Ranges) Ranges {
	var rest Ranges
	for _, r := range rs {
		for _, o := range other {
			if o.Last < r.First || o.First > r.Last {
				continue
			}
			if o.First > r.First {
				rest = append(rest, Range{r.First, o.First - 1})
			}
			r.First = o.Last + 1
		}
		if r.First <= r.Last {
			rest = append(rest, r)
		}
	}
	return rest
}
