// Package endpointslice keeps the EndpointSlices of every Service that has a selector, or that an EndpointSelector
// names: it observes the Service, its Pods and their nodes, lets the libraries endpoints and topology decide, and
// writes the difference.
//
// It is not the place where anything is decided, it does not mirror Endpoints objects, and in coexist mode, where
// kube-controller-manager owns the slices of Services with a selector, it writes none of those. The files selector*.go
// are about EndpointSelectors: what one says is read and judged by functions without I/O, of which the demand for a
// Service is made.
package endpointslice

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/controllers/selection"
	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

const (
	// Name is the controller's name.
	Name = "endpointslice"
	// FieldManager owns what the controller writes.
	FieldManager = "fairlead-endpointslice"
	// ManagedBy marks the slices. It is upstream's, so that taking over from upstream and handing back rewrites
	// nothing.
	ManagedBy = "endpointslice-controller.k8s.io"
	// DefaultMaxBatchDelay is the default of Reconciler.MaxBatchDelay.
	DefaultMaxBatchDelay = 200 * time.Millisecond

	// fullPause is how many slices a pass has written where the longest pause follows.
	fullPause = 5

	defaultConcurrency = 5
	// busy is for how long after a change of its endpoints a Service is expected to change again. Slices are not
	// emptied into others meanwhile, or the next change would have to be written with what was moved.
	busy = 2 * time.Second
	// idle is how long changes may wait that change nothing for traffic: an endpoint appears that is not ready yet, one
	// goes that had stopped being ready. Usually something that matters comes before, and takes them along: each Pod
	// of a rolling update costs half the writes.
	idle = time.Second
)

// Reconciler writes the EndpointSlices of Services with a selector and of those that EndpointSelectors name.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Clock tells the time of conditions and of batches. Nil: the real one.
	Clock clock.PassiveClock

	// Coexist says that kube-controller-manager serves Services with a selector: nothing is written for them.
	Coexist bool
	// AllowedCIDRs are the ranges of the secondary networks on which EndpointSelectors may serve Pods. None: on no
	// secondary network.
	AllowedCIDRs []netip.Prefix
	// MaxEndpointsPerSlice is the size of a full slice, 1 to 1000. 0: 100, as upstream.
	MaxEndpointsPerSlice int
	// MaxBatchDelay bounds how long a change of a Service that is written over and over may wait for more to be
	// written with it; the first change after quiet never waits. 0: DefaultMaxBatchDelay. Negative: never wait.
	MaxBatchDelay time.Duration
	// Concurrency is how many Services are worked on at once. 0: 5, as upstream.
	Concurrency int

	// Tracker tells which Pods a Service has, and may be shared with other controllers. Nil: one of its own.
	Tracker *selection.Tracker
	// Topology tells what zones can take, and is told what hints come to. Nil: Services get hints of
	// spec.trafficDistribution alone.
	Topology Topology

	states  *work.States[state]
	reports *reports
	writer  *work.Writer
}

// TrackerOptions are what a Tracker needs that is to be shared with this controller.
func TrackerOptions(coexist bool) selection.Options {
	return selection.Options{
		IgnoreSelectors:    coexist,
		Annotations:        []string{endpoints.NetworkStatusAnnotation},
		ServiceAnnotations: []string{corev1.AnnotationTopologyMode, corev1.DeprecatedAnnotationTopologyAwareHints, topology.AnnotationWeights},
	}
}

// SetupWithManager adds the controller, named endpointslice, to mgr.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.MaxEndpointsPerSlice < 0 || r.MaxEndpointsPerSlice > 1000 {
		return fmt.Errorf("endpoints per slice: %d is not within 1 and 1000", r.MaxEndpointsPerSlice)
	}
	if r.Client == nil {
		r.Client = mgr.GetClient()
	}
	if r.Recorder == nil {
		r.Recorder = mgr.GetEventRecorder(FieldManager)
	}
	if r.Clock == nil {
		r.Clock = clock.RealClock{}
	}
	if r.MaxBatchDelay == 0 {
		r.MaxBatchDelay = DefaultMaxBatchDelay
	}
	if r.Concurrency == 0 {
		r.Concurrency = defaultConcurrency
	}
	if r.Tracker == nil {
		r.Tracker = selection.New(TrackerOptions(r.Coexist))
	}
	r.states = work.NewStates(func() *state {
		return &state{inbox: inbox{renamed: true}, pace: endpoints.Pace{Max: r.MaxBatchDelay, Full: fullPause}}
	})
	r.reports = newReports()
	var err error
	if r.writer, err = work.NewWriter(mgr, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), FieldManager); err != nil {
		return err
	}
	if err := addFieldIndex(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := addSelectorIndex(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	build := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		WatchesRawSource(r.Tracker.Source(mgr.GetCache(), r.mark)).
		Watches(&discoveryv1.EndpointSlice{}, r.sliceHandler()).
		Watches(&v1alpha1.EndpointSelector{}, r.selectorHandler())
	if r.Topology != nil {
		build.WatchesRawSource(r.Topology.Source(mgr.GetCache(), r.capacitiesChanged))
	}
	if len(r.AllowedCIDRs) > 0 {
		build.Watches(&networkingv1.ServiceCIDR{}, r.cidrHandler())
	}
	return build.
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Concurrency,
			UsePriorityQueue:        new(false), // It costs more, and nothing here goes before anything else.
			RateLimiter:             work.RateLimiter(),
		}).
		Complete(r)
}

// +kubebuilder:rbac:groups="",resources=services;pods;nodes,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=services/finalizers,verbs=update
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes the slices of one Service what they should be.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	st := r.states.Get(req.NamespacedName)
	now := r.Clock.Now()
	if wait := max(st.pace.Wait(now), st.backoff.Wait(now, st.inbox.news())); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	res, err := r.reconcile(ctx, req, st, now)
	st.backoff.Note(r.Clock.Now(), err)
	return res, err
}

// reconcile is a pass that has not to wait.
func (r *Reconciler) reconcile(ctx context.Context, req ctrl.Request, st *state, now time.Time) (ctrl.Result, error) {
	st.mail = st.inbox.take() // Before anything is read, so that what comes meanwhile is another pass's.
	naming, err := r.naming(ctx, req.NamespacedName, st)
	if err != nil {
		st.drop() // With the mail, so that the next pass reads everything.
		return ctrl.Result{}, err
	}
	service := r.Tracker.Service(req.NamespacedName)
	if service == nil {
		r.unchoose(req.NamespacedName, st)
		st.share.become(share{})
		r.states.Forget(req.NamespacedName)
		_, err := r.reportAll(ctx, nil, st, naming, nil)
		return ctrl.Result{}, err
	}
	if len(naming) > 0 && !r.Tracker.Follow() {
		st.drop() // With the mail. All Services are marked once their Pods are known.
		return ctrl.Result{}, nil
	}
	res, err := r.pass(ctx, service, st, naming, now)
	st.countRefusal(res.outdated)
	if res.outdated {
		return ctrl.Result{RequeueAfter: work.RetryConflict}, nil
	}
	again, reportErr := r.reportAll(ctx, service, st, naming, problemOf(res.rest, err))
	if err := errors.Join(err, reportErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: sooner(res.again, again)}, nil
}

// result is what a pass came to.
type result struct {
	// outdated: the API server knew more than the pass, which has to be made again.
	outdated bool
	// rest is for how long nothing is written, since someone else owns the slices, too.
	rest time.Duration
	// again is when to look again; zero: not of itself.
	again time.Duration
}

// pass writes the slices and conditions of one Service.
func (r *Reconciler) pass(ctx context.Context, service *corev1.Service, st *state, naming []*v1alpha1.EndpointSelector, now time.Time) (result, error) {
	plan, wanted, err := r.plan(ctx, service, st, naming, now)
	st.mail = mail{}
	if err != nil {
		return result{}, err
	}
	res := result{rest: st.ownership.rest(now)}
	st.share.rest(res.rest > 0)
	wait := st.idleFor(plan, now)
	if res.rest == 0 && wait == 0 {
		if res.outdated, err = r.apply(ctx, service, st, plan); err != nil {
			return result{}, err
		}
	}
	conditionsOutdated, err := r.writeConditions(ctx, service, st, wanted)
	res.outdated = res.outdated || conditionsOutdated
	switch {
	case err != nil:
		return result{}, err
	case res.rest > 0:
		res.again = res.rest
	case wait > 0:
		res.again = wait
	case plan.More:
		now = r.Clock.Now()
		res.again = max(time.Millisecond, st.pace.Wait(now), st.busyFor(now))
	}
	return res, nil
}

// plan decides what to write, and which conditions the Service should have.
func (r *Reconciler) plan(ctx context.Context, service *corev1.Service, st *state, naming []*v1alpha1.EndpointSelector, now time.Time) (endpoints.Plan, []wantedCondition, error) {
	d, err := r.demandOf(ctx, service, st, naming)
	if err != nil {
		st.drop()
		return endpoints.Plan{}, nil, err
	}
	if d.managedBy == "" {
		ours, err := r.ourSlices(ctx, service, st)
		st.drop()
		return endpoints.Release(service, ours), []wantedCondition{{kind: portsResolved, none: true}, {kind: ownershipConflict, none: true}}, err
	}
	if err := r.observe(ctx, service, st, d, now); err != nil {
		return endpoints.Plan{}, nil, err
	}
	r.hint(service, st)
	plan := st.layout.Plan(st.set, endpoints.Pass{Trigger: st.nextTrigger(service), Busy: st.busyFor(now) > 0})
	return plan, []wantedCondition{portsCondition(st.set), conflictCondition(&st.ownership, now)}, nil
}
