package cloudtest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

var adoptions = []struct {
	name string
	test func(t *testing.T, factory func(t *testing.T) *Harness)
}{
	{"AdoptedWithConsent", testAdoption},
	{"NotAdoptedWithoutConsent", testRefusal},
	{"OfferedAndTakenOver", testTakeOver},
	{"AdoptionCrashAnywhere", testAdoptionCrashes},
}

// byHand is what somebody has made before: for another node port than the Service's, on the nodes of then, and with a port
// that the Service does not want.
func byHand(h *Harness, n int) cloud.Spec {
	s := Spec(h.New().Capabilities(), 2)
	s.Owner = owner(n)
	s.Ports = slices.Clone(s.Ports)
	s.Ports[0].NodePort, s.Ports[0].HealthCheck.Port = 30111, 30111
	s.Ports = append(s.Ports, port("TCP", 9443, 30943))
	return h.adapt(s)
}

func (h *Harness) plant(t *testing.T, p Plant) string {
	t.Helper()
	if h.PlantBalancer == nil {
		t.Fatal("the provider declares Adopt: set Harness.PlantBalancer")
	}
	id, err := h.PlantBalancer(p)
	if err != nil {
		t.Fatalf("planting a balancer: %v", err)
	}
	time.Sleep(h.New().Capabilities().ReadLag)
	return id
}

// patiently calls again, as the core would, where the account's limit is reached.
func patiently[T any](p cloud.Provider, call func(p cloud.Provider) (T, error)) (T, error) {
	for {
		result, err := call(p)
		if err == nil || p.Classify(err).Class != cloud.Throttled {
			return result, err
		}
		time.Sleep(delay(p.Classify(err)))
	}
}

func (h *Harness) find(t *testing.T, owner cloud.Owner, id string) []cloud.Adoptable {
	t.Helper()
	found, err := patiently(h.restart(), func(p cloud.Provider) ([]cloud.Adoptable, error) {
		return cloud.FindAdoptable(context.Background(), p, owner, id)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// list is everything that carries the mark of the suite's cluster, sorted.
func (h *Harness) list(t *testing.T) []cloud.Resource {
	t.Helper()
	listed, err := patiently(h.restart(), func(p cloud.Provider) ([]cloud.Resource, error) { return p.List(context.Background(), clusterID) })
	if err != nil {
		t.Fatal(err)
	}
	cloud.SortResources(listed)
	return listed
}

// look is one pass that is not held up by limits.
func (h *Harness) look(spec *cloud.Spec, options cloud.Options) (cloud.Outcome, error) {
	return patiently(h.restart(), func(p cloud.Provider) (cloud.Outcome, error) { return passWith(p, spec.Owner, spec, options) })
}

// adoptable returns the balancer with the id, as the provider tells of it.
func (h *Harness) adoptable(t *testing.T, owner cloud.Owner, id string) cloud.Adoptable {
	t.Helper()
	found := h.find(t, owner, id)
	if len(found) != 1 || found[0].ID != id {
		t.Fatalf("asked for balancer %s, the provider tells of %+v", id, found)
	}
	return found[0]
}

// addresses are what clients connect to. How it is published is the Service's to say, and may change.
func addresses(resources []cloud.Resource) []cloud.Ingress {
	ingresses := cloud.Ingresses(resources)
	for i := range ingresses {
		ingresses[i].IPMode = ""
	}
	return ingresses
}

// unmarked expects that nothing carries the mark of the suite's cluster.
func (h *Harness) unmarked(t *testing.T, when string) {
	t.Helper()
	time.Sleep(h.New().Capabilities().ReadLag) // who lists knows nothing of what was just written
	if left := h.list(t); len(left) > 0 {
		t.Errorf("%s: there is still marked as this cluster's: %+v", when, left)
	}
}

func testAdoption(t *testing.T, factory func(t *testing.T) *Harness) {
	for _, granted := range []bool{false, true} {
		h := factory(t)
		spec := steps(h)[0].spec
		plant := Plant{Spec: byHand(h, 5), AdoptableBy: cloud.AdoptableBy(spec.Owner)}
		if granted {
			plant.AdoptableBy = ""
		}
		id := h.plant(t, plant)
		address := addresses(h.adoptable(t, spec.Owner, id).Resources)
		if len(address) == 0 {
			t.Fatalf("balancer %s has no address", id)
		}
		options := cloud.Options{Adopt: id, Granted: granted}
		for range 2 { // what was let go can be adopted again
			h.adopted(t, spec, options, address)
			h.mistaken(t, *spec)
			settle(t, twice{h.restart(), t}, spec.Owner, nil)
			h.unmarked(t, "after the Service is gone")
			after := h.adoptable(t, spec.Owner, id)
			if diff := cmp.Diff(address, addresses(after.Resources)); diff != "" {
				t.Errorf("let go, its address is another one (-before +after):\n%s", diff)
			}
			if after.AdoptableBy != plant.AdoptableBy {
				t.Errorf("let go, it says adoptable by %q, which was %q", after.AdoptableBy, plant.AdoptableBy)
			}
			desired, _ := h.New().Desired(*spec)
			for _, r := range after.Resources {
				wanted := slices.ContainsFunc(desired, func(d cloud.Resource) bool { return d.Name() == r.Name() })
				if wanted == (len(r.Targets) > 0) && r.HasTargets {
					t.Errorf("let go, %s has targets %v: want none of the Service's, and those of others", r.Name(), r.Targets)
				}
			}
		}
	}
}

// adopted adopts and looks whether it worked.
func (h *Harness) adopted(t *testing.T, spec *cloud.Spec, options cloud.Options, address []cloud.Ingress) {
	t.Helper()
	out := settleWith(t, twice{h.restart(), t}, spec.Owner, spec, options)
	if diff := cmp.Diff(address, addresses(out.Observed)); diff != "" {
		t.Errorf("adopted, its address is another one (-before +after):\n%s", diff)
	}
	i := slices.IndexFunc(out.Observed, func(r cloud.Resource) bool { return r.ID == options.Adopt })
	if i < 0 || out.Observed[i].Adopted != options.Adopt || !out.Observed[i].Lent {
		t.Errorf("adopted, balancer %s is not observed as lent: %+v", options.Adopt, out.Observed)
	}
	if diff := cmp.Diff(out.Observed, h.list(t)); diff != "" {
		t.Errorf("adopted, List differs from what Observe shows (-Observe +List):\n%s", diff)
	}
	for _, o := range []cloud.Options{options, {}} { // whether or not the annotation stays
		c := &counter{}
		h.SetHook(c.hook)
		again, err := h.look(spec, o)
		h.SetHook(nil)
		if err != nil || !again.Left.Empty() || c.writes > 0 {
			t.Errorf("a pass after the adoption made %d writes %q, left %s (%v)", c.writes, c.names, left(again.Left), err)
		}
	}
}

// mistaken has the Service ask for another port, and for something that is wrong: nothing of what it adopted changes, and no more where
// the provider cannot tell what it wants.
func (h *Harness) mistaken(t *testing.T, spec cloud.Spec) {
	t.Helper()
	spec.Ports = slices.Clone(spec.Ports)
	spec.Ports[0].Port = 8443
	desired, err := h.New().Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, told := range [][]cloud.Resource{desired, nil} {
		c := &counter{}
		h.SetHook(c.hook)
		_, err := patiently(h.restart(), func(p cloud.Provider) (cloud.Outcome, error) {
			return cloud.Converge(context.Background(), p, spec.Owner, told, cloud.Options{TargetsOnly: true})
		})
		h.SetHook(nil)
		if err != nil || c.writes > 0 {
			t.Errorf("adopted, and mistaken about something else, it wrote %d times: %q (%v)", c.writes, c.names, err)
		}
	}
}

func testRefusal(t *testing.T, factory func(t *testing.T) *Harness) {
	cases := map[string]func(h *Harness, spec *cloud.Spec) cloud.Options{
		"no consent": func(h *Harness, spec *cloud.Spec) cloud.Options {
			return cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 5)})}
		},
		"consent for another Service": func(h *Harness, spec *cloud.Spec) cloud.Options {
			return cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 5), AdoptableBy: cloud.AdoptableBy(owner(2))})}
		},
		"consent for another cluster's": func(h *Harness, spec *cloud.Spec) cloud.Options {
			other := spec.Owner
			other.ClusterID = "cluster-b"
			return cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 5), AdoptableBy: cloud.AdoptableBy(other)})}
		},
		"adopted by another Service": func(h *Harness, spec *cloud.Spec) cloud.Options {
			options := cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 5)}), Granted: true}
			other := *spec
			other.Owner = owner(2)
			settleWith(t, h.restart(), other.Owner, &other, options)
			return options
		},
		"adopted by another cluster": func(h *Harness, spec *cloud.Spec) cloud.Options {
			options := cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 5)}), Granted: true}
			other := *spec
			other.Owner.ClusterID = "cluster-b"
			settleWith(t, h.restart(), other.Owner, &other, options)
			return options
		},
		"made by us for another Service": func(h *Harness, spec *cloud.Spec) cloud.Options {
			other := *spec
			other.Owner = owner(2)
			out := settle(t, h.restart(), other.Owner, &other)
			return cloud.Options{Adopt: balancerOf(t, h, out), Granted: true}
		},
		"made by another controller for another Service": func(h *Harness, spec *cloud.Spec) cloud.Options {
			return cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 2), MadeFor: true})}
		},
		"no such id": func(*Harness, *cloud.Spec) cloud.Options {
			return cloud.Options{Adopt: "nobody-has-this-id", Granted: true}
		},
		"a second one": func(h *Harness, spec *cloud.Spec) cloud.Options {
			settle(t, h.restart(), spec.Owner, spec)
			return cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 5)}), Granted: true}
		},
	}
	for name, edit := range factory(t).edits() {
		cases["asks for "+name] = func(h *Harness, spec *cloud.Spec) cloud.Options {
			edit(spec)
			return cloud.Options{Adopt: h.plant(t, Plant{Spec: byHand(h, 5)}), Granted: true}
		}
	}
	for name, prepare := range cases {
		h := factory(t)
		spec := steps(h)[0].spec
		options := prepare(h, spec)
		before := h.Snapshot()
		for range 3 {
			out, err := h.look(spec, options)
			if err != nil || len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockAdoption {
				t.Errorf("%s: the adoption is not refused: left %s (%v)", name, left(out.Left), err)
			}
		}
		if diff := cmp.Diff(before, h.Snapshot()); diff != "" {
			t.Errorf("%s: something was changed (-before +after):\n%s", name, diff)
		}
	}
}

// balancerOf returns the id that the provider takes for that of the balancer in an outcome.
func balancerOf(t *testing.T, h *Harness, out cloud.Outcome) string {
	t.Helper()
	for _, r := range out.Observed {
		if found := h.find(t, owner(1), r.ID); len(found) > 0 {
			return found[0].ID
		}
	}
	t.Fatal("the provider finds no balancer by the id of anything that it made")
	return ""
}

func testTakeOver(t *testing.T, factory func(t *testing.T) *Harness) {
	for _, by := range []string{"the class", "the annotation", "none"} {
		h := factory(t)
		spec := steps(h)[0].spec
		h.plant(t, Plant{Spec: byHand(h, 2), MadeFor: true})
		h.plant(t, Plant{Spec: byHand(h, 5)})
		others := h.Snapshot()
		id := h.plant(t, Plant{Spec: byHand(h, 1), MadeFor: true})
		before := h.Snapshot()
		found := h.adoptable(t, spec.Owner, id)
		if found.MadeBy == "" {
			t.Errorf("the provider does not know who made balancer %s", id)
		}
		for range 2 {
			out, err := h.look(spec, cloud.Options{})
			if err != nil || len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockOffered || out.Left.Blocked[0].Resource != id {
				t.Errorf("balancer %s, made for this Service, is not offered: left %s (%v)", id, left(out.Left), err)
			}
		}
		if diff := cmp.Diff(before, h.Snapshot()); diff != "" {
			t.Errorf("something was changed before anybody decided (-before +after):\n%s", diff)
		}
		options, want := cloud.Options{TakeOver: true}, others
		switch by {
		case "the annotation":
			options = cloud.Options{Adopt: id}
		case "none":
			options, want = cloud.Options{Adopt: v1alpha1.AdoptNone}, before
		}
		out := settleWith(t, h.restart(), spec.Owner, spec, options)
		same := cmp.Equal(addresses(found.Resources), addresses(out.Observed))
		if same != (by != "none") {
			t.Errorf("decided by %s, it has the address %v, where the other controller's had %v", by, addresses(out.Observed), addresses(found.Resources))
		}
		settle(t, h.restart(), spec.Owner, nil)
		if diff := cmp.Diff(want, h.Snapshot()); diff != "" {
			t.Errorf("decided by %s, after the Service is gone there is (-want +got):\n%s", by, diff)
		}
	}
}

// testAdoptionCrashes stops the manager at each call of an adoption, and of the deletion after it, of what is
// lent, of what is taken over and, where the provider can, of what is taken back.
func testAdoptionCrashes(t *testing.T, factory func(t *testing.T) *Harness) {
	if factory(t).New().Capabilities().TakeBack {
		testTakingBack(t, factory)
	}
	for _, lent := range []bool{true, false} {
		start := func() (*Harness, *cloud.Spec, cloud.Options) {
			h := factory(t)
			plant := Plant{Spec: byHand(h, 1), MadeFor: !lent}
			return h, steps(h)[0].spec, cloud.Options{Adopt: h.plant(t, plant), Granted: lent}
		}
		reference, spec, options := start()
		address := addresses(settleWith(t, reference.restart(), spec.Owner, spec, options).Observed)
		want := reference.Snapshot()
		settle(t, reference.restart(), spec.Owner, nil)
		gone := reference.Snapshot()
		stopped := func(n int, after bool) bool {
			h, spec, options := start()
			if !crashedAt(t, h, spec.Owner, spec, options, n, after) {
				return false
			}
			settleWith(t, h.restart(), spec.Owner, spec, options)
			if diff := cmp.Diff(want, h.Snapshot()); diff != "" {
				t.Errorf("stopped at call %d (after it: %t, lent: %t), ends up different (-want +got):\n%s", n, after, lent, diff)
			}
			// The Service is deleted instead: what is lent is let go, as it was, and what was taken over goes, or was not touched.
			h, spec, options = start()
			crashedAt(t, h, spec.Owner, spec, options, n, after)
			settle(t, h.restart(), spec.Owner, nil)
			h.unmarked(t, "deleted in the middle of an adoption")
			found := h.find(t, spec.Owner, options.Adopt)
			if !lent && len(found) == 0 && cmp.Equal(gone, h.Snapshot()) {
				return true
			}
			if len(found) != 1 || !cmp.Equal(address, addresses(found[0].Resources)) {
				t.Errorf("stopped at call %d (after it: %t, lent: %t), then deleted: of the balancer there is %+v", n, after, lent, found)
			}
			return true
		}
		stoppedDeleting := func(n int, after bool) bool {
			h, spec, options := start()
			settleWith(t, h.restart(), spec.Owner, spec, options)
			if !crashedAt(t, h, spec.Owner, nil, cloud.Options{}, n, after) {
				return false
			}
			settle(t, h.restart(), spec.Owner, nil)
			if diff := cmp.Diff(gone, h.Snapshot()); diff != "" {
				t.Errorf("stopped at call %d of the deletion (after it: %t, lent: %t), it leaves (-want +got):\n%s", n, after, lent, diff)
			}
			return true
		}
		for _, step := range []func(n int, after bool) bool{stopped, stoppedDeleting} {
			for _, after := range stops(reference.New()) {
				n := 1
				for ; n <= maxCalls && step(n, after); n++ {
				}
				if n > maxCalls {
					t.Fatalf("it takes more than %d calls", maxCalls)
				}
			}
		}
	}
}

// retained is a cloud with what a Service left behind, the Spec of a later one, and what that one says to take it back.
func retained(t *testing.T, h *Harness) (spec cloud.Spec, options cloud.Options) {
	t.Helper()
	old := *steps(h)[0].spec
	spec = old
	old.Owner = owner(5)
	out := settle(t, h.restart(), old.Owner, &old)
	options.Retained = old.Owner.ID()
	for _, r := range out.Observed {
		if len(h.find(t, spec.Owner, r.ID)) == 1 {
			options.Adopt = r.ID
		}
	}
	return spec, options
}

// testTakingBack has a Service take back what an earlier one left behind, stopped at each call, and then go, from the end or from
// the middle.
func testTakingBack(t *testing.T, factory func(t *testing.T) *Harness) {
	h := factory(t)
	spec, options := retained(t, h)
	if options.Adopt == "" {
		t.Fatal("the provider declares TakeBack, and Adoptable finds nothing that it made itself")
	}
	address := addresses(h.list(t))
	out := settleWith(t, h.restart(), spec.Owner, &spec, options)
	if diff := cmp.Diff(address, addresses(out.Observed)); diff != "" {
		t.Errorf("taken back, the balancer has another address (-before +after):\n%s", diff)
	}
	for _, r := range h.list(t) {
		if !r.Shared && !slices.Equal(r.Owners, []cloud.OwnerID{spec.Owner.ID()}) {
			t.Errorf("taken back, %s is that of %q", r.Name(), r.Owners)
		}
	}
	want := h.Snapshot()
	for _, after := range stops(h.New()) {
		for n := 1; ; n++ {
			if n > maxCalls {
				t.Fatalf("it takes more than %d calls", maxCalls)
			}
			h := factory(t)
			spec, options := retained(t, h)
			if !crashedAt(t, h, spec.Owner, &spec, options, n, after) {
				break
			}
			settleWith(t, h.restart(), spec.Owner, &spec, options)
			if diff := cmp.Diff(want, h.Snapshot()); diff != "" {
				t.Errorf("stopped at call %d (after it: %t), it is taken back different (-want +got):\n%s", n, after, diff)
			}
			h = factory(t)
			spec, options = retained(t, h)
			crashedAt(t, h, spec.Owner, &spec, options, n, after)
			options.Adopt = ""
			settleWith(t, h.restart(), spec.Owner, nil, options)
			settle(t, h.restart(), owner(5), nil) // what was not taken back yet is still the earlier one's
			if left := h.Snapshot(); len(left) > 0 {
				t.Errorf("stopped at call %d (after it: %t), then deleted, it leaves %q", n, after, left)
			}
		}
	}
}
