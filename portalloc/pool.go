package portalloc

import (
	"slices"
	"time"
)

// Pool is a part of the range that some namespaces draw their node ports from.
type Pool struct {
	Name   string
	Ranges Ranges
	// Named says that the pool hands out nothing by itself: Services name a port of it.
	Named bool
	// Keep is how long the ports of a Service are kept for its name once it is deleted; 0: not at all.
	Keep time.Duration
}

// Share is what a pool has of the range.
type Share struct {
	// Pool as it was asked for.
	Pool Pool
	// Ranges are those of its ports that it has: Pool.Ranges without Outside and Overlaps.
	Ranges Ranges
	// Outside are ports that the server does not hand out.
	Outside Ranges
	// Overlaps are ports that pools before this one have, in the order of the pools.
	Overlaps []Overlap
}

// Overlap is what two pools want.
type Overlap struct {
	With   string
	Ranges Ranges
}

// Divide splits the server's range among pools, and returns what they leave. Of several pools that want a port the first
// has it.
func Divide(server Range, pools []Pool) (shares []Share, rest Ranges) {
	whole := Ranges{server}
	rest = whole
	for _, pool := range pools {
		share := Share{Pool: pool, Outside: pool.Ranges.Subtract(whole)}
		share.Pool.Ranges = slices.Clone(pool.Ranges)
		inside := pool.Ranges.Intersect(whole)
		share.Ranges = inside.Intersect(rest)
		for _, before := range shares {
			if both := inside.Intersect(before.Ranges); len(both) > 0 {
				share.Overlaps = append(share.Overlaps, Overlap{With: before.Pool.Name, Ranges: both})
			}
		}
		rest = rest.Subtract(share.Ranges)
		shares = append(shares, share)
	}
	return shares, rest
}
