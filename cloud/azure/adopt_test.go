package azure_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// convergeWith is converge with options, and returns the last error.
func convergeWith(t *testing.T, p cloud.Provider, spec cloud.Spec, options cloud.Options) (cloud.Outcome, error) {
	t.Helper()
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, options)
		if err != nil && !cloud.IsClass(err, cloud.Pending) || err == nil && len(out.Left.Operations)+len(out.Left.Waiting) == 0 {
			return out, err
		}
		time.Sleep(time.Second)
	}
	t.Fatal("it never ends")
	return cloud.Outcome{}, nil
}

// rulesOf are the rules of a balancer by name, each with the addresses that it sends to.
func rulesOf(c *azuretest.Cloud, balancer string) map[string]string {
	pools, rules := map[string]string{}, map[string]string{}
	for _, line := range c.Snapshot() {
		if rest, ok := strings.CutPrefix(line, balancer+" pool "); ok {
			name, addresses, _ := strings.Cut(rest, " ")
			pools[name] = addresses
		}
	}
	for _, line := range c.Snapshot() {
		if text, ok := strings.CutPrefix(line, balancer+" rule "); ok {
			var r armnetwork.LoadBalancingRule
			if err := json.Unmarshal([]byte(text), &r); err == nil {
				id := *r.Properties.BackendAddressPool.ID
				rules[*r.Name] = pools[id[strings.LastIndex(id, "/")+1:]]
			}
		}
	}
	return rules
}

// madeFor makes what cloud-provider-azure would have made for the Service, changed by somebody. The id is that of the frontend.
func madeFor(t *testing.T, c *azuretest.Cloud, spec cloud.Spec, change func(lb *armnetwork.LoadBalancer, id string)) {
	t.Helper()
	id, err := (&planter{cloud: c}).plant(cloudtest.Plant{Spec: spec, MadeFor: true})
	if err != nil {
		t.Fatal(err)
	}
	edit(t, c, func(lb *armnetwork.LoadBalancer) { change(lb, id) })
}

// TestTakenOverWithoutAGap: at no moment of taking over does a rule send to nobody; and a frontend that somebody's outbound rule
// uses, too, stays.
func TestTakenOverWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		madeFor(t, c, spec, func(lb *armnetwork.LoadBalancer, id string) {
			for _, rule := range lb.Properties.LoadBalancingRules {
				rule.Properties.DisableOutboundSnat = new(true)
			}
			lb.Properties.OutboundRules = []*armnetwork.OutboundRule{{Name: new("out"), Properties: &armnetwork.OutboundRulePropertiesFormat{
				Protocol:                 new(armnetwork.LoadBalancerOutboundRuleProtocolAll),
				BackendAddressPool:       &armnetwork.SubResource{ID: new(networkPath + "loadBalancers/kubernetes/backendAddressPools/nodesIPv4")},
				FrontendIPConfigurations: []*armnetwork.SubResource{{ID: new(id)}}}}}
		})
		looks := 0
		c.SetHook(func(call azuretest.Call) error {
			if call.After && call.Write() {
				looks++
				for name, addresses := range rulesOf(c, "kubernetes") {
					if addresses == "" {
						t.Errorf("after %s of %s rule %s sends to nobody", call.Method, call.Type, name)
					}
				}
			}
			return nil
		})
		if _, err := convergeWith(t, p, spec, cloud.Options{TakeOver: true}); err != nil || looks == 0 {
			t.Fatalf("%d writes (%v)", looks, err)
		}
		c.SetHook(nil)
		if desired, err := p.Desired(spec); err != nil {
			t.Fatal(err)
		} else if out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{}); err != nil || !out.Left.Empty() {
			t.Errorf("taken over, there is left %+v (%v)", out.Left, err)
		}
		for range 10 { // its address is in use, and goes when the frontend has gone, which is somebody's to remove
			if _, err := cloud.Converge(t.Context(), p, spec.Owner, nil, cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if rules := rulesOf(c, "kubernetes"); len(rules) > 0 {
			t.Errorf("deleted, it has rules %q", rules)
		}
		if all := strings.Join(c.Snapshot(), "\n"); !strings.Contains(all, "kubernetes frontend a") {
			t.Errorf("the outbound rule's frontend is gone:\n%s", all)
		}
	})
}

// TestOthersEmptyBalancer: a balancer that somebody else made stays, also when the last thing in it was a frontend that was taken over.
func TestOthersEmptyBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		madeFor(t, c, spec, func(*armnetwork.LoadBalancer, string) {})
		if _, err := convergeWith(t, p, spec, cloud.Options{TakeOver: true}); err != nil {
			t.Fatal(err)
		}
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			lb.Properties.BackendAddressPools = slices.DeleteFunc(lb.Properties.BackendAddressPools, func(b *armnetwork.BackendAddressPool) bool { return *b.Name == "nodesIPv4" })
		})
		time.Sleep(time.Minute)
		if _, err := converge(t, p, spec, true); err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(c.Snapshot(), "\n"); !strings.Contains(all, "kubernetes balancer [somebody=else]") || strings.Contains(all, "kubernetes frontend") {
			t.Errorf("want the balancer, and nothing in it:\n%s", all)
		}
	})
}

// TestOthersRulesOnAFrontend: where cloud-provider-azure has two Services use one address, taking over the one that it was made for
// leaves the other's rules alone, and so does deleting it.
func TestOthersRulesOnAFrontend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		const theirs = "a1111111122224333844455555555555-TCP-443"
		madeFor(t, c, spec, func(lb *armnetwork.LoadBalancer, id string) {
			lb.Properties.LoadBalancingRules = append(lb.Properties.LoadBalancingRules, &armnetwork.LoadBalancingRule{Name: new(theirs),
				Properties: &armnetwork.LoadBalancingRulePropertiesFormat{Protocol: new(armnetwork.TransportProtocolTCP),
					FrontendPort: new(int32(443)), BackendPort: new(int32(30443)), FrontendIPConfiguration: &armnetwork.SubResource{ID: new(id)},
					BackendAddressPool: &armnetwork.SubResource{ID: new(networkPath + "loadBalancers/kubernetes/backendAddressPools/nodesIPv4")}}})
		})
		lines := func() []string {
			return slices.DeleteFunc(c.Snapshot(), func(line string) bool { return !strings.Contains(line, theirs) })
		}
		before := lines()
		unchanged := func(when string) {
			t.Helper()
			if diff := cmp.Diff(before, lines()); diff != "" || len(before) == 0 {
				t.Errorf("%s, the other Service's rule is another (-before +after):\n%s", when, diff)
			}
		}
		if _, err := convergeWith(t, p, spec, cloud.Options{TakeOver: true}); err != nil {
			t.Fatal(err)
		}
		unchanged("taken over")
		if out, err := convergeWith(t, p, spec, cloud.Options{}); err != nil || len(out.Done) > 0 {
			t.Errorf("taken over, it does %+v (%v)", out.Done, err)
		}
		both := spec
		both.Ports = append(slices.Clone(spec.Ports), spec.Ports[0])
		both.Ports[1].Port, both.Ports[1].NodePort = 443, 31443
		if _, err := convergeWith(t, p, both, cloud.Options{}); p.Classify(err).Class != cloud.Conflict {
			t.Errorf("asked for the other Service's port it says %v", err)
		}
		unchanged("asked for its port")
		for range 10 { // its address is in use, and goes when the frontend has gone
			if _, err := cloud.Converge(t.Context(), p, spec.Owner, nil, cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		unchanged("deleted")
		if rules := rulesOf(c, "kubernetes"); len(rules) != 1 {
			t.Errorf("deleted, there are rules %q", rules)
		}
	})
}

// TestUnfit: a balancer of a kind that no Service can use is not adopted, and whoever can change that is told; nothing is changed.
func TestUnfit(t *testing.T) {
	for kind, sku := range map[string]armnetwork.LoadBalancerSKU{
		"SKU Basic":           {Name: new(armnetwork.LoadBalancerSKUNameBasic)},
		"SKU Standard Global": {Name: new(armnetwork.LoadBalancerSKUNameStandard), Tier: new(armnetwork.LoadBalancerSKUTierGlobal)},
		"SKU Gateway":         {Name: new(armnetwork.LoadBalancerSKUNameGateway)},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p, spec, other := provider(t, c), service(1, 2), service(2, 2)
				options := lend(t, c, spec)
				madeFor(t, c, other, func(*armnetwork.LoadBalancer, string) {})
				for _, name := range c.Names("loadBalancers") {
					c.SetSKU(name, sku)
				}
				time.Sleep(time.Minute)
				before := c.Snapshot()
				for _, try := range []struct {
					spec    cloud.Spec
					options cloud.Options
				}{{spec, options}, {other, cloud.Options{TakeOver: true}}, {other, cloud.Options{}}} {
					_, err := convergeWith(t, p, try.spec, try.options)
					if p.Classify(err).Class != cloud.Conflict || !strings.Contains(err.Error(), kind) {
						t.Errorf("with %+v it says %v", try.options, err)
					}
				}
				if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
					t.Errorf("it is changed (-before +after):\n%s", diff)
				}
				if _, err := convergeWith(t, p, other, cloud.Options{Adopt: "None"}); err != nil {
					t.Errorf("asked for another one: %v", err)
				}
			})
		})
	}
}

// TestStrangers: what others have put on a balancer that was lent, or taken over, or is the cluster's, stays, though it looks like ours.
func TestStrangers(t *testing.T) {
	strange := []string{"frontend fl-theirs-ipv4-o123456 of own", "pool fl-theirs-ipv4 ", "pool fl-theirs-ipv4-idle "}
	for name, begin := range map[string]func(t *testing.T, c *azuretest.Cloud, spec cloud.Spec) cloud.Options{
		"Lent": lend,
		"TakenOver": func(t *testing.T, c *azuretest.Cloud, spec cloud.Spec) cloud.Options {
			madeFor(t, c, spec, func(*armnetwork.LoadBalancer, string) {})
			return cloud.Options{TakeOver: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p, spec := provider(t, c), service(1, 2)
				options := begin(t, c, spec)
				edit(t, c, func(lb *armnetwork.LoadBalancer) {
					p := lb.Properties
					p.FrontendIPConfigurations = append(p.FrontendIPConfigurations, &armnetwork.FrontendIPConfiguration{Name: new("fl-theirs-ipv4-o123456"),
						Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{PublicIPAddress: &armnetwork.PublicIPAddress{ID: new(networkPath + "publicIPAddresses/own")}}})
					p.BackendAddressPools = append(p.BackendAddressPools, &armnetwork.BackendAddressPool{Name: new("fl-theirs-ipv4")},
						&armnetwork.BackendAddressPool{Name: new("fl-theirs-ipv4-idle")})
				})
				moved := service(1, 2)
				moved.Ports[0].Port = 81
				for _, spec := range []cloud.Spec{spec, moved} {
					if _, err := convergeWith(t, p, spec, options); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := converge(t, p, moved, true); err != nil {
					t.Fatal(err)
				}
				all := strings.Join(c.Snapshot(), "\n") + "\n"
				for _, line := range strange {
					if !strings.Contains(all, line) {
						t.Errorf("gone is %s", line)
					}
				}
			})
		})
	}
}
