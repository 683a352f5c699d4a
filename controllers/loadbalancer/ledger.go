package loadbalancer

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// ledger remembers of each Service what the last pass found in the cloud, so that a change of nodes, or a sweep, needs no
// look at each Service. All of it can be lost: whoever is not in it is looked at. It also keeps two from working on one
// Service at the same time.
type ledger struct {
	mu    sync.Mutex
	byUID map[types.UID]*entry
}

// entry is what is remembered of one Service. What ledger.mu does not guard is that of whoever works on it.
type entry struct {
	uid  types.UID
	name types.NamespacedName
	// provider that serves the Service. With ledger.mu.
	provider string
	// busy: somebody works on it. owed is what others wanted meanwhile. With ledger.mu.
	busy bool
	owed debt

	// looked: it was compared with the cloud since the manager started.
	looked bool
	// announced: the event that the balancer is being deleted was sent.
	announced bool
	// had: something of it was seen in the cloud since it is released.
	had bool
	// drift: the next pass is because of a sweep, and can wait for others' calls.
	drift bool
	// found is what the last sweep that found something different found; nil: none did.
	found *v1alpha1.Drift
	// settled: nothing is wanting but, perhaps, targets, so that those of other nodes can be sent without a look.
	settled bool
	// owner, spec without nodes and endpoints, and options, as of the last pass.
	owner   cloud.Owner
	spec    cloud.Spec
	options cloud.Options
	// lasting is the reason of what somebody has to put right, and since is when passes began to come to it; empty: the last did not.
	// A condition's time is that of its status, under which reasons come and go.
	lasting string
	since   time.Time
	// service that the last pass saw; not changed.
	service *corev1.Service
	// observed resources. Their targets are those of sent, and left out, or where sent is nil as observed.
	observed []cloud.Resource
	sent     *backends
	// seen is what the last pass that did not settle it was for, or one that is due will be: the same again is no reason for another
	// before its time. Nil: no change of it is, since nothing is sent, under Plan, or wanted any more.
	seen *backends
	// touched is when a call was last made that may have changed something, adopted when one may have adopted something;
	// before that of this process nobody knows. Zero: it never was.
	touched, adopted time.Time
}

// debt is what whoever works on a Service owes to others afterwards.
type debt int

const (
	owesNothing debt = iota
	owesTargets      // a look at what the Service is to send to by then
	owesPass
)

func newLedger() *ledger { return &ledger{byUID: map[types.UID]*entry{}} }

// begin takes the entry of a Service, making one where there is none; served: others may have worked on it before this
// process. Nil: somebody works on it, and will find in end that a pass is owed.
func (l *ledger) begin(uid types.UID, name types.NamespacedName, provider string, served bool) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byUID[uid]
	if e == nil {
		e = &entry{uid: uid, name: name, touched: time.Now()}
		if served {
			e.adopted = e.touched
		}
		l.byUID[uid] = e
	}
	if !e.busy {
		e.name, e.provider = name, provider
	}
	return l.take(e, owesPass)
}

// of returns the entry of a Service, to be resumed; nil: there is none.
func (l *ledger) of(uid types.UID) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byUID[uid]
}

// resume takes an entry that all or of returned. Nil: somebody works on it, and owes this now, or it was dropped meanwhile.
func (l *ledger) resume(e *entry, owed debt) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byUID[e.uid] != e {
		return nil
	}
	return l.take(e, owed)
}

func (l *ledger) take(e *entry, owed debt) *entry {
	if e.busy {
		e.owed = max(e.owed, owed)
		return nil
	}
	e.busy = true
	return e
}

// end gives the entry back, and returns what is owed.
func (l *ledger) end(e *entry) debt {
	l.mu.Lock()
	defer l.mu.Unlock()
	owed := e.owed
	e.busy, e.owed = false, owesNothing
	return owed
}

// forget drops the entry of a Service that has nothing in the cloud any more.
func (l *ledger) forget(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byUID, uid)
}

// providers returns the providers that serve Services, sorted.
func (l *ledger) providers() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := map[string]bool{}
	for _, e := range l.byUID {
		names[e.provider] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// all returns the entries of a provider, sorted by the Services' names.
func (l *ledger) all(provider string) []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var entries []*entry
	for _, e := range l.byUID {
		if e.provider == provider {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.name.Namespace, b.name.Namespace), cmp.Compare(a.name.Name, b.name.Name), cmp.Compare(a.uid, b.uid))
	})
	return entries
}

// remember keeps what a pass came to.
func (e *entry) remember(spec cloud.Spec, options cloud.Options, out cloud.Outcome, err error) {
	e.looked = true
	if len(out.Done) > 0 || err != nil {
		e.touched = time.Now()
	}
	if out.Adopting {
		e.adopted = time.Now()
	}
	e.owner, e.options, e.spec = spec.Owner, options, spec
	e.spec.Nodes, e.spec.Endpoints = nil, nil
	e.settled = err == nil && options.Policy != v1alpha1.PolicyPlan && len(out.Left.Waiting) == 0 && out.Left.TargetsOnly()
	e.observed = slices.Clone(out.Observed)
	e.sent, e.seen = nil, nil
	if !e.settled && options.Policy != v1alpha1.PolicyPlan {
		e.seen = backendsOf(spec)
	}
	if e.settled && len(out.Left.Operations) == 0 {
		e.synced(backendsOf(spec))
	}
}

// unshown is for how much longer the cloud may not show what was adopted.
func (e *entry) unshown(caps cloud.Capabilities) time.Duration {
	if !caps.Adopt || e.adopted.IsZero() {
		return 0
	}
	return max(0, caps.ReadLag-time.Since(e.adopted))
}

// saw notes what a pass was for.
func (e *entry) saw(svc *corev1.Service) { e.service = svc }

// same reports whether the Service is as the last pass saw it. All annotations count: people change one to have a
// balancer looked at.
func (e *entry) same(svc *corev1.Service) bool {
	return e.service != nil && equality.Semantic.DeepEqual(e.service.Spec, svc.Spec) && maps.Equal(e.service.Annotations, svc.Annotations)
}

// synced notes that the targets in the cloud are those of b, which is kept.
func (e *entry) synced(b *backends) {
	e.sent = b
	for i := range e.observed {
		e.observed[i].Targets = nil
	}
}

// asObserved returns the resources with their targets. Its error is that of a provider that could not be asked.
func (e *entry) asObserved(p cloud.Provider) ([]cloud.Resource, error) {
	observed := slices.Clone(e.observed)
	if e.sent == nil {
		return observed, nil
	}
	desired, err := e.desired(p, e.sent)
	if err != nil {
		return nil, err
	}
	targets := map[cloud.Ref][]cloud.Target{}
	for _, r := range desired {
		targets[cloud.Ref{Kind: r.Kind, Key: r.Key}] = r.Targets
	}
	for i := range observed {
		if observed[i].HasTargets {
			observed[i].Targets = targets[cloud.Ref{Kind: observed[i].Kind, Key: observed[i].Key}]
		}
	}
	return observed, nil
}

// desired is what the Service wants with these backends. What is wrong with it was said by the pass; the error is that of a
// provider that could not be asked.
func (e *entry) desired(p cloud.Provider, b *backends) ([]cloud.Resource, error) {
	resources, err := p.Desired(b.in(e.spec))
	if unasked(p, err) {
		return nil, err
	}
	return resources, nil
}

// end gives an entry back.
func (r *Reconciler) end(e *entry) {
	name := e.name
	switch r.ledger.end(e) {
	case owesPass:
		r.wake(name, priorityNormal)
	case owesTargets:
		r.wakeNodes()
	}
}
