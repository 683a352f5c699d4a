package integration

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The nodes of the suite's cluster, and their zones.
var nodeZones = map[string]string{"node-a": "zone-a", "node-b": "zone-b"}

// withNodes makes the suite's nodes, until the test ends.
func withNodes(t *testing.T) {
	t.Helper()
	number := 10
	for name, zone := range nodeZones {
		number++
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelTopologyZone: zone, corev1.LabelHostname: name,
		}}}
		create(t, node)
		t.Cleanup(func() { remove(t, node) })
		node.Status = corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.30.0.%d", number)},
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("fd00:172:30::%x", number)},
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		}
		if err := suite.admin.Status().Update(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
}

func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := suite.admin.Create(t.Context(), object); err != nil {
		t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
	}
}

// remove deletes at once: nobody is there to end a Pod gracefully. It works in a test's clean-up.
func remove(t *testing.T, object client.Object) {
	t.Helper()
	if err := suite.admin.Delete(context.Background(), object, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
		t.Errorf("deleting %T %s: %v", object, object.GetName(), err)
	}
}

// namespace makes one for a test. It stays: nobody empties namespaces here.
func namespace(t *testing.T) string {
	t.Helper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	create(t, object)
	return object.Name
}

// applied is what a sample asked for, and the Pods that were made for its workload.
type applied struct {
	namespace string
	service   *corev1.Service
	pods      []*corev1.Pod
}

// applySample creates the objects of a sample in a namespace of its own, and the Pods that its Deployment or
// StatefulSet would have: running, ready, on alternating nodes.
func applySample(t *testing.T, file string) *applied {
	t.Helper()
	a := &applied{namespace: namespace(t)}
	for _, object := range sample(t, file) {
		object.SetNamespace(a.namespace)
		switch object.GetKind() {
		case "Service":
			a.service = &corev1.Service{}
			convert(t, object, a.service)
			create(t, a.service)
		case "Deployment":
			workload := &appsv1.Deployment{}
			convert(t, object, workload)
			a.pods = append(a.pods, runPods(t, a.namespace, workload.Spec.Template, int(*workload.Spec.Replicas), "")...)
		case "StatefulSet":
			workload := &appsv1.StatefulSet{}
			convert(t, object, workload)
			a.pods = append(a.pods, runPods(t, a.namespace, workload.Spec.Template, int(*workload.Spec.Replicas), workload.Spec.ServiceName)...)
		default:
			if object.GetKind() == "LoadBalancerClass" {
				object.SetNamespace("")
				t.Cleanup(func() { remove(t, object) })
			}
			create(t, object)
		}
	}
	return a
}

func convert(t *testing.T, from *unstructured.Unstructured, to any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(from.Object, to, true); err != nil {
		t.Fatal(err)
	}
}

// lastAddress numbers the Pods of the suite.
var lastAddress atomic.Uint32

// runPods makes n Pods of a template, on nodes in turn: those of withNodes where none are named. With a subdomain they
// are called and numbered as those of a StatefulSet.
func runPods(t *testing.T, ns string, template corev1.PodTemplateSpec, n int, subdomain string, nodes ...string) []*corev1.Pod {
	t.Helper()
	if len(nodes) == 0 {
		nodes = []string{"node-a", "node-b"}
	}
	var pods []*corev1.Pod
	for i := range n {
		pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
		pod.Namespace, pod.GenerateName = ns, "pod-"
		if subdomain != "" {
			pod.Name = fmt.Sprintf("pod-%d", i)
			pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, subdomain
		}
		pod.Spec.NodeName = nodes[i%len(nodes)]
		create(t, pod)
		number := lastAddress.Add(1)
		v4 := netip.AddrFrom4([4]byte{10, 244, byte(number >> 8), byte(number)}).String()
		pod.Status.PodIP, pod.Status.PodIPs = v4, []corev1.PodIP{{IP: v4}, {IP: fmt.Sprintf("fd00:244::%x", number)}}
		pod.Status.Phase = corev1.PodRunning
		setReady(t, pod, corev1.ConditionTrue)
		pods = append(pods, pod)
	}
	return pods
}

// setReady writes a Pod's status with that readiness, as its kubelet would.
func setReady(t *testing.T, pod *corev1.Pod, ready corev1.ConditionStatus) {
	t.Helper()
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.Now()}}
	if err := suite.admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// slicesOf returns a Service's slices, sorted by name.
func slicesOf(ctx context.Context, ns, service string) ([]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	if err := suite.admin.List(ctx, &list, client.InNamespace(ns), client.MatchingLabels{discoveryv1.LabelServiceName: service}); err != nil {
		return nil, err
	}
	return list.Items, nil
}

// ready waits until a Service's IPv4 slices hold exactly these Pods, all ready, and returns those slices.
func ready(t *testing.T, a *applied, pods ...*corev1.Pod) []discoveryv1.EndpointSlice {
	t.Helper()
	var want []string
	for _, pod := range pods {
		want = append(want, pod.Status.PodIP)
	}
	slices.Sort(want)
	var found []discoveryv1.EndpointSlice
	eventually(t, waitFor, fmt.Sprintf("%d ready endpoints of %s", len(pods), a.service.Name), func() error {
		all, err := slicesOf(t.Context(), a.namespace, a.service.Name)
		if err != nil {
			return err
		}
		found = nil
		var got []string
		for _, slice := range all {
			if slice.AddressType != discoveryv1.AddressTypeIPv4 {
				continue
			}
			found = append(found, slice)
			for _, endpoint := range slice.Endpoints {
				if *endpoint.Conditions.Ready {
					got = append(got, endpoint.Addresses...)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("ready are %v, want %v", got, want)
		}
		return nil
	})
	return found
}
