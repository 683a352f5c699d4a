package endpoints

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"
)

// Selected says whether a Service's endpoints are the Pods that its selector matches. ExternalName Services have no
// endpoints, and those with a nil selector get theirs from someone else. An empty selector that is not nil matches
// every Pod of the namespace, as upstream.
func Selected(service *corev1.Service) bool {
	return service.Spec.Type != corev1.ServiceTypeExternalName && service.Spec.Selector != nil
}

// Families returns the families that a Service has slices of, the primary one first. A Service without ipFamilies
// (written before they existed) has the family of its cluster IP, or both where it has none.
func Families(service *corev1.Service) []discoveryv1.AddressType {
	var families []discoveryv1.AddressType
	for _, family := range service.Spec.IPFamilies {
		switch family {
		case corev1.IPv4Protocol:
			families = append(families, discoveryv1.AddressTypeIPv4)
		case corev1.IPv6Protocol:
			families = append(families, discoveryv1.AddressTypeIPv6)
		}
	}
	if len(families) > 0 {
		return families
	}
	if headless(service) {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	}
	if netutils.IsIPv6String(service.Spec.ClusterIP) {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

// headless says whether a Service has no cluster IP, which for slices and Endpoints includes one not allocated yet.
func headless(service *corev1.Service) bool {
	return service.Spec.ClusterIP == corev1.ClusterIPNone || service.Spec.ClusterIP == ""
}

// sliceLabels returns all labels of a Service's slices: the Service's own but for the reserved keys, and those.
// Service annotations are not copied.
func sliceLabels(service *corev1.Service, managedBy string) map[string]string {
	labels := make(map[string]string, len(service.Labels)+3)
	maps.Copy(labels, service.Labels)
	delete(labels, corev1.IsHeadlessService)
	if headless(service) {
		labels[corev1.IsHeadlessService] = ""
	}
	labels[discoveryv1.LabelServiceName] = service.Name
	labels[discoveryv1.LabelManagedBy] = managedBy
	return labels
}

// OwnedBy says whether a slice belongs to this very Service and not to one of the same name before it.
func OwnedBy(slice *discoveryv1.EndpointSlice, service *corev1.Service) bool {
	for _, ref := range slice.OwnerReferences {
		if ref.UID == service.UID && ref.Kind == "Service" && ref.APIVersion == "v1" {
			return true
		}
	}
	return false
}

func ownerReference(service *corev1.Service) metav1.OwnerReference {
	return *metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))
}
