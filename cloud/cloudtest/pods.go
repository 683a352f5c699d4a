package cloudtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// podSpec is Spec for a Service that sends to n Pods. Of every two the second has other ports, as where a targetPort is a
// name.
func podSpec(caps cloud.Capabilities, n int) cloud.Spec {
	s := Spec(caps, 0)
	s.PodTargets = true
	for i := range s.Ports {
		s.Ports[i].NodePort = 0
		s.Ports[i].HealthCheck = cloud.HealthCheck{Protocol: "TCP"}
		if s.Ports[i].Protocol != "TCP" {
			s.Ports[i].HealthCheck.Port = 8080
		}
	}
	for i := range n {
		for _, family := range s.Families {
			s.Endpoints = append(s.Endpoints, podEndpoint(s.Ports, family, i))
		}
	}
	return s
}

func podEndpoint(ports []cloud.Port, family cloud.Family, i int) cloud.Endpoint {
	e := cloud.Endpoint{Address: fmt.Sprintf("10.1.0.%d", 11+i), Ports: map[string]int32{}, Zone: fmt.Sprintf("zone-%c", 'a'+i%2),
		Node: fmt.Sprintf("n%d", i%3+1), Pod: fmt.Sprintf("cart-%d", i), PodUID: fmt.Sprintf("5d1c-%04d", i)}
	if family == cloud.IPv6 {
		e.Address = fmt.Sprintf("fd00:10:1::%x", 11+i)
	}
	for n, port := range ports {
		e.Ports[port.Key()] = int32(8080 + 10*n + i%2)
	}
	return e
}

// podSteps is the part of a life in which a Service changes over to Pods and back.
func podSteps(caps cloud.Capabilities) []step {
	pods, others, nodes := podSpec(caps, 3), podSpec(caps, 5), Spec(caps, 3)
	others.Endpoints = others.Endpoints[2*len(others.Families):]
	return []step{{"send to Pods", &pods}, {"replace Pods", &others}, {"send to nodes again", &nodes}}
}

// testPods expects that each Pod is sent to at its own port, and at no other once it is gone.
func testPods(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	p := h.restart()
	spec := h.adapt(podSpec(p.Capabilities(), 3))
	all := targetsOf(t, p, spec)
	for i := range spec.Endpoints {
		e := spec.Endpoints[i]
		fewer := spec
		fewer.Endpoints = slices.Delete(slices.Clone(spec.Endpoints), i, i+1)
		if left := targetsOf(t, p, fewer); len(left) >= len(all) {
			t.Errorf("without the Pod at %s there are %d targets, with it %d", e.Address, len(left), len(all))
		}
		for key := range e.Ports {
			moved := spec
			moved.Endpoints = slices.Clone(spec.Endpoints)
			moved.Endpoints[i].Ports = map[string]int32{}
			for k, number := range e.Ports {
				moved.Endpoints[i].Ports[k] = number
			}
			moved.Endpoints[i].Ports[key] = 9999
			if cmp.Equal(all, targetsOf(t, p, moved)) {
				t.Errorf("the Pod at %s takes %s on port 9999 rather than %d, and the targets are the same", e.Address, key, e.Ports[key])
			}
		}
	}
	// On their node's network Pods have one address.
	neighbours := spec
	neighbours.Endpoints = slices.Clone(spec.Endpoints)
	for i := range neighbours.Endpoints {
		neighbours.Endpoints[i].Address = spec.Endpoints[i%len(spec.Families)].Address
		neighbours.Endpoints[i].Ports = map[string]int32{}
		for key, number := range spec.Endpoints[i].Ports {
			neighbours.Endpoints[i].Ports[key] = number + int32(100*i)
		}
	}
	if got := targetsOf(t, p, neighbours); len(got) != len(all) {
		t.Errorf("%d targets where Pods share an address, want %d", len(got), len(all))
	}
	for _, s := range []cloud.Spec{spec, neighbours} {
		out := settle(t, p, s.Owner, &s)
		if diff := cmp.Diff(targetsOf(t, p, s), targets(out.Observed)); diff != "" {
			t.Errorf("the balancer has other targets than it should (-want +got):\n%s", diff)
		}
	}
}

// targetsOf returns what the provider makes of a Spec's endpoints.
func targetsOf(t *testing.T, p cloud.Provider, spec cloud.Spec) map[string]cloud.Target {
	t.Helper()
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	return targets(desired)
}

func targets(resources []cloud.Resource) map[string]cloud.Target {
	all := map[string]cloud.Target{}
	for _, r := range resources {
		for _, target := range r.Targets {
			all[r.Name()+" "+target.ID] = target
		}
	}
	return all
}

// testHealth expects the provider to tell of each registered target, and of no other, how it is.
func testHealth(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	if h.SetAnswering == nil {
		t.Fatal("set Harness.SetAnswering, by which the suite has a target fail its health check")
	}
	p := h.restart()
	caps := p.Capabilities()
	spec, fewer := h.adapt(Spec(caps, 3)), h.adapt(Spec(caps, 2))
	if caps.PodTargets {
		spec, fewer = h.adapt(podSpec(caps, 3)), h.adapt(podSpec(caps, 2))
	}
	reader := cloud.HealthReaderOf(p)
	if reader == nil {
		t.Fatal("the provider declares TargetHealth and is no cloud.HealthReader")
	}
	observed := settle(t, p, spec.Owner, &spec).Observed
	c := &counter{}
	h.SetHook(c.hook)
	want := map[string]cloud.Health{}
	var silent cloud.Target
	for _, r := range observed {
		for _, target := range r.Targets {
			want[r.ID+" "+target.ID] = cloud.HealthHealthy
			silent = target
		}
	}
	expect := func(when string) {
		t.Helper()
		var got map[string]cloud.Health
		for range passes {
			got = healths(t, reader, spec.Owner, observed)
			if cmp.Equal(want, got) {
				return
			}
			time.Sleep(time.Second)
		}
		t.Fatalf("%s, the health of the targets is (-want +got):\n%s", when, cmp.Diff(want, got))
	}
	setSilent := func(silence bool, health cloud.Health) {
		h.SetAnswering(silent, !silence)
		for _, r := range observed {
			if slices.Contains(r.Targets, silent) {
				want[r.ID+" "+silent.ID] = health
			}
		}
	}
	expect("when all answer")
	setSilent(true, cloud.HealthUnhealthy)
	expect("when one does not answer")
	setSilent(false, cloud.HealthHealthy)
	expect("when it answers again")
	h.SetHook(nil)
	if c.writes > 0 {
		t.Errorf("to tell the health of targets it wrote %d times: %q", c.writes, c.names)
	}
	observed = settle(t, p, spec.Owner, &fewer).Observed
	want = map[string]cloud.Health{}
	for _, r := range observed {
		for _, target := range r.Targets {
			want[r.ID+" "+target.ID] = cloud.HealthHealthy
		}
	}
	expect("when there are fewer")
}

// healths asks for the health of the targets of those resources that have some.
func healths(t *testing.T, reader cloud.HealthReader, owner cloud.Owner, observed []cloud.Resource) map[string]cloud.Health {
	t.Helper()
	var sets []cloud.Resource
	for _, r := range observed {
		if r.HasTargets {
			sets = append(sets, r)
		}
	}
	answers, err := reader.TargetHealth(t.Context(), owner, sets)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]cloud.Health{}
	for _, a := range answers {
		got[a.Resource+" "+a.Target] = a.Health
	}
	return got
}
