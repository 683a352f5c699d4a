// Package gcp makes passthrough network load balancers on Google Cloud, external and internal, by the Compute Engine API: a
// regional backend service, a forwarding rule for each port and family, reserved addresses, a health check, zonal endpoint
// groups of the nodes' machines (GCE_VM_IP) and the firewall rules that let clients and health checks in. It is not the
// controller of Ingresses or of Services of GKE and touches nothing that these have made, unless a Service adopts it.
//
// What is made, by kind and key, and what each needs:
//
//	Address               ipv4, ipv6         reserved, so that rules come and go without a change of address
//	HealthCheck           main               regional
//	NetworkEndpointGroup  the zone           its targets are the nodes of the zone; one for all Services of the cluster
//	BackendService        main               the balancer itself: HealthCheck, NetworkEndpointGroups
//	ForwardingRule        tcp-80-ipv4, …     BackendService (parent), Address
//	Firewall              nodes-ipv4, …      from clients to the balancer's address: Address
//	Firewall              health-ipv4, …     from the health checkers to the nodes
//
// The backend service takes traffic of every protocol (UNSPECIFIED), so that ports of any protocol come and go in place. A
// rule's ports cannot be changed, and two rules of one address cannot have a port in common: so each port has its own. Where a
// Service has too many ports for that (see maxRules), or rules may not share the address, one rule for all ports and protocols stands for them, and the firewall tells them apart.
//
// Marks are words in descriptions; on addresses and rules, whose descriptions cannot be changed, labels where a mark comes or goes
// later. See mark.go. Every change is an operation that ends later, perhaps in failure; see pending.go.
//
// The endpoint groups are the cluster's: once they are made nothing can be written on them but endpoints, so that their owners
// are those of the backend services that point to them. The API does not delete one that is pointed to.
package gcp
