package azure

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
)

// observedLink is a private link service of ours, of the parts of balancers that are there already.
func (v *view) observedLink(link *armnetwork.PrivateLinkService) cloud.Resource {
	p := link.Properties
	r := cloud.Resource{Kind: KindLinkService, Key: tag(link.Tags, tagKey), ID: value(link.ID), State: stateOf(p.ProvisioningState),
		Owners: ownersOf(link.Tags), Attributes: map[string]string{"name": tag(link.Tags, tagLink), "subnet": "", "addresses": "",
			"count": strconv.Itoa(len(p.IPConfigurations)), "fqdns": cloud.List(either(nil, p.Fqdns)), "visibility": "", "autoApproval": "",
			"proxyProtocol": strconv.FormatBool(value(p.EnableProxyProtocol))}}
	if len(p.IPConfigurations) > 0 && p.IPConfigurations[0].Properties.Subnet != nil {
		r.Attributes["subnet"] = folded(lastPart(value(p.IPConfigurations[0].Properties.Subnet.ID)))
	}
	var static []string
	for _, ip := range p.IPConfigurations {
		if value(ip.Properties.PrivateIPAllocationMethod) == armnetwork.IPAllocationMethodStatic {
			static = append(static, value(ip.Properties.PrivateIPAddress))
		}
	}
	r.Attributes["addresses"] = cloud.List(static)
	if p.Visibility != nil {
		r.Attributes["visibility"] = cloud.List(either(nil, p.Visibility.Subscriptions))
	}
	if p.AutoApproval != nil {
		r.Attributes["autoApproval"] = cloud.List(either(nil, p.AutoApproval.Subscriptions))
	}
	for _, owner := range r.Owners {
		for _, n := range v.index.byOwner[owner] {
			rules := &v.index.all[n]
			if rules.Kind == KindRules && slices.ContainsFunc(p.LoadBalancerFrontendIPConfigurations, func(f *armnetwork.FrontendIPConfiguration) bool { return same(frontendOf(rules), value(f.ID)) }) {
				r.DependsOn = []cloud.Ref{{Kind: KindRules, Key: rules.Key, ID: rules.ID}}
			}
		}
	}
	return r
}

// writeLink makes or changes a private link service, over the one that has the ETag.
func (p *Provider) writeLink(ctx context.Context, v *view, owner cloud.Owner, desired cloud.Resource, match string) (*armnetwork.PrivateLinkService, error) {
	var rules *cloud.Resource
	if len(desired.DependsOn) > 0 {
		rules = v.find(KindRules, desired.DependsOn[0].ID)
	}
	if rules == nil || p.writer(p.config.locate(rules.ID).balancer).changing(changeKey(*rules)) {
		// Should this be refused, nobody would come again to write what is gathered.
		return nil, waiting(desired.Name())
	}
	link := &armnetwork.PrivateLinkService{Name: new(linkName(owner, desired)), Location: new(p.config.Location),
		Tags: map[string]*string{tagCluster: new(owner.ClusterID), tagKey: new(desired.Key), tagService: new(owner.Namespace + "/" + owner.Name),
			tagLink: new(desired.Attributes["name"]), tagOwner + owner.ServiceUID: new(owner.ClusterID)},
		Properties: &armnetwork.PrivateLinkServiceProperties{EnableProxyProtocol: new(desired.Attributes["proxyProtocol"] == "true"),
			Fqdns: pointers(cloud.SplitList(desired.Attributes["fqdns"])),
			LoadBalancerFrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{
				{ID: new(frontendOf(rules))}}}}
	if list := cloud.SplitList(desired.Attributes["visibility"]); len(list) > 0 {
		link.Properties.Visibility = &armnetwork.PrivateLinkServicePropertiesVisibility{Subscriptions: pointers(list)}
	}
	if list := cloud.SplitList(desired.Attributes["autoApproval"]); len(list) > 0 {
		link.Properties.AutoApproval = &armnetwork.PrivateLinkServicePropertiesAutoApproval{Subscriptions: pointers(list)}
	}
	count, err := strconv.Atoi(desired.Attributes["count"])
	if err != nil {
		return nil, cloud.Errorf(cloud.UserError, "reading the number of addresses of %s: %w", desired.Name(), err)
	}
	static := cloud.SplitList(desired.Attributes["addresses"])
	for n := range count {
		ip := &armnetwork.PrivateLinkServiceIPConfiguration{
			Name: new("ip-" + strconv.Itoa(n+1)), Properties: &armnetwork.PrivateLinkServiceIPConfigurationProperties{Primary: new(n == 0),
				PrivateIPAllocationMethod: new(armnetwork.IPAllocationMethodDynamic), PrivateIPAddressVersion: new(armnetwork.IPVersionIPv4),
				Subnet: &armnetwork.Subnet{ID: new(p.config.subnetID(desired.Attributes["subnet"]))}}}
		if n < len(static) {
			ip.Properties.PrivateIPAllocationMethod, ip.Properties.PrivateIPAddress = new(armnetwork.IPAllocationMethodStatic), new(static[n])
		}
		link.Properties.IPConfigurations = append(link.Properties.IPConfigurations, ip)
	}
	after, err := p.network.PutLinkService(ctx, link, match)
	if err != nil {
		p.forget()
		return nil, err
	}
	p.note(func(v *view) { v.links[folded(value(after.Name))] = after })
	return after, nil
}

func linkName(owner cloud.Owner, r cloud.Resource) string {
	return cmp.Or(r.Attributes["name"], cloud.Name(owner, r, maxName))
}

// createLink makes one. Of one of its name that is there the owner is verified.
func (p *Provider) createLink(ctx context.Context, v *view, owner cloud.Owner, desired cloud.Resource) (cloud.Resource, error) {
	if err := v.unread[allLinks]; err != nil {
		return cloud.Resource{}, err
	}
	v.resources() // which observedLink looks into
	if have := v.links[folded(linkName(owner, desired))]; have != nil {
		if tag(have.Tags, tagOwner+owner.ServiceUID) != owner.ClusterID {
			return cloud.Resource{}, cloud.Errorf(cloud.Conflict, "the private link service %s is not this Service's", value(have.Name))
		}
		return v.observedLink(have), nil
	}
	made, err := p.writeLink(ctx, v, owner, desired, absent)
	if hasStatus(err, http.StatusPreconditionFailed) {
		return cloud.Resource{}, cloud.Errorf(cloud.Conflict, "a private link service %s appeared meanwhile", linkName(owner, desired))
	}
	if err != nil {
		return cloud.Resource{}, err
	}
	return v.observedLink(made), nil
}

func (p *Provider) updateLink(ctx context.Context, v *view, owner cloud.Owner, observed, desired cloud.Resource) error {
	have := v.links[folded(lastPart(observed.ID))]
	if have == nil || tag(have.Tags, tagOwner+owner.ServiceUID) != owner.ClusterID {
		return cloud.Errorf(cloud.NotFound, "the private link service %s is gone", lastPart(observed.ID))
	}
	_, err := p.writeLink(ctx, v, owner, desired, value(have.Etag))
	return err
}

func (p *Provider) deleteLink(ctx context.Context, v *view, owner cloud.Owner, observed cloud.Resource) error {
	name := lastPart(observed.ID)
	have := v.links[folded(name)]
	if have == nil {
		return nil
	}
	if tag(have.Tags, tagOwner+owner.ServiceUID) != owner.ClusterID {
		return cloud.Errorf(cloud.Conflict, "the private link service %s is another's by now", name)
	}
	if err := p.network.DeleteLinkService(ctx, name, value(have.Etag)); err != nil {
		p.forget()
		return err
	}
	p.note(func(v *view) { delete(v.links, folded(name)) })
	p.forget()
	return nil
}
