package aws

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/fairlead/fairlead/cloud"
)

// Name under which the provider is registered.
const Name = "aws"

// readLag is how far what Describe… shows may be behind.
const readLag = 5 * time.Second

// Capabilities implements cloud.Provider. What the account may send is less than what AWS states: others send, too.
func (p *Provider) Capabilities() cloud.Capabilities { return p.caps }

func capabilities() cloud.Capabilities {
	return cloud.Capabilities{
		Protocols:          []string{"TCP", "UDP"},
		MixedProtocols:     true,
		Families:           []cloud.Family{cloud.IPv4, cloud.IPv6},
		DualStack:          true,
		NodePorts:          true,
		NodeLabels:         true,
		PodTargets:         true,
		TargetHealth:       true,
		LocalHealthChecks:  true,
		SourceRanges:       true,
		SessionAffinity:    true,
		Adopt:              true,
		AnnotationPrefixes: []string{AnnotationPrefix},
		MaxPorts:           50,
		Targets:            cloud.TargetCalls{Max: targetsPerCall, OneResource: true, OneDirection: true},
		Limits:             cloud.Limits{Reads: cloud.Limit{PerSecond: 10, Burst: 40}, Writes: cloud.Limit{PerSecond: 4, Burst: 20}},
		ReadLag:            readLag,
	}
}

// Provider makes network load balancers. It keeps no state but the id of its VPC, and where that has subnets.
type Provider struct {
	elb    *elb.Client
	ec2    compute
	region string
	// clusterName, by which another controller knows the cluster; empty: it is not known.
	clusterName string
	caps        cloud.Capabilities
	// vpc returns the id of the VPC that everything is made in.
	vpc     func(context.Context) (string, error)
	network network
}

var (
	_ cloud.Provider     = (*Provider)(nil)
	_ cloud.HealthReader = (*Provider)(nil)
)

// newProvider makes a provider with a configuration of the SDK's.
func newProvider(config aws.Config, vpc func(context.Context) (string, error), edits ...func(*cloud.Capabilities)) *Provider {
	p := &Provider{region: config.Region, vpc: vpc, caps: capabilities()}
	p.elb, p.ec2 = newClients(config)
	for _, edit := range edits {
		edit(&p.caps)
	}
	return p
}
