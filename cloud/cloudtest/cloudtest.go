package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
)

// Harness is one empty cloud and the ways to look at it behind the provider's back.
type Harness struct {
	// New returns a provider for the cloud, as after a restart of the manager: it remembers nothing.
	New func() cloud.Provider
	// SetHook has the cloud call hook before and after each call that reaches it. An error of the hook is returned
	// instead of the call being done, or instead of its answer. Nil takes the hook away.
	SetHook func(hook func(Call) error)
	// Snapshot describes each thing in the cloud, whoever owns it, without ids or addresses that differ from one run to
	// the next, sorted.
	Snapshot func() []string
	// PlantForeign makes a thing that the owner does not own, under the name that the provider would give to r. The
	// ids in r.DependsOn are empty where r needs others: make it without them, or return ErrCannotPlant.
	PlantForeign func(owner cloud.Owner, r cloud.Resource) error
	// Throttled returns an error as the cloud's client would for too many calls.
	Throttled func() error
	// Adapt makes a Spec of the suite fit: parameters or annotations that the provider cannot do without. Nil leaves
	// it.
	Adapt func(cloud.Spec) cloud.Spec
}

// Call is one call that reaches the cloud.
type Call struct {
	// Name of the call, for messages.
	Name string
	// Write: it changes the cloud.
	Write bool
	// After: it is done, and its answer is on the way.
	After bool
}

// ErrCannotPlant: things of that kind cannot stand alone in this cloud.
var ErrCannotPlant = errors.New("it cannot stand alone")

// passes is after how many passes a cloud that does not fail must have what is desired.
const passes = 30

var errCrash = errors.New("the manager was stopped here")

// Run holds a provider to the contract. The factory is called for each case anew.
func Run(t *testing.T, factory func(t *testing.T) *Harness) {
	t.Run("DesiredIsPure", func(t *testing.T) { testPure(t, factory(t)) })
	t.Run("ReplayIsIdempotent", func(t *testing.T) { testReplay(t, factory(t)) })
	t.Run("NoChangeNoWrite", func(t *testing.T) { testNoWrite(t, factory(t)) })
	t.Run("CrashAnywhere", func(t *testing.T) { testCrashes(t, factory) })
	t.Run("ForeignIsUntouched", func(t *testing.T) { testForeign(t, factory) })
	t.Run("DeleteWhateverIsThere", func(t *testing.T) { testPartialDelete(t, factory) })
	t.Run("Throttling", func(t *testing.T) { testThrottling(t, factory(t)) })
	t.Run("NodesAreCheap", func(t *testing.T) { testNodes(t, factory(t)) })
}

// step is one thing that a user does.
type step struct {
	name string
	// spec after it; nil for the deletion of the Service.
	spec *cloud.Spec
}

// steps is a life of a Service that visits every kind of change.
func steps(h *Harness) []step {
	caps := h.New().Capabilities()
	base := Spec(caps, 3)
	moreNodes := Spec(caps, 5)
	ports := Spec(caps, 5)
	ports.Ports = append(ports.Ports, port("TCP", 8443, 30444))
	ports.Ports[0].NodePort, ports.Ports[0].HealthCheck.Port = 30111, 30111
	local := ports
	local.LocalOnly = true
	local.Ports = slices.Clone(ports.Ports[1:])
	for i := range local.Ports {
		local.Ports[i].HealthCheck = cloud.HealthCheck{Protocol: "HTTP", Port: 32000, Path: cloud.HealthzPath}
	}
	if caps.SourceRanges {
		local.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	}
	list := []step{{"create", &base}, {"add nodes", &moreNodes}, {"change ports", &ports}, {"change policy", &local}, {"delete", nil}}
	for _, s := range list {
		if s.spec != nil && h.Adapt != nil {
			*s.spec = h.Adapt(*s.spec)
		}
	}
	return list
}

// Spec is a Spec of the suite: a TCP port, a UDP port where the provider can have both, and n nodes in two zones, for
// one owner.
func Spec(caps cloud.Capabilities, n int) cloud.Spec {
	s := cloud.Spec{
		Owner:    cloud.Owner{ClusterID: "cluster-a", ServiceUID: "7f3e0c1a-0000-4000-8000-000000000001", Namespace: "shop", Name: "cart"},
		Families: []cloud.Family{caps.Families[0]},
		Ports:    []cloud.Port{port("TCP", 80, 30080)},
	}
	if caps.DualStack {
		s.Families = slices.Clone(caps.Families)
	}
	if caps.MixedProtocols && slices.Contains(caps.Protocols, "UDP") {
		s.Ports = append(s.Ports, port("UDP", 53, 30053))
	}
	for i := range n {
		s.Nodes = append(s.Nodes, cloud.Node{Name: fmt.Sprintf("n%d", i+1), ProviderID: fmt.Sprintf("test://n%d", i+1),
			Zone: fmt.Sprintf("zone-%c", 'a'+i%2), Addresses: []string{fmt.Sprintf("172.30.0.%d", 11+i), fmt.Sprintf("fd00:172:30::%x", 11+i)}})
	}
	return s
}

func port(protocol string, number, nodePort int32) cloud.Port {
	check := cloud.HealthCheck{Protocol: "TCP", Port: nodePort}
	if protocol != "TCP" {
		check = cloud.HealthCheck{Protocol: "HTTP", Port: cloud.HealthzPort, Path: cloud.HealthzPath}
	}
	return cloud.Port{Name: fmt.Sprintf("p%d", number), Protocol: protocol, Port: number, NodePort: nodePort, HealthCheck: check}
}

// pass is one pass of the core for what a step leaves.
func pass(p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) (cloud.Outcome, error) {
	var desired []cloud.Resource
	if spec != nil {
		var err error
		if desired, err = p.Desired(*spec); err != nil {
			return cloud.Outcome{}, err
		}
	}
	return cloud.Converge(context.Background(), p, owner, desired, cloud.Options{})
}

// settle passes until nothing is left to do.
func settle(t *testing.T, p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) cloud.Outcome {
	t.Helper()
	var out cloud.Outcome
	var err error
	for range passes {
		out, err = pass(p, owner, spec)
		if err == nil && out.Left.Empty() {
			return out
		}
		if err != nil && (cloud.IsClass(err, cloud.UserError) || cloud.IsClass(err, cloud.Quota)) {
			break
		}
	}
	t.Fatalf("after %d passes the cloud is still not what is desired: error %v, left %+v", passes, err, out.Left)
	return out
}

func testPure(t *testing.T, h *Harness) {
	for _, s := range steps(h) {
		if s.spec == nil {
			continue
		}
		before := *s.spec
		first, err := h.New().Desired(*s.spec)
		if err != nil {
			t.Fatalf("%s: Desired: %v", s.name, err)
		}
		again, _ := h.New().Desired(*s.spec)
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("%s: two calls of Desired differ:\n%s", s.name, diff)
		}
		if diff := cmp.Diff(before, *s.spec, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: Desired changed its argument:\n%s", s.name, diff)
		}
	}
}

func testReplay(t *testing.T, h *Harness) {
	p := h.New()
	all := steps(h)
	owner := all[0].spec.Owner
	for _, s := range all {
		out := settle(t, p, owner, s.spec)
		want := h.Snapshot()
		if s.spec != nil && len(cloud.Ingresses(out.Observed)) == 0 {
			t.Errorf("%s: there is nothing that a client could connect to", s.name)
		}
		p = h.New()
		settle(t, p, owner, s.spec)
		if diff := cmp.Diff(want, h.Snapshot()); diff != "" {
			t.Errorf("%s: a replay after a restart changed the cloud:\n%s", s.name, diff)
		}
	}
	if left := h.Snapshot(); len(left) > 0 {
		t.Errorf("left after the deletion: %q", left)
	}
}

func testNoWrite(t *testing.T, h *Harness) {
	p := h.New()
	all := steps(h)
	for _, s := range all {
		settle(t, p, all[0].spec.Owner, s.spec)
		c := &counter{}
		h.SetHook(c.hook)
		if _, err := pass(h.New(), all[0].spec.Owner, s.spec); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		h.SetHook(nil)
		if c.writes > 0 {
			t.Errorf("%s: a pass without a change wrote %d times: %q", s.name, c.writes, c.names)
		}
	}
}

// counter counts calls, and stops the manager at one of them.
type counter struct {
	mu     sync.Mutex
	calls  int
	writes int
	names  []string
	// stopAt is the call at which the manager is stopped, before or after it; 0 means never.
	stopAt    int
	stopAfter bool
	stopped   bool
}

func (c *counter) hook(call Call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errCrash
	}
	if !call.After {
		c.calls++
		if call.Write {
			c.writes++
			c.names = append(c.names, call.Name)
		}
	}
	if c.stopAt > 0 && c.calls == c.stopAt && call.After == c.stopAfter {
		c.stopped = true
		return errCrash
	}
	return nil
}
