package model

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// FuzzObjects feeds text in every place where a Service, a slice or a Node holds text or numbers: no crash, and a
// Service that has nothing wrong is served as before.
func FuzzObjects(f *testing.F) {
	f.Add("10.96.0.1", "10.0.0.0/8", "TCP", "Local", int32(80), int32(30000))
	f.Add("::ffff:1.2.3.4", "::ffff:0:0/96", "", "", int32(0), int32(-1))
	f.Add("fe80::1%eth0", "fe80::1%eth0/64", "udp", "Cluster", int32(65536), int32(1<<31-1))
	f.Add("010.1.01.1", " 010.0.0.0/08 ", "SCTP", "local", int32(-1<<31), int32(65535))
	f.Fuzz(func(t *testing.T, ip, cidr, protocol, policy string, port, other int32) {
		tracker := NewTracker(testOptions)
		node := newNode()
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
		node.Spec.PodCIDRs = []string{cidr}
		_ = tracker.SetNode(node)
		good := newService(named("a-good"), clusterIPs("10.96.7.7"))
		set(t, tracker, good)
		goodSlice := newSlice("good", ep("10.244.1.5", "n1"))
		goodSlice.Labels[discoveryv1.LabelServiceName] = "a-good"
		set(t, tracker, goodSlice)

		svc := newService(clusterIPs(ip, "10.96.0.10"), balancer(ip), externalIPs(ip, cidr), sourceRanges(cidr, ip))
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: policy, Protocol: corev1.Protocol(protocol), Port: port, NodePort: other})
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(policy)
		svc.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicy(policy))
		svc.Spec.HealthCheckNodePort = other
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &port}}
		_ = tracker.SetService(svc)
		slice := newSlice("s", ep(ip, "n1"), ep(cidr, ip))
		slice.AddressType = discoveryv1.AddressType(protocol)
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &policy, Port: &port, Protocol: ptr(corev1.Protocol(protocol))})
		_ = tracker.SetSlice(slice)
		slice.Name, slice.AddressType = "s4", discoveryv1.AddressTypeIPv4
		_ = tracker.SetSlice(slice)
		slice.Name, slice.AddressType = "s6", discoveryv1.AddressTypeIPv6
		_ = tracker.SetSlice(slice)
		tracker.Changes()

		got := tracker.State().Frontends[FrontendKey{addr("10.96.7.7"), TCP, 80}]
		if got == nil || got.Port.Name != "a-good" {
			t.Fatalf("the good Service's address has %+v", got)
		}
		if g := tracker.State().Groups[got.Internal]; g == nil || len(g.Endpoints) != 1 {
			t.Fatalf("the good Service's endpoints: %+v", g)
		}
		for key, fe := range tracker.State().Frontends {
			if key.Port == 0 || fe.Affinity < 0 || fe.Kind != NodePort && !servable(key.Addr) {
				t.Errorf("frontend %+v", fe)
			}
		}
	})
}

// load makes n Services with e endpoints each, 100 to a slice, and settles them.
func load(b testing.TB, n, e int) (*Tracker, []*discoveryv1.EndpointSlice) {
	tracker := NewTracker(testOptions)
	var first []*discoveryv1.EndpointSlice
	for i := range n {
		set(b, tracker, newService(named(fmt.Sprintf("svc-%d", i)), clusterIPs(fmt.Sprintf("10.%d.%d.%d", 96+i>>16, i>>8&255, i&255))))
		for j := 0; j < e; j += 100 {
			s := newSlice(fmt.Sprintf("svc-%d-%d", i, j))
			s.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("svc-%d", i)
			for k := range min(100, e-j) {
				s.Endpoints = append(s.Endpoints, ep(fmt.Sprintf("10.%d.%d.%d", 128+i&63, (j+k)>>8, (j+k)&255), "n2"))
			}
			set(b, tracker, s)
			if i == 0 {
				first = append(first, s)
			}
		}
	}
	tracker.Changes()
	return tracker, first
}

// BenchmarkFlap is one endpoint's readiness going back and forth: the cost must not depend on how many other
// Services there are.
func BenchmarkFlap(b *testing.B) {
	for _, size := range []struct{ services, endpoints int }{{100, 3}, {10000, 3}, {100, 100}, {100, 1000}} {
		b.Run(fmt.Sprintf("services=%d/endpoints=%d", size.services, size.endpoints), func(b *testing.B) {
			tracker, first := load(b, size.services, size.endpoints)
			ready := false
			b.ResetTimer()
			for b.Loop() {
				first[0].Endpoints[0].Conditions.Ready = ptr(ready)
				ready = !ready
				set(b, tracker, first[0])
				tracker.Changes()
			}
		})
	}
}

// BenchmarkLoad is the first sync.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load(b, 10000, 3)
	}
}
