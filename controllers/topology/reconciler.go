// Package topology follows the capacities of zones, says on Services what their topology hints come to, and in coexist
// mode writes the hints onto the EndpointSlices of kube-controller-manager and keeps them there by a webhook.
//
// It decides nothing: which endpoint serves which zone is the library topology's. In replace mode it writes no slices:
// the controller endpointslice does that, hints and all, and reports here.
package topology

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
	"github.com/fairlead/fairlead/topology"
)

const (
	// Name is the controller's name.
	Name = "topology"
	// FieldManager owns what the controller writes, and tells the webhook whose write it is.
	FieldManager = "fairlead-topology"

	// upstream marks the slices that kube-controller-manager writes.
	upstream = "endpointslice-controller.k8s.io"
	// maxPause is the longest pause between two passes that write hints of one Service.
	maxPause = time.Second
)

// Reconciler explains the hints of Services and, in coexist mode, writes them.
type Reconciler struct {
	*Zones
	// Client reads from the manager's cache and writes to the API server. SetupWithManager sets it where it is nil.
	Client client.Client
	// Recorder gets the events on Services. SetupWithManager sets it where it is nil.
	Recorder events.EventRecorder
	// Clock tells the time of conditions and of pauses. Nil: the real one.
	Clock clock.PassiveClock
	// Coexist says that kube-controller-manager writes the slices of Services with a selector.
	Coexist bool

	states *work.States[state]

	mu      sync.Mutex
	reports map[types.NamespacedName]topology.Report
	// queue is set once the controller runs.
	queue work.Queue
}

// state is what is remembered of one Service between passes. Losing it costs a full pass and nothing else.
type state struct {
	// written is the condition that was last applied while the cache had the Service at writtenAt, nil where it was taken
	// off. It stands for what the cache does not show yet.
	written   *verdict
	writtenAt string
	// counted is the reason that the Service is counted under.
	counted string
	beside  beside
}

// New returns a reconciler that other controllers can be told of before it is set up.
func New(coexist bool) *Reconciler {
	return &Reconciler{
		Zones: NewZones(), Coexist: coexist,
		reports: map[types.NamespacedName]topology.Report{},
		states: work.NewStates(func() *state {
			return &state{beside: beside{pace: endpoints.Pace{Max: maxPause, Full: 1}}}
		}),
	}
}

// SetupWithManager adds the controller, named topology, to mgr.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Client == nil {
		r.Client = mgr.GetClient()
	}
	if r.Recorder == nil {
		r.Recorder = mgr.GetEventRecorder(FieldManager)
	}
	if r.Clock == nil {
		r.Clock = clock.RealClock{}
	}
	if err := addFieldIndex(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	build := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&corev1.Service{}, builder.WithPredicates(predicate.NewPredicateFuncs(r.concerns))).
		WatchesRawSource(r.Source(mgr.GetCache(), r.capacitiesChanged)).
		WatchesRawSource(listening{r})
	if r.Coexist {
		build.Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(serviceOf),
			builder.WithPredicates(predicate.NewPredicateFuncs(func(object client.Object) bool {
				return guarded(object.(*discoveryv1.EndpointSlice))
			})))
		mgr.GetWebhookServer().Register(WebhookPath, &webhook.Admission{Handler: &hook{siblings: r.slicesOf}})
	}
	return build.WithOptions(controller.Options{RateLimiter: work.RateLimiter()}).Complete(r)
}

// concerns says whether a Service has, or has had, anything to do with topology modes.
func (r *Reconciler) concerns(object client.Object) bool {
	service := object.(*corev1.Service)
	annotations := service.Annotations
	return annotations[corev1.AnnotationTopologyMode] != "" || annotations[corev1.DeprecatedAnnotationTopologyAwareHints] != "" ||
		labelled(service) || meta.FindStatusCondition(service.Status.Conditions, v1alpha1.ConditionTopologyHints) != nil ||
		r.states.Find(client.ObjectKeyFromObject(service)) != nil
}

func labelled(service *corev1.Service) bool {
	return service.Labels[v1alpha1.LabelTopologyHints] == "true"
}

func serviceOf(_ context.Context, object client.Object) []ctrl.Request {
	name := object.GetLabels()[discoveryv1.LabelServiceName]
	return []ctrl.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// capacitiesChanged wakes the Services whose hints are written here.
func (r *Reconciler) capacitiesChanged(q work.Queue) {
	if !r.Coexist {
		return
	}
	r.states.Each(func(key types.NamespacedName, _ *state) { q.Add(ctrl.Request{NamespacedName: key}) })
}

// +kubebuilder:rbac:groups="",resources=services;nodes,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch;update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes the hints of one Service, where they are written here, and its condition what they should be.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	service := &corev1.Service{}
	if err := r.Client.Get(ctx, req.NamespacedName, service, client.UnsafeDisableDeepCopy); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading the Service: %w", err)
	}
	st := r.states.Get(req.NamespacedName)
	policy, wrong := topology.Parse(service)
	if wrong != nil {
		policy = topology.None
	}
	var again time.Duration
	if r.Coexist && endpoints.Selected(service) && labelled(service) {
		var err error
		if again, err = r.writeHints(ctx, service, st, policy); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.explain(ctx, service, st, policy, wrong); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

func (r *Reconciler) forget(key types.NamespacedName) {
	if st := r.states.Find(key); st != nil {
		countReason(st.counted, "")
		r.states.Forget(key)
	}
	r.report(key, nil)
}

// indexByService is the name of the cache's index. It begins with the controller's, since all controllers share one cache.
const indexByService = "topology/service"

func addFieldIndex(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &discoveryv1.EndpointSlice{}, indexByService, func(object client.Object) []string {
		if slice := object.(*discoveryv1.EndpointSlice); guarded(slice) {
			return []string{slice.Labels[discoveryv1.LabelServiceName]}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing EndpointSlices by Service: %w", err)
	}
	return nil
}

// slicesOf returns the slices of a Service whose hints are written here, sorted by name. They belong to the cache.
func (r *Reconciler) slicesOf(ctx context.Context, namespace, service string) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := r.Client.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{indexByService: service}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	var all []*discoveryv1.EndpointSlice
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			all = append(all, &list.Items[i])
		}
	}
	slices.SortFunc(all, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
