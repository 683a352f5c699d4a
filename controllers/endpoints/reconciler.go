// Package endpoints keeps the classic Endpoints object of every Service that has a selector, from the same library as
// the EndpointSlices. The API is deprecated since Kubernetes 1.33; whoever reads no Endpoints turns the controller off.
//
// It does not write EndpointSlices, does not mirror, and runs in replace mode only.
package endpoints

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/endpoints"
)

const (
	// Name is the controller's name.
	Name = "endpoints"
	// FieldManager owns what the controller writes.
	FieldManager = "fairlead-endpoints"
	// DefaultMaxBatchDelay is the default of Reconciler.MaxBatchDelay. Those who still read Endpoints can wait, and
	// each write is of the whole object.
	DefaultMaxBatchDelay = 500 * time.Millisecond
	// EventFailed is the reason of an event on a Service whose Endpoints could not be written.
	EventFailed = "FailedToUpdateEndpoint"

	actionWrite        = "WriteEndpoints"
	defaultConcurrency = 5
	// retryConflict is when to look again after a write that the API server refused since the cache was behind.
	retryConflict = 100 * time.Millisecond
)

// Reconciler writes the Endpoints of Services with a selector.
type Reconciler struct {
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Clock tells the time of batches. Nil: the real one.
	Clock clock.PassiveClock

	// Coexist says that kube-controller-manager writes the Endpoints objects: nothing is written here.
	Coexist bool
	// MaxBatchDelay bounds how long a change of a Service that is written over and over may wait for more to be
	// written with it; the first change after quiet never waits. 0: DefaultMaxBatchDelay. Negative: never wait.
	MaxBatchDelay time.Duration
	// Concurrency is how many Services are worked on at once. 0: 5, as upstream.
	Concurrency int

	index  *endpoints.SelectorIndex
	mu     sync.Mutex
	states map[types.NamespacedName]*state
}

// state is what is remembered of one Service between passes; only one pass at a time touches it.
type state struct {
	pace    endpoints.Pace
	trigger endpoints.TriggerTimes
	failing bool
}

// SetupWithManager adds the controller, named endpoints, to mgr. In coexist mode it adds nothing: a cache of all Pods
// is too much to hold for nothing.
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
	r.index = endpoints.NewSelectorIndex()
	r.states = map[types.NamespacedName]*state{}
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		Watches(&corev1.Service{}, r.serviceHandler()).
		Watches(&corev1.Pod{}, r.podHandler()).
		Watches(&corev1.Endpoints{}, r.endpointsHandler()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Concurrency,
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
				5*time.Millisecond, time.Minute),
		}).
		Complete(r)
}

// +kubebuilder:rbac:groups="",resources=services;pods,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=endpoints,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes the Endpoints of one Service what they should be.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if r.Coexist {
		return ctrl.Result{}, nil
	}
	st := r.state(req.NamespacedName)
	if wait := st.pace.Wait(r.Clock.Now()); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	var service corev1.Service
	err := r.Client.Get(ctx, req.NamespacedName, &service, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		r.forget(req.NamespacedName)
		return r.remove(ctx, req.NamespacedName)
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("getting Service: %w", err)
	}
	if !endpoints.Selected(&service) {
		return r.remove(ctx, req.NamespacedName)
	}
	wanted, err := r.plan(ctx, &service, st)
	if err != nil || wanted == nil {
		return ctrl.Result{}, err
	}
	return r.write(ctx, &service, wanted, st)
}

// plan returns the object to write, or nil where none is.
func (r *Reconciler) plan(ctx context.Context, service *corev1.Service, st *state) (*corev1.Endpoints, error) {
	var list corev1.PodList
	err := r.Client.List(ctx, &list, client.InNamespace(service.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingLabelsSelector{Selector: labels.SelectorFromSet(service.Spec.Selector)})
	if err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
		st.trigger.Note(pods[i])
	}
	current, err := r.current(ctx, client.ObjectKeyFromObject(service))
	if err != nil {
		return nil, err
	}
	return endpoints.Classic(service, pods, current, st.trigger.Next(service)), nil
}

// current returns the Endpoints that are there, or nil. They belong to the cache.
func (r *Reconciler) current(ctx context.Context, key types.NamespacedName) (*corev1.Endpoints, error) {
	var current corev1.Endpoints
	err := r.Client.Get(ctx, key, &current, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting Endpoints: %w", err)
	}
	return &current, nil
}

// write creates or updates the object. There is one name and one resourceVersion, so that a plan made from a cache
// that was behind is refused, quietly, and made again.
func (r *Reconciler) write(ctx context.Context, service *corev1.Service, wanted *corev1.Endpoints, st *state) (ctrl.Result, error) {
	var err error
	if wanted.ResourceVersion == "" {
		err = r.Client.Create(ctx, wanted, client.FieldOwner(FieldManager))
	} else {
		err = r.Client.Update(ctx, wanted, client.FieldOwner(FieldManager))
	}
	switch {
	case err == nil:
		st.pace.Wrote(r.Clock.Now())
		st.failing = false
		log.FromContext(ctx).Info("Wrote Endpoints", "subsets", len(wanted.Subsets))
		return ctrl.Result{}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ctrl.Result{}, nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		return ctrl.Result{RequeueAfter: retryConflict}, nil
	}
	err = fmt.Errorf("writing Endpoints: %w", err)
	if !st.failing {
		r.Recorder.Eventf(service, nil, corev1.EventTypeWarning, EventFailed, actionWrite, "%s", err.Error())
	}
	st.failing = true
	return ctrl.Result{}, err
}

// remove deletes the Endpoints of a Service that is gone or has no selector any more, if a controller wrote them:
// mirroring would publish them again.
func (r *Reconciler) remove(ctx context.Context, key types.NamespacedName) (ctrl.Result, error) {
	current, err := r.current(ctx, key)
	if err != nil || current == nil || !endpoints.ClassicObsolete(current) {
		return ctrl.Result{}, err
	}
	err = r.Client.Delete(ctx, current.DeepCopy(), client.Preconditions{
		UID: ptr.To(current.UID), ResourceVersion: ptr.To(current.ResourceVersion),
	})
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: retryConflict}, nil
	case client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, fmt.Errorf("deleting Endpoints: %w", err)
	case err == nil:
		log.FromContext(ctx).Info("Deleted Endpoints")
	}
	return ctrl.Result{}, nil
}

func (r *Reconciler) state(key types.NamespacedName) *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.states[key]
	if st == nil {
		st = &state{pace: endpoints.Pace{Max: r.MaxBatchDelay}}
		r.states[key] = st
	}
	return st
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.states, key)
}
