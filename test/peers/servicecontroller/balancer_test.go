package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

func node(name, address string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}}}
}

// TestLife takes one balancer through what the service controller does with it, and counts the calls.
func TestLife(t *testing.T) {
	reads, writes := 0, 0
	c := fake.New(fake.Options{Hook: func(call fake.Call) error {
		switch {
		case call.After:
		case call.Write():
			writes++
		default:
			reads++
		}
		return nil
	}})
	b := newBalancer(fake.NewProvider(c), cloud.Limits{}, "test")
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u-1"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}}}}
	one, two := node("n1", "172.30.0.11"), node("n2", "172.30.0.12")
	steps := []struct {
		name          string
		do            func() error
		reads, writes int
		targets       []string
	}{
		{"create", func() error {
			s, err := b.EnsureLoadBalancer(t.Context(), "test", svc, []*corev1.Node{one})
			if err == nil && (len(s.Ingress) != 1 || s.Ingress[0].IP == "") {
				t.Errorf("the address is missing: %+v", s)
			}
			return err
		}, 2, 6, []string{"172.30.0.11"}},
		{"again", func() error {
			_, err := b.EnsureLoadBalancer(t.Context(), "test", svc, []*corev1.Node{one})
			return err
		}, 1, 0, []string{"172.30.0.11"}},
		{"node", func() error {
			return b.UpdateLoadBalancer(t.Context(), "test", svc, []*corev1.Node{one, two})
		}, 1, 1, []string{"172.30.0.11", "172.30.0.12"}},
		{"delete", func() error {
			if _, exists, err := b.GetLoadBalancer(t.Context(), "test", svc); err != nil || !exists {
				t.Errorf("before the deletion: exists is %v, %v", exists, err)
			}
			return b.EnsureLoadBalancerDeleted(t.Context(), "test", svc)
		}, 2, 5, nil},
	}
	for _, step := range steps {
		reads, writes = 0, 0
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if reads != step.reads || writes != step.writes {
			t.Errorf("%s: %d reads and %d writes, want %d and %d", step.name, reads, writes, step.reads, step.writes)
		}
		var targets []string
		for _, o := range c.Objects() {
			targets = append(targets, o.Targets...)
		}
		if diff := cmp.Diff(step.targets, targets); diff != "" {
			t.Errorf("%s: targets (-want +got):\n%s", step.name, diff)
		}
	}
	if left := c.Objects(); len(left) > 0 {
		t.Errorf("the cloud still has %v", left)
	}
}
