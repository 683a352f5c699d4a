// Package cloudproviders runs cloud providers as they are shipped for the cloud controller manager behind cloud/adapter:
// so far k8s.io/cloud-provider-aws, with network load balancers, on the emulator that cloud/aws is tested with. So a client
// that somebody else wrote agrees with that emulator, too.
//
// It is a nested module, so that clouds' SDKs do not reach the product's go.sum, and it holds tests alone. What Amazon's
// servers do beyond what is asked for here is not tested: classic load balancers, security groups of balancers
// (NLBSecurityGroupMode Managed), TLS, instance metadata, what takes minutes.
package cloudproviders
