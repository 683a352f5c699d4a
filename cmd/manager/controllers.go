package main

import (
	"fmt"
	"slices"

	ctrl "sigs.k8s.io/controller-runtime"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/controllers/endpoints"
	"github.com/fairlead/fairlead/controllers/endpointslice"
	"github.com/fairlead/fairlead/controllers/loadbalancer"
	"github.com/fairlead/fairlead/controllers/nodeport"
	"github.com/fairlead/fairlead/portalloc"
)

// reconciler is what every package under controllers/ exports.
type reconciler interface {
	SetupWithManager(mgr ctrl.Manager) error
}

// constructors makes each controller from the configuration. Its keys are the names of --controllers.
var constructors = map[string]func(*configv1alpha1.ManagerConfiguration) (reconciler, error){
	configv1alpha1.ControllerEndpoints: func(c *configv1alpha1.ManagerConfiguration) (reconciler, error) {
		return &endpoints.Reconciler{Coexist: c.Mode == configv1alpha1.ModeCoexist}, nil
	},
	configv1alpha1.ControllerEndpointSlice: func(c *configv1alpha1.ManagerConfiguration) (reconciler, error) {
		return &endpointslice.Reconciler{Coexist: c.Mode == configv1alpha1.ModeCoexist}, nil
	},
	configv1alpha1.ControllerLoadBalancer: func(c *configv1alpha1.ManagerConfiguration) (reconciler, error) {
		providers := cloud.NewProviders(func(name string) (cloud.Config, error) { return cloudConfig(name, c) })
		if c.Cloud.Provider != "" {
			// What is wrong with its configuration shows now, not in the status of the first Service.
			if _, err := providers.Get(c.Cloud.Provider); err != nil {
				return nil, err
			}
		}
		return &loadbalancer.Reconciler{
			Providers:       providers,
			ClusterID:       c.ClusterID,
			DefaultProvider: c.Cloud.Provider,
			Coexist:         c.Mode == configv1alpha1.ModeCoexist,
		}, nil
	},
	configv1alpha1.ControllerNodePort: func(c *configv1alpha1.ManagerConfiguration) (reconciler, error) {
		ports, err := portalloc.ParseRange(c.NodePortRange)
		if err != nil {
			return nil, fmt.Errorf("nodePortRange: %w", err)
		}
		return &nodeport.Reconciler{
			Range:   ports,
			Coexist: c.Mode == configv1alpha1.ModeCoexist,
		}, nil
	},
}

// needCustomResources tells whether one of the controllers reads our own kinds.
func needCustomResources(names []string) bool {
	return slices.Contains(names, configv1alpha1.ControllerLoadBalancer) || slices.Contains(names, configv1alpha1.ControllerNodePort)
}

// wire adds the named controllers to mgr.
func wire(mgr ctrl.Manager, c *configv1alpha1.ManagerConfiguration, names []string) error {
	for _, name := range names {
		r, err := constructors[name](c)
		if err != nil {
			return fmt.Errorf("preparing the controller %s: %w", name, err)
		}
		if err := r.SetupWithManager(mgr); err != nil {
			return fmt.Errorf("setting up the controller %s: %w", name, err)
		}
	}
	return nil
}
