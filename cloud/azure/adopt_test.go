package azure_test

import (
	"encoding/json"
	"fmt"
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

// lend makes a balancer by hand that the Service may adopt, with ports 80 and 9443.
func lend(t *testing.T, c *azuretest.Cloud, spec cloud.Spec) cloud.Options {
	t.Helper()
	planted := spec
	planted.Ports = slices.Clone(spec.Ports)
	other := planted.Ports[0]
	other.Port, other.NodePort = 9443, 30943
	planted.Ports = append(planted.Ports, other)
	id, err := (&planter{cloud: c}).plant(cloudtest.Plant{Spec: planted, AdoptableBy: cloud.AdoptableBy(spec.Owner)})
	if err != nil {
		t.Fatal(err)
	}
	return cloud.Options{Adopt: id}
}

// TestLentPorts: of a balancer that was lent a port that the Service gives up sends nowhere, and stays; one that it added goes with
// it; what was never its keeps its nodes.
func TestLentPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		options := lend(t, c, spec)
		nodes := "172.30.0.11,172.30.0.12"
		want := func(when string, want map[string]string) {
			t.Helper()
			got := rulesOf(c, "byhand-1")
			for name, addresses := range want {
				if have, ok := got[name]; !ok || have != addresses {
					t.Errorf("%s: rule %s sends to %q (there: %t), want %q", when, name, have, ok, addresses)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: there are rules %q", when, got)
			}
		}
		if _, err := convergeWith(t, p, spec, options); err != nil {
			t.Fatal(err)
		}
		want("adopted", map[string]string{"web-TCP-80": nodes, "web-TCP-9443": nodes})
		moved := service(1, 2)
		moved.Ports[0].Port = 81
		if _, err := convergeWith(t, p, moved, options); err != nil {
			t.Fatal(err)
		}
		var own string
		for name := range rulesOf(c, "byhand-1") {
			if strings.HasPrefix(name, "fl-") {
				own = name
			}
		}
		want("moved", map[string]string{"web-TCP-80": "", "web-TCP-9443": nodes, own: nodes})
		if _, err := converge(t, p, moved, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		want("let go", map[string]string{"web-TCP-80": "", "web-TCP-9443": nodes})
	})
}

// TestLentLabel: the DNS label of an address that was lent is somebody's, until the Service asks for another.
func TestLentLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		options := lend(t, c, spec)
		ip := publicIP()
		ip.Properties.DNSSettings = &armnetwork.PublicIPAddressDNSSettings{DomainNameLabel: new("theirs")}
		if err := c.Put("publicIPAddresses", "byhand-1-web", ip); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, step := range []struct{ label, want string }{{"", "dns=theirs"}, {"ours", "dns=ours"}, {"", "dns= "}} {
			asked := spec
			if step.label != "" {
				asked = with(spec, map[string]string{"dns-label-name": step.label})
			}
			if _, err := convergeWith(t, p, asked, options); err != nil {
				t.Fatal(err)
			}
			for _, line := range c.Snapshot() {
				if strings.HasPrefix(line, "byhand-1-web address") && !strings.Contains(line, step.want) {
					t.Errorf("asked for label %q there is no %q in %s", step.label, step.want, line)
				}
			}
		}
	})
}

// TestNoTagLeft: where a balancer has no room for the mark, the Service is told, and nothing is changed but the address's mark.
func TestNoTagLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		options := lend(t, c, spec)
		if err := c.Edit(func(lb *armnetwork.LoadBalancer) {
			for n := len(lb.Tags); n < 50; n++ {
				lb.Tags[fmt.Sprint("tag", n)] = new("a")
			}
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		marked := func(line string) bool { return strings.HasPrefix(line, "byhand-1-web address") }
		before := slices.DeleteFunc(c.Snapshot(), marked)
		if _, err := convergeWith(t, p, spec, options); p.Classify(err).Class != cloud.Quota || !strings.Contains(err.Error(), "50 tags") {
			t.Errorf("without room for a tag it says %v", err)
		}
		if diff := cmp.Diff(before, slices.DeleteFunc(c.Snapshot(), marked)); diff != "" {
			t.Errorf("it is changed (-before +after):\n%s", diff)
		}
	})
}

// TestMarkRemovedByHand: what somebody takes the mark off is not the Service's any more, and left alone.
func TestMarkRemovedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		if _, err := convergeWith(t, p, spec, lend(t, c, spec)); err != nil {
			t.Fatal(err)
		}
		if err := c.Edit(func(lb *armnetwork.LoadBalancer) {
			for name := range lb.Tags {
				if name != "somebody" {
					delete(lb.Tags, name)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		ofTheirs := func() []string {
			return slices.DeleteFunc(c.Snapshot(), func(line string) bool { return !strings.HasPrefix(line, "byhand-1 ") })
		}
		before := ofTheirs()
		if _, err := converge(t, p, spec, true); err != nil {
			t.Fatal(err)
		}
		if after := ofTheirs(); !slices.Equal(before, after) {
			t.Errorf("it was changed from\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	})
}

// TestTakenOverWithoutAGap: at no moment of taking over does a rule send to nobody; and a frontend that somebody's outbound rule
// uses, too, stays.
func TestTakenOverWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		id, err := (&planter{cloud: c}).plant(cloudtest.Plant{Spec: spec, MadeFor: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Edit(func(lb *armnetwork.LoadBalancer) {
			lb.Properties.OutboundRules = []*armnetwork.OutboundRule{{Name: new("out"), Properties: &armnetwork.OutboundRulePropertiesFormat{
				Protocol:                 new(armnetwork.LoadBalancerOutboundRuleProtocolAll),
				BackendAddressPool:       &armnetwork.SubResource{ID: new(networkPath + "loadBalancers/kubernetes/backendAddressPools/nodesIPv4")},
				FrontendIPConfigurations: []*armnetwork.SubResource{{ID: new(id)}}}}}
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
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

// TestLentAndFull: of a balancer that was lent and has no room for what the Service asks for, nothing changes.
func TestLentAndFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		options := lend(t, c, spec)
		if _, err := convergeWith(t, p, spec, options); err != nil {
			t.Fatal(err)
		}
		before := rulesOf(c, "byhand-1")
		moved := service(1, 2)
		for n := range int32(250) { // and port 80 is given up
			moved.Ports = append(moved.Ports, moved.Ports[0])
			moved.Ports[n].Port, moved.Ports[n].NodePort = 1000+n, 30000+n
		}
		moved.Ports = moved.Ports[:250]
		if _, err := convergeWith(t, p, moved, options); p.Classify(err).Class != cloud.Quota {
			t.Errorf("without room it says %v", err)
		}
		if diff := cmp.Diff(before, rulesOf(c, "byhand-1")); diff != "" {
			t.Errorf("its rules are changed (-before +after):\n%s", diff)
		}
	})
}

// TestOthersRulesOnAFrontend: where cloud-provider-azure has two Services use one address, taking over the one that it was made for
// leaves the other's rules alone, and so does deleting it.
func TestOthersRulesOnAFrontend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), service(1, 2)
		id, err := (&planter{cloud: c}).plant(cloudtest.Plant{Spec: spec, MadeFor: true})
		if err != nil {
			t.Fatal(err)
		}
		const theirs = "a1111111122224333844455555555555-TCP-443"
		if err := c.Edit(func(lb *armnetwork.LoadBalancer) {
			lb.Properties.LoadBalancingRules = append(lb.Properties.LoadBalancingRules, &armnetwork.LoadBalancingRule{Name: new(theirs),
				Properties: &armnetwork.LoadBalancingRulePropertiesFormat{Protocol: new(armnetwork.TransportProtocolTCP),
					FrontendPort: new(int32(443)), BackendPort: new(int32(30443)), FrontendIPConfiguration: &armnetwork.SubResource{ID: new(id)},
					BackendAddressPool: &armnetwork.SubResource{ID: new(networkPath + "loadBalancers/kubernetes/backendAddressPools/nodesIPv4")}}})
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
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
