package portalloc

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// PromiseFor is how long a port that was chosen for a Service stays its own without the Service being seen: as long as
// an API server works on a request, and then some for the event to arrive.
const PromiseFor = 30 * time.Second

// Ledger is who has which node port. It is told of Services and pools, in any order; told the same twice, nothing
// changes. Every method that takes the time first forgets what has run out. Not for several goroutines.
type Ledger struct {
	server Range
	// shares are those of the pools, in their order, and last what these leave.
	shares []ledgerShare
	byName map[string]int

	services map[Key]*entry
	// owners of a port, the one that keeps it first.
	owners map[int][]*entry
	holds  map[int]Hold
	// held and promised are the ports that are kept for, and promised to, a name.
	held, promised map[Key][]int
	promises       map[int]promise
	ends           endings
}

type ledgerShare struct {
	Share
	// ports has every port that somebody has, that is kept or that is promised.
	ports *Allocator
}

type entry struct {
	key     Key
	uid     string
	created time.Time
	uses    map[int][]string
}

// entryOf is a Service of which it is not known yet what it has.
func entryOf(svc *corev1.Service) *entry {
	return &entry{key: KeyOf(svc), uid: string(svc.UID), created: svc.CreationTimestamp.Time, uses: map[int][]string{}}
}

func (e *entry) compare(other *entry) int {
	return cmp.Or(e.created.Compare(other.created), e.key.compare(other.key))
}

// Hold is a port that is kept for the name of a Service that was deleted.
type Hold struct {
	Port    int
	Service Key
	// Uses are what the Service had the port for: "53/UDP", HealthCheck. Sorted.
	Uses  []string
	Until time.Time
}

type promise struct {
	key   Key
	until time.Time
}

// Claim is a port that Services have.
type Claim struct {
	Port int
	// Services that have it, the one that keeps it first: the oldest, then the first by namespace and name.
	Services []Key
}

// Usage counts the ports of a pool. Free is the rest.
type Usage struct {
	Size, Used, Kept, Free int
}

// NewLedger makes a ledger in which nobody has a port, without pools.
func NewLedger(server Range) *Ledger {
	l := &Ledger{server: server, services: map[Key]*entry{}, owners: map[int][]*entry{}, holds: map[int]Hold{},
		held: map[Key][]int{}, promised: map[Key][]int{}, promises: map[int]promise{}}
	l.divide(nil)
	return l
}

// Rebuild makes a ledger from what is stored: the Services, and the holds of a Snapshot.
func Rebuild(server Range, pools []Pool, services []*corev1.Service, holds []Hold, now time.Time) *Ledger {
	l := NewLedger(server)
	l.SetPools(pools, now)
	for _, svc := range services {
		l.Set(svc, now)
	}
	l.Keep(holds, now)
	return l
}

// Set tells that the Service is there and what it has. Only its metadata and its ports are read; nothing is kept of it.
func (l *Ledger) Set(svc *corev1.Service, now time.Time) {
	l.expire(now)
	key, next := KeyOf(svc), entryOf(svc)
	for _, port := range PortsOf(svc) {
		next.uses[port] = UsesOf(svc, port)
	}
	known := false
	if before := l.services[key]; before != nil {
		if known = before.uid == next.uid; !known {
			l.Delete(key, now) // that it went was not seen
		} else {
			l.leave(before)
		}
	}
	if len(next.uses) == 0 {
		return
	}
	if !known {
		// It is there, with what it got: what else was promised for its creation, which another ledger was then asked about,
		// nobody waits for any more.
		l.Withdraw(key)
	}
	l.services[key] = next
	for port := range next.uses {
		l.owners[port] = append(l.owners[port], next)
		slices.SortFunc(l.owners[port], (*entry).compare)
		// What was kept or promised has arrived, or somebody else has it.
		l.unhold(port)
		l.unpromise(port)
		l.settle(port)
	}
}

// Delete tells that there is no such Service any more. Its ports are kept for its name as long as their pool says.
func (l *Ledger) Delete(key Key, now time.Time) {
	l.expire(now)
	gone := l.services[key]
	if gone == nil {
		return
	}
	l.leave(gone)
	var holds []Hold
	for port, uses := range gone.uses {
		if share := l.shareOf(port); share != nil && share.Pool.Keep > 0 {
			holds = append(holds, Hold{Port: port, Service: key, Uses: uses, Until: now.Add(share.Pool.Keep)})
		}
	}
	l.Keep(holds, now)
}

// leave takes a Service's name off its ports.
func (l *Ledger) leave(e *entry) {
	delete(l.services, e.key)
	for port := range e.uses {
		l.owners[port] = slices.DeleteFunc(l.owners[port], func(o *entry) bool { return o == e })
		if len(l.owners[port]) == 0 {
			delete(l.owners, port)
		}
		l.settle(port)
	}
}

// Keep adds holds. Those that have run out, whose port somebody has, or whose pool keeps nothing are left out, and none
// is kept longer than its pool says. Of two holds of one port the later one counts.
func (l *Ledger) Keep(holds []Hold, now time.Time) {
	l.expire(now)
	for _, h := range holds {
		share := l.shareOf(h.Port)
		if share == nil || share.Pool.Keep <= 0 || len(l.owners[h.Port]) > 0 {
			continue
		}
		if most := now.Add(share.Pool.Keep); h.Until.After(most) {
			h.Until = most
		}
		if !h.Until.After(now) || !h.Until.After(l.holds[h.Port].Until) {
			continue
		}
		l.unhold(h.Port)
		h.Uses = slices.Clone(h.Uses)
		l.holds[h.Port] = h
		l.held[h.Service] = append(l.held[h.Service], h.Port)
		slices.Sort(l.held[h.Service])
		heap.Push(&l.ends, ending{h.Until, h.Port})
		l.settle(h.Port)
	}
}

// SetPools tells which pools there are, the one that has the say first. Nobody loses a port by it; holds in pools that
// keep nothing end, and those that are longer than their pool says now are shortened.
func (l *Ledger) SetPools(pools []Pool, now time.Time) {
	l.expire(now)
	l.divide(pools)
	holds := l.Holds()
	l.holds, l.held, l.ends = map[int]Hold{}, map[Key][]int{}, nil
	for port, p := range l.promises {
		heap.Push(&l.ends, ending{p.until, port})
	}
	l.Keep(holds, now)
}

func (l *Ledger) divide(pools []Pool) {
	shares, rest := Divide(l.server, pools)
	shares = append(shares, Share{Ranges: rest})
	l.shares, l.byName = make([]ledgerShare, len(shares)), map[string]int{}
	for i, s := range shares {
		l.shares[i] = ledgerShare{Share: s, ports: New(s.Ranges)}
		l.byName[s.Pool.Name] = i
	}
	for port := range l.owners {
		l.settle(port)
	}
	for port := range l.promises {
		l.settle(port)
	}
}

// Shares returns what each pool has, in their order. The last has no name: it is what the pools leave.
func (l *Ledger) Shares() []Share {
	shares := make([]Share, len(l.shares))
	for i, s := range l.shares {
		shares[i] = s.Share
	}
	return shares
}

// Usage counts the ports of a pool; "": those that the pools leave.
func (l *Ledger) Usage(pool string) Usage {
	var u Usage
	l.each(pool, func(port int) {
		u.Size++
		if _, kept := l.holds[port]; kept {
			u.Kept++
		} else if len(l.owners[port]) > 0 {
			u.Used++
		}
	})
	u.Free = u.Size - u.Used - u.Kept
	return u
}

// Free returns the ports of a pool that nobody has and that are kept for nobody; "": those that the pools leave.
func (l *Ledger) Free(pool string) Ranges {
	var free []Range
	l.each(pool, func(port int) {
		if _, kept := l.holds[port]; !kept && len(l.owners[port]) == 0 {
			free = append(free, Range{port, port})
		}
	})
	joined, _ := NewRanges(free...) // parts of ranges that are right
	return joined
}

func (l *Ledger) each(pool string, visit func(port int)) {
	i, ok := l.byName[pool]
	if !ok {
		return
	}
	for _, r := range l.shares[i].Ranges {
		for port := r.First; port <= r.Last; port++ {
			visit(port)
		}
	}
}

// Claims returns every port that a Service has, sorted, those outside the server's range with them.
func (l *Ledger) Claims() []Claim {
	claims := make([]Claim, 0, len(l.owners))
	for _, port := range slices.Sorted(maps.Keys(l.owners)) {
		c := Claim{Port: port}
		for _, e := range l.owners[port] {
			c.Services = append(c.Services, e.key)
		}
		claims = append(claims, c)
	}
	return claims
}

// Duplicates returns the ports that more than one Service has, sorted.
func (l *Ledger) Duplicates() []Claim {
	return slices.DeleteFunc(l.Claims(), func(c Claim) bool { return len(c.Services) < 2 })
}

// Holds returns the ports that are kept, sorted.
func (l *Ledger) Holds() []Hold {
	holds := make([]Hold, 0, len(l.holds))
	for _, port := range slices.Sorted(maps.Keys(l.holds)) {
		h := l.holds[port]
		h.Uses = slices.Clone(h.Uses)
		holds = append(holds, h)
	}
	return holds
}

// PoolOf returns the name of the pool that has the port; "": none has.
func (l *Ledger) PoolOf(port int) string {
	if s := l.shareOf(port); s != nil {
		return s.Pool.Name
	}
	return ""
}

// shareOf returns nil for a port outside the server's range.
func (l *Ledger) shareOf(port int) *ledgerShare {
	for i := range l.shares {
		if l.shares[i].Ranges.Contains(port) {
			return &l.shares[i]
		}
	}
	return nil
}

// settle brings the allocator of a port in step with who has it, for whom it is kept and to whom it is promised.
func (l *Ledger) settle(port int) {
	share := l.shareOf(port)
	if share == nil {
		return
	}
	_, kept := l.holds[port]
	_, promised := l.promises[port]
	if kept || promised || len(l.owners[port]) > 0 {
		_ = share.ports.Reserve(port) // that it is taken already is as good
	} else {
		share.ports.Release(port)
	}
}

func (l *Ledger) unhold(port int) {
	if h, ok := l.holds[port]; ok {
		delete(l.holds, port)
		drop(l.held, h.Service, port)
	}
}

func (l *Ledger) unpromise(port int) {
	if p, ok := l.promises[port]; ok {
		delete(l.promises, port)
		drop(l.promised, p.key, port)
	}
}

func drop(index map[Key][]int, key Key, port int) {
	index[key] = slices.DeleteFunc(index[key], func(p int) bool { return p == port })
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// expire forgets holds and promises whose time is over.
func (l *Ledger) expire(now time.Time) {
	for len(l.ends) > 0 && !l.ends[0].at.After(now) {
		port := heap.Pop(&l.ends).(ending).port
		if h, ok := l.holds[port]; ok && !h.Until.After(now) {
			l.unhold(port)
		}
		if p, ok := l.promises[port]; ok && !p.until.After(now) {
			l.unpromise(port)
		}
		l.settle(port)
	}
}

// ending is when a hold or a promise ends, or would have ended.
type ending struct {
	at   time.Time
	port int
}

// endings is a heap, the next one first.
type endings []ending

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any)        { *e = append(*e, x.(ending)) }

func (e *endings) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}
