package gcp_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// start starts the provider as the manager does.
func start(config cloud.Config) (cloud.Provider, error) {
	return cloud.NewProviders(func(string) (cloud.Config, error) { return config, nil }, nil).Get(gcp.Name)
}

// TestOverASocket makes and deletes a balancer by the registered provider, over HTTP.
func TestOverASocket(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	server := httptest.NewServer(c)
	defer server.Close()
	p, err := start(cloud.Config{ClusterID: "cluster-a", Endpoint: server.URL + gcptest.BasePath,
		File: []byte("project: " + gcptest.Project + "\nregion: " + gcptest.Region + "\nnodeTags: [node]\n")})
	if err != nil {
		t.Fatal(err)
	}
	spec := service(0, 2)
	out := pass(t, p, spec.Owner, spec)
	if len(cloud.Ingresses(out.Observed)) != 1 {
		t.Errorf("clients connect to %v", cloud.Ingresses(out.Observed))
	}
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestPlace: what the file leaves out is the machine's, which is asked for nothing else.
func TestPlace(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	server := httptest.NewServer(c)
	defer server.Close()
	defer gcp.SetPlace(gcptest.Project, gcptest.Region, nil)()
	p, err := start(cloud.Config{ClusterID: "cluster-a", Endpoint: server.URL + gcptest.BasePath})
	if err != nil {
		t.Fatal(err)
	}
	spec := service(0, 2)
	pass(t, p, spec.Owner, spec)
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	defer gcp.SetPlace("", "", errors.New("there is no metadata server"))()
	const place = "project: p\nregion: r1\n"
	for name, tc := range map[string]struct {
		clusterID, file, want string
	}{
		"UnknownField": {"cluster-a", place + "colour: red\n", "colour"},
		"NotYAML":      {"cluster-a", "[global]\nproject-id = p\n", "configuration file of gcp"},
		"NoPlace":      {"cluster-a", "project: p\n", "set both in the provider's configuration file"},
		"ClusterID":    {"Cluster.A", place, "has to fit in a label"},
		"Region":       {"cluster-a", "project: p\nregion: R\n", `region: "R"`},
		"Tag":          {"cluster-a", place + "nodeTags: [a_b]\n", `nodeTags: "a_b"`},
		"Firewalls":    {"cluster-a", place + "firewalls: Some\n", `firewalls: "Some"`},
		"Endpoint":     {"cluster-a", place + "endpoint: ftp://x\n", "endpoint:"},
	} {
		if _, err := start(cloud.Config{ClusterID: tc.clusterID, File: []byte(tc.file)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the error is %v, want one with %q", name, err, tc.want)
		}
	}
}

// TestWithoutFirewalls: where others keep the firewall, source ranges are not promised, and no rule is looked at.
func TestWithoutFirewalls(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.Deny("compute.firewalls.list", "compute.firewalls.create", "compute.firewalls.get", "compute.firewalls.delete", "compute.firewalls.update")
	config := gcptest.Config()
	config.Firewalls = "None"
	p, err := gcp.NewProvider(t.Context(), config, c.Client())
	if err != nil {
		t.Fatal(err)
	}
	if p.Capabilities().SourceRanges {
		t.Error("it promises to enforce source ranges")
	}
	spec := service(0, 2)
	pass(t, p, spec.Owner, spec)
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
