package endpoints

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var update = flag.Bool("update", false, "write the golden files")

// TestStory follows one Service with slices of 4 through its life. The golden file shows, for each step, the writes in
// their order and the endpoints that each written slice holds; a Pod that is not ready has a "-", one going away a "~".
func TestStory(t *testing.T) {
	service := newService()
	web81 := withPodPorts(corev1.ContainerPort{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP})
	named := newService(withPorts(servicePort("http", 80, intstr.FromString("web"))))
	dual := newService(withFamilies(corev1.IPv6Protocol, corev1.IPv4Protocol))
	steps := []struct {
		what    string
		service *corev1.Service
		pods    []*corev1.Pod
	}{
		{"a Service without Pods", service, nil},
		{"its first two Pods, not ready yet", service, newPods(0, 2, setReady(false))},
		{"they get ready", service, newPods(0, 2)},
		{"scaled to ten", service, newPods(0, 10)},
		{"one Pod is replaced: the new one starts", service, append(newPods(0, 10), newPod(10, setReady(false)))},
		{"and is ready, and the old one goes", service, append(newPods(1, 11), newPod(0, terminating))},
		{"and is gone", service, newPods(1, 11)},
		{"scaled to five, all over", service, []*corev1.Pod{newPod(1), newPod(3), newPod(5), newPod(7), newPod(9)}},
		{"scaled to four", service, []*corev1.Pod{newPod(1), newPod(3), newPod(5), newPod(9)}},
		{"the target port by name, one Pod with another number", named, append(newPods(1, 4), newPod(4, web81))},
		{"IPv6 first, and IPv4", dual, newPods(1, 4)},
		{"no Pods any more", dual, nil},
	}
	var story strings.Builder
	var existing []*discoveryv1.EndpointSlice
	names := map[string]string{}
	for _, step := range steps {
		fmt.Fprintf(&story, "# %s\n", step.what)
		plan := Pack(setOf(step.service, step.pods), existing, opts(4))
		for _, write := range plan.Writes {
			story.WriteString(tell(write, names) + "\n")
		}
		existing = apply(t, existing, plan, nil)
		fmt.Fprintf(&story, "= %d endpoints in %d slices\n\n", plan.Endpoints, plan.Slices)
	}
	golden := filepath.Join("testdata", "story.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(story.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), story.String()); diff != "" {
		t.Errorf("another story; if it is right, run the test with -update\n-want +got:\n%s", diff)
	}
}

// tell writes one line of the story. Slices are called A, B, ... in the order in which they appear.
func tell(write Write, names map[string]string) string {
	if names[write.Slice.Name] == "" {
		names[write.Slice.Name] = string(rune('A' + len(names)))
	}
	line := fmt.Sprintf("%s %s %s", write.Verb, names[write.Slice.Name], write.Slice.AddressType)
	if write.Verb == Delete {
		return line
	}
	for _, p := range write.Slice.Ports {
		line += fmt.Sprintf(" %s=%d", *p.Name, *p.Port)
	}
	line += " :"
	for _, e := range write.Slice.Endpoints {
		line += " " + strings.TrimPrefix(e.TargetRef.Name, "pod-00")
		if *e.Conditions.Terminating {
			line += "~"
		} else if !*e.Conditions.Ready {
			line += "-"
		}
	}
	return line
}
