package azure

// Annotation is one that the provider reads.
type Annotation struct {
	Key, Values, Default, Meaning string
}

const (
	prefix     = "service.beta.kubernetes.io/azure-"
	portPrefix = "service.beta.kubernetes.io/port_"
)

// Annotations are all that the provider reads, with N for the number of a port. A test holds them against what is read; the
// documentation is made of them.
var Annotations = []Annotation{
	{prefix + "load-balancer-internal", "true, false", "the class's scheme, or false", "An address of the nodes' network instead of a public one."},
	{prefix + "load-balancer-internal-subnet", "a subnet's name", "the class's subnet, or the configuration's", "Subnet of the nodes' network that an internal address comes from."},
	{prefix + "load-balancer-resource-group", "a resource group's name", "the class's, or the configuration's", "Where the public addresses are that pip-name names. Only with pip-name: what the provider makes is in the configuration's."},
	{prefix + "load-balancer-ipv4", "an address", "", "The IPv4 address: of the subnet, or of a public address in the resource group, which is used and never deleted."},
	{prefix + "load-balancer-ipv6", "an address", "", "The same for IPv6."},
	{prefix + "pip-name", "a public address's name", "", "A public IPv4 address of one's own, which is used and never deleted."},
	{prefix + "pip-name-ipv6", "a public address's name", "", "The same for IPv6."},
	{prefix + "pip-prefix-id", "a resource's id", "", "Public IP prefix that the IPv4 address is taken from."},
	{prefix + "pip-prefix-id-ipv6", "a resource's id", "", "The same for IPv6."},
	{prefix + "pip-tags", "a=1,b=2", "", "Tags of the public addresses that are made."},
	{prefix + "dns-label-name", "a label", "", "DNS label of the public addresses that are made."},
	{prefix + "load-balancer-tcp-idle-timeout", "4 to 100", "the class's, or 4", "Minutes after which an idle TCP connection is dropped."},
	{prefix + "load-balancer-disable-tcp-reset", "true, false", "false", "Drop idle connections without a reset."},
	{prefix + "load-balancer-enable-high-availability-ports", "true, false", "false", "One rule for all ports and protocols. Internal only."},
	{prefix + "disable-load-balancer-floating-ip", "true, false", "false", "Send to node ports, rather than to the balancer's own address and port on the node."},
	{prefix + "load-balancer-health-probe-protocol", "tcp, http, https", "as the Service's traffic policy says", "Protocol of the probes."},
	{prefix + "load-balancer-health-probe-request-path", "a path", "/, or /healthz for Local", "Path of HTTP and HTTPS probes."},
	{prefix + "load-balancer-health-probe-interval", "5 to 120", "5", "Seconds between two probes."},
	{prefix + "load-balancer-health-probe-num-of-probe", "1 to 20", "2", "Probes in a row that take a node out, or bring it back."},
	{prefix + "allowed-service-tags", "a,b", "", "Service tags that may connect, beside the source ranges."},
	{prefix + "allowed-ip-ranges", "192.0.2.0/24,…", "", "Ranges that may connect, beside the Service's source ranges."},
	{prefix + "pls-create", "true, false", "false", "A private link service for the IPv4 frontend. Internal only."},
	{prefix + "pls-name", "a name", "made of the Service's", "Its name."},
	{prefix + "pls-ip-configuration-subnet", "a subnet's name", "that of the frontend", "Subnet of its addresses."},
	{prefix + "pls-ip-configuration-ip-address-count", "1 to 8", "1", "How many addresses it has."},
	{prefix + "pls-fqdns", "a b", "", "Names that stand for it, separated by spaces."},
	{prefix + "pls-proxy-protocol", "true, false", "false", "Send the proxy protocol's header first."},
	{prefix + "pls-visibility", "* or subscriptions, separated by spaces", "", "Who may see it."},
	{prefix + "pls-auto-approval", "subscriptions, separated by spaces", "", "Whose connections are approved at once."},
	{portPrefix + "N_no_lb_rule", "true, false", "false", "No rule for this port."},
	{portPrefix + "N_no_probe_rule", "true, false", "false", "No probe for this port: all nodes count as healthy."},
	{portPrefix + "N_health-probe_protocol", "tcp, http, https", "that of all ports", "Protocol of the port's probe."},
	{portPrefix + "N_health-probe_port", "a port", "that of the Service's check", "Port of the node that is probed."},
	{portPrefix + "N_health-probe_request-path", "a path", "that of all ports", "Path of the port's probe."},
	{portPrefix + "N_health-probe_interval", "5 to 120", "that of all ports", "Seconds between two probes of the port."},
	{portPrefix + "N_health-probe_num-of-probe", "1 to 20", "that of all ports", "Probes in a row of the port."},
}
