package azuretest

import (
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud/azure/deepcopy"
)

func acceptLinkService(c *Cloud, t, before *thing) *Refusal {
	service := t.body.(*armnetwork.PrivateLinkService)
	if r := checkResource(t.path.name, service.Location, service.Tags); r != nil {
		return r
	}
	p := service.Properties
	if p == nil || len(p.LoadBalancerFrontendIPConfigurations) == 0 || len(p.IPConfigurations) == 0 {
		return bad("PrivateLinkServiceMissingProperty", "private link service %s needs a frontend and an IP configuration", t.path.name)
	}
	if len(p.IPConfigurations) > 8 {
		return bad("PrivateLinkServiceTooManyIPConfigurations", "private link service %s has %d IP configurations, 8 at most", t.path.name, len(p.IPConfigurations))
	}
	for _, f := range p.LoadBalancerFrontendIPConfigurations {
		id := value(f.ID)
		balancer := c.internalBalancer(id)
		if balancer == nil {
			return bad("InvalidResourceReference", "resource %s referenced by %s is no internal frontend", id, t.path.id())
		}
		if hasAddresses(balancer) {
			return noLinks(id)
		}
		if user := c.linkedBy(id); user != "" && key(user) != key(t.path.id()) {
			return bad("FrontendIPConfigInUseByPrivateLinkService", "frontend %s is used by %s", id, user)
		}
	}
	for _, ip := range p.IPConfigurations {
		if ip.Properties == nil || ip.Properties.Subnet == nil || value(ip.Name) == "" {
			return bad("PrivateLinkServiceMissingProperty", "an IP configuration of %s needs a name and a subnet", t.path.name)
		}
		if last(value(ip.Properties.Subnet.ID)) == policedSubnet {
			return bad("PrivateLinkServiceCannotBeCreatedInSubnetThatHasNetworkPoliciesEnabled", "private link service %s cannot be created in a subnet %s since it has private link service network policies enabled",
				t.path.id(), value(ip.Properties.Subnet.ID))
		}
		if static := value(ip.Properties.PrivateIPAllocationMethod) == armnetwork.IPAllocationMethodStatic; static != (value(ip.Properties.PrivateIPAddress) != "") {
			return bad("PrivateLinkServiceIPConfigurationInvalid", "IP configuration %s of %s has a static allocation without an address, or an address without one", value(ip.Name), t.path.name)
		}
	}
	for _, action := range []string{"loadBalancers/frontendIPConfigurations/join/action", "virtualNetworks/subnets/join/action"} {
		if r := c.linked(action); r != nil {
			return r
		}
	}
	p.Alias = new(t.path.name + ".00000000-0000-0000-0000-000000000000." + Location + ".azure.privatelinkservice")
	if before != nil {
		p.Alias = before.body.(*armnetwork.PrivateLinkService).Properties.Alias
	}
	return nil
}

// internalBalancer is that of an internal frontend; nil: there is no such frontend.
func (c *Cloud) internalBalancer(frontend string) *armnetwork.LoadBalancer {
	for _, t := range c.things {
		if t.kind != balancers {
			continue
		}
		if f := frontendOf(t, frontend); f != nil && f.Properties.Subnet != nil {
			return t.body.(*armnetwork.LoadBalancer)
		}
	}
	return nil
}

func noLinks(id string) *Refusal {
	return bad("PrivateLinkServiceIsNotSupportedForIPBasedLoadBalancer",
		"a private link service is not supported for %s, of a load balancer with backend addresses set by virtual network and address", id)
}

// hasAddresses reports whether a pool of the balancer has addresses.
func hasAddresses(lb *armnetwork.LoadBalancer) bool {
	return slices.ContainsFunc(lb.Properties.BackendAddressPools, isOfAddresses)
}

// linkedBy returns the id of the private link service that uses a frontend; empty: none.
func (c *Cloud) linkedBy(frontend string) string {
	for _, t := range c.things {
		service, ok := t.body.(*armnetwork.PrivateLinkService)
		if !ok {
			continue
		}
		for _, f := range service.Properties.LoadBalancerFrontendIPConfigurations {
			if key(value(f.ID)) == key(frontend) {
				return t.path.id()
			}
		}
	}
	return ""
}

func stampLinkService(t *thing) any {
	service := deepcopy.Of(t.body.(*armnetwork.PrivateLinkService))
	service.ID, service.Name, service.Etag = new(t.path.id()), new(t.path.name), new(t.etag)
	service.Properties.ProvisioningState = new(t.state)
	return service
}

func freeLinkService(_ *Cloud, t *thing) *Refusal {
	if len(t.body.(*armnetwork.PrivateLinkService).Properties.PrivateEndpointConnections) > 0 {
		return bad("PrivateLinkServiceWithPrivateEndpointConnectionsCannotBeDeleted", "private link service %s has private endpoint connections", t.path.id())
	}
	return nil
}
