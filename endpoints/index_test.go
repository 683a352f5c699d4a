package endpoints

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// TestIndexAgainstBruteForce follows an index through a long random history as a controller does: it looks at a Pod
// again only when it is told to. What it has seen of each Service's Pods must then be what a search of everything finds.
func TestIndexAgainstBruteForce(t *testing.T) {
	for seed := range uint64(20) {
		f := newFollower(rand.New(rand.NewPCG(seed, 4)))
		seedAt := f.random.IntN(300)
		for i := range 1500 {
			if i == seedAt {
				f.seed()
			}
			f.step()
			if i > seedAt && i%50 == 0 {
				f.check(t, fmt.Sprintf("seed %d, step %d", seed, i))
			}
		}
		for key := range f.services {
			f.index.DeleteService(key)
			f.index.PutSelectors(key, nil)
		}
		for key := range f.given {
			f.index.PutSelectors(key, nil)
		}
		for key := range f.pods {
			f.index.DeletePod(key)
		}
		x := f.index
		if len(x.services)+len(x.pods)+len(x.onNode)+len(x.selectors.hooks)+len(x.selectors.selectors) > 0 {
			t.Fatalf("seed %d: an empty index keeps %d services, %d namespaces of Pods, %d nodes, %d hooks", seed,
				len(x.services), len(x.pods), len(x.onNode), len(x.selectors.hooks))
		}
	}
}

type follower struct {
	random   *rand.Rand
	index    *Index
	seeded   bool
	services map[types.NamespacedName]*corev1.Service
	given    map[types.NamespacedName][]labels.Selector
	pods     map[types.NamespacedName]*corev1.Pod
	zones    map[string]string
	// seen is what each Pod of a Service showed when it was looked at last.
	seen map[types.NamespacedName]map[string]string
}

func newFollower(random *rand.Rand) *follower {
	return &follower{
		random: random, index: NewIndex("networks"),
		services: map[types.NamespacedName]*corev1.Service{}, given: map[types.NamespacedName][]labels.Selector{},
		pods: map[types.NamespacedName]*corev1.Pod{}, zones: map[string]string{},
		seen: map[types.NamespacedName]map[string]string{},
	}
}

func (f *follower) key(prefix string, n int) types.NamespacedName {
	return types.NamespacedName{Namespace: fmt.Sprintf("ns%d", f.random.IntN(2)), Name: fmt.Sprintf("%s%d", prefix, f.random.IntN(n))}
}

func (f *follower) seed() {
	f.index.Seed()
	f.seeded = true
	for key := range f.services {
		f.lookAll(key)
	}
	for key := range f.given {
		f.lookAll(key)
	}
}

func (f *follower) step() {
	switch f.random.IntN(10) {
	case 0:
		key := f.key("s", 12)
		service := selecting(key.Namespace, key.Name, randomLabels(f.random, 3))
		if f.random.IntN(4) == 0 {
			service.Spec.Selector = nil
		}
		f.services[key] = service
		f.index.PutService(service)
		f.lookAll(key)
	case 1:
		key := f.key("s", 12)
		delete(f.services, key)
		f.index.DeleteService(key)
		f.lookAll(key)
	case 2:
		key := f.key("s", 12)
		f.given[key] = randomSelectors(f.random)
		f.index.PutSelectors(key, f.given[key])
		f.lookAll(key)
	case 3:
		key := f.key("p", 20)
		delete(f.pods, key)
		f.look(key, f.index.DeletePod(key))
	case 4:
		node, zone := fmt.Sprintf("n%d", f.random.IntN(4)), fmt.Sprintf("z%d", f.random.IntN(3))
		f.zones[node] = zone
		changes := f.index.PutNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{corev1.LabelTopologyZone: zone}}})
		for _, change := range changes {
			f.look(types.NamespacedName{Namespace: change.Service.Namespace, Name: change.Pod}, []string{change.Service.Name})
		}
	default:
		key := f.key("p", 20)
		pod := newPod(f.random.IntN(3), setReady(f.random.IntN(2) == 0), func(p *corev1.Pod) {
			p.Namespace, p.Name, p.Labels = key.Namespace, key.Name, randomLabels(f.random, 4)
			p.Annotations = map[string]string{"networks": strconv.Itoa(f.random.IntN(2)), "other": strconv.Itoa(f.random.IntN(9))}
			if old := f.pods[key]; old != nil && f.random.IntN(2) == 0 {
				p.Labels = old.Labels
			}
		})
		f.pods[key] = pod
		f.look(key, f.index.PutPod(pod))
	}
}

// look looks at one Pod for some Services of its namespace.
func (f *follower) look(pod types.NamespacedName, services []string) {
	for _, name := range services {
		service := types.NamespacedName{Namespace: pod.Namespace, Name: name}
		if p := f.index.Pod(service, pod.Name); p != nil {
			f.seen[service][pod.Name] = f.shows(p)
		} else {
			delete(f.seen[service], pod.Name)
		}
	}
}

func (f *follower) lookAll(service types.NamespacedName) {
	f.seen[service] = map[string]string{}
	for _, pod := range f.index.Pods(service) {
		f.seen[service][pod.Name] = f.shows(pod)
	}
}

func (f *follower) shows(pod *corev1.Pod) string {
	zone := f.index.Zone(pod.Spec.NodeName)
	return fmt.Sprint(pod.UID, podReady(pod), pod.Status.PodIPs, pod.Spec.NodeName, zone, pod.Annotations["networks"])
}

func (f *follower) check(t *testing.T, when string) {
	t.Helper()
	want := map[types.NamespacedName]map[string]string{}
	for service := range f.seen {
		want[service] = map[string]string{}
		for key, pod := range f.pods {
			if key.Namespace != service.Namespace || !f.has(service, pod) {
				continue
			}
			zone, known := f.zones[pod.Spec.NodeName]
			want[service][key.Name] = fmt.Sprint(pod.UID, podReady(pod), pod.Status.PodIPs, pod.Spec.NodeName, Zone{Name: zone, NodeMissing: !known}, pod.Annotations["networks"])
		}
	}
	if diff := cmp.Diff(want, f.seen); diff != "" {
		t.Fatalf("%s: -want +seen:\n%s", when, diff)
	}
}

func (f *follower) has(service types.NamespacedName, pod *corev1.Pod) bool {
	if s := f.services[service]; s != nil && s.Spec.Selector != nil {
		return labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels))
	}
	return slices.ContainsFunc(f.given[service], func(s labels.Selector) bool { return s.Matches(labels.Set(pod.Labels)) })
}

// randomSelectors draws set-based selectors over the keys and values of randomLabels.
func randomSelectors(random *rand.Rand) []labels.Selector {
	forms := []string{"k0=v0", "k1 in (v0,v1)", "k2 notin (v1)", "k3", "!k4", "k0=v1,k1!=v2", "k2 in (v2),k3=v0", ""}
	var selectors []labels.Selector
	for range random.IntN(3) {
		selector, err := labels.Parse(strings.Join([]string{forms[random.IntN(len(forms))], forms[random.IntN(len(forms)-1)]}, ","))
		if err != nil {
			continue // An empty form before another.
		}
		selectors = append(selectors, selector)
	}
	if random.IntN(5) == 0 {
		selectors = append(selectors, labels.Nothing(), labels.Everything())
	}
	return selectors
}

func TestIndexMarks(t *testing.T) {
	index := NewIndex()
	index.PutService(selecting("ns", "web", map[string]string{"app": "web"}))
	index.PutService(selecting("ns", "other", map[string]string{"app": "other"}))
	if got := index.PutPod(newPod(1)); got != nil {
		t.Errorf("before Seed nobody is woken, got %v", got)
	}
	index.Seed()
	if got := index.PutPod(newPod(1)); got != nil {
		t.Errorf("a Pod that did not change wakes %v", got)
	}
	if diff := cmp.Diff([]string{"web"}, index.PutPod(newPod(1, setReady(false)))); diff != "" {
		t.Errorf("a Pod that changed: -want +got:\n%s", diff)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	web := types.NamespacedName{Namespace: "ns", Name: "web"}
	want := []Change{{Service: web, Pod: "pod-0001"}}
	if diff := cmp.Diff(want, index.PutNode(node)); diff != "" {
		t.Errorf("its node appears: -want +got:\n%s", diff)
	}
	if got := index.PutNode(node.DeepCopy()); got != nil {
		t.Errorf("the same node again wakes %v", got)
	}
	index.DeleteNode("n1")
	if zone := index.Zone("n1"); !zone.NodeMissing {
		t.Error("a node that went is still known")
	}
	if diff := cmp.Diff(want, index.PutNode(node)); diff != "" {
		t.Errorf("its node comes back: -want +got:\n%s", diff)
	}
	if zone := index.Zone(""); !zone.NodeMissing {
		t.Error("a Pod without a node has one")
	}
}

// BenchmarkIndexPod is a Pod that gets ready or unready in a namespace with many Services, which all share a label.
func BenchmarkIndexPod(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			index := NewIndex()
			selector := func(i int) map[string]string {
				return map[string]string{"app.kubernetes.io/part-of": "shop", "app.kubernetes.io/name": fmt.Sprintf("app%d", i)}
			}
			for i := range n {
				index.PutService(selecting("ns", fmt.Sprintf("s%d", i), selector(i)))
			}
			index.Seed()
			var pods [2]*corev1.Pod
			for i := range pods {
				pods[i] = newPod(1, setReady(i == 0), func(p *corev1.Pod) {
					p.Labels = selector(n / 2)
					p.Labels["pod-template-hash"], p.Labels["team"] = "abc", "red"
				})
			}
			i := 0
			for b.Loop() {
				i++
				if got := index.PutPod(pods[i&1]); len(got) != 1 {
					b.Fatalf("want one Service, got %v", got)
				}
			}
		})
	}
}
