package kubeproxy

import (
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Configuration is a KubeProxyConfiguration. As in kube-proxy, the zero value of a field means its default.
//
// +kubebuilder:object:root=true
type Configuration struct {
	metav1.TypeMeta `json:",inline"`

	FeatureGates     map[string]bool  `json:"featureGates,omitempty"`
	ClientConnection ClientConnection `json:"clientConnection,omitempty"`
	Logging          Logging          `json:"logging,omitempty"`

	HostnameOverride            string `json:"hostnameOverride,omitempty"`
	BindAddress                 string `json:"bindAddress,omitempty"`
	HealthzBindAddress          string `json:"healthzBindAddress,omitempty"`
	MetricsBindAddress          string `json:"metricsBindAddress,omitempty"`
	BindAddressHardFail         bool   `json:"bindAddressHardFail,omitempty"`
	EnableProfiling             bool   `json:"enableProfiling,omitempty"`
	ShowHiddenMetricsForVersion string `json:"showHiddenMetricsForVersion,omitempty"`

	// Mode is iptables (the default), ipvs or nftables.
	Mode      string    `json:"mode,omitempty"`
	IPTables  IPTables  `json:"iptables,omitempty"`
	IPVS      IPVS      `json:"ipvs,omitempty"`
	NFTables  NFTables  `json:"nftables,omitempty"`
	Winkernel Winkernel `json:"winkernel,omitempty"`

	// DetectLocalMode is ClusterCIDR (the default), NodeCIDR, BridgeInterface or InterfaceNamePrefix.
	DetectLocalMode string      `json:"detectLocalMode,omitempty"`
	DetectLocal     DetectLocal `json:"detectLocal,omitempty"`
	// ClusterCIDR is a CIDR, or one of each family with a comma between them.
	ClusterCIDR string `json:"clusterCIDR,omitempty"`

	NodePortAddresses   []string        `json:"nodePortAddresses,omitempty"`
	OOMScoreAdj         *int32          `json:"oomScoreAdj,omitempty"`
	Conntrack           Conntrack       `json:"conntrack,omitempty"`
	ConfigSyncPeriod    metav1.Duration `json:"configSyncPeriod,omitempty"`
	PortRange           string          `json:"portRange,omitempty"`
	WindowsRunAsService bool            `json:"windowsRunAsService,omitempty"`
}

// ClientConnection is how the API server is reached.
type ClientConnection struct {
	Kubeconfig         string  `json:"kubeconfig,omitempty"`
	AcceptContentTypes string  `json:"acceptContentTypes,omitempty"`
	ContentType        string  `json:"contentType,omitempty"`
	QPS                float32 `json:"qps,omitempty"`
	Burst              int32   `json:"burst,omitempty"`
}

// IPTables is meant for mode iptables; masqueradeBit and masqueradeAll for ipvs, too.
type IPTables struct {
	MasqueradeBit      *int32          `json:"masqueradeBit,omitempty"`
	MasqueradeAll      bool            `json:"masqueradeAll,omitempty"`
	LocalhostNodePorts *bool           `json:"localhostNodePorts,omitempty"`
	SyncPeriod         metav1.Duration `json:"syncPeriod,omitempty"`
	MinSyncPeriod      metav1.Duration `json:"minSyncPeriod,omitempty"`
}

// IPVS is meant for mode ipvs.
type IPVS struct {
	SyncPeriod    metav1.Duration `json:"syncPeriod,omitempty"`
	MinSyncPeriod metav1.Duration `json:"minSyncPeriod,omitempty"`
	Scheduler     string          `json:"scheduler,omitempty"`
	ExcludeCIDRs  []string        `json:"excludeCIDRs,omitempty"`
	StrictARP     bool            `json:"strictARP,omitempty"`
	TCPTimeout    metav1.Duration `json:"tcpTimeout,omitempty"`
	TCPFinTimeout metav1.Duration `json:"tcpFinTimeout,omitempty"`
	UDPTimeout    metav1.Duration `json:"udpTimeout,omitempty"`
}

// NFTables is meant for mode nftables.
type NFTables struct {
	MasqueradeBit *int32          `json:"masqueradeBit,omitempty"`
	MasqueradeAll bool            `json:"masqueradeAll,omitempty"`
	SyncPeriod    metav1.Duration `json:"syncPeriod,omitempty"`
	MinSyncPeriod metav1.Duration `json:"minSyncPeriod,omitempty"`
}

// Conntrack is about the kernel's table of connections.
type Conntrack struct {
	MaxPerCore            *int32           `json:"maxPerCore,omitempty"`
	Min                   *int32           `json:"min,omitempty"`
	TCPEstablishedTimeout *metav1.Duration `json:"tcpEstablishedTimeout,omitempty"`
	TCPCloseWaitTimeout   *metav1.Duration `json:"tcpCloseWaitTimeout,omitempty"`
	TCPBeLiberal          bool             `json:"tcpBeLiberal,omitempty"`
	UDPTimeout            metav1.Duration  `json:"udpTimeout,omitempty"`
	UDPStreamTimeout      metav1.Duration  `json:"udpStreamTimeout,omitempty"`
}

// Winkernel is meant for Windows.
type Winkernel struct {
	NetworkName           string `json:"networkName,omitempty"`
	SourceVip             string `json:"sourceVip,omitempty"`
	EnableDSR             bool   `json:"enableDSR,omitempty"`
	RootHnsEndpointName   string `json:"rootHnsEndpointName,omitempty"`
	ForwardHealthCheckVip bool   `json:"forwardHealthCheckVip,omitempty"`
}

// DetectLocal holds what DetectLocalMode needs.
type DetectLocal struct {
	BridgeInterface     string `json:"bridgeInterface,omitempty"`
	InterfaceNamePrefix string `json:"interfaceNamePrefix,omitempty"`
}

// Logging is component-base's.
type Logging struct {
	Format         string         `json:"format,omitempty"`
	FlushFrequency Frequency      `json:"flushFrequency,omitempty"`
	Verbosity      int32          `json:"verbosity,omitempty"`
	VModule        []VModule      `json:"vmodule,omitempty"`
	Options        LoggingOptions `json:"options,omitempty"`
}

// VModule sets the verbosity of files.
type VModule struct {
	FilePattern string `json:"filePattern"`
	Verbosity   int32  `json:"verbosity"`
}

// LoggingOptions are those of each format.
type LoggingOptions struct {
	Text OutputRouting `json:"text,omitempty"`
	JSON OutputRouting `json:"json,omitempty"`
}

// OutputRouting sends errors and the rest to different streams.
type OutputRouting struct {
	SplitStream    bool                   `json:"splitStream,omitempty"`
	InfoBufferSize resource.QuantityValue `json:"infoBufferSize,omitempty"`
}

// Frequency is a duration as text, or a number of nanoseconds.
type Frequency struct {
	metav1.Duration `json:",inline"`
}

// UnmarshalJSON reads both forms.
func (f *Frequency) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return f.Duration.UnmarshalJSON(data)
	}
	var nanoseconds time.Duration
	err := json.Unmarshal(data, &nanoseconds)
	f.Duration.Duration = nanoseconds
	return err
}
