package aws

import (
	"maps"
	"strconv"
	"strings"
)

// Attributes by AWS's names that mean something here.
const (
	attributeCrossZone  = "load_balancing.cross_zone.enabled"
	attributeProtection = "deletion_protection.enabled"
	attributeProxy      = "proxy_protocol_v2.enabled"
	attributeSticky     = "stickiness.enabled"
	attributeClientIP   = "preserve_client_ip.enabled"
	attributeIdle       = "tcp.idle_timeout.seconds"
	attributeLogs       = "access_logs.s3.enabled"
	attributeBucket     = "access_logs.s3.bucket"

	attributeDenyGateway = "ipv6.deny_all_igw_traffic"
	// attributeSecondary is how many more addresses a balancer has in each subnet. It can grow only.
	attributeSecondary = "secondary_ips.auto_assigned.per_subnet"
	// attributeTerminate: connections to unhealthy targets are ended, which AWS does not do for UDP. attributeDraining is for how long
	// they go on where it is false.
	attributeTerminate = "target_health_state.unhealthy.connection_termination.enabled"
	attributeDraining  = "target_health_state.unhealthy.draining_interval_seconds"
)

// knownBalancerAttributes are those of network load balancers, with what each is where nobody says otherwise.
var knownBalancerAttributes = map[string]string{
	attributeLogs: "false", attributeBucket: "", "access_logs.s3.prefix": "", attributeProtection: "false",
	attributeCrossZone: "false", "dns_record.client_routing_policy": "any_availability_zone", "zonal_shift.config.enabled": "false",
	attributeDenyGateway: "false", attributeSecondary: "0",
}

// balancerDefaults are the attributes that a new balancer has. Deletion protection is left out, since it is never cleared, and so are
// addresses, which cannot become fewer, the bucket of access logs, of which AWS takes none that is empty, and what depends on the scheme,
// since it would change where the scheme cannot.
func balancerDefaults() map[string]string {
	all := maps.Clone(knownBalancerAttributes)
	delete(all, attributeProtection)
	delete(all, attributeDenyGateway)
	delete(all, attributeSecondary)
	delete(all, attributeBucket)
	return all
}

// alsoAttributes is what a listener of TCP_UDP is to be looked at for that is asked for attributes.
const alsoAttributes = "attributes"

// listenerDefaults are the attributes that a new listener has, of TCP or TCP_UDP.
func listenerDefaults() map[string]string {
	return map[string]string{attributeIdle: strconv.Itoa(defaultIdle)}
}

// knownGroupAttributes are those of target groups.
func knownGroupAttributes() map[string]string { return groupDefaults("TCP", targetInstance) }

// groupDefaults are the attributes that a new target group has, as far as it is known what AWS has in them.
func groupDefaults(protocol, targetType string) map[string]string {
	all := map[string]string{
		"deregistration_delay.timeout_seconds": "300", "deregistration_delay.connection_termination.enabled": "false", attributeProxy: "false",
		attributeClientIP: "true", attributeSticky: "false", "stickiness.type": "source_ip",
		attributeCrossZone: "use_load_balancer_configuration",
		"target_group_health.dns_failover.minimum_healthy_targets.count":                 "1",
		"target_group_health.dns_failover.minimum_healthy_targets.percentage":            "off",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      "1",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
		attributeTerminate: "true", attributeDraining: "0",
	}
	udp := isDatagrams(protocol)
	if udp {
		delete(all, attributeTerminate)
		delete(all, attributeDraining)
		all["deregistration_delay.connection_termination.enabled"] = "true"
	}
	if targetType == targetIP && !udp {
		all[attributeClientIP] = "false"
	}
	return all
}

// shown puts attributes of AWS's as they are shown among those of a resource. What is not shown is taken to be as it is by default: it
// would be set again in every pass.
func shown(into, defaults, all map[string]string) {
	prefixed(into, defaults)
	prefixed(into, all)
}

// prefixed puts attributes of AWS's among those of a resource.
func prefixed(into, all map[string]string) {
	for name, value := range all {
		into[attributePrefix+name] = value
	}
}

// awsAttributes returns the attributes of AWS's among those of a resource that differ from others.
func awsAttributes(of, from map[string]string) map[string]string {
	differ := map[string]string{}
	for name, value := range of {
		if rest, ok := strings.CutPrefix(name, attributePrefix); ok && from[name] != value {
			differ[rest] = value
		}
	}
	return differ
}

// over returns attributes with others over them.
func over(base map[string]string, others ...map[string]string) map[string]string {
	all := maps.Clone(base)
	for _, other := range others {
		maps.Copy(all, other)
	}
	return all
}
