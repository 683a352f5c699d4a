// Package endpointslice keeps the EndpointSlices of every Service that has a selector: it observes the Service, its
// Pods and their nodes, lets the libraries endpoints and topology decide, and writes the difference.
//
// It is not the place where anything is decided, it does not mirror Endpoints objects, and in coexist mode, where
// kube-controller-manager owns the slices of Services with a selector, it writes nothing.
package endpointslice

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

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
	DefaultMaxBatchDelay = 100 * time.Millisecond

	defaultConcurrency = 5
	// retryConflict is when to look again after a write that the API server refused since the cache was behind.
	// Usually the event that the cache was waiting for comes first.
	retryConflict = 100 * time.Millisecond
)

// Reconciler writes the EndpointSlices of Services with a selector.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Clock tells the time of conditions and of batches. Nil: the real one.
	Clock clock.PassiveClock

	// Coexist says that kube-controller-manager serves Services with a selector: nothing is written for them.
	Coexist bool
	// MaxEndpointsPerSlice is the size of a full slice, 1 to 1000. 0: 100, as upstream.
	MaxEndpointsPerSlice int
	// MaxBatchDelay bounds how long a change of a Service that is written over and over may wait for more to be
	// written with it; the first change after quiet never waits. 0: DefaultMaxBatchDelay. Negative: never wait.
	MaxBatchDelay time.Duration
	// Concurrency is how many Services are worked on at once. 0: 5, as upstream.
	Concurrency int

	index   *endpoints.SelectorIndex
	states  *states
	written *written
}

// SetupWithManager adds the controller, named endpointslice, to mgr. In coexist mode it adds nothing: a cache of all
// Pods is too much to hold for nothing.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Coexist {
		return nil
	}
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
	r.index = endpoints.NewSelectorIndex()
	r.states = newStates(r.MaxBatchDelay)
	r.written = newWritten()
	if err := addFieldIndexes(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		Watches(&corev1.Service{}, r.serviceHandler()).
		Watches(&corev1.Pod{}, r.podHandler()).
		Watches(&corev1.Node{}, r.nodeHandler()).
		Watches(&discoveryv1.EndpointSlice{}, r.sliceHandler()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Concurrency,
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
				5*time.Millisecond, time.Minute),
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
	if r.Coexist {
		return ctrl.Result{}, nil
	}
	st := r.states.get(req.NamespacedName)
	if wait := st.pace.Wait(r.Clock.Now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}

	seen, err := r.observe(ctx, req.NamespacedName, st)
	if apierrors.IsNotFound(err) {
		r.states.forget(req.NamespacedName)
		r.written.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}

	plan, condition := r.plan(ctx, seen, st)

	slicesOutdated, err := r.apply(ctx, seen, st, plan)
	if err != nil {
		return ctrl.Result{}, err
	}
	conditionOutdated, err := r.writeCondition(ctx, seen.service, st, condition)
	if err != nil {
		return ctrl.Result{}, err
	}
	switch {
	case slicesOutdated || conditionOutdated:
		return ctrl.Result{RequeueAfter: retryConflict}, nil
	case plan.More:
		return ctrl.Result{RequeueAfter: max(time.Millisecond, st.pace.Wait(r.Clock.Now()))}, nil
	}
	return ctrl.Result{}, nil
}

// plan decides what to write, and which condition the Service should have.
func (r *Reconciler) plan(ctx context.Context, seen *observation, st *state) (endpoints.Plan, wantedCondition) {
	service := seen.service
	if !endpoints.Selected(service) {
		return endpoints.Release(service, seen.slices), wantedCondition{none: true}
	}
	set := endpoints.NewSet(service, endpoints.SetOptions{})
	for _, pod := range seen.pods {
		set.Put(pod, seen.zones[pod.Spec.NodeName])
		st.trigger.Note(pod)
	}
	if waiting := set.Waiting(); len(waiting) > 0 {
		log.FromContext(ctx).V(1).Info("Left out Pods whose nodes are not known", "pods", waiting)
	}
	policy := topology.PolicyOf(service)
	if policy != topology.None {
		for _, family := range set.Families() {
			set.SetHints(family, topology.Assign(topology.Input{Policy: policy, Endpoints: set.Endpoints(family)}).Hints)
		}
	}
	layout := endpoints.NewLayout(endpoints.Options{
		ManagedBy:    ManagedBy,
		MaxEndpoints: r.MaxEndpointsPerSlice,
		Taken:        func(name string) bool { return r.exists(ctx, service.Namespace, name) },
	})
	for _, slice := range seen.slices {
		layout.Observe(slice)
	}
	plan := layout.Plan(set, endpoints.Pass{Trigger: st.trigger.Next(service)})
	return plan, portsCondition(set)
}
