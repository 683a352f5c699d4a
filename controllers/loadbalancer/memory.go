package loadbalancer

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// Memory keeps what Opaque providers were last told on the Services' records, as an annotation: it is nothing that people
// read, and no part of what the status says.
type Memory struct {
	// Client reads from the manager's cache. What is read there was written by a process before this one, or is not asked
	// for: providers remember by themselves what they wrote.
	Client client.Client
}

var _ cloud.Memory = (*Memory)(nil)

// Recall implements cloud.Memory.
func (m *Memory) Recall(ctx context.Context, owner cloud.Owner) (string, error) {
	var record v1alpha1.LoadBalancerRecord
	err := m.Client.Get(ctx, types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}, &record)
	if client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("reading the LoadBalancerRecord: %w", err)
	}
	return record.Annotations[v1alpha1.AnnotationTold], nil
}

// Keep implements cloud.Memory.
func (m *Memory) Keep(ctx context.Context, owner cloud.Owner, text string) error {
	var value any // null removes the annotation
	if text != "" {
		value = text
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationTold: value}}})
	if err != nil {
		return fmt.Errorf("writing what the provider was told: %w", err)
	}
	record := &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace, Name: owner.Name}}
	err = m.Client.Patch(ctx, record, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(FieldManager+"-memory"))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patching the LoadBalancerRecord: %w", err)
	}
	return nil
}
