package endpointslice

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead/fairlead/test/apiserver"
	"github.com/fairlead/fairlead/topology"
)

// zones are capacities as a test sets them, and the last report on each Service.
type zones struct {
	mu         sync.Mutex
	capacities topology.Capacities
	reports    map[string]topology.Report
	tell       func()
}

var _ Topology = (*zones)(nil)

func newZones(cpu ...int64) *zones {
	return &zones{capacities: capacities(cpu...), reports: map[string]topology.Report{}}
}

// capacities are those of zones a, b, and so on.
func capacities(cpu ...int64) topology.Capacities {
	var nodes iter.Seq[topology.Node] = func(yield func(topology.Node) bool) {
		for i, n := range cpu {
			if !yield(topology.Node{Zone: string(rune('a' + i)), MilliCPU: n}) {
				return
			}
		}
	}
	return topology.CapacitiesOf(nodes)
}

func (z *zones) Capacities() topology.Capacities {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.capacities
}

func (z *zones) Explain(service types.NamespacedName, report topology.Report) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.reports[service.Name] = report
}

func (z *zones) report() topology.Report {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.reports["web"]
}

func (z *zones) set(cpu ...int64) {
	z.mu.Lock()
	z.capacities = capacities(cpu...)
	tell := z.tell
	z.mu.Unlock()
	tell()
}

// Source is one that has always synced.
func (z *zones) Source(_ cache.Informers, changed func(queue)) source.SyncingSource {
	return zonesSource{func(q queue) {
		z.mu.Lock()
		defer z.mu.Unlock()
		z.tell = func() { changed(q) }
	}}
}

type zonesSource struct{ start func(queue) }

func (s zonesSource) Start(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	s.start(q)
	return nil
}

func (s zonesSource) WaitForSync(context.Context) error { return nil }

// spread makes Pods in zones, each on its zone's node: "aab" is three Pods p00, p01 and p02.
func (w *world) spread(places string) []*corev1.Pod {
	w.Helper()
	nodes := map[rune]*corev1.Node{}
	var pods []*corev1.Pod
	for i, zone := range places {
		if nodes[zone] == nil {
			nodes[zone] = w.node(string(zone), string(zone))
		}
		pods = append(pods, w.pod(fmt.Sprintf("p%02d", i), nodes[zone].Name, fmt.Sprintf("10.244.0.%d", i+1)))
	}
	return pods
}

// hinted returns the zones of the hints of all endpoints in the order of their Pods, - where there is none.
func (w *world) hinted() (string, error) {
	all, err := w.show()
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(all))
	for _, s := range all {
		zone := strings.TrimPrefix(s.Hints, "zone ")
		if zone == "" {
			zone = "-"
		}
		names = append(names, s.Pod+zone)
	}
	slices.Sort(names)
	text := ""
	for _, name := range names {
		text += name[3:]
	}
	return text, nil
}

func (w *world) expectHints(want string) {
	w.Helper()
	w.Eventually(func() error {
		got, err := w.hinted()
		if err == nil && got != want {
			err = fmt.Errorf("hints are %s, want %s", got, want)
		}
		return err
	})
}

func auto(s *corev1.Service) {
	s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
}

// TestHintsOfAll follows hints that depend on all endpoints, through everything that changes them.
func TestHintsOfAll(t *testing.T) {
	w := newWorld(t)
	z := newZones(4000, 4000, 4000)
	stop := w.start(&Reconciler{Topology: z, MaxEndpointsPerSlice: 4})
	service := w.service(auto)
	pods := w.spread("aaaabbbbccc")
	w.expectHints("aaaabbbbccc")
	// 22%, as an endpoint of zone c gets too much, is the best there is.
	if report := z.report(); report.Reason != topology.BoundRaised || report.CrossZone != 0 || report.Endpoints != 11 {
		t.Errorf("the report is %+v", report)
	}

	// Of ten, each zone has to have three: one of another zone comes to help, and nothing else moves.
	w.ready(pods[10], false)
	var helped string
	w.Eventually(func() (err error) {
		helped, err = w.hinted()
		if strings.Count(helped, "c") != 3 || helped[10] != '-' {
			err = fmt.Errorf("hints are %s", helped)
		}
		return err
	})
	moved := 0
	for i := range 10 {
		if helped[i] != "aaaabbbbccc"[i] {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("%d hints of others moved, want one: %s", moved, helped)
	}

	// A new manager goes on with the hints that stand, and writes nothing.
	versions := w.versions()
	stop()
	stop = w.startAndLook(&Reconciler{Topology: z, MaxEndpointsPerSlice: 4})
	w.expectHints(helped)
	if got := w.versions(); fmt.Sprint(got) != fmt.Sprint(versions) {
		t.Errorf("a restart wrote slices: %v, before %v", got, versions)
	}

	w.ready(pods[10], true)
	w.expectHints("aaaabbbbccc")

	// Somebody else's edit is repaired.
	slice := w.slices()[0]
	apiserver.Change(w.World, &slice, func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Hints = nil })
	w.expectHints("aaaabbbbccc")

	// Zone d comes without endpoints: every other zone gives what it can.
	z.set(4000, 4000, 4000, 4000)
	w.Eventually(func() error {
		if got, err := w.hinted(); err != nil || strings.Count(got, "d") != 2 {
			return fmt.Errorf("hints are %s (%w)", got, err)
		}
		return nil
	})
	z.set(4000, 4000, 4000)
	w.expectHints("aaaabbbbccc")

	// A value that nobody knows, or none, turns hints off.
	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = "fairlead.dev/outo" })
	w.expectHints("-----------")
	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Annotations[corev1.AnnotationTopologyMode] = "Auto" })
	w.expectHints("aaaabbbbccc")
	apiserver.Change(w.World, service, func(s *corev1.Service) {
		s.Annotations, s.Spec.TrafficDistribution = nil, new(corev1.ServiceTrafficDistributionPreferSameZone)
	})
	w.expectHints("aaaabbbbccc")
	apiserver.Change(w.World, service, func(s *corev1.Service) { s.Spec.TrafficDistribution = nil })
	w.expectHints("-----------")
	stop()
}

// TestLittleMoves: capacities that move a little move no hints, and write nothing, while the bound holds.
func TestLittleMoves(t *testing.T) {
	w := newWorld(t)
	z := newZones(390, 305, 305)
	w.start(&Reconciler{Topology: z})
	w.service(auto)
	w.spread("aaaaaabbbccc")
	var before string
	w.Eventually(func() (err error) {
		if before, err = w.hinted(); err == nil && (strings.Count(before, "b") != 4 || strings.Count(before, "c") != 4) {
			err = fmt.Errorf("hints are %s", before)
		}
		return err
	})
	versions, done := w.versions(), apiserver.Passes(t, "success")
	z.set(400, 300, 300)
	w.Eventually(func() error {
		if apiserver.Passes(t, "success") == done {
			return fmt.Errorf("the controller has not looked")
		}
		return nil
	})
	if got := w.versions(); fmt.Sprint(got) != fmt.Sprint(versions) {
		t.Error("capacities that moved a little made it write")
	}
	z.set(500, 250, 250)
	w.expectHints("aaaaaabbbccc")
}

// TestHintsOfAllInBothFamilies: each family has its own, and a Pod that goes takes its with it.
func TestHintsOfAllInBothFamilies(t *testing.T) {
	w := newWorld(t)
	w.start(&Reconciler{Topology: newZones(1000, 1000)})
	w.service(func(s *corev1.Service) {
		auto(s)
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	})
	a, b := w.node("a", "a"), w.node("b", "b")
	one := w.pod("p1", a.Name, "10.244.0.1", "fd00::1")
	w.pod("p2", b.Name, "10.244.0.2", "fd00::2")
	w.pod("p3", a.Name, "10.244.0.3", "fd00::3")
	expect := func(want map[string]string) {
		t.Helper()
		w.Eventually(func() error {
			all, err := w.show()
			if err != nil {
				return err
			}
			for address, hint := range want {
				if all[address].Hints != hint {
					return fmt.Errorf("%s has %q, want %q", address, all[address].Hints, hint)
				}
			}
			if len(all) != len(want) {
				return fmt.Errorf("%d endpoints", len(all))
			}
			return nil
		})
	}
	// Half of the clients on one of three endpoints are 50% too many for it, and nothing is better.
	expect(map[string]string{"10.244.0.1": "zone a", "10.244.0.2": "zone b", "10.244.0.3": "zone a",
		"fd00::1": "zone a", "fd00::2": "zone b", "fd00::3": "zone a"})
	w.Remove(one)
	expect(map[string]string{"10.244.0.2": "zone b", "10.244.0.3": "zone a", "fd00::2": "zone b", "fd00::3": "zone a"})
}
