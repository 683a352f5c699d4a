package endpointslice

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/endpoints"
)

// PodTransform reduces a Pod on its way into the cache to what endpoints are made from, a small part of its size, of
// which Pods of one template share what is equal: for cache.ByObject of Pods. Anything but a Pod passes unchanged.
func PodTransform(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	small := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Labels: sharedLabels.share(pod.Labels, appendLabels),
			ResourceVersion: pod.ResourceVersion, DeletionTimestamp: pod.DeletionTimestamp,
		},
		Spec: corev1.PodSpec{
			NodeName: pod.Spec.NodeName, Hostname: pod.Spec.Hostname, Subdomain: pod.Spec.Subdomain,
			Containers: portsAlone(pod.Spec.Containers), InitContainers: portsAlone(pod.Spec.InitContainers),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIPs: pod.Status.PodIPs},
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			small.Status.Conditions = []corev1.PodCondition{{
				Type: corev1.PodReady, Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			}}
		}
	}
	keepGates(pod, small)
	if text := pod.Annotations[endpoints.NetworkStatusAnnotation]; text != "" {
		// What is too long to be read need not be kept to be known as too long.
		if len(text) > endpoints.MaxNetworkStatus {
			text = strings.Clone(text[:endpoints.MaxNetworkStatus+1])
		}
		small.Annotations = map[string]string{endpoints.NetworkStatusAnnotation: text}
	}
	return small, nil
}

// keepGates keeps, of the few Pods that wait for a load balancer, what they wait for and how far they are: for the controller
// loadbalancer.
func keepGates(pod, small *corev1.Pod) {
	for _, g := range pod.Spec.ReadinessGates {
		if strings.HasPrefix(string(g.ConditionType), v1alpha1.ReadinessGatePrefix) {
			small.Spec.ReadinessGates = append(small.Spec.ReadinessGates, g)
		}
	}
	if small.Spec.ReadinessGates == nil {
		return
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.ContainersReady || strings.HasPrefix(string(c.Type), v1alpha1.ReadinessGatePrefix) {
			small.Status.Conditions = append(small.Status.Conditions, c)
		}
	}
}

// portsAlone keeps the containers that name ports, and of them the ports.
func portsAlone(containers []corev1.Container) []corev1.Container {
	var small []corev1.Container
	for _, c := range containers {
		var ports []corev1.ContainerPort
		for _, p := range c.Ports {
			if p.Name != "" {
				ports = append(ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
			}
		}
		if len(ports) > 0 {
			small = append(small, corev1.Container{Ports: ports, RestartPolicy: c.RestartPolicy})
		}
	}
	if small == nil {
		return nil
	}
	return sharedContainers.share(small, appendContainers)
}

// SliceTransform leaves of a slice's managedFields who wrote it how and when, by which two writers are told apart, and
// drops which fields those are, often as long as the rest: for cache.ByObject of EndpointSlices. Anything but a slice
// passes unchanged.
func SliceTransform(obj any) (any, error) {
	if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
		trimManagers(slice)
	}
	return obj, nil
}

func trimManagers(slice *discoveryv1.EndpointSlice) {
	for i := range slice.ManagedFields {
		e := &slice.ManagedFields[i]
		*e = metav1.ManagedFieldsEntry{Manager: e.Manager, Operation: e.Operation, Time: e.Time}
	}
}
