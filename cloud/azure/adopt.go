package azure

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// upstream is the controller whose balancers can be taken over.
const upstream = "cloud-provider-azure"

// tagUpstream is what it marks public addresses with that it makes.
const tagUpstream = "k8s-azure-service"

// TagConsent stands for the tag of that name, of which Azure allows no slash.
var TagConsent = strings.ReplaceAll(v1alpha1.TagAdoptableBy, "/", "_")

var _ cloud.Adopter = (*Provider)(nil)

// upstreamName is what that controller calls a Service's frontends, and begins the names of their rules and probes with, and ends
// those of public addresses: the Service's UID, as far as 32 characters go.
func upstreamName(owner cloud.Owner) string {
	name := "a" + strings.ReplaceAll(owner.ServiceUID, "-", "")
	return name[:min(len(name), 32)]
}

// Adoptable implements cloud.Adopter. The id is that of a frontend.
func (p *Provider) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	v, err := p.look(ctx, owner.ClusterID)
	if err != nil {
		return nil, err
	}
	made, err := v.madeFor(owner)
	if err != nil {
		return nil, err
	}
	if id == "" || slices.ContainsFunc(made, func(f cloud.Adoptable) bool { return same(f.ID, id) }) {
		return made, nil
	}
	if r := v.find(KindRules, id); r != nil && p.config.locate(id).frontend == "" { // ours
		return []cloud.Adoptable{{ID: r.ID, Resources: []cloud.Resource{*r}}}, nil
	}
	at := p.config.locate(id)
	lb := v.balancers[folded(at.balancer)]
	if lb == nil || at.frontend == "" || tag(lb.Tags, tagCluster) != "" {
		return nil, nil
	}
	if err := fit(lb); err != nil {
		return nil, err
	}
	found := cloud.Adoptable{AdoptableBy: tag(lb.Tags, TagConsent), Consent: "tag it " + TagConsent}
	for _, f := range bothFamilies(v, lb, at.frontend) {
		if same(value(f.Name), at.frontend) {
			found.ID = p.config.frontendID(value(lb.Name), value(f.Name)) // as the cloud writes it
		}
		found.Resources = append(found.Resources, v.heldPart(lb, f, owner, familyOf(v, f), false)...)
	}
	cloud.SortResources(found.Resources)
	if len(found.Resources) == 0 {
		return nil, nil
	}
	return []cloud.Adoptable{found}, nil
}

// bothFamilies are the frontend and, where both are the only ones of their families, the balancer's other one.
func bothFamilies(v *view, lb *armnetwork.LoadBalancer, name string) []*armnetwork.FrontendIPConfiguration {
	byFamily := map[string][]*armnetwork.FrontendIPConfiguration{}
	var named *armnetwork.FrontendIPConfiguration
	for _, f := range lb.Properties.FrontendIPConfigurations {
		byFamily[familyOf(v, f)] = append(byFamily[familyOf(v, f)], f)
		if same(value(f.Name), name) {
			named = f
		}
	}
	switch {
	case named == nil:
		return nil
	case len(byFamily) == 2 && len(lb.Properties.FrontendIPConfigurations) == 2:
		return lb.Properties.FrontendIPConfigurations
	}
	return []*armnetwork.FrontendIPConfiguration{named}
}

// heldPart is a frontend, and its public address where it is in the resource group, with the marks that they have.
func (v *view) heldPart(lb *armnetwork.LoadBalancer, f *armnetwork.FrontendIPConfiguration, owner cloud.Owner, key string, whole bool) []cloud.Resource {
	if r := v.find(KindRules, v.config.frontendID(value(lb.Name), value(f.Name))); r != nil {
		// Somebody has it.
		parts := []cloud.Resource{*r}
		for _, dep := range r.DependsOn {
			parts = append(parts, v.addressPart(dep.ID, dep.Key))
		}
		return parts
	}
	r, _ := v.frontendPart(lb, value(f.Name), owner, key, whole)
	if stateOf(lb.Properties.ProvisioningState) == cloud.StatePending {
		r.State = cloud.StatePending
	}
	parts := []cloud.Resource{r}
	for _, dep := range r.DependsOn {
		parts = append(parts, v.addressPart(dep.ID, dep.Key))
	}
	return parts
}

// addressPart is a public address as a part of what is adopted.
func (v *view) addressPart(id, key string) cloud.Resource {
	r := v.config.observedAddress(v.addresses[folded(id)])
	if len(r.Owners) == 0 {
		r.Key = key
	}
	if r.State == cloud.StatePending && len(r.Ingress) > 0 {
		r.State = cloud.StateReady // an address that is being changed has a use all the while
	}
	return r
}

// madeFor is what the other controller made for the owner, as one balancer, known by the Service's UID in names.
func (v *view) madeFor(owner cloud.Owner) ([]cloud.Adoptable, error) {
	name := upstreamName(owner)
	if len(name) < 32 {
		return nil, nil // that is no UID
	}
	made := cloud.Adoptable{MadeBy: upstream}
	given := map[string]bool{}
	keyFor := func(family, rest string) string {
		if given[family] {
			return "left-" + rest // no Service wants a key like that
		}
		given[family] = true
		return family
	}
	used := map[string]bool{}
	for _, balancer := range sortedNames(v.balancers) {
		lb := v.balancers[balancer]
		for _, f := range lb.Properties.FrontendIPConfigurations {
			frontend := value(f.Name)
			if frontend != name && !strings.HasPrefix(frontend, name+"-") || f.Properties == nil || tag(lb.Tags, tagCluster) != "" {
				continue
			}
			if err := fit(lb); err != nil {
				return nil, err
			}
			parts := v.heldPart(lb, f, owner, keyFor(familyOf(v, f), balancer+"-"+frontend), true)
			for _, r := range parts {
				used[r.ID] = true
			}
			if made.ID == "" {
				made.ID = parts[0].ID
			}
			made.Resources = append(made.Resources, parts...)
		}
	}
	for _, id := range sortedNames(v.addresses) {
		ip := v.addresses[id]
		if used[value(ip.ID)] || tag(ip.Tags, tagUpstream) == "" || !strings.Contains(value(ip.Name)+"-", "-"+name+"-") {
			continue
		}
		r := v.addressPart(id, keyFor(familyKey(cloud.Family(value(ip.Properties.PublicIPAddressVersion))), value(ip.Name)))
		if made.ID == "" {
			made.ID = r.ID
		}
		made.Resources = append(made.Resources, r)
	}
	if made.ID == "" {
		return nil, nil
	}
	cloud.SortResources(made.Resources)
	return []cloud.Adoptable{made}, nil
}

// fit returns an error where a balancer is of a kind of which no Service can be: one that was made before there were others, which
// has no pools of addresses, or one across regions, which has other balancers behind it. Whoever has it can change that, so it is
// looked at again.
func fit(lb *armnetwork.LoadBalancer) error {
	sku := value(lb.SKU)
	kind := string(value(sku.Name))
	if kind == "" {
		kind = string(armnetwork.LoadBalancerSKUNameBasic)
	}
	if tier := value(sku.Tier); tier == armnetwork.LoadBalancerSKUTierGlobal {
		kind += " " + string(tier)
	}
	if kind == string(armnetwork.LoadBalancerSKUNameStandard) {
		return nil
	}
	return cloud.Errorf(cloud.Conflict, "the load balancer %s has the SKU %s, and only those of the SKU Standard can be adopted: "+
		"have it upgraded, or set the annotation %s to %s to have another one made", value(lb.Name), kind, v1alpha1.AnnotationAdopt, v1alpha1.AdoptNone)
}

func sortedNames[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
