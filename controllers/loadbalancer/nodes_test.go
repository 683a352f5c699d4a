package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// many is a cloud in memory with many Services, and a Reconciler that has looked at each of them, without an API server.
type many struct {
	*testing.T
	*Reconciler
	cloud *fake.Cloud
	// woken are the Services that were given a pass, rounds how often the targets of all were asked for.
	woken  map[string]int
	rounds int

	mu    sync.Mutex
	calls []fake.Call
	// early are events that were sent before the last call.
	events, early int
}

func newMany(t *testing.T, services, nodes int, options fake.Options, edits ...func(*cloud.Capabilities)) *many {
	m := &many{T: t, woken: map[string]int{}}
	options.Pools = []fake.Pool{{Name: "default", Prefix: netip.MustParsePrefix("198.18.0.0/15")}}
	options.Hook = func(call fake.Call) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !call.After {
			m.calls = append(m.calls, call)
			m.early = m.events
		}
		return nil
	}
	limits := options.Limits
	options.Limits = cloud.Limits{}
	m.cloud = fake.New(options)
	provider := fake.NewProvider(m.cloud, edits...)
	m.Reconciler = &Reconciler{Recorder: counter{many: m}, ClusterID: "test", Providers: providers{provider}}
	m.prepare()
	m.wake = func(name types.NamespacedName, _ priority) { m.woken[name.Name]++ }
	m.wakeNodes, m.wakeSweep = func() { m.rounds++ }, func(string, time.Duration) {}
	for i := range services {
		m.add(i, nodes)
	}
	// Limits begin here: how long it takes to make all of it is not the question.
	m.Providers = providers{cloud.Limited(provider, limits)}
	m.calls = nil
	return m
}

// discard is an event recorder of which nobody listens to what it records.
type discard struct{ events.EventRecorder }

func (discard) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

// counter is an event recorder that counts.
type counter struct {
	events.EventRecorder
	many *many
}

func (c counter) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {
	c.many.mu.Lock()
	defer c.many.mu.Unlock()
	c.many.events++
}

func uid(i int) types.UID { return types.UID(fmt.Sprintf("uid-%04d", i)) }

// add makes the balancer of one Service and notes it as a pass does.
func (m *many) add(i, nodes int) {
	m.Helper()
	provider, _ := m.Providers.Get(fake.Name)
	spec := cloud.Spec{Owner: cloud.Owner{ClusterID: "test", ServiceUID: string(uid(i)), Namespace: "shop", Name: fmt.Sprintf("s%04d", i)},
		Families: []cloud.Family{cloud.IPv4}, Nodes: machines(nodes),
		Ports: []cloud.Port{{Protocol: "TCP", Port: 80, NodePort: 30080, HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30080}}}}
	desired, err := provider.Desired(spec)
	if err != nil {
		m.Fatal(err)
	}
	out, err := cloud.Converge(context.Background(), provider, spec.Owner, desired, cloud.Options{})
	if err != nil || !out.Left.Empty() {
		m.Fatalf("making Service %d: %v, left %+v", i, err, out.Left)
	}
	e := m.ledger.begin(uid(i), types.NamespacedName{Namespace: "shop", Name: spec.Owner.Name}, fake.Name, false)
	e.remember(spec, cloud.Options{}, out, nil)
	m.end(e)
}

// machines makes nodes.
func machines(n int) []cloud.Node {
	nodes := make([]cloud.Node, n)
	for i := range nodes {
		nodes[i] = cloud.Node{Name: fmt.Sprintf("n%03d", i), Addresses: []string{fmt.Sprintf("172.30.%d.%d", i/200, 1+i%200)}}
	}
	return nodes
}

// expect holds every target set against a number of nodes.
func (m *many) expect(nodes int) {
	m.Helper()
	for _, o := range m.cloud.Objects() {
		if o.Kind == fake.KindTargetSet && len(o.Targets) != nodes {
			m.Fatalf("%s has %d targets, want %d", o.Name, len(o.Targets), nodes)
		}
	}
}

func (m *many) methods() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	methods := make([]string, len(m.calls))
	for i, call := range m.calls {
		methods[i] = call.Method
	}
	m.calls = nil
	return methods
}

// ofMachines is a provider whose sets of targets depend on which machines the nodes are.
type ofMachines struct{ cloud.Provider }

func (o ofMachines) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	desired, err := o.Provider.Desired(spec)
	for i := range desired {
		if desired[i].HasTargets {
			desired[i].Nodes = spec.Nodes
		}
	}
	return desired, err
}

// TestNodeBecomesAMachine: a node that gets its providerID later makes the same targets, and yet is looked at where machines count.
func TestNodeBecomesAMachine(t *testing.T) {
	for count, want := range map[bool]int{true: 1, false: 0} {
		m := newMany(t, 1, 3, fake.Options{})
		if count {
			p, _ := m.Providers.Get(fake.Name)
			m.Providers = providers{ofMachines{p}}
		}
		nodes := machines(3)
		nodes[1].ProviderID = "fake:///n001"
		m.syncNodes(t.Context(), fake.Name, nodes)
		if got := m.woken["s0000"]; got != want {
			t.Errorf("machines count: %t: the Service gets %d passes, want %d", count, got, want)
		}
	}
}

// TestNodeChangeOfThousandServices: as many calls as the cloud needs for all target sets, none of them a read, in the
// time that the account's limit takes at least, and 10 percent.
func TestNodeChangeOfThousandServices(t *testing.T) {
	const services = 1000
	limits := cloud.Limits{Reads: cloud.Limit{PerSecond: 10, Burst: 40}, Writes: cloud.Limit{PerSecond: 2, Burst: 1}}
	cases := map[string]struct {
		reason        string
		before, after int
		calls         int
	}{
		"OneMore":  {"1,000 additions, 200 in a call", 3, 4, 5},
		"OneLess":  {"1,000 removals", 3, 2, 5},
		"TenMore":  {"10,000 additions", 3, 13, 50},
		"NoChange": {"nothing to send", 3, 3, 0},
		"None":     {"the last one goes", 1, 0, 5},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMany(t, services, tc.before, fake.Options{Limits: limits})
				start := time.Now()
				if wait := m.syncNodes(t.Context(), fake.Name, machines(tc.after)); wait != 0 {
					t.Errorf("it asks to be called again after %v", wait)
				}
				took := time.Since(start)
				m.expect(tc.after)
				methods := m.methods()
				if len(methods) != tc.calls || slices.ContainsFunc(methods, func(m string) bool { return m != "SyncTargets" }) {
					t.Errorf("%s: %d calls, want %d: %v", tc.reason, len(methods), tc.calls, slices.Compact(methods))
				}
				least := time.Duration(max(0, tc.calls-1)) * time.Second / 2
				if took > least*11/10 {
					t.Errorf("it took %v, the limit takes %v", took, least)
				}
				if len(m.woken) > 0 {
					t.Errorf("%d Services were given a pass", len(m.woken))
				}
				if m.early > 0 || (m.events >= services) != (tc.calls > 0) {
					t.Errorf("of %d events %d went before the last call, and kept it up", m.events, m.early)
				}
				if m.syncNodes(t.Context(), fake.Name, machines(tc.after)); len(m.methods()) > 0 {
					t.Error("the same nodes again are sent again")
				}
			})
		})
	}
}

// TestNodeChangeThrottled: the cloud throttles in between; the rest is sent when it may be, and nothing before.
func TestNodeChangeThrottled(t *testing.T) {
	for name, after := range map[string]int{"RetryAfter": 7, "NoRetryAfter": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMany(t, 1000, 3, fake.Options{})
				m.cloud.Inject(fake.Fault{Method: "SyncTargets", Skip: 2, Times: 3,
					Err: &fake.Error{Code: fake.CodeThrottled, Message: "slow down", RetryAfterSeconds: after}})
				var waits []time.Duration
				for {
					wait := m.syncNodes(t.Context(), fake.Name, machines(4))
					if wait == 0 {
						break
					}
					waits = append(waits, wait)
					time.Sleep(wait)
				}
				m.expect(4)
				if methods := m.methods(); len(methods) != 5+3 {
					t.Errorf("%d calls, want those of all Services and the three refused", len(methods))
				}
				want := []time.Duration{7 * time.Second, 7 * time.Second, 7 * time.Second}
				if after == 0 {
					want = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}
				}
				if !slices.Equal(waits, want) {
					t.Errorf("waited %v, want %v", waits, want)
				}
			})
		})
	}
}

// TestNodeChangeOfABrokenService: somebody deleted a target set. Its Service gets a pass, and so do those that were in
// its call; the others have their targets.
func TestNodeChangeOfABrokenService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMany(t, 500, 3, fake.Options{})
		provider, _ := m.Providers.Get(fake.Name)
		owner := cloud.Owner{ClusterID: "test", ServiceUID: string(uid(250)), Namespace: "shop", Name: "s0250"}
		for range 5 { // whatever the order
			observed, err := provider.Observe(t.Context(), owner)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range observed {
				_ = provider.Delete(t.Context(), owner, r)
			}
		}
		m.methods()
		m.syncNodes(t.Context(), fake.Name, machines(4))
		if methods := m.methods(); len(methods) != 3 {
			t.Errorf("%d calls, want 3", len(methods))
		}
		if len(m.woken) != 200 || m.woken["s0250"] != 1 {
			t.Errorf("%d Services were given a pass, want the 200 of the call, and s0250 once: %d", len(m.woken), m.woken["s0250"])
		}
		with := 0
		for _, o := range m.cloud.Objects() {
			if o.Kind == fake.KindTargetSet && len(o.Targets) == 4 {
				with++
			}
		}
		if with != 300 {
			t.Errorf("%d target sets have the new node, want 300", with)
		}
	})
}

// panicky is a provider with a mistake in one of its methods.
type panicky struct {
	cloud.Provider
	in string
}

func (p panicky) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	if p.in == "Desired" && spec.Owner.Name == "s0001" {
		panic("a mistake")
	}
	return p.Provider.Desired(spec)
}

func (p panicky) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	if p.in == "SyncTargets" {
		panic("a mistake")
	}
	return p.Provider.SyncTargets(ctx, changes)
}

// TestNodeChangePanics: a provider's mistake keeps no Service busy for ever, nor the changes from other providers.
func TestNodeChangePanics(t *testing.T) {
	for _, in := range []string{"Desired", "SyncTargets"} {
		t.Run(in, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMany(t, 3, 3, fake.Options{})
				sound := m.Providers
				provider, _ := sound.Get(fake.Name)
				m.Providers = providers{panicky{provider, in}}
				if wait := m.syncNodes(t.Context(), fake.Name, machines(4)); wait != waitPlugin {
					t.Errorf("it asks to be called again after %v", wait)
				}
				for _, known := range m.ledger.all(fake.Name) {
					e := m.ledger.resume(known, owesNothing)
					if e == nil {
						t.Fatalf("%s is busy for ever", known.name)
					}
					m.end(e)
				}
				m.Providers = sound
				// The pass that is due is for these nodes; others give it another one.
				for _, round := range []struct{ nodes, want int }{{4, 1}, {5, 2}} {
					if m.syncNodes(t.Context(), fake.Name, machines(round.nodes)); m.woken["s0001"] != round.want {
						t.Errorf("with %d nodes it was given %d passes, want %d", round.nodes, m.woken["s0001"], round.want)
					}
				}
			})
		})
	}
}

// choosy is a provider whose targets are the nodes with a label, of which it is told where asks.
type choosy struct {
	cloud.Provider
	asks  bool
	asked int
}

func (p *choosy) Capabilities() cloud.Capabilities {
	caps := p.Provider.Capabilities()
	caps.NodeLabels = p.asks
	return caps
}

func (p *choosy) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	p.asked++
	spec.Nodes = slices.DeleteFunc(slices.Clone(spec.Nodes), func(n cloud.Node) bool { return n.Labels["pool"] == "back" })
	return p.Provider.Desired(spec)
}

// TestNodeLabelChange: a label that changes moves targets like a node that comes or goes, with as many calls; a provider that
// does not ask for labels hears nothing of it.
func TestNodeLabelChange(t *testing.T) {
	for _, asks := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := newMany(t, 1000, 3, fake.Options{})
			provider, _ := m.Providers.Get(fake.Name)
			p := &choosy{Provider: provider, asks: asks}
			m.Providers = providers{p}
			for i, step := range []struct {
				pool  string
				nodes int
				calls int
			}{{"back", 2, 5}, {"back", 2, 0}, {"front", 3, 5}} {
				nodes := machines(3)
				nodes[1].Labels = map[string]string{"pool": step.pool}
				if !asks {
					step.nodes, step.calls = 3, 0
				}
				m.syncNodes(t.Context(), fake.Name, nodes)
				m.expect(step.nodes)
				if methods := m.methods(); len(methods) != step.calls {
					t.Errorf("asks %t, step %d: %d calls, want %d", asks, i, len(methods), step.calls)
				}
			}
			if !asks && p.asked > 0 {
				t.Errorf("it was asked %d times what it wants, though nothing changed for it", p.asked)
			}
			if len(m.woken) > 0 {
				t.Errorf("%d Services were given a pass", len(m.woken))
			}
		})
	}
}

// TestNodeChangeDuringAPass: whoever works on a Service has its targets looked at afterwards, and gives it no pass for that: one that
// fails slowly would go from one to the next.
func TestNodeChangeDuringAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMany(t, 3, 3, fake.Options{})
		e := m.ledger.begin(uid(1), types.NamespacedName{Namespace: "shop", Name: "s0001"}, fake.Name, false)
		m.syncNodes(t.Context(), fake.Name, machines(4))
		if m.rounds > 0 {
			t.Error("its targets are asked for while it is worked on")
		}
		m.end(e)
		if m.rounds != 1 {
			t.Errorf("its targets are asked for %d times afterwards", m.rounds)
		}
		m.syncNodes(t.Context(), fake.Name, machines(4))
		m.expect(4)
		if len(m.woken) > 0 {
			t.Errorf("given a pass: %v", m.woken)
		}
	})
}

// TestUnsettled: a Service that waits for its next attempt is given one sooner when what it sends to changes, once, and not for the
// sake of others; under Plan, and when it is released, never.
func TestUnsettled(t *testing.T) {
	full := cloud.Errorf(cloud.Quota, "no more balancers")
	for name, tc := range map[string]struct {
		policy v1alpha1.Policy
		err    error
		left   cloud.Plan
		gone   bool
		want   int
	}{
		"Failed":   {err: full, want: 1},
		"Waiting":  {left: cloud.Plan{Waiting: []string{"Balancer/main"}}, want: 1},
		"Plan":     {policy: v1alpha1.PolicyPlan, left: cloud.Plan{Operations: []cloud.Operation{{Action: cloud.ActionCreate}}}},
		"Released": {err: full, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMany(t, 1, 3, fake.Options{})
				e := m.ledger.resume(m.ledger.of(uid(0)), owesNothing)
				pass := func(nodes int) {
					if tc.gone {
						_, _ = m.clear(t.Context(), e, fake.Name, e.owner, cloud.Options{})
						return
					}
					spec := e.spec
					spec.Nodes = machines(nodes)
					e.remember(spec, cloud.Options{Policy: tc.policy}, cloud.Outcome{Observed: e.observed, Left: tc.left}, tc.err)
				}
				pass(3)
				m.end(e)
				round := func(nodes, want int) {
					t.Helper()
					m.syncNodes(t.Context(), fake.Name, machines(nodes))
					if m.woken["s0000"] != want {
						t.Errorf("with %d nodes it was given %d passes, want %d", nodes, m.woken["s0000"], want)
					}
				}
				round(3, 0)
				round(4, tc.want)
				round(4, tc.want)
				m.ledger.resume(e, owesNothing)
				pass(4)
				m.end(e)
				round(4, tc.want)
				round(3, 2*tc.want)
			})
		})
	}
}

// TestSweep finds what others changed with one call, and nothing else.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMany(t, 1000, 3, fake.Options{})
		time.Sleep(time.Second) // what was touched at the same moment is not comparable
		sweep := func() []string {
			provider, _ := m.Providers.Get(fake.Name)
			if _, err := (&sweepReconciler{m.Reconciler}).list(t.Context(), fake.Name, provider); err != nil {
				t.Fatal(err)
			}
			return m.methods()
		}
		if methods := sweep(); len(methods) != 1 || methods[0] != "List" {
			t.Errorf("a sweep calls %v", methods)
		}
		if len(m.woken) > 0 {
			t.Errorf("%d Services were given a pass without a change", len(m.woken))
		}
		for _, o := range m.cloud.Objects() {
			var err error
			switch {
			case o.Kind == fake.KindListener && o.Tags["fairlead.dev/service"] == "shop/s0007":
				err = m.cloud.Delete(t.Context(), o.ID)
			case o.Kind == fake.KindTargetSet && o.Tags["fairlead.dev/service"] == "shop/s0008":
				err = m.cloud.SyncTargets(t.Context(), []fake.TargetsRequest{{ID: o.ID, Remove: o.Targets[:1]}})
			case o.Kind == fake.KindHealthCheck && o.Tags["fairlead.dev/service"] == "shop/s0009":
				_, err = m.cloud.Update(t.Context(), fake.Object{ID: o.ID, Kind: o.Kind, Fields: map[string]string{"port": "1"}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		m.methods()
		sweep()
		if len(m.woken) != 3 || m.woken["s0007"]+m.woken["s0008"]+m.woken["s0009"] != 3 {
			t.Errorf("given a pass: %v", m.woken)
		}
	})
}
