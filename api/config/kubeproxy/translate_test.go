package kubeproxy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
)

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// nftables is what a file with mode nftables and nothing else means.
func nftables(edits ...func(*configv1alpha1.NodeAgentConfiguration)) *configv1alpha1.NodeAgentConfiguration {
	c := &configv1alpha1.NodeAgentConfiguration{
		TypeMeta:           metav1.TypeMeta{APIVersion: "config.fairlead.dev/v1alpha1", Kind: "NodeAgentConfiguration"},
		Mode:               configv1alpha1.ModeReplace,
		HealthzBindAddress: new("0.0.0.0:10256"),
		MetricsBindAddress: new("127.0.0.1:10249"),
	}
	for _, edit := range edits {
		edit(c)
	}
	return c
}

func TestTranslate(t *testing.T) {
	type config = configv1alpha1.NodeAgentConfiguration
	all := func(c *config) { c.NodePortAddresses = []string{"all"} }
	tests := map[string]struct {
		reason string
		text   string
		want   *config
		// notes are the fields that must be named, in this order.
		notes []string
	}{
		"NFTables": {"only what is given is set", "mode: nftables\n", nftables(), nil},
		"Empty":    {"kube-proxy's default mode serves node ports everywhere", "", nftables(all), []string{"nodePortAddresses"}},
		"Guide": {"row 14 of the guide",
			"mode: ipvs\nipvs: {scheduler: lc, minSyncPeriod: 5s, syncPeriod: 30s}\nfeatureGates: {EndpointSliceProxying: true}\n",
			nftables(all, func(c *config) {
				c.MinSyncPeriod, c.SyncPeriod = duration(5*time.Second), duration(30*time.Second)
			}), []string{"mode", "nodePortAddresses", "featureGates.EndpointSliceProxying", "ipvs.scheduler"}},
		"OwnSection": {"the section of the mode asked for counts, and no other",
			"mode: nftables\nnftables: {masqueradeBit: 7, masqueradeAll: true, minSyncPeriod: 2s, syncPeriod: 1h}\niptables: {masqueradeBit: 8, minSyncPeriod: 3s}\nipvs: {syncPeriod: 4s}\n",
			nftables(func(c *config) {
				c.MasqueradeBit, c.MasqueradeAll = new(int32(7)), true
				c.MinSyncPeriod, c.SyncPeriod = duration(2*time.Second), duration(time.Hour)
			}), []string{"iptables", "ipvs"}},
		"IPVSMasquerade": {"kube-proxy's ipvs mode masquerades as iptables says",
			"mode: ipvs\nnodePortAddresses: [primary]\niptables: {masqueradeBit: 8, masqueradeAll: true}\nnftables: {masqueradeAll: true}\n",
			nftables(func(c *config) {
				c.MasqueradeBit, c.MasqueradeAll = new(int32(8)), true
				c.NodePortAddresses = []string{"primary"}
			}), []string{"mode", "nftables"}},
		"DefaultMode": {"without a mode the section is iptables'",
			"nodePortAddresses: [10.0.0.0/8]\niptables: {minSyncPeriod: 3s, syncPeriod: 100ms, localhostNodePorts: true}\n",
			nftables(func(c *config) {
				c.NodePortAddresses = []string{"10.0.0.0/8"}
				c.MinSyncPeriod, c.SyncPeriod = duration(3*time.Second), duration(time.Second)
			}), []string{"iptables.syncPeriod", "iptables.localhostNodePorts"}},
		"ClusterCIDR": {"the way of detection that counts if none is named", "mode: nftables\nclusterCIDR: 10.244.0.0/16,fd00::/48\n",
			nftables(func(c *config) { c.LocalDetection.ClusterCIDRs = []string{"10.244.0.0/16", "fd00::/48"} }), nil},
		"NodeCIDR": {"", "mode: nftables\ndetectLocalMode: NodeCIDR\nclusterCIDR: 10.244.0.0/16\n",
			nftables(func(c *config) { c.LocalDetection.NodeCIDR = true }), []string{"clusterCIDR"}},
		"Bridge": {"", "mode: nftables\ndetectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0, interfaceNamePrefix: veth}\n",
			nftables(func(c *config) { c.LocalDetection.Interfaces = []string{"cni0"} }), []string{"detectLocal.interfaceNamePrefix"}},
		"Prefix": {"", "mode: nftables\ndetectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: cali}\n",
			nftables(func(c *config) { c.LocalDetection.InterfacePrefixes = []string{"cali"} }), nil},
		"Addresses": {"ports are added where they are missing",
			"mode: nftables\nbindAddress: 0.0.0.0\nhealthzBindAddress: 192.0.2.1\nmetricsBindAddress: 0.0.0.0:9\n",
			nftables(func(c *config) {
				c.HealthzBindAddress, c.MetricsBindAddress = new("192.0.2.1:10256"), new("0.0.0.0:9")
			}), nil},
		"IPv6": {"the family of bindAddress is that of the defaults", "mode: nftables\nbindAddress: '::'\n",
			nftables(func(c *config) { c.HealthzBindAddress, c.MetricsBindAddress = new("[::]:10256"), new("[::1]:10249") }), nil},
		"IPv6Alone": {"with and without brackets", "mode: nftables\nhealthzBindAddress: '[::]'\nmetricsBindAddress: '::1'\nbindAddress: 192.0.2.1\n",
			nftables(func(c *config) { c.HealthzBindAddress, c.MetricsBindAddress = new("[::]:10256"), new("[::1]:10249") }), []string{"bindAddress"}},
		"Process": {"what is the same in both",
			"mode: nftables\nhostnameOverride: ' Node-A '\nbindAddressHardFail: true\nenableProfiling: true\noomScoreAdj: -998\nlogging: {verbosity: 2, flushFrequency: 5s, format: text}\n" +
				"clientConnection: {kubeconfig: /k, qps: 7, burst: 9, contentType: application/vnd.kubernetes.protobuf}\n",
			nftables(func(c *config) {
				c.NodeName, c.BindAddressHardFail, c.EnableProfiling, c.OOMScoreAdj, c.Verbosity = "node-a", true, true, new(int32(-998)), 2
				c.ClientConnection = configv1alpha1.ClientConnection{Kubeconfig: "/k", QPS: new(float32(7)), Burst: new(int32(9))}
			}), nil},
		"Conntrack": {"0 leaves alone where a pointer can say so; elsewhere it means nothing given",
			"mode: nftables\nconntrack: {maxPerCore: 0, min: 524288, tcpEstablishedTimeout: 2h, tcpCloseWaitTimeout: 0s, tcpBeLiberal: true, udpTimeout: 30s, udpStreamTimeout: 0s}\n",
			nftables(func(c *config) {
				c.Conntrack = configv1alpha1.Conntrack{MaxPerCore: new(int32(0)), Min: new(int32(524288)), TCPEstablishedTimeout: duration(2 * time.Hour),
					TCPCloseWaitTimeout: duration(0), TCPBeLiberal: true, UDPTimeout: duration(30 * time.Second)}
			}), nil},
		"NoEffect": {"everything that has none is named",
			"mode: nftables\nconfigSyncPeriod: 15m\nportRange: 1-2\nwindowsRunAsService: true\nshowHiddenMetricsForVersion: '1.36'\nwinkernel: {enableDSR: true}\n" +
				"logging: {format: json, vmodule: [{filePattern: proxier, verbosity: 9}], options: {text: {splitStream: true}}}\n" +
				"clientConnection: {acceptContentTypes: application/json, contentType: application/json}\n" +
				"ipvs: {excludeCIDRs: [10.0.0.0/8], strictARP: true, tcpTimeout: 1s, tcpFinTimeout: 1s, udpTimeout: 1s}\nfeatureGates: {Whatever: true, IPv6DualStack: false}\n",
			nftables(), []string{"featureGates.IPv6DualStack", "featureGates.Whatever", "clientConnection.acceptContentTypes", "clientConnection.contentType",
				"logging.format", "logging.vmodule", "logging.options", "showHiddenMetricsForVersion", "ipvs.excludeCIDRs", "ipvs.strictARP",
				"ipvs.tcpTimeout", "ipvs.tcpFinTimeout", "ipvs.udpTimeout", "winkernel", "configSyncPeriod", "portRange", "windowsRunAsService"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c, unknown, err := Decode([]byte(header + tc.text))
			if err != nil || unknown != nil {
				t.Fatalf("%v, unknown %q", err, unknown)
			}
			got := c.Translate()
			if diff := cmp.Diff(tc.want, got.Config); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			var named []string
			for _, note := range got.Notes {
				named = append(named, note.Field)
				if note.Reason == "" || strings.Contains(note.Reason, "\n") {
					t.Errorf("note %+v has no reason of one line", note)
				}
			}
			if diff := cmp.Diff(tc.notes, named); diff != "" {
				t.Errorf("%s: notes (-want +got):\n%s", tc.reason, diff)
			}
			if got.Problems != nil {
				t.Errorf("problems %q", got.Problems)
			}
		})
	}
}

func TestTranslateProblems(t *testing.T) {
	c, _, err := Decode([]byte(header + "mode: userspace\ndetectLocalMode: clusterCIDR\nbindAddress: everywhere\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Translate().Problems, "\n")
	for _, want := range []string{`mode: "userspace"`, `detectLocalMode: "clusterCIDR"`, `bindAddress: "everywhere"`} {
		if !strings.Contains(all, want) {
			t.Errorf("%q does not name %s", all, want)
		}
	}
}
