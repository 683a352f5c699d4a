package model

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

var cmpNetip = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

var diffOptions = cmp.Options{
	cmpNetip,
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

// frontend is the brief form in which tests state what they want of a Frontend.
type frontend struct {
	Key      string // address:port/protocol
	Kind     FrontendKind
	Port     string
	Internal string // "family scope"
	External string
	Masq     string // subset of "pods host outside"
	Ranges   []netip.Prefix
	Affinity time.Duration
}

func brief(f *Frontend) frontend {
	group := func(k GroupKey) string {
		return string('0'+rune(k.Family)) + map[Scope]string{Cluster: " cluster", Local: " local"}[k.Scope]
	}
	var masq []string
	for _, m := range []struct {
		on   bool
		name string
	}{{f.Masquerade.Pods, "pods"}, {f.Masquerade.Host, "host"}, {f.Masquerade.Outside, "outside"}} {
		if m.on {
			masq = append(masq, m.name)
		}
	}
	proto := map[Protocol]string{TCP: "/tcp", UDP: "/udp", SCTP: "/sctp"}[f.Key.Protocol]
	return frontend{
		Key:      netip.AddrPortFrom(f.Key.Addr, f.Key.Port).String() + proto,
		Kind:     f.Kind,
		Port:     f.Port.Name + ":" + f.Port.Port,
		Internal: group(f.Internal),
		External: group(f.External),
		Masq:     strings.Join(masq, " "),
		Ranges:   f.SourceRanges,
		Affinity: f.Affinity,
	}
}

func briefAll(s *State) []frontend {
	var out []frontend
	keys := []FrontendKey{}
	for key := range s.Frontends {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareFrontendKeys)
	for _, key := range keys {
		out = append(out, brief(s.Frontends[key]))
	}
	return out
}

func TestFrontends(t *testing.T) {
	const everybody = "pods host outside"
	tests := map[string]struct {
		reason string
		opts   func(*Options)
		svc    *corev1.Service
		want   []frontend
	}{
		"ClusterIP": {
			reason: "clients outside the local range are masqueraded, Pods are not",
			svc:    newService(),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside"}},
		},
		"NoDetection": {
			reason: "who cannot be told apart is not masqueraded",
			opts:   func(o *Options) { o.LocalDetection = LocalDetection{} },
			svc:    newService(),
			want:   []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster"}},
		},
		"DetectionPerFamily": {
			reason: "ranges of one family say nothing of the other",
			opts:   func(o *Options) { o.LocalDetection = LocalDetection{ClusterCIDRs: prefixes("10.244.0.0/16")} },
			svc:    newService(clusterIPs("10.96.0.10", "fd00:96::a")),
			want: []frontend{
				{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "[fd00:96::a]:80/tcp", Port: "web:http", Internal: "6 cluster", External: "6 cluster"},
			},
		},
		"MasqueradeAll": {
			reason: "asked for",
			opts:   func(o *Options) { o.MasqueradeAll = true; o.LocalDetection = LocalDetection{} },
			svc:    newService(),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: everybody}},
		},
		"InternalLocal": {
			reason: "both kinds of clients stay on the node",
			svc:    newService(internalLocal),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 local", External: "4 local",
				Masq: "host outside"}},
		},
		"NodePortDualStack": {
			reason: "a node port is served in each family of the cluster IPs",
			svc:    newService(nodePort(30080), clusterIPs("10.96.0.10", "fd00:96::a")),
			want: []frontend{
				{Key: "0.0.0.0:30080/tcp", Kind: NodePort, Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: everybody},
				{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "[::]:30080/tcp", Kind: NodePort, Port: "web:http", Internal: "6 cluster", External: "6 cluster", Masq: everybody},
				{Key: "[fd00:96::a]:80/tcp", Port: "web:http", Internal: "6 cluster", External: "6 cluster", Masq: "host outside"},
			},
		},
		"ExternalLocal": {
			reason: "outside clients keep their address and stay on the node; Pods and the host take any endpoint",
			svc:    newService(nodePort(30080), balancer("198.51.100.1"), externalIPs("192.0.2.7"), externalLocal),
			want: []frontend{
				{Key: "0.0.0.0:30080/tcp", Kind: NodePort, Port: "web:http", Internal: "4 cluster", External: "4 local", Masq: "host"},
				{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "192.0.2.7:80/tcp", Kind: ExternalIP, Port: "web:http", Internal: "4 cluster", External: "4 local", Masq: "host"},
				{Key: "198.51.100.1:80/tcp", Kind: LoadBalancerIP, Port: "web:http", Internal: "4 cluster", External: "4 local", Masq: "host"},
			},
		},
		"ExternalLocalNoAddress": {
			reason: "a balancer that is not there yet has nothing that a group could serve",
			svc:    newService(balancer(), externalLocal),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside"}},
		},
		"ExternalIPsIgnored": {
			reason: "the switch leaves them out",
			opts:   func(o *Options) { o.IgnoreExternalIPs = true },
			svc:    newService(externalIPs("192.0.2.7")),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside"}},
		},
		"IPMode": {
			reason: "VIP and nil are programmed, Proxy and names are not",
			svc: newService(balancer("198.51.100.1"), func(svc *corev1.Service) {
				svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress,
					corev1.LoadBalancerIngress{IP: "198.51.100.2", IPMode: ptr(corev1.LoadBalancerIPModeVIP)},
					corev1.LoadBalancerIngress{IP: "198.51.100.3", IPMode: ptr(corev1.LoadBalancerIPModeProxy)},
					corev1.LoadBalancerIngress{Hostname: "lb.example"})
			}),
			want: []frontend{
				{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "198.51.100.1:80/tcp", Kind: LoadBalancerIP, Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: everybody},
				{Key: "198.51.100.2:80/tcp", Kind: LoadBalancerIP, Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: everybody},
			},
		},
		"OtherFamilyExternal": {
			reason: "a Service without IPv6 cluster IP has no IPv6 endpoints to offer",
			svc:    newService(balancer("2001:db8::1"), externalIPs("2001:db8::2")),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside"}},
		},
		"SourceRangesGuardBalancerOnly": {
			reason: "node ports and external IPs are not guarded; host bits and blanks are cleared; nested ranges merge",
			svc: newService(nodePort(30080), balancer("198.51.100.1"), externalIPs("192.0.2.7"),
				sourceRanges(" 203.0.113.9/24", "203.0.113.0/25 ", "")),
			want: []frontend{
				{Key: "0.0.0.0:30080/tcp", Kind: NodePort, Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: everybody},
				{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "192.0.2.7:80/tcp", Kind: ExternalIP, Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: everybody},
				{Key: "198.51.100.1:80/tcp", Kind: LoadBalancerIP, Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: everybody,
					// The node (203.0.113.5) is inside, so the balancer's address may come back as a source.
					Ranges: prefixes("198.51.100.1/32", "203.0.113.0/24")},
			},
		},
		"SameAddressExternalAndBalancer": {
			reason: "listing the balancer's address as external IP does not lift its source ranges",
			svc:    newService(balancer("198.51.100.1"), externalIPs("198.51.100.1"), sourceRanges("192.0.2.0/24")),
			want: []frontend{
				{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "198.51.100.1:80/tcp", Kind: LoadBalancerIP, Port: "web:http", Internal: "4 cluster", External: "4 cluster", Masq: everybody,
					Ranges: prefixes("192.0.2.0/24")},
			},
		},
		"Affinity": {
			reason: "the timeout comes from the configuration",
			svc: newService(func(svc *corev1.Service) {
				svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(30))}}
			}),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside", Affinity: 30 * time.Second}},
		},
		"AffinitySenseless": {
			reason: "an API server would refuse it",
			svc: newService(func(svc *corev1.Service) {
				svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(-1))}}
			}),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside", Affinity: 3 * time.Hour}},
		},
		"AffinityZero": {
			reason: "likewise; none at all would not be what was asked for",
			svc: newService(func(svc *corev1.Service) {
				svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(0))}}
			}),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside", Affinity: 3 * time.Hour}},
		},
		"AffinityDefault": {
			reason: "no configuration means three hours",
			svc:    newService(func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside", Affinity: 3 * time.Hour}},
		},
		"Protocols": {
			reason: "one port number may be served for several protocols; empty is TCP",
			svc: newService(func(svc *corev1.Service) {
				svc.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 53}, {Name: "b", Port: 53, Protocol: "UDP"}, {Name: "c", Port: 53, Protocol: "SCTP"}}
			}),
			want: []frontend{
				{Key: "10.96.0.10:53/tcp", Port: "web:a", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "10.96.0.10:53/udp", Port: "web:b", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
				{Key: "10.96.0.10:53/sctp", Port: "web:c", Internal: "4 cluster", External: "4 cluster", Masq: "host outside"},
			},
		},
		"OldClusterIPField": {
			reason: "objects without clusterIPs have clusterIP; old ones may have leading zeros",
			svc:    newService(func(svc *corev1.Service) { svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "010.096.0.10", nil }),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside"}},
		},
		"Headless":     {reason: "nothing to proxy", svc: newService(clusterIPs("None"))},
		"NotAllocated": {reason: "no address yet", svc: newService(clusterIPs(""))},
		"ExternalName": {reason: "a name in DNS only", svc: newService(func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeExternalName })},
		"OtherProxy": {
			reason: "somebody else's",
			svc:    newService(func(svc *corev1.Service) { svc.Labels = map[string]string{LabelProxyName: "other"} }),
		},
		"OursByName": {
			reason: "our name in replace mode",
			svc:    newService(func(svc *corev1.Service) { svc.Labels = map[string]string{LabelProxyName: ProxyName} }),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside"}},
		},
		"CoexistUnlabelled": {reason: "kube-proxy's", opts: func(o *Options) { o.Coexist = true }, svc: newService()},
		"CoexistLabelled": {
			reason: "ours",
			opts:   func(o *Options) { o.Coexist = true },
			svc:    newService(func(svc *corev1.Service) { svc.Labels = map[string]string{LabelProxyName: ProxyName} }),
			want: []frontend{{Key: "10.96.0.10:80/tcp", Port: "web:http", Internal: "4 cluster", External: "4 cluster",
				Masq: "host outside"}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			opts := testOptions
			if tc.opts != nil {
				tc.opts(&opts)
			}
			tracker := NewTracker(opts)
			if err := tracker.SetNode(newNode()); err != nil {
				t.Fatal(err)
			}
			before := tc.svc.DeepCopy()
			if err := tracker.SetService(tc.svc); err != nil {
				t.Fatalf("SetService: %v", err)
			}
			changes := tracker.Changes()
			if diff := cmp.Diff(tc.want, briefAll(tracker.State()), diffOptions); diff != "" {
				t.Errorf("%s: frontends (-want +got):\n%s", tc.reason, diff)
			}
			var changed []frontend
			for _, f := range changes.Frontends {
				changed = append(changed, brief(f))
			}
			if diff := cmp.Diff(tc.want, changed, diffOptions); diff != "" {
				t.Errorf("changes differ from the state (-want +got):\n%s", diff)
			}
			used := map[GroupKey]bool{}
			for _, f := range tracker.State().Frontends {
				for _, g := range []GroupKey{f.Internal, f.External} {
					used[g] = true
					if tracker.State().Groups[g] == nil {
						t.Errorf("frontend %v refers to group %v, which does not exist", f.Key, g)
					}
				}
			}
			for g := range tracker.State().Groups {
				if !used[g] {
					t.Errorf("no frontend refers to group %v", g)
				}
			}
			if diff := cmp.Diff(before, tc.svc); diff != "" {
				t.Errorf("the input was changed:\n%s", diff)
			}
		})
	}
}

func TestSourceRanges(t *testing.T) {
	tests := map[string]struct {
		reason string
		ranges []string
		want4  []netip.Prefix
		want6  []netip.Prefix
	}{
		"None":            {"open", nil, nil, nil},
		"Blank":           {"blank is none", []string{" "}, nil, nil},
		"Zero4":           {"the way to write open, for both", []string{"0.0.0.0/0"}, nil, nil},
		"ZeroAmongOthers": {"zero wins in its family", []string{"192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"}, nil, prefixes("2001:db8::/32")},
		"Only4":           {"IPv6 is not opened by an IPv4 range", []string{"192.0.2.0/24"}, prefixes("192.0.2.0/24"), prefixes()},
		"Both":            {"each by its own", []string{"192.0.2.0/24", "2001:db8::/32"}, prefixes("192.0.2.0/24"), prefixes("2001:db8::/32")},
		"NodeInside":      {"the balancer's own addresses join", []string{"172.30.0.0/24"}, prefixes("172.30.0.0/24", "198.51.100.1/32"), prefixes()},
		"NodeInsideLater": {"whichever range it is in", []string{"192.0.2.0/24", "172.30.0.0/24"}, prefixes("172.30.0.0/24", "192.0.2.0/24", "198.51.100.1/32"), prefixes()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := readService(newService(clusterIPs("10.96.0.1", "fd00:96::1"), balancer("198.51.100.1", "2001:db8::1"), sourceRanges(tc.ranges...)), testOptions)
			if err != nil {
				t.Fatal(err)
			}
			node := []netip.Addr{addr("172.30.0.11")}
			if diff := cmp.Diff(tc.want4, s.sourceRanges(4, node), cmpNetip); diff != "" {
				t.Errorf("%s: IPv4 (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.want6, s.sourceRanges(6, node), cmpNetip); diff != "" {
				t.Errorf("%s: IPv6 (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	t.Run("AllMalformed", func(t *testing.T) {
		s, err := readService(newService(balancer("198.51.100.1"), sourceRanges("anywhere")), testOptions)
		if err == nil || !strings.Contains(err.Error(), `"anywhere"`) {
			t.Errorf("error %v does not name the range", err)
		}
		if got := s.sourceRanges(4, nil); got == nil || len(got) != 0 {
			t.Errorf("got %v; a range that cannot be read must not open the Service", got)
		}
	})
}

// TestRangesBecomeEmpty: ranges of the other family alone close an address that was open, which is a change.
func TestRangesBecomeEmpty(t *testing.T) {
	tracker := NewTracker(testOptions)
	set(t, tracker, newService(balancer("198.51.100.1")))
	tracker.Changes()
	set(t, tracker, newService(balancer("198.51.100.1"), sourceRanges("2001:db8::/32")))
	if c := tracker.Changes(); len(c.Frontends) != 1 || c.Frontends[0].SourceRanges == nil || len(c.Frontends[0].SourceRanges) != 0 {
		t.Errorf("%+v", c)
	}
}
