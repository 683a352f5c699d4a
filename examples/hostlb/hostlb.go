// Package hostlb is a worked example of a plugin: a balancer for TCP and UDP in the kernel of one Linux host, the router
// of the nodes. docs/cloud-plugins.md walks through it. The "cloud" is one nftables table; nothing else is kept, neither
// in files nor in memory.
//
// It is not a balancer for every purpose: it knows IPv4 alone, lets everybody in (so that Services with source ranges are
// refused), does not check the health of nodes, and the host has to be on the way of the answers (the nodes' gateway), since
// clients keep their addresses.
package hostlb

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/cloud"
)

// Name under which the provider is registered: spec.provider of a LoadBalancerClass.
const Name = "hostlb"

// AnnotationPrefix of the annotations that a Service may carry for this provider.
const AnnotationPrefix = "hostlb.example.com/"

func init() { cloud.Register(Name, New) }

// Provider makes balancers in a table of the kernel. It keeps no state.
type Provider struct {
	pools  []pool
	kernel kernel
}

var _ cloud.Provider = (*Provider)(nil)

// New is the cloud.Factory. The configuration file names the pools (see configuration); Endpoint is the name of the
// table, empty means "hostlb".
func New(config cloud.Config) (cloud.Provider, error) {
	pools, err := parsePools(config.File)
	if err != nil {
		return nil, err
	}
	name := config.Endpoint
	if name == "" {
		name = Name
	}
	return &Provider{pools: pools, kernel: counted{newTable(name)}}, nil
}

// Capabilities implements cloud.Provider. What is not declared is refused by the core and skipped by the suite.
func (p *Provider) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{
		Protocols:          []string{"TCP", "UDP"},
		MixedProtocols:     true,
		Families:           []cloud.Family{cloud.IPv4},
		NodePorts:          true,
		RequestedAddress:   true,
		AnnotationPrefixes: []string{AnnotationPrefix},
		// One transaction changes one set: the kernel does a transaction as a whole or not at all, and a set that is gone
		// must not keep the others from their nodes.
		Targets: cloud.TargetCalls{OneResource: true},
	}
}

// classes of the kernel's errors. All others are Retry.
var classes = map[unix.Errno]cloud.Class{
	unix.ENOENT:   cloud.NotFound,
	unix.EEXIST:   cloud.Conflict,
	unix.ERESTART: cloud.Conflict, // somebody else changed rules since they were read
	unix.EBUSY:    cloud.Pending,
	unix.ENOBUFS:  cloud.Throttled, // the socket has no room for more
	unix.ENOMEM:   cloud.Quota,
	unix.ENFILE:   cloud.Quota,
}

// Classify implements cloud.Provider.
func (p *Provider) Classify(err error) *cloud.Error {
	if _, decided := errors.AsType[*cloud.Error](err); decided {
		return cloud.Classify(err)
	}
	if number, ok := errors.AsType[unix.Errno](err); ok && classes[number] != "" {
		return &cloud.Error{Class: classes[number], Err: err}
	}
	return cloud.Classify(err)
}
