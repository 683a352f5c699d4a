package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every configuration file.
var GroupVersion = schema.GroupVersion{Group: "config.fairlead.dev", Version: "v1alpha1"}

var schemeBuilder runtime.SchemeBuilder

// AddToScheme makes the kinds of this package known to a scheme.
func AddToScheme(scheme *runtime.Scheme) error { return schemeBuilder.AddToScheme(scheme) }

// register adds kinds; each types file calls it for its own.
func register(objects ...runtime.Object) {
	schemeBuilder.Register(func(scheme *runtime.Scheme) error {
		scheme.AddKnownTypes(GroupVersion, objects...)
		return nil
	})
}
