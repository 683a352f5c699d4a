package cloud

import (
	"errors"
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
	// Limits of the account. The core keeps to them, a provider has nothing to do with them.
	Limits LimitOverrides
	// Memory is where an Opaque provider keeps what it was last told; nil: nowhere, and it is told all of it once after a
	// start.
	Memory Memory
}

// flat is an error on a single line, since its text goes into conditions: a factory's can be of several, from errors.Join.
type flat struct{ error }

func (f flat) Error() string {
	return strings.Join(strings.FieldsFunc(f.error.Error(), isLineBreak), "; ")
}

func (f flat) Unwrap() error { return f.error }

func isLineBreak(r rune) bool { return r == '\n' || r == '\r' }

// ErrNoProvider is in the chain of the error for the name of a provider that there is not.
var ErrNoProvider = errors.New("no provider has this name")

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

// Providers starts each provider when it is first asked for, once, since a class may name one that the manager's
// configuration does not. For several goroutines: the start of one, which may take its time, does not hold up the others.
type Providers struct {
	// Meter makes what is told of a provider's calls. Nil: nobody is told. To be set before the first Get.
	Meter func(provider string) Meter

	config    func(name string) (Config, error)
	factories map[string]Factory

	mu      sync.Mutex
	started map[string]*started
}

// started is a provider, or the place for it.
type started struct {
	mu       sync.Mutex
	provider Provider       // nil: not yet
	own      LimitOverrides // as configured
	limits   Limits
	limited  Provider
}

// NewProviders makes a set of the registered providers, none of them started, and of others. config says what the
// provider of that name is started with.
func NewProviders(config func(name string) (Config, error), others map[string]Factory) *Providers {
	registryMu.Lock()
	defer registryMu.Unlock()
	factories := maps.Clone(registry)
	maps.Copy(factories, others)
	return &Providers{config: config, factories: factories, started: map[string]*started{}}
}

// Get returns the provider of that name, within its limits (see Limited). A failed start is tried again by the next call;
// its error is of the class that the provider's factory gave it. An unknown name is an ErrNoProvider that lists the known ones.
func (p *Providers) Get(name string) (Provider, error) {
	factory, ok := p.factories[name]
	if !ok {
		return nil, fmt.Errorf("provider %q: %w: choose one of %s", name, ErrNoProvider,
			strings.Join(slices.Sorted(maps.Keys(p.factories)), ", "))
	}
	p.mu.Lock()
	s := p.started[name]
	if s == nil {
		s = &started{}
		p.started[name] = s
	}
	p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider == nil {
		config, err := p.config(name)
		if err != nil {
			return nil, fmt.Errorf("configuring provider %q: %w", name, err)
		}
		s.own = config.Limits
		if s.provider, err = factory(config); err != nil {
			s.provider = nil
			return nil, fmt.Errorf("starting provider %q: %w", name, flat{err})
		}
	}
	// A plugin that was restarted may have another account.
	if limits := s.own.Over(s.provider.Capabilities().Limits); s.limited == nil || limits != s.limits {
		var meter Meter = silent{}
		if p.Meter != nil {
			meter = p.Meter(name)
		}
		s.limited, s.limits = Metered(s.provider, limits, meter), limits
	}
	return s.limited, nil
}
