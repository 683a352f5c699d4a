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

// Providers starts each provider when it is first asked for, once, since a class may name one that the manager's
// configuration does not. For several goroutines.
type Providers struct {
	config  func(name string) (Config, error)
	mu      sync.Mutex
	started map[string]Provider
}

// NewProviders makes an empty set. config says what the provider of that name is started with.
func NewProviders(config func(name string) (Config, error)) *Providers {
	return &Providers{config: config, started: map[string]Provider{}}
}

// Get returns the provider of that name, within its limits (see Limited). A failed start is tried again by the next call.
func (p *Providers) Get(name string) (Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if provider, ok := p.started[name]; ok {
		return provider, nil
	}
	config, err := p.config(name)
	if err != nil {
		return nil, fmt.Errorf("configuring provider %q: %w", name, err)
	}
	provider, err := New(name, config)
	if err != nil {
		return nil, err
	}
	provider = Limited(provider, provider.Capabilities().Limits)
	p.started[name] = provider
	return provider, nil
}
