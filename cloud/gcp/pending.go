package gcp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud"
)

// Every change is an operation: the API accepts it, and works on it for seconds, sometimes minutes. What is being worked on is
// told by the list of operations that have not ended, which needs no memory. What an operation failed with is told by the
// operation alone, so those that this process began are remembered until they are known to have ended; where it failed, the
// next change of the same thing returns its error instead of being sent. A restart forgets: then the change is sent again, and
// fails again.

// late are the operations that this process began.
type late struct {
	mu sync.Mutex
	// begun, failed and unread are by the short link of what they change: several can be on the way at once. Unread is why it is not known
	// what became of anyone's.
	begun  map[string][]begun
	failed map[string]failed
	unread map[string]error
}

// begun is one operation, of an owner; of what is shared, of anyone's.
type begun struct {
	owner cloud.OwnerID
	op    *compute.Operation
	// after is when to look at it again, after it could not be read.
	after time.Time
}

// failed is what an operation failed with, and when that was found out.
type failed struct {
	err error
	at  time.Time
}

// staleAfter is how long after it was found out nobody is told of a failure any more: a change that is still needed comes in the
// same pass, and one that comes later is another one.
const staleAfter = 10 * time.Minute

// anyone is who looks after operations on what all Services use: whoever had them begun may be gone before they end.
const anyone cloud.OwnerID = ""

// whose operations those are that an owner has begun on something of the kind.
func whose(owner cloud.Owner, kind string) cloud.OwnerID {
	if kind == KindEndpointGroup {
		return anyone
	}
	return owner.ID()
}

// began notes what became of a change. It returns what the operation failed with if it ended so at once, and whether it has
// ended.
func (l *late) began(owner cloud.OwnerID, target string, op *compute.Operation) (done bool, err error) {
	if op.Status == "DONE" {
		return true, failure(op)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun == nil {
		l.begun, l.failed, l.unread = map[string][]begun{}, map[string]failed{}, map[string]error{}
	}
	l.begun[target] = append(l.begun[target], begun{owner: owner, op: op})
	return false, nil
}

// take returns, once, what operations on the target failed with: the first of them.
func (l *late) take(target string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.failed[target]
	delete(l.failed, target)
	if !ok || time.Since(f.at) > staleAfter {
		return nil
	}
	return f.err
}

// deleting reports whether the owner began to delete something of a collection, and is not known to be done.
func (l *late) deleting(owner cloud.OwnerID, collection string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for target, all := range l.begun {
		of := func(b begun) bool { return b.owner == owner && b.op.OperationType == "delete" }
		if strings.Contains(target, "/"+collection+"/") && slices.ContainsFunc(all, of) {
			return true
		}
	}
	return false
}

// unknown returns why it is not known what became of anyone's operations on the target; nil where it is, or will be.
func (l *late) unknown(target string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unread[target]
}

// postpone notes that one of anyone's operations cannot be read, and looks at it again later.
func (l *late) postpone(target string, op *compute.Operation, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unread[target] = fmt.Errorf("reading an operation: %w", err)
	for i := range l.begun[target] {
		if b := &l.begun[target][i]; b.op == op {
			b.after = time.Now().Add(deniedFor)
		}
	}
}

// settle looks at what became of the owner's operations, and of anyone's, that have ended by now. One of anyone's that cannot be
// read is looked at again later: an error would stop every Service of the cluster. Who changes the same thing is told.
func (l *late) settle(ctx context.Context, a *api, owner cloud.OwnerID, unfinished map[string]*compute.Operation) error {
	for target, all := range l.ended(owner, unfinished) {
		for _, b := range all {
			op, err := a.operation(ctx, b.op)
			switch {
			case err != nil && a.classOf(err) == cloud.NotFound:
				l.end(target, b.op, nil)
			case err != nil && b.owner == anyone:
				l.postpone(target, b.op, err)
			case err != nil:
				return err
			case op.Status != "DONE":
				unfinished[target] = op // it has begun since the list was made
			default:
				l.end(target, b.op, failure(op))
			}
		}
	}
	return nil
}

// ended returns those operations, in the order in which they began, on whose targets nothing is worked any more.
func (l *late) ended(owner cloud.OwnerID, unfinished map[string]*compute.Operation) map[string][]begun {
	l.mu.Lock()
	defer l.mu.Unlock()
	ended := map[string][]begun{}
	for target, all := range l.begun {
		if unfinished[target] != nil {
			continue
		}
		for _, b := range all {
			if b.owner == owner || b.owner == anyone && !time.Now().Before(b.after) {
				ended[target] = append(ended[target], b)
			}
		}
	}
	return ended
}

// end forgets an operation and notes what it failed with, if anything. Several Services look after anyone's at a time, and the
// first may have had the failure told by now: whoever comes second does neither.
func (l *late) end(target string, op *compute.Operation, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.begun[target])
	l.begun[target] = slices.DeleteFunc(l.begun[target], func(b begun) bool { return b.op == op })
	first := len(l.begun[target]) < before
	delete(l.unread, target)
	if len(l.begun[target]) == 0 {
		delete(l.begun, target)
	}
	if _, known := l.failed[target]; first && err != nil && !known {
		l.failed[target] = failed{err, time.Now()}
	}
}

// byTarget returns operations by the short link of what they change.
func byTarget(ops []*compute.Operation) map[string]*compute.Operation {
	targets := map[string]*compute.Operation{}
	for _, op := range ops {
		targets[shortLink(op.TargetLink)] = op
	}
	return targets
}

// stateOf is the state of something that an operation works on; nil: none does.
func stateOf(op *compute.Operation) cloud.State {
	switch {
	case op == nil:
		return cloud.StateReady
	case op.OperationType == "delete":
		return cloud.StateDeleting
	}
	return cloud.StatePending
}

// unseen returns what is being made, by its name, of which keyOf returns the key, and is not shown yet. It can neither be used
// nor deleted, so it is returned in the state in which the core waits: it must not take it for gone.
func unseen(keyOf func(name string) string, unfinished map[string]*compute.Operation, seen map[string]bool) []cloud.Resource {
	var resources []cloud.Resource
	for target, op := range unfinished {
		parts := strings.Split(target, "/")
		if seen[target] || op.OperationType != "insert" || len(parts) < 5 {
			continue
		}
		name, kind := parts[len(parts)-1], kindsByCollection[parts[len(parts)-2]]
		key := keyOf(name)
		if key == "" || kind == "" {
			continue
		}
		resources = append(resources, cloud.Resource{Kind: kind, Key: key, ID: idOf(kind, parts[3], name), State: cloud.StateDeleting})
	}
	return resources
}
