package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// DefaultPools are the pools of a Cloud that is given none: addresses reserved for documentation (RFC 5737).
var DefaultPools = []Pool{{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")}}

// Pool is a range that addresses are given out from. The first and the last of an IPv4 range, and the first of an IPv6
// range, are never given out.
type Pool struct {
	Name   string
	Prefix netip.Prefix
}

// Options of a Cloud. The zero value is a cloud with the default pool and without quotas, faults or hook.
type Options struct {
	Pools []Pool
	// Quotas by kind: the most objects. A kind that is missing has none.
	Quotas map[string]int
	// SlowSteps is for how many calls of List a new Address, Balancer or Listener is Pending, and a deleted one
	// Deleting; 0 means that both are done at once.
	SlowSteps int
	// Hook sees every call, before and after it is done; an error of it is returned to the caller. Nil means none. It
	// is called without a lock.
	Hook func(Call) error
}

// Call is one call of the API.
type Call struct {
	// Method of API: Create, Update, Delete, List, SyncTargets.
	Method string
	// Kind of the object, where there is one.
	Kind string
	// After: it is done, and its answer is on the way. An error of the hook then loses the answer.
	After bool
}

// Write reports whether the call changes the cloud.
func (c Call) Write() bool { return c.Method != "List" && c.Method != "Health" }

// Fault makes one coming call fail.
type Fault struct {
	// Method and Kind that it waits for; empty means any.
	Method, Kind string
	// Times that it strikes; 0 means once.
	Times int
	// Err is returned.
	Err error
	// After: the call is done first, only its answer is lost.
	After bool
}

// Cloud is the cloud in memory. For several goroutines.
type Cloud struct {
	options  Options
	hardware Hardware

	mu      sync.Mutex
	objects map[string]*Object // by id
	age     map[string]int     // by id: calls of List until a transient state ends
	nextID  int
	faults  []Fault
	changed chan struct{} // holds one element after a change
}

var _ API = (*Cloud)(nil)

// New makes an empty cloud.
func New(options Options) *Cloud {
	if len(options.Pools) == 0 {
		options.Pools = DefaultPools
	}
	return &Cloud{options: options, objects: map[string]*Object{}, age: map[string]int{}, changed: make(chan struct{}, 1)}
}

// Inject adds a fault to the script. Faults strike in the order in which they were added.
func (c *Cloud) Inject(faults ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, faults...)
}

// call runs do as one call of the API: hook, script, do, script, hook.
func (c *Cloud) call(method, kind string, do func() error) error {
	for _, after := range []bool{false, true} {
		if c.options.Hook != nil {
			if err := c.options.Hook(Call{Method: method, Kind: kind, After: after}); err != nil {
				return err
			}
		}
		if err := c.fault(method, kind, after); err != nil {
			return err
		}
		if after {
			return nil
		}
		c.mu.Lock()
		err := do()
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// fault returns the scripted error of this call, if there is one, and takes it off the script.
func (c *Cloud) fault(method, kind string, after bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.faults {
		f := &c.faults[i]
		if f.After != after || f.Method != "" && f.Method != method || f.Kind != "" && f.Kind != kind {
			continue
		}
		err := f.Err
		if f.Times--; f.Times <= 0 {
			c.faults = slices.Delete(c.faults, i, i+1)
		}
		return err
	}
	return nil
}

// Create implements API.
func (c *Cloud) Create(_ context.Context, object Object) (Object, error) {
	var made Object
	err := c.call("Create", object.Kind, func() error {
		var err error
		made, err = c.create(object)
		return err
	})
	return made, err
}

func (c *Cloud) create(object Object) (Object, error) {
	s, ok := schemas[object.Kind]
	if !ok {
		return Object{}, refuse(CodeInvalidParameter, "there is no kind %q", object.Kind)
	}
	if object.Name == "" || len(object.Name) > 63 {
		return Object{}, refuse(CodeInvalidParameter, "a name has 1 to 63 characters, not %d", len(object.Name))
	}
	if err := s.checkFields(object.Kind, object.Fields, true); err != nil {
		return Object{}, err
	}
	for _, other := range c.objects {
		if other.Kind == object.Kind && other.Name == object.Name {
			return Object{}, refuse(CodeDuplicateName, "a %s is called %q already", object.Kind, object.Name)
		}
	}
	if quota, ok := c.options.Quotas[object.Kind]; ok && c.count(object.Kind) >= quota {
		return Object{}, refuse(CodeQuotaExceeded, "the account may have %d of %s", quota, object.Kind)
	}
	made := Object{Kind: object.Kind, Name: object.Name, State: StateReady, Tags: maps.Clone(object.Tags),
		Fields: maps.Clone(object.Fields), Refs: sorted(object.Refs)}
	if err := c.checkRefs(&made, s); err != nil {
		return Object{}, err
	}
	if object.Kind == KindAddress {
		address, err := c.takeAddress(object.Fields)
		if err != nil {
			return Object{}, err
		}
		made.Address = address
	}
	c.nextID++
	made.ID = fmt.Sprintf("%s-%06d", strings.ToLower(object.Kind), c.nextID)
	if c.options.SlowSteps > 0 && (object.Kind == KindAddress || object.Kind == KindBalancer || object.Kind == KindListener) {
		made.State = StatePending
		c.age[made.ID] = c.options.SlowSteps
	}
	c.objects[made.ID] = &made
	c.notify()
	return clone(&made), nil
}

// Update implements API.
func (c *Cloud) Update(_ context.Context, object Object) (Object, error) {
	var made Object
	err := c.call("Update", object.Kind, func() error {
		have, err := c.get(object.ID)
		if err != nil {
			return err
		}
		s := schemas[have.Kind]
		if err := s.checkFields(have.Kind, object.Fields, false); err != nil {
			return err
		}
		for _, name := range s.immutable {
			if value, ok := object.Fields[name]; ok && value != have.Fields[name] {
				return refuse(CodeInvalidParameter, "%s of a %s cannot change", name, have.Kind)
			}
		}
		next := clone(have)
		maps.Copy(next.Fields, object.Fields)
		if object.Tags != nil {
			next.Tags = maps.Clone(object.Tags)
		}
		if object.Refs != nil {
			next.Refs = sorted(object.Refs)
			if err := c.checkRefs(&next, s); err != nil {
				return err
			}
			if err := c.checkMoves(have, &next, s); err != nil {
				return err
			}
		}
		c.objects[object.ID] = &next
		c.notify()
		made = clone(&next)
		return nil
	})
	return made, err
}

// Delete implements API.
func (c *Cloud) Delete(_ context.Context, id string) error {
	kind := ""
	c.mu.Lock()
	if o := c.objects[id]; o != nil {
		kind = o.Kind
	}
	c.mu.Unlock()
	return c.call("Delete", kind, func() error {
		o, err := c.get(id)
		if err != nil {
			return err
		}
		for _, other := range c.objects {
			if slices.Contains(other.Refs, id) {
				return refuse(CodeInUse, "%s %q is used by %s %q", o.Kind, o.Name, other.Kind, other.Name)
			}
		}
		if c.options.SlowSteps > 0 && (o.Kind == KindBalancer || o.Kind == KindListener) {
			o.State = StateDeleting
			c.age[id] = c.options.SlowSteps
		} else {
			delete(c.objects, id)
		}
		c.notify()
		return nil
	})
}

// List implements API.
func (c *Cloud) List(_ context.Context, tags map[string]string) ([]Object, error) {
	var found []Object
	err := c.call("List", "", func() error {
		c.grow()
		for _, o := range c.objects {
			if hasTags(o, tags) {
				found = append(found, clone(o))
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b Object) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return found, err
}

// SyncTargets implements API.
func (c *Cloud) SyncTargets(_ context.Context, requests []TargetsRequest) error {
	return c.call("SyncTargets", KindTargetSet, func() error {
		next := map[string][]string{}
		total := 0
		for _, r := range requests {
			o, err := c.get(r.ID)
			if err != nil {
				return err
			}
			if !schemas[o.Kind].targets {
				return refuse(CodeInvalidParameter, "a %s has no targets", o.Kind)
			}
			targets := o.Targets
			if staged, ok := next[r.ID]; ok {
				targets = staged
			}
			for _, t := range r.Add {
				address, err := netip.ParseAddr(t)
				if err != nil || (o.Fields["family"] == "IPv4") != address.Is4() {
					return refuse(CodeInvalidParameter, "target %q is not an address of %s", t, o.Fields["family"])
				}
			}
			total += len(r.Add) + len(r.Remove)
			kept := slices.DeleteFunc(slices.Clone(targets), func(t string) bool { return slices.Contains(r.Remove, t) })
			next[r.ID] = sorted(append(kept, r.Add...))
		}
		if total > MaxTargetsPerCall {
			return refuse(CodeInvalidParameter, "%d targets in one call, at most %d are taken", total, MaxTargetsPerCall)
		}
		for id, targets := range next {
			c.objects[id].Targets = targets
		}
		c.notify()
		return nil
	})
}
