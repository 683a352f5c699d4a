package endpointslice

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/endpoints"
)

// observation is what one pass decides from. All of it belongs to the cache and must not be changed.
type observation struct {
	service *corev1.Service
	pods    []*corev1.Pod
	// zones has an entry for the node of every Pod.
	zones  map[string]endpoints.Zone
	slices []*discoveryv1.EndpointSlice
}

// observe reads what a pass needs from the cache. The error is NotFound where there is no such Service.
func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName, st *state) (*observation, error) {
	seen := &observation{service: &corev1.Service{}}
	if err := r.Client.Get(ctx, key, seen.service, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("getting Service: %w", err)
	}
	var err error
	if seen.slices, err = r.ourSlices(ctx, seen.service, st); err != nil {
		return nil, err
	}
	if !endpoints.Selected(seen.service) {
		return seen, nil
	}
	var pods corev1.PodList
	err = r.Client.List(ctx, &pods, client.InNamespace(key.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingLabelsSelector{Selector: labels.SelectorFromSet(seen.service.Spec.Selector)})
	if err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	seen.zones = map[string]endpoints.Zone{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		seen.pods = append(seen.pods, pod)
		if _, ok := seen.zones[pod.Spec.NodeName]; ok {
			continue
		}
		if seen.zones[pod.Spec.NodeName], err = r.zone(ctx, pod.Spec.NodeName); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// zone returns what is known of a node; a Pod without one has a missing node.
func (r *Reconciler) zone(ctx context.Context, name string) (endpoints.Zone, error) {
	if name == "" {
		return endpoints.Zone{NodeMissing: true}, nil
	}
	var node corev1.Node
	err := r.Client.Get(ctx, types.NamespacedName{Name: name}, &node, client.UnsafeDisableDeepCopy)
	switch {
	case apierrors.IsNotFound(err):
		return endpoints.Zone{NodeMissing: true}, nil
	case err != nil:
		return endpoints.Zone{}, fmt.Errorf("getting Node %s: %w", name, err)
	}
	return endpoints.Zone{Name: node.Labels[corev1.LabelTopologyZone]}, nil
}

// ourSlices returns the slices that this controller, or upstream's, wrote for a Service, those not yet in the cache
// included. It remembers them in st.
func (r *Reconciler) ourSlices(ctx context.Context, service *corev1.Service, st *state) ([]*discoveryv1.EndpointSlice, error) {
	mark := r.written.mark()
	var list discoveryv1.EndpointSliceList
	err := r.Client.List(ctx, &list, client.InNamespace(service.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingFields{indexByService: service.Name})
	if err != nil {
		return nil, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	var ours []*discoveryv1.EndpointSlice
	for i := range list.Items {
		if slice := &list.Items[i]; isOurs(service, slice, st.ours) {
			ours = append(ours, slice)
		}
	}
	ours = r.written.overlay(client.ObjectKeyFromObject(service), mark, ours)
	st.remember(ours)
	return ours, nil
}

// isOurs says whether a slice is this controller's to keep. A slice that was ours stays ours when someone changes its
// labels: it would otherwise stay behind with endpoints that nobody updates.
func isOurs(service *corev1.Service, slice *discoveryv1.EndpointSlice, known map[types.UID]struct{}) bool {
	managed := slice.Labels[discoveryv1.LabelManagedBy] == ManagedBy
	if managed && slice.Labels[discoveryv1.LabelServiceName] == service.Name {
		return true
	}
	if !endpoints.OwnedBy(slice, service) {
		return false
	}
	_, before := known[slice.UID]
	return managed || before || endpoints.HasOwnName(service, slice)
}

// exists says whether the cache has a slice of this name, whoever's it is.
func (r *Reconciler) exists(ctx context.Context, namespace, name string) bool {
	var slice discoveryv1.EndpointSlice
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &slice, client.UnsafeDisableDeepCopy)
	return err == nil
}
