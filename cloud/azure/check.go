package azure

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

var _ cloud.Checker = (*Provider)(nil)

// Check looks whether the public address, the prefix, or the subnet and the address in it, that a Service asks for could be had if what
// the owner has in its place were gone, and changes nothing. Nil: nothing that can be seen is against it; of private addresses those are
// seen that frontends in the resource group have. A UserError, or a Conflict where something else has the address, says what is.
func (p *Provider) Check(ctx context.Context, owner cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	switch desired.Kind {
	case KindPublicIP:
		return p.checkPrefix(ctx, &desired)
	case KindLinkService:
		return p.checkLinkSubnet(ctx, desired.Attributes["subnet"])
	case KindRules:
		return p.checkFrontend(ctx, owner, desired, replaced)
	}
	return nil
}

func (p *Provider) checkPrefix(ctx context.Context, desired *cloud.Resource) error {
	parts := strings.Split(desired.Attributes["prefix"], "/")
	if len(parts) != 9 || !same(parts[2], p.config.SubscriptionID) {
		return nil // none, or where the manager reads nothing
	}
	found, err := p.network.PublicIPPrefix(ctx, parts[4], parts[8])
	switch {
	case hasStatus(err, http.StatusNotFound):
		return cloud.Errorf(cloud.UserError, "resource group %s has no public IP prefix %s: correct annotation %spip-prefix-id, or what says the same in the class",
			parts[4], parts[8], prefix)
	case err != nil:
		return err
	}
	if version := string(value(value(found.Properties).PublicIPAddressVersion)); version != "" && version != desired.Attributes["family"] {
		return cloud.Errorf(cloud.UserError, "the public IP prefix %s is one of %s: name one of %s", parts[8], version, desired.Attributes["family"])
	}
	return nil
}

// checkSubnet returns a subnet of the nodes' network.
func (p *Provider) checkSubnet(ctx context.Context, name string) (*armnetwork.Subnet, error) {
	subnet, err := p.network.Subnet(ctx, name)
	if hasStatus(err, http.StatusNotFound) {
		return nil, cloud.Errorf(cloud.UserError, "network %s has no subnet %s: correct the Service's annotations, or subnet in the class", p.config.VnetName, name)
	}
	return subnet, err
}

// checkLinkSubnet looks whether a private link service can have addresses of a subnet.
func (p *Provider) checkLinkSubnet(ctx context.Context, name string) error {
	subnet, err := p.checkSubnet(ctx, name)
	if err == nil && value(value(subnet.Properties).PrivateLinkServiceNetworkPolicies) == armnetwork.VirtualNetworkPrivateLinkServiceNetworkPoliciesEnabled {
		return cloud.Errorf(cloud.UserError, "subnet %s has network policies for private link services, with which Azure makes none there: disable them, or name another "+
			"subnet in annotation %spls-ip-configuration-subnet", name, prefix)
	}
	return err
}

func (p *Provider) checkFrontend(ctx context.Context, owner cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	v, err := p.look(ctx, owner.ClusterID)
	if err != nil {
		return err
	}
	pt, err := partOf(owner, desired)
	if err != nil {
		return cloud.Errorf(cloud.UserError, "%w", err)
	}
	if pt.source.mode() == 'o' {
		return nil // which is told of the address
	}
	others := v.otherFrontends(pt.frontend, replaced)
	if pt.source.internal {
		return p.checkPrivate(ctx, pt, others)
	}
	id, err := p.publicIP(ctx, v, pt, desired)
	if err != nil {
		return err
	}
	return p.checkPublic(ctx, pt, id, v.addresses[folded(id)], others)
}

// otherFrontends are the frontends that can be seen, but for those of what goes and the one of the name, which others of a group may
// have made, by folded id.
func (v *view) otherFrontends(name string, replaced []cloud.Resource) map[string]*armnetwork.FrontendIPConfiguration {
	others := map[string]*armnetwork.FrontendIPConfiguration{}
	for _, lb := range v.balancers {
		for _, f := range lb.Properties.FrontendIPConfigurations {
			if f.Properties != nil && !same(v.config.nameNow(f), name) {
				others[folded(v.config.frontendID(value(lb.Name), value(f.Name)))] = f
			}
		}
	}
	for i := range replaced {
		if replaced[i].Kind == KindRules {
			delete(others, folded(frontendOf(&replaced[i])))
		}
	}
	return others
}

// checkPrivate looks whether an address is one of the subnet's, and no other frontend has it. Empty: any would do.
func (p *Provider) checkPrivate(ctx context.Context, pt *part, others map[string]*armnetwork.FrontendIPConfiguration) error {
	subnet, err := p.checkSubnet(ctx, pt.source.subnet)
	if err != nil || pt.source.address == "" {
		return err
	}
	address, err := netip.ParseAddr(pt.source.address)
	if err != nil {
		return cloud.Errorf(cloud.UserError, "%w", err)
	}
	properties := value(subnet.Properties)
	ranges := append(slices.Clone(properties.AddressPrefixes), properties.AddressPrefix)
	within := func(text *string) bool {
		one, err := netip.ParsePrefix(value(text))
		return err == nil && one.Contains(address)
	}
	if !slices.ContainsFunc(ranges, within) {
		return cloud.Errorf(cloud.UserError, "address %s is not in subnet %s: ask for one that is", address, pt.source.subnet)
	}
	for _, id := range sortedNames(others) {
		if canonical(value(others[id].Properties.PrivateIPAddress)) == address.String() {
			return cloud.Errorf(cloud.Conflict, "address %s is that of frontend %s of load balancer %s: ask for another one", address,
				value(others[id].Name), p.config.locate(id).balancer)
		}
	}
	return nil
}

// checkPublic looks whether a public address is one that the frontend can have, and nothing else has it. have is nil where it was not read
// yet, in another resource group.
func (p *Provider) checkPublic(ctx context.Context, pt *part, id string, have *armnetwork.PublicIPAddress,
	others map[string]*armnetwork.FrontendIPConfiguration) error {
	parts := strings.Split(id, "/")
	group, name := parts[4], lastPart(id)
	if have == nil {
		found, err := p.network.PublicIP(ctx, group, name)
		switch {
		case hasStatus(err, http.StatusNotFound):
			return cloud.Errorf(cloud.UserError, "resource group %s has no public address %s: correct annotation %spip-name, or %spip-name-ipv6", group, name, prefix, prefix)
		case err != nil:
			return err
		}
		have = found
	}
	sku, properties := value(have.SKU), value(have.Properties)
	switch family := string(value(properties.PublicIPAddressVersion)); {
	case folded(family) != pt.family:
		return cloud.Errorf(cloud.UserError, "the public address %s is one of %s, and is asked for as one of another family: name another one", name, family)
	case value(sku.Name) == armnetwork.PublicIPAddressSKUNameBasic || value(sku.Tier) == armnetwork.PublicIPAddressSKUTierGlobal:
		return cloud.Errorf(cloud.UserError, "the public address %s is of the SKU %s, %s: name one of the Standard SKU that is regional", name, value(sku.Name), value(sku.Tier))
	}
	user := ""
	switch {
	case properties.NatGateway != nil:
		user = value(properties.NatGateway.ID)
	case properties.IPConfiguration != nil && !strings.Contains(folded(value(properties.IPConfiguration.ID)), folded(p.config.balancerID(""))):
		user = value(properties.IPConfiguration.ID)
	}
	for _, other := range sortedNames(others) {
		if ip := others[other].Properties.PublicIPAddress; ip != nil && same(value(ip.ID), id) {
			user = p.config.frontendID(p.config.locate(other).balancer, value(others[other].Name))
		}
	}
	if user != "" {
		return cloud.Errorf(cloud.Conflict, "the public address %s is that of %s already: ask for another one, or take it from there", name, user)
	}
	return nil
}
