package portalloc

import (
	"cmp"
	"slices"
	"time"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// DefaultReclaimDelay is the reclaimDelay of a sticky NodePortPool that has none.
const DefaultReclaimDelay = time.Hour

// ByAge returns the pools in the order in which they have the say: the oldest first, of two of one age the first by name.
func ByAge(pools []*v1alpha1.NodePortPool) []*v1alpha1.NodePortPool {
	return slices.SortedFunc(slices.Values(pools), func(x, y *v1alpha1.NodePortPool) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Name, y.Name))
	})
}

// ReadPool makes a Pool of a NodePortPool. Ranges that the API server would not have let pass are no ports.
func ReadPool(p *v1alpha1.NodePortPool) Pool {
	var given []Range
	for _, r := range p.Spec.Ranges {
		given = append(given, Range{First: int(r.First), Last: int(r.Last)})
	}
	ranges, _ := NewRanges(given...)
	pool := Pool{Name: p.Name, Ranges: ranges, Named: p.Spec.Allocation == v1alpha1.PortAllocationStatic}
	if p.Spec.Sticky {
		pool.Keep = DefaultReclaimDelay
		if p.Spec.ReclaimDelay != nil {
			pool.Keep = p.Spec.ReclaimDelay.Duration
		}
	}
	return pool
}

// ReadHolds returns what the status of a NodePortPool says is kept.
func ReadHolds(p *v1alpha1.NodePortPool) []Hold {
	var holds []Hold
	for _, r := range p.Status.Reservations {
		holds = append(holds, Hold{Port: int(r.Port), Service: Key{r.Namespace, r.Name}, Uses: r.Uses, Until: r.Until.Time})
	}
	return holds
}
