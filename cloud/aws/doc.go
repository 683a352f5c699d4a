// Package aws makes network load balancers on AWS: a SecurityGroup that lets clients in, a LoadBalancer, and for each port a
// Listener and a TargetGroup of instances or of Pods' addresses. Everything is marked by tags in the call that makes it, and
// names begin with a hash of the owner, so that what is the owner's is found without reading the tags of the whole account.
//
// It makes no application or classic load balancers, buys no addresses, and issues no certificates: those are given by id.
// Package awstest is the emulator that it is tested with.
package aws
