package integration

import (
	"context"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// testNodePortPool: the manager as it is installed has the rights to judge a NodePortPool. What it judges is tested
// beside the code.
func testNodePortPool(t *testing.T) {
	pool := &fairleadv1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "lonely"}, Spec: fairleadv1alpha1.NodePortPoolSpec{
		Ranges: []fairleadv1alpha1.PortRange{{First: 32760, Last: 32769}}}}
	if err := suite.admin.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = suite.admin.Delete(context.Background(), pool) })
	eventually(t, waitFor, "a condition that says what the API server does not hand out", func() error {
		if err := suite.admin.Get(t.Context(), client.ObjectKeyFromObject(pool), pool); err != nil {
			return err
		}
		c := meta.FindStatusCondition(pool.Status.Conditions, fairleadv1alpha1.ConditionAccepted)
		if c == nil || c.Reason != fairleadv1alpha1.ReasonOutsideRange || *pool.Status.Size != 8 {
			return fmt.Errorf("status %+v", pool.Status)
		}
		return nil
	})
}
