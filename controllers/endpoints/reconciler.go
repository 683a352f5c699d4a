// Package endpoints keeps the classic Endpoints object of every Service that has a selector, from the same library as
// the EndpointSlices. The API is deprecated since Kubernetes 1.33; whoever reads no Endpoints turns the controller off.
//
// It does not write EndpointSlices, does not mirror, and runs in replace mode only.
package endpoints

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead/fairlead/controllers/selection"
	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
)

const (
	// Name is the controller's name.
	Name = "endpoints"
	// FieldManager owns what the controller writes.
	FieldManager = "fairlead-endpoints"
	// DefaultMaxBatchDelay is the default of Reconciler.MaxBatchDelay. Those who still read Endpoints can wait, and
	// each write is of the whole object.
	DefaultMaxBatchDelay = 3 * time.Second
	// EventFailed is the reason of an event on a Service whose Endpoints could not be written.
	EventFailed = "FailedToUpdateEndpoint"

	actionWrite        = "WriteEndpoints"
	defaultConcurrency = 5
	// additionsWait is how many times as long changes wait that only add addresses: nobody is sent to one that is gone
	// meanwhile, and a change that takes one away brings them along.
	additionsWait = 3
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
	// MaxBatchDelay is how long after a write of a Service its next one waits, for more to be written with it, and three
	// times as long if it only adds addresses to others; the first change after quiet never waits. 0:
	// DefaultMaxBatchDelay. Negative: never wait.
	MaxBatchDelay time.Duration
	// Concurrency is how many Services are worked on at once. 0: 5, as upstream.
	Concurrency int

	// Tracker tells which Pods a Service has, and may be shared with other controllers. Nil: one of its own.
	Tracker *selection.Tracker

	states *work.States[state]
	writer *work.Writer
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
	if r.Tracker == nil {
		r.Tracker = selection.New(selection.Options{})
	}
	var err error
	if r.writer, err = work.NewWriter(mgr, corev1.SchemeGroupVersion.WithResource("endpoints"), FieldManager); err != nil {
		return err
	}
	r.states = work.NewStates(func() *state { return &state{pace: endpoints.Pace{Max: r.MaxBatchDelay}} })
	return ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		WatchesRawSource(r.Tracker.Source(mgr.GetCache(), r.mark)).
		Watches(&corev1.Endpoints{}, r.endpointsHandler()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Concurrency,
			UsePriorityQueue:        new(false), // It costs more, and nothing here goes before anything else.
			RateLimiter:             work.RateLimiter(),
		}).
		Complete(r)
}

// +kubebuilder:rbac:groups="",resources=services;pods;nodes,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=endpoints,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes the Endpoints of one Service what they should be.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if r.Coexist {
		return ctrl.Result{}, nil
	}
	st := r.states.Get(req.NamespacedName)
	now := r.Clock.Now()
	if wait := max(st.pace.Wait(now), st.backoff.Wait(now, st.inbox.news())); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	res, err := r.reconcile(ctx, req, st)
	st.backoff.Note(r.Clock.Now(), err)
	return res, err
}

// reconcile is a pass that has not to wait.
func (r *Reconciler) reconcile(ctx context.Context, req ctrl.Request, st *state) (ctrl.Result, error) {
	st.inbox.take()
	service := r.Tracker.Service(req.NamespacedName)
	if service == nil || !endpoints.Selected(service) {
		r.states.Forget(req.NamespacedName)
		return r.remove(ctx, req.NamespacedName)
	}
	current, err := r.current(ctx, req.NamespacedName, st)
	if err != nil {
		return ctrl.Result{}, err
	}
	wanted, wait := r.plan(service, current, st)
	if wanted != nil {
		return r.write(ctx, service, wanted, st)
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// plan returns the object to write, or nil where none is; wait is how long the one that there is can wait.
func (r *Reconciler) plan(service *corev1.Service, current *corev1.Endpoints, st *state) (wanted *corev1.Endpoints, wait time.Duration) {
	pods := r.Tracker.Pods(client.ObjectKeyFromObject(service))
	st.trigger.Only(pods)
	for _, pod := range pods {
		st.trigger.Note(pod)
	}
	wanted = endpoints.Classic(service, pods, current, time.Time{})
	if wanted != nil && endpoints.ClassicAdds(current, wanted) {
		if wait = st.pace.After(r.Clock.Now(), additionsWait*r.MaxBatchDelay); wait > 0 {
			return nil, wait
		}
	}
	trigger := st.trigger.Next(service)
	if wanted != nil {
		endpoints.SetTrigger(&wanted.ObjectMeta, trigger)
	}
	return wanted, 0
}

// current returns the Endpoints that are there, or nil: those in the cache, or what was written if the cache is behind
// it. They must not be changed.
func (r *Reconciler) current(ctx context.Context, key types.NamespacedName, st *state) (*corev1.Endpoints, error) {
	if written := st.inbox.unseen(); written != nil {
		return written, nil
	}
	return r.cached(ctx, key)
}

func (r *Reconciler) cached(ctx context.Context, key types.NamespacedName) (*corev1.Endpoints, error) {
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
		err = r.writer.Create(ctx, wanted)
	} else {
		err = r.writer.Update(ctx, wanted)
	}
	switch {
	case err == nil:
		st.pace.Wrote(r.Clock.Now(), 1)
		st.failing = false
		st.inbox.wrote(wanted)
		log.FromContext(ctx).Info("Wrote Endpoints", "subsets", len(wanted.Subsets))
		return ctrl.Result{}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ctrl.Result{}, nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		st.inbox.refused()
		return ctrl.Result{RequeueAfter: work.RetryConflict}, nil
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
	current, err := r.cached(ctx, key)
	if err != nil || current == nil || !endpoints.ClassicObsolete(current) {
		return ctrl.Result{}, err
	}
	err = r.Client.Delete(ctx, current.DeepCopy(), client.Preconditions{
		UID: ptr.To(current.UID), ResourceVersion: ptr.To(current.ResourceVersion),
	})
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: work.RetryConflict}, nil
	case client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, fmt.Errorf("deleting Endpoints: %w", err)
	case err == nil:
		log.FromContext(ctx).Info("Deleted Endpoints")
	}
	return ctrl.Result{}, nil
}
