package azuretest

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// This file is about subnets. All networks and subnets exist, and have the same ranges, but for a subnet called nowhere. One called full has
// no address left to choose from, and one called policed has network policies for private link services, as any has that nobody has changed.

const (
	networks = "virtualNetworks"
	subnets  = "subnets"

	fullSubnet    = "full"
	policedSubnet = "policed"
)

var ranges = []string{"10.224.0.0/16", "fd00:db8::/64"}

func isSubnet(id string) bool {
	_, name, found := strings.Cut(key(id), "/subnets/")
	return found && name != "nowhere"
}

func inSubnet(address string) bool {
	parsed, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(ranges, func(text string) bool { return netip.MustParsePrefix(text).Contains(parsed) })
}

// subnet answers a GET of one.
func subnet(p path) (*answer, *Refusal) {
	id := p.id() + "/" + subnets + "/" + p.childName
	if !isSubnet(id) {
		return nil, notFound(p)
	}
	properties := &armnetwork.SubnetPropertiesFormat{ProvisioningState: new(armnetwork.ProvisioningStateSucceeded),
		PrivateLinkServiceNetworkPolicies: new(armnetwork.VirtualNetworkPrivateLinkServiceNetworkPoliciesDisabled)}
	if p.childName == policedSubnet {
		properties.PrivateLinkServiceNetworkPolicies = new(armnetwork.VirtualNetworkPrivateLinkServiceNetworkPoliciesEnabled)
	}
	for _, text := range ranges {
		properties.AddressPrefixes = append(properties.AddressPrefixes, new(text))
	}
	return &answer{status: http.StatusOK, body: armnetwork.Subnet{ID: new(id), Name: new(p.childName), Properties: properties}}, nil
}
