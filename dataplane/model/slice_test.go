package model

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// want is the brief form of a group: "10.244.1.5:8080 local", "… terminating", or "DROP" or "REJECT".
func briefGroup(g *Group) []string {
	if g == nil {
		return nil
	}
	if len(g.Endpoints) == 0 {
		return []string{map[EmptyVerdict]string{Drop: "DROP", Reject: "REJECT"}[g.Empty]}
	}
	var out []string
	for _, e := range g.Endpoints {
		s := e.Addr.String()
		if e.Local {
			s += " local"
		}
		if e.Terminating {
			s += " terminating"
		}
		out = append(out, s)
	}
	return out
}

func TestGroups(t *testing.T) {
	const a, b, c = "10.244.1.5", "10.244.2.5", "10.244.3.5"
	one := func(endpoints ...discoveryv1.Endpoint) []*discoveryv1.EndpointSlice {
		return []*discoveryv1.EndpointSlice{newSlice("s1", endpoints...)}
	}
	port := func(edit func(*discoveryv1.EndpointPort)) []*discoveryv1.EndpointSlice {
		s := newSlice("s1", ep(a, "n1"))
		edit(&s.Ports[0])
		return []*discoveryv1.EndpointSlice{s}
	}
	tests := map[string]struct {
		reason         string
		slices         []*discoveryv1.EndpointSlice
		cluster, local []string
		health         int
	}{
		"NilConditions": {
			reason: "nil ready and serving are true, nil terminating is false",
			slices: one(ep(b, "n2"), ep(a, "n1")), cluster: []string{a + ":8080 local", b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"NilServing": {
			reason: "a terminating one that says nothing of serving is the last resort",
			slices: one(ep(a, "n1", func(e *discoveryv1.Endpoint) {
				e.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Terminating: ptr(true)}
			})),
			cluster: []string{a + ":8080 local terminating"}, local: []string{a + ":8080 local terminating"},
		},
		"NobodyAnywhere":    {reason: "reject", cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"NotReadyOnly":      {reason: "as if it were not there", slices: one(ep(a, "n1", notReady)), cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"Elsewhere":         {reason: "drop where traffic must stay local", slices: one(ep(b, "n2")), cluster: []string{b + ":8080"}, local: []string{"DROP"}},
		"ElsewhereDraining": {reason: "a draining one elsewhere is somebody too", slices: one(ep(b, "n2", draining)), cluster: []string{b + ":8080 terminating"}, local: []string{"DROP"}},
		"ElsewhereDying":    {reason: "one that does not serve is nobody", slices: one(ep(b, "n2", dying)), cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"FallbackApart": {
			reason: "Local falls back by itself while Cluster still has a ready one",
			slices: one(ep(a, "n1", draining), ep(b, "n2")), cluster: []string{b + ":8080"}, local: []string{a + ":8080 local terminating"},
		},
		"NoFallbackWithReady": {
			reason: "a ready one takes all",
			slices: one(ep(a, "n1", draining), ep("10.244.1.6", "n1")), cluster: []string{"10.244.1.6:8080 local"}, local: []string{"10.244.1.6:8080 local"}, health: 1,
		},
		"FallbackIgnoresHints": {
			reason:  "terminating endpoints are all that is left, wherever",
			slices:  one(ep(a, "n1", draining, forZone("zone-a")), ep(b, "n2", draining, forZone("zone-b"))),
			cluster: []string{a + ":8080 local terminating", b + ":8080 terminating"}, local: []string{a + ":8080 local terminating"},
		},
		"ReadyWhileTerminating": {
			reason:  "publishNotReadyAddresses: ready is what counts, and it is no fallback",
			slices:  one(ep(a, "n1", func(e *discoveryv1.Endpoint) { e.Conditions.Terminating = ptr(true) })),
			cluster: []string{a + ":8080 local"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"ZoneHints": {
			reason:  "this node is in zone-a; Local takes no notice",
			slices:  one(ep(a, "n1", forZone("zone-b")), ep(b, "n2", forZone("zone-a", "zone-c"))),
			cluster: []string{b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"ZoneHintMissing": {
			reason:  "every ready endpoint must have one",
			slices:  one(ep(a, "n1"), ep(b, "n2", forZone("zone-a"))),
			cluster: []string{a + ":8080 local", b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"ZoneHintMissingOnNotReady": {
			reason:  "who is not ready needs none",
			slices:  one(ep(c, "n3", notReady), ep(a, "n1", forZone("zone-b")), ep(b, "n2", forZone("zone-a"))),
			cluster: []string{b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"ZoneHintOnNotReady": {
			reason:  "its zone makes nobody serve who is not ready",
			slices:  one(ep(c, "n3", notReady, forZone("zone-a")), ep(a, "n1", forZone("zone-b")), ep(b, "n2", forZone("zone-a"))),
			cluster: []string{b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"NoZoneForUs": {
			reason:  "nobody for this zone: all",
			slices:  one(ep(b, "n2", forZone("zone-b")), ep(c, "n3", forZone("zone-c"))),
			cluster: []string{b + ":8080", c + ":8080"}, local: []string{"DROP"},
		},
		"NodeHintsFirst": {
			reason:  "node before zone",
			slices:  one(ep(a, "n1", forNode("n1"), forZone("zone-a")), ep(b, "n2", forNode("n2"), forZone("zone-a"))),
			cluster: []string{a + ":8080 local"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"NodeHintsElsewhere": {
			reason:  "no node hint for this node: zones",
			slices:  one(ep(b, "n2", forNode("n2"), forZone("zone-a")), ep(c, "n3", forNode("n3"), forZone("zone-b"))),
			cluster: []string{b + ":8080"}, local: []string{"DROP"},
		},
		"NodeHintOnNotReady": {
			reason:  "its node makes nobody serve who is not ready",
			slices:  one(ep(c, "n3", notReady, forNode("n1")), ep(a, "n1", forNode("n2")), ep(b, "n2", forNode("n1"))),
			cluster: []string{b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"NodeHintsOfSeveral": {
			reason:  "an endpoint may serve several nodes, in any order",
			slices:  one(ep(a, "n1", forNode("n1", "n2")), ep(b, "n2", forNode("n2", "n1")), ep(c, "n3", forNode("n2"))),
			cluster: []string{a + ":8080 local", b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"NodeHintMissing": {
			reason:  "one ready endpoint without a node hint: zones, and it has no zone hint either: all",
			slices:  one(ep(a, "n1", forNode("n1"), forZone("zone-a")), ep(b, "n2")),
			cluster: []string{a + ":8080 local", b + ":8080"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"FirstAddressOnly": {
			reason: "the others have no meaning",
			slices: one(discoveryv1.Endpoint{Addresses: []string{a, b}}), cluster: []string{a + ":8080"}, local: []string{"DROP"},
		},
		"TwiceTerminating": {
			reason:  "a new Pod got the address of one that is going",
			slices:  []*discoveryv1.EndpointSlice{newSlice("s1", ep(a, "n1")), newSlice("s2", ep(a, "n1", dying))},
			cluster: []string{a + ":8080 local"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"TwiceTerminatingOtherOrder": {
			reason:  "whichever slice comes first",
			slices:  []*discoveryv1.EndpointSlice{newSlice("s1", ep(a, "n1", dying)), newSlice("s2", ep(a, "n1"))},
			cluster: []string{a + ":8080 local"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"TwiceReadyTerminating": {
			reason: "publishNotReadyAddresses: the one that is going loses though it is said to be ready",
			slices: []*discoveryv1.EndpointSlice{
				newSlice("s1", ep(a, "n1", func(e *discoveryv1.Endpoint) { e.Conditions.Terminating = ptr(true) })),
				newSlice("s2", ep(a, "n1", notReady)),
			},
			cluster: []string{"REJECT"}, local: []string{"REJECT"},
		},
		"TwiceServing": {
			reason:  "of two that terminate the one that serves",
			slices:  []*discoveryv1.EndpointSlice{newSlice("s1", ep(a, "n1", dying)), newSlice("s2", ep(a, "n1", draining))},
			cluster: []string{a + ":8080 local terminating"}, local: []string{a + ":8080 local terminating"},
		},
		"TwiceWhileMoving": {
			reason:  "an endpoint on its way between slices, one of which has old news",
			slices:  []*discoveryv1.EndpointSlice{newSlice("s1", ep(a, "n1", notReady)), newSlice("s2", ep(a, "n1"))},
			cluster: []string{a + ":8080 local"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"PortsPerSlice": {
			reason: "Pods may resolve a named port to different numbers; one Pod counts once for health",
			slices: []*discoveryv1.EndpointSlice{newSlice("s1", ep(a, "n1")), func() *discoveryv1.EndpointSlice {
				s := newSlice("s2", ep(a, "n1"))
				s.Ports[0].Port = ptr(int32(9090))
				return s
			}()},
			cluster: []string{a + ":8080 local", a + ":9090 local"}, local: []string{a + ":8080 local", a + ":9090 local"}, health: 1,
		},
		"NilProtocol": {
			reason:  "is TCP",
			slices:  port(func(p *discoveryv1.EndpointPort) { p.Protocol = nil }),
			cluster: []string{a + ":8080 local"}, local: []string{a + ":8080 local"}, health: 1,
		},
		"NilPort":       {reason: "skipped", slices: port(func(p *discoveryv1.EndpointPort) { p.Port = nil }), cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"ZeroPort":      {reason: "skipped", slices: port(func(p *discoveryv1.EndpointPort) { *p.Port = 0 }), cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"NilName":       {reason: "skipped", slices: port(func(p *discoveryv1.EndpointPort) { p.Name = nil }), cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"OtherName":     {reason: "of another port", slices: port(func(p *discoveryv1.EndpointPort) { *p.Name = "x" }), cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"OtherProtocol": {reason: "of another port", slices: port(func(p *discoveryv1.EndpointPort) { *p.Protocol = "UDP" }), cluster: []string{"REJECT"}, local: []string{"REJECT"}},
		"HeadlessSlice": {
			reason: "left over from when the Service was headless",
			slices: func() []*discoveryv1.EndpointSlice {
				s := newSlice("s1", ep(a, "n1"))
				s.Labels[corev1.IsHeadlessService] = ""
				return []*discoveryv1.EndpointSlice{s}
			}(),
			cluster: []string{"REJECT"}, local: []string{"REJECT"},
		},
		"OtherFamily": {
			reason: "an IPv6 slice does not serve an IPv4 address",
			slices: func() []*discoveryv1.EndpointSlice {
				s := newSlice("s1", ep("fd00:244::5", "n1"))
				s.AddressType = discoveryv1.AddressTypeIPv6
				return []*discoveryv1.EndpointSlice{s}
			}(),
			cluster: []string{"REJECT"}, local: []string{"REJECT"},
		},
		"FQDN": {
			reason: "names are not for proxies",
			slices: func() []*discoveryv1.EndpointSlice {
				s := newSlice("s1", ep("db.example", "n1"))
				s.AddressType = discoveryv1.AddressTypeFQDN
				return []*discoveryv1.EndpointSlice{s}
			}(),
			cluster: []string{"REJECT"}, local: []string{"REJECT"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker(testOptions)
			if err := tracker.SetNode(newNode()); err != nil {
				t.Fatal(err)
			}
			svc := newService(nodePort(30080), balancer(), externalLocal)
			svc.Spec.HealthCheckNodePort = 32000
			if err := tracker.SetService(svc); err != nil {
				t.Fatal(err)
			}
			for _, s := range tc.slices {
				before := s.DeepCopy()
				if err := tracker.SetSlice(s); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, s); diff != "" {
					t.Errorf("the input was changed:\n%s", diff)
				}
			}
			tracker.Changes()
			name := ServicePortName{Namespace: "default", Name: "web", Port: "http", Protocol: TCP}
			groups := tracker.State().Groups
			if diff := cmp.Diff(tc.cluster, briefGroup(groups[GroupKey{name, 4, Cluster}])); diff != "" {
				t.Errorf("%s: Cluster (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.local, briefGroup(groups[GroupKey{name, 4, Local}])); diff != "" {
				t.Errorf("%s: Local (-want +got):\n%s", tc.reason, diff)
			}
			checks := tracker.HealthChecks()
			if len(checks) != 1 || checks[0].Port != 32000 || checks[0].LocalEndpoints != tc.health {
				t.Errorf("%s: health checks %+v, want one on port 32000 with %d local endpoints", tc.reason, checks, tc.health)
			}
			unserved := 0
			if tc.local[0] == "DROP" {
				unserved = 1
			}
			if got := tracker.Unserved(4); got.External != unserved || got.Internal != 0 {
				t.Errorf("%s: unserved %+v, want external %d", tc.reason, got, unserved)
			}
		})
	}
}

// TestSliceLeaves: a slice that becomes one of a headless Service, or of nobody, serves no more.
func TestSliceLeaves(t *testing.T) {
	for name, edit := range map[string]func(labels map[string]string){
		"headless": func(labels map[string]string) { labels[corev1.IsHeadlessService] = "" },
		"nobody's": func(labels map[string]string) { delete(labels, discoveryv1.LabelServiceName) },
	} {
		tracker := NewTracker(testOptions)
		s := newSlice("s1", ep("10.244.1.5", "n1"))
		set(t, tracker, newService(), s)
		tracker.Changes()
		edit(s.Labels)
		set(t, tracker, s)
		if c := tracker.Changes(); len(c.Groups) != 1 || len(c.Groups[0].Endpoints) != 0 {
			t.Errorf("%s: %+v, want a group without endpoints", name, c)
		}
	}
}

// TestHealthChecksOf: only load balancers of policy Local ask nodes whether they have endpoints.
func TestHealthChecksOf(t *testing.T) {
	for name, tc := range map[string]struct {
		edits []func(*corev1.Service)
		want  int
	}{
		"balancer, Local":   {[]func(*corev1.Service){balancer("198.51.100.1"), externalLocal}, 1},
		"balancer, Cluster": {[]func(*corev1.Service){balancer("198.51.100.1")}, 0},
		"node port, Local":  {[]func(*corev1.Service){nodePort(30080), externalLocal}, 0},
	} {
		tracker := NewTracker(testOptions)
		svc := newService(tc.edits...)
		svc.Spec.HealthCheckNodePort = 32000
		set(t, tracker, svc)
		tracker.Changes()
		if got := tracker.HealthChecks(); len(got) != tc.want {
			t.Errorf("%s: %+v, want %d", name, got, tc.want)
		}
	}
}

// TestMalformed gives a Service and a slice everything wrong at once: the error must name it, and both what is
// good of them and another Service must be served.
func TestMalformed(t *testing.T) {
	tracker := NewTracker(testOptions)
	good := newService(named("good"), clusterIPs("10.96.0.20"))
	if err := tracker.SetService(good); err != nil {
		t.Fatal(err)
	}
	bad := newService(balancer("999.0.0.1", "198.51.100.1", "0.0.0.0"), externalIPs("x", "127.0.0.1", ""), sourceRanges("10.0.0.0/99"),
		clusterIPs("10.96.0.10", "fe80::1%eth0"), externalLocal, func(svc *corev1.Service) {
			svc.Spec.HealthCheckNodePort = 70000
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "zero"}, corev1.ServicePort{Name: "big", Port: 65536},
				corev1.ServicePort{Name: "odd", Protocol: "ICMP", Port: 1}, corev1.ServicePort{Name: "node", Port: 81, NodePort: -1})
		})
	err := tracker.SetService(bad)
	for _, want := range []string{"Service default/web", `"999.0.0.1"`, `"0.0.0.0"`, `"x"`, `"127.0.0.1"`, `"10.0.0.0/99"`,
		`"fe80::1%eth0"`, "70000", `"zero"`, `"big"`, `"odd"`, `"node"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	slice := newSlice("s1", ep("", "n1"), ep("300.1.1.1", "n1"), ep("127.0.0.1", "n1"), ep("fd00::1", "n1"),
		discoveryv1.Endpoint{}, ep("10.244.1.5", "n1"))
	slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: ptr("neg"), Port: ptr(int32(-5))},
		discoveryv1.EndpointPort{Name: ptr("odd"), Port: ptr(int32(5)), Protocol: ptr(corev1.Protocol("X"))})
	err = tracker.SetSlice(slice)
	for _, want := range []string{"EndpointSlice default/s1", `"300.1.1.1"`, `"127.0.0.1"`, `"fd00::1"`, "without an address", `"neg"`, `"odd"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	tracker.Changes()
	var got []string
	for _, f := range briefAll(tracker.State()) {
		got = append(got, f.Key+" "+f.Port)
	}
	want := []string{"10.96.0.10:80/tcp web:http", "10.96.0.10:81/tcp web:node", "10.96.0.20:80/tcp good:http",
		"198.51.100.1:80/tcp web:http", "198.51.100.1:81/tcp web:node"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frontends (-want +got):\n%s", diff)
	}
	key := GroupKey{ServicePortName{Namespace: "default", Name: "web", Port: "http", Protocol: TCP}, 4, Cluster}
	if diff := cmp.Diff([]string{"10.244.1.5:8080 local"}, briefGroup(tracker.State().Groups[key])); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
}
