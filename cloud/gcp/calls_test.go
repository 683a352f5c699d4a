package gcp_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

var update = flag.Bool("update", false, "write golden files anew")

// calls counts by method and collection, in the order in which each first came.
type calls struct {
	mu    sync.Mutex
	order []string
	count map[string]int
}

// hook notes one call, names left out: "POST forwardingRules", "POST networkEndpointGroups attachNetworkEndpoints".
func (c *calls) hook(call cloudtest.Call) error {
	if call.After {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	method, path, _ := strings.Cut(call.Name, " ")
	parts := strings.Split(strings.TrimPrefix(path, gcptest.BasePath+"projects/"+gcptest.Project+"/"), "/")
	if parts[0] == "regions" || parts[0] == "zones" {
		parts = parts[1:]
	}
	name := method + " " + parts[1]
	if len(parts) > 2 && method == "GET" {
		name += " one"
	} else if len(parts) > 3 {
		name += " " + parts[3]
	}
	if c.count == nil {
		c.count = map[string]int{}
	}
	if c.count[name] == 0 {
		c.order = append(c.order, name)
	}
	c.count[name]++
	return nil
}

func (c *calls) String() string {
	var b strings.Builder
	reads, writes := 0, 0
	for _, name := range c.order {
		if strings.HasPrefix(name, "GET") || strings.HasSuffix(name, "listNetworkEndpoints") {
			reads += c.count[name]
			continue
		}
		writes += c.count[name]
		fmt.Fprintf(&b, "  %3d %s\n", c.count[name], name)
	}
	return fmt.Sprintf("%d reads, %d writes\n%s", reads, writes, b.String())
}

// pass has the core do what a Service asks for, until nothing is left.
func pass(t *testing.T, p cloud.Provider, owner cloud.Owner, spec *cloud.Spec) cloud.Outcome {
	t.Helper()
	var desired []cloud.Resource
	if spec != nil {
		var err error
		if desired, err = p.Desired(*spec); err != nil {
			t.Fatal(err)
		}
	}
	out, err := cloud.Converge(t.Context(), p, owner, desired, cloud.Options{})
	if err != nil || !out.Left.Empty() {
		t.Fatalf("one pass leaves %+v (%v)", out.Left, err)
	}
	return out
}

// service is a Service of one TCP port and one family on n nodes.
func service(i, nodes int) *cloud.Spec {
	spec := cloudtest.Spec(cloud.Capabilities{Families: []cloud.Family{cloud.IPv4}}, nodes)
	spec.Owner.ServiceUID = fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)
	spec.Owner.Name = fmt.Sprintf("cart%d", i)
	spec = gcptest.Adapt(spec)
	return &spec
}

// TestCalls holds what is sent to a table. Each pass observes, and observes again after it changed something; a Service that has
// nothing yet is looked for among what another controller made.
func TestCalls(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	var table strings.Builder
	measure := func(what string, do func()) {
		var n calls
		c.SetHook(n.hook)
		do()
		c.SetHook(nil)
		fmt.Fprintf(&table, "%s: %s", what, n.String())
	}
	first := service(0, 2)
	measure("creating a Service of one port, on nodes in two zones", func() { pass(t, p, first.Owner, first) })
	measure("looking at it without a change", func() { pass(t, p, first.Owner, first) })
	two := *first
	two.Ports = append(two.Ports[:1:1], cloud.Port{Name: "b", Protocol: "UDP", Port: 53, NodePort: 30053, HealthCheck: two.Ports[0].HealthCheck})
	measure("adding a port", func() { pass(t, p, two.Owner, &two) })
	var changes []cloud.TargetChange
	for i := 1; i < 100; i++ {
		spec := service(i, 2)
		var out cloud.Outcome
		create := func() { out = pass(t, p, spec.Owner, spec) }
		if i == 1 {
			measure("creating a second Service", create)
		} else {
			create()
		}
		changes = append(changes, change(t, p, service(i, 3), out.Observed)...)
	}
	measure("one more node, of 99 Services", func() {
		for _, err := range p.SyncTargets(t.Context(), changes) {
			if err != nil {
				t.Error(err)
			}
		}
	})
	measure("listing all 100 Services", func() {
		if _, err := p.List(t.Context(), first.Owner.ClusterID); err != nil {
			t.Error(err)
		}
	})
	measure("deleting a Service of two ports", func() { pass(t, p, first.Owner, nil) })
	golden(t, "testdata/calls.txt", table.String())
}

// change is what differs in targets between a Service and what was observed of it.
func change(t *testing.T, p cloud.Provider, spec *cloud.Spec, observed []cloud.Resource) []cloud.TargetChange {
	t.Helper()
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cloud.Compare(spec.Owner, desired, observed, cloud.Options{})
	if err != nil || !out.Left.TargetsOnly() {
		t.Fatalf("more than targets differs: %+v (%v)", out.Left, err)
	}
	return out.Left.TargetChanges(spec.Owner)
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // a table
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), write it anew with -update:\n%s", path, diff)
	}
}
