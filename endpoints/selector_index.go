package endpoints

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// SelectorIndex finds the Services whose selectors match a Pod without looking at the others. Every Service hangs
// from one of its selector's labels, the one with the fewest Services; a lookup follows the Pod's labels and compares
// only what hangs there. So it costs O(labels) unless Services in great number have selectors in which every single
// label is common. It is safe for concurrent use.
type SelectorIndex struct {
	mu        sync.RWMutex
	hooks     map[hook]map[string]map[string]string
	selectors map[types.NamespacedName]indexed
}

// hook is a label in a namespace. An empty key, which no label has, is where selectors without labels hang.
type hook struct {
	namespace, key, value string
}

type indexed struct {
	selector map[string]string
	hook     hook
}

// NewSelectorIndex returns an empty index.
func NewSelectorIndex() *SelectorIndex {
	return &SelectorIndex{
		hooks:     map[hook]map[string]map[string]string{},
		selectors: map[types.NamespacedName]indexed{},
	}
}

// Put adds a Service or replaces its selector. One that is not Selected is removed.
func (x *SelectorIndex) Put(service *corev1.Service) {
	key := types.NamespacedName{Namespace: service.Namespace, Name: service.Name}
	if !Selected(service) {
		x.Delete(key)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.selectors[key]; ok {
		if maps.Equal(old.selector, service.Spec.Selector) {
			return
		}
		x.delete(key)
	}
	selector := maps.Clone(service.Spec.Selector)
	at := x.rarest(service.Namespace, selector)
	if x.hooks[at] == nil {
		x.hooks[at] = map[string]map[string]string{}
	}
	x.hooks[at][service.Name] = selector
	x.selectors[key] = indexed{selector: selector, hook: at}
}

// rarest returns the label of a selector that the fewest Services hang from, the least one of several.
func (x *SelectorIndex) rarest(namespace string, selector map[string]string) hook {
	best := hook{namespace: namespace}
	for key, value := range selector {
		h := hook{namespace: namespace, key: key, value: value}
		switch {
		case best.key == "", len(x.hooks[h]) < len(x.hooks[best]):
			best = h
		case len(x.hooks[h]) == len(x.hooks[best]) && key < best.key:
			best = h
		}
	}
	return best
}

// Delete removes a Service; one that is not there is no error.
func (x *SelectorIndex) Delete(key types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.delete(key)
}

func (x *SelectorIndex) delete(key types.NamespacedName) {
	old, ok := x.selectors[key]
	if !ok {
		return
	}
	delete(x.selectors, key)
	delete(x.hooks[old.hook], key.Name)
	if len(x.hooks[old.hook]) == 0 {
		delete(x.hooks, old.hook)
	}
}

// Matching returns the names of the Services in a namespace whose selectors match labels, sorted.
func (x *SelectorIndex) Matching(namespace string, labels map[string]string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var names []string
	for name := range x.hooks[hook{namespace: namespace}] {
		names = append(names, name)
	}
	for key, value := range labels {
		for name, selector := range x.hooks[hook{namespace: namespace, key: key, value: value}] {
			if matches(selector, labels) {
				names = append(names, name)
			}
		}
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// Affected returns the names of the Services that have to be looked at again since a Pod changed from old to pod,
// sorted. Old is nil for a new Pod, and both are the same for one that was deleted. Nothing is affected by a change
// that no endpoint shows; a change of labels alone affects the Services that gain or lose the Pod.
func (x *SelectorIndex) Affected(old, pod *corev1.Pod) []string {
	now := x.Matching(pod.Namespace, pod.Labels)
	if old == nil || old == pod {
		return now
	}
	changed := podChanged(old, pod)
	if maps.Equal(old.Labels, pod.Labels) {
		if changed {
			return now
		}
		return nil
	}
	before := x.Matching(old.Namespace, old.Labels)
	names := slices.Concat(now, before)
	slices.SortFunc(names, strings.Compare)
	if changed {
		return slices.Compact(names)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.Contains(now, name) && slices.Contains(before, name)
	})
}

// podChanged says whether a Pod's endpoints may have changed. The phase counts, unlike upstream, where a Pod that
// fails without ever having been ready stays published until something else happens. So does the UID, for a Pod
// replaced by one of its name between two events.
func podChanged(old, pod *corev1.Pod) bool {
	return old.UID != pod.UID ||
		old.Spec.Hostname != pod.Spec.Hostname || old.Spec.Subdomain != pod.Spec.Subdomain ||
		old.Spec.NodeName != pod.Spec.NodeName ||
		(old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) ||
		podReady(old) != podReady(pod) ||
		publishable(old) != publishable(pod) ||
		!slices.Equal(old.Status.PodIPs, pod.Status.PodIPs)
}
