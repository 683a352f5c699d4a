package azure

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// Changes are gathered until none has come for a while, or the first has waited for long enough.
const (
	quiet    = time.Second
	patience = 10 * time.Second
	// forgotten is after how long a change that its owner does not ask for again is none.
	forgotten = 10 * time.Minute
)

// change is what one Service wants of a document.
type change[D any] struct {
	// key tells it from others of the document: kind and id of the part.
	key   string
	owner cloud.OwnerID
	// want is the part as it is to be; gone: it is to go.
	want cloud.Resource
	gone bool
	// rules that it adds at most.
	rules int
	// marks: it is what makes the part the owner's.
	marks bool
	// apply writes it into the document, which is a copy and is never nil, and reports whether that changed it. Its error is
	// this change's alone, and leaves the document, which the others' changes go into, too, as it was.
	apply func(doc *D) (bool, error)

	at    time.Time
	phase phase
	// offered is since when its owner is shown what there is, so that it asks again; zero: it is not. Until it does, nobody
	// writes the change: perhaps it is not wanted any more.
	offered time.Time
}

// phase of a change.
type phase int

const (
	gathered phase = iota
	sending        // it is in a write that was not answered yet
	settling       // it is written, and Azure works on it
)

// document is how a writer reads and writes what it is for.
type document[D any] struct {
	// known is what was last read or written; nil: there is none.
	known func() *D
	// stale reports that what is known is not enough to write it.
	stale func(doc *D) bool
	// load reads it anew.
	load func(ctx context.Context) (*D, error)
	// store writes next, made of was, which is nil where there was none, and returns what there is then.
	store func(ctx context.Context, next, was *D) (*D, outcome, error)
	// copied returns a copy; of nil an empty one.
	copied func(doc *D) *D
	// state of it; of nil Ready.
	state func(doc *D) cloud.State
}

// writer gathers what Services want of one document and writes it. Nothing is done in the background: a change waits until
// its owner, or another one whose change has waited long enough, comes again and writes all of them. What a writer knows is
// lost with the process, and does no harm: the core finds that it is not there, and asks for it again.
type writer[D any] struct {
	document[D]

	mu      sync.Mutex
	changes map[string]*change[D] // by key
	failed  map[string]error      // by key, to be told when its owner asks again
	busy    bool                  // somebody writes
	ended   outcome               // of the last write; nil: it is known
}

func newWriter[D any](doc document[D]) *writer[D] {
	return &writer[D]{document: doc, changes: map[string]*change[D]{}, failed: map[string]error{}}
}

// submit asks for a change. It returns nil when that is written, an error of class Pending when it waits, and otherwise what
// became of it.
func (w *writer[D]) submit(ctx context.Context, c *change[D]) error {
	w.mu.Lock()
	w.settle(ctx)
	if err, ok := w.failed[c.key]; ok {
		delete(w.failed, c.key)
		w.mu.Unlock()
		cloud.Unsent(ctx)
		return err
	}
	c.at = time.Now()
	if before := w.changes[c.key]; before != nil {
		if before.phase != gathered {
			w.mu.Unlock()
			cloud.Unsent(ctx)
			return waiting(c.want.Name())
		}
		c.at = before.at
	}
	w.changes[c.key] = c
	for _, other := range w.changes {
		if other.owner == c.owner {
			other.offered = time.Time{} // the others of this owner come along
		}
	}
	if !w.due() {
		w.mu.Unlock()
		cloud.Unsent(ctx)
		return waiting(c.want.Name())
	}
	batch := w.batch()
	w.busy = true
	w.mu.Unlock()

	results, after, err := w.write(ctx, batch, false)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = false
	return w.conclude(c, batch, results, after, err)
}

// works reports whether Azure is at it.
func (w *writer[D]) works(doc *D) bool {
	state := w.state(doc)
	return state == cloud.StatePending || state == cloud.StateDeleting
}

// due reports whether what was gathered is to be written now. With w.mu held.
func (w *writer[D]) due() bool {
	if w.busy || w.works(w.known()) {
		return false
	}
	var first, last time.Time
	for _, c := range w.changes {
		if c.phase != gathered || !c.offered.IsZero() {
			continue
		}
		if first.IsZero() || c.at.Before(first) {
			first = c.at
		}
		if c.at.After(last) {
			last = c.at
		}
	}
	now := time.Now()
	return !first.IsZero() && (now.Sub(last) >= quiet || now.Sub(first) >= patience)
}

// batch takes what is to be written, sorted. With w.mu held.
func (w *writer[D]) batch() []*change[D] {
	var batch []*change[D]
	for _, c := range w.changes {
		if c.phase == gathered && c.offered.IsZero() {
			c.phase = sending
			batch = append(batch, c)
		}
	}
	// What goes makes room for what comes. What is of IPv6 goes first and comes last: see view.families.
	slices.SortFunc(batch, func(a, b *change[D]) int {
		family := cmp.Compare(a.want.Key, b.want.Key)
		if a.gone {
			family = -family
		}
		return cmp.Or(cmp.Compare(rank(a.gone), rank(b.gone)), family, cmp.Compare(a.key, b.key))
	})
	return batch
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// result of a write of several changes.
type result[D any] struct {
	doc   *D
	ended outcome
}

// write writes a batch over what is known, which is fresh where it was read a moment ago. An error in the map is of that change alone;
// the other one is of all that are not in the map.
func (w *writer[D]) write(ctx context.Context, batch []*change[D], fresh bool) (map[string]error, result[D], error) {
	results := map[string]error{}
	doc := w.known()
	if w.stale(doc) {
		var err error
		if doc, err = w.load(ctx); err != nil {
			return results, result[D]{doc: doc}, err
		}
		if fresh = true; w.works(doc) {
			return results, result[D]{doc: doc}, waiting("it")
		}
	}
	for range 4 {
		next, changed := w.copied(doc), false
		for _, c := range batch {
			if _, decided := results[c.key]; decided {
				continue
			}
			did, err := c.apply(next)
			if err != nil {
				results[c.key] = err
			}
			changed = changed || did
		}
		if !changed {
			return results, result[D]{doc: doc}, nil
		}
		after, ended, err := w.store(ctx, next, doc)
		switch {
		case err == nil:
			return results, result[D]{after, ended}, nil
		case hasStatus(err, http.StatusPreconditionFailed):
			// Somebody else wrote it meanwhile.
			if doc, err = w.load(ctx); err != nil {
				return results, result[D]{doc: doc}, err
			}
			fresh = true
			if w.works(doc) {
				return results, result[D]{doc: doc}, waiting("it")
			}
		case !individual(err):
			return results, result[D]{doc: doc}, err
		case !fresh:
			// What refused it may have changed since it was read.
			if doc, err = w.load(ctx); err != nil {
				return results, result[D]{doc: doc}, err
			}
			fresh = true
		default:
			results, end := w.apart(ctx, batch, results, doc, err)
			return results, end, nil
		}
	}
	return results, result[D]{doc: doc}, cloud.Errorf(cloud.Pending, "others keep writing it")
}

// apart finds whose change Azure refuses, by writing each half of a batch by itself.
func (w *writer[D]) apart(ctx context.Context, batch []*change[D], results map[string]error, doc *D, err error) (map[string]error, result[D]) {
	left := slices.DeleteFunc(slices.Clone(batch), func(c *change[D]) bool { return results[c.key] != nil })
	if len(left) == 1 {
		results[left[0].key] = err
		return results, result[D]{doc: doc}
	}
	end := result[D]{doc: doc}
	for _, half := range [][]*change[D]{left[:len(left)/2], left[len(left)/2:]} {
		if w.works(w.known()) {
			// The other half is being worked on: this one comes next.
			for _, c := range half {
				results[c.key] = waiting(c.want.Name())
			}
			continue
		}
		of, after, err := w.write(ctx, half, true)
		maps.Copy(results, of)
		if err != nil {
			for _, c := range half {
				if results[c.key] == nil {
					results[c.key] = err
				}
			}
		}
		end = after
	}
	return results, end
}

// individual reports whether an error may be due to one change of several. What one refers to may also be where the manager has no
// rights: somebody else's resource group that a Service names.
func individual(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return false
	}
	if r.code == "LinkedAuthorizationFailed" {
		return true
	}
	switch r.class() {
	case cloud.UserError, cloud.Quota, cloud.Conflict, cloud.NotFound:
		return r.status != http.StatusConflict
	}
	return false
}

// conclude tells each change what became of it, and returns what became of mine. With w.mu held.
func (w *writer[D]) conclude(mine *change[D], batch []*change[D], results map[string]error, after result[D], err error) error {
	var of error
	works := w.state(after.doc) == cloud.StatePending
	now := time.Now()
	for _, c := range batch {
		outcome := results[c.key]
		if outcome == nil {
			outcome = err
		}
		if c == mine {
			of = outcome
		}
		switch {
		case outcome == nil && works:
			c.phase = settling
		case isClass(outcome, cloud.Throttled):
			c.phase = gathered // at once, when the time is over
		case outcome == nil, c == mine && !isClass(outcome, cloud.Pending):
			delete(w.changes, c.key)
		case results[c.key] == nil, isClass(outcome, cloud.Pending):
			// It was not its fault: it goes with the next write.
			c.phase, c.at = gathered, now
		default:
			delete(w.changes, c.key)
			w.failed[c.key] = outcome
		}
	}
	if err == nil && works {
		w.ended = after.ended
	}
	return of
}

// settle looks whether Azure is done with what was written last. With w.mu held, but for the time of a call.
func (w *writer[D]) settle(ctx context.Context) {
	state := w.state(w.known())
	if state == cloud.StatePending || w.busy {
		return
	}
	ended := w.ended
	w.ended = nil
	var err error
	if state == cloud.StateFailed && ended != nil {
		w.busy = true
		w.mu.Unlock()
		err = ended(ctx)
		w.mu.Lock()
		w.busy = false
	}
	for key, c := range w.changes {
		if c.phase != settling {
			continue
		}
		delete(w.changes, key)
		if err != nil {
			w.failed[key] = err
		}
	}
}
