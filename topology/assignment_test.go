package topology

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// stream plays events to an Assignment and holds what a caller holds beside it.
type stream struct {
	t          *testing.T
	policy     Policy
	capacities Capacities
	assignment *Assignment
	endpoints  map[string]Endpoint
}

func newStream(t *testing.T, policy Policy, capacities Capacities) *stream {
	return &stream{t, policy, capacities, NewAssignment(policy, capacities), map[string]Endpoint{}}
}

func (s *stream) put(e Endpoint) {
	s.assignment.Put(e)
	if old, ok := s.endpoints[e.Key]; ok {
		e.Hints = old.Hints
	}
	s.endpoints[e.Key] = e
}

func (s *stream) delete(key string) {
	s.assignment.Delete(key)
	delete(s.endpoints, key)
}

func (s *stream) resize(c Capacities) {
	s.assignment.SetCapacities(c)
	s.capacities = c
}

// update compares an Update with Assign, which knows no history, and with what must always hold.
func (s *stream) update() Report {
	s.t.Helper()
	all := slices.SortedFunc(maps.Values(s.endpoints), func(a, b Endpoint) int { return cmpKeys(b.Key, a.Key) })
	want, wantReport := Assign(s.policy, s.capacities, all)
	changes, report := s.assignment.Update()
	if diff := cmp.Diff(wantReport, report); diff != "" {
		s.t.Fatalf("the reports of Assign and Update differ (-Assign +Update):\n%s", diff)
	}
	if report.Changed != len(changes) || !slices.IsSortedFunc(changes, func(a, b Change) int { return cmpKeys(a.Key, b.Key) }) {
		s.t.Fatalf("%d changes are reported, these are made: %v", report.Changed, changes)
	}
	for _, c := range changes {
		e, ok := s.endpoints[c.Key]
		if !ok || hintsText(e.Hints) == hintsText(c.Hints) {
			s.t.Fatalf("%s had %q and changes to %q", c.Key, hintsText(e.Hints), hintsText(c.Hints))
		}
		e.Hints = c.Hints
		s.endpoints[c.Key] = e
	}
	for i, e := range all {
		e = s.endpoints[e.Key]
		is := s.assignment.Hints(e.Key)
		if hintsText(is) != hintsText(want[i]) || hintsText(is) != hintsText(e.Hints) {
			s.t.Fatalf("%s: Assign gives %q, Update %q, and changes come to %q", e.Key, hintsText(want[i]), hintsText(is), hintsText(e.Hints))
		}
		if report.Hinted != (is != nil) || report.Hinted && !s.policy.Several && len(is.ForZones) != 1 {
			s.t.Fatalf("%s has hints %v under %+v", e.Key, is, report)
		}
	}
	if again, r := s.assignment.Update(); again != nil || r.Changed != 0 {
		s.t.Fatalf("a second Update changes %v", again)
	}
	s.tolerated(all, report)
	report.Changed = 0
	s.settled(report)
	return report
}

// tolerated: what stands by Policy.Keep is no worse than that allows, says that it is not the best, and changes fewer hints.
func (s *stream) tolerated(before []Endpoint, report Report) {
	s.t.Helper()
	strictly := s.policy
	strictly.Keep = 0
	hints, best := Assign(strictly, s.capacities, before)
	spare := float64(s.policy.Keep)/100 + 2*tolerance
	if report.Reason != best.Reason || report.CrossZone > best.CrossZone+spare || report.Hinted && report.Overload > best.Bound+spare {
		s.t.Fatalf("within %d points of\n%+v\nis not\n%+v", s.policy.Keep, best, report)
	}
	if worse := report.CrossZone > best.CrossZone+tolerance || report.Hinted && report.Overload > best.Bound+tolerance; report.Kept != worse {
		s.t.Fatalf("beside the best\n%+v\nkept is not told right:\n%+v", best, report)
	}
	kept, changed := 0, 0
	for i, e := range before {
		if text := hintsText(e.Hints); text != "" {
			changed += differ(text, hintsText(hints[i]))
			kept += differ(text, hintsText(s.assignment.Hints(e.Key)))
		}
	}
	if report.Kept && kept >= changed {
		s.t.Fatalf("%d hints are changed by what is worse than the best, which changes %d: %+v", kept, changed, report)
	}
}

func differ(a, b string) int {
	if a == b {
		return 0
	}
	return 1
}

// settled: what was found best is still best when asked again, of an Assignment that knows nothing else.
func (s *stream) settled(report Report) {
	s.t.Helper()
	_, again := Assign(s.policy, s.capacities, slices.Collect(maps.Values(s.endpoints)))
	if again.Changed != 0 || again.CrossZone != report.CrossZone || again.Reason != report.Reason {
		s.t.Fatalf("what stands as\n%+v\nbecomes\n%+v", report, again)
	}
}

func cmpKeys(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// play decodes events from bytes: two each.
func (s *stream) play(events []byte) {
	zones := len(s.capacities.zones) + 2 // one without capacity, and none
	for len(events) >= 2 {
		what, which := events[0], events[1]
		events = events[2:]
		e := Endpoint{Key: fmt.Sprintf("10.0.0.%d", which&31), Zone: zoneName(int(which>>5) % zones)}
		if e.Zone == zoneName(zones-1) {
			e.Zone = ""
		}
		switch what % 8 {
		case 0, 1, 2:
			s.put(e)
		case 3:
			e.Hints = zonesHint(zoneName(int(what>>3) % zones))
			s.put(e)
		case 4, 5:
			s.delete(e.Key)
		case 6:
			s.update()
		case 7:
			weights := []int64{1 + int64(which&3), int64(which >> 2 & 3), int64(which >> 4 & 3), int64(which >> 6)}
			s.resize(weighted(weights...))
			zones = 6
		}
	}
	s.update()
}

var streamPolicies = []Policy{
	auto,
	{Mode: ModeAuto, Bound: 0, By: ByCPU, Keep: 10},
	{Mode: ModeAuto, Bound: 20, By: ByCPU, Keep: 100},
	{Mode: ModeAuto, Bound: 50, By: ByCPU, Several: true},
	{Mode: ModeAuto, Bound: 20, By: ByCPU, Several: true, Keep: 20},
	{Mode: ModeAuto, Bound: 10, By: ByCPU, Strict: true},
}

func TestStream(t *testing.T) {
	for i, policy := range streamPolicies {
		for seed := range uint64(40) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			events := make([]byte, 200+r.IntN(400))
			for j := range events {
				events[j] = byte(r.Uint32())
			}
			newStream(t, policy, weighted(1, 1, 1)).play(events)
		}
	}
}

func FuzzAssignment(f *testing.F) {
	f.Add(byte(0), []byte{0, 0, 0, 33, 0, 66, 6, 0, 4, 66, 6, 0, 0, 66})
	f.Add(byte(3), []byte{0, 0, 0, 1, 0, 130, 7, 255, 6, 0, 7, 1})
	f.Add(byte(4), []byte{3, 7, 11, 8, 3, 105, 6, 0, 4, 7, 0, 40, 6, 0})
	f.Fuzz(func(t *testing.T, policy byte, events []byte) {
		newStream(t, streamPolicies[int(policy)%len(streamPolicies)], weighted(2, 1, 1)).play(events)
	})
}

// TestAfterSameNode: hints of another policy are replaced, be they for the same zone, and those that fit are let stand.
func TestAfterSameNode(t *testing.T) {
	a := NewAssignment(auto, weighted(1, 1))
	node := zonesHint("a")
	node.ForNodes = []discoveryv1.ForNode{{Name: "n"}}
	for i, hints := range []*discoveryv1.EndpointHints{zonesHint("a"), node, zonesHint("a"), node} {
		a.Put(Endpoint{Key: fmt.Sprint("a", i), Zone: "a", Hints: hints})
		a.Put(Endpoint{Key: fmt.Sprint("b", i), Zone: "b", Hints: zonesHint("b")})
	}
	changes, report := a.Update()
	if diff := cmp.Diff([]Change{{"a1", zonesHint("a")}, {"a3", zonesHint("a")}}, changes); diff != "" {
		t.Errorf("%+v\n%s", report, diff)
	}
}

// TestGroup: a large group gives out the least of those that are in it, each once, however often they left and came.
func TestGroup(t *testing.T) {
	g := &group{}
	members := make([]*member, 200)
	for i := range members {
		members[i] = &member{key: fmt.Sprintf("%03d", i)}
	}
	for i := range members {
		g.join(members[(i*7)%len(members)])
	}
	take := func(count int) (keys []string) {
		for _, m := range g.take(count) {
			m.leave()
			keys = append(keys, m.key)
		}
		return keys
	}
	got := [][]string{take(1)}
	for range 3 {
		members[2].leave()
		g.join(members[2])
	}
	members[1].leave()
	got = append(got, take(2))
	g.join(members[0])
	got = append(got, take(2), take(40), take(3))
	want := [][]string{{"000"}, {"002", "003"}, {"000", "004"}, nil, {"045", "046", "047"}}
	for i := 5; i < 45; i++ {
		want[3] = append(want[3], members[i].key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range 1000 {
		members[100].leave()
		g.join(members[100])
	}
	if size := len(g.ordered) + len(g.fresh); size > 2*g.size+16 {
		t.Errorf("a group of %d holds %d", g.size, size)
	}
}
