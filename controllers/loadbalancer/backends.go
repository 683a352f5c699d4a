package loadbalancer

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairlead/fairlead/cloud"
)

// backends are what targets are made from: nodes, the same for all Services, or the endpoints of one that sends to Pods.
type backends struct {
	nodes     []cloud.Node
	endpoints []cloud.Endpoint
}

// of returns what the targets of a Spec are made from. The slices are kept.
func backendsOf(spec cloud.Spec) *backends {
	return &backends{nodes: spec.Nodes, endpoints: spec.Endpoints}
}

// in returns the Spec with these.
func (b *backends) in(spec cloud.Spec) cloud.Spec {
	spec.Nodes, spec.Endpoints = b.nodes, b.endpoints
	return spec
}

func (b *backends) same(other *backends) bool {
	return b == other || sameNodes(b.nodes, other.nodes) && slices.EqualFunc(b.endpoints, other.endpoints, sameEndpoint)
}

func sameEndpoint(a, b cloud.Endpoint) bool {
	return a.Address == b.Address && a.PodUID == b.PodUID && a.Zone == b.Zone && a.Node == b.Node && maps.Equal(a.Ports, b.Ports)
}

func (b *backends) count() int { return len(b.nodes) + len(b.endpoints) }

// current returns what the targets of a Service, whose entry the caller has, are to be made from now: the nodes, or its
// endpoints, which are read where they may have changed. Nil: nothing is known to have changed, or a pass will see to it.
func (r *Reconciler) current(ctx context.Context, e *entry, nodes *backends) (*backends, error) {
	if !e.spec.PodTargets {
		return nodes, nil
	}
	if !r.pods.take(e.name) {
		return nil, nil
	}
	svc := &corev1.Service{}
	if err := r.Client.Get(ctx, e.name, svc); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading the Service: %w", err)
	}
	if !samePorts(svc, e.spec.Ports) {
		return nil, nil // The Service has changed, and names other ports in its slices than the last pass knew.
	}
	published, err := r.listSlices(ctx, svc)
	if err != nil {
		return nil, err
	}
	return &backends{endpoints: cloud.EndpointsOf(e.spec.Ports, published, r.waiting(ctx, svc))}, nil
}

// samePorts reports whether a Service's ports have the names that a Spec's have.
func samePorts(svc *corev1.Service, ports []cloud.Port) bool {
	names := make(map[string]string, len(ports))
	for _, p := range ports {
		names[p.Key()] = p.Name
	}
	return len(svc.Spec.Ports) == len(ports) && !slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool {
		name, ok := names[cloud.Port{Protocol: string(p.Protocol), Port: p.Port}.Key()]
		return !ok || name != p.Name
	})
}

// wakeTargets has the targets of one Service sent.
func (r *Reconciler) wakeTargets(e *entry) {
	if e.spec.PodTargets {
		r.pods.mark(e.name)
	}
	r.wakeNodes()
}

// unavailable says what a balancer has nothing to send to.
func unavailable(podTargets bool) warning {
	if podTargets {
		return warning{EventUnavailable, messageNoPods}
	}
	return warning{EventUnavailable, messageNoNodes}
}

// updated says what a balancer sends to others of than before.
func updated(podTargets bool) string {
	if podTargets {
		return messageUpdatedPods
	}
	return messageUpdated
}
