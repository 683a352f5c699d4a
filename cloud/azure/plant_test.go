package azure_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// planter makes balancers as others do: somebody with a mouse, one for each; and cloud-provider-azure, one for all Services.
type planter struct {
	cloud *azuretest.Cloud
	slow  time.Duration
	n     int
	// upstream: its balancer is there.
	upstream bool
}

const networkPath = "/subscriptions/" + azuretest.Subscription + "/resourceGroups/" + azuretest.ResourceGroup + "/providers/Microsoft.Network/"

func (p *planter) put(typ, name string, body any) error {
	err := p.cloud.Put(typ, name, body)
	time.Sleep(p.slow)
	return err
}

// plant makes a balancer, and returns the id of its first frontend.
func (p *planter) plant(plant cloudtest.Plant) (string, error) {
	p.n++
	name, frontend := fmt.Sprintf("byhand-%d", p.n), "web"
	if plant.MadeFor {
		name, frontend = "kubernetes", "a"+strings.ReplaceAll(plant.Spec.Owner.ServiceUID, "-", "")[:31]
	}
	lb := &armnetwork.LoadBalancer{Location: new(azuretest.Location), SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)},
		Tags: map[string]*string{"somebody": new("else")}, Properties: &armnetwork.LoadBalancerPropertiesFormat{}}
	if plant.AdoptableBy != "" {
		lb.Tags[azure.TagConsent] = new(plant.AdoptableBy)
	}
	for i, family := range plant.Spec.Families {
		called := frontend
		if i > 0 {
			called += "-IPv6"
		}
		if err := p.frontend(lb.Properties, name, called, plant, family); err != nil {
			return "", err
		}
	}
	id := networkPath + "loadBalancers/" + name + "/frontendIPConfigurations/" + frontend
	if !plant.MadeFor || !p.upstream {
		p.upstream = p.upstream || plant.MadeFor
		return id, p.put("loadBalancers", name, lb)
	}
	err := p.cloud.Edit(func(have *armnetwork.LoadBalancer) {
		if *have.Name != name {
			return
		}
		h, add := have.Properties, lb.Properties
		h.FrontendIPConfigurations = append(h.FrontendIPConfigurations, add.FrontendIPConfigurations...)
		h.LoadBalancingRules = append(h.LoadBalancingRules, add.LoadBalancingRules...)
		h.Probes = append(h.Probes, add.Probes...)
	})
	time.Sleep(p.slow)
	return id, err
}

// frontend adds a frontend with the Spec's ports, and a pool with its nodes.
func (p *planter) frontend(lb *armnetwork.LoadBalancerPropertiesFormat, balancer, name string, plant cloudtest.Plant, family cloud.Family) error {
	id, pool := networkPath+"loadBalancers/"+balancer, "nodes"+string(family)
	f := &armnetwork.FrontendIPConfigurationPropertiesFormat{}
	if plant.Spec.Annotations["service.beta.kubernetes.io/azure-load-balancer-internal"] == "true" {
		f.Subnet = &armnetwork.Subnet{ID: new(networkPath + "virtualNetworks/nodes/subnets/nodes")}
		f.PrivateIPAddressVersion = new(armnetwork.IPVersion(family))
	} else {
		ip := publicIP()
		ip.Properties.PublicIPAddressVersion = new(armnetwork.IPVersion(family))
		if plant.MadeFor {
			ip.Tags["k8s-azure-service"] = new(plant.Spec.Owner.Namespace + "/" + plant.Spec.Owner.Name)
		}
		if err := p.put("publicIPAddresses", balancer+"-"+name, ip); err != nil {
			return err
		}
		f.PublicIPAddress = &armnetwork.PublicIPAddress{ID: new(networkPath + "publicIPAddresses/" + balancer + "-" + name)}
	}
	lb.FrontendIPConfigurations = append(lb.FrontendIPConfigurations, &armnetwork.FrontendIPConfiguration{Name: new(name), Properties: f})
	nodes := &armnetwork.BackendAddressPool{Name: new(pool), Properties: &armnetwork.BackendAddressPoolPropertiesFormat{}}
	for _, node := range plant.Spec.Nodes {
		nodes.Properties.LoadBalancerBackendAddresses = append(nodes.Properties.LoadBalancerBackendAddresses, &armnetwork.LoadBalancerBackendAddress{
			Name: new(node.Name), Properties: &armnetwork.LoadBalancerBackendAddressPropertiesFormat{IPAddress: new(node.Address(family)),
				VirtualNetwork: &armnetwork.SubResource{ID: new(networkPath + "virtualNetworks/nodes")}}})
	}
	lb.BackendAddressPools = append(lb.BackendAddressPools, nodes)
	for _, port := range plant.Spec.Ports {
		rule := fmt.Sprintf("%s-%s-%d", name, port.Protocol, port.Port)
		lb.Probes = append(lb.Probes, &armnetwork.Probe{Name: new(rule), Properties: &armnetwork.ProbePropertiesFormat{
			Protocol: new(armnetwork.ProbeProtocolTCP), Port: new(port.NodePort), IntervalInSeconds: new(int32(5)), NumberOfProbes: new(int32(2))}})
		protocol := armnetwork.TransportProtocolTCP
		if port.Protocol == "UDP" {
			protocol = armnetwork.TransportProtocolUDP
		}
		lb.LoadBalancingRules = append(lb.LoadBalancingRules, &armnetwork.LoadBalancingRule{Name: new(rule), Properties: &armnetwork.LoadBalancingRulePropertiesFormat{
			Protocol: new(protocol), FrontendPort: new(port.Port), BackendPort: new(port.NodePort), IdleTimeoutInMinutes: new(int32(15)),
			FrontendIPConfiguration: &armnetwork.SubResource{ID: new(id + "/frontendIPConfigurations/" + name)},
			BackendAddressPool:      &armnetwork.SubResource{ID: new(id + "/backendAddressPools/" + pool)},
			Probe:                   &armnetwork.SubResource{ID: new(id + "/probes/" + rule)}}})
	}
	return nil
}
