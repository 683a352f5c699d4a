package endpoints

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
)

// SelectorIndex finds the Services whose selectors match a Pod without looking at the others. Every selector hangs
// from one of the labels that it asks for, the one with the fewest others; a lookup follows the Pod's labels and
// compares only what hangs there. So it costs O(labels) unless selectors in great number ask only for labels that are
// common, or for none by value. It is safe for concurrent use.
type SelectorIndex struct {
	mu    sync.RWMutex
	hooks map[hook]map[*indexed]struct{}
	// selectors has all of each Service.
	selectors map[types.NamespacedName][]*indexed
}

// hook is a label in a namespace. An empty key, which no label has, is where selectors hang that ask for no label by
// its value.
type hook struct {
	namespace, key, value string
}

// indexed is one selector of one Service: a plain one, or else a set-based one.
type indexed struct {
	service  string
	plain    map[string]string
	setBased labels.Selector
	hooks    []hook
}

// maxHooks is how many values a requirement may name and still be a place to hang from.
const maxHooks = 8

// NewSelectorIndex returns an empty index.
func NewSelectorIndex() *SelectorIndex {
	return &SelectorIndex{
		hooks:     map[hook]map[*indexed]struct{}{},
		selectors: map[types.NamespacedName][]*indexed{},
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
	if old := x.selectors[key]; len(old) == 1 && old[0].setBased == nil && maps.Equal(old[0].plain, service.Spec.Selector) {
		return
	}
	x.delete(key)
	selector := maps.Clone(service.Spec.Selector)
	x.add(key, &indexed{service: key.Name, plain: selector, hooks: x.rarest(key.Namespace, plainChoices(selector))})
}

// PutSelectors adds a Service that has the Pods which any of some set-based selectors matches, or replaces what it
// has. None at all removes it.
func (x *SelectorIndex) PutSelectors(key types.NamespacedName, selectors []labels.Selector) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.delete(key)
	for _, selector := range selectors {
		requirements, selectable := selector.Requirements()
		if !selectable {
			continue // It matches nothing.
		}
		x.add(key, &indexed{service: key.Name, setBased: selector, hooks: x.rarest(key.Namespace, choices(requirements))})
	}
}

// choice is a label key with the values of which a selector asks for one.
type choice struct {
	key    string
	values []string
}

func plainChoices(selector map[string]string) []choice {
	var all []choice
	for key, value := range selector {
		all = append(all, choice{key: key, values: []string{value}})
	}
	return all
}

func choices(requirements labels.Requirements) []choice {
	var all []choice
	for i := range requirements {
		switch requirements[i].Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if values := requirements[i].ValuesUnsorted(); len(values) <= maxHooks {
				all = append(all, choice{key: requirements[i].Key(), values: values})
			}
		}
	}
	return all
}

// rarest returns the hooks of the choice from which the fewest selectors hang, the least key of several.
func (x *SelectorIndex) rarest(namespace string, choices []choice) []hook {
	best, fewest, bestKey := []hook{{namespace: namespace}}, -1, ""
	for _, c := range choices {
		hooks, count := make([]hook, len(c.values)), 0
		for i, value := range c.values {
			hooks[i] = hook{namespace: namespace, key: c.key, value: value}
			count += len(x.hooks[hooks[i]])
		}
		if fewest < 0 || count < fewest || count == fewest && c.key < bestKey {
			best, fewest, bestKey = hooks, count, c.key
		}
	}
	return best
}

func (x *SelectorIndex) add(key types.NamespacedName, selector *indexed) {
	for _, h := range selector.hooks {
		if x.hooks[h] == nil {
			x.hooks[h] = map[*indexed]struct{}{}
		}
		x.hooks[h][selector] = struct{}{}
	}
	x.selectors[key] = append(x.selectors[key], selector)
}

// Delete removes a Service; one that is not there is no error.
func (x *SelectorIndex) Delete(key types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.delete(key)
}

func (x *SelectorIndex) delete(key types.NamespacedName) {
	for _, selector := range x.selectors[key] {
		for _, h := range selector.hooks {
			delete(x.hooks[h], selector)
			if len(x.hooks[h]) == 0 {
				delete(x.hooks, h)
			}
		}
	}
	delete(x.selectors, key)
}

// Matching returns the names of the Services in a namespace whose selectors match labels, sorted.
func (x *SelectorIndex) Matching(namespace string, labels map[string]string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var names []string
	at := func(h hook) {
		for selector := range x.hooks[h] {
			if selector.matches(labels) {
				names = append(names, selector.service)
			}
		}
	}
	at(hook{namespace: namespace})
	for key, value := range labels {
		at(hook{namespace: namespace, key: key, value: value})
	}
	slices.SortFunc(names, strings.Compare)
	return slices.Compact(names)
}

func (s *indexed) matches(podLabels map[string]string) bool {
	if s.setBased != nil {
		return s.setBased.Matches(labels.Set(podLabels))
	}
	for key, value := range s.plain {
		if got, ok := podLabels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// matchesOf says whether any selector of a Service matches labels.
func (x *SelectorIndex) matchesOf(key types.NamespacedName, labels map[string]string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.ContainsFunc(x.selectors[key], func(s *indexed) bool { return s.matches(labels) })
}

// Affected returns the names of the Services that have to be looked at again since a Pod changed from old to pod,
// sorted. Old is nil for a new Pod, and both are the same for one that was deleted. Nothing is affected by a change
// that no endpoint shows; a change of labels alone affects the Services that gain or lose the Pod.
func (x *SelectorIndex) Affected(old, pod *corev1.Pod) []string {
	now := x.Matching(pod.Namespace, pod.Labels)
	if old == nil || old == pod {
		return now
	}
	before := now
	if !maps.Equal(old.Labels, pod.Labels) {
		before = x.Matching(old.Namespace, old.Labels)
	}
	return affected(before, now, podChanged(old, pod))
}

// affected returns which of the Services that a Pod was of before, and is of now, have to look at it again.
func affected(before, now []string, changed bool) []string {
	if slices.Equal(before, now) {
		if changed {
			return now
		}
		return nil
	}
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
		Publishable(old) != Publishable(pod) ||
		!slices.Equal(old.Status.PodIPs, pod.Status.PodIPs)
}
