package loadbalancer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/fairlead/fairlead/cloud"
)

// nodesWindow is how soon one change of nodes can follow another: those that come meanwhile are sent together.
const nodesWindow = time.Second

// nodeReconciler sends the targets of all balancers of a provider, by its name, to the cloud when nodes, or the endpoints of Services
// that send to Pods, come and go: as few calls as the provider needs for all of them, without a look at any. One provider that takes
// its time holds up no other.
type nodeReconciler struct {
	*Reconciler
	last sync.Map // the time of the last change, by provider
}

// Reconcile brings the targets of every balancer of a provider that is known to the nodes that there are now.
func (r *nodeReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if last, ok := r.last.Load(req.Name); ok && time.Since(last.(time.Time)) < nodesWindow {
		return ctrl.Result{RequeueAfter: nodesWindow - time.Since(last.(time.Time))}, nil
	}
	r.last.Store(req.Name, time.Now())
	nodes, err := r.listNodes(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	wait := r.syncNodes(ctx, req.Name, cloud.EligibleNodes(nodes))
	if ctx.Err() != nil {
		return ctrl.Result{}, fmt.Errorf("changing the targets of all Services: %w", ctx.Err()) // the rest comes next time
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

func (r *Reconciler) listNodes(ctx context.Context) ([]*corev1.Node, error) {
	var list corev1.NodeList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing Nodes: %w", err)
	}
	nodes := make([]*corev1.Node, len(list.Items))
	for i := range list.Items {
		nodes[i] = &list.Items[i]
	}
	return nodes, nil
}

// syncNodes sends to a provider what differs for these nodes, and for endpoints that have changed. It returns after how long it has to
// be called again, since a cloud throttles; 0: not at all.
func (r *Reconciler) syncNodes(ctx context.Context, name string, nodes []cloud.Node) time.Duration {
	defer func(begin time.Time) { nodeSyncLatency.Observe(time.Since(begin).Seconds()) }(time.Now())
	provider, err := r.Providers.Get(name)
	if err != nil {
		return 0 // nothing was found either, and the Services say why
	}
	return r.syncProvider(ctx, provider, r.ledger.all(name), &backends{nodes: provider.Capabilities().Told(nodes)})
}

// syncProvider gathers changes of as many Services as one call takes, sends them, and goes on.
func (r *Reconciler) syncProvider(ctx context.Context, p cloud.Provider, entries []*entry, nodes *backends) (wait time.Duration) {
	calls := p.Capabilities().Targets
	d := &delivery{Reconciler: r, provider: p, held: map[*entry]*backends{}}
	defer d.tell()
	defer func() {
		if cause := recover(); cause != nil {
			ctrl.LoggerFrom(ctx).Error(fmt.Errorf("the provider panicked: %v", cause), "Could not change the targets of Services", "stack", string(debug.Stack()))
			d.giveUp()
			wait = waitPlugin
		}
	}()
	b := newBatch(calls)
	for _, known := range entries {
		e := r.ledger.resume(known, owesTargets)
		if e == nil {
			continue
		}
		d.held[e] = nodes
		to, err := r.current(ctx, e, nodes)
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Could not read the endpoints of a Service", "Service", e.name)
			r.pods.mark(e.name)
			wait = minRetry
		}
		d.held[e] = cmp.Or(to, nodes)
		changes, err := r.targetChanges(p, e, to)
		if err != nil {
			r.pods.mark(e.name)
			d.end(e)
			return max(wait, d.send(ctx, b), p.Classify(err).After, minRetry)
		}
		if len(changes) == 0 {
			d.end(e)
			continue
		}
		if len(b.entries) > 0 && b.tally.After(changes...) > max(1, b.tally.Calls(), calls.Calls(changes...)) {
			if later := d.send(ctx, b); later > 0 || ctx.Err() != nil {
				r.pods.mark(e.name)
				d.end(e)
				return max(wait, later)
			}
			b = newBatch(calls)
		}
		b.add(e, changes, to)
	}
	return max(wait, d.send(ctx, b))
}

// targetChanges is what has to be sent for one Service; to is nil where nothing has. Where more than targets differs, or it
// is not known what there is, the Service gets a pass instead. Its error is that of a provider that could not be asked.
func (r *Reconciler) targetChanges(p cloud.Provider, e *entry, to *backends) ([]cloud.TargetChange, error) {
	switch {
	case to == nil:
		return nil, nil
	case !e.looked:
		return nil, nil // its first pass takes them as they are then
	case e.settled && e.sent != nil && e.sent.same(to):
		return nil, nil
	case !e.settled:
		// It comes again by itself, and no sooner because of what others send to: the cloud may have asked for patience.
		if e.seen != nil && !e.seen.same(to) {
			r.unsettle(e, to)
		}
		return nil, nil
	}
	desired, err := e.desired(p, to)
	if err != nil {
		return nil, err
	}
	observed, err := e.asObserved(p)
	if err != nil {
		return nil, err
	}
	out, err := cloud.Compare(e.owner, desired, observed, e.options)
	if err != nil || !out.Left.TargetsOnly() {
		r.unsettle(e, to)
		return nil, nil
	}
	changes := out.Left.TargetChanges(e.owner)
	switch {
	case len(changes) > 0:
	case otherMachines(e, to) && slices.ContainsFunc(desired, func(r cloud.Resource) bool { return len(r.Nodes) > 0 }):
		// The same targets stand for other machines, which only a look can tell.
		r.unsettle(e, to)
	default:
		e.synced(to)
	}
	return changes, nil
}

// unsettle gives a Service a pass, which will be for what it sends to now.
func (r *Reconciler) unsettle(e *entry, now *backends) {
	e.settled, e.seen = false, now
	r.wake(e.name, priorityNormal)
}

// otherMachines reports whether a node is another machine than when targets were sent last.
func otherMachines(e *entry, to *backends) bool {
	if e.sent == nil {
		return false
	}
	was := make(map[string]string, len(e.sent.nodes))
	for _, node := range e.sent.nodes {
		was[node.Name] = node.ProviderID
	}
	return slices.ContainsFunc(to.nodes, func(node cloud.Node) bool {
		id, known := was[node.Name]
		return known && id != node.ProviderID
	})
}

func sameNodes(a, b []cloud.Node) bool {
	return slices.EqualFunc(a, b, func(x, y cloud.Node) bool {
		return x.Name == y.Name && x.ProviderID == y.ProviderID && x.Zone == y.Zone && slices.Equal(x.Addresses, y.Addresses) && maps.Equal(x.Labels, y.Labels)
	})
}

// batch is what goes into one call.
type batch struct {
	entries []*entry
	to      []*backends // of each entry
	of      []int       // of each change, the entry that it is of
	changes []cloud.TargetChange
	tally   cloud.CallTally // of changes
}

func newBatch(calls cloud.TargetCalls) *batch { return &batch{tally: cloud.CallTally{Of: calls}} }

func (b *batch) add(e *entry, changes []cloud.TargetChange, to *backends) {
	for range changes {
		b.of = append(b.of, len(b.entries))
	}
	b.entries, b.to = append(b.entries, e), append(b.to, to)
	b.changes = append(b.changes, changes...)
	b.tally.Add(changes...)
}

// delivery is one round of changes for the Services of one provider.
type delivery struct {
	*Reconciler
	provider cloud.Provider
	// held are the entries that were not given back yet, with what they are to send to.
	held map[*entry]*backends
	// synced are Services that have other targets now. Their events wait for the last call: a thousand of them keep the API
	// server, and whatever runs beside it, so busy that calls which are due go late.
	synced []syncedService
}

// send sends a batch and gives its entries back. A Service whose change failed gets a pass, which looks at it. Where the
// cloud throttles, or a plugin is away, it returns how long to wait before all of them are tried again.
func (d *delivery) send(ctx context.Context, b *batch) (wait time.Duration) {
	if len(b.entries) == 0 {
		return 0
	}
	failed := make([]*cloud.Error, len(b.entries))
	begin := time.Now()
	for i, err := range d.provider.SyncTargets(ctx, b.changes) {
		if err != nil {
			failed[b.of[i]] = d.provider.Classify(err)
		}
	}
	for i, e := range b.entries {
		e.touched = time.Now()
		countSync(time.Since(begin), failed[i] != nil)
		switch err := failed[i]; {
		case err == nil:
			e.synced(b.to[i])
			d.synced = append(d.synced, syncedService{name: e.name, uid: e.uid, podTargets: e.spec.PodTargets, targets: b.to[i].count()})
		case err.Class == cloud.Throttled, err.Class == cloud.RetryAfter:
			// What was sent and what was not is not known, and it does no harm to send it again.
			wait = max(wait, err.After, minRetry)
			d.pods.mark(e.name)
		default:
			d.unsettle(e, b.to[i])
		}
		d.end(e)
	}
	return wait
}

// end gives an entry back.
func (d *delivery) end(e *entry) {
	delete(d.held, e)
	d.Reconciler.end(e)
}

// giveUp gives all entries back, after a panic. What was sent is not known: each gets a pass.
func (d *delivery) giveUp() {
	for e, to := range d.held {
		d.unsettle(e, to)
		d.end(e)
	}
}

// tell sends the events.
func (d *delivery) tell() {
	for _, s := range d.synced {
		d.eventSynced(s)
	}
}
