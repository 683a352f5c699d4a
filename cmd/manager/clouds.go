package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake" // registers itself, as every cloud that is imported here does
)

// checkCloud refuses a provider that is not linked into this program.
func checkCloud(c configv1alpha1.Cloud) error {
	if c.Provider != "" && !slices.Contains(cloud.Names(), c.Provider) {
		return fmt.Errorf("cloud.provider: no provider is called %q: choose from %s", c.Provider, strings.Join(cloud.Names(), ", "))
	}
	return nil
}

// cloudConfig is what the provider of that name is started with. The file is that of the configured provider: others
// that classes may name make do without one.
func cloudConfig(name string, c *configv1alpha1.ManagerConfiguration) (cloud.Config, error) {
	config := cloud.Config{ClusterID: c.ClusterID}
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
