package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/cloud"
)

// TestTrimNode: what is left of a Node tells balancers and endpoints the same as the whole of it.
func TestTrimNode(t *testing.T) {
	whole := func(change func(*corev1.Node)) *corev1.Node {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u", ResourceVersion: "7",
				Labels:        map[string]string{corev1.LabelTopologyZone: "zone-a"},
				Annotations:   map[string]string{"a": "long"},
				ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}},
			Spec: corev1.NodeSpec{ProviderID: "fake://n1", PodCIDR: "10.244.0.0/24"},
			Status: corev1.NodeStatus{
				Addresses:   []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.30.0.11"}},
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Message: "fine"}},
				Images:      []corev1.ContainerImage{{Names: []string{"an image"}}},
			},
		}
		change(node)
		return node
	}
	cases := map[string]func(*corev1.Node){
		"AsItIs":   func(*corev1.Node) {},
		"Excluded": func(n *corev1.Node) { n.Labels[corev1.LabelNodeExcludeBalancers] = "" },
		"Leaving": func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: cloud.TaintToBeDeleted, Effect: corev1.TaintEffectNoSchedule}}
		},
		"Deleted": func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			node := whole(change)
			before := node.DeepCopy()
			got, err := trimNode(node)
			if err != nil {
				t.Fatal(err)
			}
			small := got.(*corev1.Node)
			plain := cmpopts.IgnoreFields(cloud.Node{}, "Object")
			if diff := cmp.Diff(cloud.EligibleNodes([]*corev1.Node{before}), cloud.EligibleNodes([]*corev1.Node{small}), plain); diff != "" {
				t.Errorf("balancers see another node (-whole +trimmed):\n%s", diff)
			}
			if diff := cmp.Diff(before.Labels, small.Labels); diff != "" {
				t.Errorf("labels (-whole +trimmed):\n%s", diff)
			}
			if small.UID != before.UID || small.ResourceVersion != before.ResourceVersion {
				t.Errorf("identity was lost: %+v", small.ObjectMeta)
			}
			if len(small.Status.Images)+len(small.ManagedFields)+len(small.Annotations) > 0 {
				t.Errorf("ballast was kept: %+v", small)
			}
		})
	}
	if got, err := trimNode("not a node"); got != "not a node" || err != nil {
		t.Errorf("anything else must pass: %v, %v", got, err)
	}
}
