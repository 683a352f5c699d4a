package topology

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Exclusion says why a node is left out of its zone's capacity. Empty: it is not.
type Exclusion string

const (
	// NotReady: its condition Ready is not true.
	NotReady Exclusion = "NotReady"
	// Cordoned: it takes no new Pods.
	Cordoned Exclusion = "Cordoned"
	// Tainted: it has a taint NoSchedule or NoExecute, which ordinary Pods do not tolerate
	// (kubernetes/kubernetes#110714).
	Tainted Exclusion = "Tainted"
	// ControlPlane: it has the label of a control plane node, whatever its value.
	ControlPlane Exclusion = "ControlPlane"
	// NoZone: it has no zone label.
	NoZone Exclusion = "NoZone"
	// NoCPU: it has no allocatable CPU.
	NoCPU Exclusion = "NoCPU"
)

// Exclusions are all reasons to leave a node out.
var Exclusions = []Exclusion{NotReady, Cordoned, Tainted, ControlPlane, NoZone, NoCPU}

// controlPlaneLabels are those that upstream leaves nodes out by.
var controlPlaneLabels = []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}

// maxMilliCPU is more than any node has, and so little that sums of it do not overflow.
const maxMilliCPU = 1 << 40

// Node is what a node counts for. It is comparable: a node event that leaves it the same changes no capacity.
type Node struct {
	// Zone and MilliCPU are empty where the node is left out.
	Zone     string
	MilliCPU int64
	// Exclusion is the first reason to leave it out, in the order of the constants.
	Exclusion Exclusion
}

// NodeOf returns what a node counts for.
func NodeOf(node *corev1.Node) Node {
	zone, cpu := node.Labels[corev1.LabelTopologyZone], milliCPU(node.Status.Allocatable.Cpu())
	switch {
	case !ready(node):
		return Node{Exclusion: NotReady}
	case node.Spec.Unschedulable:
		return Node{Exclusion: Cordoned}
	case slices.ContainsFunc(node.Spec.Taints, repels):
		return Node{Exclusion: Tainted}
	case slices.ContainsFunc(controlPlaneLabels, func(label string) bool { _, has := node.Labels[label]; return has }):
		return Node{Exclusion: ControlPlane}
	case zone == "":
		return Node{Exclusion: NoZone}
	case cpu <= 0:
		return Node{Exclusion: NoCPU}
	}
	return Node{Zone: zone, MilliCPU: cpu}
}

// milliCPU returns at most maxMilliCPU: more may not fit into its type.
func milliCPU(cpu *resource.Quantity) int64 {
	if cpu.CmpInt64(maxMilliCPU/1000) >= 0 {
		return maxMilliCPU
	}
	return cpu.MilliValue()
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func repels(taint corev1.Taint) bool {
	return taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
}

// Capacities is what each zone with nodes that count has. It never changes. The zero value has no zones.
type Capacities struct {
	// zones are sorted by name.
	zones []zoneCapacity
}

type zoneCapacity struct {
	name            string
	milliCPU, nodes int64
}

// CapacitiesOf sums up nodes, in any order. Those that are left out count for nothing, and against nobody else.
func CapacitiesOf(nodes iter.Seq[Node]) Capacities {
	byZone := map[string]zoneCapacity{}
	for node := range nodes {
		if node.Exclusion != "" || node.Zone == "" || node.MilliCPU <= 0 {
			continue
		}
		zone := byZone[node.Zone]
		zone.name = node.Zone
		zone.milliCPU += node.MilliCPU
		zone.nodes++
		byZone[node.Zone] = zone
	}
	c := Capacities{zones: make([]zoneCapacity, 0, len(byZone))}
	for _, zone := range byZone {
		c.zones = append(c.zones, zone)
	}
	slices.SortFunc(c.zones, func(a, b zoneCapacity) int { return cmp.Compare(a.name, b.name) })
	return c
}

// Equal says whether two are the same.
func (c Capacities) Equal(other Capacities) bool { return slices.Equal(c.zones, other.zones) }

// Zones returns the names of the zones that have capacity, sorted.
func (c Capacities) Zones() []string {
	names := make([]string, len(c.zones))
	for i, zone := range c.zones {
		names[i] = zone.name
	}
	return names
}

// Moved returns by how much the shares of demand differ: the greatest difference of a zone's share, by CPU or by nodes,
// from 0 to 1. It is 1 where one has a zone that the other has not: a caller that damps changes must not hold that back.
func (c Capacities) Moved(other Capacities) float64 {
	if !slices.Equal(c.Zones(), other.Zones()) {
		return 1
	}
	cpu, nodes := c.total()
	otherCPU, otherNodes := other.total()
	moved := 0.0
	for i, zone := range c.zones {
		moved = max(moved,
			math.Abs(float64(zone.milliCPU)/cpu-float64(other.zones[i].milliCPU)/otherCPU),
			math.Abs(float64(zone.nodes)/nodes-float64(other.zones[i].nodes)/otherNodes))
	}
	return moved
}

func (c Capacities) total() (cpu, nodes float64) {
	for _, zone := range c.zones {
		cpu += float64(zone.milliCPU)
		nodes += float64(zone.nodes)
	}
	return cpu, nodes
}

// String is the same for equal capacities, and differs for others.
func (c Capacities) String() string {
	zones := make([]string, len(c.zones))
	for i, zone := range c.zones {
		zones[i] = fmt.Sprintf("%s: %dm CPU, %d nodes", zone.name, zone.milliCPU, zone.nodes)
	}
	return strings.Join(zones, "; ")
}

// demand is a zone with clients.
type demand struct {
	zone string
	// weight is its share of the sum of all. It is positive, and the sum at most maxTotal.
	weight uint64
}

// maxTotal keeps products of a weight and two numbers of endpoints within 64 bits.
const maxTotal = 1 << 40

// demandOf returns the zones with demand under a policy, sorted by name, and the sum of their weights.
func demandOf(policy Policy, c Capacities) (zones []demand, total uint64) {
	var weights map[string]int64
	if policy.By == ByWeights {
		weights = policy.weights()
	}
	for _, zone := range c.zones {
		weight := zone.milliCPU
		switch policy.By {
		case ByNodes:
			weight = zone.nodes
		case ByWeights:
			weight = weights[zone.name]
		case ByCPU:
		}
		if weight > 0 {
			zones = append(zones, demand{zone.name, uint64(weight)})
			total += uint64(weight)
		}
	}
	shift := 0
	for ; total>>shift > maxTotal/2; shift++ { // no cluster has so much; each zone keeps 1 at least
	}
	total = 0
	for i := range zones {
		zones[i].weight = max(zones[i].weight>>shift, 1)
		total += zones[i].weight
	}
	return zones, total
}
