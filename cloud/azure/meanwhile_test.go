package azure_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// theirs makes tags those of the same Service in another cluster.
func theirs(tags map[string]*string) {
	for name := range tags {
		if strings.HasPrefix(name, "fairlead-owner-") || name == "fairlead-cluster" {
			tags[name] = new("cluster-b")
		}
	}
}

// TestAnothersMeanwhile: what becomes somebody else's between the moment in which it is read and the one in which it is changed stays as
// that one has it.
func TestAnothersMeanwhile(t *testing.T) {
	link := with(linked(service(1, 2)), map[string]string{"pls-name": "link"})
	address := func(c *azuretest.Cloud) string {
		return slices.DeleteFunc(c.Names("publicIPAddresses"), func(name string) bool { return !strings.Contains(name, "cart1") })[0]
	}
	for name, tc := range map[string]struct {
		spec cloud.Spec
		// after is what is asked for next; nil: that it goes.
		after *cloud.Spec
		// meanwhile is done before the first call of that method and type.
		method, typ string
		meanwhile   func(c *azuretest.Cloud) error
		// of is in the lines that stay.
		of string
	}{
		"Balancer": {service(1, 2), nil, http.MethodPut, "loadBalancers", func(c *azuretest.Cloud) error {
			return c.Edit(func(lb *armnetwork.LoadBalancer) { theirs(lb.Tags) })
		}, " rule "},
		"BalancerChanged": {service(1, 2), new(with(service(1, 2), map[string]string{"load-balancer-tcp-idle-timeout": "9"})), http.MethodPut, "loadBalancers",
			func(c *azuretest.Cloud) error {
				return c.Edit(func(lb *armnetwork.LoadBalancer) { theirs(lb.Tags) })
			}, " rule "},
		"Address": {service(1, 2), nil, http.MethodDelete, "publicIPAddresses", func(c *azuretest.Cloud) error {
			return c.EditAddress(address(c), func(ip *armnetwork.PublicIPAddress) { theirs(ip.Tags) })
		}, " address "},
		"AddressRead": {service(1, 2), nil, http.MethodPut, "loadBalancers", func(c *azuretest.Cloud) error {
			return c.EditAddress(address(c), func(ip *armnetwork.PublicIPAddress) { theirs(ip.Tags) })
		}, " address "},
		"AddressChanged": {service(1, 2), new(with(service(1, 2), map[string]string{"pip-tags": "a=b"})), http.MethodPut, "publicIPAddresses", func(c *azuretest.Cloud) error {
			return c.EditAddress(address(c), func(ip *armnetwork.PublicIPAddress) { theirs(ip.Tags) })
		}, " address "},
		"SecurityRule": {service(1, 2), nil, http.MethodPut, "networkSecurityGroups", func(c *azuretest.Cloud) error {
			return c.EditGroup("nodes", func(group *armnetwork.SecurityGroup) {
				for _, rule := range group.Properties.SecurityRules {
					rule.Properties.Description = new("by hand")
				}
			})
		}, "security rule"},
		"Link": {link, nil, http.MethodDelete, "privateLinkServices", func(c *azuretest.Cloud) error {
			return c.EditLink("link", func(service *armnetwork.PrivateLinkService) { theirs(service.Tags) })
		}, "link private link service"},
		"LinkChanged": {link, new(with(link, map[string]string{"pls-proxy-protocol": "true"})), http.MethodPut, "privateLinkServices", func(c *azuretest.Cloud) error {
			return c.EditLink("link", func(service *armnetwork.PrivateLinkService) { theirs(service.Tags) })
		}, "link private link service"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				machines(c, 2)
				p := provider(t, c)
				other := service(2, 2)
				if strings.HasPrefix(name, "Link") {
					other = linked(other)
				}
				for _, spec := range []cloud.Spec{tc.spec, other} {
					if _, err := converge(t, p, spec, false); err != nil {
						t.Fatal(err)
					}
				}
				lines := func() []string {
					var lines []string
					for _, line := range c.Snapshot() {
						if strings.Contains(line, tc.of) {
							line, _, _ = strings.Cut(line, `,"destinationAddressPrefix"`) // which is told by a name that may go
							lines = append(lines, line)
						}
					}
					return lines
				}
				var before []string
				c.SetHook(func(call azuretest.Call) error {
					if call.After || call.Method != tc.method || call.Type != tc.typ || before != nil {
						return nil
					}
					err := tc.meanwhile(c)
					before = lines()
					return err
				})
				var desired []cloud.Resource
				if tc.after != nil {
					var err error
					if desired, err = p.Desired(*tc.after); err != nil {
						t.Fatal(err)
					}
				}
				for range 15 {
					_, _ = cloud.Converge(t.Context(), p, tc.spec.Owner, desired, cloud.Options{}) // whatever it says
					time.Sleep(time.Second)
				}
				after := lines()
				if len(before) == 0 {
					t.Fatal("nobody did anything meanwhile")
				}
				for _, line := range before {
					if !slices.Contains(after, line) {
						t.Errorf("it is not there any more: %s\nbut there is\n%s", line, strings.Join(after, "\n"))
					}
				}
			})
		})
	}
}

// TestNotAskedForAgain: what a Service wanted, and was only looked at since, as under the policy Plan, is not written with what others
// want; and is, once it asks again.
func TestNotAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		desired, err := p.Desired(service(1, 2))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cloud.Converge(t.Context(), p, service(1, 2).Owner, desired, cloud.Options{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if _, err := cloud.Converge(t.Context(), p, service(1, 2).Owner, desired, cloud.Options{Policy: v1alpha1.PolicyPlan}); err != nil {
			t.Fatal(err)
		}
		if _, err := converge(t, p, service(2, 2), false); err != nil {
			t.Fatal(err)
		}
		if _, rules := c.Count("loadBalancers"); rules != 1 {
			t.Errorf("there are %d rules, want the other Service's", rules)
		}
		if _, err := converge(t, p, service(1, 2), false); err != nil {
			t.Fatal(err)
		}
		if _, rules := c.Count("loadBalancers"); rules != 2 {
			t.Errorf("there are %d rules, want both Services'", rules)
		}
	})
}

// TestForgotten: what nobody has asked for again for long takes no room on a balancer.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		large := func(n int) cloud.Spec {
			spec := service(n, 2)
			for i := range 149 {
				port := spec.Ports[0]
				port.Port = int32(1000 + i)
				spec.Ports = append(spec.Ports, port)
			}
			return spec
		}
		desired, err := p.Desired(large(1))
		if err != nil {
			t.Fatal(err)
		}
		for _, options := range []cloud.Options{{}, {Policy: v1alpha1.PolicyPlan}, {Policy: v1alpha1.PolicyPlan}} {
			if _, err := cloud.Converge(t.Context(), p, large(1).Owner, desired, options); err != nil {
				t.Fatal(err)
			}
			time.Sleep(11 * time.Minute)
		}
		if _, err := converge(t, p, large(2), false); err != nil {
			t.Fatal(err)
		}
		if names := c.Names("loadBalancers"); len(names) != 1 || !strings.HasSuffix(names[0], "-1") {
			t.Errorf("there are balancers %q", names)
		}
	})
}

// TestPatience: what is asked for does not wait for ever while others go on asking.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, end := provider(t, c), time.Now().Add(15*time.Second)
		for n := 1; time.Now().Before(end); n++ {
			for _, spec := range []cloud.Spec{service(0, 2), service(n, 2)} {
				desired, err := p.Desired(spec)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
					t.Fatal(err)
				}
			}
			time.Sleep(500 * time.Millisecond)
		}
		if !strings.Contains(strings.Join(c.Snapshot(), "\n"), "rule {\"name\":\"fl-"+service(0, 2).Owner.ServiceUID) {
			t.Error("the first one has no rule after 15 seconds")
		}
	})
}
