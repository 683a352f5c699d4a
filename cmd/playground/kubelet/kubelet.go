// Package kubelet says how the playground's kubelets are configured: which configuration and flags let a real kubelet run
// unprivileged, in a network namespace, without cgroups, beside others on one machine. It starts nothing.
package kubelet

// Options describe one node.
type Options struct {
	// Name is the node's name; Labels are added to the node (topology.kubernetes.io/zone, say).
	Name   string
	Labels map[string]string
	// NodeIPs are the node's addresses, the primary family first; the kubelet serves on all addresses, port 10250.
	NodeIPs []string
	// ConfigFile is where the caller writes what Config returns; Kubeconfig is the file of the node's credentials.
	ConfigFile, Kubeconfig string
	// Socket is the unix socket of the container runtime.
	Socket string
	// Root is a folder of this node alone: Pods' volumes, certificates and logs go below it. It must be on a disk.
	Root string
	// ClientCAFile is the bundle that signs the API server's client certificate for exec and logs.
	ClientCAFile string
	// ClusterDNS and ClusterDomain go into Pods' resolv.conf. No ClusterDNS means that Pods get no name server.
	ClusterDNS    []string
	ClusterDomain string
}
