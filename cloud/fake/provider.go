package fake

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/cloud"
)

// Name under which the provider is registered.
const Name = "fake"

// AnnotationPrefix of the provider's annotations: the same settings as the class's parameters, for one Service.
const AnnotationPrefix = "fake.fairlead.dev/"

// Tags on every object of ours. There is one of tagOwner for each owner, so that two who join or leave at the same time
// do not undo each other's mark. tagService is for people.
const (
	tagOwner   = "fairlead.dev/owner/" // and the Service's UID; the value is the cluster's id
	tagCluster = "fairlead.dev/cluster"
	tagGroup   = "fairlead.dev/group" // of a shared object
	tagService = "fairlead.dev/service"
	tagKey     = "fairlead.dev/key"
	tagIPMode  = "fairlead.dev/ip-mode"
	tagAdopted = "fairlead.dev/adopted" // the id of the balancer with which it was
	tagLent    = "fairlead.dev/lent"
)

// Attributes that are kept in tags, since they are not the cloud's business.
var tagged = map[string]string{"group": tagGroup, "ipMode": tagIPMode}

func init() {
	cloud.Register(Name, func(config cloud.Config) (cloud.Provider, error) {
		if config.File != nil {
			return nil, fmt.Errorf("the fake cloud has no configuration file: leave it out")
		}
		if config.Endpoint == "" {
			return NewProvider(New(Options{})), nil
		}
		client, err := NewClient(config.Endpoint)
		if err != nil {
			return nil, err
		}
		return NewProvider(client), nil
	})
}

// Provider makes balancers in a fake cloud. It keeps no state.
type Provider struct {
	api  API
	caps cloud.Capabilities
}

var (
	_ cloud.Provider = (*Provider)(nil)
	_ cloud.Adopter  = (*Provider)(nil)
	_ cloud.Checker  = (*Provider)(nil)
)

// NewProvider makes a provider for a cloud in the same process (a *Cloud) or behind HTTP (a *Client). Each edit changes
// what the provider says of itself, such as the limits of the account.
func NewProvider(api API, edits ...func(*cloud.Capabilities)) *Provider {
	p := &Provider{api: counted{api}, caps: cloud.Capabilities{
		Protocols:          []string{"TCP", "UDP"},
		MixedProtocols:     true,
		Families:           []cloud.Family{cloud.IPv4, cloud.IPv6},
		DualStack:          true,
		NodePorts:          true,
		PodTargets:         true,
		TargetHealth:       true,
		LocalHealthChecks:  true,
		SourceRanges:       true,
		SessionAffinity:    true,
		RequestedAddress:   true,
		Adopt:              true,
		TakeBack:           true,
		Share:              true,
		AnnotationPrefixes: []string{AnnotationPrefix},
		Targets:            cloud.TargetCalls{Max: MaxTargetsPerCall},
	}}
	for _, edit := range edits {
		edit(&p.caps)
	}
	return p
}

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities { return p.caps }

// counted has every call wait for the account's limits.
type counted struct{ API }

func (c counted) Create(ctx context.Context, object Object) (Object, error) {
	if err := cloud.Wait(ctx, cloud.Write); err != nil {
		return Object{}, err
	}
	return c.API.Create(ctx, object)
}

func (c counted) Check(ctx context.Context, request CheckRequest) error {
	if err := cloud.Wait(ctx, cloud.Read); err != nil {
		return err
	}
	return c.API.Check(ctx, request)
}

func (c counted) Update(ctx context.Context, object Object) (Object, error) {
	if err := cloud.Wait(ctx, cloud.Write); err != nil {
		return Object{}, err
	}
	return c.API.Update(ctx, object)
}

func (c counted) Delete(ctx context.Context, id string) error {
	if err := cloud.Wait(ctx, cloud.Write); err != nil {
		return err
	}
	return c.API.Delete(ctx, id)
}

func (c counted) List(ctx context.Context, sets ...map[string]string) ([]Object, error) {
	if err := cloud.Wait(ctx, cloud.Read); err != nil {
		return nil, err
	}
	return c.API.List(ctx, sets...)
}

func (c counted) SyncTargets(ctx context.Context, requests []TargetsRequest) error {
	if err := cloud.Wait(ctx, cloud.Write); err != nil {
		return err
	}
	return c.API.SyncTargets(ctx, requests)
}

// settings are the class's parameters, or what the Service's annotations say instead.
type settings struct {
	Pool                       string `json:"pool"`
	HealthCheckIntervalSeconds int    `json:"healthCheckIntervalSeconds"`
	UnhealthyThreshold         int    `json:"unhealthyThreshold"`
	IPMode                     string `json:"ipMode"`
}

// Annotations that readSettings reads.
var Annotations = []cloud.AnnotationDoc{
	{Key: AnnotationPrefix + "pool", Values: "name of a pool", Default: "the first pool of the family", Meaning: "where addresses come from"},
	{Key: AnnotationPrefix + "health-check-interval-seconds", Values: "1 to 300", Default: "1", Meaning: "time between two health checks of a target"},
	{Key: AnnotationPrefix + "unhealthy-threshold", Values: "1 to 10", Default: "2", Meaning: "failed checks in a row that take a target out; as many passed ones bring it back"},
	{Key: AnnotationPrefix + "ip-mode", Values: "`VIP`, `Proxy`", Default: "`VIP`", Meaning: "published with the address: whether nodes may answer for it themselves"},
}

func readSettings(spec cloud.Spec) (settings, error) {
	s := settings{HealthCheckIntervalSeconds: 1, UnhealthyThreshold: 2, IPMode: "VIP"}
	unread := cloud.DecodeParameters(spec.Parameters, &s)
	a := cloud.NewAnnotations(spec.Annotations, AnnotationPrefix)
	a.String(AnnotationPrefix+"pool", &s.Pool)
	a.Int(AnnotationPrefix+"health-check-interval-seconds", &s.HealthCheckIntervalSeconds, 1, 300)
	a.Int(AnnotationPrefix+"unhealthy-threshold", &s.UnhealthyThreshold, 1, 10)
	cloud.Enum(a, AnnotationPrefix+"ip-mode", &s.IPMode, "VIP", "Proxy")
	return s, cloud.UserErrors(unread, a.Err())
}

// Desired implements cloud.Provider: per family an Address; one Balancer; per port a HealthCheck, and per port and
// family a TargetSet and a Listener. Services of a group share addresses and balancer. The sets of a Service that sends to
// Pods, and their checks, have keys of their own: the cloud cannot turn one kind of set into the other.
func (p *Provider) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	s, wrong := readSettings(spec)
	group := spec.Owner.GroupID()
	// Joining a group and leaving it changes the address: only with consent.
	balancer := cloud.Resource{Kind: KindBalancer, Key: "main", Fixed: true, Shared: group != "",
		Attributes: map[string]string{"group": group}, Immutable: []string{"group"}}
	var resources []cloud.Resource
	for _, family := range spec.Families {
		address := cloud.Resource{Kind: KindAddress, Key: strings.ToLower(string(family)), Fixed: true, Shared: group != "",
			Attributes: map[string]string{"family": string(family), "pool": s.Pool, "requested": "", "ipMode": s.IPMode, "group": group},
			Immutable:  []string{"family", "pool", "requested", "group"},
		}
		if requested, err := netip.ParseAddr(spec.RequestedAddress); err == nil && requested.Is4() == (family == cloud.IPv4) {
			address.Attributes["requested"] = requested.String()
		}
		balancer.DependsOn = append(balancer.DependsOn, cloud.Ref{Kind: KindAddress, Key: address.Key})
		resources = append(resources, address)
	}
	for _, port := range spec.Ports {
		resources = append(resources, portResources(spec, s, port)...)
	}
	return append(resources, balancer), wrong
}

func portResources(spec cloud.Spec, s settings, port cloud.Port) []cloud.Resource {
	suffix := ""
	if spec.PodTargets {
		suffix = "-pods"
	}
	check := cloud.Resource{Kind: KindHealthCheck, Key: port.Key() + suffix, Immutable: []string{"protocol"}, Follows: []string{"port", "path"},
		Attributes: map[string]string{
			"protocol":        port.HealthCheck.Protocol,
			"port":            strconv.Itoa(int(port.HealthCheck.Port)),
			"path":            port.HealthCheck.Path,
			"intervalSeconds": strconv.Itoa(s.HealthCheckIntervalSeconds),
			"threshold":       strconv.Itoa(s.UnhealthyThreshold),
		}}
	resources := []cloud.Resource{check}
	for _, family := range spec.Families {
		key := port.Key() + "-" + strings.ToLower(string(family))
		set := cloud.Resource{Kind: KindTargetSet, Key: key + suffix, Immutable: []string{"protocol", "family"}, HasTargets: true,
			Attributes: map[string]string{"protocol": port.Protocol, "port": strconv.Itoa(int(port.NodePort)),
				"family": string(family)},
			DependsOn: []cloud.Ref{{Kind: KindHealthCheck, Key: check.Key}},
		}
		set.Targets = targets(spec, port, family)
		listener := cloud.Resource{Kind: KindListener, Key: key, Immutable: []string{"protocol", "port", "family"},
			Attributes: map[string]string{"protocol": port.Protocol, "port": strconv.Itoa(int(port.Port)),
				"family": string(family), "sourceRanges": prefixList(spec.SourceRanges),
				"affinitySeconds": strconv.Itoa(int(spec.AffinitySeconds))},
			DependsOn: []cloud.Ref{
				{Kind: KindBalancer, Key: "main", Parent: true},
				{Kind: KindTargetSet, Key: set.Key},
			},
		}
		resources = append(resources, set, listener)
	}
	return resources
}

// targets are the addresses of nodes, or those of Pods with the port that each has, sorted.
func targets(spec cloud.Spec, port cloud.Port, family cloud.Family) []cloud.Target {
	var all []cloud.Target
	for _, node := range spec.Nodes {
		if address := node.Address(family); address != "" {
			all = append(all, cloud.Target{ID: address})
		}
	}
	for _, e := range spec.Endpoints {
		if number, ok := e.Ports[port.Key()]; ok && e.Family() == family {
			all = append(all, cloud.Target{ID: net.JoinHostPort(e.Address, strconv.Itoa(int(number)))})
		}
	}
	slices.SortFunc(all, func(a, b cloud.Target) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func prefixList(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		texts[i] = prefix.String()
	}
	return cloud.List(texts)
}
