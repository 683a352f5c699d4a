package app

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/controllers/endpoints"
	"github.com/fairlead/fairlead/controllers/endpointslice"
	"github.com/fairlead/fairlead/controllers/loadbalancer"
	"github.com/fairlead/fairlead/controllers/mirroring"
	"github.com/fairlead/fairlead/controllers/nodeport"
	"github.com/fairlead/fairlead/controllers/selection"
	"github.com/fairlead/fairlead/controllers/topology"
	"github.com/fairlead/fairlead/portalloc"
)

// reconciler is what every package under controllers/ exports.
type reconciler interface {
	SetupWithManager(mgr ctrl.Manager) error
}

// wiring is what controllers are made from: the configuration, and what they share.
type wiring struct {
	*configv1alpha1.ManagerConfiguration
	// selection says which Pods each Service has.
	selection *selection.Tracker
	// topology is the controller of that name, of which endpointslice asks what zones can take. Nil: it is turned off.
	topology *topology.Reconciler
	// memory is where Opaque providers keep what they were told.
	memory cloud.Memory
	// hooks is the server of webhooks. Not nil where nodeport runs.
	hooks *hooks
}

func (c wiring) coexist() bool { return c.Mode == configv1alpha1.ModeCoexist }

// constructors makes each controller. Its keys are the names of --controllers.
var constructors = map[string]func(wiring) (reconciler, error){
	configv1alpha1.ControllerEndpoints: func(c wiring) (reconciler, error) {
		return &endpoints.Reconciler{
			Coexist:       c.coexist(),
			MaxBatchDelay: batchDelay(c.Endpoints.MaxBatchDelay),
			Concurrency:   int(*c.Endpoints.ConcurrentSyncs),
			Tracker:       c.selection,
		}, nil
	},
	configv1alpha1.ControllerEndpointSlice: func(c wiring) (reconciler, error) {
		allowed, err := prefixes(c.EndpointSelector.AllowedCIDRs)
		if err != nil {
			return nil, fmt.Errorf("endpointSelector.allowedCIDRs: %w", err)
		}
		r := &endpointslice.Reconciler{
			Coexist:              c.coexist(),
			AllowedCIDRs:         allowed,
			MaxEndpointsPerSlice: int(*c.EndpointSlice.MaxEndpointsPerSlice),
			MaxBatchDelay:        batchDelay(c.EndpointSlice.MaxBatchDelay),
			Concurrency:          int(*c.EndpointSlice.ConcurrentSyncs),
			Tracker:              c.selection,
		}
		if c.topology != nil {
			r.Topology = c.topology
		}
		return r, nil
	},
	configv1alpha1.ControllerLoadBalancer: func(c wiring) (reconciler, error) {
		providers, err := cloudProviders(c.ManagerConfiguration, c.memory)
		if err != nil {
			return nil, err
		}
		return &loadbalancer.Reconciler{
			Providers:       providers,
			ClusterID:       c.ClusterID,
			DefaultProvider: c.Cloud.Provider,
			Coexist:         c.coexist(),
			InjectGates:     true,
		}, nil
	},
	configv1alpha1.ControllerMirroring: func(c wiring) (reconciler, error) {
		running, _ := configv1alpha1.SelectControllers(c.Controllers)
		return &mirroring.Reconciler{
			Coexist:       c.coexist(),
			WithEndpoints: slices.Contains(running, configv1alpha1.ControllerEndpoints),
		}, nil
	},
	configv1alpha1.ControllerNodePort: func(c wiring) (reconciler, error) {
		ports, err := portalloc.ParseRange(c.NodePortRange)
		if err != nil {
			return nil, fmt.Errorf("nodePortRange: %w", err)
		}
		return &nodeport.Reconciler{
			Range:                ports,
			Coexist:              c.coexist(),
			WebhookConfiguration: configv1alpha1.WebhookConfigurationName,
			Reports: nodeport.Reports{
				Port:     uint16(c.NodeReports.Port),
				Interval: c.NodeReports.Interval.Duration,
				Identity: c.hooks.keeper.GetClientCertificate,
			},
		}, nil
	},
	configv1alpha1.ControllerTopology: func(c wiring) (reconciler, error) { return c.topology, nil },
}

// needCustomResources tells whether one of the controllers reads our own kinds.
func needCustomResources(names []string) bool {
	return slices.Contains(names, configv1alpha1.ControllerEndpointSlice) ||
		slices.Contains(names, configv1alpha1.ControllerLoadBalancer) || slices.Contains(names, configv1alpha1.ControllerNodePort)
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		all = append(all, prefix)
	}
	return all, nil
}

// batchDelay is the delay as reconcilers take it, to whom zero means their default and less than zero none.
func batchDelay(d *metav1.Duration) time.Duration {
	if d.Duration == 0 {
		return -1
	}
	return d.Duration
}

// wire adds the named controllers to mgr.
func wire(mgr ctrl.Manager, configuration *configv1alpha1.ManagerConfiguration, names []string, hooks *hooks) error {
	c := wiring{ManagerConfiguration: configuration, hooks: hooks, memory: &loadbalancer.Memory{Client: mgr.GetClient()}, selection: selection.New(endpointslice.TrackerOptions(configuration.Mode == configv1alpha1.ModeCoexist))}
	if slices.Contains(names, configv1alpha1.ControllerTopology) {
		c.topology = topology.New(c.coexist())
	}
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
