package endpoints

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

func selecting(namespace, name string, selector map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector},
	}
}

// randomLabels draws from few keys and values, so that selectors overlap.
func randomLabels(random *rand.Rand, most int) map[string]string {
	drawn := map[string]string{}
	for range random.IntN(most + 1) {
		drawn[fmt.Sprintf("k%d", random.IntN(5))] = fmt.Sprintf("v%d", random.IntN(3))
	}
	return drawn
}

// TestSelectorIndexAgainstBruteForce compares every answer, through a long random history, with what apimachinery's
// selectors say of every Service.
func TestSelectorIndexAgainstBruteForce(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 2))
		index := NewSelectorIndex()
		services := map[types.NamespacedName]*corev1.Service{}
		for range 2000 {
			namespace, name := fmt.Sprintf("ns%d", random.IntN(2)), fmt.Sprintf("s%d", random.IntN(40))
			key := types.NamespacedName{Namespace: namespace, Name: name}
			switch random.IntN(5) {
			case 0:
				index.Delete(key)
				delete(services, key)
			case 1:
				service := selecting(namespace, name, nil)
				index.Put(service)
				services[key] = service
			default:
				service := selecting(namespace, name, randomLabels(random, 3))
				index.Put(service)
				services[key] = service
			}
			podLabels := randomLabels(random, 5)
			var want []string
			for key, service := range services {
				if key.Namespace == namespace && service.Spec.Selector != nil &&
					labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(podLabels)) {
					want = append(want, key.Name)
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, index.Matching(namespace, podLabels)); diff != "" {
				t.Fatalf("seed %d, labels %v\n-want +got:\n%s", seed, podLabels, diff)
			}
		}
		for key := range services {
			index.Delete(key)
		}
		if len(index.hooks) > 0 || len(index.selectors) > 0 {
			t.Fatalf("seed %d: an empty index keeps %d hooks and %d selectors", seed, len(index.hooks), len(index.selectors))
		}
	}
}

// TestHooks: of the labels that a selector asks for, it hangs from the one with the fewest others, so that a lookup does
// not compare all that share a label.
func TestHooks(t *testing.T) {
	index := NewSelectorIndex()
	for i := range 100 {
		index.Put(selecting("ns", fmt.Sprint("s", i), map[string]string{"app": "web", "instance": fmt.Sprint(i), "tier": "front"}))
	}
	for h, hanging := range index.hooks {
		if len(hanging) > 2 {
			t.Errorf("%d selectors hang from %s=%s", len(hanging), h.key, h.value)
		}
	}
}

func TestAffected(t *testing.T) {
	index := NewSelectorIndex()
	index.Put(selecting("ns", "web", map[string]string{"app": "web"}))
	index.Put(selecting("ns", "blue", map[string]string{"app": "web", "colour": "blue"}))
	index.Put(selecting("ns", "external", map[string]string{"app": "other"}))
	index.Put(selecting("elsewhere", "web", map[string]string{"app": "web"}))
	colour := func(colour string) podOption {
		return func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web", "colour": colour} }
	}
	cases := map[string]struct {
		reason   string
		old, pod *corev1.Pod
		want     []string
	}{
		"New": {
			reason: "Every Service that matches.",
			pod:    newPod(1, colour("blue")), want: []string{"blue", "web"},
		},
		"Nothing": {
			reason: "A change that no endpoint shows wakes nobody.",
			old:    newPod(1), pod: newPod(1, func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }),
		},
		"Ready": {
			reason: "A flip of readiness.",
			old:    newPod(1), pod: newPod(1, setReady(false)), want: []string{"web"},
		},
		"Terminating": {
			reason: "The beginning of the end.",
			old:    newPod(1), pod: newPod(1, terminating), want: []string{"web"},
		},
		"Phase": {
			reason: "A Pod that fails without ever having been ready, which upstream misses.",
			old:    newPod(1, setReady(false)), pod: newPod(1, setReady(false), withPhase(corev1.PodFailed)), want: []string{"web"},
		},
		"Addresses": {
			reason: "A second address comes later.",
			old:    newPod(1, func(p *corev1.Pod) { p.Status.PodIPs = p.Status.PodIPs[:1] }), pod: newPod(1), want: []string{"web"},
		},
		"Hostname": {
			reason: "hostname and subdomain show in endpoints.",
			old:    newPod(1), pod: newPod(1, func(p *corev1.Pod) { p.Spec.Subdomain = "web" }), want: []string{"web"},
		},
		"Replaced": {
			reason: "Another Pod under the name, whose coming and the going before it were one event.",
			old:    newPod(1), pod: newPod(1, func(p *corev1.Pod) { p.UID = "another" }), want: []string{"web"},
		},
		"Moved": {
			reason: "The node shows in endpoints.",
			old:    newPod(1, func(p *corev1.Pod) { p.Spec.NodeName = "" }), pod: newPod(1), want: []string{"web"},
		},
		"Relabelled": {
			reason: "Only who gains or loses the Pod.",
			old:    newPod(1, colour("blue")), pod: newPod(1, colour("red")), want: []string{"blue"},
		},
		"RelabelledAndChanged": {
			reason: "All that matched or match.",
			old:    newPod(1, colour("blue")), pod: newPod(1, colour("red"), setReady(false)), want: []string{"blue", "web"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, index.Affected(tc.old, tc.pod)); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
		})
	}
	pod := newPod(1)
	if diff := cmp.Diff([]string{"web"}, index.Affected(pod, pod)); diff != "" {
		t.Errorf("a deleted Pod affects whom it matched:\n%s", diff)
	}
}

// BenchmarkSelectorIndex finds the Services of one Pod among many in its namespace, which all share a label.
func BenchmarkSelectorIndex(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			index := NewSelectorIndex()
			for i := range n {
				index.Put(selecting("ns", fmt.Sprintf("s%d", i), map[string]string{
					"app.kubernetes.io/part-of": "shop", "app.kubernetes.io/name": fmt.Sprintf("app%d", i),
				}))
			}
			podLabels := map[string]string{
				"app.kubernetes.io/part-of": "shop", "app.kubernetes.io/name": fmt.Sprintf("app%d", n/2),
				"app.kubernetes.io/version": "1", "app.kubernetes.io/managed-by": "x", "pod-template-hash": "abc",
				"tier": "web", "team": "red", "topology": "none",
			}
			for b.Loop() {
				if got := index.Matching("ns", podLabels); len(got) != 1 {
					b.Fatalf("want one Service, got %v", got)
				}
			}
		})
	}
}
