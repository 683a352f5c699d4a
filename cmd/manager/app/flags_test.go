package app

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const header = "apiVersion: config.fairlead.dev/v1alpha1\nkind: ManagerConfiguration\n"

func TestParse(t *testing.T) {
	file := writeFile(t, header+`
mode: Coexist
controllers: [endpoints]
leaderElection: {enabled: false}
metrics: {secure: false, bindAddress: ":1"}
clientConnection: {qps: 5}
`)
	cases := map[string]struct {
		reason string
		args   []string
		want   func(*configv1alpha1.ManagerConfiguration)
	}{
		"Nothing": {
			reason: "neither file nor flags are needed",
			want:   func(*configv1alpha1.ManagerConfiguration) {},
		},
		"FileOnly": {
			reason: "flags that were not given, bools included, change nothing",
			args:   []string{"--config", file},
			want: func(c *configv1alpha1.ManagerConfiguration) {
				c.Mode, c.Controllers = configv1alpha1.ModeCoexist, []string{"endpoints"}
				c.LeaderElection.Enabled, c.Metrics.Secure = new(false), new(false)
				c.Metrics.BindAddress = ":1"
				c.ClientConnection.QPS, c.ClientConnection.Burst = new(float32(5)), new(int32(10))
			},
		},
		"FlagsOverFile": {
			reason: "flags win, wherever --config stands among them",
			args: []string{"--controllers=*,-nodeport", "--leader-elect", "--kubeconfig=/k", "--kube-api-qps=7", "--kube-api-burst=8",
				"--config", file, "--mode=Replace", "--metrics-bind-address=:2", "--metrics-secure=true", "--health-probe-bind-address=0",
				"--cluster-id=blue", "--node-port-range=31000-31001", "--cloud-provider=fake", "--cloud-config=/c",
				"--cloud-fake-endpoint=http://a:1", "--leader-elect-namespace=ns"},
			want: func(c *configv1alpha1.ManagerConfiguration) {
				c.Controllers = []string{"*", "-nodeport"}
				c.Metrics.BindAddress, c.Health.BindAddress = ":2", "0"
				c.ClusterID, c.NodePortRange = "blue", "31000-31001"
				c.Cloud = configv1alpha1.Cloud{Provider: "fake", ConfigFile: "/c", Fake: &configv1alpha1.FakeCloud{Endpoint: "http://a:1"}}
				c.LeaderElection.Namespace = "ns"
				c.ClientConnection = configv1alpha1.ClientConnection{Kubeconfig: "/k", QPS: new(float32(7)), Burst: new(int32(8))}
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := parse(tc.args, &bytes.Buffer{})
			if err != nil {
				t.Fatalf("parse: %v", err)
			}
			want := &configv1alpha1.ManagerConfiguration{}
			want.Default()
			tc.want(want)
			if diff := cmp.Diff(want, got.configuration); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestRefused runs the program on bad input, up to where it would connect.
func TestRefused(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		// says are words of the one line on stderr, in their order.
		says []string
	}{
		"UnknownFlag":       {"named", []string{"--colour=red"}, []string{"-colour: see --help"}},
		"NoFlag":            {"named", []string{"start"}, []string{`"start"`}},
		"NoNumber":          {"named, with what to write", []string{"--kube-api-qps=many"}, []string{"kube-api-qps: write a number"}},
		"NoFile":            {"named", []string{"--config=/nowhere/at/all"}, []string{"/nowhere/at/all"}},
		"UnknownField":      {"named, with its file", []string{"--config", writeFile(t, header+"nodePorts: 1-2\n")}, []string{`config.yaml: unknown field "nodePorts"`}},
		"UnknownController": {"named", []string{"--controllers=*,-proxy"}, []string{`there is no "proxy"`}},
		"UpsideDown":        {"named, with what to write", []string{"--node-port-range=32767-30000"}, []string{"nodePortRange: \"32767-30000\" is upside down: write 30000-32767"}},
		"LogFormat":         {"named, with what to write", []string{"--log-format=xml"}, []string{"write json or text"}},
		"Together":          {"all at once", []string{"--mode=x", "--node-port-range=2-1"}, []string{"mode:", "nodePortRange:"}},
		"UnknownLimits":     {"named, with the known ones", []string{"--config", writeFile(t, header+"cloud: {limits: {moon: {reads: {perSecond: 1}}}}\n")}, []string{`cloud.limits: no provider is called "moon"`}},
		"PluginIsLinked":    {"named, with its place", []string{"--config", writeFile(t, header+"cloud: {plugins: [{name: fake, socket: /a}]}\n")}, []string{`cloud.plugins[0].name: "fake" is a provider of the manager itself`}},
		"PluginsAreListed":  {"with the known ones", []string{"--cloud-provider=moon", "--config", writeFile(t, header+"cloud: {plugins: [{name: rack, socket: /a}]}\n")}, []string{"choose from " + strings.Join(slices.Sorted(slices.Values(append(cloud.Names(), "rack"))), ", ")}},
		"PluginUnreachable": {"named, with what to write", []string{"--config", writeFile(t, header+"cloud: {plugins: [{name: rack, socket: a}]}\n")}, []string{"cloud.plugins[0].socket: \"a\" is no place"}},
		"UnknownCloud":      {"named, with the known ones", []string{"--cloud-provider=moon"}, []string{`no provider is called "moon"`}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tc.args, &stdout, &stderr); code != exitRefused {
				t.Errorf("exit code %d, want %d", code, exitRefused)
			}
			line, rest, _ := strings.Cut(stderr.String(), "\n")
			if !strings.HasPrefix(line, "manager: ") || rest != "" {
				t.Fatalf("not one line:\n%s", stderr.String())
			}
			for _, word := range tc.says {
				_, after, found := strings.Cut(line, word)
				if !found {
					t.Errorf("%q does not say %q: %s", line, word, tc.reason)
				}
				line = after
			}
			if stdout.Len() > 0 {
				t.Errorf("mistakes belong on stderr, not %q", stdout.String())
			}
		})
	}
}

func TestAskedFor(t *testing.T) {
	for arg, word := range map[string]string{"--help": "-controllers", "--version": "fairlead manager"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{arg}, &stdout, &stderr); code != exitDone {
			t.Errorf("%s: exit code %d", arg, code)
		}
		if !strings.Contains(stdout.String(), word) || stderr.Len() > 0 {
			t.Errorf("%s: stdout %q, stderr %q", arg, stdout.String(), stderr.String())
		}
	}
}
