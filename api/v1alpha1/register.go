package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// SchemeGroupVersion is the group and version of every type in this package. The generated apply configurations
// refer to it by this name.
var SchemeGroupVersion = schema.GroupVersion{Group: "fairlead.dev", Version: "v1alpha1"}

var schemeBuilder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(SchemeGroupVersion,
		&EndpointSelector{}, &EndpointSelectorList{},
		&LoadBalancerClass{}, &LoadBalancerClassList{},
		&LoadBalancerRecord{}, &LoadBalancerRecordList{},
		&NodePortPool{}, &NodePortPoolList{},
	)
	metav1.AddToGroupVersion(s, SchemeGroupVersion)
	return nil
})

// AddToScheme adds every type of this package to a scheme. Its errors are those of the scheme: a kind that is
// registered already with another Go type.
var AddToScheme = schemeBuilder.AddToScheme
