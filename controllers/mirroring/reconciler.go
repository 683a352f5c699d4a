// Package mirroring publishes Endpoints objects that people and programs write for Services without a selector as
// EndpointSlices, which is what everyone reads: it observes the Endpoints, the Service and the slices, lets the library
// endpoints decide, and writes the difference.
//
// It is not the place where anything is decided, it serves no Service with a selector (package endpointslice), and in
// coexist mode, where kube-controller-manager mirrors, it writes nothing.
package mirroring

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
)

const (
	// Name is the controller's name.
	Name = "mirroring"
	// FieldManager owns what the controller writes.
	FieldManager = "fairlead-mirroring"
	// ManagedBy marks the slices. It is upstream's, so that taking over from upstream and handing back rewrites
	// nothing.
	ManagedBy = "endpointslicemirroring-controller.k8s.io"
	// DefaultMaxBatchDelay is the default of Reconciler.MaxBatchDelay.
	DefaultMaxBatchDelay = 100 * time.Millisecond

	defaultConcurrency = 5
)

// Reconciler writes the EndpointSlices of Endpoints whose Services have no selector.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Endpoints. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Clock tells the time of batches. Nil: the real one.
	Clock clock.PassiveClock

	// Coexist says that kube-controller-manager mirrors: nothing is written here.
	Coexist bool
	// WithEndpoints says that package controllers/endpoints runs, too. It deletes the Endpoints that a controller wrote
	// for a Service which has lost its selector; until it has, they must not be published again. Without it they are
	// mirrored like any other, as upstream does.
	WithEndpoints bool
	// MaxBatchDelay bounds how long a change of Endpoints that are written over and over may wait for more to be
	// written with it; the first change after quiet never waits. 0: DefaultMaxBatchDelay. Negative: never wait.
	MaxBatchDelay time.Duration
	// Concurrency is how many Endpoints are worked on at once. 0: 5, as upstream.
	Concurrency int

	states *work.States[state]
	held   *held
	writer *work.Writer
}

// SetupWithManager adds the controller, named mirroring, to mgr. In coexist mode it adds nothing.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Coexist {
		return nil
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
	var err error
	if r.writer, err = work.NewWriter(mgr, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), FieldManager); err != nil {
		return err
	}
	r.states = work.NewStates(func() *state { return &state{pace: endpoints.Pace{Max: r.MaxBatchDelay}} })
	r.held = newHeld()
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		Watches(&corev1.Service{}, r.serviceHandler()).
		Watches(&corev1.Endpoints{}, r.endpointsHandler()).
		Watches(&discoveryv1.EndpointSlice{}, r.sliceHandler()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Concurrency,
			RateLimiter:             work.RateLimiter(),
		}).
		Complete(r)
}

// +kubebuilder:rbac:groups="",resources=services;endpoints,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=endpoints/finalizers,verbs=update
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes the slices of one Endpoints object what they should be.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if r.Coexist {
		return ctrl.Result{}, nil
	}
	began := r.Clock.Now()
	st := r.states.Get(req.NamespacedName)
	if wait := st.pace.Wait(began); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	defer func() { syncDuration.Observe(r.Clock.Since(began).Seconds()) }()

	seen, err := r.observe(ctx, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	plan, mirrored := r.plan(ctx, seen)
	outdated, err := r.apply(ctx, seen, st, plan)
	if err != nil {
		return ctrl.Result{}, err
	}
	st.become(share{endpoints: plan.Endpoints, slices: plan.Slices})
	if st.refusals.Count(outdated) {
		if err := r.relearn(ctx, req.NamespacedName); err != nil {
			return ctrl.Result{}, err
		}
	}
	if outdated {
		return ctrl.Result{RequeueAfter: work.RetryConflict}, nil
	}
	if !mirrored {
		r.states.Forget(req.NamespacedName)
	}
	return ctrl.Result{}, nil
}

// observation is what one pass decides from. All of it belongs to the cache and must not be changed.
type observation struct {
	key types.NamespacedName
	// service and source are nil where there is none.
	service *corev1.Service
	source  *corev1.Endpoints
	slices  []*discoveryv1.EndpointSlice
}

func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName) (*observation, error) {
	seen := &observation{key: key, service: &corev1.Service{}, source: &corev1.Endpoints{}}
	err := r.Client.Get(ctx, key, seen.service, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		seen.service = nil
	} else if err != nil {
		return nil, fmt.Errorf("getting Service: %w", err)
	}
	err = r.Client.Get(ctx, key, seen.source, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		seen.source = nil
	} else if err != nil {
		return nil, fmt.Errorf("getting Endpoints: %w", err)
	}
	seen.slices = r.held.slices(key, seen.source)
	return seen, nil
}

// plan decides what to write. Mirrored: the Endpoints are to be published.
func (r *Reconciler) plan(ctx context.Context, seen *observation) (plan endpoints.MirrorPlan, mirrored bool) {
	switch {
	case !endpoints.Mirrored(seen.service, seen.source):
		return endpoints.Unmirror(seen.slices), false
	case r.WithEndpoints && endpoints.ClassicObsolete(seen.source):
		log.FromContext(ctx).V(1).Info("Left Endpoints to be deleted which a controller wrote for a Service that had a selector")
		return endpoints.Unmirror(seen.slices), false
	}
	return endpoints.Mirror(seen.source, seen.slices, endpoints.MirrorOptions{
		ManagedBy: ManagedBy,
		Taken:     func(name string) bool { return r.exists(ctx, seen.key.Namespace, name) },
	}), true
}

// relearn believes the cache instead of what is held.
func (r *Reconciler) relearn(ctx context.Context, key types.NamespacedName) error {
	return r.held.relearn(key, func() ([]discoveryv1.EndpointSlice, error) {
		var list discoveryv1.EndpointSliceList
		if err := r.Client.List(ctx, &list, client.InNamespace(key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing EndpointSlices: %w", err)
		}
		return list.Items, nil
	})
}

// exists says whether the cache has a slice of this name, whoever's it is.
func (r *Reconciler) exists(ctx context.Context, namespace, name string) bool {
	var slice discoveryv1.EndpointSlice
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &slice, client.UnsafeDisableDeepCopy)
	return err == nil
}
