package model

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// set feeds objects to a tracker and fails the test on an error.
func set(t testing.TB, tracker *Tracker, objects ...any) {
	t.Helper()
	for _, object := range objects {
		var err error
		switch o := object.(type) {
		case *corev1.Service:
			err = tracker.SetService(o)
		case *discoveryv1.EndpointSlice:
			err = tracker.SetSlice(o)
		case *corev1.Node:
			err = tracker.SetNode(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestConflicts(t *testing.T) {
	const ip = "192.0.2.7"
	tests := map[string]struct {
		reason   string
		services []*corev1.Service // the first is the one that has the address
		key      FrontendKey
	}{
		"ClusterIPBeforeExternalIP": {
			reason:   "nobody takes another Service's cluster IP by naming it as external",
			services: []*corev1.Service{newService(named("z"), clusterIPs("10.96.0.2")), newService(named("a"), clusterIPs("10.96.0.1"), externalIPs("10.96.0.2"))},
			key:      FrontendKey{addr("10.96.0.2"), TCP, 80},
		},
		"BalancerBeforeExternalIP": {
			reason:   "nor its balancer's, whose source ranges would not hold",
			services: []*corev1.Service{newService(named("z"), clusterIPs("10.96.0.2"), balancer(ip)), newService(named("a"), clusterIPs("10.96.0.1"), externalIPs(ip))},
			key:      FrontendKey{addr(ip), TCP, 80},
		},
		"SmallerName": {
			reason:   "within a kind the smaller name",
			services: []*corev1.Service{newService(named("a"), clusterIPs("10.96.0.2"), balancer(ip)), newService(named("b"), clusterIPs("10.96.0.1"), balancer(ip))},
			key:      FrontendKey{addr(ip), TCP, 80},
		},
		"SmallerNamespace": {
			reason: "the namespace counts before the name",
			services: []*corev1.Service{
				newService(named("z"), clusterIPs("10.96.0.2"), externalIPs(ip), func(s *corev1.Service) { s.Namespace = "aaa" }),
				newService(named("a"), clusterIPs("10.96.0.1"), externalIPs(ip)),
			},
			key: FrontendKey{addr(ip), TCP, 80},
		},
		"NodePort": {
			reason:   "two Services with one node port",
			services: []*corev1.Service{newService(named("a"), clusterIPs("10.96.0.2"), nodePort(30080)), newService(named("b"), clusterIPs("10.96.0.1"), nodePort(30080))},
			key:      FrontendKey{addr("0.0.0.0"), TCP, 30080},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			// Whatever the order in which they come, and whether they come in one go or one by one.
			var both []types.NamespacedName
			for _, svc := range tc.services {
				both = append(both, types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name})
			}
			for _, order := range [][]int{{0, 1}, {1, 0}} {
				for _, together := range []bool{true, false} {
					tracker := NewTracker(testOptions)
					var told []Conflict
					for _, i := range order {
						set(t, tracker, tc.services[i])
						if !together {
							told = append(told, tracker.Changes().Conflicts...)
						}
					}
					told = append(told, tracker.Changes().Conflicts...)
					set(t, tracker, tc.services[0], tc.services[1]) // as they are
					told = append(told, tracker.Changes().Conflicts...)
					if diff := cmp.Diff([]Conflict{{tc.key, both}}, told, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
						t.Errorf("conflicts told (-want +got):\n%s", diff)
					}
					if got := tracker.State().Frontends[tc.key]; got == nil || got.Port.Name != tc.services[0].Name {
						t.Fatalf("%s: %v has %+v, want Service %s", tc.reason, tc.key, got, tc.services[0].Name)
					}
					tracker.DeleteService(types.NamespacedName{Namespace: tc.services[0].Namespace, Name: tc.services[0].Name})
					c := tracker.Changes()
					if got := tracker.State().Frontends[tc.key]; got == nil || got.Port.Name != tc.services[1].Name {
						t.Fatalf("after the first left, %v has %+v, want Service %s", tc.key, got, tc.services[1].Name)
					}
					if diff := cmp.Diff([]Conflict{{tc.key, both[1:]}}, c.Conflicts, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
						t.Errorf("conflicts told after the first left (-want +got):\n%s", diff)
					}
					if slices.Contains(c.FrontendsGone, tc.key) {
						t.Errorf("%v is reported as gone though another Service took over", tc.key)
					}
				}
			}
		})
	}
}

func TestLifecycle(t *testing.T) {
	tracker := NewTracker(testOptions)
	set(t, tracker, newNode())
	tracker.Changes()

	// A slice before its Service says nothing yet.
	set(t, tracker, newSlice("s1", ep("10.244.1.5", "n1")))
	if c := tracker.Changes(); !c.Empty() {
		t.Fatalf("a slice without a Service gave %+v", c)
	}
	set(t, tracker, newService(nodePort(30080)))
	c := tracker.Changes()
	if len(c.Frontends) != 2 || len(c.Groups) != 1 || len(c.Groups[0].Endpoints) != 1 || len(c.ClusterIPs) != 1 || c.Node {
		t.Fatalf("a new Service gave %+v", c)
	}
	// The same again, and changes that do not matter to packets.
	again := newSlice("s1", ep("10.244.1.5", "n1"))
	again.Annotations = map[string]string{"a": "b"}
	set(t, tracker, newService(nodePort(30080)), again)
	if c := tracker.Changes(); !c.Empty() {
		t.Fatalf("the same objects gave %+v", c)
	}
	// One endpoint more changes one group and nothing else.
	set(t, tracker, newSlice("s2", ep("10.244.2.5", "n2")))
	c = tracker.Changes()
	if len(c.Frontends)+len(c.FrontendsGone)+len(c.GroupsGone)+len(c.ClusterIPs) != 0 || len(c.Groups) != 1 || len(c.Groups[0].Endpoints) != 2 {
		t.Fatalf("one endpoint more gave %+v", c)
	}
	// A slice that moves to another Service by its label.
	moved := newSlice("s2", ep("10.244.2.5", "n2"))
	moved.Labels[discoveryv1.LabelServiceName] = "other"
	set(t, tracker, moved)
	if c = tracker.Changes(); len(c.Groups) != 1 || len(c.Groups[0].Endpoints) != 1 {
		t.Fatalf("a slice that left gave %+v", c)
	}
	// Another node port: the old one is gone, the cluster IP stays as it is.
	set(t, tracker, newService(nodePort(30081)))
	c = tracker.Changes()
	if len(c.Frontends) != 1 || c.Frontends[0].Key.Port != 30081 || len(c.FrontendsGone) != 1 || c.FrontendsGone[0].Port != 30080 || len(c.Groups) != 0 {
		t.Fatalf("another node port gave %+v", c)
	}
	// A Service that gets another proxy's label is gone, and so is everything of it.
	labelled := newService(nodePort(30081))
	labelled.Labels = map[string]string{LabelProxyName: "other"}
	set(t, tracker, labelled)
	c = tracker.Changes()
	if len(c.FrontendsGone) != 2 || len(c.GroupsGone) != 1 || len(c.ClusterIPsGone) != 1 || len(c.Frontends)+len(c.Groups) != 0 {
		t.Fatalf("a Service that went to another proxy gave %+v", c)
	}
	if s := tracker.State(); len(s.Frontends)+len(s.Groups)+len(s.ClusterIPs) != 0 {
		t.Fatalf("left over: %+v", s)
	}
	for _, key := range tracker.SliceKeys() {
		tracker.DeleteSlice(key)
	}
	tracker.Changes()
	if len(tracker.services)+len(tracker.sliceOwner)+len(tracker.claims) != 0 {
		t.Errorf("the tracker remembers %d entries, %d slices, %d claims of what is gone", len(tracker.services), len(tracker.sliceOwner), len(tracker.claims))
	}
}

// world is a random set of objects, few names and addresses, so that they collide.
type world struct {
	rng      *rand.Rand
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	node     *corev1.Node
}

func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

func (w *world) randomService(name string) *corev1.Service {
	ips := []string{fmt.Sprintf("10.96.0.%d", w.rng.IntN(6))}
	if w.chance(2) {
		ips = append(ips, fmt.Sprintf("fd00:96::%d", 1+w.rng.IntN(5)))
	}
	svc := newService(named(name), clusterIPs(ips...))
	if w.chance(3) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP})
	}
	if w.chance(3) {
		nodePort(int32(30000 + w.rng.IntN(3)))(svc)
	}
	if w.chance(3) {
		balancer(fmt.Sprintf("198.51.100.%d", w.rng.IntN(3)), "2001:db8::1")(svc)
		svc.Spec.HealthCheckNodePort = int32(32000 + w.rng.IntN(3))
	}
	if w.chance(3) {
		externalIPs(fmt.Sprintf("198.51.100.%d", w.rng.IntN(3)), "10.96.0.3", "bad")(svc)
	}
	if w.chance(3) {
		externalLocal(svc)
	}
	if w.chance(4) {
		internalLocal(svc)
	}
	if w.chance(4) {
		sourceRanges("203.0.113.0/24", "bad")(svc)
	}
	if w.chance(8) {
		svc.Labels = map[string]string{LabelProxyName: "other"}
	}
	return svc
}

func (w *world) randomSlice(name string) *discoveryv1.EndpointSlice {
	s := newSlice(name)
	s.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("svc-%d", w.rng.IntN(4))
	format := "10.244.1.%d"
	if w.chance(3) {
		s.AddressType = discoveryv1.AddressTypeIPv6
		format = "fd00:244::%d"
	}
	if w.chance(3) {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: ptr("dns"), Protocol: ptr(corev1.ProtocolUDP), Port: ptr(int32(5353))})
	}
	for range w.rng.IntN(5) {
		e := ep(fmt.Sprintf(format, 1+w.rng.IntN(8)), fmt.Sprintf("n%d", 1+w.rng.IntN(2)))
		for _, edit := range []func(*discoveryv1.Endpoint){notReady, draining, dying} {
			if w.chance(5) {
				edit(&e)
			}
		}
		if w.chance(2) {
			forZone(fmt.Sprintf("zone-%c", 'a'+rune(w.rng.IntN(2))))(&e)
		}
		if w.chance(3) {
			forNode(fmt.Sprintf("n%d", 1+w.rng.IntN(2)))(&e)
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// step changes one object, in the world and in the tracker. Errors name malformed parts, which are meant to be there.
func (w *world) step(tracker *Tracker) {
	switch w.rng.IntN(8) {
	case 0, 1:
		svc := w.randomService(fmt.Sprintf("svc-%d", w.rng.IntN(4)))
		w.services[svc.Name] = svc
		_ = tracker.SetService(svc)
	case 2:
		name := fmt.Sprintf("svc-%d", w.rng.IntN(4))
		delete(w.services, name)
		tracker.DeleteService(types.NamespacedName{Namespace: "default", Name: name})
	case 3, 4, 5:
		s := w.randomSlice(fmt.Sprintf("slice-%d", w.rng.IntN(6)))
		w.slices[s.Name] = s
		_ = tracker.SetSlice(s)
	case 6:
		name := fmt.Sprintf("slice-%d", w.rng.IntN(6))
		delete(w.slices, name)
		tracker.DeleteSlice(types.NamespacedName{Namespace: "default", Name: name})
	case 7:
		w.node = newNode()
		w.node.Labels[corev1.LabelTopologyZone] = fmt.Sprintf("zone-%c", 'a'+rune(w.rng.IntN(3)))
		if w.chance(2) {
			w.node.Status.Addresses = w.node.Status.Addresses[:2]
		}
		_ = tracker.SetNode(w.node)
	}
}

// apply does to a copy of a State what a backend would do by the changes.
func apply(s *State, c *Changes, from *State) {
	for _, key := range c.FrontendsGone {
		delete(s.Frontends, key)
	}
	for _, f := range c.Frontends {
		s.Frontends[f.Key] = f
	}
	for _, key := range c.GroupsGone {
		delete(s.Groups, key)
	}
	for _, g := range c.Groups {
		s.Groups[g.Key] = g
	}
	for _, ip := range c.ClusterIPsGone {
		delete(s.ClusterIPs, ip)
	}
	for _, ip := range c.ClusterIPs {
		s.ClusterIPs[ip] = 1
	}
	if c.Node {
		s.Node = from.Node
	}
}

// TestIncrementalEqualsScratch takes random histories and wants, after each batch of changes: the same state as from
// scratch; and that following the changes alone leads to that state.
func TestIncrementalEqualsScratch(t *testing.T) {
	for seed := range uint64(60) {
		w := &world{rng: rand.New(rand.NewPCG(seed, 1)), services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{}, node: newNode()}
		opts := testOptions
		if seed%3 == 0 {
			opts.LocalDetection = LocalDetection{NodeCIDR: true}
		}
		tracker := NewTracker(opts)
		set(t, tracker, w.node)
		followed := NewTracker(opts).State()
		for batch := range 40 {
			for range 1 + w.rng.IntN(6) {
				w.step(tracker)
			}
			c := tracker.Changes()
			apply(followed, c, tracker.State())

			scratch := NewTracker(opts)
			_ = scratch.SetNode(w.node)
			for _, svc := range w.services {
				_ = scratch.SetService(svc)
			}
			for _, s := range w.slices {
				_ = scratch.SetSlice(s)
			}
			scratch.Changes()
			if diff := cmp.Diff(scratch.State(), tracker.State(), diffOptions); diff != "" {
				t.Fatalf("seed %d batch %d: from scratch and incrementally (-scratch +incremental):\n%s", seed, batch, diff)
			}
			for ip := range followed.ClusterIPs {
				followed.ClusterIPs[ip] = tracker.State().ClusterIPs[ip]
			}
			if diff := cmp.Diff(tracker.State(), followed, diffOptions); diff != "" {
				t.Fatalf("seed %d batch %d: state and followed changes (-state +followed):\n%s", seed, batch, diff)
			}
			if diff := cmp.Diff(scratch.HealthChecks(), tracker.HealthChecks()); diff != "" {
				t.Fatalf("seed %d batch %d: health checks:\n%s", seed, batch, diff)
			}
			for _, f := range []uint8{4, 6} {
				if a, b := scratch.Unserved(f), tracker.Unserved(f); a != b {
					t.Fatalf("seed %d batch %d: unserved %+v and %+v", seed, batch, a, b)
				}
			}
			checkSorted(t, c)
		}
	}
}

func checkSorted(t *testing.T, c *Changes) {
	t.Helper()
	if !slices.IsSortedFunc(c.Frontends, func(a, b *Frontend) int { return compareFrontendKeys(a.Key, b.Key) }) ||
		!slices.IsSortedFunc(c.FrontendsGone, compareFrontendKeys) ||
		!slices.IsSortedFunc(c.Groups, func(a, b *Group) int { return compareGroupKeys(a.Key, b.Key) }) ||
		!slices.IsSortedFunc(c.GroupsGone, compareGroupKeys) {
		t.Errorf("changes are not sorted: %+v", c)
	}
}

// TestMemoryAfterBurst: what Services took that are gone is given back.
func TestMemoryAfterBurst(t *testing.T) {
	const many, left = 20000, 10
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	empty := heap()
	tracker, _ := load(t, many, 1)
	tracker.TakeSuspects()
	full := heap()
	for i := left; i < many; i++ {
		tracker.DeleteService(types.NamespacedName{Namespace: "default", Name: fmt.Sprint("svc-", i)})
		tracker.DeleteSlice(types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("svc-%d-0", i)})
		if i%1000 == 0 {
			tracker.Changes()
		}
	}
	tracker.Changes()
	tracker.TakeSuspects()
	after := heap()
	if n := len(tracker.State().Frontends); n != left || len(tracker.ServiceKeys()) != left || len(tracker.SliceKeys()) != left {
		t.Fatalf("%d frontends, %d Services, %d slices are left, want %d of each", n, len(tracker.ServiceKeys()), len(tracker.SliceKeys()), left)
	}
	if kept, took := after-empty, full-empty; kept > took/20 {
		t.Errorf("%d bytes are kept of %d", kept, took)
	}
	runtime.KeepAlive(tracker)
}
