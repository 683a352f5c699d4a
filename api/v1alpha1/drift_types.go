package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DriftState says what became of drift.
// +kubebuilder:validation:Enum=Found;Repaired
type DriftState string

// States of drift.
const (
	// DriftFound: the cloud is still not what the Service asks for. Under Plan nothing is repaired.
	DriftFound DriftState = "Found"
	// DriftRepaired: the cloud has what the Service asks for again, whoever saw to it.
	DriftRepaired DriftState = "Repaired"
)

// MaxDriftedResources is how many resources a Drift lists.
const MaxDriftedResources = 16

// Drift is what the cloud had otherwise than the manager had left it.
type Drift struct {
	// state is Found or Repaired.
	State DriftState `json:"state"`
	// foundAt is when the sweep began that found it.
	FoundAt metav1.Time `json:"foundAt"`
	// repairedAt is when the manager first saw the cloud as it should be again.
	// +optional
	RepairedAt *metav1.Time `json:"repairedAt,omitempty"`
	// resources that differed, sorted by kind and key, the first 16 of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Resources []DriftedResource `json:"resources,omitempty"`
	// more is how many resources beyond those differed.
	// +optional
	More int32 `json:"more,omitempty"`
}

// DriftedResource is one resource that differed.
type DriftedResource struct {
	// kind and key name the resource.
	Kind string `json:"kind"`
	Key  string `json:"key"`
	// difference in a few words.
	Difference string `json:"difference"`
}
