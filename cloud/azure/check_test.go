package azure_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// TestCheck: an address that a Service asks for, and cannot have, is told before the one that it has goes, and nothing is written.
func TestCheck(t *testing.T) {
	asking := func(settings ...string) func(cloud.Spec) cloud.Spec {
		all := map[string]string{}
		for i := 0; i < len(settings); i += 2 {
			all[settings[i]] = settings[i+1]
		}
		return func(spec cloud.Spec) cloud.Spec { return with(spec, all) }
	}
	same := func(spec cloud.Spec) cloud.Spec { return spec }
	dual := func(spec cloud.Spec) cloud.Spec {
		spec.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
		return spec
	}
	const inside, subnet = "load-balancer-internal", "load-balancer-internal-subnet"
	for name, tc := range map[string]struct {
		reason   string
		has, ask func(cloud.Spec) cloud.Spec
		denied   string
		class    cloud.Class
		want     string // in the error; empty: there is none
	}{
		"Nothing":    {reason: "what is made for it needs nothing", has: same, ask: same},
		"Named":      {reason: "it is there, and free", has: same, ask: asking("pip-name", "own")},
		"Literal":    {reason: "it is there, and free", has: same, ask: asking("load-balancer-ipv4", ownAddress)},
		"Kept":       {reason: "its own frontend has it", has: asking("pip-name", "own"), ask: asking("load-balancer-ipv4", ownAddress)},
		"Typo":       {has: same, ask: asking("pip-name", "own-1"), class: cloud.UserError, want: "no public address own-1"},
		"WrongIP":    {has: same, ask: asking("load-balancer-ipv4", "203.0.113.99"), class: cloud.UserError, want: "203.0.113.99"},
		"OtherGroup": {has: same, ask: asking("pip-name", "own", "load-balancer-resource-group", "theirs"), class: cloud.UserError, want: "group theirs has no public address own"},
		"GroupIP":    {has: same, ask: asking("load-balancer-ipv4", ownAddress, "load-balancer-resource-group", azuretest.OtherGroup), class: cloud.UserError, want: "group addresses has no public address " + ownAddress},
		"Family":     {has: dual, ask: func(s cloud.Spec) cloud.Spec { return with(dual(s), map[string]string{"pip-name-ipv6": "own"}) }, class: cloud.UserError, want: "another family"},
		"LiteralV6": {has: dual, ask: func(s cloud.Spec) cloud.Spec {
			return with(dual(s), map[string]string{"load-balancer-ipv6": "2001:db8::9"})
		}, class: cloud.UserError, want: "2001:db8::9"},
		"Global":       {has: same, ask: asking("pip-name", "global"), class: cloud.UserError, want: "Standard SKU that is regional"},
		"Machine":      {has: same, ask: asking("pip-name", "machine"), class: cloud.Conflict, want: "networkInterfaces/bastion"},
		"Gateway":      {has: same, ask: asking("pip-name", "gateway"), class: cloud.Conflict, want: "natGateways/out"},
		"Theirs":       {reason: "another Service's frontend has it", has: same, ask: asking("pip-name", "busy"), class: cloud.Conflict, want: "frontendIPConfigurations/"},
		"OneOfTheirs":  {reason: "it goes with another Service", has: same, ask: asking("pip-name", "THEIRS"), class: cloud.Conflict, want: "is that of Service"},
		"Prefix":       {has: same, ask: asking("pip-prefix-id", networkPath+"publicIPPrefixes/range")},
		"NoPrefix":     {has: same, ask: asking("pip-prefix-id", networkPath+"publicIPPrefixes/rnage"), class: cloud.UserError, want: "no public IP prefix rnage"},
		"PrefixV6":     {has: same, ask: asking("pip-prefix-id", networkPath+"publicIPPrefixes/v6"), class: cloud.UserError, want: "one of IPv6"},
		"Subnet":       {has: same, ask: asking(inside, "true", subnet, "apps")},
		"NoSubnet":     {has: same, ask: asking(inside, "true", subnet, "nowhere"), class: cloud.UserError, want: "no subnet nowhere"},
		"LinkSubnet":   {has: same, ask: asking(inside, "true", "pls-create", "true", "pls-ip-configuration-subnet", "nowhere"), class: cloud.UserError, want: "no subnet nowhere"},
		"LinkPolicies": {has: same, ask: asking(inside, "true", "pls-create", "true", "pls-ip-configuration-subnet", "policed"), class: cloud.UserError, want: "subnet policed has network policies"},
		"Private":      {has: same, ask: asking(inside, "true", "load-balancer-ipv4", "10.224.0.99")},
		"Outside":      {has: same, ask: asking(inside, "true", "load-balancer-ipv4", "10.1.2.3"), class: cloud.UserError, want: "not in subnet nodes"},
		"PrivateTaken": {has: same, ask: asking(inside, "true", "load-balancer-ipv4", "10.224.0.77"), class: cloud.Conflict, want: "10.224.0.77 is that of frontend"},
		"PrivateKept":  {reason: "its own frontend has it", has: asking(inside, "true", "load-balancer-ipv4", "10.224.0.99"), ask: asking(inside, "true", "load-balancer-ipv4", "10.224.0.99", subnet, "apps")},
		"Rights": {has: same, ask: asking(inside, "true"), denied: "Microsoft.Network/virtualNetworks/subnets/read",
			class: cloud.Retry, want: "no permission for Microsoft.Network/virtualNetworks/subnets/read"},
		"PrefixRights": {has: same, ask: asking("pip-prefix-id", networkPath+"publicIPPrefixes/range"), denied: "Microsoft.Network/publicIPPrefixes/read",
			class: cloud.Retry, want: "no permission for Microsoft.Network/publicIPPrefixes/read"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p := provider(t, c)
				plantOthers(t, c)
				settled := func(spec cloud.Spec) []cloud.Resource {
					out, err := converge(t, p, spec, false)
					if err != nil {
						t.Fatal(err)
					}
					return out.Observed
				}
				settled(with(service(2, 2), map[string]string{"pip-name": "busy"}))
				settled(with(service(3, 2), map[string]string{inside: "true", "load-balancer-ipv4": "10.224.0.77"}))
				ask := tc.ask(service(1, 2))
				for _, r := range settled(service(4, 2)) {
					if r.Kind == "PublicIP" && ask.Annotations[annotation+"pip-name"] == "THEIRS" {
						ask.Annotations[annotation+"pip-name"] = r.ID[strings.LastIndex(r.ID, "/")+1:]
					}
				}
				has := settled(tc.has(service(1, 2)))
				if tc.denied != "" {
					c.Deny(tc.denied)
				}
				before := c.Snapshot()
				c.SetHook(func(call azuretest.Call) error {
					if call.Write() {
						t.Errorf("%s of %s was sent", call.Method, call.Type)
					}
					return nil
				})
				desired, err := p.Desired(ask)
				if err != nil {
					t.Fatal(err)
				}
				var told error
				for _, r := range desired {
					if err := p.Check(t.Context(), ask.Owner, r, has); err != nil && told == nil {
						told = err
					}
				}
				switch {
				case told == nil && tc.want == "":
				case told == nil || tc.want == "":
					t.Errorf("it is told %v, want an error with %q: %s", told, tc.want, tc.reason)
				case p.Classify(told).Class != tc.class || !strings.Contains(told.Error(), tc.want):
					t.Errorf("it is told %v (%s), want an error with %q of class %s", told, p.Classify(told).Class, tc.want, tc.class)
				}
				if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
					t.Errorf("it was changed (-before +after):\n%s", diff)
				}
			})
		})
	}
}

// plantOthers has somebody else have prefixes, and public addresses that have something, or cannot be had.
func plantOthers(t *testing.T, c *azuretest.Cloud) {
	t.Helper()
	put := func(typ, name string, body any) {
		t.Helper()
		if err := c.Put(typ, name, body); err != nil {
			t.Fatal(err)
		}
	}
	address := func(name string, change func(ip *armnetwork.PublicIPAddress)) {
		ip := publicIP()
		change(&ip)
		put("publicIPAddresses", name, ip)
	}
	address("busy", func(*armnetwork.PublicIPAddress) {})
	address("global", func(ip *armnetwork.PublicIPAddress) { ip.SKU.Tier = new(armnetwork.PublicIPAddressSKUTierGlobal) })
	address("machine", func(ip *armnetwork.PublicIPAddress) {
		ip.Properties.IPConfiguration = &armnetwork.IPConfiguration{ID: new(networkPath + "networkInterfaces/bastion/ipConfigurations/first")}
	})
	address("gateway", func(ip *armnetwork.PublicIPAddress) {
		ip.Properties.NatGateway = &armnetwork.NatGateway{ID: new(networkPath + "natGateways/out")}
	})
	put("publicIPPrefixes", "range", armnetwork.PublicIPPrefix{Location: new(azuretest.Location)})
	put("publicIPPrefixes", "v6", armnetwork.PublicIPPrefix{Location: new(azuretest.Location),
		Properties: &armnetwork.PublicIPPrefixPropertiesFormat{PublicIPAddressVersion: new(armnetwork.IPVersionIPv6)}})
}
