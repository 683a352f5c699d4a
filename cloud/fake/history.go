package fake

import (
	"maps"
	"slices"
	"time"
)

// The functions of this file are called with c.mu held. Time comes from Options.Now, and nothing happens by itself: what
// time has brought about is caught up with when somebody looks.

func (c *Cloud) now() time.Time {
	if c.options.Now != nil {
		return c.options.Now()
	}
	return time.Now()
}

// transition is the end of a state that does not last.
type transition struct {
	at    time.Time
	state string // empty: it is gone
}

// set puts an object in the place of the one with its id, or with nil removes that, and remembers what was before.
func (c *Cloud) set(id string, o *Object, at time.Time) {
	c.past.Note(at, id, c.objects[id])
	if was := c.objects[id]; was != nil {
		delete(c.names, nameOf(was))
		delete(c.addresses, was.Address)
		for _, used := range was.Refs {
			delete(c.users[used], id)
		}
	}
	if o == nil {
		delete(c.objects, id)
		delete(c.transitions, id)
		delete(c.users, id)
		delete(c.since, id)
	} else {
		c.version++
		o.Version = c.version
		c.objects[id] = o
		c.names[nameOf(o)] = true
		if o.Address != "" {
			c.addresses[o.Address] = true
		}
		for _, used := range o.Refs {
			if c.users[used] == nil {
				c.users[used] = map[string]bool{}
			}
			c.users[used][id] = true
		}
	}
	c.notify()
}

func nameOf(o *Object) string { return o.Kind + "/" + o.Name }

// userOf returns an object that refers to the one with the id, the first by id that passes; nil if none does.
func (c *Cloud) userOf(id string, pass func(*Object) bool) *Object {
	for _, user := range slices.Sorted(maps.Keys(c.users[id])) {
		if o := c.objects[user]; pass(o) {
			return o
		}
	}
	return nil
}

// seen is what reads show: the objects as they were ReadLag ago.
func (c *Cloud) seen() map[string]*Object { return c.past.Seen(c.now(), c.objects) }

// settle ends the states whose time is over.
func (c *Cloud) settle() {
	now := c.now()
	for _, id := range slices.Sorted(maps.Keys(c.transitions)) {
		t := c.transitions[id]
		if t.at.After(now) {
			continue
		}
		delete(c.transitions, id)
		if t.state == "" {
			c.set(id, nil, t.at)
			continue
		}
		next := clone(c.objects[id])
		next.State = t.state
		c.set(id, &next, t.at)
	}
}

// NextTransition implements hardware.Cloud.
func (c *Cloud) NextTransition() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := time.Hour
	for _, t := range c.transitions {
		next = min(next, max(0, t.at.Sub(c.now())))
	}
	return next
}
