package kubeproxy

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
)

// The modes, and the ways to tell Pods from outside clients.
const (
	ModeIPTables = "iptables"
	ModeIPVS     = "ipvs"
	ModeNFTables = "nftables"

	DetectClusterCIDR         = "ClusterCIDR"
	DetectNodeCIDR            = "NodeCIDR"
	DetectBridgeInterface     = "BridgeInterface"
	DetectInterfaceNamePrefix = "InterfaceNamePrefix"
)

// The ports of kube-proxy's servers where the file gives an address alone.
const (
	healthzPort = "10256"
	metricsPort = "10249"
)

// minFullSync is the least time between full comparisons with the kernel.
const minFullSync = time.Second

// Translation is what a KubeProxyConfiguration means for the node agent.
type Translation struct {
	// Config has what the file gives, and no defaults of the agent's. It may hold values that the agent refuses.
	Config *configv1alpha1.NodeAgentConfiguration
	// Names are those of the file, by the path of a field of Config: for errors that must name what stands there.
	Names map[string]string
	// Notes are what the file asks for and does not get, in the order of its fields.
	Notes []Note
	// Problems are fields that cannot be translated, each with the reason.
	Problems []string
}

// Note is a field that has no effect, or another than in kube-proxy.
type Note struct {
	// Field is its path in the file.
	Field string
	// Reason is one line.
	Reason string
}

// Translate never changes c and does not keep it.
func (c *Configuration) Translate() *Translation {
	t := &Translation{
		Config: &configv1alpha1.NodeAgentConfiguration{
			TypeMeta:            metav1.TypeMeta{APIVersion: configv1alpha1.GroupVersion.String(), Kind: "NodeAgentConfiguration"},
			Mode:                configv1alpha1.ModeReplace,
			NodeName:            strings.ToLower(strings.TrimSpace(c.HostnameOverride)),
			Verbosity:           c.Logging.Verbosity,
			BindAddressHardFail: c.BindAddressHardFail,
			EnableProfiling:     c.EnableProfiling,
			OOMScoreAdj:         clone(c.OOMScoreAdj),
		},
		Names: map[string]string{"nodeName": "hostnameOverride", "verbosity": "logging.verbosity"},
	}
	t.client(c.ClientConnection)
	t.addresses(c)
	t.mode(c)
	t.detection(c)
	t.nodePorts(c)
	t.conntrack(c.Conntrack)
	t.notes(c)
	return t
}

func (t *Translation) note(set bool, field, reason string) {
	if set {
		t.Notes = append(t.Notes, Note{Field: field, Reason: reason})
	}
}

func (t *Translation) problem(format string, args ...any) {
	t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
}

func (t *Translation) client(c ClientConnection) {
	t.Config.ClientConnection.Kubeconfig = c.Kubeconfig
	if c.QPS != 0 {
		t.Config.ClientConnection.QPS = &c.QPS
	}
	if c.Burst != 0 {
		t.Config.ClientConnection.Burst = &c.Burst
	}
}

// addresses of the two servers. Here "" means the default, which follows the family of bindAddress.
func (t *Translation) addresses(c *Configuration) {
	healthz, metrics := "0.0.0.0", "127.0.0.1"
	if c.BindAddress != "" {
		bind, err := netip.ParseAddr(c.BindAddress)
		switch {
		case err != nil:
			t.problem("bindAddress: %q is not an IP address", c.BindAddress)
		case !bind.Unmap().Is4():
			healthz, metrics = "::", "::1"
		}
		t.note(err == nil && !bind.IsUnspecified(), "bindAddress",
			"it gives the family of the default healthzBindAddress and metricsBindAddress and nothing else: where node ports are served, nodePortAddresses says")
	}
	t.Config.HealthzBindAddress = withPort(c.HealthzBindAddress, healthz, healthzPort)
	t.Config.MetricsBindAddress = withPort(c.MetricsBindAddress, metrics, metricsPort)
}

// withPort appends the port to an address that has none; what is no address stays, to be refused by name.
func withPort(given, address, port string) *string {
	if given == "" {
		given = address
	}
	if addr, err := netip.ParseAddr(strings.Trim(given, "[]")); err == nil {
		given = net.JoinHostPort(addr.String(), port)
	}
	return &given
}

// mode takes the settings of the mode asked for, though nftables it will be.
func (t *Translation) mode(c *Configuration) {
	section, minSync, sync, bit, all := ModeIPTables, c.IPTables.MinSyncPeriod, c.IPTables.SyncPeriod, c.IPTables.MasqueradeBit, c.IPTables.MasqueradeAll
	bitSection := ModeIPTables // kube-proxy's ipvs mode uses iptables' mark
	switch c.Mode {
	case "", ModeIPTables:
	case ModeIPVS:
		section, minSync, sync = ModeIPVS, c.IPVS.MinSyncPeriod, c.IPVS.SyncPeriod
	case ModeNFTables:
		section, bitSection = ModeNFTables, ModeNFTables
		minSync, sync, bit, all = c.NFTables.MinSyncPeriod, c.NFTables.SyncPeriod, c.NFTables.MasqueradeBit, c.NFTables.MasqueradeAll
	default:
		t.problem("mode: %q is not a mode: write %s, %s or %s", c.Mode, ModeIPTables, ModeIPVS, ModeNFTables)
	}
	t.note(c.Mode == ModeIPTables || c.Mode == ModeIPVS, "mode", "this agent has one mode, nftables, and uses it")
	t.Names["minSyncPeriod"] = section + ".minSyncPeriod"
	t.Names["syncPeriod"] = section + ".syncPeriod"
	t.Names["masqueradeBit"] = bitSection + ".masqueradeBit"
	t.Config.MasqueradeAll = all
	t.Config.MasqueradeBit = clone(bit)
	t.Config.MinSyncPeriod = unlessZero(minSync)
	t.Config.SyncPeriod = unlessZero(sync)
	if sync.Duration > 0 && sync.Duration < minFullSync {
		t.Config.SyncPeriod = &metav1.Duration{Duration: minFullSync}
		t.note(true, section+".syncPeriod", fmt.Sprintf("all rules are compared with the kernel's every %s, not more often", minFullSync))
	}
	for _, other := range []struct {
		name string
		set  bool
	}{
		{ModeIPTables, c.IPTables.SyncPeriod.Duration != 0 || c.IPTables.MinSyncPeriod.Duration != 0 ||
			bitSection != ModeIPTables && (ownBit(c.IPTables.MasqueradeBit) || c.IPTables.MasqueradeAll)},
		{ModeIPVS, c.IPVS.SyncPeriod.Duration != 0 || c.IPVS.MinSyncPeriod.Duration != 0},
		{ModeNFTables, c.NFTables.SyncPeriod.Duration != 0 || c.NFTables.MinSyncPeriod.Duration != 0 ||
			ownBit(c.NFTables.MasqueradeBit) || c.NFTables.MasqueradeAll},
	} {
		t.note(other.set && other.name != section, other.name, fmt.Sprintf("its periods and masquerade settings do not count: mode %s asks for those of %s", section, section))
	}
}

func (t *Translation) detection(c *Configuration) {
	d := &t.Config.LocalDetection
	switch c.DetectLocalMode {
	case "", DetectClusterCIDR:
		if c.ClusterCIDR != "" {
			d.ClusterCIDRs = strings.Split(c.ClusterCIDR, ",")
		}
		t.Names["localDetection.clusterCIDRs"] = "clusterCIDR"
	case DetectNodeCIDR:
		d.NodeCIDR = true
	case DetectBridgeInterface:
		d.Interfaces = []string{c.DetectLocal.BridgeInterface}
		t.Names["localDetection.interfaces"] = "detectLocal.bridgeInterface"
	case DetectInterfaceNamePrefix:
		d.InterfacePrefixes = []string{c.DetectLocal.InterfaceNamePrefix}
		t.Names["localDetection.interfacePrefixes"] = "detectLocal.interfaceNamePrefix"
	default:
		t.problem("detectLocalMode: %q is not known: write %s, %s, %s or %s", c.DetectLocalMode,
			DetectClusterCIDR, DetectNodeCIDR, DetectBridgeInterface, DetectInterfaceNamePrefix)
	}
	byCIDR := c.DetectLocalMode == "" || c.DetectLocalMode == DetectClusterCIDR
	t.note(!byCIDR && c.ClusterCIDR != "", "clusterCIDR", "detectLocalMode is "+c.DetectLocalMode)
	t.note(c.DetectLocal.BridgeInterface != "" && c.DetectLocalMode != DetectBridgeInterface,
		"detectLocal.bridgeInterface", "detectLocalMode is not "+DetectBridgeInterface)
	t.note(c.DetectLocal.InterfaceNamePrefix != "" && c.DetectLocalMode != DetectInterfaceNamePrefix,
		"detectLocal.interfaceNamePrefix", "detectLocalMode is not "+DetectInterfaceNamePrefix)
}

// nodePorts keeps what each mode of kube-proxy does where nothing is given: nodes that move here go on serving the
// addresses that their clients know.
func (t *Translation) nodePorts(c *Configuration) {
	t.Config.NodePortAddresses = append([]string(nil), c.NodePortAddresses...)
	if len(c.NodePortAddresses) == 0 && c.Mode != ModeNFTables {
		t.Config.NodePortAddresses = []string{"all"}
		t.note(true, "nodePortAddresses", "empty means all addresses of the node, as in kube-proxy's mode "+modeName(c.Mode)+
			": consider primary, its default in mode nftables")
	}
}

func (t *Translation) conntrack(c Conntrack) {
	t.Config.Conntrack.MaxPerCore = clone(c.MaxPerCore)
	t.Config.Conntrack.Min = clone(c.Min)
	t.Config.Conntrack.TCPEstablishedTimeout = clone(c.TCPEstablishedTimeout)
	t.Config.Conntrack.TCPCloseWaitTimeout = clone(c.TCPCloseWaitTimeout)
	t.Config.Conntrack.TCPBeLiberal = c.TCPBeLiberal
	t.Config.Conntrack.UDPTimeout = unlessZero(c.UDPTimeout)
	t.Config.Conntrack.UDPStreamTimeout = unlessZero(c.UDPStreamTimeout)
}

func modeName(mode string) string {
	if mode == "" {
		return ModeIPTables
	}
	return strconv.Quote(mode)
}

// ownBit is true for a bit other than the default, which all modes share.
func ownBit(bit *int32) bool { return bit != nil && *bit != 14 }

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// unlessZero: 0 means the default in kube-proxy's file.
func unlessZero(d metav1.Duration) *metav1.Duration {
	if d.Duration == 0 {
		return nil
	}
	return &d
}
