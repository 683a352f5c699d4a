package hostlb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cloud"
)

// Observe implements cloud.Provider.
func (p *Provider) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	return p.list(ctx, func(m mark) bool { return m.owner == owner.ID() })
}

// List implements cloud.Provider.
func (p *Provider) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	return p.list(ctx, func(m mark) bool { return m.ofCluster(clusterID) })
}

// list returns the resources whose marks pass, in the same form as Desired writes them.
func (p *Provider) list(ctx context.Context, pass func(mark) bool) ([]cloud.Resource, error) {
	s, err := p.kernel.read(ctx)
	if err != nil {
		return nil, err
	}
	var resources []cloud.Resource
	for a, m := range s.addresses {
		if pass(m) {
			resources = append(resources, s.address(a))
		}
	}
	for number, set := range s.sets {
		if pass(set.mark) {
			resources = append(resources, s.targetSet(number))
		}
	}
	for at, l := range s.listeners {
		if pass(l.mark) {
			resources = append(resources, s.listener(at))
		}
	}
	cloud.SortResources(resources)
	return resources, nil
}

func (s *state) address(a netip.Addr) cloud.Resource {
	m := s.addresses[a]
	return cloud.Resource{Kind: KindAddress, Key: m.key, ID: a.String(), Attributes: m.attributes,
		Owners: []cloud.OwnerID{m.owner}, Ingress: []cloud.Ingress{{IP: a.String()}}}
}

func (s *state) targetSet(number uint32) cloud.Resource {
	set := s.sets[number]
	r := cloud.Resource{Kind: KindTargetSet, Key: set.key, ID: setID(number), Owners: []cloud.OwnerID{set.owner}, HasTargets: true}
	for _, t := range set.targets {
		r.Targets = append(r.Targets, cloud.Target{ID: t.String()})
	}
	return r
}

func (s *state) listener(at endpoint) cloud.Resource {
	l := s.listeners[at]
	return cloud.Resource{Kind: KindListener, Key: l.key, ID: at.id(), Owners: []cloud.OwnerID{l.owner},
		Attributes: map[string]string{
			"protocol": at.protocol,
			"port":     strconv.Itoa(int(at.port)),
			"nodePort": strconv.Itoa(int(l.nodePort)),
		},
		DependsOn: []cloud.Ref{
			{Kind: KindAddress, Key: s.addresses[at.address].key, ID: at.address.String(), Parent: true},
			{Kind: KindTargetSet, Key: s.sets[l.set].key, ID: setID(l.set)},
		}}
}

func setID(number uint32) string { return strconv.FormatUint(uint64(number), 10) }

func (at endpoint) id() string { return fmt.Sprintf("%s/%s/%d", at.address, at.protocol, at.port) }

// change reads, has plan decide by what there is, and writes that, all of it again where somebody else changed rules in
// between: several Services at once want an address that is free.
func (p *Provider) change(ctx context.Context, what string, plan func(*state) (func(*transaction) error, error)) error {
	for range attempts {
		s, err := p.kernel.read(ctx)
		if err != nil {
			return err
		}
		build, err := plan(s)
		if err != nil || build == nil {
			return err
		}
		if err = p.kernel.write(ctx, what, s, build); !errors.Is(err, unix.ERESTART) {
			return err
		}
	}
	return cloud.Errorf(cloud.Conflict, "%s: the host's rules change all the time", what)
}

// Create implements cloud.Provider.
func (p *Provider) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	made := desired
	err := p.change(ctx, "creating "+desired.Name(), func(s *state) (func(*transaction) error, error) {
		m := mark{owner: owner.ID(), key: desired.Key}
		switch desired.Kind {
		case KindAddress:
			m.attributes = desired.Attributes
			return p.createAddress(s, m, owner, &made)
		case KindTargetSet:
			return createTargetSet(s, m, owner, &made)
		default:
			return createListener(s, m, owner, &made)
		}
	})
	return made, err
}

// createAddress takes the owner's address, else the one that is requested, else one that is free.
func (p *Provider) createAddress(s *state, m mark, owner cloud.Owner, made *cloud.Resource) (func(*transaction) error, error) {
	take := func(a netip.Addr) { made.ID, made.Ingress = a.String(), []cloud.Ingress{{IP: a.String()}} }
	for a, other := range s.addresses {
		if other.is(owner, *made) {
			take(a)
			return nil, nil
		}
	}
	free, err := p.freeAddress(s, m, cloud.Name(owner, *made, 63))
	if err != nil {
		return nil, err
	}
	take(free)
	return func(tx *transaction) error { return tx.add(tx.addresses, addressElement(free, m)) }, m.check()
}

func (p *Provider) freeAddress(s *state, m mark, name string) (netip.Addr, error) {
	if requested, err := netip.ParseAddr(m.attributes["requested"]); err == nil {
		if _, taken := s.addresses[requested]; taken {
			return netip.Addr{}, cloud.Errorf(cloud.Conflict, "address %s is taken", requested)
		}
		return requested, nil
	}
	for _, pool := range p.pools {
		if pool.Name != m.attributes["pool"] {
			continue
		}
		for a := range pool.addresses(name) {
			if _, taken := s.addresses[a]; !taken {
				return a, nil
			}
		}
	}
	return netip.Addr{}, cloud.Errorf(cloud.Quota, "the pool %s has no address left", m.attributes["pool"])
}

func createTargetSet(s *state, m mark, owner cloud.Owner, made *cloud.Resource) (func(*transaction) error, error) {
	for number, other := range s.sets {
		if other.is(owner, *made) {
			made.ID = setID(number)
			return nil, nil
		}
	}
	number := hashOf(cloud.Name(owner, *made, 63))
	for taken := true; taken; {
		number++
		_, taken = s.sets[number]
	}
	made.ID = setID(number)
	return func(tx *transaction) error {
		return errors.Join(tx.add(tx.targets, targetSetElement(number, m)), tx.add(tx.slots, slotElements(number, nil)...))
	}, m.check()
}

func createListener(s *state, m mark, owner cloud.Owner, made *cloud.Resource) (func(*transaction) error, error) {
	at, l, err := listenerOf(m, *made)
	if err != nil {
		return nil, err
	}
	made.ID = at.id()
	if there, taken := s.listeners[at]; taken {
		if there.is(owner, *made) {
			return nil, nil
		}
		return nil, cloud.Errorf(cloud.Conflict, "a listener at %s is not this Service's", made.ID)
	}
	return func(tx *transaction) error { return tx.add(tx.listeners, listenerElement(at, l)) }, m.check()
}

// listenerOf reads a resource whose references are filled in.
func listenerOf(m mark, r cloud.Resource) (endpoint, listener, error) {
	at, l := endpoint{protocol: r.Attributes["protocol"]}, listener{mark: m}
	port, err := strconv.ParseUint(r.Attributes["port"], 10, 16)
	nodePort, nodePortErr := strconv.ParseUint(r.Attributes["nodePort"], 10, 16)
	err = errors.Join(err, nodePortErr)
	for _, dep := range r.DependsOn {
		if dep.Kind == KindAddress {
			address, parseErr := netip.ParseAddr(dep.ID)
			at.address, err = address, errors.Join(err, parseErr)
		} else {
			number, parseErr := strconv.ParseUint(dep.ID, 10, 32)
			l.set, err = uint32(number), errors.Join(err, parseErr)
		}
	}
	at.port, l.nodePort = uint16(port), uint16(nodePort)
	if err != nil {
		return at, l, fmt.Errorf("reading %s: %w", r.Name(), err)
	}
	return at, l, nil
}

// Update implements cloud.Provider. Of addresses and target sets nothing can change: the core replaces an address, and
// the targets are SyncTargets' business.
func (p *Provider) Update(ctx context.Context, owner cloud.Owner, observed, desired cloud.Resource) error {
	if observed.Kind != KindListener {
		return fmt.Errorf("%s cannot change", observed.Name())
	}
	m := mark{owner: owner.ID(), key: desired.Key}
	at, l, err := listenerOf(m, desired)
	if err != nil {
		return err
	}
	return p.change(ctx, "updating "+desired.Name(), func(s *state) (func(*transaction) error, error) {
		there, ok := s.listeners[at]
		if !ok || !there.is(owner, desired) {
			return nil, cloud.Errorf(cloud.NotFound, "the listener at %s is gone", observed.ID)
		}
		return func(tx *transaction) error {
			// The kernel refuses to change what an element holds: the old one goes in the same transaction.
			return errors.Join(tx.remove(tx.listeners, listenerElement(at, there)), tx.add(tx.listeners, listenerElement(at, l)))
		}, nil
	})
}

// Delete implements cloud.Provider.
func (p *Provider) Delete(ctx context.Context, owner cloud.Owner, observed cloud.Resource) error {
	return p.change(ctx, "deleting "+observed.Name(), func(s *state) (func(*transaction) error, error) {
		return s.removal(owner, observed)
	})
}

// removal is nil where the resource is gone. The ID alone does not tell: an address that was given back may be another
// Service's by now. The kernel would remove an address whose listeners stay, so that is asked here.
func (s *state) removal(owner cloud.Owner, r cloud.Resource) (func(*transaction) error, error) {
	for at, l := range s.listeners {
		switch {
		case r.Kind == KindListener && r.ID == at.id() && l.owner == owner.ID():
			return func(tx *transaction) error { return tx.remove(tx.listeners, listenerElement(at, l)) }, nil
		case r.Kind == KindAddress && r.ID == at.address.String(), r.Kind == KindTargetSet && r.ID == setID(l.set):
			return nil, cloud.Errorf(cloud.Pending, "a listener uses it")
		}
	}
	for a, m := range s.addresses {
		if r.Kind == KindAddress && r.ID == a.String() && m.owner == owner.ID() {
			return func(tx *transaction) error { return tx.remove(tx.addresses, addressElement(a, m)) }, nil
		}
	}
	for number, set := range s.sets {
		if r.Kind == KindTargetSet && r.ID == setID(number) && set.owner == owner.ID() {
			return func(tx *transaction) error {
				return errors.Join(tx.remove(tx.targets, targetSetElement(number, set.mark)),
					tx.remove(tx.slots, slotElements(number, set.targets)...))
			}, nil
		}
	}
	return nil, nil
}

// SyncTargets implements cloud.Provider. A set is written as a whole, by what it is to have afterwards: nothing has to be
// read before. One that fails leaves the others to be tried, unless the kernel has no room.
func (p *Provider) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	errs := make([]error, len(changes))
	var failed, throttled error
	for i, change := range changes {
		if throttled != nil {
			errs[i] = throttled
			continue
		}
		errs[i] = p.syncTargets(ctx, change.Resource)
		if errs[i] == nil {
			continue
		}
		failed = errs[i]
		if ctx.Err() != nil || p.Classify(failed).Class == cloud.Throttled {
			throttled = failed
		}
	}
	if failed == nil {
		return nil
	}
	return errs
}

func (p *Provider) syncTargets(ctx context.Context, r cloud.Resource) error {
	number, err := strconv.ParseUint(r.ID, 10, 32)
	if err != nil {
		return fmt.Errorf("reading %s: %w", r.Name(), err)
	}
	targets := make([]netip.Addr, len(r.Targets))
	for i, t := range r.Targets {
		if targets[i], err = netip.ParseAddr(t.ID); err != nil {
			return fmt.Errorf("reading %s: %w", r.Name(), err)
		}
	}
	return p.kernel.write(ctx, "changing the targets of "+r.Name(), nil, func(tx *transaction) error {
		// The slots of a set are always there, so that a set that is gone is an error (ENOENT) here.
		all := slotElements(uint32(number), targets)
		return errors.Join(tx.remove(tx.slots, all...), tx.add(tx.slots, all...))
	})
}
