package hostlb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/fairlead/fairlead/cloud"
)

// Kinds of resources. A balancer is an Address, one TargetSet, and a Listener for each port.
const (
	KindAddress   = "Address"   // an element of the set "addresses"
	KindTargetSet = "TargetSet" // an element of the set "targets", and its slots
	KindListener  = "Listener"  // an element of the map "listeners"
)

// Keys of what there is one of for each Service.
const (
	addressKey   = "ipv4"
	targetSetKey = "nodes"
)

// maxTargets is how many nodes a balancer sends to at most; of more the first by address count.
const maxTargets = slots

// settings are the class's parameters (spec.parameters.custom), or what the Service's annotations say instead.
type settings struct {
	Pool string `json:"pool"`
}

// readSettings returns what could be read, and every mistake in one UserError.
func (p *Provider) readSettings(spec cloud.Spec) (settings, error) {
	s := settings{Pool: p.pools[0].Name}
	wrong := []error{cloud.DecodeParameters(spec.Parameters, &s)}
	a := cloud.NewAnnotations(spec.Annotations, AnnotationPrefix)
	a.String(AnnotationPrefix+"pool", &s.Pool)
	wrong = append(wrong, a.Err())

	i := slices.IndexFunc(p.pools, func(other pool) bool { return other.Name == s.Pool })
	requested, _ := netip.ParseAddr(spec.RequestedAddress)
	switch {
	case i < 0:
		wrong = append(wrong, fmt.Errorf("pool: there is none called %q", s.Pool))
	case spec.RequestedAddress != "" && !p.pools[i].Prefix.Contains(requested):
		wrong = append(wrong, fmt.Errorf("spec.loadBalancerIP: %s is not in the pool %s (%s)", spec.RequestedAddress, s.Pool, p.pools[i].Prefix))
	}
	return s, cloud.UserErrors(wrong...)
}

// Desired implements cloud.Provider.
func (p *Provider) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	s, wrong := p.readSettings(spec)
	address := cloud.Resource{
		Kind: KindAddress, Key: addressKey,
		Attributes: map[string]string{"pool": s.Pool, "requested": spec.RequestedAddress},
		// Another pool is another address, which clients would have to learn: only where the user allows it.
		Immutable: []string{"pool", "requested"}, Fixed: true,
	}
	set := cloud.Resource{Kind: KindTargetSet, Key: targetSetKey, HasTargets: true}
	for _, node := range spec.Nodes {
		if ip := node.Address(cloud.IPv4); ip != "" {
			set.Targets = append(set.Targets, cloud.Target{ID: ip})
		}
	}
	slices.SortFunc(set.Targets, func(a, b cloud.Target) int { return cmp.Compare(a.ID, b.ID) })
	set.Targets = slices.Compact(set.Targets)
	set.Targets = set.Targets[:min(len(set.Targets), maxTargets)]

	resources := []cloud.Resource{address, set}
	for _, port := range spec.Ports {
		resources = append(resources, cloud.Resource{
			Kind: KindListener, Key: port.Key(),
			Attributes: map[string]string{
				"protocol": port.Protocol,
				"port":     strconv.Itoa(int(port.Port)),
				"nodePort": strconv.Itoa(int(port.NodePort)),
			},
			Immutable: []string{"protocol", "port"},
			DependsOn: []cloud.Ref{
				{Kind: KindAddress, Key: addressKey, Parent: true}, // its key in the kernel begins with the address
				{Kind: KindTargetSet, Key: targetSetKey},
			},
		})
	}
	return resources, wrong
}
