// Package kubelet says how the playground's kubelets are configured: which configuration and flags let a real kubelet run
// unprivileged, in a network namespace, without cgroups, beside others on one machine. It starts nothing.
//
// What the caller must provide: a network namespace with the node's addresses and loopback up; a mount namespace in which
// the kubelet and its container runtime (package cri) run together, so that the runtime sees the volumes that the kubelet
// mounts, with tmpfs over /var/lib and /var/log, whose paths the kubelet has built in for its device plugins and log links;
// and credentials as system:node:NAME in the group system:nodes.
package kubelet

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Options describe one node. All paths are absolute.
type Options struct {
	// Name is the node's name; Labels are added to the node (topology.kubernetes.io/zone, say).
	Name   string
	Labels map[string]string
	// ProviderID by which a cloud knows the node; empty: none does.
	ProviderID string
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

// Flags are the kubelet's command line.
func Flags(o Options) []string {
	flags := []string{
		"--config=" + o.ConfigFile,
		"--kubeconfig=" + o.Kubeconfig,
		"--hostname-override=" + o.Name,
		"--root-dir=" + filepath.Join(o.Root, "kubelet"),
		"--cert-dir=" + filepath.Join(o.Root, "pki"),
	}
	if len(o.NodeIPs) > 0 {
		flags = append(flags, "--node-ip="+strings.Join(o.NodeIPs, ","))
	}
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(o.Labels)) {
		labels = append(labels, key+"="+o.Labels[key])
	}
	if len(labels) > 0 {
		flags = append(flags, "--node-labels="+strings.Join(labels, ","))
	}
	return flags
}

// PodLogs is the folder of the node's Pods' logs.
func PodLogs(o Options) string { return filepath.Join(o.Root, "pods") }

// Config is the content of the kubelet's configuration file (KubeletConfiguration, kubelet.config.k8s.io/v1beta1).
func Config(o Options) ([]byte, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	config := map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + o.Socket,
		"podLogsDir":               PodLogs(o),
		"staticPodPath":            "",
		"clusterDNS":               o.ClusterDNS,
		"clusterDomain":            o.ClusterDomain,
		"providerID":               o.ProviderID,
		"resolvConf":               "",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": o.ClientCAFile},
		},
		"authorization": map[string]any{"mode": "Webhook"},
	}
	for _, part := range []map[string]any{unprivileged(), brisk(), frugal()} {
		maps.Copy(config, part)
	}
	out, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("writing kubelet configuration: %w", err)
	}
	return out, nil
}

func (o Options) validate() error {
	var errs []error
	if o.Name == "" {
		errs = append(errs, errors.New("a kubelet needs its node's name"))
	}
	for _, path := range []struct{ name, value string }{
		{"ConfigFile", o.ConfigFile}, {"Kubeconfig", o.Kubeconfig}, {"Socket", o.Socket}, {"Root", o.Root}, {"ClientCAFile", o.ClientCAFile},
	} {
		if !filepath.IsAbs(path.value) {
			errs = append(errs, fmt.Errorf("kubelet option %s must be an absolute path, not %q", path.name, path.value))
		}
	}
	return errors.Join(errs...)
}

// unprivileged turns off what needs cgroups, other users, or the machine's own settings.
func unprivileged() map[string]any {
	return map[string]any{
		"featureGates":           map[string]bool{"KubeletInUserNamespace": true},
		"cgroupDriver":           "cgroupfs",
		"cgroupsPerQOS":          false,
		"enforceNodeAllocatable": []string{},
		"failCgroupV1":           false,
		"failSwapOn":             false,
		"oomScoreAdj":            0,
		// The node's packet filter is the node agent's.
		"makeIPTablesUtilChains":        false,
		"localStorageCapacityIsolation": false,
		// The kubelet is to watch nobody's disk and evict nobody: the disk is the whole machine's.
		"evictionHard": map[string]string{
			"imagefs.available": "0%", "imagefs.inodesFree": "0%", "memory.available": "1Mi",
			"nodefs.available": "0%", "nodefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
	}
}

// brisk makes the node follow changes at once: its API server is a millisecond away and has nothing else to do.
func brisk() map[string]any {
	return map[string]any{
		"nodeStatusUpdateFrequency": "1s",
		"nodeStatusReportFrequency": "1m",
		// How soon a changed ConfigMap shows up in the volumes that have it.
		"syncFrequency":       "10s",
		"kubeAPIQPS":          200,
		"kubeAPIBurst":        400,
		"eventRecordQPS":      0,
		"registryPullQPS":     0,
		"serializeImagePulls": false,
		"shutdownGracePeriod": "0s",
	}
}

// frugal leaves out work that nobody here looks at.
func frugal() map[string]any {
	return map[string]any{
		"volumeStatsAggPeriod":         "-1s",
		"enableSystemLogHandler":       false,
		"enableProfilingHandler":       false,
		"enableControllerAttachDetach": false,
		"containerLogMaxSize":          "10Mi",
		"nodeStatusMaxImages":          0,
	}
}
