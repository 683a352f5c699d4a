package gcp

import (
	"context"
	"strings"
	"sync"

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
	// begun and failed are by the short link of what they change.
	begun  map[string]begun
	failed map[string]error
}

type begun struct {
	owner cloud.OwnerID
	op    *compute.Operation
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
		l.begun, l.failed = map[string]begun{}, map[string]error{}
	}
	l.begun[target] = begun{owner, op}
	return false, nil
}

// take returns, once, what the last operation on the target failed with.
func (l *late) take(target string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.failed[target]
	delete(l.failed, target)
	return err
}

// settle looks at what became of the owner's operations that have ended by now.
func (l *late) settle(ctx context.Context, a *api, owner cloud.OwnerID, unfinished map[string]*compute.Operation) error {
	l.mu.Lock()
	ended := map[string]begun{}
	for target, b := range l.begun {
		if b.owner == owner && unfinished[target] == nil {
			ended[target] = b
		}
	}
	l.mu.Unlock()
	for target, b := range ended {
		op, err := a.operation(ctx, b.op)
		if err != nil && a.classOf(err) != cloud.NotFound {
			return err
		}
		l.mu.Lock()
		if op != nil && op.Status != "DONE" {
			unfinished[target] = op // it has begun since the list was made
		} else if l.begun[target].op == b.op {
			delete(l.begun, target)
			if op != nil && failure(op) != nil {
				l.failed[target] = failure(op)
			}
		}
		l.mu.Unlock()
	}
	return nil
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
