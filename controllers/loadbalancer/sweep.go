package loadbalancer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/fairlead/fairlead/cloud"
)

// sweeps lists what there is in each cloud: once when the manager starts, so that Services that were served before need
// no look at each, and then on a schedule, to find what others changed.
type sweeps struct {
	mu sync.Mutex
	// seen is what the first sweep of each provider found; nil owners: it failed, or is long ago, and each Service is to be
	// looked at.
	seen map[string]*snapshot
	// asked are the providers that are swept, or about to be.
	asked map[string]bool
}

// snapshot is what a cloud had of the cluster at one time.
type snapshot struct {
	at     time.Time // when the list began
	owners map[cloud.OwnerID][]cloud.Resource
}

func newSweeps() *sweeps { return &sweeps{seen: map[string]*snapshot{}, asked: map[string]bool{}} }

// of returns what the first sweep of a provider found. Nil: there was none yet.
func (s *sweeps) of(provider string) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[provider]
}

func (s *sweeps) put(provider string, seen *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[provider] = seen
}

// sweepOnce has a provider swept from now on, if it is not yet.
func (r *Reconciler) sweepOnce(provider string) {
	r.sweeps.mu.Lock()
	defer r.sweeps.mu.Unlock()
	if !r.sweeps.asked[provider] {
		r.sweeps.asked[provider] = true
		// Several managers may start at once, in one account.
		r.wakeSweep(provider, rand.N(r.Resync/600+1))
	}
}

// sweep has a provider swept from now on, and at once if so asked.
func (r *Reconciler) sweep(provider string, now bool) {
	r.sweepOnce(provider)
	if now {
		r.wakeSweep(provider, 0)
	}
}

// sweepReconciler sweeps a provider, by name.
type sweepReconciler struct{ *Reconciler }

// Reconcile lists everything of the cluster in one cloud, and looks for drift and for orphans in it.
func (r *sweepReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	next := r.Resync*9/10 + rand.N(r.Resync/5+1)
	provider, err := r.Providers.Get(req.Name)
	if err != nil { // its Services say so
		if wait := untilStart(err); wait > 0 && r.sweeps.of(req.Name) == nil {
			next = wait // Services that were in order before wait for the first list
		}
		return ctrl.Result{RequeueAfter: next}, nil
	}
	resources, err := r.list(ctx, req.Name, provider)
	if err != nil {
		if e := provider.Classify(err); e.Class == cloud.Throttled {
			return ctrl.Result{RequeueAfter: max(e.After, minRetry)}, nil
		}
		return ctrl.Result{}, err
	}
	wait, err := r.tendOrphans(ctx, req.Name, provider, resources)
	if err != nil {
		return ctrl.Result{}, err
	}
	if wait > 0 {
		next = min(next, wait)
	}
	return ctrl.Result{RequeueAfter: next}, nil
}

// list returns what there is of the cluster, and gives a pass to each Service that has something else there than it should,
// or that waits to be compared for the first time. Calls for drift come after all others, those for what is waited for do not.
func (r *sweepReconciler) list(ctx context.Context, name string, p cloud.Provider) ([]cloud.Resource, error) {
	started := time.Now()
	if r.sweeps.of(name) != nil {
		ctx = cloud.WithPriority(ctx, cloud.PriorityDrift)
	}
	resources, err := p.List(ctx, r.ClusterID)
	if err != nil {
		if p.Classify(err).Class != cloud.Throttled && r.sweeps.of(name) == nil {
			r.sweeps.put(name, &snapshot{})
			r.wakeUnlooked(name)
		}
		return nil, fmt.Errorf("listing what provider %q has: %w", name, err)
	}
	seen := &snapshot{at: started, owners: map[cloud.OwnerID][]cloud.Resource{}}
	for _, resource := range resources {
		for _, id := range resource.Owners {
			seen.owners[id] = append(seen.owners[id], resource)
		}
	}
	if r.sweeps.of(name) == nil {
		r.sweeps.put(name, seen)
	} else {
		// Whoever was there at the start was compared by now, and what was seen then can go.
		r.sweeps.put(name, &snapshot{})
	}
	r.wakeUnlooked(name)
	r.findDrift(name, p, seen, started)
	return resources, nil
}

// wakeUnlooked wakes the Services that wait to be compared for the first time.
func (r *Reconciler) wakeUnlooked(provider string) {
	for _, e := range r.ledger.all(provider) {
		if e := r.ledger.resume(e, owesPass); e != nil {
			if !e.looked {
				r.wake(e.name, priorityLow)
			}
			r.end(e)
		}
	}
}
