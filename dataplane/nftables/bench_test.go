package nftables

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// scaleState has n Services of three endpoints each, all different, of IPv4.
func scaleState(n int) cluster {
	c := newCluster()
	for i := range n {
		name := fmt.Sprint("svc", i)
		g := c.group(name, model.TCP, 4, model.Cluster, model.Reject)
		for e := range 3 {
			a := netip.AddrFrom4([4]byte{10, 128 + byte(e), byte(i >> 8), byte(i)})
			c.Groups[g].Endpoints = append(c.Groups[g].Endpoints, model.Endpoint{Addr: netip.AddrPortFrom(a, 8080)})
		}
		c.frontend(model.ClusterIP, netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String(), 80, g, g, outsideOnly)
	}
	return c
}

var scales = []int{1000, 10000, 30000}

// BenchmarkColdSync builds the tables from nothing.
func BenchmarkColdSync(b *testing.B) {
	for _, n := range scales {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			state := scaleState(n)
			for b.Loop() {
				mustSync(b, w.backend(b), state.State, nil)
				b.StopTimer()
				if err := Cleanup(Options{NetNS: w.node.FD()}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRestart reads tables that need no change.
func BenchmarkRestart(b *testing.B) {
	for _, n := range scales {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			state := scaleState(n)
			mustSync(b, w.backend(b), state.State, nil)
			for b.Loop() {
				mustSync(b, w.backend(b), state.State, nil)
			}
		})
	}
}

// BenchmarkChange removes an endpoint of one Service after the other, then adds it again.
func BenchmarkChange(b *testing.B) {
	for _, n := range scales {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			state := scaleState(n)
			backend := w.backend(b)
			mustSync(b, backend, state.State, nil)
			i := 0
			var took []time.Duration
			for b.Loop() {
				const stride = 7919 // a prime: neighbours in time are none in memory
				key := model.GroupKey{
					Port:   model.ServicePortName{Namespace: "default", Name: fmt.Sprint("svc", i*stride%n), Protocol: model.TCP},
					Family: 4, Scope: model.Cluster,
				}
				g := *state.Groups[key]
				g.Endpoints = g.Endpoints[:3-(i/n+1)%2]
				i++
				state.Groups[key] = &g
				begin := time.Now()
				mustSync(b, backend, state.State, &model.Changes{Groups: []*model.Group{&g}})
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkLargeChange replaces one endpoint of a Service that has many: what is looked at grows with them, what is written
// does not.
func BenchmarkLargeChange(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			w := &network{node: nstest.New(b, "node")}
			c := newCluster()
			key := c.group("large", model.TCP, 4, model.Cluster, model.Reject)
			endpoint := func(i, instance int) model.Endpoint {
				a := netip.AddrFrom4([4]byte{10, 128 + byte(instance), byte(i >> 8), byte(i)})
				return model.Endpoint{Addr: netip.AddrPortFrom(a, 8080)}
			}
			for i := range n {
				c.Groups[key].Endpoints = append(c.Groups[key].Endpoints, endpoint(i, 0))
			}
			c.frontend(model.ClusterIP, "10.96.0.1", 80, key, key, outsideOnly)
			backend := w.backend(b)
			mustSync(b, backend, c.State, nil)
			instance := 0
			for b.Loop() {
				instance ^= 1
				g := *c.Groups[key]
				g.Endpoints = slices.Clone(g.Endpoints)
				g.Endpoints[n/2] = endpoint(n/2, instance)
				c.Groups[key] = &g
				mustSync(b, backend, c.State, &model.Changes{Groups: []*model.Group{&g}})
			}
		})
	}
}

// BenchmarkResident tells the memory of tracker and backend together, fed with objects that are decoded one by one as
// watches do. peak-MB is that of the whole process: run it alone, with -benchtime=1x, and GOGC as the agent has it.
func BenchmarkResident(b *testing.B) {
	const services = 10000
	w := &network{node: nstest.New(b, "node")}
	for b.Loop() {
		tracker := model.NewTracker(model.Options{NodeName: "n1"})
		for i := range services {
			svc, es := encoded(b, i)
			var s corev1.Service
			var e discoveryv1.EndpointSlice
			if err := errors.Join(s.Unmarshal(svc), e.Unmarshal(es)); err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(tracker.SetService(&s), tracker.SetSlice(&e)); err != nil {
				b.Fatal(err)
			}
		}
		tracker.Changes()
		before := live()
		backend := w.backend(b)
		mustSync(b, backend, tracker.State(), nil)
		b.ReportMetric(before, "model-MB")
		b.ReportMetric(live()-before, "backend-MB")
		b.ReportMetric(peak(b), "peak-MB")
		runtime.KeepAlive(tracker)
	}
}

// encoded is a Service and its slice of three endpoints as a usual API server sends them.
func encoded(b *testing.B, i int) (service, slice []byte) {
	b.Helper()
	name := fmt.Sprint("svc-", i)
	meta := metav1.ObjectMeta{
		Namespace: fmt.Sprint("namespace-", i%100), Name: name, UID: types.UID(fmt.Sprintf("0f0e0d0c-0000-4000-8000-%012d", i)),
		ResourceVersion: fmt.Sprint(i), Labels: map[string]string{"app": name, "team": "payments", discoveryv1.LabelServiceName: name},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 300))}},
	}
	ip := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String()
	portName, port, proto, ready := "http", int32(8080), corev1.ProtocolTCP, true
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Selector: meta.Labels,
		Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: portName, Port: 80, Protocol: proto}}}}
	es := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &proto}}}
	for e := range 3 {
		node, zone := fmt.Sprint("node-", (i+e)%500), "zone-a"
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{netip.AddrFrom4([4]byte{10, 128 + byte(e), byte(i >> 8), byte(i)}).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready}, NodeName: &node, Zone: &zone,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: meta.Namespace, Name: name + "-7d4b9c6f5-abcde", UID: meta.UID},
		})
	}
	service, err := svc.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	if slice, err = es.Marshal(); err != nil {
		b.Fatal(err)
	}
	return service, slice
}

// live is the memory of reachable objects, in MB.
func live() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// peak is the most that the process ever had resident, in MB.
func peak(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Maxrss) / 1e3
}
