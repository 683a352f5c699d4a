package cloud

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

var able = Capabilities{Protocols: []string{"TCP", "UDP"}, MixedProtocols: true, Families: []Family{IPv4, IPv6}, DualStack: true,
	NodePorts: true, LocalHealthChecks: true, SourceRanges: true, SessionAffinity: true, RequestedAddress: true, AnnotationPrefixes: []string{"example.com/"}}

func balancer(edit func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "u"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}}}}
	if edit != nil {
		edit(svc)
	}
	return svc
}

// TestOpaqueGetsTheObjects: an Opaque provider gets the Service and the Nodes themselves.
func TestOpaqueGetsTheObjects(t *testing.T) {
	opaque := able
	opaque.Opaque = true
	svc, node := balancer(nil), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	spec, _, err := BuildSpec(Input{ClusterID: "c", Service: svc, Nodes: []*corev1.Node{node}, Capabilities: opaque})
	if err != nil || spec.Owner.Service != svc || spec.Nodes[0].Object != node {
		t.Errorf("it gets %v and %+v (%v)", spec.Owner.Service, spec.Nodes, err)
	}
	if spec.Owner.ID() != OwnerOf("c", svc).ID() {
		t.Error("it is another owner")
	}
}

func TestBuildSpec(t *testing.T) {
	class := &v1alpha1.LoadBalancerClassSpec{Provider: "fake", Policy: v1alpha1.PolicyRetain,
		Parameters: &v1alpha1.Parameters{Fake: &v1alpha1.FakeParameters{Pool: "p"}}}
	svc := balancer(func(s *corev1.Service) {
		s.Annotations = map[string]string{"example.com/a": "1", "other.com/b": "2", v1alpha1.AnnotationPolicy: "Plan",
			v1alpha1.AnnotationSourceRanges: "203.0.113.7/24, 198.51.100.0/24"}
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, NodePort: 30053, Protocol: corev1.ProtocolUDP})
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	})
	before := svc.DeepCopy()
	got, options, err := BuildSpec(Input{ClusterID: "c", Service: svc, Class: class, Capabilities: able, Nodes: []*corev1.Node{
		node("b", nil), node("a", func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "zone-a" })}})
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{
		Owner:           Owner{ClusterID: "c", ServiceUID: "u", Namespace: "shop", Name: "cart"},
		Parameters:      []byte(`{"pool":"p"}`),
		Annotations:     map[string]string{"example.com/a": "1"},
		Families:        []Family{IPv6, IPv4},
		AffinitySeconds: 10800,
		SourceRanges:    []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")},
		Ports: []Port{
			{Name: "http", Protocol: "TCP", Port: 80, NodePort: 30080, HealthCheck: HealthCheck{Protocol: "TCP", Port: 30080}},
			{Name: "dns", Protocol: "UDP", Port: 53, NodePort: 30053, HealthCheck: HealthCheck{Protocol: "TCP", Port: 30080}},
		},
		Nodes: []Node{{Name: "a", Zone: "zone-a", Addresses: []string{"fd00::1", "10.0.0.1"}}, {Name: "b", Addresses: []string{"fd00::1", "10.0.0.1"}}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.IgnoreFields(Node{}, "Object")); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if !cmp.Equal(options, Options{Policy: v1alpha1.PolicyPlan, PolicyAsked: true, Replacement: v1alpha1.ReplacementNever}) {
		t.Errorf("options are %+v", options)
	}
	if diff := cmp.Diff(before, svc); diff != "" {
		t.Errorf("the Service was changed:\n%s", diff)
	}
	if got.Nodes[0].Address(IPv4) != "10.0.0.1" || got.Nodes[0].Address(IPv6) != "fd00::1" {
		t.Errorf("addresses by family are %q and %q", got.Nodes[0].Address(IPv4), got.Nodes[0].Address(IPv6))
	}
}

func TestHealthChecks(t *testing.T) {
	local := balancer(func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
	})
	udp := balancer(func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP })
	cases := map[string]struct {
		reason  string
		service *corev1.Service
		want    HealthCheck
	}{
		"Local": {"nodes say whether they have endpoints", local, HealthCheck{Protocol: "HTTP", Port: 32000, Path: "/healthz"}},
		"UDP":   {"nothing to connect to: the node's proxy answers", udp, HealthCheck{Protocol: "HTTP", Port: 10256, Path: "/healthz"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			spec, _, err := BuildSpec(Input{ClusterID: "c", Service: tc.service, Capabilities: able})
			if err != nil || spec.Ports[0].HealthCheck != tc.want {
				t.Errorf("%s: got %+v (%v), want %+v", tc.reason, spec.Ports, err, tc.want)
			}
		})
	}
}

func ranges(all ...string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = all }
}

func annotate(s *corev1.Service, name, value string) { s.Annotations = map[string]string{name: value} }

// passthrough has nodes enforce source ranges.
func passthrough(c *Capabilities) { c.SourceRanges, c.Passthrough = false, true }

// TestSourceRangesElsewhere: what the provider is not to enforce is not refused where nodes do, or where it keeps nobody out.
func TestSourceRangesElsewhere(t *testing.T) {
	cases := map[string]struct {
		reason  string
		caps    func(*Capabilities)
		service func(*corev1.Service)
	}{
		"Nodes":    {"packets pass through, and nodes read the field", passthrough, ranges("203.0.113.0/24")},
		"Everyone": {"nobody is kept out", func(c *Capabilities) { c.SourceRanges = false }, ranges("203.0.113.0/24", "0.0.0.0/0")},
		"Annotation": {"nor here", func(c *Capabilities) { c.SourceRanges = false },
			func(s *corev1.Service) { annotate(s, v1alpha1.AnnotationSourceRanges, "0.0.0.0/0") }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			caps := able
			tc.caps(&caps)
			spec, _, err := BuildSpec(Input{ClusterID: "c", Service: balancer(tc.service), Capabilities: caps})
			if err != nil || spec.SourceRanges != nil {
				t.Errorf("%s: got ranges %v (%v)", tc.reason, spec.SourceRanges, err)
			}
		})
	}
}

func TestBuildSpecRefuses(t *testing.T) {
	cases := map[string]struct {
		reason   string
		service  *corev1.Service
		class    *v1alpha1.LoadBalancerClassSpec
		caps     func(*Capabilities)
		errClass Class
		want     []string
	}{
		"Everything": {
			reason: "all mistakes in one message, sorted",
			service: balancer(func(s *corev1.Service) {
				s.Annotations = map[string]string{"fairlead.dev/polcy": "Plan", v1alpha1.AnnotationReplacement: "Always", v1alpha1.AnnotationAdopt: "lb-1"}
				s.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0"}
				s.Spec.LoadBalancerIP = "here"
				s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP
			}),
			errClass: UserError,
			want: []string{"fairlead.dev/polcy: unknown: it can be fairlead.dev/adopt, ", `"Always" is not one of Never, Recreate`, "cannot adopt",
				`"203.0.113.0" is not a range`, `"here" is not an IP address`, "no SCTP (port 80)"},
		},
		"DualStack": {
			reason: "one family at a time", errClass: UserError, caps: func(c *Capabilities) { c.DualStack = false },
			service: balancer(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv6"} }), want: []string{"use SingleStack"},
		},
		"Local": {
			reason: "nodes without a Pod drop what they get", errClass: UserError, caps: func(c *Capabilities) { c.LocalHealthChecks = false },
			service: balancer(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }),
			want:    []string{"spec.externalTrafficPolicy: ", "use Cluster"},
		},
		"SourceRanges": {
			reason: "an open balancer", errClass: UserError, caps: func(c *Capabilities) { c.SourceRanges = false },
			service: balancer(ranges("203.0.113.0/24")), want: []string{"spec.loadBalancerSourceRanges: ", "stays open to everyone"},
		},
		"SourceRangesInAnnotation": {
			reason: "it counts as the field does", errClass: UserError, caps: func(c *Capabilities) { c.SourceRanges = false },
			service: balancer(func(s *corev1.Service) { annotate(s, v1alpha1.AnnotationSourceRanges, "203.0.113.0/24") }),
			want:    []string{v1alpha1.AnnotationSourceRanges + ": ", "stays open to everyone"},
		},
		"SourceRangesOfOneFamily": {
			reason: "nobody may come by the other", errClass: UserError, caps: func(c *Capabilities) { c.SourceRanges = false },
			service: balancer(func(s *corev1.Service) {
				ranges("0.0.0.0/0")(s)
				s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv6"}
			}), want: []string{"stays open to everyone"},
		},
		"NodesReadNoAnnotation": {
			reason: "packets pass through, and nodes read the field alone", errClass: UserError, caps: passthrough,
			service: balancer(func(s *corev1.Service) { annotate(s, v1alpha1.AnnotationSourceRanges, "203.0.113.0/24") }),
			want:    []string{v1alpha1.AnnotationSourceRanges + ": ", "name them in spec.loadBalancerSourceRanges"},
		},
		"NoNodeOnTheWay": {
			reason: "Pods are sent to directly", errClass: UserError, caps: func(c *Capabilities) { passthrough(c); c.PodTargets = true },
			service: balancer(func(s *corev1.Service) {
				ranges("203.0.113.0/24")(s)
				annotate(s, v1alpha1.AnnotationTargets, "Pods")
			}), want: []string{"stays open to everyone"},
		},
		"SessionAffinity": {
			reason: "each node would choose by itself", errClass: UserError, caps: func(c *Capabilities) { c.SessionAffinity = false },
			service: balancer(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }),
			want:    []string{"spec.sessionAffinity: ", "use None"},
		},
		"NodePort": {
			reason: "the balancer sends to node ports", errClass: UserError, service: balancer(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 }),
			want: []string{"port 80 has no node port"},
		},
		"NodePortComing": {
			reason: "the class numbers them", errClass: Pending, class: &v1alpha1.LoadBalancerClassSpec{NodePorts: v1alpha1.NodePortsAuto},
			service: balancer(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 }), want: []string{"still to get its node port"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			caps := able
			if tc.caps != nil {
				tc.caps(&caps)
			}
			_, _, err := BuildSpec(Input{ClusterID: "c", Service: tc.service, Class: tc.class, Capabilities: caps})
			if !IsClass(err, tc.errClass) {
				t.Fatalf("%s: got %v, want class %s", tc.reason, err, tc.errClass)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q is not in %q", tc.reason, part, err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the message has several lines: %q", err)
			}
		})
	}
	mixed := balancer(func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 53, NodePort: 30053, Protocol: corev1.ProtocolUDP})
	})
	caps := able
	caps.MixedProtocols = false
	if _, _, err := BuildSpec(Input{Service: mixed, Capabilities: caps}); !errors.Is(err, ErrMixedProtocols) {
		t.Errorf("mixed protocols give %v", err)
	}
}

func node(name string, edit func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name},
			{Type: corev1.NodeInternalIP, Address: "fd00::1"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}}}
	if edit != nil {
		edit(n)
	}
	return n
}

func TestEligible(t *testing.T) {
	label := func(value string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Labels[corev1.LabelNodeExcludeBalancers] = value }
	}
	cases := map[string]struct {
		reason string
		edit   func(*corev1.Node)
		want   bool
	}{
		"Plain": {"any node", nil, true},
		"NotReady": {"its health check says so, and cuts nothing", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
		}, true},
		"Empty":    {"the label alone excludes", label(""), false},
		"True":     {"excludes", label("true"), false},
		"Nonsense": {"excludes", label("no"), false},
		"False":    {"includes", label("false"), true},
		"Zero":     {"is a false in Go's sense", label("0"), true},
		"Removed": {"the machine is about to go", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: TaintToBeDeleted, Effect: corev1.TaintEffectNoSchedule}}
		}, false},
		"Deleted": {"the Node is going", func(n *corev1.Node) { n.DeletionTimestamp = ptr.To(metav1.Now()) }, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			n := node("n", tc.edit)
			if got := Eligible(n); got != tc.want {
				t.Errorf("%s: %t", tc.reason, got)
			}
			other := node("n", nil)
			if same := SameForBalancers(other, n); same != (tc.want && maps.Equal(other.Labels, n.Labels)) {
				t.Errorf("%s: the same for balancers is %t", tc.reason, same)
			}
		})
	}
}

// TestNodeLabels: they are told to providers that ask for them, and then a change of one counts.
func TestNodeLabels(t *testing.T) {
	bare := node("n", nil)
	labelled := node("n", func(n *corev1.Node) { n.Labels = map[string]string{"pool": "edge"} })
	if SameForBalancers(bare, labelled) {
		t.Error("a label that comes is no change")
	}
	for _, asked := range []bool{false, true} {
		caps := able
		caps.NodeLabels = asked
		svc := balancer(nil)
		spec, _, err := BuildSpec(Input{ClusterID: "c", Service: svc, Nodes: []*corev1.Node{labelled}, Capabilities: caps})
		if err != nil {
			t.Fatal(err)
		}
		if got := spec.Nodes[0].Labels["pool"]; (got == "edge") != asked {
			t.Errorf("asked for: %t, the label is %q", asked, got)
		}
		if all := EligibleNodes([]*corev1.Node{labelled}); len(caps.Told(all)) != 1 || all[0].Labels["pool"] != "edge" {
			t.Error("what was told to one provider changed for others")
		}
	}
}

func TestAnnotations(t *testing.T) {
	a := NewAnnotations(map[string]string{"x/bool": " true ", "x/int": "5", "x/list": "b, a", "x/map": "k=v,l=", "x/ranges": "10.1.2.3/8",
		"x/text": "hello", "x/wrong-int": "12", "x/wrong-bool": "yes", "x/empty": "", "x/twice": "k=1,k=2", "x/unknown": "1", "y/unknown": "1"}, "x/")
	var (
		flag, wrong = false, true
		number, big = 0, 7
		list        []string
		pairs, two  map[string]string
		ranges      []netip.Prefix
		text, empty string
	)
	a.Bool("x/bool", &flag)
	a.Bool("x/wrong-bool", &wrong)
	a.Int("x/int", &number, 1, 10)
	a.Int("x/wrong-int", &big, 1, 10)
	a.List("x/list", &list)
	a.Map("x/map", &pairs)
	a.Map("x/twice", &two)
	a.Prefixes("x/ranges", &ranges)
	a.String("x/text", &text)
	a.String("x/empty", &empty)
	a.String("x/missing", &empty)
	if !flag || !wrong || number != 5 || big != 7 || text != "hello" || empty != "" || two != nil || ranges[0].String() != "10.0.0.0/8" {
		t.Error("values are not as given, or defaults are gone:", flag, wrong, number, big, text, empty, two, ranges)
	}
	if diff := cmp.Diff([]any{[]string{"b", "a"}, map[string]string{"k": "v", "l": ""}}, []any{list, pairs}); diff != "" {
		t.Error(diff)
	}
	err := a.Err()
	if !IsClass(err, UserError) {
		t.Fatalf("got %v", err)
	}
	for _, key := range []string{"x/wrong-int", "x/wrong-bool", "x/empty", "x/twice", "x/unknown"} {
		if strings.Count(err.Error(), "annotation "+key+":") != 1 {
			t.Errorf("%s is not named once in %q", key, err)
		}
	}
	if strings.Contains(err.Error(), "y/unknown") {
		t.Errorf("an annotation of others is named in %q", err)
	}
}
