package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// platform is a cloud that has load balancers and nothing else.
type platform struct{ balancer *balancer }

var _ cloudprovider.Interface = (*platform)(nil)

func (p *platform) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}
func (p *platform) LoadBalancer() (cloudprovider.LoadBalancer, bool)                  { return p.balancer, true }
func (p *platform) Instances() (cloudprovider.Instances, bool)                        { return nil, false }
func (p *platform) InstancesV2() (cloudprovider.InstancesV2, bool)                    { return nil, false }
func (p *platform) Zones() (cloudprovider.Zones, bool)                                { return nil, false }
func (p *platform) Clusters() (cloudprovider.Clusters, bool)                          { return nil, false }
func (p *platform) Routes() (cloudprovider.Routes, bool)                              { return nil, false }
func (p *platform) ProviderName() string                                              { return "fake" }
func (p *platform) HasClusterID() bool                                                { return true }

// balancer is a load balancer of the fake cloud as a cloud.Provider makes it, in the form in which the service controller
// wants it: the same resources, by the same calls, within the same limits as with our own controller. A method calls no
// more than it has to: it looks, does what differs, and looks again only for an address that it has to return.
type balancer struct {
	provider  cloud.Provider
	clusterID string
}

var _ cloudprovider.LoadBalancer = (*balancer)(nil)

// newBalancer puts a provider behind the limits of the account. Whoever the limits hold up waits, as ours does.
func newBalancer(p cloud.Provider, limits cloud.Limits, clusterID string) *balancer {
	return &balancer{provider: cloud.Limited(p, limits), clusterID: clusterID}
}

// GetLoadBalancerName implements cloudprovider.LoadBalancer.
func (b *balancer) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return cloudprovider.DefaultLoadBalancerName(svc)
}

// GetLoadBalancer implements cloudprovider.LoadBalancer.
func (b *balancer) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	observed, err := b.provider.Observe(ctx, cloud.OwnerOf(b.clusterID, svc))
	if err != nil {
		return nil, false, b.retryable(err)
	}
	return status(observed), len(observed) > 0, nil
}

// EnsureLoadBalancer implements cloudprovider.LoadBalancer.
func (b *balancer) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, nodes []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	owner, desired, options, err := b.wanted(svc, nodes)
	if err != nil {
		return nil, err
	}
	out, err := cloud.Converge(ctx, b.provider, owner, desired, options)
	switch {
	case err != nil:
		return nil, b.retryable(err)
	case !out.Left.Empty():
		return nil, api.NewRetryError("the cloud is still at it", time.Second)
	}
	return status(out.Observed), nil
}

// UpdateLoadBalancer implements cloudprovider.LoadBalancer.
func (b *balancer) UpdateLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, nodes []*corev1.Node) error {
	owner, desired, options, err := b.wanted(svc, nodes)
	if err != nil {
		return err
	}
	options.TargetsOnly = true
	return b.apply(ctx, owner, desired, options)
}

// EnsureLoadBalancerDeleted implements cloudprovider.LoadBalancer.
func (b *balancer) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	return b.apply(ctx, cloud.OwnerOf(b.clusterID, svc), nil, cloud.Options{})
}

func (b *balancer) wanted(svc *corev1.Service, nodes []*corev1.Node) (cloud.Owner, []cloud.Resource, cloud.Options, error) {
	spec, options, err := cloud.BuildSpec(cloud.Input{ClusterID: b.clusterID, Service: svc, Nodes: nodes, Capabilities: b.provider.Capabilities()})
	options.Adopt = v1alpha1.AdoptNone // upstream looks for none of others
	if err != nil {
		return spec.Owner, nil, options, fmt.Errorf("reading the Service: %w", err)
	}
	desired, err := b.provider.Desired(spec)
	if err != nil {
		return spec.Owner, nil, options, fmt.Errorf("reading the Service's annotations: %w", err)
	}
	return spec.Owner, desired, options, nil
}

// apply looks and does what differs.
func (b *balancer) apply(ctx context.Context, owner cloud.Owner, desired []cloud.Resource, options cloud.Options) error {
	observed, err := b.provider.Observe(ctx, owner)
	if err != nil {
		return b.retryable(err)
	}
	out, err := cloud.Compare(owner, desired, observed, options)
	if err != nil {
		return err
	}
	if _, err := cloud.Apply(ctx, b.provider, owner, out.Left); err != nil {
		return b.retryable(err)
	}
	return nil
}

// retryable tells the service controller when to try again, where that is known.
func (b *balancer) retryable(err error) error {
	if e := b.provider.Classify(err); e.After > 0 {
		return api.NewRetryError(err.Error(), e.After)
	}
	return err
}

func status(observed []cloud.Resource) *corev1.LoadBalancerStatus {
	s := &corev1.LoadBalancerStatus{}
	for _, in := range cloud.Ingresses(observed) {
		ingress := corev1.LoadBalancerIngress{IP: in.IP, Hostname: in.Hostname}
		if in.IPMode != "" {
			mode := corev1.LoadBalancerIPMode(in.IPMode)
			ingress.IPMode = &mode
		}
		s.Ingress = append(s.Ingress, ingress)
	}
	return s
}
