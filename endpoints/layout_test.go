package endpoints

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// FuzzLayout drives one Layout through a long stream of changes of Pods and of the Service, writes that fail and
// writes whose answer is lost, events that come late, again, or after newer ones, and edits by others. At any moment no
// endpoint that stays is lost. Whenever the layout has seen everything, it plans what a fresh one would. At the end the
// slices hold exactly the set, each endpoint once, and nothing is left to do.
func FuzzLayout(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, limit uint8) {
		s := newStream(rand.New(rand.NewPCG(seed, 3)), int(limit)%9+1)
		for range 300 {
			s.step(t)
		}
		s.settle(t)
	})
}

// stream is a Service, the API server with its slices, and a Layout that hears of them with delay.
type stream struct {
	world
	set     *Set
	layout  *Layout
	version int
	stored  map[string]*discoveryv1.EndpointSlice
	events  []streamEvent
	past    []streamEvent
}

type streamEvent struct {
	slice   *discoveryv1.EndpointSlice
	deleted bool
}

func newStream(random *rand.Rand, limit int) *stream {
	s := &stream{
		world:  world{random: random, limit: limit, pods: map[int]*corev1.Pod{}},
		layout: NewLayout(opts(limit)),
		stored: map[string]*discoveryv1.EndpointSlice{},
	}
	s.service = newService(
		withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol),
		withPorts(servicePort("http", 80, intstr.FromString("web")), servicePort("metrics", 90, intstr.FromInt32(90))),
	)
	s.set = s.freshSet()
	return s
}

// freshSet also has a standby rank, and hints.
func (s *stream) freshSet() *Set {
	set := NewSet(s.service, SetOptions{
		Rank: func(pod *corev1.Pod) int { return int(pod.Name[len(pod.Name)-1]) % 2 },
		Hints: func(e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
			return &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: *e.Zone}}}
		},
	})
	for _, pod := range s.shuffledPods() {
		set.Put(pod, zoneOf(pod))
	}
	return set
}

func (s *stream) step(t *testing.T) {
	switch s.random.IntN(20) {
	case 0:
		s.changeService()
	case 1:
		s.foreignEdit()
	case 2, 3, 4, 5:
		s.deliver(t, s.random.IntN(4))
	case 6:
		s.again(t)
	case 7, 8, 9, 10, 11, 12:
		s.sync(t, Pass{Busy: s.random.IntN(2) == 0}, 5)
	default:
		s.changePods()
	}
}

func (s *stream) changePods() {
	for range 1 + s.random.IntN(s.limit) {
		i := s.random.IntN(8 * s.limit)
		name := newPod(i).Name
		switch s.random.IntN(8) {
		case 0, 1, 2:
			delete(s.pods, i)
			s.set.Delete(name)
			continue
		case 3:
			s.pods[i] = newPod(i, setReady(false))
		case 4:
			s.pods[i] = newPod(i, terminating)
		case 5:
			s.pods[i] = newPod(i, withPodPorts(corev1.ContainerPort{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP}))
		case 6:
			s.pods[i] = newPod(i, withPhase(corev1.PodFailed))
		default:
			s.pods[i] = newPod(i)
		}
		s.set.Put(s.pods[i], zoneOf(s.pods[i]))
	}
}

func (s *stream) changeService() {
	s.service = s.service.DeepCopy()
	switch s.random.IntN(3) {
	case 0:
		s.service.Spec.Ports[1].TargetPort = intstr.FromInt(90 + s.random.IntN(2))
	case 1:
		s.service.Spec.IPFamilies = [][]corev1.IPFamily{{corev1.IPv4Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol}}[s.random.IntN(2)]
	default:
		s.service.Labels["version"] = strconv.Itoa(s.random.IntN(3))
	}
	s.set = s.freshSet()
}

// store is what the API server does with a slice; nil deletes.
func (s *stream) store(name string, slice *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s.version++
	event := streamEvent{slice: slice}
	if slice == nil {
		event = streamEvent{slice: s.stored[name].DeepCopy(), deleted: true}
		delete(s.stored, name)
	} else {
		event.slice = slice.DeepCopy()
		s.stored[name] = event.slice
	}
	event.slice.ResourceVersion = strconv.Itoa(s.version)
	s.events = append(s.events, event)
	return event.slice
}

func (s *stream) foreignEdit() {
	names := slices.Sorted(maps.Keys(s.stored))
	if len(names) == 0 {
		return
	}
	name := names[s.random.IntN(len(names))]
	slice := s.stored[name].DeepCopy()
	n := len(slice.Endpoints)
	switch s.random.IntN(8) {
	case 0:
		slice = nil
	case 1:
		delete(slice.Labels, discoveryv1.LabelManagedBy)
	case 2:
		slice.Endpoints = slice.Endpoints[:n/2]
	case 3:
		slice.Endpoints = append(slice.Endpoints, slice.Endpoints...)
	case 4:
		slice.Endpoints = append(slice.Endpoints, s.stored[names[0]].DeepCopy().Endpoints...)
	case 5:
		slice.OwnerReferences = nil
	case 6:
		slice.Ports = nil
	case 7:
		slices.Reverse(slice.Endpoints)
	}
	s.store(name, slice)
}

// deliver shows the layout the next events.
func (s *stream) deliver(t *testing.T, n int) {
	for range min(n, len(s.events)) {
		event := s.events[0]
		s.events = s.events[1:]
		if event.deleted {
			s.layout.Remove(event.slice.UID)
			s.past = slices.DeleteFunc(s.past, func(e streamEvent) bool { return e.slice.UID == event.slice.UID })
			continue
		}
		s.layout.Observe(event.slice)
		if got := s.layout.Observe(event.slice.DeepCopy()); got != Stale {
			t.Fatalf("the same slice for the second time is %s", got)
		}
		if b := s.layout.byUID[event.slice.UID]; b != nil {
			s.past = append(s.past, event)
		}
	}
}

// again shows the layout an event that it has had already.
func (s *stream) again(t *testing.T) {
	if len(s.past) == 0 {
		return
	}
	if got := s.layout.Observe(s.past[s.random.IntN(len(s.past))].slice); got != Stale {
		t.Fatalf("an old slice is %s", got)
	}
}

// sync plans and writes; one in failures of the writes fails, and so does each whose slice has changed since.
func (s *stream) sync(t *testing.T, pass Pass, failures int) Plan {
	current := len(s.events) == 0
	plan := s.layout.Plan(s.set, pass)
	if current {
		fresh := NewLayout(opts(s.limit))
		for _, slice := range s.stored {
			fresh.Observe(slice)
		}
		want := fresh.Plan(s.freshSet(), pass)
		if !reflect.DeepEqual(want, plan) {
			t.Fatalf("not what a fresh layout plans:\n%s", cmp.Diff(want, plan))
		}
	}
	failed := false
	for _, write := range plan.Writes {
		if write.Moves && failed {
			continue
		}
		name := write.Slice.Name
		now, exists := s.stored[name]
		ok := failures == 0 || s.random.IntN(failures) != 0
		if write.Verb == Create {
			ok = ok && !exists
		} else {
			ok = ok && exists && now.UID == write.Slice.UID && (now.ResourceVersion == write.Slice.ResourceVersion || write.Verb == Delete)
		}
		if !ok {
			failed = true
			continue
		}
		before := contents(slices.Collect(maps.Values(s.stored)))
		result := write.Slice.DeepCopy()
		switch write.Verb {
		case Create:
			result.UID = types.UID(fmt.Sprintf("uid-%d", s.version))
			result = s.store(name, result)
		case Update:
			if now.AddressType != result.AddressType {
				t.Fatalf("%s changes its address type, which the API forbids", name)
			}
			result = s.store(name, result)
		case Delete:
			s.store(name, nil)
			result = nil
		}
		if current {
			s.checkNoneLost(t, before)
		}
		if failures == 0 || s.random.IntN(10) != 0 {
			s.layout.Wrote(write, result.DeepCopy())
		} else {
			failed = true // The answer is lost.
		}
	}
	return plan
}

func (s *stream) checkNoneLost(t *testing.T, before map[placed]int) {
	after := contents(slices.Collect(maps.Values(s.stored)))
	for p := range before {
		if g := s.set.groups[p.key]; g.wants(p.id) != nil && slices.Contains(s.set.families, p.key.family) && after[p] == 0 {
			t.Fatalf("%v is in no slice for a while", p.id)
		}
	}
}

func (s *stream) settle(t *testing.T) {
	s.deliver(t, len(s.events))
	end := false
	for range 100 {
		plan := s.sync(t, Pass{}, 0)
		if end = len(plan.Writes) == 0; end {
			if plan.More {
				t.Fatal("a plan without writes says that there is more")
			}
			break
		}
		s.deliver(t, s.random.IntN(3))
	}
	if !end {
		t.Fatal("planning does not come to an end")
	}
	s.deliver(t, len(s.events))
	for key, sh := range s.layout.shelves {
		if sh.unsettled || len(sh.pending) > 0 || sh.all {
			t.Fatalf("%v is unsettled", key)
		}
	}
	all := slices.Collect(maps.Values(s.stored))
	held := contents(all)
	wanted := 0
	for key, g := range s.freshSet().groups {
		for id := range g.endpoints {
			wanted++
			if held[placed{key: key, id: id}] != 1 {
				t.Fatalf("%v is held %d times", id, held[placed{key: key, id: id}])
			}
		}
	}
	if len(held) != wanted {
		t.Fatalf("want %d endpoints, got %d", wanted, len(held))
	}
	for _, slice := range all {
		if len(slice.Endpoints) > s.limit {
			t.Fatalf("%s holds %d endpoints, %d are allowed", slice.Name, len(slice.Endpoints), s.limit)
		}
	}
	if plan := Pack(s.freshSet(), all, opts(s.limit)); len(plan.Writes) > 0 {
		t.Fatalf("a fresh plan writes: %v", describe(plan))
	}
}

// TestShelfTakesOff: of an endpoint that is in several bins, those are known in which it still is, whichever it leaves.
func TestShelfTakesOff(t *testing.T) {
	bins := make([]*bin, 4)
	for i := range bins {
		bins[i] = &bin{slice: &discoveryv1.EndpointSlice{}}
	}
	id := Identity{name: "pod"}
	for _, leaves := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {1, 3, 0, 2}} {
		sh := &shelf{at: map[Identity]place{}}
		in := map[*bin]bool{}
		for _, b := range bins {
			sh.putOn(id, place{bin: b})
			in[b] = true
		}
		for _, i := range leaves {
			sh.takeOff(id, bins[i])
			delete(in, bins[i])
			known := map[*bin]bool{}
			if p, ok := sh.at[id]; ok {
				known[p.bin] = true
			}
			for _, b := range sh.more[id] {
				known[b] = true
			}
			if !maps.Equal(in, known) {
				t.Fatalf("%v: after it left %d, %d bins are known, not the %d that have it", leaves, i, len(known), len(in))
			}
		}
	}
}
