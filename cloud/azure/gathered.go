package azure

import (
	"slices"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// This file is what others learn of the changes that a writer has.

// overlay changes observed resources by what is gathered and under way for the owners that match. With offer it shows what has
// waited long enough as it is, so that the core asks for it again.
func (w *writer[D]) overlay(observed []cloud.Resource, match func(cloud.OwnerID) bool, offer bool) []cloud.Resource {
	w.mu.Lock()
	defer w.mu.Unlock()
	working, due, now := w.works(w.known()), w.due(), time.Now()
	var theirs []string
	for key, c := range w.changes {
		if match(c.owner) || !c.offered.IsZero() {
			theirs = append(theirs, key)
		}
	}
	slices.Sort(theirs)
	for _, key := range theirs {
		c := w.changes[key]
		switch {
		case !c.offered.IsZero() && now.Sub(c.offered) > forgotten:
			delete(w.changes, key)
		case !match(c.owner):
		case c.phase == settling && !working:
			// It is done, or has failed, and submit sees to that.
		case offer && c.phase == gathered && due && c.offered.IsZero():
			c.offered = now
		case !c.offered.IsZero():
		default:
			observed = shadow(observed, c.want, c.gone)
		}
	}
	return observed
}

// shadow shows a resource as one that is being changed, made or deleted.
func shadow(observed []cloud.Resource, want cloud.Resource, gone bool) []cloud.Resource {
	i := slices.IndexFunc(observed, func(r cloud.Resource) bool { return r.Kind == want.Kind && same(r.ID, want.ID) })
	switch {
	case i >= 0 && gone:
		observed[i].State = cloud.StateDeleting
	case i >= 0:
		observed[i].State = cloud.StatePending
	case !gone:
		want.State, want.Targets, want.Ingress = cloud.StatePending, nil, nil
		return append(observed, want)
	}
	return observed
}

// withdraw forgets a change that was not sent yet, and reports whether there was one.
func (w *writer[D]) withdraw(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.failed, key)
	c := w.changes[key]
	if c == nil || c.phase != gathered {
		return false
	}
	delete(w.changes, key)
	return true
}

// coming returns how many rules parts have that are still to be made, and whether one of the parts is the one with the id, or has
// the frontend.
func (w *writer[D]) coming(id, frontend string) (rules int, has bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.changes {
		if !c.gone && c.phase != settling {
			rules += c.rules
			has = has || same(c.want.ID, id) || c.want.Attributes["frontend"] == frontend
		}
	}
	return rules, has
}

// comes reports whether a part of the family is still to be made, of the owner, or, where that is empty, of anybody.
func (w *writer[D]) comes(family string, owner cloud.OwnerID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.changes {
		if !c.gone && c.phase != settling && c.want.Key == family && (owner == "" || c.owner == owner) {
			return true
		}
	}
	return false
}

// wants reports whether something is gathered or under way for the part, or is to be told of it.
func (w *writer[D]) wants(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed[key] != nil || w.underWay(key)
}

// changing reports whether something is gathered or under way for the part.
func (w *writer[D]) changing(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.underWay(key)
}

// underWay is changing, with w.mu held.
func (w *writer[D]) underWay(key string) bool {
	c := w.changes[key]
	return c != nil && (c.phase != settling || w.works(w.known()))
}

// holds reports whether a mark is gathered for the part.
func (w *writer[D]) holds(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.changes[key]
	return c != nil && c.marks && c.phase == gathered
}
