package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// LoadBalancerRecord says what the cloud holds for one Service: it has the Service's namespace and name. The manager
// alone writes it; there is nothing to set. Under Retain it outlives its Service, because it is then the only place
// that still knows the ids. There is nobody else whose part the status had to be kept from, so that it is no subresource: a record
// is made with what it says, in one request.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=lbr,categories=fairlead
// +kubebuilder:printcolumn:name="Provider",type=string,JSONPath=`.status.provider`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.addresses`
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.status.policy`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Drift",type=string,JSONPath=`.status.drift.state`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type LoadBalancerRecord struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status LoadBalancerRecordStatus `json:"status,omitempty"`
}

// LoadBalancerRecordStatus is the manager's memory of one balancer. Nothing in it is needed to find the resources
// again, they carry their owner's tag, but for the binding: which class and provider serve the Service.
type LoadBalancerRecordStatus struct {
	// serviceUID tells a Service from one of the same name that came before it.
	// +optional
	ServiceUID types.UID `json:"serviceUID,omitempty"`

	// serviceFingerprint tells whether the Service is as the manager last looked at it: what follows is older where it is
	// another one than that of the Service now. Services have no generation to go by.
	// +optional
	ServiceFingerprint string `json:"serviceFingerprint,omitempty"`

	// takesBackFrom is the UID of the earlier Service of this name whose balancer, left behind under Retain, the Service is taking
	// back; empty: it is not, or has done so.
	// +optional
	TakesBackFrom types.UID `json:"takesBackFrom,omitempty"`

	// loadBalancerClass is the name of the LoadBalancerClass that serves the Service; empty means the manager's
	// configuration. A Service keeps it when another class becomes the default.
	// +optional
	LoadBalancerClass string `json:"loadBalancerClass,omitempty"`

	// serviceClass is the Service's spec.loadBalancerClass as it was then; empty: it named none. By it a Service that names
	// another class is told from a LoadBalancerClass that was made anew for another className.
	// +optional
	ServiceClass string `json:"serviceClass,omitempty"`

	// madeFrom is what of the class the balancer was last made from, as the JSON of its spec: provider, className, parameters,
	// nodePorts, and the targets in force. It tells what the targets are while the class is gone, or an annotation cannot be read. It is
	// for the manager alone.
	// +optional
	MadeFrom string `json:"madeFrom,omitempty"`

	// provider that owns the resources.
	// +optional
	Provider string `json:"provider,omitempty"`

	// policy in force.
	// +optional
	Policy Policy `json:"policy,omitempty"`

	// addresses that clients use: IPs and host names, sorted.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`

	// resources owned in the cloud, as last observed, sorted by kind and key.
	// +optional
	// +listType=atomic
	Resources []OwnedResource `json:"resources,omitempty"`

	// plan is what was still to be done when this was written, in order: empty when the cloud has what the Service
	// asks for.
	// +optional
	// +listType=atomic
	Plan []PlannedOperation `json:"plan,omitempty"`

	// replacementPlan is what would be done, in order, if the replacement were allowed that is in the way. Empty where none is.
	// +optional
	// +listType=atomic
	ReplacementPlan []PlannedOperation `json:"replacementPlan,omitempty"`

	// drift is what the last sweep that found something found in the cloud otherwise than the manager had left it. It
	// stays until a sweep finds something again.
	// +optional
	Drift *Drift `json:"drift,omitempty"`

	// conditions: Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// OwnedResource is one thing in the cloud that belongs to the Service.
type OwnedResource struct {
	// kind is the provider's word for it.
	Kind string `json:"kind"`
	// key tells it from others of its kind and Service.
	Key string `json:"key"`
	// id that the cloud knows it by. While one resource replaces another there are two of one kind and key.
	ID string `json:"id"`
	// lent: it was adopted with its owner's consent, and is let go, not deleted, when the Service has no use for it.
	// +optional
	Lent bool `json:"lent,omitempty"`
}

// PlannedOperation is one step towards what the Service asks for.
type PlannedOperation struct {
	// action is Adopt, Create, Update or Delete.
	// +kubebuilder:validation:Enum=Adopt;Create;Update;Delete
	Action string `json:"action"`
	// kind and key name the resource.
	Kind string `json:"kind"`
	Key  string `json:"key"`
	// reason says in a few words why.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// LoadBalancerRecordList is a list of LoadBalancerRecord.
// +kubebuilder:object:root=true
type LoadBalancerRecordList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LoadBalancerRecord `json:"items"`
}
