package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PortAllocation says how Services get the ports of a pool.
// +kubebuilder:validation:Enum=Dynamic;Static
type PortAllocation string

const (
	// PortAllocationDynamic hands ports out to Services that name none; the lowest (a 32nd of the pool, at least 16, at
	// most 128, none of 16 or fewer) only when all others are taken, so that people can name them.
	PortAllocationDynamic PortAllocation = "Dynamic"
	// PortAllocationStatic hands none out: Services name the port that they want.
	PortAllocationStatic PortAllocation = "Static"
)

// Enforcement says what becomes of Services that do not keep to the pools.
// +kubebuilder:validation:Enum=BestEffort;Enforce
type Enforcement string

const (
	// EnforcementBestEffort numbers the Services of the pool's namespaces, and reports what got ports elsewhere.
	EnforcementBestEffort Enforcement = "BestEffort"
	// EnforcementEnforce numbers the Services of all namespaces, and refuses those that need node ports and arrive
	// without, or with others than their namespace may have.
	EnforcementEnforce Enforcement = "Enforce"
)

// DuplicateRepair says what becomes of a Service whose node port another, older one has.
// +kubebuilder:validation:Enum=Report;Move
type DuplicateRepair string

const (
	// DuplicateRepairReport says so and changes nothing.
	DuplicateRepairReport DuplicateRepair = "Report"
	// DuplicateRepairMove gives the younger Service another node port.
	DuplicateRepairMove DuplicateRepair = "Move"
)

// NodePortPool is a part of the node ports that the Services of some namespaces draw from.
//
// Pools that want the same ports do not share them: the oldest has them (of two of one age the first by name). The same
// order decides which of its pools a namespace draws from first.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=npp,categories=fairlead
// +kubebuilder:printcolumn:name="Ports",type=integer,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Used",type=integer,JSONPath=`.status.used`
// +kubebuilder:printcolumn:name="Reserved",type=integer,JSONPath=`.status.reserved`
// +kubebuilder:printcolumn:name="Free",type=integer,JSONPath=`.status.free`
// +kubebuilder:printcolumn:name="Allocation",type=string,JSONPath=`.spec.allocation`
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.spec.enforcement`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodePortPool struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec NodePortPoolSpec `json:"spec"`
	// +optional
	Status NodePortPoolStatus `json:"status,omitempty"`
}

// NodePortPoolSpec says which ports a pool has, and who draws from it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.reclaimDelay) || has(self.sticky) && self.sticky",message="reclaimDelay needs sticky: true",fieldPath=".reclaimDelay"
type NodePortPoolSpec struct {
	// ranges of the pool, both ends included, without an overlap. Ports that the API server does not hand out
	// (--service-node-port-range), or that an older pool has, are reported and left out. Narrowing a pool takes no port
	// from a Service that has it.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.first <= b.last && b.first <= a.last))",message="ranges must not overlap"
	Ranges []PortRange `json:"ranges"`

	// namespaceSelector picks the namespaces whose Services draw from the pool. An empty one picks every namespace.
	// +required
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || size(self.matchLabels) <= 16",message="at most 16 matchLabels"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || size(self.matchExpressions) <= 16 && self.matchExpressions.all(e, !has(e.values) || size(e.values) <= 32)",message="at most 16 matchExpressions with 32 values each"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="operator is one of In, NotIn (with values), Exists, DoesNotExist (without values)",fieldPath=".matchExpressions"
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`

	// allocation says whether ports are handed out (Dynamic) or only named by Services (Static).
	// +optional
	// +kubebuilder:default=Dynamic
	Allocation PortAllocation `json:"allocation,omitempty"`

	// sticky keeps the ports of a Service that is deleted for its name, so that it gets them back when it is created
	// again: each port with the same number and protocol its own.
	// +optional
	// +kubebuilder:default=false
	Sticky bool `json:"sticky,omitempty"`

	// reclaimDelay is how long they are kept. Omitted means 1h.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(h|m|s))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="reclaimDelay is between 1s and 720h"
	ReclaimDelay *metav1.Duration `json:"reclaimDelay,omitempty"`

	// enforcement says whether Services that do not keep to the pools are refused. The API server's own allocator, which
	// cannot be turned off, draws from the whole range: without Enforce a pool is best effort.
	// +optional
	// +kubebuilder:default=BestEffort
	Enforcement Enforcement `json:"enforcement,omitempty"`

	// duplicates says what becomes of a Service of the pool's namespaces whose node port an older Service has.
	// +optional
	// +kubebuilder:default=Report
	Duplicates DuplicateRepair `json:"duplicates,omitempty"`
}

// PortRange is a range of ports, both ends included.
// +kubebuilder:validation:XValidation:rule="self.first <= self.last",message="first must not be above last"
type PortRange struct {
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	First int32 `json:"first"`
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Last int32 `json:"last"`
}

// NodePortPoolStatus is how full a pool is, and what it keeps.
type NodePortPoolStatus struct {
	// size is how many ports the pool has. used of them are some Service's, whatever its namespace; reserved are kept
	// for Services that were deleted; the rest is free.
	// +optional
	Size *int32 `json:"size,omitempty"`
	// +optional
	Used *int32 `json:"used,omitempty"`
	// +optional
	Reserved *int32 `json:"reserved,omitempty"`
	// +optional
	Free *int32 `json:"free,omitempty"`

	// reservations are the ports that are kept, by number. This is where a manager that starts finds them.
	// +optional
	// +listType=map
	// +listMapKey=port
	// +kubebuilder:validation:MaxItems=65535
	Reservations []PortReservation `json:"reservations,omitempty"`

	// conditions: Accepted, Available, Exclusive.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PortReservation is a port that is kept for a Service that was deleted.
type PortReservation struct {
	// +required
	Port int32 `json:"port"`
	// namespace and name of the Service.
	// +required
	Namespace string `json:"namespace"`
	// +required
	Name string `json:"name"`
	// uses are the ports of the Service that had it, as 53/UDP, and healthCheck for its healthCheckNodePort.
	// +required
	// +listType=set
	Uses []string `json:"uses"`
	// until is when the port is anybody's.
	// +required
	Until metav1.Time `json:"until"`
}

// NodePortPoolList is a list of NodePortPool.
// +kubebuilder:object:root=true
type NodePortPoolList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodePortPool `json:"items"`
}
