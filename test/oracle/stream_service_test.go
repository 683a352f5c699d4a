package oracle

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (c *cluster) changeService() {
	key := types.NamespacedName{Namespace: pick(c.choices, "one", "one", "one", "one", "two"), Name: fmt.Sprint("service-", c.of(4))}
	service := c.services[key].DeepCopy()
	if service == nil {
		service = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		c.setSelector(service)
		c.setPorts(service)
		c.setFamilies(service)
		service.Spec.TrafficDistribution = c.trafficDistribution()
		c.note("create Service %s selector %v ports %v families %v clusterIP %s", key, service.Spec.Selector, service.Spec.Ports, service.Spec.IPFamilies, service.Spec.ClusterIP)
		c.putService(service)
		return
	}
	switch kind := c.of(16); {
	case kind < 3:
		c.setSelector(service)
		c.note("Service %s selected %v by %v", key, selected(service), service.Spec.Selector)
	case kind < 6:
		c.setPorts(service)
		c.note("Service %s ports %v", key, service.Spec.Ports)
	case kind < 8:
		c.setFamilies(service)
		c.note("Service %s families %v clusterIP %s", key, service.Spec.IPFamilies, service.Spec.ClusterIP)
	case kind < 9:
		service.Spec.PublishNotReadyAddresses = !service.Spec.PublishNotReadyAddresses
		c.note("Service %s publishes not ready %v", key, service.Spec.PublishNotReadyAddresses)
	case kind < 11:
		service.Spec.TrafficDistribution = c.trafficDistribution()
		c.note("Service %s traffic distribution", key)
	case kind < 12:
		service.Labels = pick(c.choices, nil, map[string]string{"team": "red"}, map[string]string{"team": "blue", "x": "y"},
			map[string]string{"endpointslice.kubernetes.io/managed-by": "me", "kubernetes.io/service-name": "other", "service.kubernetes.io/headless": "no"})
		c.note("Service %s labels %v", key, service.Labels)
	case kind < 13:
		service.DeletionTimestamp = new(metav1.NewTime(c.now))
		c.note("Service %s is being deleted", key)
	case kind < 14:
		c.note("delete Service %s", key)
		c.deleteService(key)
		return
	default:
		unseen := c.oneIn(2)
		c.note("recreate Service %s unseen %v", key, unseen)
		if !unseen {
			c.deleteService(key)
		}
		service.UID, service.DeletionTimestamp = "", nil
	}
	c.putService(service)
}

func (c *cluster) setSelector(service *corev1.Service) {
	service.Spec.Type, service.Spec.ExternalName = corev1.ServiceTypeClusterIP, ""
	switch c.of(10) {
	case 0:
		service.Spec.Selector = nil
	case 1:
		service.Spec.Type, service.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
	case 2:
		service.Spec.Selector = map[string]string{} // not nil: every Pod
	case 3:
		service.Spec.Selector = map[string]string{"app": "a", "tier": pick(c.choices, "x", "y")}
	case 4:
		service.Spec.Selector = map[string]string{"tier": "x"}
	default:
		service.Spec.Selector = map[string]string{"app": pick(c.choices, "a", "a", "b")}
	}
}

func (c *cluster) setPorts(service *corev1.Service) {
	all := []corev1.ServicePort{
		{Name: "http", Port: 80, TargetPort: intstr.FromString("web"), Protocol: corev1.ProtocolTCP},
		{Name: "metrics", Port: 90, TargetPort: intstr.FromInt(9000 + c.of(2)), Protocol: corev1.ProtocolTCP, AppProtocol: new("kubernetes.io/h2c")},
		{Name: "dns", Port: 53, TargetPort: intstr.FromString("dns"), Protocol: corev1.ProtocolUDP},
		{Name: "dns-tcp", Port: 53, TargetPort: intstr.FromString("dns"), Protocol: corev1.ProtocolTCP},
		{Name: "missing", Port: 1, TargetPort: intstr.FromString("missing"), Protocol: corev1.ProtocolTCP},
	}
	service.Spec.Ports = nil
	switch c.of(8) {
	case 0:
		return
	case 1:
		service.Spec.Ports = []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}}
	case 2:
		service.Spec.Ports = all[:1]
	default:
		for _, port := range all {
			if c.oneIn(2) {
				service.Spec.Ports = append(service.Spec.Ports, port)
			}
		}
		if c.oneIn(2) {
			slices.Reverse(service.Spec.Ports)
		}
	}
}

func (c *cluster) setFamilies(service *corev1.Service) {
	v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
	service.Spec.ClusterIP = "10.96.0.1"
	switch c.of(8) {
	case 0:
		service.Spec.IPFamilies = []corev1.IPFamily{v6}
		service.Spec.ClusterIP = "fd00:96::1"
	case 1:
		service.Spec.IPFamilies = []corev1.IPFamily{v6, v4}
		service.Spec.ClusterIP = "fd00:96::1"
	case 2: // written before there were families
		service.Spec.IPFamilies = nil
		service.Spec.ClusterIP = pick(c.choices, "10.96.0.1", "fd00:96::1")
	case 3, 4:
		service.Spec.IPFamilies = []corev1.IPFamily{v4, v6}
	default:
		service.Spec.IPFamilies = []corev1.IPFamily{v4}
	}
	if c.oneIn(3) {
		service.Spec.ClusterIP = pick(c.choices, corev1.ClusterIPNone, corev1.ClusterIPNone, "")
	}
}

func (c *cluster) trafficDistribution() *string {
	return pick(c.choices, nil, nil, new(corev1.ServiceTrafficDistributionPreferSameZone),
		new(corev1.ServiceTrafficDistributionPreferSameNode), new(corev1.ServiceTrafficDistributionPreferClose), new("SomethingNew"))
}
