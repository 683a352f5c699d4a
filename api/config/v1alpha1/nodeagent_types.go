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
	// NodePortAddresses are CIDRs, or the words primary (the default), all and localhost.
	NodePortAddresses []string `json:"nodePortAddresses,omitempty"`
	// LocalDetection tells Pods from outside clients. Empty: no client counts as a Pod.
	LocalDetection LocalDetection `json:"localDetection,omitempty"`
	// MasqueradeAll masquerades every connection to a cluster IP.
	MasqueradeAll bool `json:"masqueradeAll,omitempty"`
	// IgnoreExternalIPs leaves spec.externalIPs of Services unserved.
	IgnoreExternalIPs bool `json:"ignoreExternalIPs,omitempty"`
	// MinSyncPeriod is the least time between two writes, 100ms by default.
	MinSyncPeriod *metav1.Duration `json:"minSyncPeriod,omitempty"`
	// SyncPeriod is the time between full writes, which repair what others changed; 10m by default.
	SyncPeriod *metav1.Duration `json:"syncPeriod,omitempty"`
	// HealthzBindAddress serves /healthz and /livez, :10256 by default; "" turns it off.
	HealthzBindAddress *string `json:"healthzBindAddress,omitempty"`
	// MetricsBindAddress serves /metrics and /proxyMode, 127.0.0.1:10249 by default; "" turns it off.
	MetricsBindAddress *string `json:"metricsBindAddress,omitempty"`
}

// LocalDetection tells Pods from outside clients, by one of its fields.
type LocalDetection struct {
	// ClusterCIDRs are the ranges of all Pods.
	ClusterCIDRs []string `json:"clusterCIDRs,omitempty"`
	// NodeCIDR uses the ranges in this node's spec.podCIDRs.
	NodeCIDR bool `json:"nodeCIDR,omitempty"`
	// InterfacePrefixes begin the names of Pods' interfaces on the node.
	InterfacePrefixes []string `json:"interfacePrefixes,omitempty"`
}
