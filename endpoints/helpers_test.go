package endpoints

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const managedBy = "test.example.com"

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type serviceOption func(*corev1.Service)

func newService(options ...serviceOption) *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "web", UID: "service-uid", Labels: map[string]string{"app": "web"},
			CreationTimestamp: metav1.NewTime(epoch),
		},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, ClusterIP: "10.96.0.1",
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{servicePort("http", 80, intstr.FromInt32(8080))},
		},
	}
	for _, option := range options {
		option(service)
	}
	return service
}

func servicePort(name string, port int32, target intstr.IntOrString) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, TargetPort: target, Protocol: corev1.ProtocolTCP}
}

func withPorts(ports ...corev1.ServicePort) serviceOption {
	return func(s *corev1.Service) { s.Spec.Ports = ports }
}

func withFamilies(families ...corev1.IPFamily) serviceOption {
	return func(s *corev1.Service) { s.Spec.IPFamilies = families }
}

func publishNotReady(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }

type podOption func(*corev1.Pod)

// newPod returns a ready Pod on node n<i%3>, with the addresses 10.244.x.y and fd00::i.
func newPod(i int, options ...podOption) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: fmt.Sprintf("pod-%04d", i), UID: types.UID(fmt.Sprintf("uid-%04d", i)),
			Labels: map[string]string{"app": "web"},
		},
		Spec: corev1.PodSpec{
			NodeName: fmt.Sprintf("n%d", i%3),
			Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
				{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
			}}},
		},
		Status: corev1.PodStatus{
			Phase:  corev1.PodRunning,
			PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)}, {IP: fmt.Sprintf("fd00::%x", i+1)}},
		},
	}
	setReady(true)(pod)
	for _, option := range options {
		option(pod)
	}
	return pod
}

func setReady(ready bool) podOption {
	return func(p *corev1.Pod) {
		status := corev1.ConditionFalse
		if ready {
			status = corev1.ConditionTrue
		}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(epoch)}}
	}
}

func terminating(p *corev1.Pod) {
	p.DeletionTimestamp = new(metav1.NewTime(epoch))
}

func withPhase(phase corev1.PodPhase) podOption {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func withPodPorts(ports ...corev1.ContainerPort) podOption {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports = ports }
}

func newPods(from, to int, options ...podOption) []*corev1.Pod {
	var pods []*corev1.Pod
	for i := from; i < to; i++ {
		pods = append(pods, newPod(i, options...))
	}
	return pods
}

func zoneOf(pod *corev1.Pod) Zone {
	return Zone{Name: "zone-" + strings.TrimPrefix(pod.Spec.NodeName, "n")}
}

func setOf(service *corev1.Service, pods []*corev1.Pod) *Set {
	set := NewSet(service, SetOptions{})
	for _, pod := range pods {
		set.Put(pod, zoneOf(pod))
	}
	return set
}

// apply does the writes of a plan to a list of slices and returns the list that comes out, sorted by name. After each
// write it calls check with the list so far.
func apply(t testing.TB, existing []*discoveryv1.EndpointSlice, plan Plan, check func([]*discoveryv1.EndpointSlice)) []*discoveryv1.EndpointSlice {
	t.Helper()
	now := slices.Clone(existing)
	for _, write := range plan.Writes {
		at := slices.IndexFunc(now, func(s *discoveryv1.EndpointSlice) bool { return s.Name == write.Slice.Name })
		switch {
		case write.Verb == Create && at < 0:
			now = append(now, write.Slice)
		case write.Verb == Update && at >= 0:
			if now[at].AddressType != write.Slice.AddressType {
				t.Fatalf("%s changes its address type, which the API forbids", write.Slice.Name)
			}
			now[at] = write.Slice
		case write.Verb == Delete && at >= 0:
			now = slices.Delete(now, at, at+1)
		default:
			t.Fatalf("%s %s: index %d", write.Verb, write.Slice.Name, at)
		}
		if check != nil {
			check(now)
		}
	}
	return sortedByName(now)
}

func opts(limit int) Options { return Options{ManagedBy: managedBy, MaxEndpoints: limit} }

// describe shows writes in one line each.
func describe(plan Plan) []string {
	lines := []string{}
	for _, w := range plan.Writes {
		line := fmt.Sprintf("%s %d", w.Verb, len(w.Slice.Endpoints))
		if w.Moves {
			line += " moves"
		}
		lines = append(lines, line)
	}
	return lines
}

func minuteOf(n int) time.Duration { return time.Duration(n) * time.Minute }
