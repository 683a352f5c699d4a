package cloud

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

func slicePort(name, protocol string, number int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &name, Protocol: ptr.To(corev1.Protocol(protocol)), Port: &number}
}

// published makes an EndpointSlice.
func published(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{AddressType: family, Ports: ports, Endpoints: endpoints}
}

// endpoint is that of a Pod of the same name; its state is a list of ready, serving and terminating.
func endpoint(address, pod, state string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{address}, Zone: ptr.To("z"), NodeName: ptr.To("n"), Conditions: discoveryv1.EndpointConditions{
		Ready: ptr.To(strings.Contains(state, "ready")), Serving: ptr.To(strings.Contains(state, "serving")),
		Terminating: ptr.To(strings.Contains(state, "terminating"))}}
	if pod != "" {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: pod, UID: types.UID("uid-" + pod)}
	}
	return e
}

func TestEndpointsOf(t *testing.T) {
	ports := []Port{{Name: "http", Protocol: "TCP", Port: 80}, {Name: "dns", Protocol: "UDP", Port: 53}}
	http := []discoveryv1.EndpointPort{slicePort("http", "TCP", 8080)}
	waits := func(ref *corev1.ObjectReference) bool { return ref.Name == "waits" }
	pod := func(address, name string, ports map[string]int32) Endpoint {
		return Endpoint{Address: address, Ports: ports, Zone: "z", Node: "n", Pod: name, PodUID: "uid-" + name}
	}
	at8080 := map[string]int32{"tcp-80": 8080}
	cases := map[string]struct {
		reason string
		slices []*discoveryv1.EndpointSlice
		want   []Endpoint
	}{
		"Ready": {"whoever is ready, sorted", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4, http,
			endpoint("10.0.0.2", "b", "ready serving"), endpoint("10.0.0.1", "a", "ready serving"), endpoint("10.0.0.3", "c", ""))},
			[]Endpoint{pod("10.0.0.1", "a", at8080), pod("10.0.0.2", "b", at8080)}},
		"Terminating": {"goes at once, though it still serves", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4, http,
			endpoint("10.0.0.1", "a", "serving terminating"))}, nil},
		"PublishNotReady": {"such slices say ready of all", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4, http,
			endpoint("10.0.0.1", "a", "ready terminating"))}, []Endpoint{pod("10.0.0.1", "a", at8080)}},
		"Waiting": {"it is ready once the balancer has it", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4, http,
			endpoint("10.0.0.1", "waits", ""))}, []Endpoint{pod("10.0.0.1", "waits", at8080)}},
		"WaitingAndTerminating": {"it will not be ready any more", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4, http,
			endpoint("10.0.0.1", "waits", "terminating"))}, nil},
		"NamedPorts": {"each Pod has its own numbers, in slices of their own", []*discoveryv1.EndpointSlice{
			published(discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{slicePort("http", "TCP", 8080), slicePort("dns", "UDP", 5353)}, endpoint("10.0.0.1", "a", "ready")),
			published(discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{slicePort("http", "TCP", 9090)}, endpoint("10.0.0.2", "b", "ready"))},
			[]Endpoint{pod("10.0.0.1", "a", map[string]int32{"tcp-80": 8080, "udp-53": 5353}), pod("10.0.0.2", "b", map[string]int32{"tcp-80": 9090})}},
		"OneInTwoSlices": {"its ports are put together", []*discoveryv1.EndpointSlice{
			published(discoveryv1.AddressTypeIPv4, http, endpoint("10.0.0.1", "a", "ready")),
			published(discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{slicePort("dns", "UDP", 53)}, endpoint("10.0.0.1", "a", "ready"))},
			[]Endpoint{pod("10.0.0.1", "a", map[string]int32{"tcp-80": 8080, "udp-53": 53})}},
		"TwiceAtOnePlace": {"the cloud would refuse the second", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4, http,
			endpoint("10.0.0.1", "b", "ready"), endpoint("10.0.0.1", "a", "ready"))}, []Endpoint{pod("10.0.0.1", "a", at8080)}},
		"NeighboursOnANode": {"one address, two ports", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4, http, endpoint("10.0.0.1", "a", "ready")),
			published(discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{slicePort("http", "TCP", 8081)}, endpoint("10.0.0.1", "b", "ready"))},
			[]Endpoint{pod("10.0.0.1", "a", at8080), pod("10.0.0.1", "b", map[string]int32{"tcp-80": 8081})}},
		"NoPod": {"an address that somebody wrote by hand", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv6, http, endpoint("2001:db8::1", "", "ready"))},
			[]Endpoint{{Address: "2001:db8::1", Ports: at8080, Zone: "z", Node: "n"}}},
		"OtherProtocol": {"the port of the name is not this one", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4,
			[]discoveryv1.EndpointPort{slicePort("http", "UDP", 8080)}, endpoint("10.0.0.1", "a", "ready"))}, nil},
		"Names": {"no address", []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeFQDN, http, endpoint("a.example.com", "", "ready"))}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var before []*discoveryv1.EndpointSlice
			for _, s := range tc.slices {
				before = append(before, s.DeepCopy())
			}
			got := EndpointsOf(ports, tc.slices, waits)
			if diff := cmp.Diff(tc.want, got, cmp.Transformer("none", func(e []Endpoint) []Endpoint { return append([]Endpoint{}, e...) })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			slices.Reverse(tc.slices)
			if again := EndpointsOf(ports, tc.slices, waits); !cmp.Equal(got, again) {
				t.Errorf("in another order: %s", cmp.Diff(got, again))
			}
			slices.Reverse(tc.slices)
			if diff := cmp.Diff(before, tc.slices); diff != "" {
				t.Errorf("the slices were changed:\n%s", diff)
			}
		})
	}
}

// TestBuildSpecForPods: no node port, no node, a health check on the Pod's own port.
func TestBuildSpecForPods(t *testing.T) {
	caps := able
	caps.PodTargets = true
	svc := balancer(func(s *corev1.Service) {
		s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
		s.Spec.Ports[0].NodePort, s.Spec.Ports[0].TargetPort = 0, intstr.FromInt32(8080)
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns")})
	})
	in := Input{ClusterID: "c", Service: svc, Class: &v1alpha1.LoadBalancerClassSpec{Targets: v1alpha1.TargetsPods}, Capabilities: caps,
		Nodes: []*corev1.Node{node("a", nil)}, Slices: []*discoveryv1.EndpointSlice{published(discoveryv1.AddressTypeIPv4,
			[]discoveryv1.EndpointPort{slicePort("http", "TCP", 8080)}, endpoint("10.0.0.1", "a", "ready"))}}
	got, options, err := BuildSpec(in)
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{Owner: Owner{ClusterID: "c", ServiceUID: "u", Namespace: "shop", Name: "cart"}, Families: []Family{IPv4}, PodTargets: true,
		Ports: []Port{{Name: "http", Protocol: "TCP", Port: 80, HealthCheck: HealthCheck{Protocol: "TCP"}},
			{Name: "dns", Protocol: "UDP", Port: 53, HealthCheck: HealthCheck{Protocol: "TCP", Port: 8080}}},
		Endpoints: []Endpoint{{Address: "10.0.0.1", Ports: map[string]int32{"tcp-80": 8080}, Zone: "z", Node: "n", Pod: "a", PodUID: "uid-a"}}}
	if diff := cmp.Diff(want, got); diff != "" || !options.Pods {
		t.Errorf("Pods: %t; spec (-want +got):\n%s", options.Pods, diff)
	}
	refusals := map[string]struct {
		edit func(svc *corev1.Service, in *Input)
		want string
	}{
		"NotAble": {func(_ *corev1.Service, in *Input) { in.Capabilities.PodTargets = false }, "targets: Pods in the class: the provider sends to nodes only"},
		"NotAbleForIt": {func(svc *corev1.Service, in *Input) {
			in.Capabilities.PodTargets, in.Class = false, nil
			svc.Annotations = map[string]string{v1alpha1.AnnotationTargets: "Pods"}
		}, "annotation fairlead.dev/targets: the provider sends to nodes only"},
		"Typo": {func(svc *corev1.Service, _ *Input) {
			svc.Annotations = map[string]string{v1alpha1.AnnotationTargets: "pods"}
		}, `"pods" is not one of Nodes, Pods`},
		"NothingAnswers": {func(svc *corev1.Service, _ *Input) { svc.Spec.Ports[0].TargetPort = intstr.FromString("http") }, "whether a Pod takes udp-53: add a TCP port"},
		"NodesAfterAll": {func(svc *corev1.Service, _ *Input) {
			svc.Annotations = map[string]string{v1alpha1.AnnotationTargets: "Nodes"}
		}, "port 80 has no node port"},
	}
	for name, tc := range refusals {
		t.Run(name, func(t *testing.T) {
			in := in
			in.Service = svc.DeepCopy()
			tc.edit(in.Service, &in)
			if _, _, err := BuildSpec(in); !IsClass(err, UserError) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a UserError that says %q", err, tc.want)
			}
		})
	}
}
