package adapter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// The attributes of a balancer, as JSON: the annotations and the spec of its Service.
const (
	attributeAnnotations = "annotations"
	attributeSpec        = "spec"
)

// attributesOf is what of a Service a balancer can depend on. Both attributes are always there.
func attributesOf(svc *corev1.Service) (map[string]string, error) {
	annotations := map[string]string{}
	for name, value := range svc.Annotations {
		ours := strings.HasPrefix(name, v1alpha1.AnnotationPrefix) || name == v1alpha1.AnnotationServedBy
		if !ours && name != corev1.LastAppliedConfigAnnotation {
			annotations[name] = value
		}
	}
	spec := *svc.Spec.DeepCopy()
	spec.Type = corev1.ServiceTypeLoadBalancer
	// These are about which Pods there are, and how traffic from inside the cluster finds them.
	spec.Selector, spec.PublishNotReadyAddresses = nil, false
	spec.InternalTrafficPolicy, spec.TrafficDistribution = nil, nil
	spec.AllocateLoadBalancerNodePorts = nil
	a, err := json.Marshal(annotations)
	if err != nil {
		return nil, fmt.Errorf("writing the annotations of the Service: %w", err)
	}
	s, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("writing the spec of the Service: %w", err)
	}
	return map[string]string{attributeAnnotations: string(a), attributeSpec: string(s)}, nil
}

// service is what the provider gets: the Service as it is, or, where the balancer is made from other attributes, with
// those. Of a Service that is gone there is what its owner and the attributes say. Without attributes: as it is.
func service(owner cloud.Owner, attributes map[string]string) (*corev1.Service, error) {
	svc := owner.Service.DeepCopy()
	if svc == nil {
		svc = &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace, Name: owner.Name, UID: types.UID(owner.ServiceUID)},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
		}
	}
	if attributes == nil {
		return svc, nil
	}
	now, err := attributesOf(svc)
	if err != nil {
		return nil, err
	}
	if now[attributeAnnotations] != attributes[attributeAnnotations] {
		svc.Annotations = nil
		if err := json.Unmarshal([]byte(attributes[attributeAnnotations]), &svc.Annotations); err != nil {
			return nil, fmt.Errorf("reading the annotations of the Service: %w", err)
		}
	}
	if now[attributeSpec] != attributes[attributeSpec] {
		svc.Spec = corev1.ServiceSpec{}
		if err := json.Unmarshal([]byte(attributes[attributeSpec]), &svc.Spec); err != nil {
			return nil, fmt.Errorf("reading the spec of the Service: %w", err)
		}
	}
	return svc, nil
}

// serviceOf is a Service that would have given the Spec, where there is none: a sample, or the suite's.
func serviceOf(spec cloud.Spec) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Annotations: spec.Annotations},
		Spec:       corev1.ServiceSpec{LoadBalancerIP: spec.RequestedAddress, SessionAffinity: corev1.ServiceAffinityNone},
	}
	for _, family := range spec.Families {
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPFamily(family))
	}
	for _, p := range spec.Ports {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: corev1.Protocol(p.Protocol),
			Port: p.Port, NodePort: p.NodePort})
		if spec.LocalOnly {
			svc.Spec.HealthCheckNodePort = p.HealthCheck.Port
		}
	}
	for _, prefix := range spec.SourceRanges {
		svc.Spec.LoadBalancerSourceRanges = append(svc.Spec.LoadBalancerSourceRanges, prefix.String())
	}
	if spec.AffinitySeconds > 0 {
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &spec.AffinitySeconds}}
	}
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	if spec.LocalOnly {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	return svc
}

// targetsOf is the one target that stands for all nodes: the provider is given all of them at once. It changes with what
// upstream's service controller, too, calls for.
func targetsOf(nodes []cloud.Node) []cloud.Target {
	h := sha256.New()
	for _, n := range nodes {
		fmt.Fprintf(h, "%q\n", append([]string{n.Name, n.ProviderID, n.Zone}, n.Addresses...))
	}
	return []cloud.Target{{ID: "nodes-" + hex.EncodeToString(h.Sum(nil))[:16]}}
}

// nodesOf returns the Nodes themselves, which the provider does not change, or what is known of them.
func nodesOf(nodes []cloud.Node) []*corev1.Node {
	result := make([]*corev1.Node, 0, len(nodes))
	for _, n := range nodes {
		if n.Object != nil {
			result = append(result, n.Object)
			continue
		}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}, Spec: corev1.NodeSpec{ProviderID: n.ProviderID}}
		if n.Zone != "" {
			node.Labels = map[string]string{corev1.LabelTopologyZone: n.Zone}
		}
		for _, address := range n.Addresses {
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
		}
		result = append(result, node)
	}
	return result
}

func ingressesOf(status *corev1.LoadBalancerStatus) []cloud.Ingress {
	if status == nil {
		return nil
	}
	var all []cloud.Ingress
	for _, in := range status.Ingress {
		ingress := cloud.Ingress{IP: in.IP, Hostname: in.Hostname}
		if in.IPMode != nil {
			ingress.IPMode = string(*in.IPMode)
		}
		all = append(all, ingress)
	}
	return all
}
