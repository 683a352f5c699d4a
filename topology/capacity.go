package topology

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// Exclusion says why a node is left out of its zone's capacity. Empty: it is not.
type Exclusion string

const (
	// NotReady: its condition Ready is not true.
	NotReady Exclusion = "NotReady"
	// Cordoned: it takes no new Pods.
	Cordoned Exclusion = "Cordoned"
	// Tainted: it has a taint NoSchedule or NoExecute, which ordinary Pods do not tolerate.
	Tainted Exclusion = "Tainted"
	// ControlPlane: it has the label of a control plane node.
	ControlPlane Exclusion = "ControlPlane"
	// NoZone: it has no zone label.
	NoZone Exclusion = "NoZone"
	// NoCPU: it has no allocatable CPU.
	NoCPU Exclusion = "NoCPU"
)

// Node is what a node counts for. It is comparable: a node event that leaves it the same changes no capacity. The zero
// value is not a node.
type Node struct {
	// Zone and MilliCPU are empty where the node is left out.
	Zone     string
	MilliCPU int64
	// Exclusion is the first reason to leave it out, in the order of the constants.
	Exclusion Exclusion
}

// NodeOf returns what a node counts for.
func NodeOf(node *corev1.Node) Node { return Node{} }

// Capacities is what each zone with nodes that count has. It never changes. The zero value has no zones.
type Capacities struct {
	zones []zoneCapacity
}

type zoneCapacity struct {
	name     string
	milliCPU int64
	nodes    int64
}

// CapacitiesOf sums up nodes, in any order. Those that are left out count for nothing, and for nobody else.
func CapacitiesOf(nodes iter.Seq[Node]) Capacities { return Capacities{} }

// Equal says whether two are the same.
func (c Capacities) Equal(other Capacities) bool { return false }

// Zones returns the names of the zones that have capacity, sorted.
func (c Capacities) Zones() []string { return nil }

// Moved returns by how much the shares of demand differ: the greatest difference of a zone's share, by CPU or by nodes,
// from 0 to 1. It is 1 where one has a zone that the other has not: a caller that damps changes must not hold that back.
func (c Capacities) Moved(other Capacities) float64 { return 0 }

// String is the same for equal capacities, and differs for others.
func (c Capacities) String() string { return "" }
