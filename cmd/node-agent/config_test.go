package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
)

const header = "apiVersion: config.fairlead.dev/v1alpha1\nkind: NodeAgentConfiguration\n"

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigurationErrors(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string // all must be named
	}{
		"UnknownField":   {header + "nodePortAdresses: [all]\n", []string{`"nodePortAdresses"`}},
		"UnknownNested":  {header + "localDetection: {clusterCIDR: 10.0.0.0/8}\n", []string{`"localDetection.clusterCIDR"`}},
		"FieldTwice":     {header + "mode: Replace\nmode: Coexist\n", []string{`"mode"`}},
		"NotYAML":        {header + "mode: [\n", []string{"yaml"}},
		"Empty":          {"", []string{"apiVersion", "config.fairlead.dev/v1alpha1"}},
		"OtherKind":      {strings.Replace(header, "NodeAgent", "Manager", 1), []string{`"ManagerConfiguration"`}},
		"Mode":           {header + "mode: replace\n", []string{`"replace"`, "Replace or Coexist"}},
		"NodePorts":      {header + "nodePortAddresses: [everywhere, 10.0.0.0/8]\n", []string{"nodePortAddresses", `"everywhere"`, "primary"}},
		"ClusterCIDRs":   {header + "localDetection: {clusterCIDRs: [10.0.0.0/99]}\n", []string{"clusterCIDRs", `"10.0.0.0/99"`}},
		"TwoDetections":  {header + "localDetection: {clusterCIDRs: [10.0.0.0/8], nodeCIDR: true}\n", []string{"set one of"}},
		"Interface":      {header + "localDetection: {interfacePrefixes: [\"veth*\"]}\n", []string{"interfacePrefixes", `"veth*"`}},
		"Durations":      {header + "minSyncPeriod: -1s\nsyncPeriod: 1ms\n", []string{"minSyncPeriod is -1s", "syncPeriod is 1ms"}},
		"DurationAsText": {header + "syncPeriod: soon\n", []string{"soon"}},
		"Address":        {header + "healthzBindAddress: localhost\nmetricsBindAddress: 127.0.0.1:99999\n", []string{"healthzBindAddress", `"localhost"`, "metricsBindAddress"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, tc.text)
			_, err := loadConfiguration(path)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(tc.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %s", oneLine(err), want)
				}
			}
		})
	}
}

func TestConfigurationDefaults(t *testing.T) {
	for name, path := range map[string]string{"NoFile": "", "HeaderOnly": write(t, header)} {
		t.Run(name, func(t *testing.T) {
			c, err := loadConfiguration(path)
			if err != nil {
				t.Fatal(err)
			}
			got := []any{c.Mode, c.MinSyncPeriod.Duration, c.SyncPeriod.Duration, *c.HealthzBindAddress, *c.MetricsBindAddress}
			want := []any{configv1alpha1.ModeReplace, 100 * time.Millisecond, 10 * time.Minute, ":10256", "127.0.0.1:10249"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigurationValues(t *testing.T) {
	c, err := loadConfiguration(write(t, header+`
mode: Coexist
nodePortAddresses: [primary, 192.0.2.0/24]
localDetection: {nodeCIDR: true}
masqueradeAll: true
ignoreExternalIPs: true
minSyncPeriod: 1s
healthzBindAddress: ""
`))
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.modelOptions("n1")
	if err != nil {
		t.Fatal(err)
	}
	if !o.Coexist || !o.MasqueradeAll || !o.IgnoreExternalIPs || !o.LocalDetection.NodeCIDR || o.NodeName != "n1" ||
		!o.NodePorts.Primary || len(o.NodePorts.CIDRs) != 1 || *c.HealthzBindAddress != "" || c.MinSyncPeriod.Duration != time.Second {
		t.Errorf("read as %+v and %+v", c, o)
	}
}

func TestCommandLine(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"UnknownFlag":  {[]string{"--nod-name=n1"}, "nod-name"},
		"Argument":     {[]string{"--node-name=n1", "run"}, `"run"`},
		"NoKubeconfig": {[]string{"--node-name=n1"}, "--kubeconfig"},
		"BadPath":      {[]string{"--node-name=n1", "--kubeconfig=/nonexistent/kubeconfig"}, "/nonexistent/kubeconfig"},
		"BadConfig":    {[]string{"--node-name=n1", "--config=" + write(t, header+"mod: x\n")}, `"mod"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			err := run(t.Context(), tc.args, os.Stdout)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v does not name %s", err, tc.want)
			}
			if strings.Contains(oneLine(err), "\n") {
				t.Errorf("more than one line: %q", oneLine(err))
			}
		})
	}
	var help strings.Builder
	if err := run(t.Context(), []string{"--help"}, &help); err != nil || !strings.Contains(help.String(), "-node-name") {
		t.Errorf("help: %v, %q", err, help.String())
	}
}

// TestErrorsOfClients: what never reached the API server is told elsewhere, refusals are logged.
func TestErrorsOfClients(t *testing.T) {
	var lines []string
	ctx := klog.NewContext(t.Context(), funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))
	logUnlessTold(ctx, fmt.Errorf("listing: %w", &url.Error{Op: "Get", URL: "https://127.0.0.1:1", Err: io.EOF}), "Failed to watch")
	logUnlessTold(ctx, apierrors.NewUnauthorized("no token"), "Failed to watch", "type", "Service")
	if len(lines) != 1 || !strings.Contains(lines[0], "no token") || !strings.Contains(lines[0], "Service") {
		t.Errorf("logged %q, want the refusal alone", lines)
	}
}
