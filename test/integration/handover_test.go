package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// fleet is a namespace of Pods of every kind, more than an Endpoints object holds, and of Services of every kind.
type fleet struct {
	t         *testing.T
	namespace string
	random    *rand.Rand
	pods      []*corev1.Pod
	services  []*corev1.Service
}

const fleetSize = 1060

// newPods makes the Pods, several at a time.
func (f *fleet) newPods() {
	f.t.Helper()
	f.pods = make([]*corev1.Pod, fleetSize)
	numbers := make(chan int)
	errs := make([]error, fleetSize)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := range numbers {
				f.pods[i] = f.newPod(i)
				status := f.pods[i].Status.DeepCopy()
				errs[i] = suite.admin.Create(f.t.Context(), f.pods[i])
				if errs[i] == nil {
					f.pods[i].Status = *status
					errs[i] = suite.admin.Status().Update(f.t.Context(), f.pods[i])
				}
			}
		})
	}
	for i := range fleetSize {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		f.t.Fatal(err)
	}
	for i := 3; i < 9; i += 2 { // they stay, terminating, until their finalizer goes
		if err := suite.admin.Delete(f.t.Context(), f.pods[i]); err != nil {
			f.t.Fatal(err)
		}
	}
}

// newPod returns the Pod of a number: one in four is of the part quarter, twelve of the part few, those differ in every
// way.
func (f *fleet) newPod(i int) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: fmt.Sprintf("pod-%d", i), Labels: map[string]string{"app": "all", "part": "rest"}},
		Spec: corev1.PodSpec{NodeName: []string{"node-a", "node-b"}[i%2], Containers: []corev1.Container{{
			Name: "main", Image: "main", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(8080 + i%3/2)}},
		}}},
	}
	v4, v6 := corev1.PodIP{IP: fmt.Sprintf("10.50.%d.%d", i/200, i%200+1)}, corev1.PodIP{IP: fmt.Sprintf("fd00:50::%x", i+1)}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: v4.IP, PodIPs: []corev1.PodIP{v4, v6}}
	status := corev1.ConditionTrue
	if i%10 == 1 {
		status = corev1.ConditionFalse
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	switch {
	case i < 12:
		pod.Labels["part"] = "few"
		pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, "headless"
		pod.Finalizers = []string{"example.com/hold"}
		switch i {
		case 4:
			pod.Status.PodIPs = pod.Status.PodIPs[:1]
		case 5:
			pod.Spec.Containers[0].Ports = nil
		case 6:
			pod.Spec.InitContainers = []corev1.Container{{
				Name: "sidecar", Image: "sidecar", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
				Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9090}},
			}}
		case 8:
			pod.Status.Phase = corev1.PodFailed
		case 10:
			pod.Status.PodIP, pod.Status.PodIPs = "", nil
		}
	case i%4 == 0:
		pod.Labels["part"] = "quarter"
	}
	return pod
}

// newServices makes one Service for each way to select, port and publish, and some at random.
func (f *fleet) newServices() {
	f.t.Helper()
	port := corev1.ServicePort{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}
	named := corev1.ServicePort{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}
	metrics := corev1.ServicePort{Name: "metrics", Port: 90, TargetPort: intstr.FromString("metrics"), AppProtocol: new("http")}
	specs := map[string]corev1.ServiceSpec{
		"all":       {Selector: map[string]string{"app": "all"}, Ports: []corev1.ServicePort{port}},
		"all-named": {Selector: map[string]string{"app": "all"}, Ports: []corev1.ServicePort{named}},
		"quarter":   {Selector: map[string]string{"part": "quarter"}, Ports: []corev1.ServicePort{port}},
		"dual": {
			Selector: map[string]string{"part": "quarter"}, Ports: []corev1.ServicePort{named},
			IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack), IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol},
		},
		"headless":       {ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"part": "few"}, Ports: []corev1.ServicePort{named, metrics}},
		"headless-bare":  {ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"part": "few"}},
		"not-ready":      {Selector: map[string]string{"part": "few"}, Ports: []corev1.ServicePort{named, metrics}, PublishNotReadyAddresses: true},
		"same-zone":      {Selector: map[string]string{"part": "few"}, Ports: []corev1.ServicePort{port}, TrafficDistribution: new("PreferSameZone")},
		"same-node":      {Selector: map[string]string{"part": "few"}, Ports: []corev1.ServicePort{port}, TrafficDistribution: new("PreferSameNode")},
		"nobody":         {Selector: map[string]string{"part": "nobody"}, Ports: []corev1.ServicePort{port}},
		"missing-port":   {Selector: map[string]string{"part": "few"}, Ports: []corev1.ServicePort{metrics}},
		"balanced-local": {Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"part": "few"}, Ports: []corev1.ServicePort{port}},
	}
	for i := range 12 {
		spec := corev1.ServiceSpec{
			Selector:                 [](map[string]string){{"part": "few"}, {"part": "quarter"}, {"part": "few", "app": "all"}}[f.random.IntN(3)],
			PublishNotReadyAddresses: f.random.IntN(3) == 0,
			IPFamilyPolicy:           []*corev1.IPFamilyPolicy{nil, new(corev1.IPFamilyPolicyPreferDualStack)}[f.random.IntN(2)],
			TrafficDistribution:      []*string{nil, new("PreferClose"), new("PreferSameNode")}[f.random.IntN(3)],
			Ports:                    [][]corev1.ServicePort{{port}, {named, metrics}, {metrics, named}, {metrics}}[f.random.IntN(4)],
		}
		if f.random.IntN(3) == 0 {
			spec.ClusterIP = corev1.ClusterIPNone
		}
		specs[fmt.Sprintf("random-%d", i)] = spec
	}
	for name, spec := range specs {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}, Spec: spec}
		if f.random.IntN(2) == 0 {
			service.Labels = map[string]string{"team": "red", discoveryv1.LabelManagedBy: "theirs"}
		}
		create(f.t, service)
		f.services = append(f.services, service)
	}
}

// written is every slice and every Endpoints object of the namespace, by kind and name.
func (f *fleet) written() map[string]client.Object {
	f.t.Helper()
	var all discoveryv1.EndpointSliceList
	var classic corev1.EndpointsList
	for _, list := range []client.ObjectList{&all, &classic} {
		if err := suite.admin.List(f.t.Context(), list, client.InNamespace(f.namespace)); err != nil {
			f.t.Fatal(err)
		}
	}
	objects := map[string]client.Object{}
	for i := range all.Items {
		objects["EndpointSlice "+all.Items[i].Name] = &all.Items[i]
	}
	for i := range classic.Items {
		objects["Endpoints "+classic.Items[i].Name] = &classic.Items[i]
	}
	return objects
}

// untouched wants that nothing was written between two times, but for Endpoints over their capacity where they are
// excused: kube-controller-manager writes those at every pass, if only to take their trigger time away.
func (f *fleet) untouched(when string, before, after map[string]client.Object, excused bool) {
	f.t.Helper()
	written := 0
	for name, was := range before {
		is := after[name]
		if is != nil && is.GetResourceVersion() == was.GetResourceVersion() {
			continue
		}
		if excused && is != nil && is.GetAnnotations()[corev1.EndpointsOverCapacity] != "" {
			continue
		}
		if written++; written <= 3 {
			f.t.Errorf("%s: %s was written (-before +after):\n%s", when, name, cmp.Diff(said(was), said(is)))
		}
	}
	for name := range after {
		if before[name] == nil {
			written++
			f.t.Errorf("%s: %s was created", when, name)
		}
	}
	if written > 0 || len(before) < len(f.services) {
		f.t.Errorf("%s: %d of %d objects were written, want none of several", when, written, len(before))
	}
}

// said is an object without what the API server keeps about it.
func said(object client.Object) client.Object {
	if object == nil {
		return nil
	}
	object = object.DeepCopyObject().(client.Object)
	object.SetManagedFields(nil)
	return object
}

// change changes something that every Service with Pods shows, and a few more things.
func (f *fleet) change() {
	f.t.Helper()
	for _, i := range []int{0, 2, 7, 11, 20, 24, 100, 101, 102} {
		pod := &corev1.Pod{}
		get(f.t, f.namespace, f.pods[i].Name, pod)
		status := corev1.ConditionTrue
		if pod.Status.Conditions[0].Status == status {
			status = corev1.ConditionFalse
		}
		setReady(f.t, pod, status)
	}
	for i := 500; i < 700; i++ { // below capacity, and slices with room for all of others
		remove(f.t, f.pods[i])
	}
}

// TestHandOver: what kube-controller-manager wrote, ours takes over without a write, and what ours wrote,
// kube-controller-manager takes back without one.
func TestHandOver(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	f := &fleet{t: t, namespace: namespace(t), random: rand.New(rand.NewPCG(*seed, 0))}
	t.Cleanup(f.empty)
	f.newPods()
	f.newServices()

	theirs := startUpstreamEndpoints(t)
	theirs.idle(t, len(f.services))
	theirs.stop()
	before := f.written()

	ours := startOurEndpoints(t, f.namespace)
	ours.idle(t, len(f.services))
	f.untouched("taking over", before, f.written(), false)

	f.change()
	ours.idle(t, len(f.services))
	ours.stop()
	after := f.written()

	theirs = startUpstreamEndpoints(t)
	theirs.idle(t, len(f.services))
	f.untouched("handing back", after, f.written(), true)
	theirs.stop()
}

// empty takes away what others would look after for as long as the suite runs.
func (f *fleet) empty() {
	for i := range 12 {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: fmt.Sprintf("pod-%d", i)}}
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
		if err := suite.admin.Patch(context.Background(), pod, patch); client.IgnoreNotFound(err) != nil {
			f.t.Error(err)
		}
	}
	for _, object := range []client.Object{&corev1.Service{}, &corev1.Pod{}, &discoveryv1.EndpointSlice{}, &corev1.Endpoints{}} {
		if err := suite.admin.DeleteAllOf(context.Background(), object, client.InNamespace(f.namespace), client.GracePeriodSeconds(0)); err != nil {
			f.t.Errorf("deleting every %T: %v", object, err)
		}
	}
}

// inFull is what the Service of a sample is published as, but for names, versions and times.
type inFull struct {
	Slices  []discoveryv1.EndpointSlice
	Classic corev1.Endpoints
}

func published(t *testing.T, service *corev1.Service) inFull {
	t.Helper()
	var p inFull
	get(t, service.Namespace, service.Name, &p.Classic)
	found, err := slicesOf(t.Context(), service.Namespace, service.Name)
	if err != nil {
		t.Fatal(err)
	}
	p.Slices = found
	strip := func(m *metav1.ObjectMeta) {
		if m.Annotations[corev1.EndpointsLastChangeTriggerTime] != "" {
			m.Annotations = nil // when what was written depends on how long the writer has been there
		}
		*m = metav1.ObjectMeta{Namespace: m.Namespace, Labels: m.Labels, Annotations: m.Annotations, OwnerReferences: m.OwnerReferences}
	}
	strip(&p.Classic.ObjectMeta)
	for i := range p.Slices {
		strip(&p.Slices[i].ObjectMeta)
		slices.SortFunc(p.Slices[i].Endpoints, func(a, b discoveryv1.Endpoint) int { return strings.Compare(a.TargetRef.Name, b.TargetRef.Name) })
	}
	slices.SortFunc(p.Slices, func(a, b discoveryv1.EndpointSlice) int {
		return strings.Compare(string(a.AddressType), string(b.AddressType))
	})
	return p
}

// TestEndpointsInFull: Endpoints and EndpointSlices with nodes, Pods, host names and conditions, both equal in content
// to what kube-controller-manager makes of the same Service and Pods.
func TestEndpointsInFull(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	f := &fleet{t: t, namespace: namespace(t)}
	t.Cleanup(f.empty)
	service := &corev1.Service{}
	var pods []*corev1.Pod
	for _, object := range sample(t, "headless-endpoints.yaml") {
		object.SetNamespace(f.namespace)
		if object.GetKind() == "Service" {
			convert(t, object, service)
			create(t, service)
			continue
		}
		pod := &corev1.Pod{}
		convert(t, object, pod)
		number := len(pods)
		pod.Spec.NodeName = []string{"node-a", "node-b"}[number]
		pod.Finalizers = []string{"example.com/hold"}
		create(t, pod)
		t.Cleanup(func() {
			patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
			if err := suite.admin.Patch(context.Background(), pod, patch); client.IgnoreNotFound(err) != nil {
				t.Error(err)
			}
		})
		ip := fmt.Sprintf("10.51.0.%d", number+1)
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
		setReady(t, pod, []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}[number])
		pods = append(pods, pod)
	}
	forget := func() {
		for _, object := range f.written() {
			remove(t, object)
		}
	}
	terminate := func() {
		if err := suite.admin.Delete(t.Context(), pods[0]); err != nil {
			t.Fatal(err)
		}
	}

	theirs := startUpstreamEndpoints(t)
	theirs.idle(t, 1)
	theirs.stop()
	upstream := published(t, service)
	forget()
	ours := startOurEndpoints(t, f.namespace)
	ours.idle(t, 1)
	if diff := cmp.Diff(upstream, published(t, service)); diff != "" {
		t.Errorf("-upstream +ours:\n%s", diff)
	}
	inDetail(t, published(t, service), pods, true)

	terminate()
	ours.idle(t, 1)
	ours.stop()
	got := published(t, service)
	inDetail(t, got, pods, false)
	forget()
	theirs = startUpstreamEndpoints(t)
	theirs.idle(t, 1)
	theirs.stop()
	if diff := cmp.Diff(published(t, service), got); diff != "" {
		t.Errorf("with a terminating Pod (-upstream +ours):\n%s", diff)
	}
}

// inDetail wants the two Pods of the sample, the first ready or terminating, the second not ready.
func inDetail(t *testing.T, p inFull, pods []*corev1.Pod, firstReady bool) {
	t.Helper()
	var wanted []discoveryv1.Endpoint
	var addresses []corev1.EndpointAddress
	for i, pod := range pods {
		ref := &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
		wanted = append(wanted, discoveryv1.Endpoint{
			Addresses:  []string{pod.Status.PodIP},
			Conditions: discoveryv1.EndpointConditions{Ready: new(i == 0 && firstReady), Serving: new(i == 0), Terminating: new(i == 0 && !firstReady)},
			Hostname:   &pod.Name, NodeName: &pod.Spec.NodeName, Zone: new(nodeZones[pod.Spec.NodeName]), TargetRef: ref,
		})
		addresses = append(addresses, corev1.EndpointAddress{IP: pod.Status.PodIP, Hostname: pod.Name, NodeName: &pod.Spec.NodeName, TargetRef: ref})
	}
	if len(p.Slices) != 1 {
		t.Fatalf("%d slices, want one", len(p.Slices))
	}
	if diff := cmp.Diff(wanted, p.Slices[0].Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	subset := corev1.EndpointSubset{
		NotReadyAddresses: addresses[1:],
		Ports:             []corev1.EndpointPort{{Name: "sql", Port: 8080, Protocol: corev1.ProtocolTCP, AppProtocol: new("postgresql")}},
	}
	if firstReady {
		subset.Addresses = addresses[:1]
	}
	if diff := cmp.Diff([]corev1.EndpointSubset{subset}, p.Classic.Subsets); diff != "" {
		t.Errorf("subsets (-want +got):\n%s", diff)
	}
}

// TestSecondOwner: with kube-controller-manager's controllers beside ours, ours soon stops writing the slices of a
// Service that both write, says so, and the slices stay right.
func TestSecondOwner(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	a := applySample(t, "nginx-clusterip.yaml")
	f := &fleet{t: t, namespace: a.namespace}
	t.Cleanup(f.empty)
	ours := startOurEndpoints(t, a.namespace)
	startUpstreamEndpoints(t)
	ready(t, a, a.pods...)

	conflict := func() bool {
		get(t, a.namespace, a.service.Name, a.service)
		return meta.IsStatusConditionTrue(a.service.Status.Conditions, fairleadv1alpha1.ConditionSliceOwnershipConflict)
	}
	flip := func(i int) {
		setReady(t, a.pods[0], []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue}[i%2])
		ready(t, a, a.pods[1-i%2:]...)
	}
	flips := 0
	for ; flips < 100 && !conflict(); flips++ {
		flip(flips)
	}
	if !conflict() {
		t.Fatalf("no conflict is found within %d changes, each written by two", flips)
	}
	t.Logf("the conflict was found within %d changes", flips)
	written := ours.changes(t)
	for i := range 10 {
		flip(flips + i)
	}
	if now := ours.changes(t); now != written {
		t.Errorf("%v slices were written while another owner writes them", now-written)
	}
	if c := meta.FindStatusCondition(a.service.Status.Conditions, fairleadv1alpha1.ConditionSliceOwnershipConflict); !strings.Contains(c.Message, "kube-controller-manager") {
		t.Errorf("the condition says %q: it does not name the other one", c.Message)
	}
}

// changes is how many slices our manager has written.
func (w *writer) changes(t *testing.T) (total float64) {
	t.Helper()
	_, body, err := scrape(t, w.metrics, w.token)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "endpoint_slice_controller_changes{") {
			v, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
			total += v
		}
	}
	return total
}
