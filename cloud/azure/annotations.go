package azure

import "github.com/fairlead/fairlead/cloud"

const (
	prefix     = "service.beta.kubernetes.io/azure-"
	portPrefix = "service.beta.kubernetes.io/port_"
)

// Annotations are all that readSettings reads, with N for the number of a port. A test holds the two against each other.
var Annotations = []cloud.AnnotationDoc{
	{Key: prefix + "load-balancer-internal", Values: "`true`, `false`", Default: "the class's scheme, or false", Meaning: "An address of the nodes' network instead of a public one."},
	{Key: prefix + "load-balancer-internal-subnet", Values: "a subnet's name", Default: "the class's subnet, or the configuration's", Meaning: "Subnet of the nodes' network that an internal address comes from."},
	{Key: prefix + "load-balancer-resource-group", Values: "a resource group's name", Default: "the class's, or the configuration's", Meaning: "Where the public addresses are that pip-name names or that are asked for by address. Not without those: what the provider makes is in the configuration's."},
	{Key: prefix + "load-balancer-ipv4", Values: "an address", Default: "", Meaning: "The IPv4 address: of the subnet, or of a public address in the resource group, which is used and never deleted."},
	{Key: prefix + "load-balancer-ipv6", Values: "an address", Default: "", Meaning: "The same for IPv6."},
	{Key: prefix + "pip-name", Values: "a public address's name", Default: "", Meaning: "A public IPv4 address of one's own, which is used and never deleted."},
	{Key: prefix + "pip-name-ipv6", Values: "a public address's name", Default: "", Meaning: "The same for IPv6."},
	{Key: prefix + "pip-prefix-id", Values: "a resource's id", Default: "the class's", Meaning: "Public IP prefix that the IPv4 address is taken from."},
	{Key: prefix + "pip-prefix-id-ipv6", Values: "a resource's id", Default: "the class's", Meaning: "The same for IPv6."},
	{Key: prefix + "pip-tags", Values: "a=1,b=2", Default: "the class's", Meaning: "Tags of the public addresses that are made."},
	{Key: prefix + "dns-label-name", Values: "a label", Default: "", Meaning: "DNS label of the public addresses that are made."},
	{Key: prefix + "load-balancer-tcp-idle-timeout", Values: "4 to 100", Default: "the class's, or 4", Meaning: "Minutes after which an idle TCP connection is dropped."},
	{Key: prefix + "load-balancer-disable-tcp-reset", Values: "`true`, `false`", Default: "as the class says, or false", Meaning: "Drop idle connections without a reset."},
	{Key: prefix + "load-balancer-enable-high-availability-ports", Values: "`true`, `false`", Default: "false", Meaning: "One rule for all ports and protocols. Internal only."},
	{Key: prefix + "disable-load-balancer-floating-ip", Values: "`true`, `false`", Default: "as the class says, or false", Meaning: "Send to node ports, rather than to the balancer's own address and port on the node."},
	{Key: prefix + "load-balancer-health-probe-protocol", Values: "`tcp`, `http`, `https`", Default: "the class's, or as the Service's traffic policy says", Meaning: "Protocol of the probes."},
	{Key: prefix + "load-balancer-health-probe-request-path", Values: "a path", Default: "the class's, or /, or /healthz for Local", Meaning: "Path of HTTP and HTTPS probes."},
	{Key: prefix + "load-balancer-health-probe-interval", Values: "5 to 120", Default: "the class's, or 5", Meaning: "Seconds between two probes."},
	{Key: prefix + "load-balancer-health-probe-num-of-probe", Values: "1 to 20", Default: "the class's, or 2", Meaning: "Probes in a row that take a node out, or bring it back."},
	{Key: prefix + "allowed-service-tags", Values: "a,b", Default: "", Meaning: "Service tags that may connect, beside the source ranges."},
	{Key: prefix + "allowed-ip-ranges", Values: "192.0.2.0/24,…", Default: "", Meaning: "Ranges that may connect, beside the Service's source ranges."},
	{Key: prefix + "pls-create", Values: "`true`, `false`", Default: "false", Meaning: "A private link service for the IPv4 frontend, which is on a balancer of its own kind then. Internal only."},
	{Key: prefix + "pls-name", Values: "a name", Default: "made of the Service's", Meaning: "Its name."},
	{Key: prefix + "pls-ip-configuration-subnet", Values: "a subnet's name", Default: "that of the frontend", Meaning: "Subnet of its addresses."},
	{Key: prefix + "pls-ip-configuration-ip-address-count", Values: "1 to 8", Default: "1", Meaning: "How many addresses it has."},
	{Key: prefix + "pls-ip-configuration-ip-address", Values: "10.0.0.8 10.0.0.9", Default: "Azure chooses", Meaning: "Its first addresses, separated by spaces."},
	{Key: prefix + "pls-fqdns", Values: "a b", Default: "", Meaning: "Names that stand for it, separated by spaces."},
	{Key: prefix + "pls-proxy-protocol", Values: "`true`, `false`", Default: "false", Meaning: "Send the proxy protocol's header first."},
	{Key: prefix + "pls-visibility", Values: "`*` or subscriptions, separated by spaces", Default: "", Meaning: "Who may see it."},
	{Key: prefix + "pls-auto-approval", Values: "subscriptions, separated by spaces", Default: "", Meaning: "Whose connections are approved at once."},
	{Key: portPrefix + "N_no_lb_rule", Values: "`true`, `false`", Default: "false", Meaning: "No rule for this port."},
	{Key: portPrefix + "N_no_probe_rule", Values: "`true`, `false`", Default: "false", Meaning: "No probe for this port: all nodes count as healthy."},
	{Key: portPrefix + "N_health-probe_protocol", Values: "`tcp`, `http`, `https`", Default: "that of all ports", Meaning: "Protocol of the port's probe."},
	{Key: portPrefix + "N_health-probe_port", Values: "a port", Default: "that of the Service's check", Meaning: "Port of the node that is probed."},
	{Key: portPrefix + "N_health-probe_request-path", Values: "a path", Default: "that of all ports", Meaning: "Path of the port's probe."},
	{Key: portPrefix + "N_health-probe_interval", Values: "5 to 120", Default: "that of all ports", Meaning: "Seconds between two probes of the port."},
	{Key: portPrefix + "N_health-probe_num-of-probe", Values: "1 to 20", Default: "that of all ports", Meaning: "Probes in a row of the port."},
}
