package adapter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/fairlead/fairlead/cloud"
)

// Start is how a cloud provider is brought up: what is done for it before it gets its first Service.
type Start struct {
	// Open makes the provider from the content of its configuration file; the reader is nil where there is none.
	Open cloudprovider.Factory
	// RESTConfig is for the client that the provider asks for; nil: that of the Pod's service account, or else of the
	// KUBECONFIG. The provider needs rights of its own, such as to create Events.
	RESTConfig *rest.Config
	// AllowUntagged takes a provider that knows no id of its cluster (--allow-untagged-cloud): it cannot tell its balancers
	// from those of other clusters.
	AllowUntagged bool
	// Stop ends what the provider runs beside its calls; nil: never.
	Stop <-chan struct{}
}

// Registered opens the provider that an imported package registered with k8s.io/cloud-provider under that name.
func Registered(name string) Start {
	return Start{Open: func(config io.Reader) (cloudprovider.Interface, error) {
		provider, err := cloudprovider.GetCloudProvider(name, config)
		if err == nil && provider == nil {
			err = fmt.Errorf("k8s.io/cloud-provider knows no provider %q: import the package that registers it", name)
		}
		return provider, err
	}}
}

// Register makes a cloud provider known to the manager by name. See cloud.Register.
func Register(name string, start Start, o Options) {
	cloud.Register(name, func(config cloud.Config) (cloud.Provider, error) { return start.Provider(config, o) })
}

// resync is upstream's for a provider's informers.
const resync = 12 * time.Hour

// Provider opens and initializes the cloud provider as the cloud controller manager does, and adapts its balancers.
func (s Start) Provider(config cloud.Config, o Options) (*Provider, error) {
	var file io.Reader // not a nil *bytes.Reader, which providers would read
	if config.File != nil {
		file = bytes.NewReader(config.File)
	}
	provider, err := s.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening the cloud provider: %w", err)
	}
	if !provider.HasClusterID() && !s.AllowUntagged {
		return nil, errors.New("the cloud provider has no id of the cluster: set it in the provider's configuration file or by tags")
	}
	balancer, ok := provider.LoadBalancer()
	if !ok {
		return nil, fmt.Errorf("the cloud provider %q has no load balancers", provider.ProviderName())
	}
	clients := clientBuilder{s.RESTConfig}
	provider.Initialize(clients, s.Stop)
	if user, ok := provider.(cloudprovider.InformerUser); ok {
		client, err := clients.Client("shared-informers")
		if err != nil {
			return nil, err
		}
		factory := informers.NewSharedInformerFactory(client, resync)
		user.SetInformers(factory)
		factory.Start(s.Stop)
	}
	return New(balancer, config.Memory, o), nil
}

// clientBuilder gives a provider its clients.
type clientBuilder struct{ config *rest.Config }

var _ cloudprovider.ControllerClientBuilder = clientBuilder{}

// Config implements cloudprovider.ControllerClientBuilder.
func (b clientBuilder) Config(name string) (*rest.Config, error) {
	config := b.config
	if config == nil {
		var err error
		config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("configuring the client of the cloud provider: %w", err)
		}
	}
	return rest.AddUserAgent(rest.CopyConfig(config), name), nil
}

// Client implements cloudprovider.ControllerClientBuilder.
func (b clientBuilder) Client(name string) (kubernetes.Interface, error) {
	config, err := b.Config(name)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making the client of the cloud provider: %w", err)
	}
	return client, nil
}

// ConfigOrDie implements cloudprovider.ControllerClientBuilder. It panics where Config has an error.
func (b clientBuilder) ConfigOrDie(name string) *rest.Config {
	config, err := b.Config(name)
	if err != nil {
		panic(err)
	}
	return config
}

// ClientOrDie implements cloudprovider.ControllerClientBuilder. It panics where Client has an error.
func (b clientBuilder) ClientOrDie(name string) kubernetes.Interface {
	client, err := b.Client(name)
	if err != nil {
		panic(err)
	}
	return client
}
