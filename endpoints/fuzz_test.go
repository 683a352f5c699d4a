package endpoints

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// FuzzPack drives one Service through random changes of its Pods and of itself, and someone else's edits of its
// slices. After every write of every plan: no endpoint that stays is lost. After every plan: the slices hold exactly
// the set, each endpoint once, no slice above its limit, and a second plan has nothing to do but compaction.
func FuzzPack(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, limit uint8) {
		w := &world{random: rand.New(rand.NewPCG(seed, 1)), limit: int(limit)%9 + 1, pods: map[int]*corev1.Pod{}}
		w.service = newService(
			withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol),
			withPorts(servicePort("http", 80, intstr.FromString("web")), servicePort("metrics", 90, intstr.FromInt32(90))),
		)
		for range 40 {
			w.change()
			w.sync(t)
		}
	})
}

type world struct {
	random  *rand.Rand
	limit   int
	service *corev1.Service
	pods    map[int]*corev1.Pod
	slices  []*discoveryv1.EndpointSlice
}

func (w *world) change() {
	for range w.random.IntN(3 * w.limit) {
		i := w.random.IntN(12 * w.limit)
		switch w.random.IntN(7) {
		case 0, 1:
			delete(w.pods, i)
		case 2:
			w.pods[i] = newPod(i, setReady(false))
		case 3:
			w.pods[i] = newPod(i, terminating)
		case 4:
			w.pods[i] = newPod(i, withPodPorts(corev1.ContainerPort{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP}))
		case 5:
			w.pods[i] = newPod(i, withPhase(corev1.PodFailed))
		default:
			w.pods[i] = newPod(i)
		}
	}
	switch w.random.IntN(12) {
	case 0:
		w.pods = map[int]*corev1.Pod{}
	case 1:
		w.service = w.service.DeepCopy()
		w.service.Spec.Ports[1].TargetPort = intstr.FromInt(90 + w.random.IntN(2))
	case 2:
		w.service = w.service.DeepCopy()
		w.service.Spec.IPFamilies = [][]corev1.IPFamily{{corev1.IPv4Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol}}[w.random.IntN(2)]
	case 3:
		w.limit = 1 + w.random.IntN(9)
	case 4:
		w.edit()
	}
}

// edit is what someone else does to one of our slices.
func (w *world) edit() {
	if len(w.slices) == 0 {
		return
	}
	i := w.random.IntN(len(w.slices))
	s := w.slices[i].DeepCopy()
	switch w.random.IntN(4) {
	case 0:
		w.slices = slices.Delete(slices.Clone(w.slices), i, i+1)
		return
	case 1:
		delete(s.Labels, discoveryv1.LabelManagedBy)
	case 2:
		s.Endpoints = s.Endpoints[:len(s.Endpoints)/2]
	case 3:
		s.Endpoints = append(s.Endpoints, s.Endpoints...)
	}
	w.slices = slices.Clone(w.slices)
	w.slices[i] = s
}

func (w *world) sync(t *testing.T) {
	pods := w.shuffledPods()
	before := deepCopies(w.slices)
	set := setOf(w.service, pods)
	staying := contents(w.slices)
	wanted := map[placed]bool{}
	for key, g := range set.groups {
		for id := range g.endpoints {
			wanted[placed{key: key, id: id}] = true
		}
	}
	plan := Pack(set, w.slices, opts(w.limit))
	// cmp.Diff tells what differs, and is a hundred times slower.
	if !reflect.DeepEqual(before, w.slices) {
		t.Fatalf("the slices given were changed:\n%s", cmp.Diff(before, w.slices))
	}
	again := Pack(setOf(w.service, w.shuffledPods()), reversed(w.slices), opts(w.limit))
	if !reflect.DeepEqual(plan, again) {
		t.Fatalf("the order of the input shows in the plan:\n%s", cmp.Diff(plan, again))
	}
	w.slices = apply(t, w.slices, plan, func(now []*discoveryv1.EndpointSlice) {
		held := contents(now)
		for p := range staying {
			if wanted[p] && held[p] == 0 {
				t.Fatalf("%v is in no slice for a while", p.id)
			}
		}
	})
	held := contents(w.slices)
	for p := range wanted {
		if held[p] != 1 {
			t.Fatalf("%v is held %d times", p.id, held[p])
		}
	}
	if len(held) != len(wanted) {
		t.Fatalf("want %d endpoints, got %d", len(wanted), len(held))
	}
	for _, s := range w.slices {
		if len(s.Endpoints) > w.limit {
			t.Fatalf("%s holds %d endpoints, %d are allowed", s.Name, len(s.Endpoints), w.limit)
		}
	}
	w.settle(t, pods)
}

// settle plans until nothing is left to do, which must come to an end and leave no room for a whole slice.
func (w *world) settle(t *testing.T, pods []*corev1.Pod) {
	for range 100 {
		set := setOf(w.service, pods)
		plan := Pack(set, w.slices, opts(w.limit))
		if len(plan.Writes) == 0 {
			if plan.More {
				t.Fatal("a plan without writes says that there is more")
			}
			if len(w.slices) != plan.Slices {
				t.Fatalf("the plan counts %d slices, there are %d", plan.Slices, len(w.slices))
			}
			fills := map[groupKey][]int{}
			for _, s := range w.slices {
				key := groupKey{family: s.AddressType, ports: portsKey(s.Ports)}
				fills[key] = append(fills[key], len(s.Endpoints))
			}
			for key, fill := range fills {
				slices.Sort(fill)
				free, room := w.limit*len(fill), 0
				for i, n := range fill {
					free -= n
					if i == 1 || i == 2 {
						room += w.limit - n
					}
				}
				if free >= w.limit && fill[0] <= room && set.groups[key] != nil {
					t.Fatalf("of the slices of %v, which hold %v, one can be spared; %d is a full one", key, fill, w.limit)
				}
			}
			return
		}
		for _, write := range plan.Writes {
			if write.Verb == Create {
				t.Fatalf("a second plan creates: %v", describe(plan))
			}
		}
		w.slices = apply(t, w.slices, plan, nil)
	}
	t.Fatal("planning does not come to an end")
}

func (w *world) shuffledPods() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range w.pods {
		pods = append(pods, pod)
	}
	return pods
}

func deepCopies(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	copies := slices.Clone(all)
	for i := range copies {
		copies[i] = copies[i].DeepCopy()
	}
	return copies
}

func reversed(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	all = slices.Clone(all)
	slices.Reverse(all)
	return all
}

// contents counts how often slices hold each endpoint with its ports.
func contents(all []*discoveryv1.EndpointSlice) map[placed]int {
	held := map[placed]int{}
	for _, s := range all {
		key := groupKey{family: s.AddressType, ports: portsKey(s.Ports)}
		for i := range s.Endpoints {
			held[placed{key: key, id: IdentityOf(&s.Endpoints[i])}]++
		}
	}
	return held
}
