package cloud

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Config is what a provider is started with.
type Config struct {
	// ClusterID is part of every owner's mark.
	ClusterID string
	// File is the content of the provider's own configuration file; nil means none was given.
	File []byte
	// Endpoint replaces the address of the cloud's API; empty means the provider's own.
	Endpoint string
}

// Factory makes a provider. Its error says what in the Config to change.
type Factory func(Config) (Provider, error)

var (
	registryMu sync.Mutex
	registry   = map[string]Factory{}
)

// Register makes a provider known by name, from the init function of its package. The name is that of spec.provider in
// a LoadBalancerClass. It panics if the name is taken, since two packages of one program then disagree.
func Register(name string, factory Factory) {
	registryMu.Lock()
	defer registryMu.Unlock()
	if _, taken := registry[name]; taken {
		panic(fmt.Sprintf("cloud: provider %q is registered twice", name))
	}
	registry[name] = factory
}

// Names returns the names of the registered providers, sorted.
func Names() []string {
	registryMu.Lock()
	defer registryMu.Unlock()
	return slices.Sorted(maps.Keys(registry))
}

// New starts the provider of that name. An unknown name is an error that lists the known ones.
func New(name string, config Config) (Provider, error) {
	registryMu.Lock()
	factory, ok := registry[name]
	registryMu.Unlock()
	if !ok {
		return nil, fmt.Errorf("no provider is called %q: choose one of %s", name, strings.Join(Names(), ", "))
	}
	provider, err := factory(config)
	if err != nil {
		return nil, fmt.Errorf("starting provider %q: %w", name, err)
	}
	return provider, nil
}
