package main

import (
	"context"
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

// loading reads the kubeconfig as kubectl does.
func loading(kubeconfig, name string) clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name})
}

// connect makes a client of the cluster that kubectl talks to.
func connect(kubeconfig, name string) (client.Client, error) {
	config, err := loading(kubeconfig, name).ClientConfig()
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
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return c, nil
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
