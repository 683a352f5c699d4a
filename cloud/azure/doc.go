// Package azure makes balancers of Azure's Standard Load Balancer. It is a cloud.Provider, registered as "azure", by the SDK's
// armnetwork. It knows nothing of the cluster's other networks, and of machines and scale sets only what private links need.
//
// # What a Service has
//
//   - PublicIP, one for each family, unless the Service is internal or names an address of its own;
//   - Rules, one for each family: its part of a load balancer, that is a frontend, and for each port a rule and a probe;
//   - SecurityRule, one for each family where something is to be allowed or denied: its part of the security group of the
//     nodes' subnet;
//   - PrivateLinkService, where an internal Service asks for one.
//
// Load balancers, one public and one internal and others behind them as 250 rules are used up, are shared by all Services
// of the cluster and belong to none: the first part makes one, the last takes it along. So do their backend pools, one for
// each family, of addresses of nodes, that all rules of the family send to. Frontends of private link services are on an internal
// balancer of their own, whose pool is of network interfaces: Azure has none for pools of addresses.
//
// # How it is written
//
// Azure takes a load balancer as a whole, and a security group, and works on one for seconds. So what Services want of one
// of them is gathered (see writer), and written with If-Match on what was read. A Create, Update or Delete that comes early
// is Pending; the one that finds that it was long enough writes for all.
//
// Marks: a public address carries tags; a balancer the cluster's, its parts the Service's UID in their names; a security rule
// both, in its description and name.
package azure
