package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/dataplane/sysctl"
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
		"Durations":      {header + "minSyncPeriod: -1s\nsyncPeriod: 1ms\n", []string{"minSyncPeriod: -1s", "syncPeriod: 1ms"}},
		"DurationAsText": {header + "syncPeriod: soon\n", []string{"syncPeriod: ", "soon"}},
		"Address":        {header + "healthzBindAddress: localhost\nmetricsBindAddress: 127.0.0.1:99999\n", []string{"healthzBindAddress", `"localhost"`, "metricsBindAddress"}},
		"Reports":        {header + "reportBindAddress: \"10268\"\n", []string{"reportBindAddress", `"10268"`}},
		"MetricsTaken":   {header + "metricsBindAddress: 127.0.0.1:10256\n", []string{`metricsBindAddress: "127.0.0.1:10256"`, "another port"}},
		"OOMScore":       {header + "oomScoreAdj: -2000\n", []string{"oomScoreAdj: -2000"}},
		"ReportsTaken":   {header + "reportBindAddress: \":10256\"\n", []string{"reportBindAddress", "another port"}},
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
			got := []any{c.Mode, c.MinSyncPeriod.Duration, c.SyncPeriod.Duration, *c.HealthzBindAddress, *c.MetricsBindAddress,
				c.NodePortAddresses, *c.ClientConnection.QPS, *c.ClientConnection.Burst}
			want := []any{configv1alpha1.ModeReplace, 100 * time.Millisecond, 10 * time.Minute, ":10256", "127.0.0.1:10249",
				[]string{"primary"}, float32(5), int32(10)}
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
	// The table of connections is another proxy's matter, unless it is asked for.
	if got := c.conntrack(); got != (sysctl.Conntrack{}) {
		t.Errorf("conntrack %+v in mode Coexist, want nothing to set", got)
	}
	c, err = loadConfiguration(write(t, header+"mode: Coexist\nconntrack: {maxPerCore: 5, udpTimeout: 10s}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.conntrack(); got != (sysctl.Conntrack{MaxPerCore: 5, UDPTimeout: 10 * time.Second}) {
		t.Errorf("conntrack %+v, want what was asked for", got)
	}
}

// TestSample is row 14 of the guide: the file is read as it is, and what has no effect is named once with the reason.
func TestSample(t *testing.T) {
	data, err := os.ReadFile("../../config/samples/kubeproxy-configuration.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var sample corev1.ConfigMap
	if err := yaml.Unmarshal(data, &sample); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfiguration(write(t, sample.Data["node-agent.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Mode, c.MinSyncPeriod.Duration, c.SyncPeriod.Duration, *c.HealthzBindAddress, *c.MetricsBindAddress, *c.MasqueradeBit}
	want := []any{configv1alpha1.ModeReplace, 5 * time.Second, 30 * time.Second, "0.0.0.0:10256", "127.0.0.1:10249", int32(14)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	o, err := c.modelOptions("n1")
	if err != nil || !o.NodePorts.All || len(o.LocalDetection.ClusterCIDRs) != 1 {
		t.Errorf("model options %+v, %v", o, err)
	}
	var lines []string
	c.warn(funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))
	for _, field := range []string{`"mode"`, `"ipvs.scheduler"`, `"featureGates.EndpointSliceProxying"`, `"nodePortAddresses"`} {
		named := 0
		for _, line := range lines {
			if strings.Contains(line, `"field"=`+field) && strings.Contains(line, `"reason"=`) {
				named++
			}
		}
		if named != 1 {
			t.Errorf("%s is named %d times in\n%s", field, named, strings.Join(lines, "\n"))
		}
	}
	if len(lines) != 4 {
		t.Errorf("%d lines, want no others:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}

const theirs = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

// TestKubeProxyErrors: what is wrong is named as it stands in the file, not by our name for it, and all of it at once.
func TestKubeProxyErrors(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"Mode":      {"mode: kernelspace\n", []string{`mode: "kernelspace"`}},
		"Periods":   {"mode: ipvs\nipvs: {minSyncPeriod: -1s, syncPeriod: -5s}\n", []string{"ipvs.minSyncPeriod: -1s", "ipvs.syncPeriod: -5s"}},
		"Bit":       {"mode: ipvs\niptables: {masqueradeBit: 32}\n", []string{"iptables.masqueradeBit: 32"}},
		"OwnBit":    {"mode: nftables\nnftables: {masqueradeBit: -1}\n", []string{"nftables.masqueradeBit: -1"}},
		"CIDR":      {"clusterCIDR: 10.244.0.0\n", []string{`clusterCIDR: "10.244.0.0"`}},
		"Bridge":    {"detectLocalMode: BridgeInterface\n", []string{`detectLocal.bridgeInterface: ""`}},
		"Prefix":    {"detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: 'a/b'}\n", []string{`detectLocal.interfaceNamePrefix: "a/b"`}},
		"Host":      {"hostnameOverride: Node_A\n", []string{`hostnameOverride: "node_a"`}},
		"SamePort":  {"healthzBindAddress: 0.0.0.0:10249\n", []string{`metricsBindAddress: "127.0.0.1:10249"`, "another port"}},
		"Addresses": {"healthzBindAddress: here\nnodePortAddresses: [there]\n", []string{"healthzBindAddress", `"here"`, "nodePortAddresses", `"there"`}},
		"Conntrack": {"conntrack: {min: -1, udpTimeout: -1s}\n", []string{"conntrack.min: -1", "conntrack.udpTimeout: -1s"}},
		"Both":      {"detectLocalMode: Guess\nlogging: {verbosity: -1}\n", []string{"detectLocalMode", "logging.verbosity: -1"}},
		"Type":      {"ipvs: {syncPeriod: soon}\n", []string{"ipvs.syncPeriod: "}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, theirs+tc.text)
			_, err := loadConfiguration(path)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(tc.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

// TestKubeadm: the file that kubeadm writes, with its zeros and nulls, means the defaults.
func TestKubeadm(t *testing.T) {
	c, err := loadConfiguration(write(t, theirs+`
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.unknown != nil || len(c.notes) != 1 || c.notes[0].Field != "nodePortAddresses" {
		t.Errorf("unknown %q, notes %+v; want the one on nodePortAddresses", c.unknown, c.notes)
	}
	got := c.conntrack()
	want := sysctl.Conntrack{MaxPerCore: 32768, Min: 131072, TCPEstablishedTimeout: 24 * time.Hour, TCPCloseWaitTimeout: time.Hour}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conntrack (-want +got):\n%s", diff)
	}
	if c.ClientConnection.Kubeconfig != "/var/lib/kube-proxy/kubeconfig.conf" || *c.ClientConnection.QPS != 5 || c.MinSyncPeriod.Duration != 100*time.Millisecond {
		t.Errorf("read as %+v", c.NodeAgentConfiguration)
	}
	if configz := c.configz(); len(configz) != 2 || configz["kubeproxy.config.k8s.io"] == nil || configz["config.fairlead.dev"] == nil {
		t.Errorf("configz %v, want both kinds", configz)
	}
}

// TestFlagsOverFile: a flag that is given comes before the file, and a file before the default.
func TestFlagsOverFile(t *testing.T) {
	file := header + "nodeName: from-file\nverbosity: 3\nclientConnection: {kubeconfig: /file}\n"
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		text string
		want []any // node, verbosity, kubeconfig
	}{
		"File":      {nil, file, []any{"from-file", int32(3), "/file"}},
		"Flags":     {[]string{"--node-name=From-Flag", "--v=0", "--kubeconfig=/flag"}, file, []any{"from-flag", int32(0), "/flag"}},
		"KubeProxy": {[]string{"--hostname-override= Override "}, file, []any{"override", int32(3), "/file"}},
		"Defaults":  {nil, header, []any{strings.ToLower(host), int32(0), ""}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := parseFlags(tc.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			c, err := loadConfiguration(write(t, tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.lay(c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, []any{c.NodeName, c.Verbosity, c.ClientConnection.Kubeconfig}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandLine(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"UnknownFlag":  {[]string{"--nod-name=n1"}, "nod-name: see --help"},
		"BadNodeName":  {[]string{"--node-name=n 1"}, `"n 1"`},
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
	for arg, want := range map[string]string{"--help": "-node-name", "--version": "fairlead node-agent "} {
		var out strings.Builder
		if err := run(t.Context(), []string{arg}, &out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %q", arg, err, out.String())
		}
	}
}
