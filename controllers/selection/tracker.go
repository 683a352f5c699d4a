// Package selection follows Services, Pods and Nodes and tells controllers which Services have to look at which of
// their Pods again. All of them share one endpoints.Index, so that each event is worked out once.
//
// It is no controller: it reconciles nothing, writes nothing and decides nothing. What a Pod means for a Service is
// decided in endpoints/, what is to be written by the controllers that subscribe.
package selection

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/endpoints"
)

// retryFill is when the caches of Pods and Nodes are asked for again where that failed.
const retryFill = time.Second

// Mark notes, for one controller, that a Service has to look at one of its Pods again or, where pod is empty, at
// itself and all of them. It is called from the caches' event handlers, several at a time, and must not block. It
// says whether the Service has to be queued: false where it is waiting already for a pass that will see the mark.
type Mark func(service types.NamespacedName, pod string) (wake bool)

// Tracker follows Services, Pods and Nodes. Make one with New; its methods are safe for concurrent use.
//
// What it hands out belongs to the cache and must not be changed. It is never older than a mark that came before.
type Tracker struct {
	// ignoreSelectors: the selectors of Services count for nothing, those of PutSelectors alone do.
	ignoreSelectors    bool
	serviceAnnotations []string
	index              *endpoints.Index

	mu          sync.RWMutex
	services    map[types.NamespacedName]*corev1.Service
	subscribers []*subscription
	// marking: all Services are known. Complete: so are Pods and Nodes.
	marking, complete bool

	start sync.Once
	// synced is closed once all is known that is followed from the start, or failed is set.
	synced chan struct{}
	failed error
	// wanted is closed once Pods are wanted.
	want   sync.Once
	wanted chan struct{}
}

// Options say what a Tracker follows.
type Options struct {
	// IgnoreSelectors leaves Services with a selector to someone else: they have no Pods here. Then Pods and Nodes are
	// not followed before Follow says so: a cache of all Pods is too much to hold for nothing.
	IgnoreSelectors bool
	// Annotations are the keys of the annotations of Pods that endpoints are made from, ServiceAnnotations those of Services.
	Annotations, ServiceAnnotations []string
}

// New returns a Tracker that follows nothing before its first subscriber's source is started.
func New(opts Options) *Tracker {
	return &Tracker{
		ignoreSelectors:    opts.IgnoreSelectors,
		serviceAnnotations: opts.ServiceAnnotations,
		index:              endpoints.NewIndex(opts.Annotations...),
		services:           map[types.NamespacedName]*corev1.Service{},
		synced:             make(chan struct{}),
		wanted:             make(chan struct{}),
	}
}

// Source subscribes a controller: Start gives it the queue, and it has synced once all Services, Pods and Nodes that
// there are have been seen, or the Services alone where Pods wait for Follow. Then, or at once where that has been
// before, every Service is marked.
func (t *Tracker) Source(informers cache.Informers, mark Mark) source.SyncingSource {
	return &subscription{tracker: t, informers: informers, mark: mark}
}

// Service returns a Service, or nil. Unlike one from the cache it is never newer than what Pods and Pod answer.
func (t *Tracker) Service(key types.NamespacedName) *corev1.Service {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.services[key]
}

// Pods returns the Pods of a Service, sorted by name.
func (t *Tracker) Pods(service types.NamespacedName) []*corev1.Pod { return t.index.Pods(service) }

// Pod returns one of the Pods of a Service, or nil where it is none, or none any more.
func (t *Tracker) Pod(service types.NamespacedName, name string) *corev1.Pod {
	return t.index.Pod(service, name)
}

// Zone returns what is known of a node.
func (t *Tracker) Zone(node string) endpoints.Zone { return t.index.Zone(node) }

// Follow says that Pods are wanted, and whether they and the Nodes are known: until then every Service seems to have no
// Pods. Once they are, every Service is marked.
func (t *Tracker) Follow() (known bool) {
	t.want.Do(func() { close(t.wanted) })
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.complete
}

// PutSelectors gives a Service that has no selector of its own the Pods which any of these match; nil takes them away.
// It marks the Service.
func (t *Tracker) PutSelectors(service types.NamespacedName, selectors []labels.Selector) {
	t.index.PutSelectors(service, selectors)
	t.mark(service, "")
}

// mark tells all subscribers.
func (t *Tracker) mark(service types.NamespacedName, pod string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.marking {
		return
	}
	for _, s := range t.subscribers {
		s.tell(service, pod)
	}
}

// subscribe adds a subscriber. One that comes late is told of all Services.
func (t *Tracker) subscribe(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribers = append(t.subscribers, s)
	if t.marking {
		t.tellAll(s)
	}
}

func (t *Tracker) tellAll(s *subscription) {
	for key := range t.services {
		s.tell(key, "")
	}
}

// caches are what is followed, as errors name it.
const caches = "the caches of Services, Pods and Nodes"

// follow follows Services, Pods and Nodes: all at once, or Pods and Nodes once they are wanted.
func (t *Tracker) follow(ctx context.Context, informers cache.Informers) {
	first := []work.Followed{
		{Object: &corev1.Service{}, Handler: t.serviceHandler()},
		{Object: &corev1.Pod{}, Handler: t.podHandler()},
		{Object: &corev1.Node{}, Handler: t.nodeHandler()},
	}
	var rest []work.Followed
	if t.ignoreSelectors {
		first, rest = first[:1], first[1:]
	}
	if t.failed = work.Fill(ctx, informers, caches, first...); t.failed == nil {
		t.begin(!t.ignoreSelectors)
	}
	close(t.synced)
	if t.failed != nil || !t.ignoreSelectors {
		return
	}
	select {
	case <-t.wanted:
	case <-ctx.Done():
		return
	}
	// Nobody waits for this who could be told of a failure, as one to reach the API server is.
	for work.Fill(ctx, informers, caches, rest...) != nil {
		select {
		case <-time.After(retryFill):
		case <-ctx.Done():
			return
		}
	}
	t.begin(true)
}

// begin marks every Service, and from now on whatever changes. Complete: Pods and Nodes are known.
func (t *Tracker) begin(complete bool) {
	if complete {
		t.index.Seed()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marking, t.complete = true, complete
	for _, s := range t.subscribers {
		t.tellAll(s)
	}
}

func (t *Tracker) serviceHandler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { t.putService(nil, obj.(*corev1.Service)) },
		UpdateFunc: func(oldObj, obj any) {
			t.putService(oldObj.(*corev1.Service), obj.(*corev1.Service))
		},
		DeleteFunc: func(obj any) {
			service, ok := work.Deleted[*corev1.Service](obj)
			if !ok {
				return
			}
			key := client.ObjectKeyFromObject(service)
			t.index.DeleteService(key)
			t.mu.Lock()
			delete(t.services, key)
			t.mu.Unlock()
			t.mark(key, "")
		},
	}
}

// putService takes over the state of a Service. Old is nil for a new one. The index comes first: a pass in between
// sees Pods of the new selector under the old Service, one by one, and the mark makes it look at all of them.
func (t *Tracker) putService(old, service *corev1.Service) {
	key := client.ObjectKeyFromObject(service)
	if !t.ignoreSelectors || !endpoints.Selected(service) {
		t.index.PutService(service)
	} else {
		t.index.DeleteService(key)
	}
	t.mu.Lock()
	t.services[key] = service
	t.mu.Unlock()
	if old == nil || t.relevant(old, service) {
		t.mark(key, "")
	}
}

// relevant says whether a change of a Service concerns its endpoints. Its status does not, but for the conditions, of
// which some are the controllers' to repair.
func (t *Tracker) relevant(old, service *corev1.Service) bool {
	if old.ResourceVersion == service.ResourceVersion {
		return false
	}
	return old.UID != service.UID || !maps.Equal(old.Labels, service.Labels) ||
		slices.ContainsFunc(t.serviceAnnotations, func(key string) bool { return old.Annotations[key] != service.Annotations[key] }) ||
		(old.DeletionTimestamp == nil) != (service.DeletionTimestamp == nil) ||
		!apiequality.Semantic.DeepEqual(old.Spec, service.Spec) ||
		!apiequality.Semantic.DeepEqual(old.Status.Conditions, service.Status.Conditions)
}

func (t *Tracker) podHandler() toolscache.ResourceEventHandler {
	put := func(obj any) {
		pod := obj.(*corev1.Pod)
		t.markAll(pod, t.index.PutPod(pod))
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    put,
		UpdateFunc: func(_, obj any) { put(obj) },
		DeleteFunc: func(obj any) {
			if pod, ok := work.Deleted[*corev1.Pod](obj); ok {
				t.markAll(pod, t.index.DeletePod(client.ObjectKeyFromObject(pod)))
			}
		},
	}
}

func (t *Tracker) markAll(pod *corev1.Pod, services []string) {
	for _, name := range services {
		t.mark(types.NamespacedName{Namespace: pod.Namespace, Name: name}, pod.Name)
	}
}

func (t *Tracker) nodeHandler() toolscache.ResourceEventHandler {
	put := func(obj any) {
		for _, c := range t.index.PutNode(obj.(*corev1.Node)) {
			t.mark(c.Service, c.Pod)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    put,
		UpdateFunc: func(_, obj any) { put(obj) },
		DeleteFunc: func(obj any) {
			if node, ok := work.Deleted[*corev1.Node](obj); ok {
				t.index.DeleteNode(node.Name)
			}
		},
	}
}

// subscription is the source of one controller.
type subscription struct {
	tracker   *Tracker
	informers cache.Informers
	mark      Mark
	queue     workqueue.TypedRateLimitingInterface[reconcile.Request]
}

var _ source.SyncingSource = (*subscription)(nil)

// Start subscribes; the first subscriber of a Tracker makes it follow.
func (s *subscription) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	s.queue = queue
	s.tracker.subscribe(s)
	s.tracker.start.Do(func() { go s.tracker.follow(ctx, s.informers) })
	return nil
}

// WaitForSync waits until every Service that there is has been marked.
func (s *subscription) WaitForSync(ctx context.Context) error {
	return work.WaitForSync(ctx, s.tracker.synced, &s.tracker.failed, caches)
}

// String names the source in logs.
func (s *subscription) String() string { return "selection" }

func (s *subscription) tell(service types.NamespacedName, pod string) {
	if s.mark(service, pod) {
		s.queue.Add(reconcile.Request{NamespacedName: service})
	}
}
