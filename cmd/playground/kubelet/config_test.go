package kubelet

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var complete = Options{
	Name: "n1", Labels: map[string]string{"b": "2", "a": "1"}, NodeIPs: []string{"172.30.0.11", "fd00:172:30::11"},
	ConfigFile: "/run/c", Kubeconfig: "/run/k", Socket: "/run/s", Root: "/run/n1", ClientCAFile: "/run/ca",
	ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local",
}

func TestFlags(t *testing.T) {
	want := []string{"--config=/run/c", "--kubeconfig=/run/k", "--hostname-override=n1", "--root-dir=/run/n1/kubelet", "--cert-dir=/run/n1/pki",
		"--node-ip=172.30.0.11,fd00:172:30::11", "--node-labels=a=1,b=2"}
	if diff := cmp.Diff(want, Flags(complete)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfig(t *testing.T) {
	data, err := Config(complete)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		ContainerRuntimeEndpoint, PodLogsDir, ClusterDomain string
		ClusterDNS                                          []string
		Authentication                                      struct {
			Anonymous struct{ Enabled bool }
			X509      struct{ ClientCAFile string }
		}
	}
	if err := yaml.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.ContainerRuntimeEndpoint != "unix:///run/s" || got.PodLogsDir != "/run/n1/pods" || got.ClusterDNS[0] != "10.96.0.10" ||
		got.Authentication.Anonymous.Enabled || got.Authentication.X509.ClientCAFile != "/run/ca" {
		t.Errorf("got %+v", got)
	}
	again, err := Config(complete)
	if err != nil || string(again) != string(data) {
		t.Errorf("a second time it is different: %v", err)
	}
}

func TestConfigNamesWhatIsMissing(t *testing.T) {
	_, err := Config(Options{Root: "relative"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"name", "Socket", "Root", "ClientCAFile"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}
