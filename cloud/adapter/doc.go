// Package adapter runs an existing cloud provider, written for k8s.io/cloud-provider and its service controller, as a
// provider of package cloud: unchanged, by its methods EnsureLoadBalancer, UpdateLoadBalancer and
// EnsureLoadBalancerDeleted. It is not the way to write a new provider: what it makes is Opaque.
//
// A distributor links the provider, this package and the manager into one program:
//
//	package main
//
//	import (
//		_ "k8s.io/cloud-provider-aws/pkg/providers/v1" // registers itself with k8s.io/cloud-provider as "aws"
//
//		"github.com/fairlead/fairlead/cloud/adapter"
//		"github.com/fairlead/fairlead/cmd/manager/app"
//	)
//
//	func main() {
//		adapter.Register("aws-classic", adapter.Registered("aws"), adapter.Options{})
//		app.Main()
//	}
//
// The name is that of spec.provider in a LoadBalancerClass and of cloud.provider in the manager's configuration, whose
// cloud.configFile goes to the provider as it is.
//
// # What it does
//
// A Service has one resource, LoadBalancer/service. Its attributes are what a balancer can depend on: the Service's spec,
// without its selector and such, and its annotations, without ours and kubectl's. Where they differ from what the provider
// was last told, it is told again, by EnsureLoadBalancer. Its targets are one, which stands for all nodes; where they
// alone differ, UpdateLoadBalancer is called and nothing else. EnsureLoadBalancerDeleted is called whatever is known of a
// balancer, or is not. GetLoadBalancer is never called: addresses are those that EnsureLoadBalancer returned.
//
// What was last told is kept in a cloud.Memory, on the Service's LoadBalancerRecord, so that a restart of the manager
// makes no call. Before each call it is marked as doubtful, after it as told: a manager that is stopped in between tells
// it again. The Service and the Nodes that the provider gets are the real ones, as the manager's cache has them (of a Node:
// metadata without annotations, providerID, taints, addresses, the condition Ready).
//
// An api.RetryError holds calls back for its delay, whoever asks, but for a Service that was changed meanwhile. With
// ImplementedElsewhere the Service is reported as somebody else's: its addresses are left alone, and the provider is still
// told of its deletion.
//
// # What it cannot do
//
// See cloudtest.Run, which names what an Opaque provider does not promise: foreign things are safe only as far as the
// provider makes them, by the Service's UID in a name; what it makes is not listed, so neither drift nor orphans are
// found (change an annotation of the Service to have its balancer ensured once more); a plan says that the provider would
// be told, not what it would do; its calls are counted by method, not by request; of its throttling nothing is known
// unless Options.Classify says so. The ports in an address's status are dropped.
package adapter
