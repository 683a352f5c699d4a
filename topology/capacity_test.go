package topology

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// node returns a node that counts, changed by each function.
func node(changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: "a"}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3920m")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, change := range changes {
		change(n)
	}
	return n
}

func TestNodeOf(t *testing.T) {
	taint := func(effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "k", Effect: effect}) }
	}
	cases := map[string]struct {
		node *corev1.Node
		want Node
	}{
		"Counts":       {node(), Node{Zone: "a", MilliCPU: 3920}},
		"NotReady":     {node(func(n *corev1.Node) { n.Status.Conditions[1].Status = corev1.ConditionFalse }), Node{Exclusion: NotReady}},
		"ReadyUnknown": {node(func(n *corev1.Node) { n.Status.Conditions[1].Status = corev1.ConditionUnknown }), Node{Exclusion: NotReady}},
		"NoCondition":  {node(func(n *corev1.Node) { n.Status.Conditions = nil }), Node{Exclusion: NotReady}},
		"Cordoned":     {node(func(n *corev1.Node) { n.Spec.Unschedulable = true }), Node{Exclusion: Cordoned}},
		"NoSchedule":   {node(taint(corev1.TaintEffectNoSchedule)), Node{Exclusion: Tainted}},
		"NoExecute":    {node(taint(corev1.TaintEffectPreferNoSchedule), taint(corev1.TaintEffectNoExecute)), Node{Exclusion: Tainted}},
		"PreferNot":    {node(taint(corev1.TaintEffectPreferNoSchedule)), Node{Zone: "a", MilliCPU: 3920}},
		"ControlPlane": {node(func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/control-plane"] = "" }), Node{Exclusion: ControlPlane}},
		"Master":       {node(func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/master"] = "true" }), Node{Exclusion: ControlPlane}},
		"NoZone":       {node(func(n *corev1.Node) { n.Labels = nil }), Node{Exclusion: NoZone}},
		"EmptyZone":    {node(func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "" }), Node{Exclusion: NoZone}},
		"NoCPU":        {node(func(n *corev1.Node) { n.Status.Allocatable = nil }), Node{Exclusion: NoCPU}},
		"NegativeCPU":  {node(func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("-1") }), Node{Exclusion: NoCPU}},
		"AbsurdCPU":    {node(func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("9E") }), Node{Zone: "a", MilliCPU: maxMilliCPU}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := tc.node.DeepCopy()
			if got := NodeOf(tc.node); got != tc.want {
				t.Errorf("want %+v, got %+v", tc.want, got)
			}
			if diff := cmp.Diff(before, tc.node); diff != "" {
				t.Errorf("the node was changed:\n%s", diff)
			}
		})
	}
}

func TestCapacities(t *testing.T) {
	nodes := []Node{{Zone: "b", MilliCPU: 1000}, {Zone: "a", MilliCPU: 4000}, {Exclusion: NoZone}, {Zone: "a", MilliCPU: 2000}, {}}
	c := CapacitiesOf(slices.Values(nodes))
	slices.Reverse(nodes)
	if other := CapacitiesOf(slices.Values(nodes)); !c.Equal(other) || c.String() != other.String() || c.Moved(other) != 0 {
		t.Errorf("in another order %v is %v", c, other)
	}
	if want := "a: 6000m CPU, 2 nodes; b: 1000m CPU, 1 nodes"; c.String() != want {
		t.Errorf("want %s, got %s", want, c)
	}
	if diff := cmp.Diff([]string{"a", "b"}, c.Zones()); diff != "" {
		t.Error(diff)
	}
	more := CapacitiesOf(slices.Values(append(nodes, Node{Zone: "b", MilliCPU: 7000})))
	if c.Equal(more) || math.Abs(c.Moved(more)-(6.0/7-6.0/14)) > tolerance {
		t.Errorf("from %v to %v it moves %f", c, more, c.Moved(more))
	}
	if moved := c.Moved(CapacitiesOf(slices.Values(append(nodes, Node{Zone: "c", MilliCPU: 1})))); moved != 1 {
		t.Errorf("a zone that comes moves %f", moved)
	}
	var none Capacities
	if moved := none.Moved(Capacities{}); moved != 0 || !none.Equal(CapacitiesOf(slices.Values([]Node{{Exclusion: NotReady}}))) {
		t.Errorf("without nodes it moves %f", moved)
	}
}

func TestDemandOf(t *testing.T) {
	c := CapacitiesOf(slices.Values([]Node{{Zone: "a", MilliCPU: 6000}, {Zone: "b", MilliCPU: 1000}, {Zone: "b", MilliCPU: 1000}, {Zone: "c", MilliCPU: 500}}))
	cases := map[string]struct {
		policy Policy
		want   []demand
	}{
		"CPU":     {Policy{By: ByCPU}, []demand{{"a", 6000}, {"b", 2000}, {"c", 500}}},
		"Nodes":   {Policy{By: ByNodes}, []demand{{"a", 1}, {"b", 2}, {"c", 1}}},
		"Weights": {Policy{By: ByWeights, Weights: "a=0,b=3,d=9"}, []demand{{"b", 3}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, total := demandOf(tc.policy, c)
			if !slices.Equal(got, tc.want) {
				t.Errorf("want %v, got %v", tc.want, got)
			}
			for _, zone := range got {
				total -= zone.weight
			}
			if total != 0 {
				t.Errorf("the total is off by %d", total)
			}
		})
	}
	var huge []Node
	for range 100 {
		huge = append(huge, Node{Zone: "a", MilliCPU: maxMilliCPU}, Node{Zone: "b", MilliCPU: maxMilliCPU})
	}
	huge = append(huge, Node{Zone: "c", MilliCPU: 1})
	if got, total := demandOf(auto, CapacitiesOf(slices.Values(huge))); total > maxTotal || got[0] != (demand{"a", got[1].weight}) || got[2].weight != 1 {
		t.Errorf("huge zones are %v of %d", got, total)
	}
}
