// Package cloudproviders runs cloud providers as they are shipped for the cloud controller manager behind cloud/adapter:
// so far k8s.io/cloud-provider-aws, with network load balancers, against a server in the test's process that answers the
// query APIs of EC2 and Elastic Load Balancing as far as that provider needs them.
//
// It is a nested module, so that clouds' SDKs do not reach the product's go.sum, and it holds tests alone. What Amazon's
// servers do beyond what is asked for here is not tested: classic load balancers, security groups of balancers
// (NLBSecurityGroupMode Managed), TLS, instance metadata, what takes minutes.
package cloudproviders
