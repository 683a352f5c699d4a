package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// patience is how long one request may take.
const patience = 30 * time.Second

// cluster is the one that a command looks at.
type cluster struct{ kubeconfig, context string }

// flags adds those that name it.
func (c *cluster) flags(set *flag.FlagSet) {
	set.StringVar(&c.kubeconfig, "kubeconfig", "", "the kubeconfig to use; empty: kubectl's own")
	set.StringVar(&c.context, "context", "", "the context of the kubeconfig; empty: the current one")
}

// loading reads the kubeconfig as kubectl does.
func (c cluster) loading() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.context})
}

// connect makes a client of the cluster.
func (c cluster) connect() (client.Client, error) {
	config, err := c.loading().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.Timeout = patience
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering kinds: %w", err)
		}
	}
	made, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return made, nil
}

// portObjects reads Services and NodePortPools. A cluster without the kind has no pools.
func portObjects(ctx context.Context, c client.Client) ([]*corev1.Service, []*v1alpha1.NodePortPool, error) {
	var services corev1.ServiceList
	if err := c.List(ctx, &services); err != nil {
		return nil, nil, fmt.Errorf("listing Services: %w", err)
	}
	var pools v1alpha1.NodePortPoolList
	if err := c.List(ctx, &pools); err != nil && !meta.IsNoMatchError(err) {
		return nil, nil, fmt.Errorf("listing NodePortPools: %w", err)
	}
	return pointers(services.Items), pointers(pools.Items), nil
}

func pointers[T any](items []T) []*T {
	all := make([]*T, len(items))
	for i := range items {
		all[i] = &items[i]
	}
	return all
}
