package portalloc

import (
	"cmp"
	"container/heap"
	"errors"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Request asks for the node ports that a Service lacks.
type Request struct {
	// Service is not changed, and need not exist yet.
	Service *corev1.Service
	// Old is what the Service replaces; nil: nothing. What it has, the Service may keep.
	Old *corev1.Service
	// Name under which the choice is remembered until the Service is seen. Zero: the Service's own. A Service whose name
	// the API server has still to make needs one that nobody else has.
	Name Key
	// Pools that the ports come from, tried in this order; none: what pools leave. Unknown ones have no ports.
	Pools []string
	// NodePorts and HealthCheck say what is to be numbered where it is missing.
	NodePorts, HealthCheck bool
	// Recall gives the Service the ports that its name had before it was deleted, if they are kept.
	Recall bool
	// Strict refuses node ports that the Service names itself outside of Pools, or that are kept for another.
	Strict bool
	// DryRun answers and remembers nothing.
	DryRun bool
}

// Assign chooses what the Service lacks. Ports with the same number and different protocols share one, as they do when
// the API server creates a Service. intn(n) returns a number from 0 to n-1. What is chosen, and what the Service names
// itself, is promised to it for PromiseFor: Set or the time ends that, as does another Assign for the same name, since
// whoever asks again was refused before. After an error nothing is promised. It is an *ExhaustedError, or, if Strict, a
// *KeptError, *TakenError or *OutOfRangeError.
func (l *Ledger) Assign(r Request, now time.Time, intn func(n int) int) (Assignment, error) {
	l.expire(now)
	c := &choice{Ledger: l, Request: r, intn: intn, given: Assignment{Ports: map[int]int32{}}}
	c.own, c.key = KeyOf(r.Service), cmp.Or(r.Name, KeyOf(r.Service))
	if !r.DryRun {
		l.Withdraw(c.key)
	}
	err := c.choose()
	for _, port := range c.taken {
		if err == nil && !r.DryRun {
			l.promise(port, c.key, now.Add(PromiseFor))
		}
		l.settle(port)
	}
	if err != nil {
		return Assignment{}, err
	}
	return c.given, nil
}

// Withdraw takes back what was promised to a name: whoever asked for it did not write the Service after all.
func (l *Ledger) Withdraw(key Key) {
	for _, port := range slices.Clone(l.promised[key]) {
		l.unpromise(port)
		l.settle(port)
	}
}

func (l *Ledger) promise(port int, key Key, until time.Time) {
	l.unpromise(port)
	l.promises[port] = promise{key, until}
	l.promised[key] = append(l.promised[key], port)
	heap.Push(&l.ends, ending{until, port})
}

// choice is one Assign.
type choice struct {
	*Ledger
	Request
	intn func(int) int
	// own is the Service's name, key that under which the choice is remembered.
	own, key Key
	given    Assignment
	// taken in the allocators, or named by the Service.
	taken []int
}

func (c *choice) choose() error {
	// 1. What the Service names itself is not chosen for another of its ports.
	for _, port := range PortsOf(c.Service) {
		if err := c.name(port); err != nil {
			return err
		}
	}
	// 2. Its ports.
	for i, p := range c.Service.Spec.Ports {
		if p.NodePort != 0 || !c.NodePorts {
			continue
		}
		port := cmp.Or(c.recall(use(p)), c.shared(i))
		if port == 0 {
			var err error
			if port, err = c.next(); err != nil {
				return err
			}
		}
		c.given.Ports[i] = int32(port)
	}
	// 3. Its health check.
	if c.HealthCheck && c.Service.Spec.HealthCheckNodePort == 0 {
		port := c.recall(HealthCheck)
		if port == 0 {
			var err error
			if port, err = c.next(); err != nil {
				return err
			}
		}
		c.given.HealthCheck = int32(port)
	}
	return nil
}

// name takes a port that the Service names itself.
func (c *choice) name(port int) error {
	if mine := c.services[c.own]; mine != nil && mine.uid == string(c.Service.UID) && mine.uses[port] != nil {
		return nil // it has it
	}
	if c.Strict && (c.Old == nil || !slices.Contains(PortsOf(c.Old), port)) {
		if err := c.admit(port); err != nil {
			return err
		}
	}
	share := c.shareOf(port)
	if share != nil && (c.holds[port].Service == c.own || share.ports.Reserve(port) == nil) {
		c.taken = append(c.taken, port)
	}
	return nil
}

// admit says why a Service may not name the port.
func (c *choice) admit(port int) error {
	share := c.shareOf(port)
	if share == nil || !slices.Contains(c.sources(), share) {
		return &OutOfRangeError{Port: port, Ranges: c.ranges(), Pools: c.Pools}
	}
	if h, ok := c.holds[port]; ok && h.Service != c.own {
		return &KeptError{Port: port, For: h.Service, Until: h.Until, Pool: share.Pool.Name}
	}
	if owners := c.owners[port]; len(owners) > 0 && owners[0].key != c.own {
		return &TakenError{Port: port, By: owners[0].key}
	}
	return nil
}

// shared returns the node port of another port with the same number, if the protocol of the i-th does not have it yet;
// 0: there is none.
func (c *choice) shared(i int) int {
	ports := c.Service.Spec.Ports
	nodePort := func(j int) int32 { return cmp.Or(ports[j].NodePort, c.given.Ports[j]) }
	for j := range ports {
		candidate := nodePort(j)
		if candidate == 0 || ports[j].Port != ports[i].Port {
			continue
		}
		clash := false
		for k := range ports {
			clash = clash || nodePort(k) == candidate && protocolOf(ports[k]) == protocolOf(ports[i])
		}
		if !clash {
			return int(candidate)
		}
	}
	return 0
}

// next takes a free port.
func (c *choice) next() (int, error) {
	for _, share := range c.sources() {
		if share.Pool.Named {
			continue
		}
		port, err := share.ports.Allocate(c.intn)
		if _, full := errors.AsType[*ExhaustedError](err); full {
			continue
		}
		c.taken = append(c.taken, port)
		return port, err
	}
	return 0, c.exhausted()
}

// recall takes the port that the name had for the use; 0: it had none, or somebody else has it.
func (c *choice) recall(use string) int {
	if !c.Recall {
		return 0
	}
	had := slices.Clone(c.held[c.own])
	// That the Service which is created once more was deleted need not have been seen yet.
	before := c.services[c.own]
	if before != nil && before.uid == string(c.Service.UID) {
		before = nil // what it gave up itself
	}
	if before != nil {
		had = append(had, slices.Sorted(maps.Keys(before.uses))...)
	}
	for _, port := range had {
		wanted := slices.Contains(c.holds[port].Uses, use) || before != nil && slices.Contains(before.uses[port], use)
		if wanted && c.recallable(port) {
			c.taken = append(c.taken, port)
			return port
		}
	}
	return 0
}

func (c *choice) recallable(port int) bool {
	share := c.shareOf(port)
	p, promised := c.promises[port]
	others := slices.ContainsFunc(c.owners[port], func(e *entry) bool { return e.key != c.own })
	return share != nil && share.Pool.Keep > 0 && slices.Contains(c.sources(), share) && !others &&
		!slices.Contains(c.taken, port) && !slices.Contains(PortsOf(c.Service), port) && (!promised || p.key == c.key)
}

// sources are the shares that the ports come from.
func (c *choice) sources() []*ledgerShare {
	if len(c.Pools) == 0 {
		return []*ledgerShare{&c.shares[len(c.shares)-1]}
	}
	var sources []*ledgerShare
	for _, name := range c.Pools {
		if i, ok := c.byName[name]; ok {
			sources = append(sources, &c.shares[i])
		}
	}
	return sources
}

func (c *choice) ranges() Ranges {
	var all []Range
	for _, share := range c.sources() {
		all = append(all, share.Ranges...)
	}
	joined, _ := NewRanges(all...) // parts of ranges that are right
	return joined
}

func (c *choice) exhausted() error {
	e := &ExhaustedError{Ranges: c.ranges(), Pools: slices.Clone(c.Pools), Named: true}
	for _, share := range c.sources() {
		if share.Pool.Named {
			continue
		}
		e.Named = false
		for _, port := range share.ports.Ports() {
			if len(c.owners[port]) == 0 && !slices.Contains(c.taken, port) {
				e.Kept++
			}
		}
	}
	e.Named = e.Named && len(e.Ranges) > 0
	return e
}
