package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// configuration writes a manager's configuration file.
//
// A leader keeps its lease on a machine that stands still for a while: where one is killed, expire has the lease run out.
func configuration(t *testing.T, body string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manager.yaml")
	text := "apiVersion: config.fairlead.dev/v1alpha1\nkind: ManagerConfiguration\n" +
		"leaderElection: {leaseDuration: 240s, renewDeadline: 180s, retryPeriod: 500ms}\n" + body + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// testEndpointSelector: the manager as it is installed has the rights to judge an EndpointSelector, with a secondary
// network that its configuration allows. What it judges is tested beside the code.
func testEndpointSelector(t *testing.T) {
	es := &fairleadv1alpha1.EndpointSelector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "lonely"},
		Spec: fairleadv1alpha1.EndpointSelectorSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "lonely"}},
			Fairlead: fairleadv1alpha1.EndpointSelectorExtension{ServiceName: "lonely", Network: "fast"},
		},
	}
	if err := suite.admin.Create(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = suite.admin.Delete(context.Background(), es) })
	eventually(t, waitFor, "a condition that says there is no such Service", func() error {
		if err := suite.admin.Get(t.Context(), client.ObjectKeyFromObject(es), es); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(es.Status.Conditions, fairleadv1alpha1.ConditionAccepted); c == nil || c.Reason != fairleadv1alpha1.ReasonServiceNotFound {
			return fmt.Errorf("condition %+v", c)
		}
		return nil
	})
}
