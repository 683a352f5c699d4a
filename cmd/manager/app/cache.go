package app

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/controllers/endpointslice"
	"github.com/fairlead/fairlead/controllers/nodeport"
)

// cacheOptions keeps in memory what the controllers read and no more. Pods are by far the most and the largest
// objects; managedFields are often half of any other, and read of Services and EndpointSlices alone.
func cacheOptions(namespace string) cache.Options {
	ofNodePorts := fields.OneTermEqualSelector(metav1.ObjectNameField, nodeport.PolicyName)
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:  {Transform: endpointslice.PodTransform},
			&corev1.Node{}: {Transform: trimNode},
			// The controller endpointslice tells other writers by their field managers.
			&discoveryv1.EndpointSlice{}: {Transform: endpointslice.SliceTransform},
			// The controller nodeport gives up its ownership of the ports that it numbered, which it finds there.
			&corev1.Service{}: {Transform: func(object any) (any, error) { return object, nil }},
			// The manager may read no other Secret, no other webhook configuration and no other policy.
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{
				namespace: {FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, certificateSecret)},
			}},
			&admissionregistrationv1.MutatingWebhookConfiguration{}: {
				Field: fields.OneTermEqualSelector(metav1.ObjectNameField, configv1alpha1.WebhookConfigurationName),
			},
			&admissionregistrationv1.ValidatingAdmissionPolicy{}:        {Field: ofNodePorts},
			&admissionregistrationv1.ValidatingAdmissionPolicyBinding{}: {Field: ofNodePorts},
		},
	}
}

// trimNode leaves of a Node what decides where traffic may go: its addresses, its place, its size, its health. A
// Node's list of images is most of it otherwise.
func trimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	return &corev1.Node{
		TypeMeta:   node.TypeMeta,
		ObjectMeta: trimMeta(node.ObjectMeta),
		Spec: corev1.NodeSpec{
			ProviderID:    node.Spec.ProviderID,
			Unschedulable: node.Spec.Unschedulable,
			Taints:        node.Spec.Taints,
		},
		Status: corev1.NodeStatus{
			Addresses:   node.Status.Addresses,
			Allocatable: node.Status.Allocatable,
			Conditions:  trimNodeConditions(node.Status.Conditions),
		},
	}, nil
}

func trimMeta(meta metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              meta.Name,
		Namespace:         meta.Namespace,
		UID:               meta.UID,
		ResourceVersion:   meta.ResourceVersion,
		Labels:            meta.Labels,
		CreationTimestamp: meta.CreationTimestamp,
		DeletionTimestamp: meta.DeletionTimestamp,
	}
}

// trimNodeConditions drops the times of heartbeats with everything else that is not the answer itself.
func trimNodeConditions(conditions []corev1.NodeCondition) []corev1.NodeCondition {
	for _, c := range conditions {
		if c.Type == corev1.NodeReady {
			return []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return nil
}
