package topology

import (
	"context"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/topology"
)

// Zones follows nodes and sums up what each zone can take. Make one with NewZones; its methods are safe for concurrent
// use.
type Zones struct {
	mu          sync.Mutex
	nodes       map[string]topology.Node
	capacities  topology.Capacities
	subscribers []*subscription
	// seeded says that every node has been seen, so that capacities count.
	seeded bool

	start sync.Once
	// synced is closed once that is so, or failed is set.
	synced chan struct{}
	failed error
}

// NewZones returns one that follows nothing before its first source is started.
func NewZones() *Zones {
	return &Zones{nodes: map[string]topology.Node{}, synced: make(chan struct{})}
}

// Capacities returns those of the zones now. Before a source has synced there are none.
func (z *Zones) Capacities() topology.Capacities {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.capacities
}

// Source subscribes a controller: changed is called with its queue when capacities have changed, by event handlers, and
// must not block. The source has synced once every node has been seen.
func (z *Zones) Source(informers cache.Informers, changed func(work.Queue)) source.SyncingSource {
	return &subscription{zones: z, informers: informers, changed: changed}
}

// caches are what is followed, as errors name it.
const caches = "the cache of Nodes"

// follow registers a handler and waits until it has seen every node.
func (z *Zones) follow(ctx context.Context, informers cache.Informers) {
	defer close(z.synced)
	z.failed = work.Fill(ctx, informers, caches, work.Followed{Object: &corev1.Node{}, Handler: toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { z.put(obj.(*corev1.Node)) },
		UpdateFunc: func(_, obj any) { z.put(obj.(*corev1.Node)) },
		DeleteFunc: func(obj any) {
			if node, ok := work.Deleted[*corev1.Node](obj); ok {
				z.delete(node.Name)
			}
		},
	}})
	if z.failed != nil {
		return
	}
	z.change(func() bool {
		z.seeded = true
		return true
	})
}

func (z *Zones) put(node *corev1.Node) {
	z.change(func() bool {
		is := topology.NodeOf(node)
		if was, known := z.nodes[node.Name]; known && was == is {
			return false
		}
		z.nodes[node.Name] = is
		return true
	})
}

func (z *Zones) delete(name string) {
	z.change(func() bool {
		delete(z.nodes, name)
		return true
	})
}

// change changes nodes and, where it did, sums them up again and tells subscribers.
func (z *Zones) change(did func() bool) {
	z.mu.Lock()
	if !did() || !z.seeded {
		z.mu.Unlock()
		return
	}
	next := topology.CapacitiesOf(maps.Values(z.nodes))
	news := !next.Equal(z.capacities)
	z.capacities = next
	countNodes(z.nodes)
	subscribers := slices.Clone(z.subscribers)
	z.mu.Unlock()
	if !news {
		return
	}
	for _, s := range subscribers {
		s.changed(s.queue)
	}
}

// subscription is the source of one controller.
type subscription struct {
	zones     *Zones
	informers cache.Informers
	changed   func(work.Queue)
	queue     work.Queue
}

var _ source.SyncingSource = (*subscription)(nil)

// Start subscribes; the first subscriber makes Zones follow nodes.
func (s *subscription) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	s.queue = queue
	z := s.zones
	z.mu.Lock()
	z.subscribers = append(z.subscribers, s)
	z.mu.Unlock()
	z.start.Do(func() { go z.follow(ctx, s.informers) })
	return nil
}

// WaitForSync waits until every node has been seen.
func (s *subscription) WaitForSync(ctx context.Context) error {
	return work.WaitForSync(ctx, s.zones.synced, &s.zones.failed, caches)
}

// String names the source in logs.
func (s *subscription) String() string { return "zones" }
