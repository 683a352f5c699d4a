package oracle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/endpoints"
)

// incremental keeps an Index, and a Set and a Layout for each Service, through the whole stream, as the controllers do.
type incremental struct {
	*ours
	index   *endpoints.Index
	workers map[types.NamespacedName]*worker
	queue   map[types.NamespacedName]bool
	// events are all changes of slices in their order; those from seen on have not been delivered. cache is what has.
	events []sliceEvent
	seen   int
	cache  map[types.NamespacedName]*discoveryv1.EndpointSlice
	// failures is how many writes may still fail in this step; calm is a stream in which nothing ever goes wrong.
	failures int
	calm     bool
}

type sliceEvent struct{ old, now *discoveryv1.EndpointSlice }

// worker is what is kept of one Service.
type worker struct {
	service *corev1.Service // that the set was made for
	set     *endpoints.Set
	layout  *endpoints.Layout
	// held are the slices as the layout knows them, by UID.
	held     map[types.UID]*discoveryv1.EndpointSlice
	triggers endpoints.TriggerTimes
	members  map[string]bool
	marks    map[string]bool
	all      bool
}

func newIncremental(t testing.TB, c *cluster, limit int) *incremental {
	i := &incremental{
		ours: newOurs(t, c, limit), index: endpoints.NewIndex(), workers: map[types.NamespacedName]*worker{},
		queue: map[types.NamespacedName]bool{}, cache: map[types.NamespacedName]*discoveryv1.EndpointSlice{},
	}
	i.index.Seed()
	i.store.watch = func(old, now *discoveryv1.EndpointSlice) {
		i.check(old, now)
		i.events = append(i.events, sliceEvent{old, now})
	}
	c.observers = append(c.observers, i)
	return i
}

func (i *incremental) service(old, now *corev1.Service) {
	if now == nil {
		i.index.DeleteService(keyOf(old))
		i.queue[keyOf(old)] = true
		return
	}
	i.index.PutService(now)
	i.queue[keyOf(now)] = true
	if w := i.workers[keyOf(now)]; w != nil {
		w.all = true
	}
}

func (i *incremental) pod(old, now *corev1.Pod) {
	var names []string
	pod := now
	if now == nil {
		pod = old
		names = i.index.DeletePod(keyOf(old))
	} else {
		names = i.index.PutPod(now)
	}
	for _, name := range names {
		i.mark(types.NamespacedName{Namespace: pod.Namespace, Name: name}, pod.Name)
	}
}

func (i *incremental) node(old, now *corev1.Node) {
	if now == nil {
		i.index.DeleteNode(old.Name)
		return
	}
	for _, change := range i.index.PutNode(now) {
		i.mark(change.Service, change.Pod)
	}
}

func (i *incremental) mark(service types.NamespacedName, pod string) {
	i.queue[service] = true
	if w := i.workers[service]; w != nil {
		w.marks[pod] = true
	}
}

// step works once, with whatever goes wrong, and with settle until nothing is left to do.
func (i *incremental) step(settle bool) {
	c := i.cluster.choices
	i.failures = 0
	if !i.calm {
		i.failures = c.of(4)
		if c.oneIn(4) { // a list from a server that is behind, and then what it missed
			for at := max(0, i.seen-c.of(8)); at < i.seen; at++ {
				i.deliver(i.events[at])
			}
		}
	}
	for round := 0; ; round++ {
		behind := len(i.events)
		if !i.calm && !settle {
			behind = i.seen + c.of(1+len(i.events)-i.seen)
		}
		for ; i.seen < behind; i.seen++ {
			i.deliver(i.events[i.seen])
		}
		work := sortedKeys(i.queue)
		clear(i.queue)
		for _, key := range work {
			i.sync(key)
		}
		if !settle || len(i.queue) == 0 && i.seen == len(i.events) {
			return
		}
		if round > 100 {
			i.t.Fatalf("planning does not come to an end: %v", i.queue)
		}
	}
}

// deliver lets us see a change of a slice.
func (i *incremental) deliver(e sliceEvent) {
	slice := e.now
	if slice == nil {
		slice = e.old
		delete(i.cache, keyOf(slice))
	} else {
		i.cache[keyOf(slice)] = slice
	}
	for key, w := range i.workers {
		switch {
		case !i.isOurs(key, slice):
		case e.now == nil:
			w.layout.Remove(slice.UID)
			delete(w.held, slice.UID)
			i.queue[key] = true
		default:
			i.observe(key, w, slice)
		}
	}
}

func (i *incremental) observe(key types.NamespacedName, w *worker, slice *discoveryv1.EndpointSlice) {
	i.known[slice.UID] = key
	switch w.layout.Observe(slice) {
	case endpoints.Changed:
		i.queue[key] = true
		w.held[slice.UID] = slice
	case endpoints.Unchanged:
		w.held[slice.UID] = slice
	}
}

func (i *incremental) sync(key types.NamespacedName) {
	service := i.cluster.services[key]
	if service == nil {
		delete(i.workers, key)
		return
	}
	w := i.workers[key]
	if w == nil {
		w = &worker{
			layout: endpoints.NewLayout(endpoints.Options{ManagedBy: managedBy, MaxEndpoints: i.limit}),
			held:   map[types.UID]*discoveryv1.EndpointSlice{}, members: map[string]bool{}, marks: map[string]bool{}, all: true,
		}
		i.workers[key] = w
		for _, name := range sortedKeys(i.cache) {
			if slice := i.cache[name]; i.isOurs(key, slice) {
				i.observe(key, w, slice)
			}
		}
	}
	var plan endpoints.Plan
	if !endpoints.Selected(service) {
		w.set, plan = nil, endpoints.Release(service, slices.Collect(maps.Values(w.held)))
	} else {
		i.update(key, service, w)
		plan = w.layout.Plan(w.set, endpoints.Pass{Trigger: w.triggers.Next(service)})
	}
	failed := false
	for _, write := range plan.Writes {
		if write.Moves && failed {
			continue
		}
		result, err := i.tryWrite(key, write)
		if err != nil {
			failed = true
			continue
		}
		w.layout.Wrote(write, result)
		if result != nil {
			w.held[result.UID] = result
		} else {
			delete(w.held, write.Slice.UID)
		}
	}
	i.store.passed[key] = true
	if failed || plan.More {
		i.queue[key] = true
	}
}

// update brings the set up to date: the Pods that were marked, or all of them for a Service that changed.
func (i *incremental) update(key types.NamespacedName, service *corev1.Service, w *worker) {
	if w.set == nil || w.all || w.service != service {
		w.set, w.service, w.all = newSet(service), service, false
		for name := range w.members {
			w.marks[name] = true
		}
		for _, pod := range i.index.Pods(key) {
			w.marks[pod.Name] = true
		}
	}
	for name := range w.marks {
		pod := i.index.Pod(key, name)
		if pod == nil {
			w.set.Delete(name)
			w.triggers.Gone(name)
			delete(w.members, name)
			continue
		}
		w.set.Put(pod, i.index.Zone(pod.Spec.NodeName))
		w.triggers.Note(pod)
		w.members[name] = true
	}
	clear(w.marks)
}

var errInjected = errors.New("the API server did not answer")

// tryWrite does a write, or fails to, or does it and does not hear of it.
func (i *incremental) tryWrite(key types.NamespacedName, write endpoints.Write) (*discoveryv1.EndpointSlice, error) {
	fail := i.failures > 0 && i.cluster.oneIn(2)
	if fail {
		i.failures--
	}
	if fail && i.cluster.oneIn(2) {
		return nil, errInjected
	}
	result, err := i.write(key, write)
	switch {
	case fail:
		return nil, errInjected
	case err == nil, apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		return result, err
	}
	i.t.Fatalf("%s %s: %v", write.Verb, write.Slice.Name, err)
	return nil, fmt.Errorf("unreachable: %w", err)
}
