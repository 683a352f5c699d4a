// Package v1alpha1 holds the custom resources of the group fairlead.dev, and the names of the conditions, reasons and
// annotations that Fairlead reads and writes on them and on core objects.
//
// It is data only: no defaulting, validation or lookup code. Defaults and validation are part of the generated
// CustomResourceDefinitions (OpenAPI and CEL), so that the API server enforces them for every writer. It imports
// nothing beyond the standard library, k8s.io/api and k8s.io/apimachinery, so that importing it costs an outsider
// nothing.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package="../../applyconfiguration"
// +groupName=fairlead.dev
package v1alpha1
