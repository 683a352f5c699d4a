package plugin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

// The two forms of each type, the contract's and the wire's. An empty list, map or text is nil or empty on the other side,
// which mean the same everywhere in the contract.

// each converts a list.
func each[A, B any](list []A, convert func(A) B) []B {
	if len(list) == 0 {
		return nil
	}
	converted := make([]B, len(list))
	for i, element := range list {
		converted[i] = convert(element)
	}
	return converted
}

// text converts between kinds of strings.
func text[A, B ~string](a A) B { return B(a) }

func toDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func fromDuration(d *durationpb.Duration) time.Duration { return d.AsDuration() }

func toOwner(o cloud.Owner) *pluginv1alpha1.Owner {
	return &pluginv1alpha1.Owner{ClusterId: o.ClusterID, ServiceUid: o.ServiceUID, Namespace: o.Namespace, Name: o.Name, Group: o.Group}
}

func fromOwner(o *pluginv1alpha1.Owner) cloud.Owner {
	return cloud.Owner{ClusterID: o.GetClusterId(), ServiceUID: o.GetServiceUid(), Namespace: o.GetNamespace(), Name: o.GetName(), Group: o.GetGroup()}
}

func toSpec(s cloud.Spec) *pluginv1alpha1.Spec {
	return &pluginv1alpha1.Spec{
		Owner:            toOwner(s.Owner),
		Parameters:       s.Parameters,
		Annotations:      s.Annotations,
		Families:         each(s.Families, text[cloud.Family, string]),
		Ports:            each(s.Ports, toPort),
		Nodes:            each(s.Nodes, toNode),
		SourceRanges:     each(s.SourceRanges, netip.Prefix.String),
		AffinitySeconds:  s.AffinitySeconds,
		LocalOnly:        s.LocalOnly,
		RequestedAddress: s.RequestedAddress,
		PodTargets:       s.PodTargets,
		Endpoints:        each(s.Endpoints, toEndpoint),
	}
}

func fromSpec(s *pluginv1alpha1.Spec) (cloud.Spec, error) {
	spec := cloud.Spec{
		Owner:            fromOwner(s.GetOwner()),
		Annotations:      s.GetAnnotations(),
		Families:         each(s.GetFamilies(), text[string, cloud.Family]),
		Ports:            each(s.GetPorts(), fromPort),
		Nodes:            each(s.GetNodes(), fromNode),
		AffinitySeconds:  s.GetAffinitySeconds(),
		LocalOnly:        s.GetLocalOnly(),
		RequestedAddress: s.GetRequestedAddress(),
		PodTargets:       s.GetPodTargets(),
		Endpoints:        each(s.GetEndpoints(), fromEndpoint),
	}
	if len(s.GetParameters()) > 0 {
		spec.Parameters = json.RawMessage(s.GetParameters())
	}
	for _, source := range s.GetSourceRanges() {
		prefix, err := netip.ParsePrefix(source)
		if err != nil {
			return cloud.Spec{}, fmt.Errorf("reading source_ranges: %w", err)
		}
		spec.SourceRanges = append(spec.SourceRanges, prefix)
	}
	return spec, nil
}

func toPort(p cloud.Port) *pluginv1alpha1.Port {
	check := &pluginv1alpha1.HealthCheck{Protocol: p.HealthCheck.Protocol, Port: p.HealthCheck.Port, Path: p.HealthCheck.Path}
	return &pluginv1alpha1.Port{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort, HealthCheck: check}
}

func fromPort(p *pluginv1alpha1.Port) cloud.Port {
	check := p.GetHealthCheck()
	return cloud.Port{Name: p.GetName(), Protocol: p.GetProtocol(), Port: p.GetPort(), NodePort: p.GetNodePort(),
		HealthCheck: cloud.HealthCheck{Protocol: check.GetProtocol(), Port: check.GetPort(), Path: check.GetPath()}}
}

func toEndpoint(e cloud.Endpoint) *pluginv1alpha1.Endpoint {
	return &pluginv1alpha1.Endpoint{Address: e.Address, Ports: e.Ports, Zone: e.Zone, Node: e.Node, Pod: e.Pod, PodUid: e.PodUID}
}

func fromEndpoint(e *pluginv1alpha1.Endpoint) cloud.Endpoint {
	return cloud.Endpoint{Address: e.GetAddress(), Ports: e.GetPorts(), Zone: e.GetZone(), Node: e.GetNode(), Pod: e.GetPod(), PodUID: e.GetPodUid()}
}

func toNode(n cloud.Node) *pluginv1alpha1.Node {
	return &pluginv1alpha1.Node{Name: n.Name, ProviderId: n.ProviderID, Zone: n.Zone, Addresses: n.Addresses, Labels: n.Labels}
}

func fromNode(n *pluginv1alpha1.Node) cloud.Node {
	return cloud.Node{Name: n.GetName(), ProviderID: n.GetProviderId(), Zone: n.GetZone(), Addresses: n.GetAddresses(), Labels: n.GetLabels()}
}

func toResource(r cloud.Resource) *pluginv1alpha1.Resource {
	return &pluginv1alpha1.Resource{
		Kind: r.Kind, Key: r.Key, Id: r.ID,
		Attributes: r.Attributes,
		Immutable:  r.Immutable,
		Fixed:      r.Fixed,
		Beside:     r.Beside,
		Follows:    r.Follows,
		Excludes:   r.Excludes,
		Shared:     r.Shared,
		DependsOn:  each(r.DependsOn, toRef),
		HasTargets: r.HasTargets,
		Targets:    each(r.Targets, toTarget),
		State:      string(r.State),
		Owners:     each(r.Owners, text[cloud.OwnerID, string]),
		Ingress:    each(r.Ingress, toIngress),
		Adopted:    r.Adopted,
		Lent:       r.Lent,
	}
}

func fromResource(r *pluginv1alpha1.Resource) cloud.Resource {
	return cloud.Resource{
		Kind: r.GetKind(), Key: r.GetKey(), ID: r.GetId(),
		Attributes: r.GetAttributes(),
		Immutable:  r.GetImmutable(),
		Fixed:      r.GetFixed(),
		Beside:     r.GetBeside(),
		Follows:    r.GetFollows(),
		Excludes:   r.GetExcludes(),
		Shared:     r.GetShared(),
		DependsOn:  each(r.GetDependsOn(), fromRef),
		HasTargets: r.GetHasTargets(),
		Targets:    each(r.GetTargets(), fromTarget),
		State:      cloud.State(r.GetState()),
		Owners:     each(r.GetOwners(), text[string, cloud.OwnerID]),
		Ingress:    each(r.GetIngress(), fromIngress),
		Adopted:    r.GetAdopted(),
		Lent:       r.GetLent(),
	}
}

func toRef(r cloud.Ref) *pluginv1alpha1.Ref {
	return &pluginv1alpha1.Ref{Kind: r.Kind, Key: r.Key, Id: r.ID, Parent: r.Parent}
}

func fromRef(r *pluginv1alpha1.Ref) cloud.Ref {
	return cloud.Ref{Kind: r.GetKind(), Key: r.GetKey(), ID: r.GetId(), Parent: r.GetParent()}
}

func toTarget(t cloud.Target) *pluginv1alpha1.Target {
	return &pluginv1alpha1.Target{Id: t.ID, Address: t.Address, Zone: t.Zone, Port: t.Port}
}

func fromTarget(t *pluginv1alpha1.Target) cloud.Target {
	return cloud.Target{ID: t.GetId(), Address: t.GetAddress(), Zone: t.GetZone(), Port: t.GetPort()}
}

func toIngress(in cloud.Ingress) *pluginv1alpha1.Ingress {
	return &pluginv1alpha1.Ingress{Ip: in.IP, Hostname: in.Hostname, IpMode: in.IPMode}
}

func fromIngress(in *pluginv1alpha1.Ingress) cloud.Ingress {
	return cloud.Ingress{IP: in.GetIp(), Hostname: in.GetHostname(), IPMode: in.GetIpMode()}
}

func toChange(c cloud.TargetChange) *pluginv1alpha1.TargetChange {
	return &pluginv1alpha1.TargetChange{Owner: toOwner(c.Owner), Resource: toResource(c.Resource),
		Add: each(c.Add, toTarget), Remove: each(c.Remove, toTarget)}
}

func fromChange(c *pluginv1alpha1.TargetChange) cloud.TargetChange {
	return cloud.TargetChange{Owner: fromOwner(c.GetOwner()), Resource: fromResource(c.GetResource()),
		Add: each(c.GetAdd(), fromTarget), Remove: each(c.GetRemove(), fromTarget)}
}

func toHealth(h cloud.TargetHealth) *pluginv1alpha1.TargetHealth {
	return &pluginv1alpha1.TargetHealth{Resource: h.Resource, Target: h.Target, Health: string(h.Health)}
}

func fromHealth(h *pluginv1alpha1.TargetHealth) cloud.TargetHealth {
	return cloud.TargetHealth{Resource: h.GetResource(), Target: h.GetTarget(), Health: cloud.Health(h.GetHealth())}
}

func toAdoptable(a cloud.Adoptable) *pluginv1alpha1.Adoptable {
	return &pluginv1alpha1.Adoptable{Id: a.ID, AdoptableBy: a.AdoptableBy, MadeBy: a.MadeBy, Consent: a.Consent, Resources: each(a.Resources, toResource)}
}

func fromAdoptable(a *pluginv1alpha1.Adoptable) cloud.Adoptable {
	return cloud.Adoptable{ID: a.GetId(), AdoptableBy: a.GetAdoptableBy(), MadeBy: a.GetMadeBy(), Consent: a.GetConsent(),
		Resources: each(a.GetResources(), fromResource)}
}

func toCapabilities(c cloud.Capabilities) *pluginv1alpha1.Capabilities {
	return &pluginv1alpha1.Capabilities{
		Protocols:          c.Protocols,
		MixedProtocols:     c.MixedProtocols,
		Families:           each(c.Families, text[cloud.Family, string]),
		DualStack:          c.DualStack,
		NodePorts:          c.NodePorts,
		NodeLabels:         c.NodeLabels,
		PodTargets:         c.PodTargets,
		TargetHealth:       c.TargetHealth,
		LocalHealthChecks:  c.LocalHealthChecks,
		SourceRanges:       c.SourceRanges,
		Passthrough:        c.Passthrough,
		SessionAffinity:    c.SessionAffinity,
		RequestedAddress:   c.RequestedAddress,
		Adopt:              c.Adopt,
		TakeBack:           c.TakeBack,
		Share:              c.Share,
		AnnotationPrefixes: c.AnnotationPrefixes,
		MaxPorts:           int32(c.MaxPorts),
		Targets: &pluginv1alpha1.TargetCalls{Max: int32(c.Targets.Max), OneResource: c.Targets.OneResource,
			OneDirection: c.Targets.OneDirection, Together: c.Targets.Together},
		Limits:  &pluginv1alpha1.Limits{Reads: toLimit(c.Limits.Reads), Writes: toLimit(c.Limits.Writes)},
		ReadLag: toDuration(c.ReadLag),
	}
}

func fromCapabilities(c *pluginv1alpha1.Capabilities) cloud.Capabilities {
	targets := c.GetTargets()
	return cloud.Capabilities{
		Protocols:          c.GetProtocols(),
		MixedProtocols:     c.GetMixedProtocols(),
		Families:           each(c.GetFamilies(), text[string, cloud.Family]),
		DualStack:          c.GetDualStack(),
		NodePorts:          c.GetNodePorts(),
		NodeLabels:         c.GetNodeLabels(),
		PodTargets:         c.GetPodTargets(),
		TargetHealth:       c.GetTargetHealth(),
		LocalHealthChecks:  c.GetLocalHealthChecks(),
		SourceRanges:       c.GetSourceRanges(),
		Passthrough:        c.GetPassthrough(),
		SessionAffinity:    c.GetSessionAffinity(),
		RequestedAddress:   c.GetRequestedAddress(),
		Adopt:              c.GetAdopt(),
		TakeBack:           c.GetTakeBack(),
		Share:              c.GetShare(),
		AnnotationPrefixes: c.GetAnnotationPrefixes(),
		MaxPorts:           int(c.GetMaxPorts()),
		Targets: cloud.TargetCalls{Max: int(targets.GetMax()), OneResource: targets.GetOneResource(),
			OneDirection: targets.GetOneDirection(), Together: targets.GetTogether()},
		Limits:  cloud.Limits{Reads: fromLimit(c.GetLimits().GetReads()), Writes: fromLimit(c.GetLimits().GetWrites())},
		ReadLag: fromDuration(c.GetReadLag()),
	}
}

func toLimit(l cloud.Limit) *pluginv1alpha1.Limit {
	return &pluginv1alpha1.Limit{PerSecond: l.PerSecond, Burst: int32(l.Burst)}
}

func fromLimit(l *pluginv1alpha1.Limit) cloud.Limit {
	return cloud.Limit{PerSecond: l.GetPerSecond(), Burst: int(l.GetBurst())}
}
