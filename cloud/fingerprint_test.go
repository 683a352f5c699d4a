package cloud

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

func TestFingerprint(t *testing.T) {
	sample := func() *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{UID: "u", Annotations: map[string]string{"a": "1"}},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	want := Fingerprint(sample())
	for name, tc := range map[string]struct {
		edit func(*corev1.Service)
		same bool
	}{
		"Nothing": {func(*corev1.Service) {}, true},
		"Status": {func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
		}, true},
		"Version":     {func(s *corev1.Service) { s.ResourceVersion, s.Labels = "9", map[string]string{"x": "y"} }, true},
		"Finalizer":   {func(s *corev1.Service) { s.Finalizers = []string{"f"} }, true},
		"LastApplied": {func(s *corev1.Service) { s.Annotations[corev1.LastAppliedConfigAnnotation] = "{}" }, true},
		"Mark":        {func(s *corev1.Service) { s.Annotations[v1alpha1.AnnotationServedBy] = "provider=fake" }, true},
		"Annotation":  {func(s *corev1.Service) { s.Annotations["a"] = "2" }, false},
		"Another":     {func(s *corev1.Service) { s.UID = "v" }, false},
		"Port":        {func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }, false},
		"NodePort":    {func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30001 }, false},
		"Type":        {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, false},
		"Sources":     {func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"} }, false},
		"Local":       {func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }, false},
		"HealthCheck": {func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 30002 }, false},
		"Affinity":    {func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }, false},
		"Families":    {func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }, false},
	} {
		svc := sample()
		tc.edit(svc)
		if got := Fingerprint(svc); (got == want) != tc.same {
			t.Errorf("%s: %s, want the same as %s: %v", name, got, want, tc.same)
		}
	}
	svc := sample()
	svc.Annotations = map[string]string{}
	bare := sample()
	bare.Annotations = nil
	if Fingerprint(svc) != Fingerprint(bare) {
		t.Error("no annotations and none at all differ")
	}
}
