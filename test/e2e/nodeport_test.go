//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cmd/playground/network"
)

// TestNodePortClash: a program listens on a node where a Service has its node port. The agent there finds it, the manager says
// it on the Service, and takes it back when the program is gone.
func TestNodePortClash(t *testing.T) {
	ns := namespace(t)
	web := exposed(t, ns, "web")
	port := web.Spec.Ports[0].NodePort
	var program net.Listener
	err := network.Enter(nodeNS("n2"), func() (err error) {
		program, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", fmt.Sprint("0.0.0.0:", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	// An agent looks when node ports change, and once a minute.
	exposed(t, ns, "change")
	becomes := func(status metav1.ConditionStatus, says string) {
		t.Helper()
		eventually(t, "NodePortsClear "+string(status), func() error {
			svc := service(t, ns, "web")
			c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePortsClear)
			if c == nil || c.Status != status || !strings.Contains(c.Message, says) {
				return fmt.Errorf("it is %+v", c)
			}
			return nil
		})
	}
	becomes(metav1.ConditionFalse, fmt.Sprintf("%d/TCP on node n2 (", port))
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	exposed(t, ns, "another")
	becomes(metav1.ConditionTrue, "")
}

// exposed makes a Service of type NodePort without endpoints.
func exposed(t *testing.T, ns, name string) *corev1.Service {
	t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}
	if err := cluster.Create(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	return svc
}

// TestNodePortPool: the API server of the playground asks the manager.
func TestNodePortPool(t *testing.T) {
	ns := namespace(t)
	pool := &v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "e2e"}, Spec: v1alpha1.NodePortPoolSpec{
		Ranges:            []v1alpha1.PortRange{{First: 31900, Last: 31909}},
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: ns}}}}
	if err := cluster.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Delete(context.Background(), pool); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "a port of the pool", func() error {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}
		if err := cluster.Create(t.Context(), svc, client.DryRunAll); err != nil {
			return err
		}
		if port := svc.Spec.Ports[0].NodePort; port < 31900 || port > 31909 {
			return fmt.Errorf("it is %d", port)
		}
		return nil
	})
}
