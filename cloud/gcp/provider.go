package gcp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	"google.golang.org/api/compute/v1"
	"google.golang.org/api/option"

	"github.com/fairlead/fairlead/cloud"
)

// maxEndpointsPerCall of attaching and detaching.
const maxEndpointsPerCall = 500

// markLag is for how long a mark may not show that an adoption has put on something with another's name: as long as the
// operation takes that writes it. What is made anew shows by its name meanwhile (see unseen).
const markLag = 20 * time.Second

// Provider makes balancers in one project and region. Of what is in the cloud it keeps nothing but the operations that it
// began (see pending.go).
type Provider struct {
	config Config
	api    *api
	late   late
	caps   cloud.Capabilities
}

var (
	_ cloud.Provider = (*Provider)(nil)
	_ cloud.Adopter  = (*Provider)(nil)
	_ cloud.Checker  = (*Provider)(nil)
)

// NewProvider makes a provider that sends by the client, which has to bring credentials. Each edit changes what the provider
// says of itself, such as the limits of the account.
func NewProvider(ctx context.Context, config Config, client *http.Client, edits ...func(*cloud.Capabilities)) (*Provider, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	next := client.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	options := []option.ClientOption{option.WithHTTPClient(&http.Client{Transport: counted{next}})}
	if config.Endpoint != "" {
		options = append(options, option.WithEndpoint(config.Endpoint))
	}
	svc, err := compute.NewService(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("making a client of the Compute Engine API: %w", err)
	}
	p := &Provider{config: config, caps: cloud.Capabilities{
		Protocols:          []string{"TCP", "UDP"},
		MixedProtocols:     true,
		Families:           []cloud.Family{cloud.IPv4, cloud.IPv6},
		DualStack:          true,
		NodePorts:          true,
		SourceRanges:       config.managesFirewalls(),
		Passthrough:        true,
		SessionAffinity:    true,
		LocalHealthChecks:  true,
		RequestedAddress:   true,
		Adopt:              true,
		AnnotationPrefixes: annotationPrefixes,
		Targets:            cloud.TargetCalls{Max: maxEndpointsPerCall, OneDirection: true, Together: true},
		ReadLag:            markLag,
		// A project's rates are by the minute and by the group of methods: lists and reads 1500, mutations 1500 and, of one
		// kind, a few hundred. Half of it is left to others.
		Limits: cloud.Limits{Reads: cloud.Limit{PerSecond: 12, Burst: 60}, Writes: cloud.Limit{PerSecond: 5, Burst: 30}},
	}}
	p.api = &api{svc: svc, config: &p.config}
	p.api.classOf = func(err error) cloud.Class { return p.Classify(err).Class }
	for _, edit := range edits {
		edit(&p.caps)
	}
	return p, nil
}

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities { return p.caps }

// metadataPlace asks the machine's metadata server for its project and region.
func metadataPlace(ctx context.Context) (project, region string, err error) {
	client := metadata.NewClient(nil)
	project, projectErr := client.ProjectIDWithContext(ctx)
	zone, zoneErr := client.ZoneWithContext(ctx)
	if err := errors.Join(projectErr, zoneErr); err != nil {
		return "", "", err
	}
	i := strings.LastIndexByte(zone, '-')
	if i < 0 {
		return "", "", fmt.Errorf("zone %q is in no region", zone)
	}
	return project, zone[:i], nil
}
