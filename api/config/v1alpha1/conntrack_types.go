package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Conntrack is what the node agent does with the kernel's table of connections. The first fields are sysctls; they
// are written only where the kernel lets the agent (the size of the table: in the initial network namespace), and
// named in the log where not. Defaults are those of mode Replace; in mode Coexist nothing is set that is not given here.
type Conntrack struct {
	// MaxPerCore entries for each core of the machine, up to 1048576 in all, are what the table must hold. It is
	// never made smaller. 0 leaves its size alone. Nil: 32768.
	MaxPerCore *int32 `json:"maxPerCore,omitempty"`
	// Min is what the table must hold whatever the number of cores. Nil: 131072.
	Min *int32 `json:"min,omitempty"`
	// TCPEstablishedTimeout is how long an idle connection is remembered. 0 leaves it alone. Nil: 24h.
	TCPEstablishedTimeout *metav1.Duration `json:"tcpEstablishedTimeout,omitempty"`
	// TCPCloseWaitTimeout is how long a connection closed by one end is remembered. 0 leaves it alone. Nil: 1h.
	TCPCloseWaitTimeout *metav1.Duration `json:"tcpCloseWaitTimeout,omitempty"`
	// TCPBeLiberal accepts packets outside of the TCP window. False leaves the setting alone.
	TCPBeLiberal bool `json:"tcpBeLiberal,omitempty"`
	// UDPTimeout is how long a flow without an answer is remembered. Nil and 0 leave it alone.
	UDPTimeout *metav1.Duration `json:"udpTimeout,omitempty"`
	// UDPStreamTimeout is how long a flow with answers is remembered. Nil and 0 leave it alone.
	UDPStreamTimeout *metav1.Duration `json:"udpStreamTimeout,omitempty"`

	// CleanFlows makes the kernel forget UDP flows to endpoints and Services that are gone. Nil: true, in both modes.
	CleanFlows *bool `json:"cleanFlows,omitempty"`
	// ResetTerminated resets TCP connections to Pods that ended. Nil: true, in both modes.
	ResetTerminated *bool `json:"resetTerminated,omitempty"`
}
