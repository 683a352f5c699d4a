package proxies

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/dataplane/conformance"
)

// TestPrograms has one API server for all, which is slow to start.
func TestPrograms(t *testing.T) {
	assets := needsPrograms(t)
	api := startServer(t)
	t.Run("Packets", func(t *testing.T) { comparePackets(t, api, assets) })
	t.Run("BackToKubeProxy", func(t *testing.T) { backToKubeProxy(t, api, assets) })
}

// comparePackets runs the table on both programs. Ours must do what the table wants; kube-proxy must do the same, but for
// the differences that are listed, each of which must be there.
func comparePackets(t *testing.T, api *server, assets string) {
	r := &runner{api: api, ours: nodeAgent(t, api, api.network(t)), theirs: kubeProxy(t, api, api.network(t), assets), table: &table{}}
	for _, c := range sorted() {
		t.Run(c.Name, func(t *testing.T) { r.run(t, &c) })
	}
	r.ours.network.Close(t)
	r.theirs.network.Close(t)
	for _, d := range differences {
		if !slices.Contains(r.found, d.key()) {
			t.Errorf("no difference any more, take it off the list: case %q, step %q", d.name, d.step)
		}
	}
	if *markdown != "" {
		if err := os.WriteFile(*markdown, []byte(r.table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sorted are the cases that an API server takes, those of one configuration together.
func sorted() []conformance.Case {
	cases := slices.DeleteFunc(conformance.Cases(), func(c conformance.Case) bool { return c.InProcess != "" })
	order := map[string]int{}
	for _, c := range cases {
		if _, ok := order[c.Config.Key()]; !ok {
			order[c.Config.Key()] = len(order)
		}
	}
	slices.SortStableFunc(cases, func(a, b conformance.Case) int { return order[a.Config.Key()] - order[b.Config.Key()] })
	return cases
}

// runner runs cases, one after the other.
type runner struct {
	api          *server
	ours, theirs *program
	markers      int
	table        *table
	// found are the differences that were seen.
	found []string
}

func (r *runner) run(t *testing.T, c *conformance.Case) {
	programs := []*program{r.ours, r.theirs}
	if c.OursOnly != "" {
		programs = programs[:1]
	}
	if err := r.api.reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if err := p.run(c.Config); err != nil {
			t.Fatal(err)
		}
	}
	steps := c.Merged()
	for i := range steps {
		step := &steps[i]
		if err := r.api.step(t.Context(), step); err != nil {
			t.Fatalf("step %d, %s: %v", i+1, step.Name, err)
		}
		r.catchUp(t, c, programs)
		for _, p := range programs {
			p.network.Forget(t)
		}
		columns := make([][]*conformance.Result, len(programs))
		var all sync.WaitGroup
		for j, p := range programs {
			looked := *step
			if j > 0 && find(c.Name, step.Name, "") != nil {
				looked.Eventually = false // what kube-proxy does not do is not waited for
			}
			all.Go(func() {
				columns[j] = p.network.Observe(&looked)
			})
		}
		all.Wait()
		r.compare(t, c, step, columns)
	}
}

// catchUp waits until the programs have seen all changes of Services and slices that were made so far.
func (r *runner) catchUp(t *testing.T, c *conformance.Case, programs []*program) {
	t.Helper()
	r.markers++
	objects, addresses := conformance.Marker(r.markers, c.Config.Coexist)
	for _, o := range objects {
		if err := r.api.putMarker(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range programs {
		if err := p.caughtUp(addresses); err != nil {
			t.Fatalf("%v\n%s", err, p.tail())
		}
	}
}

// compare takes the columns of one step, ours first.
func (r *runner) compare(t *testing.T, c *conformance.Case, step *conformance.Step, columns [][]*conformance.Result) {
	t.Helper()
	for i, ours := range columns[0] {
		theirs := "-"
		if len(columns) > 1 {
			theirs = columns[1][i].Got.String()
		}
		r.table.add(c, step, ours, theirs)
		where := fmt.Sprintf("%s\n%s", step.Name, ours.What())
		if !ours.OK() {
			t.Errorf("%s: want %s, got %s (kube-proxy: %s)\nThe rule: %s", where, ours.Probe.Want, ours.Got, theirs, c.Reason)
		}
		if len(columns) == 1 || theirs == ours.Got.String() {
			continue
		}
		if d := find(c.Name, step.Name, ours.Probe.From); d != nil {
			r.found = append(r.found, d.key())
			r.table.differ(d.reason)
			continue
		}
		t.Errorf("%s: ours %s, kube-proxy %s, which is not among the differences that are listed\nThe rule: %s",
			where, ours.Got, theirs, c.Reason)
	}
}
