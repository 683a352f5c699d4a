package endpointslice

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/endpoints"
)

var (
	_ toolscache.TransformFunc = PodTransform
	_ toolscache.TransformFunc = SliceTransform
)

// TestSliceTransform: who wrote a slice stays, what makes it long goes, and nothing else changes.
func TestSliceTransform(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	slice := func(entry metav1.ManagedFieldsEntry) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "web-1", ResourceVersion: "7", ManagedFields: []metav1.ManagedFieldsEntry{entry}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
		}
	}
	got, err := SliceTransform(slice(metav1.ManagedFieldsEntry{
		Manager: "m", Operation: metav1.ManagedFieldsOperationUpdate, Time: &at, APIVersion: "discovery.k8s.io/v1",
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:endpoints":{}}`),
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := slice(metav1.ManagedFieldsEntry{Manager: "m", Operation: metav1.ManagedFieldsOperationUpdate, Time: &at})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if other, err := SliceTransform("tombstone"); err != nil || other != "tombstone" {
		t.Errorf("what is no slice was changed: %v, %v", other, err)
	}
}

// TestPodTransformKeepsGates: of Pods that wait for a load balancer, and of no others, what they wait for stays.
func TestPodTransformKeepsGates(t *testing.T) {
	ours, other := corev1.PodConditionType("target-health.fairlead.dev/web"), corev1.PodConditionType("example.com/warm")
	pod := func(gates ...corev1.PodConditionType) *corev1.Pod {
		p := &corev1.Pod{}
		for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady, corev1.ContainersReady, ours, other} {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue})
		}
		for _, gate := range gates {
			p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: gate})
		}
		return p
	}
	cases := map[string]struct {
		gates []corev1.PodConditionType
		want  string
	}{
		"None":    {nil, "[] [Ready]"},
		"Another": {[]corev1.PodConditionType{other}, "[] [Ready]"},
		"Ours":    {[]corev1.PodConditionType{other, ours}, fmt.Sprintf("[%s] [Ready ContainersReady %s]", ours, ours)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			obj, err := PodTransform(pod(tc.gates...))
			if err != nil {
				t.Fatal(err)
			}
			gates, conditions := []string{}, []string{}
			for _, g := range obj.(*corev1.Pod).Spec.ReadinessGates {
				gates = append(gates, string(g.ConditionType))
			}
			for _, c := range obj.(*corev1.Pod).Status.Conditions {
				conditions = append(conditions, string(c.Type))
			}
			if got := fmt.Sprint(gates, conditions); got != tc.want {
				t.Errorf("gates and conditions are %s, want %s", got, tc.want)
			}
		})
	}
}

// TestPodTransform: what is left of a Pod makes the same slices, the same Endpoints and the same trigger times.
func TestPodTransform(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "one", UID: "1", ResourceVersion: "7", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{"large": "value"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
			DeletionTimestamp: new(metav1.Now()),
		},
		Spec: corev1.PodSpec{
			NodeName: "n1", Hostname: "one", Subdomain: "web",
			Containers: []corev1.Container{
				{Name: "sidecarless", Image: "image", Ports: []corev1.ContainerPort{{ContainerPort: 1}}},
				{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}},
			},
			InitContainers: []corev1.Container{
				{RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: 81, Protocol: corev1.ProtocolTCP}}},
				{Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 82, Protocol: corev1.ProtocolTCP}}},
			},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
				{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(), Message: "long"},
			},
		},
	}
	port := func(name string) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Port: 80, TargetPort: intstr.FromString(name), Protocol: corev1.ProtocolTCP}
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, ClusterIP: "None", PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{port("web"), port("admin"), port("init")},
		},
	}
	obj, err := PodTransform(pod.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	small := obj.(*corev1.Pod)
	if small.DeletionTimestamp == nil {
		t.Error("the deletion timestamp is lost")
	}
	decide := func(pod *corev1.Pod) (endpoints.Plan, *corev1.Endpoints, string) {
		set := endpoints.NewSet(service, endpoints.SetOptions{})
		set.Put(pod, endpoints.Zone{Name: "a"})
		var times endpoints.TriggerTimes
		times.Next(service)
		times.Note(pod)
		trigger := times.Next(service)
		unresolved, _ := set.UnresolvedPorts()
		return endpoints.NewLayout(endpoints.Options{}).Plan(set, endpoints.Pass{Trigger: trigger}),
			endpoints.Classic(service, []*corev1.Pod{pod}, nil, trigger), fmt.Sprint(unresolved)
	}
	for _, leaving := range []*metav1.Time{new(metav1.Now()), nil} {
		pod.DeletionTimestamp, small.DeletionTimestamp = leaving, leaving
		wantPlan, wantClassic, wantPorts := decide(pod)
		gotPlan, gotClassic, gotPorts := decide(small)
		if diff := cmp.Diff(wantPlan, gotPlan) + cmp.Diff(wantClassic, gotClassic) + cmp.Diff(wantPorts, gotPorts); diff != "" {
			t.Errorf("-whole +reduced:\n%s", diff)
		}
	}
	if small.Annotations != nil || small.ManagedFields != nil || small.Spec.Containers[0].Image != "" || len(small.Status.Conditions) != 1 {
		t.Errorf("not reduced: %v", small)
	}
	if small.ResourceVersion != "7" {
		t.Errorf("the cache needs the resourceVersion, got %q", small.ResourceVersion)
	}
	if other, err := PodTransform("tombstone"); err != nil || other != "tombstone" {
		t.Errorf("what is no Pod was changed: %v, %v", other, err)
	}
}

// TestPodsShare: Pods share labels and ports that are equal, and no others.
func TestPodsShare(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	transformed := func(change func(*corev1.Pod)) *corev1.Pod {
		t.Helper()
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "b": ""}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}},
				{Ports: []corev1.ContainerPort{{Name: "more", ContainerPort: 1, Protocol: corev1.ProtocolTCP}}},
			}},
		}
		change(pod)
		want := pod.DeepCopy()
		obj, err := PodTransform(pod)
		if err != nil {
			t.Fatal(err)
		}
		small := obj.(*corev1.Pod)
		if diff := cmp.Diff(want.Labels, small.Labels) + cmp.Diff(want.Spec.Containers, small.Spec.Containers); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		return small
	}
	first := transformed(func(*corev1.Pod) {})
	cases := map[string]struct {
		change                func(*corev1.Pod)
		sameLabels, samePorts bool
	}{
		"Twin":          {func(*corev1.Pod) {}, true, true},
		"OtherValue":    {func(p *corev1.Pod) { p.Labels["app"] = "other" }, false, true},
		"Shifted":       {func(p *corev1.Pod) { p.Labels = map[string]string{"ap": "pweb", "b": ""} }, false, true},
		"OtherNumber":   {func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 81 }, true, false},
		"OtherProtocol": {func(p *corev1.Pod) { p.Spec.Containers[0].Ports[1].Protocol = corev1.ProtocolTCP }, true, false},
		"OtherPolicy":   {func(p *corev1.Pod) { p.Spec.Containers[0].RestartPolicy = &always }, true, false},
		"OtherContainer": {func(p *corev1.Pod) {
			c := p.Spec.Containers
			c[0].Ports, c[1].Ports = c[0].Ports[:1], append(c[0].Ports[1:], c[1].Ports...)
		}, true, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			other := transformed(tc.change)
			if same := reflect.ValueOf(first.Labels).Pointer() == reflect.ValueOf(other.Labels).Pointer(); same != tc.sameLabels {
				t.Errorf("the labels are shared: %v", same)
			}
			if same := &first.Spec.Containers[0] == &other.Spec.Containers[0]; same != tc.samePorts {
				t.Errorf("the ports are shared: %v", same)
			}
		})
	}
}

// TestPoolForgets: a pool does not grow for ever, and goes on sharing.
func TestPoolForgets(t *testing.T) {
	var p pool[string]
	key := func(key []byte, text string) []byte { return append(key, text...) }
	for i := range 3 * maxShared {
		p.share(fmt.Sprint(i), key)
	}
	if n := len(p.byKey); n > maxShared {
		t.Errorf("it remembers %d", n)
	}
	for size := 1 << 10; size <= 1<<20; size *= 4 {
		long := strings.Repeat("x", size)
		for i := range 2 * maxSharedBytes / size {
			p.share(long+fmt.Sprint(i), key)
		}
		bytes := 0
		for key := range p.byKey {
			bytes += len(key)
		}
		if bytes > maxSharedBytes {
			t.Errorf("after texts of %d bytes it remembers %d", size, bytes)
		}
	}
}
