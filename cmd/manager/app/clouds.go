package app

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake" // registers itself, as every cloud that is imported here does
	"github.com/fairlead/fairlead/cloud/plugin"
	"github.com/fairlead/fairlead/controllers/loadbalancer"
)

// checkCloud refuses a provider that is neither linked into this program nor a plugin, and a plugin that has the name of
// one that is linked.
func checkCloud(c configv1alpha1.Cloud) error {
	names := cloud.Names()
	var mistakes []error
	for i, p := range c.Plugins {
		if slices.Contains(cloud.Names(), p.Name) {
			mistakes = append(mistakes, fmt.Errorf("cloud.plugins[%d].name: %q is a provider of the manager itself: choose another name", i, p.Name))
		}
		names = append(names, p.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Sorted(maps.Keys(c.Limits)) {
		if !slices.Contains(names, name) {
			mistakes = append(mistakes, fmt.Errorf("cloud.limits: no provider is called %q: choose from %s", name, strings.Join(names, ", ")))
		}
	}
	if c.Provider != "" && !slices.Contains(names, c.Provider) {
		mistakes = append(mistakes, fmt.Errorf("cloud.provider: no provider is called %q: choose from %s", c.Provider, strings.Join(names, ", ")))
	}
	return errors.Join(mistakes...)
}

// cloudProviders are those that are linked into this program and those of plugins. Opaque ones keep in memory what they
// were told.
func cloudProviders(c *configv1alpha1.ManagerConfiguration, memory cloud.Memory) (*cloud.Providers, error) {
	plugins := map[string]cloud.Factory{}
	for _, p := range c.Cloud.Plugins {
		plugins[p.Name] = plugin.Factory(plugin.Options{Name: p.Name, Socket: p.Socket, Timeout: p.Timeout.Duration})
	}
	providers := cloud.NewProviders(func(name string) (cloud.Config, error) {
		config, err := cloudConfig(name, c)
		config.Memory = memory
		return config, err
	}, plugins)
	providers.Meter = loadbalancer.Meter
	if c.Cloud.Provider == "" {
		return providers, nil
	}
	// What is wrong with its configuration shows now, not in the status of the first Service. A plugin may come later.
	if _, err := providers.Get(c.Cloud.Provider); err != nil && !cloud.IsClass(err, cloud.RetryAfter) {
		return nil, err
	}
	return providers, nil
}

// cloudConfig is what the provider of that name is started with. The file is that of the configured provider: others
// that classes may name make do without one.
func cloudConfig(name string, c *configv1alpha1.ManagerConfiguration) (cloud.Config, error) {
	limits := c.Cloud.Limits[name]
	config := cloud.Config{ClusterID: c.ClusterID,
		Limits: cloud.LimitOverrides{Reads: callLimit(limits.Reads), Writes: callLimit(limits.Writes)}}
	if name == fake.Name && c.Cloud.Fake != nil {
		config.Endpoint = c.Cloud.Fake.Endpoint
	}
	if name == c.Cloud.Provider && c.Cloud.ConfigFile != "" {
		content, err := os.ReadFile(c.Cloud.ConfigFile)
		if err != nil {
			return cloud.Config{}, fmt.Errorf("cloud.configFile: %w", err)
		}
		config.File = content
	}
	return config, nil
}

// callLimit is the limit as the core takes it, to whom zero means none.
func callLimit(l *configv1alpha1.CallLimit) *cloud.Limit {
	if l == nil {
		return nil
	}
	return &cloud.Limit{PerSecond: max(0, l.PerSecond), Burst: int(l.Burst)}
}
