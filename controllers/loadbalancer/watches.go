package loadbalancer

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// Delays between two attempts of one Service after errors.
const (
	minRetry = time.Second
	maxRetry = 5 * time.Minute
)

// The controllers of this package, beside the one of Services.
const (
	controllerClass = "loadbalancerclass"
	controllerSweep = "loadbalancer-sweep"
	controllerNodes = "loadbalancer-nodes"
	controllerGates = "loadbalancer-gates"
)

// SetupWithManager adds the controllers to mgr: of Services, of classes, of nodes, of readiness gates, and the sweeps.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Providers == nil || r.ClusterID == "" {
		return errors.New("the controller needs Providers and a ClusterID")
	}
	if r.Client == nil {
		r.Client = mgr.GetClient()
	}
	if r.APIReader == nil {
		r.APIReader = mgr.GetAPIReader()
	}
	if r.Recorder == nil {
		r.Recorder = mgr.GetEventRecorder(FieldManager)
	}
	r.prepare()
	r.follower.informers = mgr.GetCache()
	if r.InjectGates {
		mgr.GetWebhookServer().Register(WebhookPath, &webhook.Admission{Handler: injector{r}})
	}
	var services, nodes, sweep, gates waker
	r.wake = func(name types.NamespacedName, p priority) { services.add(ctrl.Request{NamespacedName: name}, p, 0) }
	r.wakeNodes = func() {
		for _, request := range r.allProviders(context.Background(), nil) {
			nodes.add(request, priorityNormal, 0)
		}
	}
	r.wakeSweep = func(provider string, after time.Duration) { sweep.add(named("", provider), priorityNormal, after) }
	r.wakeGates = func(service types.NamespacedName) {
		gates.add(ctrl.Request{NamespacedName: service}, priorityNormal, 0)
	}
	if r.DefaultProvider != "" && !r.Coexist {
		r.sweepOnce(r.DefaultProvider) // what Services had may be there still
	}
	return errors.Join(
		mgr.Add(manager.RunnableFunc(r.countServices)),
		ctrl.NewControllerManagedBy(mgr).Named("loadbalancer").WatchesRawSource(&services).
			Watches(&corev1.Service{}, serviceHandler()).
			Watches(&v1alpha1.LoadBalancerRecord{}, r.recordHandler()).
			Watches(&v1alpha1.LoadBalancerClass{}, handler.EnqueueRequestsFromMapFunc(r.allServices),
				builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			WithOptions(options(r.Concurrency)).Complete(r),
		ctrl.NewControllerManagedBy(mgr).Named(controllerClass).
			Watches(&v1alpha1.LoadBalancerClass{}, handler.EnqueueRequestsFromMapFunc(allClasses), builder.WithPredicates(
				predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
			Complete(&classReconciler{client: r.Client, providers: r.Providers, sweep: r.sweep}),
		ctrl.NewControllerManagedBy(mgr).Named(controllerNodes).WatchesRawSource(&nodes).
			Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.allProviders), builder.WithPredicates(predicate.Funcs{UpdateFunc: nodeChanged})).
			WithOptions(options(r.Concurrency)).Complete(&nodeReconciler{Reconciler: r}),
		ctrl.NewControllerManagedBy(mgr).Named(controllerSweep).WatchesRawSource(&sweep).
			WithOptions(options(r.Concurrency)).Complete(&sweepReconciler{r}),
		ctrl.NewControllerManagedBy(mgr).Named(controllerGates).WatchesRawSource(&gates).
			WithOptions(options(r.Concurrency)).Complete(&gateReconciler{Reconciler: r}),
	)
}

func options(workers int) controller.Options {
	return controller.Options{MaxConcurrentReconciles: workers,
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minRetry, maxRetry)}
}

// prepare sets what a Reconciler needs before its first pass.
func (r *Reconciler) prepare() {
	if r.Concurrency == 0 {
		r.Concurrency = 4
	}
	if r.Resync == 0 {
		r.Resync = 10 * time.Minute
	}
	if r.OrphanGrace == 0 {
		r.OrphanGrace = 10 * time.Minute
	}
	r.ledger, r.sweeps = newLedger(), newSweeps()
}

func named(namespace, name string) ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// priority in a controller's queue: what holds people up goes first, what only might have something to do last.
type priority int

const (
	priorityLow    priority = handler.LowPriority
	priorityNormal priority = 0
	priorityHigh   priority = 100
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func enqueue(q queue, request ctrl.Request, p priority, after time.Duration) {
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		pq.AddWithOpts(priorityqueue.AddOpts{Priority: new(int(p)), After: after}, request)
		return
	}
	q.AddAfter(request, after)
}

// waker is a source of events that puts into its controller's queue what it is told to.
type waker struct {
	mu    sync.Mutex
	queue queue
	early []func() // told before the controller started
}

// Start implements source.Source.
func (w *waker) Start(_ context.Context, q queue) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = q
	for _, add := range w.early {
		add()
	}
	w.early = nil
	return nil
}

func (w *waker) add(request ctrl.Request, p priority, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	add := func() { enqueue(w.queue, request, p, after) }
	if w.queue == nil {
		w.early = append(w.early, add)
		return
	}
	add()
}

// serviceHandler wakes Services. Those that are to lose their balancer go first, those that were there when the manager
// started last.
func serviceHandler() handler.EventHandler {
	add := func(q queue, object client.Object, otherwise priority) {
		svc, ok := object.(*corev1.Service)
		if !ok {
			return
		}
		p := otherwise
		if hasFinalizer(svc) && (svc.DeletionTimestamp != nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer) {
			p = priorityHigh
		}
		enqueue(q, named(svc.Namespace, svc.Name), p, 0)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(q, e.Object, atStart(e)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if serviceChanged(e) {
				add(q, e.ObjectNew, priorityNormal)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { add(q, e.Object, priorityNormal) },
	}
}

func atStart(e event.CreateEvent) priority {
	if e.IsInInitialList {
		return priorityLow
	}
	return priorityNormal
}

// recordHandler wakes the Service of a record that is there at the start, when it may be all that is left of the
// Service, and of one that somebody else edited or deleted.
func (r *Reconciler) recordHandler() handler.EventHandler {
	add := func(q queue, record client.Object, p priority) {
		enqueue(q, named(record.GetNamespace(), record.GetName()), p, 0)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(q, e.Object, atStart(e)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			old, record := e.ObjectOld.(*v1alpha1.LoadBalancerRecord), e.ObjectNew.(*v1alpha1.LoadBalancerRecord)
			uid := cmp.Or(old.Status.ServiceUID, record.Status.ServiceUID)
			// An event of ours that is faster than the answer to our write costs a pass that finds nothing to do.
			if last, ok := r.last.Load(uid); (!ok || last.(*written).before(record)) && edited(old, record) {
				add(q, record, priorityNormal)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			uid := e.Object.(*v1alpha1.LoadBalancerRecord).Status.ServiceUID
			r.last.Delete(uid)
			r.gone.Delete(uid)
			add(q, e.Object, priorityNormal)
		},
	}
}

// edited reports whether anything differs that a pass writes. What Memory keeps does not count.
func edited(a, b *v1alpha1.LoadBalancerRecord) bool {
	return !equality.Semantic.DeepEqual(a.Status, b.Status) || !equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences)
}

// allServices returns every Service of the type, and those that left it and are still held.
func (r *Reconciler) allServices(ctx context.Context, _ client.Object) []ctrl.Request {
	var services corev1.ServiceList
	if err := r.Client.List(ctx, &services); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Failed to list Services")
		return nil
	}
	var requests []ctrl.Request
	for i := range services.Items {
		if svc := &services.Items[i]; svc.Spec.Type == corev1.ServiceTypeLoadBalancer || hasFinalizer(svc) {
			requests = append(requests, named(services.Items[i].Namespace, services.Items[i].Name))
		}
	}
	return requests
}

// allProviders returns the providers that serve Services.
func (r *Reconciler) allProviders(context.Context, client.Object) []ctrl.Request {
	var requests []ctrl.Request
	for _, name := range r.ledger.providers() {
		requests = append(requests, named("", name))
	}
	return requests
}

// allClasses is the one request for all classes, which are judged together.
func allClasses(context.Context, client.Object) []ctrl.Request {
	return []ctrl.Request{named("", "all")}
}

// serviceChanged leaves out what we write ourselves.
func serviceChanged(e event.UpdateEvent) bool {
	a, ok := e.ObjectOld.(*corev1.Service)
	b, ok2 := e.ObjectNew.(*corev1.Service)
	if !ok || !ok2 {
		return false
	}
	return a.UID != b.UID || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		hasFinalizer(a) && !hasFinalizer(b) || hasCondition(a) && !hasCondition(b) ||
		!equality.Semantic.DeepEqual(a.Spec, b.Spec) || annotationsChanged(a.Annotations, b.Annotations) ||
		lost(a.Status.LoadBalancer.Ingress, b.Status.LoadBalancer.Ingress)
}

// annotationsChanged leaves out that a Service got our mark; somebody may have taken it off.
func annotationsChanged(before, after map[string]string) bool {
	if before[v1alpha1.AnnotationServedBy] == "" {
		after = maps.Clone(after)
		delete(after, v1alpha1.AnnotationServedBy)
	}
	return !maps.Equal(before, after)
}

// lost reports whether an address that was published is so no more.
func lost(before, after []corev1.LoadBalancerIngress) bool {
	return slices.ContainsFunc(before, func(in corev1.LoadBalancerIngress) bool {
		return !slices.ContainsFunc(after, func(other corev1.LoadBalancerIngress) bool {
			return equality.Semantic.DeepEqual(in, other)
		})
	})
}

func nodeChanged(e event.UpdateEvent) bool {
	a, ok := e.ObjectOld.(*corev1.Node)
	b, ok2 := e.ObjectNew.(*corev1.Node)
	return ok && ok2 && !cloud.SameForBalancers(a, b)
}
