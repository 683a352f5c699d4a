package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Index knows which Pods each Service has, and what is known of their nodes, so that an event leads to the Services
// that it concerns, and a Service to its Pods, without a search. It keeps what it is given, which must not change. It
// is safe for concurrent use.
type Index struct {
	// annotations of Pods from which addresses are taken, so that a change of them counts.
	annotations []string

	mu        sync.RWMutex
	seeded    bool
	selectors *SelectorIndex
	services  map[types.NamespacedName]*serviceEntry
	// pods by namespace and name.
	pods map[string]map[string]*podEntry
	// zones of the nodes that are known, and the Pods on all nodes.
	zones  map[string]string
	onNode map[string]map[*podEntry]struct{}
}

type serviceEntry struct {
	// own is the Service's selector; nil: it is not Selected, or not known.
	own map[string]string
	// given are the selectors of PutSelectors, which count while there is no own one.
	given []labels.Selector
	pods  map[string]*podEntry
}

type podEntry struct {
	pod *corev1.Pod
	// services are the names of those that have it, sorted.
	services []string
}

// Change names a Pod that a Service has to look at again.
type Change struct {
	Service types.NamespacedName
	Pod     string
}

// NewIndex returns an empty index. It is told which annotations of Pods show in endpoints, as those of a network do
// from which SetOptions.Addresses takes addresses.
func NewIndex(annotations ...string) *Index {
	return &Index{
		annotations: annotations,
		selectors:   NewSelectorIndex(),
		services:    map[types.NamespacedName]*serviceEntry{},
		pods:        map[string]map[string]*podEntry{},
		zones:       map[string]string{},
		onNode:      map[string]map[*podEntry]struct{}{},
	}
}

// Seed says that everything there is at the start has been put. Before it the index only stores, in whatever order
// Services, Pods and nodes come; Seed connects all in one pass over the Pods. After it everything is incremental.
func (x *Index) Seed() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.seeded {
		return
	}
	x.seeded = true
	for _, pods := range x.pods {
		for _, entry := range pods {
			x.connect(entry, x.selectors.Matching(entry.pod.Namespace, entry.pod.Labels))
		}
	}
}

// PutService adds a Service or takes over its new selector. A selector that is new, or changed, costs a look at all
// Pods of the namespace; then all of Pods may have changed. Without one the selectors of PutSelectors count.
func (x *Index) PutService(service *corev1.Service) {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := types.NamespacedName{Namespace: service.Namespace, Name: service.Name}
	entry := x.service(key)
	old := entry.own
	entry.own = nil
	if Selected(service) {
		entry.own = service.Spec.Selector
	}
	if (old == nil) == (entry.own == nil) && maps.Equal(old, entry.own) {
		x.dropEmpty(key, entry)
		return
	}
	if entry.own != nil {
		x.selectors.Put(service)
	} else {
		x.selectors.PutSelectors(key, entry.given)
	}
	x.scan(key, entry)
	x.dropEmpty(key, entry)
}

// PutSelectors gives a Service that is not Selected the Pods which any of the selectors matches. Nil takes them away.
func (x *Index) PutSelectors(service types.NamespacedName, selectors []labels.Selector) {
	x.mu.Lock()
	defer x.mu.Unlock()
	entry := x.service(service)
	entry.given = selectors
	if entry.own == nil {
		x.selectors.PutSelectors(service, selectors)
		x.scan(service, entry)
		x.dropEmpty(service, entry)
	}
}

// dropEmpty forgets a Service without any selector.
func (x *Index) dropEmpty(key types.NamespacedName, entry *serviceEntry) {
	if entry.own == nil && len(entry.given) == 0 {
		delete(x.services, key)
	}
}

func (x *Index) service(key types.NamespacedName) *serviceEntry {
	entry := x.services[key]
	if entry == nil {
		entry = &serviceEntry{pods: map[string]*podEntry{}}
		x.services[key] = entry
	}
	return entry
}

// scan compares all Pods of a Service's namespace with its selectors.
func (x *Index) scan(key types.NamespacedName, entry *serviceEntry) {
	if !x.seeded {
		return
	}
	for name, pod := range x.pods[key.Namespace] {
		_, before := entry.pods[name]
		now := x.selectors.matchesOf(key, pod.pod.Labels)
		switch at, _ := slices.BinarySearch(pod.services, key.Name); {
		case now && !before:
			pod.services = slices.Insert(slices.Clone(pod.services), at, key.Name)
			entry.pods[name] = pod
		case before && !now:
			pod.services = slices.Delete(slices.Clone(pod.services), at, at+1)
			delete(entry.pods, name)
		}
	}
}

// DeleteService removes a Service that is gone; what PutSelectors gave it stays for one that comes under its name.
func (x *Index) DeleteService(key types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	entry := x.services[key]
	if entry == nil {
		return
	}
	if entry.own != nil {
		entry.own = nil
		x.selectors.PutSelectors(key, entry.given)
		x.scan(key, entry)
	}
	x.dropEmpty(key, entry)
}

// PutPod adds a Pod or takes over its new state. It returns the names of the Services in the Pod's namespace that have
// to look at it again, sorted: those that gained or lost it, and all of its Services if anything changed that an
// endpoint shows. Before Seed it returns nil.
func (x *Index) PutPod(pod *corev1.Pod) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	pods := x.pods[pod.Namespace]
	if pods == nil {
		pods = map[string]*podEntry{}
		x.pods[pod.Namespace] = pods
	}
	entry := pods[pod.Name]
	if entry == nil {
		entry = &podEntry{pod: pod}
		pods[pod.Name] = entry
		x.putOnNode(entry)
		if x.seeded {
			x.connect(entry, x.selectors.Matching(pod.Namespace, pod.Labels))
		}
		return entry.services
	}
	old, before := entry.pod, entry.services
	if old.Spec.NodeName != pod.Spec.NodeName {
		x.takeOffNode(entry)
	}
	entry.pod = pod
	x.putOnNode(entry)
	if !x.seeded {
		return nil
	}
	relabelled := !maps.Equal(old.Labels, pod.Labels)
	if relabelled {
		x.connect(entry, x.selectors.Matching(pod.Namespace, pod.Labels))
	}
	names := affected(before, entry.services, podChanged(old, pod) || x.annotationsChanged(old, pod))
	if relabelled {
		names = x.addRegrouped(names, entry)
	}
	return names
}

// addRegrouped adds the Services that have a Pod by several selectors: with other labels it may be another's
// (SetOptions.Rank), and be of the Service all the same.
func (x *Index) addRegrouped(names []string, entry *podEntry) []string {
	for _, name := range entry.services {
		service := x.services[types.NamespacedName{Namespace: entry.pod.Namespace, Name: name}]
		if at, found := slices.BinarySearch(names, name); !found && service.own == nil && len(service.given) > 1 {
			names = slices.Insert(slices.Clone(names), at, name)
		}
	}
	return names
}

func (x *Index) annotationsChanged(old, pod *corev1.Pod) bool {
	return slices.ContainsFunc(x.annotations, func(key string) bool { return old.Annotations[key] != pod.Annotations[key] })
}

// connect makes services those that have a Pod.
func (x *Index) connect(entry *podEntry, services []string) {
	key := types.NamespacedName{Namespace: entry.pod.Namespace}
	for _, key.Name = range entry.services {
		delete(x.services[key].pods, entry.pod.Name)
	}
	for _, key.Name = range services {
		x.services[key].pods[entry.pod.Name] = entry
	}
	entry.services = services
}

// DeletePod removes a Pod and returns the names of the Services that had it, sorted.
func (x *Index) DeletePod(key types.NamespacedName) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	entry := x.pods[key.Namespace][key.Name]
	if entry == nil {
		return nil
	}
	had := entry.services
	x.connect(entry, nil)
	x.takeOffNode(entry)
	delete(x.pods[key.Namespace], key.Name)
	if len(x.pods[key.Namespace]) == 0 {
		delete(x.pods, key.Namespace)
	}
	return had
}

func (x *Index) putOnNode(entry *podEntry) {
	node := entry.pod.Spec.NodeName
	if node == "" {
		return
	}
	if x.onNode[node] == nil {
		x.onNode[node] = map[*podEntry]struct{}{}
	}
	x.onNode[node][entry] = struct{}{}
}

func (x *Index) takeOffNode(entry *podEntry) {
	node := entry.pod.Spec.NodeName
	delete(x.onNode[node], entry)
	if len(x.onNode[node]) == 0 {
		delete(x.onNode, node)
	}
}

// PutNode adds a node or takes over its zone. Where it is new or has changed zone, it returns what has to be looked at
// again: all Pods on it with their Services, sorted. So no endpoint stays without its zone because a label came late
// (the class of kubernetes/kubernetes#123401). Before Seed it returns nil.
func (x *Index) PutNode(node *corev1.Node) []Change {
	x.mu.Lock()
	defer x.mu.Unlock()
	zone := node.Labels[corev1.LabelTopologyZone]
	if old, known := x.zones[node.Name]; known && old == zone {
		return nil
	}
	x.zones[node.Name] = zone
	var changes []Change
	for entry := range x.onNode[node.Name] {
		for _, service := range entry.services {
			changes = append(changes, Change{
				Service: types.NamespacedName{Namespace: entry.pod.Namespace, Name: service}, Pod: entry.pod.Name,
			})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(strings.Compare(a.Service.Namespace, b.Service.Namespace),
			strings.Compare(a.Service.Name, b.Service.Name), strings.Compare(a.Pod, b.Pod))
	})
	return changes
}

// DeleteNode forgets a node. That changes no Service: its Pods serve until they are deleted, and a Node object that is
// replaced must not take them out in between.
func (x *Index) DeleteNode(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.zones, name)
}

// Zone returns what is known of a node. A Pod that has none yet, by the empty name, has a missing one.
func (x *Index) Zone(node string) Zone {
	x.mu.RLock()
	defer x.mu.RUnlock()
	zone, known := x.zones[node]
	return Zone{Name: zone, NodeMissing: !known}
}

// Pods returns the Pods of a Service, sorted by name.
func (x *Index) Pods(service types.NamespacedName) []*corev1.Pod {
	x.mu.RLock()
	defer x.mu.RUnlock()
	entry := x.services[service]
	if entry == nil {
		return nil
	}
	pods := make([]*corev1.Pod, 0, len(entry.pods))
	for _, pod := range entry.pods {
		pods = append(pods, pod.pod)
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

// Pod returns a Pod of a Service by its name, or nil where the Service does not have it, or not any more.
func (x *Index) Pod(service types.NamespacedName, name string) *corev1.Pod {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if entry := x.services[service]; entry != nil && entry.pods[name] != nil {
		return entry.pods[name].pod
	}
	return nil
}
