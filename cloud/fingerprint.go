package cloud

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Fingerprint tells whether a Service asks the same of its load balancer as when it was last looked at: it is of its
// annotations, but for those that nobody writes by hand, and of what its spec says about balancers. The API server counts
// no generations of Services.
//
// The fields are named one by one, so that a program that knows more of them than another, being of a later release of
// Kubernetes, makes the same of the same Service.
func Fingerprint(svc *corev1.Service) string {
	annotations := maps.Clone(svc.Annotations)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, v1alpha1.AnnotationServedBy)
	if len(annotations) == 0 {
		annotations = nil
	}
	s := svc.Spec
	text, err := json.Marshal([]any{
		svc.UID, annotations, s.Type, s.Ports, s.LoadBalancerClass, s.LoadBalancerIP, s.LoadBalancerSourceRanges, s.IPFamilies,
		s.ExternalTrafficPolicy, s.HealthCheckNodePort, s.SessionAffinity, s.SessionAffinityConfig,
	})
	if err != nil {
		panic(fmt.Sprintf("cloud: a Service cannot be written as JSON: %v", err)) // it came as JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
