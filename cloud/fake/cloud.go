package fake

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// DefaultPools are the pools of a Cloud that is given none: addresses reserved for documentation (RFC 5737).
var DefaultPools = []Pool{{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")}}

// Pool is a range that addresses are given out from. The first and the last of an IPv4 range, and the first of an IPv6
// range, are never given out.
type Pool struct {
	Name   string
	Prefix netip.Prefix
}

// Options of a Cloud. The zero value is a cloud with the default pool and without quotas, delays, limits or hook.
type Options struct {
	Pools []Pool
	// Quotas by kind: the most objects. A kind that is missing has none.
	Quotas map[string]int
	// Slow is for how long a new Address, Balancer or Listener is Pending, and a deleted Balancer or Listener Deleting; 0
	// means that both are done at once.
	Slow time.Duration
	// ReadLag is how far List is behind: it shows the objects as they were so long ago. Writes know them as they are.
	ReadLag time.Duration
	// Limits of the account: calls beyond them are throttled, with the time to wait unless NoRetryAfter.
	Limits       cloud.Limits
	NoRetryAfter bool
	// Now is the clock; nil means time.Now, which in a bubble of testing/synctest is virtual, too.
	Now func() time.Time
	// Hook sees every call, before and after it is done; an error of it is returned to the caller. Nil means none. It
	// is called without a lock.
	Hook func(Call) error
}

// Call is one call of the API.
type Call struct {
	// Method of API: Create, Check, Update, Delete, List, SyncTargets, DescribeTargets.
	Method string
	// Kind of the object, where there is one.
	Kind string
	// After: it is done, and its answer is on the way. An error of the hook then loses the answer.
	After bool
}

// Write reports whether the call changes the cloud.
func (c Call) Write() bool {
	return !slices.Contains([]string{"Check", "List", "Health", "DescribeTargets"}, c.Method)
}

// Cloud is the cloud in memory. For several goroutines.
type Cloud struct {
	options  Options
	hardware hardware.Hardware

	mu          sync.Mutex
	objects     map[string]*Object    // by id; an Object is replaced, not changed
	transitions map[string]transition // by id
	// Indexes of objects: kind/name, addresses, and who refers to an id.
	names, addresses map[string]bool
	users            map[string]map[string]bool
	past             faults.Past[Object]
	nextID, version  int
	faults           faults.Script[error]
	allowance        faults.Allowance
	// Since when each set has its targets, and which of them answer no health check.
	since   map[string]map[string]time.Time
	silent  map[string]bool
	changed func() // is called after each change; nil: nobody asks
}

var _ API = (*Cloud)(nil)

// New makes an empty cloud.
func New(options Options) *Cloud {
	if len(options.Pools) == 0 {
		options.Pools = DefaultPools
	}
	return &Cloud{options: options, objects: map[string]*Object{}, transitions: map[string]transition{},
		names: map[string]bool{}, addresses: map[string]bool{}, users: map[string]map[string]bool{},
		since: map[string]map[string]time.Time{}, silent: map[string]bool{},
		past: faults.NewPast[Object](options.ReadLag), allowance: faults.NewAllowance(options.Limits)}
}

// call runs do as one call of the API: hook, limits, script, do, script, hook.
func (c *Cloud) call(method, kind string, do func() error) error {
	hook := func(after bool) error {
		if c.options.Hook == nil {
			return nil
		}
		return c.options.Hook(Call{Method: method, Kind: kind, After: after})
	}
	if err := hook(false); err != nil {
		return err
	}
	if err := c.answer(method, kind, do); err != nil {
		return err
	}
	return hook(true)
}

func (c *Cloud) answer(method, kind string, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.throttle(Call{Method: method}.Write()); err != nil {
		return err
	}
	if f := c.faults.Strike(method, kind, faults.Before); f != nil {
		return f.Err
	}
	c.settle()
	if err := do(); err != nil {
		return err
	}
	if f := c.faults.Strike(method, kind, faults.After); f != nil {
		return f.Err
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
	if object.Name == "" || len(object.Name) > 63 {
		return Object{}, refuse(CodeInvalidParameter, "a name has 1 to 63 characters, not %d", len(object.Name))
	}
	if c.names[nameOf(&object)] {
		return Object{}, refuse(CodeDuplicateName, "a %s is called %q already", object.Kind, object.Name)
	}
	address, err := c.admit(object, nil)
	if err != nil {
		return Object{}, err
	}
	made := clone(&Object{Kind: object.Kind, Name: object.Name, Tags: object.Tags, Fields: object.Fields, Refs: sorted(object.Refs), Address: address})
	if err := c.checkRefs(&made, schemas[object.Kind]); err != nil {
		return Object{}, err
	}
	c.nextID++
	made.ID = fmt.Sprintf("%s-%06d", strings.ToLower(object.Kind), c.nextID)
	lasting := StateReady
	if c.faults.Strike("Create", object.Kind, faults.Late) != nil {
		lasting = StateFailed
	}
	made.State = lasting
	if c.options.Slow > 0 && (object.Kind == KindAddress || object.Kind == KindBalancer || object.Kind == KindListener) {
		made.State = StatePending
		c.transitions[made.ID] = transition{c.now().Add(c.options.Slow), lasting}
	}
	c.set(made.ID, &made, c.now())
	return clone(&made), nil
}

// Check implements API.
func (c *Cloud) Check(_ context.Context, request CheckRequest) error {
	return c.call("Check", request.Object.Kind, func() error {
		_, err := c.admit(request.Object, request.Without)
		return err
	})
}

// admit sees whether the cloud would have an object once those with the ids are gone, and with which address, if it is one.
func (c *Cloud) admit(object Object, without []string) (address string, err error) {
	s, ok := schemas[object.Kind]
	if !ok {
		return "", refuse(CodeInvalidParameter, "there is no kind %q", object.Kind)
	}
	if err := s.checkFields(object.Kind, object.Fields, true); err != nil {
		return "", err
	}
	going, freed := 0, map[string]bool{}
	for _, id := range without {
		if o := c.objects[id]; o != nil && o.Kind == object.Kind {
			going++
			freed[o.Address] = true
		}
	}
	if quota, ok := c.options.Quotas[object.Kind]; ok && c.count(object.Kind)-going >= quota {
		return "", refuse(CodeQuotaExceeded, "the account may have %d of %s", quota, object.Kind)
	}
	if object.Kind != KindAddress {
		return "", nil
	}
	return c.takeAddress(object.Fields, func(address string) bool { return c.addresses[address] && !freed[address] })
}

// Update implements API.
func (c *Cloud) Update(_ context.Context, object Object) (Object, error) {
	var made Object
	err := c.call("Update", object.Kind, func() error {
		have, err := c.get(object.ID)
		if err != nil {
			return err
		}
		if object.Version != 0 && object.Version != have.Version {
			return refuse(CodeChanged, "%s %q was changed meanwhile", have.Kind, have.Name)
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
		if err := checkPort(have, object.Fields); err != nil {
			return err
		}
		next := clone(have)
		maps.Copy(next.Fields, object.Fields)
		for name, value := range object.Tags {
			if value == "" {
				delete(next.Tags, name)
			} else {
				next.Tags[name] = value
			}
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
		c.set(object.ID, &next, c.now())
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
		if user := c.userOf(id, func(*Object) bool { return true }); user != nil {
			return refuse(CodeInUse, "%s %q is used by %s %q", o.Kind, o.Name, user.Kind, user.Name)
		}
		if c.options.Slow > 0 && (o.Kind == KindBalancer || o.Kind == KindListener) {
			if o.State != StateDeleting {
				next := clone(o)
				next.State = StateDeleting
				c.set(id, &next, c.now())
				c.transitions[id] = transition{at: c.now().Add(c.options.Slow)}
			}
			return nil
		}
		c.set(id, nil, c.now())
		return nil
	})
}

// List implements API.
func (c *Cloud) List(_ context.Context, sets ...map[string]string) ([]Object, error) {
	var found []Object
	err := c.call("List", "", func() error {
		found = all(c.seen(), func(o *Object) bool {
			return len(sets) == 0 || slices.ContainsFunc(sets, func(tags map[string]string) bool { return hasTags(o, tags) })
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Objects returns what there is, at once and not by a call of the API, sorted by kind and name.
func (c *Cloud) Objects() []Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	return all(c.objects, func(*Object) bool { return true })
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
				if err := checkTarget(o, t); err != nil {
					return err
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
			o := clone(c.objects[id])
			o.Targets = targets
			c.set(id, &o, c.now())
			c.noteTargets(id, targets)
		}
		return nil
	})
}
