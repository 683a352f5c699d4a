package aws

import (
	"cmp"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// annotation is one that the provider reads.
type annotation struct {
	// name behind AnnotationPrefix; values, standard and meaning are for the page (see cloud.AnnotationDoc).
	name, values, standard, meaning string
	read                            func(a *cloud.Annotations, s *settings, key string)
}

// Annotations is what the page says of them.
func Annotations() []cloud.AnnotationDoc {
	docs := make([]cloud.AnnotationDoc, 0, len(annotations)+2)
	for _, a := range annotations {
		meaning := a.meaning
		if parameter := parameters[a.name]; parameter != "" {
			meaning += "; parameter `" + parameter + "`"
		}
		docs = append(docs, cloud.AnnotationDoc{Key: AnnotationPrefix + a.name, Values: a.values, Default: a.standard, Meaning: meaning})
	}
	return append(docs,
		cloud.AnnotationDoc{Key: AnnotationPrefix + "target-group-attributes.PORT", Values: "`name=value,…`",
			Meaning: "attributes of the target group of one port; they come before `target-group-attributes`"},
		cloud.AnnotationDoc{Key: AnnotationPrefix + "listener-attributes.PROTOCOL-PORT", Values: "`tcp.idle_timeout.seconds=60…6000`", Default: "350",
			Meaning: "attributes of the listener of one port, as in `listener-attributes.TCP-80`, or, where it is UDP as well, `listener-attributes.TCP_UDP-80`, which comes first; listeners of other protocols, and of TLS, have none"})
}

func word(field func(*settings) *string) func(*cloud.Annotations, *settings, string) {
	return func(a *cloud.Annotations, s *settings, key string) { a.String(key, field(s)) }
}

// parameters of a class by what says the same in annotations. Those that concern one Service alone have none: its name, its addresses,
// and what is said of one of its ports.
var parameters = map[string]string{
	"scheme": "scheme", "internal": "scheme", "ip-address-type": "ipAddressType", "subnets": "subnets", "attributes": "attributes",
	"target-group-attributes": "targetGroupAttributes", "additional-resource-tags": "tags", "cross-zone-load-balancing-enabled": "crossZone",
	"access-log-enabled": "attributes", "access-log-s3-bucket-name": "attributes", "access-log-s3-bucket-prefix": "attributes",
	"proxy-protocol": "proxyProtocol", "proxy-protocol-per-target-group": "proxyProtocolPorts",
	"ssl-cert": "tls", "ssl-ports": "tls.ports", "ssl-negotiation-policy": "tls.policy", "backend-protocol": "tls.backend", "alpn-policy": "tls.alpnPolicy",
	"healthcheck-protocol": "healthCheck.protocol", "healthcheck-port": "healthCheck.port", "healthcheck-path": "healthCheck.path",
	"healthcheck-success-codes": "healthCheck.successCodes", "healthcheck-healthy-threshold": "healthCheck.healthyThreshold",
	"healthcheck-unhealthy-threshold": "healthCheck.unhealthyThreshold", "healthcheck-timeout": "healthCheck.timeoutSeconds",
	"healthcheck-interval": "healthCheck.intervalSeconds", "security-groups": "securityGroups", "security-group-prefix-lists": "prefixLists",
	"disable-nlb-sg": "disableSecurityGroups", "manage-backend-security-group-rules": "manageNodeSecurityGroups",
	"enable-icmp-for-path-mtu-discovery": "pathMTUDiscovery", "enable-tcp-udp-listener": "tcpUDPListeners", "target-node-labels": "nodeLabels",
	"minimum-load-balancer-capacity": "capacityUnits", "quic-enabled-ports": "quicPorts",
}

func number(lowest, highest int, field func(*settings) *int) func(*cloud.Annotations, *settings, string) {
	return func(a *cloud.Annotations, s *settings, key string) { a.Int(key, field(s), lowest, highest) }
}

func list(field func(*settings) *[]string) func(*cloud.Annotations, *settings, string) {
	return func(a *cloud.Annotations, s *settings, key string) { a.List(key, field(s)) }
}

// merge reads attributes, which come before those of the class.
func merge(field func(*settings) *map[string]string) func(*cloud.Annotations, *settings, string) {
	return func(a *cloud.Annotations, s *settings, key string) {
		var given map[string]string
		a.Map(key, &given)
		into := field(s)
		if *into == nil && given != nil {
			*into = map[string]string{}
		}
		for name, value := range given {
			(*into)[name] = value
		}
	}
}

// annotations that are read, in the order of the page.
var annotations = []annotation{
	{"type", "`nlb`, `nlb-ip`, `external`", "`external`", "as other controllers have it. With `nlb` the scheme's default is `internet-facing`",
		func(a *cloud.Annotations, s *settings, key string) {
			cloud.Enum(a, key, &s.controller, typeNLB, typeNLBIP, typeExternal)
		}},
	{"nlb-target-type", "`instance`, `ip`", "what the Service sends to", "must agree with `fairlead.dev/targets`: `ip` goes with `Pods`",
		func(a *cloud.Annotations, s *settings, key string) {
			cloud.Enum(a, key, &s.targetType, targetInstance, targetIP)
		}},
	{"name", "1 to 32 letters, digits, dashes", "made from the Service", "name of the balancer. Another one is another balancer",
		func(a *cloud.Annotations, s *settings, key string) {
			if a.String(key, &s.name); s.name != "" && (!nameForm.MatchString(s.name) || strings.HasPrefix(s.name, "internal-") || strings.HasPrefix(s.name, namePrefix)) {
				s.wrong(key, "%q is not 1 to 32 letters, digits and dashes, which begin otherwise than with internal- or %s", s.name, namePrefix)
			}
		}},
	{"internal", "`true`, `false`", "", "the older form of `scheme`, which counts where both are given. `0.0.0.0/0` of old manifests is `true`",
		func(a *cloud.Annotations, s *settings, key string) {
			var internal *bool
			var text string
			if a.String(key, &text); text == "0.0.0.0/0" {
				s.Scheme = v1alpha1.SchemeInternal
				return
			}
			switch truth(a, key, &internal); {
			case internal == nil:
			case *internal:
				s.Scheme = v1alpha1.SchemeInternal
			default:
				s.Scheme = v1alpha1.SchemeExternal
			}
		}},
	{"scheme", "`internal`, `internet-facing`", "`internal`", "from where it is reached",
		func(a *cloud.Annotations, s *settings, key string) {
			var scheme string
			switch cloud.Enum(a, key, &scheme, schemeInternal, schemeInternet); scheme {
			case schemeInternal:
				s.Scheme = v1alpha1.SchemeInternal
			case schemeInternet:
				s.Scheme = v1alpha1.SchemeExternal
			}
		}},
	{"ip-address-type", "`ipv4`, `dualstack`", "`dualstack` where the Service has IPv6", "families of the balancer's addresses",
		func(a *cloud.Annotations, s *settings, key string) {
			cloud.Enum(a, key, &s.addressType, addressTypeFour, addressTypeDouble)
		}},
	{"subnets", "ids or names, one for each zone", "found by tag", "where its addresses are; names are those of the tag `Name`. By default one in each zone with the tag `kubernetes.io/role/elb`, or `kubernetes.io/role/internal-elb`, 8 free addresses, IPv6 where the balancer has it, and no tag of another cluster alone (if `clusterName` is set); they stay as they were when it was made",
		list(func(s *settings) *[]string { return &s.Subnets })},
	{"eip-allocations", "ids of allocations", "AWS's", "elastic addresses, one for each of `subnets`; they stay yours",
		func(a *cloud.Annotations, s *settings, key string) {
			ids(a, s, key, &s.elasticIPs, eipForm, "the id of an allocation")
		}},
	{"private-ipv4-addresses", "addresses", "AWS's", "addresses of an internal balancer, one for each of `subnets`",
		func(a *cloud.Annotations, s *settings, key string) { addressesOf(a, s, key, &s.privateIPs, cloud.IPv4) }},
	{"ipv6-addresses", "addresses", "AWS's", "IPv6 addresses, one for each of `subnets`",
		func(a *cloud.Annotations, s *settings, key string) {
			addressesOf(a, s, key, &s.ipv6Addresses, cloud.IPv6)
		}},
	{"attributes", "`name=value,…`", "AWS's", "attributes of the balancer. `deletion_protection.enabled=true` is set, and never cleared", merge(func(s *settings) *map[string]string { return &s.balancerAttributes })},
	{"target-group-attributes", "`name=value,…`", "AWS's", "attributes of all target groups", merge(func(s *settings) *map[string]string { return &s.groupAttributes })},
	{"additional-resource-tags", "`name=value,…`", "", "tags on everything that is made", func(a *cloud.Annotations, s *settings, key string) {
		merge(func(s *settings) *map[string]string { return &s.tags })(a, s, key)
	}},
	{"cross-zone-load-balancing-enabled", "`true`, `false`", "`false`", "each zone's addresses send to the targets of all zones",
		func(a *cloud.Annotations, s *settings, key string) { truth(a, key, &s.CrossZone) }},
	{"access-log-enabled", "`true`, `false`", "`false`", "access logs to S3", func(a *cloud.Annotations, s *settings, key string) { truth(a, key, &s.accessLogs) }},
	{"access-log-s3-bucket-name", "name", "", "the bucket of the access logs", word(func(s *settings) *string { return &s.accessLogsBucket })},
	{"access-log-s3-bucket-prefix", "prefix", "", "the prefix of the access logs", word(func(s *settings) *string { return &s.accessLogsPrefix })},
	{"proxy-protocol", "`*`", "", "the PROXY protocol, version 2, to all targets",
		func(a *cloud.Annotations, s *settings, key string) { cloud.Enum(a, key, &s.proxyProtocol, "*") }},
	{"proxy-protocol-per-target-group", "ports", "", "the PROXY protocol to the targets of these ports", list(func(s *settings) *[]string { return &s.proxyPorts })},
	{"ssl-cert", "ARNs of certificates", "", "listeners are TLS. The first is their default, the others are for clients that ask for their names (SNI)",
		func(a *cloud.Annotations, s *settings, key string) {
			a.List(key, &s.certificates)
			for i, arn := range s.certificates {
				if slices.Contains(s.certificates[:i], arn) {
					s.wrong(key, "%q is given twice: leave out one", arn)
				}
			}
		}},
	{"ssl-ports", "numbers or names of ports, or `*`", "`*`", "which listeners are TLS, of the Service's ports of TCP", list(func(s *settings) *[]string { return &s.tlsPorts })},
	{"ssl-negotiation-policy", "name of a policy", "`ELBSecurityPolicy-2016-08`", "protocols and ciphers of TLS", word(func(s *settings) *string { return &s.tlsPolicy })},
	{"backend-protocol", "`tcp`, `ssl`, `tls`", "`tcp`", "what TLS listeners speak to targets",
		func(a *cloud.Annotations, s *settings, key string) {
			cloud.Enum(a, key, &s.backendProtocol, "tcp", "ssl", "tls")
		}},
	{"alpn-policy", "`HTTP1Only`, `HTTP2Only`, `HTTP2Optional`, `HTTP2Preferred`, `None`", "", "ALPN of TLS listeners",
		func(a *cloud.Annotations, s *settings, key string) {
			cloud.Enum(a, key, &s.alpn, "HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred", "None")
		}},
	{"healthcheck-protocol", "`tcp`, `http`, `https`", "`tcp`; `http` with `externalTrafficPolicy: Local`", "how targets are checked",
		func(a *cloud.Annotations, s *settings, key string) {
			given := s.check.protocol
			if a.String(key, &given); given != s.check.protocol {
				if given = strings.ToLower(given); given != "tcp" && given != "http" && given != "https" {
					s.wrong(key, "%q is not one of tcp, http, https", given)
					return
				}
				s.check.protocol = given
			}
		}},
	{"healthcheck-port", "`traffic-port`, or a number", "`traffic-port`; `healthCheckNodePort` with Local", "on which port",
		func(a *cloud.Annotations, s *settings, key string) {
			var given string
			var number int
			if a.String(key, &given); given != "" && given != trafficPort {
				if a.Int(key, &number, 1, 65535); number == 0 {
					return
				}
			}
			s.check.port = cmp.Or(given, s.check.port)
		}},
	{"healthcheck-path", "path", "`/`; `/healthz` with Local", "of HTTP and HTTPS", word(func(s *settings) *string { return &s.check.path })},
	{"healthcheck-success-codes", "codes", "`200-399`", "of HTTP and HTTPS", word(func(s *settings) *string { return &s.check.codes })},
	{"healthcheck-healthy-threshold", "2 to 10", "3; 2 with Local", "checks in a row that bring a target in", number(2, 10, func(s *settings) *int { return &s.check.healthy })},
	{"healthcheck-unhealthy-threshold", "2 to 10", "3; 2 with Local", "checks in a row that take a target out", number(2, 10, func(s *settings) *int { return &s.check.unhealthy })},
	{"healthcheck-timeout", "2 to 120", "10; 6 with Local", "seconds", number(2, 120, func(s *settings) *int { return &s.check.timeout })},
	{"healthcheck-interval", "5 to 300", "10", "seconds", number(5, 300, func(s *settings) *int { return &s.check.interval })},
	{"security-groups", "ids or names", "one is made", "the balancer's security groups, which are not changed; names are those of the tag `Name`, not of the group",
		list(func(s *settings) *[]string { return &s.SecurityGroups })},
	{"security-group-prefix-lists", "ids of prefix lists", "", "clients that may connect, beside the source ranges",
		func(a *cloud.Annotations, s *settings, key string) {
			ids(a, s, key, &s.PrefixLists, prefixesForm, "the id of a prefix list")
		}},
	{"disable-nlb-sg", "`true`, `false`", "`false`", "makes the balancer without security groups. It cannot have any later",
		func(a *cloud.Annotations, s *settings, key string) { a.Bool(key, &s.noGroup) }},
	{"manage-backend-security-group-rules", "`true`, `false`", "`false`", "rules in the nodes' security group let the balancer's in, to node ports and for health checks. Otherwise it is not changed",
		func(a *cloud.Annotations, s *settings, key string) { a.Bool(key, &s.manageNodes) }},
	{"enable-icmp-for-path-mtu-discovery", "`on`, `off`", "`off`", "lets ICMP's “fragmentation needed” in, from where clients are",
		func(a *cloud.Annotations, s *settings, key string) { cloud.Enum(a, key, &s.pathMTU, "on", "off") }},
	{"enable-tcp-udp-listener", "`true`, `false`", "`true`", "ports of one number that are TCP and UDP have one listener for both",
		func(a *cloud.Annotations, s *settings, key string) { a.Bool(key, &s.tcpUDP) }},
	{"target-node-labels", "`name=value,…`", "all nodes", "only nodes that have all of these labels are targets",
		func(a *cloud.Annotations, s *settings, key string) { nodeLabels(a, s, key) }},
	{"minimum-load-balancer-capacity", "`CapacityUnits=N`", "", "reserves capacity. What is reserved otherwise is left alone without it", capacityUnits},
	{"quic-enabled-ports", "number or name of a port, or `*`", "", "the listener of this port of UDP is QUIC, which finds a connection's Pod by its id when the client's address changes. Needs `disable-nlb-sg` and targets that are Pods",
		list(func(s *settings) *[]string { return &s.quicPorts })},
	{"multi-cluster-target-group", "`false`", "`false`", "a target group is one cluster's alone: `true` is refused",
		func(a *cloud.Annotations, s *settings, key string) {
			var several bool
			if a.Bool(key, &several); several {
				s.wrong(key, "a target group is one cluster's alone: remove it")
			}
		}},
}
