//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestPacketsEndpointSelector: an EndpointSelector with expressions over two Deployments serves a Service without a
// selector; the Pods that stand by get no connection, take over when no active one is left, and give way again.
func TestPacketsEndpointSelector(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "endpointselector-standby.yaml")
	svc := ready(t, ns, "shop", 3)
	active := map[string]bool{}
	for _, p := range pods(t, ns, "app", "shop-active") {
		active[p.Name] = true
	}
	to := addrPort(t, svc.Spec.ClusterIP, 80)
	counts := even(t, nodeNS("n1"), to, 3000, 3)
	for pod := range counts {
		if !active[pod] {
			t.Errorf("%s answers, which stands by", pod)
		}
	}
	status(t, ns, "active", 4, 3)

	if _, err := kubectl("scale", "-n", ns, "deployment", "shop-active", "--replicas=0"); err != nil {
		t.Fatal(err)
	}
	status(t, ns, "standby", 1, 1) // Once those that were deleted are gone.
	eventually(t, "answers from the standby", func() error {
		a, err := get(nodeNS("n1"), to)
		if err != nil {
			return err
		}
		if active[a.Pod] || a.Port != 8080 { // Its named port is another.
			return fmt.Errorf("%s answered on port %d", a.Pod, a.Port)
		}
		return nil
	})

	if _, err := kubectl("scale", "-n", ns, "deployment", "shop-active", "--replicas=1"); err != nil {
		t.Fatal(err)
	}
	status(t, ns, "active", 2, 1)
	eventually(t, "answers from the active group", func() error {
		a, err := get(nodeNS("n1"), to)
		if err == nil && a.Port != 80 {
			err = errors.New("the standby still answers")
		}
		return err
	})
	out, err := kubectl("get", "-n", ns, "endpointselectors")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kubectl get endpointselectors:\n%s", out)
}

// status waits until EndpointSelector shop is programmed with this active group and these numbers.
func status(t *testing.T, ns, group string, pods, ready int32) {
	t.Helper()
	eventually(t, "group "+group+" active", func() error {
		es := &v1alpha1.EndpointSelector{}
		if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "shop"}, es); err != nil {
			return err
		}
		s := &es.Status
		if s.ActiveGroup != group || s.Pods == nil || *s.Pods != pods || s.ReadyEndpoints == nil || *s.ReadyEndpoints != ready ||
			!meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionProgrammed) {
			return fmt.Errorf("status is group %q and conditions %v", s.ActiveGroup, s.Conditions)
		}
		return nil
	})
}
