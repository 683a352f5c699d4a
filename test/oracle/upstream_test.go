package oracle

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	upstreamutil "k8s.io/endpointslice/util"
)

// managedBy is what both write: a takeover must not change it.
const managedBy = "endpointslice-controller.k8s.io"

// upstream drives k8s.io/endpointslice as kube-controller-manager does: the same triggers, selection and trackers, but
// at once instead of after a while, and with caches that are never behind.
type upstream struct {
	t        testing.TB
	cluster  *cluster
	store    *store
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	indexers [2]cache.Indexer // Services, Nodes

	reconciler *endpointslice.Reconciler
	tracker    *upstreamutil.EndpointSliceTracker
	triggers   *upstreamutil.TriggerTimeTracker

	queue map[types.NamespacedName]bool
	// retry are the Services whose last pass said that it has to be made again, since a Node is missing.
	retry map[types.NamespacedName]bool
	// helped says whether upstream is told of what it does not look at: see differences.
	helped func(name string) bool
}

func newUpstream(t testing.TB, c *cluster, limit int) *upstream {
	newIndexer := func() cache.Indexer {
		return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	}
	u := &upstream{
		t: t, cluster: c, store: newStore(limit), indexers: [2]cache.Indexer{newIndexer(), newIndexer()},
		tracker: upstreamutil.NewEndpointSliceTracker(), triggers: upstreamutil.NewTriggerTimeTracker(),
		queue: map[types.NamespacedName]bool{}, retry: map[types.NamespacedName]bool{},
		helped: func(string) bool { return true },
	}
	u.services, u.nodes = corelisters.NewServiceLister(u.indexers[0]), corelisters.NewNodeLister(u.indexers[1])
	u.store.watch = u.slice
	u.reconciler = endpointslice.NewReconciler(client{store: u.store}, u.nodes, int32(limit), u.tracker,
		topologycache.NewTopologyCache(), &record.FakeRecorder{}, managedBy, endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	c.observers = append(c.observers, u)
	return u
}

func (u *upstream) service(old, now *corev1.Service) {
	if now == nil {
		_ = u.indexers[0].Delete(old)
		u.queue[keyOf(old)] = true
		return
	}
	_ = u.indexers[0].Add(now)
	u.queue[keyOf(now)] = true
}

func (u *upstream) pod(old, now *corev1.Pod) {
	var oldObject, newObject any
	if old != nil {
		oldObject = old
	}
	if now != nil {
		newObject = now
	}
	concerned, err := upstreamutil.GetServicesToUpdate(u.services, upstreamutil.GetPodUpdateProjectionKey(oldObject, newObject))
	if err != nil {
		u.t.Fatal(err)
	}
	for key := range concerned {
		namespace, name, _ := cache.SplitMetaNamespaceKey(key)
		u.queue[types.NamespacedName{Namespace: namespace, Name: name}] = true
	}
	for _, d := range differences {
		if d.pod != nil && old != nil && now != nil && d.pod(old, now) && u.helped(d.name) {
			u.wake(now)
		}
	}
}

// wake makes upstream look again at the Services of a Pod.
func (u *upstream) wake(pod *corev1.Pod) {
	for key, service := range u.cluster.services {
		if key.Namespace == pod.Namespace && service.Spec.Selector != nil && labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			u.queue[key] = true
		}
	}
}

func (u *upstream) node(old, now *corev1.Node) {
	name := ""
	if now == nil {
		name = old.Name
		_ = u.indexers[1].Delete(old)
	} else {
		name = now.Name
		_ = u.indexers[1].Add(now)
	}
	for _, d := range differences {
		if d.node == nil || !d.node(old, now) || !u.helped(d.name) {
			continue
		}
		for _, pod := range u.cluster.pods {
			if pod.Spec.NodeName == name {
				u.wake(pod)
			}
		}
	}
}

// slice is what upstream makes of a change of a slice.
func (u *upstream) slice(old, now *discoveryv1.EndpointSlice) {
	service := func(slice *discoveryv1.EndpointSlice) types.NamespacedName {
		return types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
	}
	switch {
	case now == nil:
		if u.reconciler.ManagedByController(old) && u.tracker.Has(old) && !u.tracker.HandleDeletion(old) {
			u.queue[service(old)] = true
		}
	case old != nil && service(old) != service(now):
		u.queue[service(old)], u.queue[service(now)] = true, true
	case old != nil && u.reconciler.ManagedByChanged(old, now), u.reconciler.ManagedByController(now) && u.tracker.ShouldSync(now):
		u.queue[service(now)] = true
	}
}

// settle works until nothing is left to do.
func (u *upstream) settle() {
	for key := range u.retry {
		u.queue[key] = true
	}
	clear(u.retry)
	for range 50 {
		if len(u.queue) == 0 && !u.sweep() {
			return
		}
		work := sortedKeys(u.queue)
		clear(u.queue)
		for _, key := range work {
			u.sync(key)
		}
	}
	u.t.Fatalf("upstream does not come to an end: %v", u.queue)
}

// sweep deletes slices that upstream leaves as they are, and says whether there were any.
func (u *upstream) sweep() bool {
	for _, d := range differences {
		if d.slice == nil || !u.helped(d.name) {
			continue
		}
		for key, service := range u.cluster.services {
			for _, slice := range u.store.of(key, managedBy) {
				if selected(service) && service.DeletionTimestamp == nil && d.slice(service, slice) {
					u.queue[key] = true
					_ = u.store.remove(keyOf(slice), "")
				}
			}
		}
	}
	return len(u.queue) > 0
}

// selected says whether upstream looks after a Service.
func selected(service *corev1.Service) bool {
	return service.Spec.Type != corev1.ServiceTypeExternalName && service.Spec.Selector != nil
}

func (u *upstream) sync(key types.NamespacedName) {
	service, err := u.services.Services(key.Namespace).Get(key.Name)
	if err != nil { // it is gone
		u.triggers.DeleteService(key.Namespace, key.Name)
		u.reconciler.DeleteService(key.Namespace, key.Name)
		u.tracker.DeleteService(key.Namespace, key.Name)
		return
	}
	if !selected(service) {
		return
	}
	existing := u.store.of(key, managedBy)
	if u.tracker.StaleSlices(service, existing) {
		u.retry[key] = true
		return
	}
	pods := podsOf(u.cluster, service)
	defer func() { u.store.passed[key] = true }()
	trigger := u.triggers.ComputeEndpointLastChangeTriggerTime(key.Namespace, service, pods)
	if err := u.reconciler.Reconcile(logr.Discard(), service, pods, existing, trigger); err != nil {
		for line := range strings.SplitSeq(strings.Trim(err.Error(), "[]"), ", skipping") {
			if !strings.Contains(line, "Not Found") {
				u.t.Fatalf("upstream: %v", err)
			}
		}
		u.retry[key] = true
	}
}

// ideal returns the slices that upstream would make if there were none and the Service were to stay.
func (u *upstream) ideal(service *corev1.Service) []*discoveryv1.EndpointSlice {
	service = service.DeepCopy()
	service.DeletionTimestamp = nil
	s := newStore(1000)
	reconciler := endpointslice.NewReconciler(client{store: s}, u.nodes, 1000, upstreamutil.NewEndpointSliceTracker(),
		nil, &record.FakeRecorder{}, managedBy, endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	_ = reconciler.Reconcile(logr.Discard(), service, podsOf(u.cluster, service), nil, time.Time{}) // it tells of missing Nodes
	return s.of(keyOf(service), managedBy)
}

// podsOf returns the Pods that a Service selects, in some order.
func podsOf(c *cluster, service *corev1.Service) []*corev1.Pod {
	selector := labels.SelectorFromSet(service.Spec.Selector)
	var pods []*corev1.Pod
	for _, key := range sortedKeys(c.pods) {
		if key.Namespace == service.Namespace && selector.Matches(labels.Set(c.pods[key].Labels)) {
			pods = append(pods, c.pods[key])
		}
	}
	return pods
}

// client gives upstream's code the store, and nothing else: what is missing here must not be called.
type client struct {
	kubernetes.Interface
	store *store
}

func (c client) DiscoveryV1() discoveryclient.DiscoveryV1Interface { return discovery{store: c.store} }

type discovery struct {
	discoveryclient.DiscoveryV1Interface
	store *store
}

func (d discovery) EndpointSlices(namespace string) discoveryclient.EndpointSliceInterface {
	return sliceClient{store: d.store, namespace: namespace}
}

type sliceClient struct {
	discoveryclient.EndpointSliceInterface
	store     *store
	namespace string
}

func (c sliceClient) Create(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.CreateOptions) (*discoveryv1.EndpointSlice, error) {
	return c.store.create(slice)
}

func (c sliceClient) Update(_ context.Context, slice *discoveryv1.EndpointSlice, _ metav1.UpdateOptions) (*discoveryv1.EndpointSlice, error) {
	return c.store.update(slice)
}

func (c sliceClient) Delete(_ context.Context, name string, _ metav1.DeleteOptions) error {
	return c.store.remove(types.NamespacedName{Namespace: c.namespace, Name: name}, "")
}
