package topology

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controllers/work"
)

func node(name, zone, cpu string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

// TestZones: subscribers hear of what changes capacities, once, and of nothing else.
func TestZones(t *testing.T) {
	z := NewZones()
	told := 0
	z.subscribers = []*subscription{{changed: func(work.Queue) { told++ }}}
	z.put(node("a1", "a", "4"))
	if told > 0 || len(z.Capacities().Zones()) > 0 {
		t.Error("there are capacities before every node has been seen")
	}
	z.change(func() bool {
		z.seeded = true
		return true
	})
	cordoned, labelled := node("a2", "a", "2"), node("a1", "a", "4")
	cordoned.Spec.Unschedulable = true
	labelled.Labels["team"] = "x"
	steps := []struct {
		what  string
		do    func()
		told  int
		zones string
	}{
		{"seeded", func() {}, 1, "a"},
		{"the same node again", func() { z.put(node("a1", "a", "4")) }, 0, "a"},
		{"a label of no interest", func() { z.put(labelled) }, 0, "a"},
		{"another node", func() { z.put(node("a2", "a", "2")) }, 1, "a"},
		{"it is cordoned", func() { z.put(cordoned) }, 1, "a"},
		{"one that does not count goes", func() { z.delete("a2") }, 0, "a"},
		{"another zone", func() { z.put(node("b1", "b", "4")) }, 1, "a b"},
		{"a node without a zone is left out alone", func() { z.put(node("c1", "", "4")) }, 0, "a b"},
		{"a zone is gone", func() { z.delete("a1") }, 1, "b"},
		{"it was gone already", func() { z.delete("a1") }, 0, "b"},
	}
	for _, step := range steps {
		if step.what != "seeded" {
			told = 0
		}
		step.do()
		if got := strings.Join(z.Capacities().Zones(), " "); told != step.told || got != step.zones {
			t.Errorf("%s: told %d times, zones %s, want %d and %s", step.what, told, got, step.told, step.zones)
		}
	}
}
