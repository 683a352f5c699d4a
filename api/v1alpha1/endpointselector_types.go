package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EndpointSelector makes Pods the endpoints of a Service that has no selector of its own: chosen by expressions, which
// a Service's selector cannot hold, at their addresses on a secondary network, or in groups that stand by for one
// another. Which ports and families are served is said by the Service.
//
// spec.selector has the name and the meaning that the draft of KEP-6116 gives it; what is ours stands under
// spec.fairlead.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=epsel,categories=fairlead
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.fairlead.serviceName`
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.pods`
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.status.endpoints`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.readyEndpoints`
// +kubebuilder:printcolumn:name="Active",type=string,JSONPath=`.status.activeGroup`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Network",type=string,priority=1,JSONPath=`.spec.fairlead.network`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EndpointSelector struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec EndpointSelectorSpec `json:"spec"`
	// +optional
	Status EndpointSelectorStatus `json:"status,omitempty"`
}

// EndpointSelectorSpec says which Pods are endpoints, and of what.
type EndpointSelectorSpec struct {
	// selector picks the Pods, of the same namespace. It must not be empty: that would be every Pod.
	// +required
	// +kubebuilder:validation:XValidation:rule="has(self.matchLabels) && size(self.matchLabels) > 0 || has(self.matchExpressions) && size(self.matchExpressions) > 0",message="selector must not be empty, which would pick every Pod: write matchLabels or matchExpressions"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || size(self.matchExpressions) <= 64",message="at most 64 matchExpressions"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, !has(e.values) || size(e.values) <= 256)",message="at most 256 values in one of matchExpressions",fieldPath=".matchExpressions"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="operator is one of In, NotIn (with values), Exists, DoesNotExist (without values)",fieldPath=".matchExpressions"
	Selector metav1.LabelSelector `json:"selector"`

	// fairlead holds what the draft of KEP-6116 does not have.
	// +required
	Fairlead EndpointSelectorExtension `json:"fairlead"`
}

// EndpointSelectorExtension is what an EndpointSelector says beyond the draft of KEP-6116.
type EndpointSelectorExtension struct {
	// serviceName is the Service that the Pods are endpoints of: one of the same namespace, without a selector and not
	// of type ExternalName. Of several EndpointSelectors that name one Service the oldest has it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	ServiceName string `json:"serviceName"`

	// network is the name of the network on which the Pods are reached, as the annotation
	// k8s.v1.cni.cncf.io/network-status on the Pods has it: that of a NetworkAttachmentDefinition of this namespace, or
	// namespace/name. Omitted means the addresses in the Pods' status.podIPs. Only addresses that the manager's
	// configuration allows (endpointSelector.allowedCIDRs) are ever served: whoever may write Pods can write that
	// annotation (CVE-2021-25740).
	// +optional
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$`
	Network string `json:"network,omitempty"`

	// groups stand by for one another, in this order: a group serves only while no group before it has a ready
	// endpoint. A Pod is of the first group whose selector matches it; one of no group is no endpoint. Omitted means
	// that all Pods serve together.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Groups []EndpointGroup `json:"groups,omitempty"`
}

// EndpointGroup is some of the Pods that spec.selector picks.
type EndpointGroup struct {
	// name of the group, shown as the active one.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// selector picks the group's Pods among those that spec.selector picks. An empty one takes all that are left, for
	// a last group of everything else.
	// +required
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || size(self.matchExpressions) <= 64",message="at most 64 matchExpressions"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, !has(e.values) || size(e.values) <= 256)",message="at most 256 values in one of matchExpressions",fieldPath=".matchExpressions"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, has(e.values) == (e.operator in ['In', 'NotIn']))",message="operator is one of In, NotIn (with values), Exists, DoesNotExist (without values)",fieldPath=".matchExpressions"
	Selector metav1.LabelSelector `json:"selector"`
}

// EndpointSelectorStatus is what came of an EndpointSelector.
type EndpointSelectorStatus struct {
	// pods is how many Pods are picked, those without an address and those that have ended left out.
	// +optional
	Pods *int32 `json:"pods,omitempty"`

	// endpoints is how many of them are in the Service's EndpointSlices. A Pod that is in those of both families counts
	// once.
	// +optional
	Endpoints *int32 `json:"endpoints,omitempty"`

	// readyEndpoints is how many of the endpoints are ready.
	// +optional
	ReadyEndpoints *int32 `json:"readyEndpoints,omitempty"`

	// excludedAddresses is how many addresses on the network were left out, because endpointSelector.allowedCIDRs of
	// the manager's configuration does not hold them or because they can never be a Pod's.
	// +optional
	ExcludedAddresses *int32 `json:"excludedAddresses,omitempty"`

	// activeGroup is the first group with a ready endpoint. Empty: no group has one, or there are no groups.
	// +optional
	ActiveGroup string `json:"activeGroup,omitempty"`

	// conditions: Accepted, Programmed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// EndpointSelectorList is a list of EndpointSelector.
// +kubebuilder:object:root=true
type EndpointSelectorList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EndpointSelector `json:"items"`
}
