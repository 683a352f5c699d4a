package kubeproxy

import (
	"maps"
	"slices"
)

// gates are feature gates that kube-proxies have or once had, and what stands in their place here.
var gates = map[string]string{
	"EndpointSlice":                       "it is gone: EndpointSlices are all there is",
	"EndpointSliceProxying":               "it is gone: EndpointSlices are all there is",
	"EndpointSliceTerminatingCondition":   "it is gone: terminating endpoints are always known as such",
	"ExternalPolicyForExternalIP":         "it is gone: externalTrafficPolicy always holds for externalIPs",
	"IPv6DualStack":                       "it is gone: both families are always served",
	"KubeProxyDrainingTerminatingNodes":   "it is gone: /healthz always fails on a node that is about to be removed",
	"LoadBalancerIPMode":                  "it is gone: ipMode is always honoured",
	"MixedProtocolLBService":              "it is gone: a Service may always mix protocols",
	"MultiCIDRServiceAllocator":           "ServiceCIDRs are always followed",
	"NFTablesNetlink":                     "rules are always written over netlink",
	"NFTablesProxyMode":                   "nftables is all there is",
	"PreferSameTrafficDistribution":       "hints are always honoured",
	"ProxyTerminatingEndpoints":           "it is gone: serving terminating endpoints are always the last resort",
	"ServiceInternalTrafficPolicy":        "it is gone: internalTrafficPolicy is always honoured",
	"ServiceNodeExclusion":                "it is gone, and was not for proxies",
	"ServiceTopology":                     "it is gone, and topologyKeys with it: see trafficDistribution",
	"ServiceTrafficDistribution":          "it is gone: trafficDistribution is always honoured, by its hints",
	"SupportIPVSProxyMode":                "it is gone, and there is no mode ipvs here",
	"KubeProxyIPVS":                       "there is no mode ipvs here",
	"KubeProxyNFTablesLocalhostNodePorts": "node ports are never served on loopback",
	"TopologyAwareHints":                  "it is gone: hints are always honoured",
}

// notes names what has no effect and why, in the order of the file's fields. What is at its zero value was not
// asked for.
func (t *Translation) notes(c *Configuration) {
	for _, gate := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		reason, known := gates[gate]
		if !known {
			reason = "this agent has no feature gates"
		}
		t.note(true, "featureGates."+gate, reason)
	}
	const codec = "the agent speaks protobuf, and JSON to API servers that do not"
	t.note(c.ClientConnection.AcceptContentTypes != "", "clientConnection.acceptContentTypes", codec)
	t.note(c.ClientConnection.ContentType != "" && c.ClientConnection.ContentType != "application/vnd.kubernetes.protobuf",
		"clientConnection.contentType", codec)
	t.note(c.Logging.Format != "" && c.Logging.Format != "text", "logging.format", "the log is text")
	t.note(len(c.Logging.VModule) > 0, "logging.vmodule", "it names files of kube-proxy: use logging.verbosity")
	t.note(c.Logging.Options.Text.SplitStream || c.Logging.Options.JSON.SplitStream, "logging.options", "all of the log goes to standard error")
	t.note(c.ShowHiddenMetricsForVersion != "", "showHiddenMetricsForVersion", "no metric is hidden")

	t.note(c.IPTables.LocalhostNodePorts != nil && *c.IPTables.LocalhostNodePorts, "iptables.localhostNodePorts",
		"node ports are never served on loopback")
	t.note(c.IPVS.Scheduler != "" && c.IPVS.Scheduler != "rr", "ipvs.scheduler",
		"nftables has none: each new connection goes to an endpoint by chance, all alike")
	t.note(len(c.IPVS.ExcludeCIDRs) > 0, "ipvs.excludeCIDRs", "the agent never touches IPVS")
	t.note(c.IPVS.StrictARP, "ipvs.strictARP", "no interface here holds addresses of Services, so there is nothing to hide from ARP")
	const timeouts = "connections are the kernel's conntrack's: see conntrack"
	t.note(c.IPVS.TCPTimeout.Duration != 0, "ipvs.tcpTimeout", timeouts)
	t.note(c.IPVS.TCPFinTimeout.Duration != 0, "ipvs.tcpFinTimeout", timeouts)
	t.note(c.IPVS.UDPTimeout.Duration != 0, "ipvs.udpTimeout", timeouts)
	t.note(c.Winkernel != Winkernel{}, "winkernel", "this is not Windows")
	t.note(c.ConfigSyncPeriod.Duration != 0, "configSyncPeriod", "watches bring every change; nothing is listed again to be sure")
	t.note(c.PortRange != "", "portRange", "no proxy has opened ports of its own since kube-proxy's userspace mode is gone")
	t.note(c.WindowsRunAsService, "windowsRunAsService", "this is not Windows")
}
