package endpoints

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestEndpointOfAPod(t *testing.T) {
	want := func(change func(*discoveryv1.Endpoint)) []*discoveryv1.Endpoint {
		e := &discoveryv1.Endpoint{
			Addresses:  []string{"10.244.0.2"},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "pod-0001", UID: "uid-0001"},
			NodeName:   new("n1"), Zone: new("zone-1"),
		}
		if change != nil {
			change(e)
		}
		return []*discoveryv1.Endpoint{e}
	}
	cases := map[string]struct {
		reason  string
		service *corev1.Service
		pod     *corev1.Pod
		zone    Zone
		want    []*discoveryv1.Endpoint
	}{
		"Ready": {
			reason:  "A ready Pod is ready and serving.",
			service: newService(), pod: newPod(1), zone: Zone{Name: "zone-1"}, want: want(nil),
		},
		"Terminating": {
			reason:  "A Pod that goes away serves but is not ready.",
			service: newService(), pod: newPod(1, terminating), zone: Zone{Name: "zone-1"},
			want: want(func(e *discoveryv1.Endpoint) {
				e.Conditions.Ready, e.Conditions.Terminating = new(false), new(true)
			}),
		},
		"PublishNotReady": {
			reason:  "publishNotReadyAddresses makes ready true and leaves serving alone.",
			service: newService(publishNotReady), pod: newPod(1, setReady(false), terminating), zone: Zone{Name: "zone-1"},
			want: want(func(e *discoveryv1.Endpoint) {
				e.Conditions.Serving, e.Conditions.Terminating = new(false), new(true)
			}),
		},
		"Failed": {
			reason:  "A Pod that ended is never published.",
			service: newService(publishNotReady), pod: newPod(1, withPhase(corev1.PodFailed)),
		},
		"Succeeded": {
			reason:  "A Pod that ended is never published.",
			service: newService(publishNotReady), pod: newPod(1, withPhase(corev1.PodSucceeded)),
		},
		"OnlyPodIP": {
			reason:  "Addresses come from podIPs alone.",
			service: newService(),
			pod: newPod(1, func(p *corev1.Pod) {
				p.Status.PodIP, p.Status.PodIPs = "10.244.0.2", nil
			}),
		},
		"IrregularAddress": {
			reason:  "Addresses are written in their usual form.",
			service: newService(), zone: Zone{Name: "zone-1"},
			pod: newPod(1, func(p *corev1.Pod) {
				p.Status.PodIPs = []corev1.PodIP{{IP: "010.244.000.2"}, {IP: "FD00:0::1"}}
			}),
			want: want(nil),
		},
		"NoZone": {
			reason:  "A node without a zone label leaves the zone out.",
			service: newService(), pod: newPod(1),
			want: want(func(e *discoveryv1.Endpoint) { e.Zone = nil }),
		},
		"NodeMissing": {
			reason:  "A Pod whose node is not known is left out.",
			service: newService(), pod: newPod(1), zone: Zone{NodeMissing: true},
		},
		"NodeMissingPublished": {
			reason:  "With publishNotReadyAddresses it is published without a zone.",
			service: newService(publishNotReady), pod: newPod(1), zone: Zone{NodeMissing: true},
			want: want(func(e *discoveryv1.Endpoint) { e.Zone = nil }),
		},
		"Hostname": {
			reason:  "A Pod that names the Service as its subdomain has its hostname.",
			service: newService(), zone: Zone{Name: "zone-1"},
			pod: newPod(1, func(p *corev1.Pod) {
				p.Spec.Hostname, p.Spec.Subdomain = "pod-1", "web"
			}),
			want: want(func(e *discoveryv1.Endpoint) { e.Hostname = new("pod-1") }),
		},
		"HostnameOfAnotherSubdomain": {
			reason:  "Any other Pod has none.",
			service: newService(), zone: Zone{Name: "zone-1"},
			pod: newPod(1, func(p *corev1.Pod) {
				p.Spec.Hostname, p.Spec.Subdomain = "pod-1", "other"
			}),
			want: want(nil),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := tc.pod.DeepCopy()
			set := NewSet(tc.service, SetOptions{})
			set.Put(tc.pod, tc.zone)
			if diff := cmp.Diff(tc.want, set.Endpoints(discoveryv1.AddressTypeIPv4)); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(before, tc.pod); diff != "" {
				t.Errorf("the Pod was changed:\n%s", diff)
			}
		})
	}
}

func TestWaiting(t *testing.T) {
	set := NewSet(newService(), SetOptions{})
	set.Put(newPod(2), Zone{NodeMissing: true})
	set.Put(newPod(1), Zone{NodeMissing: true})
	if diff := cmp.Diff([]string{"pod-0001", "pod-0002"}, set.Waiting()); diff != "" {
		t.Error(diff)
	}
	set.Put(newPod(2), Zone{})
	set.Delete("pod-0001")
	if diff := cmp.Diff([]string(nil), set.Waiting()); diff != "" {
		t.Error(diff)
	}
	if got := len(set.Endpoints(discoveryv1.AddressTypeIPv4)); got != 1 {
		t.Errorf("want 1 endpoint, got %d", got)
	}
}

func TestPorts(t *testing.T) {
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	always, once := corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicy("")
	named := servicePort("http", 80, intstr.FromString("web"))
	metrics := servicePort("metrics", 9090, intstr.FromInt32(9090))
	endpointPort := func(name string, port int32) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &tcp}
	}
	init := func(policy *corev1.ContainerRestartPolicy) *corev1.Pod {
		return newPod(1, withPodPorts(), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{RestartPolicy: policy, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 81, Protocol: tcp}}}}
		})
	}
	cases := map[string]struct {
		reason  string
		service *corev1.Service
		pod     *corev1.Pod
		want    []discoveryv1.EndpointPort
	}{
		"Number": {
			reason:  "A number needs no port of that number on the Pod.",
			service: newService(withPorts(metrics)), pod: newPod(1, withPodPorts()),
			want: []discoveryv1.EndpointPort{endpointPort("metrics", 9090)},
		},
		"Name": {
			reason:  "A name is looked up on the Pod.",
			service: newService(withPorts(named, metrics)), pod: newPod(1),
			want: []discoveryv1.EndpointPort{endpointPort("http", 8080), endpointPort("metrics", 9090)},
		},
		"NameOfOtherProtocol": {
			reason:  "Protocol counts, and a port that the Pod lacks is dropped alone.",
			service: newService(withPorts(named, metrics)),
			pod:     newPod(1, withPodPorts(corev1.ContainerPort{Name: "web", ContainerPort: 8080, Protocol: udp})),
			want:    []discoveryv1.EndpointPort{endpointPort("metrics", 9090)},
		},
		"NameOnSidecar": {
			reason:  "An init container that is restarted always runs beside the others.",
			service: newService(withPorts(named)), pod: init(&always),
			want: []discoveryv1.EndpointPort{endpointPort("http", 81)},
		},
		"NameOnInitContainer": {
			reason:  "Another init container has ended when the Pod serves.",
			service: newService(withPorts(named)), pod: init(&once),
			want: []discoveryv1.EndpointPort{},
		},
		"NameOnOrdinaryInitContainer": {
			reason:  "No restart policy is the ordinary case.",
			service: newService(withPorts(named)), pod: init(nil),
			want: []discoveryv1.EndpointPort{},
		},
		"HeadlessWithoutPorts": {
			reason:  "A headless Service may have no ports, and its slices have none.",
			service: newService(withPorts(), func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), pod: newPod(1),
			want: []discoveryv1.EndpointPort{},
		},
		"AppProtocol": {
			reason: "appProtocol is passed on.",
			service: newService(withPorts(corev1.ServicePort{
				Name: "h2", Port: 80, TargetPort: intstr.FromInt32(80), Protocol: tcp, AppProtocol: new("kubernetes.io/h2c"),
			})), pod: newPod(1),
			want: []discoveryv1.EndpointPort{{Name: new("h2"), Port: new(int32(80)), Protocol: &tcp, AppProtocol: new("kubernetes.io/h2c")}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			plan := Pack(setOf(tc.service, []*corev1.Pod{tc.pod}), nil, opts(100))
			if len(plan.Writes) != 1 {
				t.Fatalf("want one slice, got %v", describe(plan))
			}
			if diff := cmp.Diff(tc.want, plan.Writes[0].Slice.Ports); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
		})
	}
}

func TestUnresolvedPorts(t *testing.T) {
	service := newService(withPorts(servicePort("http", 80, intstr.FromString("web")), servicePort("", 81, intstr.FromString("admin"))))
	other := withPodPorts(
		corev1.ContainerPort{Name: "srv", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
		corev1.ContainerPort{ContainerPort: 8081, Protocol: corev1.ProtocolTCP},
	)
	cases := map[string]struct {
		reason string
		pods   []*corev1.Pod
		want   []string
	}{
		"None": {
			reason: "Without Pods nothing is known.",
		},
		"Some": {
			reason: "Ready Pods count, port by port.",
			pods:   []*corev1.Pod{newPod(1), newPod(2, other), newPod(3, other, setReady(false))},
			want: []string{
				`port "http" (80): some Pods lack its targetPort "web" (TCP); they have srv/8080/TCP`,
				`port 81: no Pod has its targetPort "admin" (TCP); they have srv/8080/TCP, web/8080/TCP`,
			},
		},
		"NoneReady": {
			reason: "Where no Pod is ready, all that stay count.",
			pods:   []*corev1.Pod{newPod(1, withPodPorts(), setReady(false)), newPod(2, terminating)},
			want: []string{
				`port "http" (80): no Pod has its targetPort "web" (TCP); they name no ports`,
				`port 81: no Pod has its targetPort "admin" (TCP); they name no ports`,
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			unresolved, _ := setOf(service, tc.pods).UnresolvedPorts()
			var got []string
			for _, u := range unresolved {
				got = append(got, u.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// TestPortsResolveInTheEnd: nothing is unresolved any more when the Pods that lacked a port have been replaced.
func TestPortsResolveInTheEnd(t *testing.T) {
	set := setOf(newService(withPorts(servicePort("http", 80, intstr.FromString("web")))), newPods(0, 3, withPodPorts()))
	if unresolved, pods := set.UnresolvedPorts(); len(unresolved) != 1 || pods != 3 {
		t.Errorf("want one port that 3 Pods lack, got %v of %d", unresolved, pods)
	}
	for _, pod := range newPods(0, 2) {
		set.Put(pod, zoneOf(pod))
	}
	set.Delete(newPod(2).Name)
	if unresolved, pods := set.UnresolvedPorts(); len(unresolved) != 0 || pods != 2 {
		t.Errorf("want none and 2 Pods, got %v of %d", unresolved, pods)
	}
}

func TestFamilies(t *testing.T) {
	v4, v6 := discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	cases := map[string]struct {
		service *corev1.Service
		want    []discoveryv1.AddressType
	}{
		"Given":      {newService(withFamilies(corev1.IPv6Protocol, corev1.IPv4Protocol)), []discoveryv1.AddressType{v6, v4}},
		"FromIPv4":   {newService(withFamilies()), []discoveryv1.AddressType{v4}},
		"FromIPv6":   {newService(withFamilies(), func(s *corev1.Service) { s.Spec.ClusterIP = "fd00::1" }), []discoveryv1.AddressType{v6}},
		"Headless":   {newService(withFamilies(), func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), []discoveryv1.AddressType{v4, v6}},
		"Unassigned": {newService(withFamilies(), func(s *corev1.Service) { s.Spec.ClusterIP = "" }), []discoveryv1.AddressType{v4, v6}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Families(tc.service)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSelected(t *testing.T) {
	cases := map[string]struct {
		reason  string
		service *corev1.Service
		want    bool
	}{
		"Selector":      {"The usual case.", newService(), true},
		"EmptySelector": {"An empty selector that is not nil matches everything.", newService(func(s *corev1.Service) { s.Spec.Selector = map[string]string{} }), true},
		"NilSelector":   {"Someone else writes its slices.", newService(func(s *corev1.Service) { s.Spec.Selector = nil }), false},
		"ExternalName":  {"A name has no endpoints.", newService(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Selected(tc.service); got != tc.want {
				t.Errorf("%s Got %v.", tc.reason, got)
			}
		})
	}
}

func TestTriggerTimes(t *testing.T) {
	at := func(minutes int) podOption {
		return func(p *corev1.Pod) {
			p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(epoch.Add(minuteOf(minutes)))
		}
	}
	var times TriggerTimes
	service := newService()
	steps := []struct {
		reason string
		pods   []*corev1.Pod
		want   int // minutes after epoch; -1: zero
	}{
		{"The first call gives the Service's creation.", []*corev1.Pod{newPod(1, at(1))}, 0},
		{"Nothing changed.", []*corev1.Pod{newPod(1, at(1))}, -1},
		{"The earliest change counts.", []*corev1.Pod{newPod(1, at(9)), newPod(2, at(7))}, 7},
		{"It does where a later one is noted after it.", []*corev1.Pod{newPod(1, at(9)), newPod(2, at(10)), newPod(3, at(11))}, 10},
		{"A Pod that went away says nothing.", []*corev1.Pod{newPod(1, at(9))}, -1},
		{"A Pod that comes back counts again.", []*corev1.Pod{newPod(1, at(9)), newPod(2, at(7))}, 7},
	}
	for _, step := range steps {
		for _, pod := range step.pods {
			times.Note(pod)
		}
		times.Only(step.pods)
		got := times.Next(service)
		if step.want < 0 && got.IsZero() || got.Equal(epoch.Add(minuteOf(step.want))) {
			continue
		}
		t.Errorf("%s Want minute %d, got %v", step.reason, step.want, got)
	}
}
