package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func init() { register(&NodeAgentConfiguration{}) }

// NodeAgentConfiguration is the configuration file of the node agent. Every field may be left out; the zero value
// means the default that its comment names.
//
// +kubebuilder:object:root=true
type NodeAgentConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// Mode is Replace, the default: all Services but those of other proxies are served, and the ServiceCIDRs are owned.
	// Coexist: only Services labelled service.kubernetes.io/service-proxy-name: fairlead are.
	Mode Mode `json:"mode,omitempty"`
	// NodeName is the name of this node's Node object; the flag --node-name comes before it. Default: the host name in
	// lower case.
	NodeName string `json:"nodeName,omitempty"`
	// ClientConnection is how the agent reaches the API server. Kubeconfig comes after the flag --kubeconfig and before
	// the Pod's service account. QPS nil: 5, Burst nil: 10, which is plenty: the agent lists four times, and watches.
	ClientConnection ClientConnection `json:"clientConnection,omitempty"`
	// Verbosity is the level of the log; the flag -v comes before it.
	Verbosity int32 `json:"verbosity,omitempty"`

	// NodePortAddresses are CIDRs, or the words primary (the default), all and localhost.
	NodePortAddresses []string `json:"nodePortAddresses,omitempty"`
	// LocalDetection tells Pods from outside clients. Empty: no client counts as a Pod.
	LocalDetection LocalDetection `json:"localDetection,omitempty"`
	// MasqueradeAll masquerades every connection to a cluster IP.
	MasqueradeAll bool `json:"masqueradeAll,omitempty"`
	// MasqueradeBit is the bit of the packet mark, 0 to 31, that the agent uses between its own chains. Nil: 14.
	MasqueradeBit *int32 `json:"masqueradeBit,omitempty"`
	// IgnoreExternalIPs leaves spec.externalIPs of Services unserved.
	IgnoreExternalIPs bool `json:"ignoreExternalIPs,omitempty"`
	// MinSyncPeriod is the least time between two writes, 100ms by default. The first change after quiet does not wait.
	MinSyncPeriod *metav1.Duration `json:"minSyncPeriod,omitempty"`
	// SyncPeriod is the time between full writes, which repair what others changed; 10m by default.
	SyncPeriod *metav1.Duration `json:"syncPeriod,omitempty"`
	// Conntrack is about the kernel's table of connections.
	Conntrack Conntrack `json:"conntrack,omitempty"`

	// HealthzBindAddress serves /healthz, /livez and /readyz, :10256 by default; "" turns it off.
	HealthzBindAddress *string `json:"healthzBindAddress,omitempty"`
	// MetricsBindAddress serves /metrics, /proxyMode, /configz and /nodeports, 127.0.0.1:10249 by default; "" turns it off.
	MetricsBindAddress *string `json:"metricsBindAddress,omitempty"`
	// ReportBindAddress serves /nodeports to the manager, over HTTPS; "" by default: nobody does.
	ReportBindAddress string `json:"reportBindAddress,omitempty"`
	// BindAddressHardFail ends the agent if one of these cannot be listened on, instead of trying again.
	BindAddressHardFail bool `json:"bindAddressHardFail,omitempty"`
	// EnableProfiling serves /debug/pprof/ beside /metrics.
	EnableProfiling bool `json:"enableProfiling,omitempty"`
	// OOMScoreAdj is the agent's own, -1000 to 1000. Nil leaves it as the kubelet set it.
	OOMScoreAdj *int32 `json:"oomScoreAdj,omitempty"`
}

// LocalDetection tells Pods from outside clients, by one of its fields.
type LocalDetection struct {
	// ClusterCIDRs are the ranges of all Pods.
	ClusterCIDRs []string `json:"clusterCIDRs,omitempty"`
	// NodeCIDR uses the ranges in this node's spec.podCIDRs.
	NodeCIDR bool `json:"nodeCIDR,omitempty"`
	// InterfacePrefixes begin the names of Pods' interfaces on the node.
	InterfacePrefixes []string `json:"interfacePrefixes,omitempty"`
	// Interfaces are the whole names of interfaces by which packets of Pods come in, such as a bridge.
	Interfaces []string `json:"interfaces,omitempty"`
}
