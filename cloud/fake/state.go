package fake

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// The helpers of this file are called with c.mu held.

func (c *Cloud) get(id string) (*Object, error) {
	o, ok := c.objects[id]
	if !ok {
		return nil, refuse(CodeNotFound, "there is nothing with the id %q", id)
	}
	return o, nil
}

func (c *Cloud) count(kind string) int {
	n := 0
	for _, o := range c.objects {
		if o.Kind == kind {
			n++
		}
	}
	return n
}

// all returns copies of objects that pass, sorted by kind and name.
func all(objects map[string]*Object, pass func(*Object) bool) []Object {
	var found []Object
	for _, o := range objects {
		if pass(o) {
			found = append(found, clone(o))
		}
	}
	slices.SortFunc(found, func(a, b Object) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return found
}

// notify tells of a change, to which c.mu is held.
func (c *Cloud) notify() {
	if c.changed != nil {
		c.changed()
	}
}

func (s schema) checkFields(kind string, fields map[string]string, all bool) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		check, ok := s.fields[name]
		if !ok {
			return refuse(CodeInvalidParameter, "a %s has no field %q", kind, name)
		}
		if !check(fields[name]) {
			return refuse(CodeInvalidParameter, "%q is no value for %s of a %s", fields[name], name, kind)
		}
	}
	if !all {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.fields)) {
		if _, ok := fields[name]; !ok {
			return refuse(CodeInvalidParameter, "a %s needs the field %q", kind, name)
		}
	}
	return nil
}

// checkRefs holds what an object uses against its schema, and sees that an address is used once.
func (c *Cloud) checkRefs(o *Object, s schema) error {
	counts := map[string]int{}
	for _, id := range o.Refs {
		used, err := c.get(id)
		if err != nil {
			return err
		}
		if used.State != StateReady {
			return refuse(CodeInUse, "%s %q is %s", used.Kind, used.Name, used.State)
		}
		if _, ok := s.refs[used.Kind]; !ok {
			return refuse(CodeInvalidParameter, "a %s does not use a %s", o.Kind, used.Kind)
		}
		counts[used.Kind]++
		if used.Kind != KindAddress {
			continue
		}
		if other := c.userOf(id, func(other *Object) bool { return other.ID != o.ID }); other != nil {
			return refuse(CodeInUse, "address %s is used by %s %q", used.Address, other.Kind, other.Name)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(s.refs)) {
		if limit := s.refs[kind]; counts[kind] < limit[0] || counts[kind] > limit[1] {
			return refuse(CodeInvalidParameter, "a %s uses %d to %d of %s, not %d", o.Kind, limit[0], limit[1], kind, counts[kind])
		}
	}
	return c.checkListener(o)
}

// checkListener refuses a second listener on one port of a balancer, and one that its balancer has no address for.
func (c *Cloud) checkListener(o *Object) error {
	if o.Kind != KindListener {
		return nil
	}
	balancer := c.ofKind(o.Refs, KindBalancer)
	if c.addressOf(balancer, o.Fields["family"]) == "" {
		return refuse(CodeInvalidParameter, "the balancer has no %s address", o.Fields["family"])
	}
	other := c.userOf(balancer.ID, func(other *Object) bool { return other.ID != o.ID && samePort(other, o) })
	if other != nil {
		return refuse(CodePortTaken, "listener %q has port %s/%s of the balancer", other.Name, o.Fields["protocol"], o.Fields["port"])
	}
	return nil
}

func samePort(a, b *Object) bool {
	return a.Fields["protocol"] == b.Fields["protocol"] && a.Fields["port"] == b.Fields["port"] && a.Fields["family"] == b.Fields["family"]
}

func (c *Cloud) checkMoves(have, next *Object, s schema) error {
	for _, id := range have.Refs {
		used := c.objects[id]
		if !slices.Contains(next.Refs, id) && !slices.Contains(s.moveable, used.Kind) {
			return refuse(CodeInvalidParameter, "the %s of a %s cannot change", used.Kind, have.Kind)
		}
	}
	return nil
}

// ofKind returns the first object of a kind among ids; nil if there is none.
func (c *Cloud) ofKind(ids []string, kind string) *Object {
	for _, id := range ids {
		if o := c.objects[id]; o != nil && o.Kind == kind {
			return o
		}
	}
	return nil
}

// addressOf returns the balancer's address of a family, or the empty string.
func (c *Cloud) addressOf(balancer *Object, family string) string {
	for _, id := range balancer.Refs {
		if o := c.objects[id]; o != nil && o.Kind == KindAddress && o.Fields["family"] == family {
			return o.Address
		}
	}
	return ""
}

// takeAddress finds an address that is not taken: the requested one, or the lowest.
func (c *Cloud) takeAddress(fields map[string]string, taken func(address string) bool) (string, error) {
	known := false
	for _, pool := range c.options.Pools {
		if fields["pool"] != "" && fields["pool"] != pool.Name || (fields["family"] == "IPv4") != pool.Prefix.Addr().Is4() {
			continue
		}
		known = true
		if requested := fields["requested"]; requested != "" {
			address := netip.MustParseAddr(requested)
			switch {
			case !pool.Prefix.Contains(address):
				continue
			case taken(address.String()):
				return "", refuse(CodeInUse, "address %s is taken", requested)
			}
			return address.String(), nil
		}
		if address := pool.lowestFree(taken); address != "" {
			return address, nil
		}
	}
	switch {
	case !known:
		return "", refuse(CodeInvalidParameter, "there is no pool %q of %s addresses", fields["pool"], fields["family"])
	case fields["requested"] != "":
		return "", refuse(CodeInvalidParameter, "address %s is in no pool", fields["requested"])
	}
	return "", refuse(CodePoolExhausted, "no %s address is left", fields["family"])
}

func (p Pool) lowestFree(taken func(address string) bool) string {
	for a := p.Prefix.Masked().Addr().Next(); p.Prefix.Contains(a); a = a.Next() {
		if p.Prefix.Addr().Is4() && !p.Prefix.Contains(a.Next()) {
			return "" // the broadcast address
		}
		if !taken(a.String()) {
			return a.String()
		}
	}
	return ""
}

func hasTags(o *Object, tags map[string]string) bool {
	for name, value := range tags {
		if o.Tags[name] != value {
			return false
		}
	}
	return true
}

func clone(o *Object) Object {
	next := *o
	next.Tags, next.Fields = map[string]string{}, map[string]string{}
	maps.Copy(next.Tags, o.Tags)
	maps.Copy(next.Fields, o.Fields)
	next.Refs, next.Targets = slices.Clone(o.Refs), slices.Clone(o.Targets)
	return next
}

func sorted(values []string) []string {
	values = slices.Clone(values)
	slices.Sort(values)
	return slices.Compact(values)
}
