package oracle

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// choices turns bytes, random or a fuzzer's, into decisions. When they are used up the stream ends.
type choices struct{ data []byte }

func (c *choices) more() bool { return len(c.data) > 0 }

// of returns a number below n, 0 where nothing is left.
func (c *choices) of(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % n
}

// oneIn is true in one of n cases, and never once nothing is left.
func (c *choices) oneIn(n int) bool { return c.of(n) == n-1 }

func pick[T any](c *choices, from ...T) T { return from[c.of(len(from))] }

// observer is told of every change, one by one, as informers would tell it: old is nil for what is new, now is nil for
// what is gone. Objects never change once they were shown.
type observer interface {
	service(old, now *corev1.Service)
	pod(old, now *corev1.Pod)
	node(old, now *corev1.Node)
}

// cluster is the Services, Pods and Nodes that there are.
type cluster struct {
	*choices
	observers []observer
	services  map[types.NamespacedName]*corev1.Service
	pods      map[types.NamespacedName]*corev1.Pod
	nodes     map[string]*corev1.Node
	now       time.Time
	count     int
	// collected is told of the UID of each Service that is gone, when the garbage collector gets to it.
	collected func(types.UID)
	garbage   []types.UID
	log       []string
}

func newCluster(c *choices) *cluster {
	return &cluster{
		choices:  c,
		services: map[types.NamespacedName]*corev1.Service{},
		pods:     map[types.NamespacedName]*corev1.Pod{},
		nodes:    map[string]*corev1.Node{},
		now:      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// stamp gives an object that is new its UID and creation, and each its version.
func (c *cluster) stamp(meta *metav1.ObjectMeta) {
	c.count++
	if meta.UID == "" {
		meta.UID = types.UID(fmt.Sprint("uid-", c.count))
		meta.CreationTimestamp = metav1.NewTime(c.now)
	}
	meta.ResourceVersion = fmt.Sprint(c.count)
}

func keyOf(object metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}

func (c *cluster) putService(service *corev1.Service) {
	c.stamp(&service.ObjectMeta)
	old := c.services[keyOf(service)]
	if old != nil && old.UID != service.UID {
		c.garbage = append(c.garbage, old.UID)
	}
	c.services[keyOf(service)] = service
	for _, o := range c.observers {
		o.service(old, service)
	}
}

func (c *cluster) deleteService(key types.NamespacedName) {
	old := c.services[key]
	c.garbage = append(c.garbage, old.UID)
	delete(c.services, key)
	for _, o := range c.observers {
		o.service(old, nil)
	}
}

func (c *cluster) putPod(pod *corev1.Pod) {
	c.stamp(&pod.ObjectMeta)
	pod.Status.PodIP = ""
	if len(pod.Status.PodIPs) > 0 {
		pod.Status.PodIP = pod.Status.PodIPs[0].IP
	}
	old := c.pods[keyOf(pod)]
	c.pods[keyOf(pod)] = pod
	for _, o := range c.observers {
		o.pod(old, pod)
	}
}

func (c *cluster) deletePod(key types.NamespacedName) {
	old := c.pods[key]
	delete(c.pods, key)
	for _, o := range c.observers {
		o.pod(old, nil)
	}
}

func (c *cluster) putNode(node *corev1.Node) {
	c.stamp(&node.ObjectMeta)
	old := c.nodes[node.Name]
	c.nodes[node.Name] = node
	for _, o := range c.observers {
		o.node(old, node)
	}
}

func (c *cluster) deleteNode(name string) {
	old := c.nodes[name]
	delete(c.nodes, name)
	for _, o := range c.observers {
		o.node(old, nil)
	}
}

// collect lets the garbage collector work.
func (c *cluster) collect() {
	for _, uid := range c.garbage {
		c.collected(uid)
	}
	c.garbage = nil
}

func (c *cluster) note(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

func sortedKeys[V any](m map[types.NamespacedName]V) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(m), func(a, b types.NamespacedName) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
}
