package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// dice draws choices from the fuzzer's bytes; after the last one it draws nothing but zeros.
type dice struct{ data []byte }

func (d *dice) below(n int) int {
	v := 0
	for range (n + 254) / 255 {
		if len(d.data) > 0 {
			v, d.data = v<<8|int(d.data[0]), d.data[1:]
		}
	}
	return v % n
}

func pickOne[T any](d *dice, from []T) T { return from[d.below(len(from))] }

var (
	enormous  = strings.Repeat("x", 70000)
	addresses = []string{
		"10.96.0.50", "10.96.0.51", "10.96.0.1", "10.96.0.3", "fd00:96::50", "10.244.1.2", "10.244.1.3", "fd00:244:1::2", "198.51.100.7",
		"172.30.0.11", "fd00:172:30::11", "127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
		"169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:10.96.0.50", "010.096.000.050", "10.96.0.50/32", "host.example", "", " ", "None", enormous,
	}
	cidrs   = []string{"0.0.0.0/0", "::/0", " 203.0.113.0/24 ", "203.0.113.0/25", "10.0.0.0/8", "2001:db8::/32", "::ffff:0:0/96", "1.2.3.4", "", enormous}
	numbers = []int32{80, 443, 30080, 1, 65535, 0, -1, 65536, 1 << 30, -1 << 31}
	names   = []string{"http", "", "https", "x y", "\x00", enormous}
	protos  = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP, "", "tcp", "ICMP", corev1.Protocol(enormous)}
	flags   = []*bool{nil, new(bool), func() *bool { t := true; return &t }()}
)

// some draws up to most of a list.
func some[T any](d *dice, most int, from []T) []T {
	var out []T
	for range d.below(most + 1) {
		out = append(out, pickOne(d, from))
	}
	return out
}

func (d *dice) service(name string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	svc.Spec.Type = pickOne(d, []corev1.ServiceType{"", corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName, "Nonsense"})
	svc.Spec.ClusterIP = pickOne(d, addresses)
	svc.Spec.ClusterIPs = some(d, 3, addresses)
	svc.Spec.ExternalIPs = some(d, 2, addresses)
	svc.Spec.LoadBalancerSourceRanges = some(d, 2, cidrs)
	svc.Spec.SessionAffinity = pickOne(d, []corev1.ServiceAffinity{"", corev1.ServiceAffinityClientIP, "Nonsense"})
	if d.below(2) == 0 {
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{}}
		if d.below(2) == 0 {
			n := pickOne(d, numbers)
			svc.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds = &n
		}
	}
	svc.Spec.ExternalTrafficPolicy = pickOne(d, []corev1.ServiceExternalTrafficPolicy{"", "Local", "Nonsense"})
	if policy := pickOne(d, []corev1.ServiceInternalTrafficPolicy{"", "Local", "Nonsense"}); policy != "" {
		svc.Spec.InternalTrafficPolicy = &policy
	}
	svc.Spec.HealthCheckNodePort = pickOne(d, numbers)
	for range d.below(4) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name: pickOne(d, names), Protocol: pickOne(d, protos), Port: pickOne(d, numbers), NodePort: pickOne(d, numbers),
		})
	}
	for _, ip := range some(d, 2, addresses) {
		mode := pickOne(d, []corev1.LoadBalancerIPMode{corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy, "Nonsense"})
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: &mode})
	}
	return svc
}

func (d *dice) slice(name, service string) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name,
		Labels: map[string]string{discoveryv1.LabelServiceName: service}}}
	es.AddressType = pickOne(d, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN, ""})
	for range d.below(3) {
		var p discoveryv1.EndpointPort
		if d.below(5) > 0 {
			name, number, proto := pickOne(d, names), pickOne(d, numbers), pickOne(d, protos)
			p = discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &proto}
		}
		es.Ports = append(es.Ports, p)
	}
	for range d.below(6) {
		e := discoveryv1.Endpoint{Addresses: some(d, 2, addresses), Conditions: discoveryv1.EndpointConditions{
			Ready: pickOne(d, flags), Serving: pickOne(d, flags), Terminating: pickOne(d, flags)}}
		if node := pickOne(d, []string{"", "n1", enormous}); node != "" {
			e.NodeName = &node
		}
		if d.below(3) == 0 {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: pickOne(d, names)}}}
		}
		es.Endpoints = append(es.Endpoints, e)
	}
	if d.below(8) == 0 {
		for i := range 1000 {
			es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{
				netip.AddrFrom4([4]byte{10, 245, byte(i >> 7), byte(i)}).String()}})
		}
	}
	return es
}

// good is a Service with nothing wrong, which comes before others that ask for its addresses; n changes its endpoints.
func good(name string, number, n int) (*corev1.Service, *discoveryv1.EndpointSlice) {
	ip := fmt.Sprintf("10.96.0.%d", 1+number)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{
		ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}}
	switch number {
	case 1:
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	case 2:
		svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeLoadBalancer, 30080
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		svc.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"}
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.8"}}
	}
	portName, port := "http", int32(8080)
	es := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-1",
		Labels: map[string]string{discoveryv1.LabelServiceName: name}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port}}}
	for i := range n {
		e := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", number, 2+i)}}
		if i%2 == 0 {
			e.NodeName = new("n1")
		}
		es.Endpoints = append(es.Endpoints, e)
	}
	return svc, es
}

// FuzzObjects feeds malformed Services, slices and Nodes to the model, and what it makes of them to the kernel. Each sync
// succeeds, the kernel holds and serves what the model says, a full sync finds nothing to add, Services with nothing wrong
// are served as if they were alone, and nft can list it all.
func FuzzObjects(f *testing.F) {
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 0))
		data := make([]byte, 600)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &dice{data}
		w := &network{node: nstest.New(t, "node")}
		b := w.backendNoProbe(t)
		options := model.Options{NodeName: "n1", LocalDetection: model.LocalDetection{
			ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}}
		all, alone := model.NewTracker(options), model.NewTracker(options)
		const goodOnes = 3
		for n := range goodOnes {
			setGood(t, n, 2, all, alone)
		}
		for step := 0; step < 12 && len(d.data) > 0; step++ {
			for range 1 + d.below(4) {
				d.change(t, all, alone, goodOnes)
			}
			changes := all.Changes()
			alone.Changes()
			if step == 0 {
				changes = nil
			}
			mustSync(t, b, all.State(), changes)
			sameInKernel(t, b, all.State())
			unharmed(t, alone.State(), all.State())
			if step%4 == 3 {
				restarted := w.backendNoProbe(t)
				mustSync(t, restarted, all.State(), nil) // deletes chains that nothing uses
				gen := generation(t, w.node)
				mustSync(t, b, all.State(), nil)
				if generation(t, w.node) != gen {
					t.Fatalf("step %d: a full sync wrote after a partial and a full one", step)
				}
			}
		}
		if _, err := exec.LookPath("nft"); err == nil {
			nft(t, w.node, "list", "ruleset")
		}
	})
}

// change makes one change, of what has nothing wrong to both trackers.
func (d *dice) change(t *testing.T, all, alone *model.Tracker, goodOnes int) {
	t.Helper()
	bad := pickOne(d, []string{"bad-1", "bad-2", "bad-3", enormous})
	switch d.below(8) {
	case 0:
		setGood(t, d.below(goodOnes), d.below(6), all, alone)
	case 1, 2, 3:
		_ = all.SetService(d.service(bad)) // the error says what is wrong, of which there is much
	case 4, 5:
		_ = all.SetSlice(d.slice(bad+pickOne(d, []string{"-a", "-b"}), bad))
	case 6:
		all.DeleteService(types.NamespacedName{Namespace: "default", Name: bad})
	case 7:
		node := &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: some(d, 2, cidrs)}}
		for _, a := range some(d, 2, addresses) {
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		_ = all.SetNode(node)
	}
}

func setGood(t *testing.T, number, endpoints int, trackers ...*model.Tracker) {
	t.Helper()
	svc, es := good(fmt.Sprint("a-good-", number), number, endpoints)
	for _, tracker := range trackers {
		if err := tracker.SetService(svc); err != nil {
			t.Fatal(err)
		}
		if err := tracker.SetSlice(es); err != nil {
			t.Fatal(err)
		}
	}
}

// sameInKernel: the kernel holds what the backend believes, and serves what the state says.
func sameInKernel(t *testing.T, b *Backend, state *model.State) {
	t.Helper()
	if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
		t.Fatalf("believed, in the kernel:\n%s", diff)
	}
	if diff := cmp.Diff(expected(state), served(t, b)); diff != "" {
		t.Fatalf("expected, served:\n%s", diff)
	}
}

// unharmed: what one state has, the other has too.
func unharmed(t *testing.T, alone, all *model.State) {
	t.Helper()
	options := cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})}
	for key, f := range alone.Frontends {
		if diff := cmp.Diff(f, all.Frontends[key], options); diff != "" {
			t.Fatalf("frontend %v alone, among malformed ones:\n%s", key, diff)
		}
		for _, group := range groupKeys(f) {
			if diff := cmp.Diff(alone.Groups[group], all.Groups[group], options); diff != "" {
				t.Fatalf("endpoints of frontend %v alone, among malformed ones:\n%s", key, diff)
			}
		}
	}
	if !slices.Equal(alone.Node.LocalRanges, all.Node.LocalRanges) {
		t.Fatalf("local ranges %v became %v", alone.Node.LocalRanges, all.Node.LocalRanges)
	}
}
