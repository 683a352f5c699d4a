package gcp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/cloud"
)

// Name under which the provider is registered.
const Name = "gcp"

// Config is the provider's configuration file, in YAML. Unknown fields are refused. Credentials are those that every program of
// Google's SDK finds: the file that GOOGLE_APPLICATION_CREDENTIALS names, workload identity, or the machine's service account.
type Config struct {
	// Project and Region in which balancers are made. Omitted: those of the machine, by its metadata server.
	Project string `json:"project"`
	Region  string `json:"region"`
	// Network of the nodes. Omitted: default.
	Network string `json:"network"`
	// NetworkProject has the network, where that is another project's (shared VPC). Omitted: Project.
	NetworkProject string `json:"networkProject"`
	// Subnetwork of the nodes. Omitted: the one called as the network is, which is what networks in auto mode have.
	Subnetwork string `json:"subnetwork"`
	// NodeTags are the network tags of the nodes, to which firewall rules are limited. Omitted: all machines of the network.
	NodeTags []string `json:"nodeTags"`
	// Firewalls is Managed or None. None leaves firewall rules to others, as where the network's project grants no right to
	// make them. Omitted: Managed.
	Firewalls string `json:"firewalls"`
	// Endpoint replaces the address of the API, up to its version: http://127.0.0.1:8080/compute/v1/.
	Endpoint string `json:"endpoint"`
}

func init() { cloud.Register(Name, start) }

// place tells where the process runs. Tests have another one: nothing of theirs asks a metadata server.
var place = metadataPlace

func start(config cloud.Config) (cloud.Provider, error) {
	c, err := readConfig(config)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	if c.Project == "" || c.Region == "" {
		project, region, err := place(ctx)
		if err != nil {
			return nil, fmt.Errorf("asking the metadata server for project and region: %w: set both in the provider's configuration file", err)
		}
		c.Project, c.Region = cmp.Or(c.Project, project), cmp.Or(c.Region, region)
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	options := []option.ClientOption{option.WithScopes(compute.ComputeScope)}
	if c.Endpoint != "" && strings.HasPrefix(c.Endpoint, "http://") {
		options = []option.ClientOption{option.WithoutAuthentication()} // credentials never go over plain HTTP
	}
	transport, err := htransport.NewTransport(ctx, http.DefaultTransport, options...)
	if err != nil {
		return nil, fmt.Errorf("finding credentials of Google Cloud: %w", err)
	}
	return NewProvider(ctx, c, &http.Client{Transport: transport})
}

// readConfig reads the file. Config.Endpoint counts before the file's.
func readConfig(config cloud.Config) (Config, error) {
	var c Config
	if len(bytes.TrimSpace(config.File)) > 0 {
		if err := yaml.UnmarshalStrict(config.File, &c); err != nil {
			return c, fmt.Errorf("reading the configuration file of gcp: %w", err)
		}
	}
	c.Endpoint = cmp.Or(config.Endpoint, c.Endpoint)
	if !isLabelValue(config.ClusterID) {
		return c, fmt.Errorf("cluster id %q: it has to fit in a label: at most 63 lower-case letters, digits, dashes and underscores", config.ClusterID)
	}
	return c, nil
}

// validate fills in defaults and says everything that is wrong.
func (c *Config) validate() error {
	c.Network = cmp.Or(c.Network, "default")
	c.Subnetwork = cmp.Or(c.Subnetwork, c.Network)
	c.Firewalls = cmp.Or(c.Firewalls, "Managed")
	var errs []error
	for _, field := range []struct{ name, value string }{
		{"region", c.Region}, {"network", c.Network}, {"subnetwork", c.Subnetwork},
	} {
		if !isName(field.value) {
			errs = append(errs, fmt.Errorf("%s: %q is not the name of one", field.name, field.value))
		}
	}
	// A project's id can have the domain of an organisation before it.
	if c.Project == "" || strings.ContainsAny(c.Project, "/ ") {
		errs = append(errs, fmt.Errorf("project: %q is not the id of one", c.Project))
	}
	for _, tag := range c.NodeTags {
		if !isName(tag) {
			errs = append(errs, fmt.Errorf("nodeTags: %q is not a network tag", tag))
		}
	}
	if c.Firewalls != "Managed" && c.Firewalls != "None" {
		errs = append(errs, fmt.Errorf("firewalls: %q is not Managed or None", c.Firewalls))
	}
	if c.Endpoint != "" && !strings.HasPrefix(c.Endpoint, "https://") && !strings.HasPrefix(c.Endpoint, "http://") {
		errs = append(errs, fmt.Errorf("endpoint: %q does not begin with https:// or http://", c.Endpoint))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configuration of gcp: %w", err)
	}
	return nil
}

func (c *Config) managesFirewalls() bool { return c.Firewalls != "None" }

// firewallProject has the network, and so its firewall rules.
func (c *Config) firewallProject() string { return cmp.Or(c.NetworkProject, c.Project) }

// firewallNetwork is the link of the network.
func (c *Config) firewallNetwork() string {
	return "projects/" + c.firewallProject() + "/global/networks/" + c.Network
}

// subnetworkLink is the link of a subnetwork of the network.
func (c *Config) subnetworkLink(name string) string {
	return "projects/" + c.firewallProject() + "/regions/" + c.Region + "/subnetworks/" + name
}
