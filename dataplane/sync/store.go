package sync

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// store passes what a reflector sees on to the tracker, and keeps nothing itself: the objects are garbage as soon as
// they are parsed. Its functions are called with the loop's lock held.
type store[T metav1.Object] struct {
	loop *Loop
	kind Kind
	set  func(T) error
	drop func(types.NamespacedName)
	keys func() []types.NamespacedName
}

var _ cache.ReflectorStore = (*store[*corev1.Service])(nil)

func (s *store[T]) Add(obj any) error { return s.Update(obj) }

func (s *store[T]) Update(obj any) error {
	if o, ok := obj.(T); ok {
		s.loop.opts.Observer.Changed(s.kind)
		s.loop.update(func() { s.put(o) })
	}
	return nil
}

func (s *store[T]) Delete(obj any) error {
	if o, ok := obj.(T); ok {
		s.loop.opts.Observer.Changed(s.kind)
		s.loop.update(func() { s.remove(key(o)) })
	}
	return nil
}

// Replace takes a whole list, after the start or after the watch was interrupted for too long.
func (s *store[T]) Replace(list []any, _ string) error {
	s.loop.opts.Observer.Changed(s.kind)
	s.loop.update(func() {
		listed := make(map[types.NamespacedName]bool, len(list))
		for _, obj := range list {
			if o, ok := obj.(T); ok {
				listed[key(o)] = true
				s.put(o)
			}
		}
		for _, known := range s.keys() {
			if !listed[known] {
				s.remove(known)
			}
		}
		s.loop.known[s.kind] = true
	})
	return nil
}

// Resync has nothing to repeat.
func (s *store[T]) Resync() error { return nil }

func (s *store[T]) put(o T) {
	s.loop.complain(string(s.kind)+" "+key(o).String(), s.set(o))
}

func (s *store[T]) remove(k types.NamespacedName) {
	s.loop.complain(string(s.kind)+" "+k.String(), nil)
	s.drop(k)
}

func key(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func serviceStore(l *Loop) cache.ReflectorStore {
	return &store[*corev1.Service]{loop: l, kind: Services,
		set: l.tracker.SetService, drop: l.tracker.DeleteService, keys: l.tracker.ServiceKeys}
}

func sliceStore(l *Loop) cache.ReflectorStore {
	set := func(es *discoveryv1.EndpointSlice) error {
		l.trigger(es)
		return l.tracker.SetSlice(es)
	}
	return &store[*discoveryv1.EndpointSlice]{loop: l, kind: EndpointSlices,
		set: set, drop: l.tracker.DeleteSlice, keys: l.tracker.SliceKeys}
}

// trigger notes when the change that this slice brings happened, by its annotation. What happened before we started
// says nothing about how fast we are.
func (l *Loop) trigger(es *discoveryv1.EndpointSlice) {
	at, err := time.Parse(time.RFC3339Nano, es.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil || !at.After(l.started) {
		return
	}
	family := map[discoveryv1.AddressType]uint8{discoveryv1.AddressTypeIPv4: 4, discoveryv1.AddressTypeIPv6: 6}[es.AddressType]
	if family != 0 && len(l.triggers[family]) < maxTriggers {
		l.triggers[family] = append(l.triggers[family], at)
	}
}

// nodeStore holds one Node at most. When it is gone its last facts stay: packets still come.
func nodeStore(l *Loop) cache.ReflectorStore {
	var known []types.NamespacedName
	return &store[*corev1.Node]{loop: l, kind: Nodes,
		set: func(node *corev1.Node) error {
			known = []types.NamespacedName{key(node)}
			l.node = true
			l.podCIDRs = len(node.Spec.PodCIDRs) > 0 || node.Spec.PodCIDR != ""
			l.opts.Observer.Node(node)
			return l.tracker.SetNode(node)
		},
		drop: func(types.NamespacedName) {
			known = nil
			l.log.Info("The Node is gone, going on with what it said last", "node", l.opts.Model.NodeName,
				"remedy", "if it got another name, start the agent anew with that as --node-name")
			l.opts.Observer.Node(nil)
		},
		keys: func() []types.NamespacedName { return known },
	}
}

func cidrStore(l *Loop) cache.ReflectorStore {
	return &store[*networkingv1.ServiceCIDR]{loop: l, kind: ServiceCIDRs,
		set:  l.tracker.SetServiceCIDR,
		drop: func(k types.NamespacedName) { l.tracker.DeleteServiceCIDR(k.Name) },
		keys: func() []types.NamespacedName {
			var keys []types.NamespacedName
			for _, name := range l.tracker.ServiceCIDRNames() {
				keys = append(keys, types.NamespacedName{Name: name})
			}
			return keys
		},
	}
}
