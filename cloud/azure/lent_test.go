package azure_test

import (
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
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			for n := len(lb.Tags); n < 50; n++ {
				lb.Tags[fmt.Sprint("tag", n)] = new("a")
			}
		})
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
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			for name := range lb.Tags {
				if name != "somebody" {
					delete(lb.Tags, name)
				}
			}
		})
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

// TestLentChangesSource: the rules that a Service added to a frontend that was lent go with it, also where its owner has made its
// address a fixed one meanwhile.
func TestLentChangesSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), internal(service(1, 2))
		options := lend(t, c, spec)
		if _, err := convergeWith(t, p, spec, options); err != nil {
			t.Fatal(err)
		}
		moved := internal(service(1, 2))
		moved.Ports[0].Port = 81
		if _, err := convergeWith(t, p, moved, options); err != nil {
			t.Fatal(err)
		}
		if rules := rulesOf(c, "byhand-1"); len(rules) != 3 {
			t.Fatalf("there are rules %q", rules)
		}
		edit(t, c, func(lb *armnetwork.LoadBalancer) {
			lb.Properties.FrontendIPConfigurations[0].Properties.PrivateIPAllocationMethod = new(armnetwork.IPAllocationMethodStatic)
		})
		if _, err := converge(t, p, moved, true); err != nil {
			t.Fatal(err)
		}
		for name, addresses := range rulesOf(c, "byhand-1") {
			if !strings.HasPrefix(name, "web-TCP-") || addresses != "" && name == "web-TCP-80" {
				t.Errorf("let go, it has the rule %s, which sends to %q", name, addresses)
			}
		}
	})
}

// TestTagsOfOthersAddresses: tags of a public address that was lent, or that a Service names, are its owner's, whatever the Service
// asks for, and it does not go on asking.
func TestTagsOfOthersAddresses(t *testing.T) {
	asked := map[string]string{"pip-tags": "somebody=me,team=shop"}
	own := map[string]string{"pip-tags": "somebody=me,team=shop", "pip-name": "own"}
	for name, tc := range map[string]struct {
		address string
		spec    cloud.Spec
		lent    bool
	}{
		"Lent":  {"byhand-1-web", with(service(1, 2), asked), true},
		"Named": {"own", with(service(1, 2), own), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p := provider(t, c)
				options := cloud.Options{}
				if tc.lent {
					options = lend(t, c, service(1, 2))
				}
				unchanged := func(when string) {
					t.Helper()
					for _, line := range c.Snapshot() {
						if strings.HasPrefix(line, tc.address+" address") && (strings.Contains(line, " team=") || strings.Contains(line, "[team=") || !strings.Contains(line, "somebody=else")) {
							t.Errorf("%s it is %s", when, line)
						}
					}
				}
				for range 2 {
					if _, err := convergeWith(t, p, tc.spec, options); err != nil {
						t.Fatal(err)
					}
					unchanged("used")
				}
				if out, err := convergeWith(t, provider(t, c), tc.spec, options); err != nil || len(out.Done) > 0 {
					t.Errorf("after a restart it does %+v (%v)", out.Done, err)
				}
				plain := tc.spec
				plain.Annotations = map[string]string{}
				if !tc.lent {
					plain = with(service(1, 2), map[string]string{"pip-name": "own"})
				}
				if _, err := convergeWith(t, p, plain, options); err != nil {
					t.Fatal(err)
				}
				unchanged("asked for no tags")
				if _, err := converge(t, p, plain, true); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				unchanged("given back")
				for _, line := range c.Snapshot() {
					if strings.HasPrefix(line, tc.address+" address") && strings.Contains(line, "fairlead-") {
						t.Errorf("given back it has marks: %s", line)
					}
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, spec := provider(t, c), with(service(1, 2), map[string]string{"pip-tags": "a=" + strings.Repeat("x", 256)})
		_, err := convergeWith(t, p, spec, lend(t, c, spec))
		if p.Classify(err).Class != cloud.UserError || !strings.Contains(err.Error(), "pip-tags") {
			t.Errorf("asked for more tags than can be noted it says %v", err)
		}
	})
}

// TestAddedByAnEarlierVersion: names of the rules that were added to a frontend that was lent had other hashes. They go as others do,
// with their probes; a rule on another frontend stays, whatever its name is.
func TestAddedByAnEarlierVersion(t *testing.T) {
	for name, gone := range map[string]bool{"Changed": false, "LetGo": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p, spec := provider(t, c), internal(service(1, 2))
				options := lend(t, c, spec)
				moved := internal(service(1, 2))
				moved.Ports[0].Port = 81
				for _, spec := range []cloud.Spec{spec, moved} {
					if _, err := convergeWith(t, p, spec, options); err != nil {
						t.Fatal(err)
					}
				}
				var others string
				edit(t, c, func(lb *armnetwork.LoadBalancer) {
					i := slices.IndexFunc(lb.Properties.LoadBalancingRules, func(r *armnetwork.LoadBalancingRule) bool { return strings.HasPrefix(*r.Name, "fl-") })
					rule := lb.Properties.LoadBalancingRules[i]
					now := *rule.Name
					then := now[:len(now)-len("000000-tcp-81")] + "abcdef-tcp-81"
					for _, b := range lb.Properties.Probes {
						b.Name, b.ID = new(strings.Replace(*b.Name, now, then, 1)), nil
					}
					rule.Name, rule.ID, rule.Properties.Probe.ID = &then, nil, new(strings.Replace(*rule.Properties.Probe.ID, now, then, 1))
					other := *lb.Properties.FrontendIPConfigurations[0]
					properties := *other.Properties
					properties.PrivateIPAddress, properties.PrivateIPAllocationMethod = nil, new(armnetwork.IPAllocationMethodDynamic)
					other.Name, other.ID, other.Properties = new("other"), nil, &properties
					lb.Properties.FrontendIPConfigurations = append(lb.Properties.FrontendIPConfigurations, &other)
					theirs, of := *rule, *rule.Properties
					others = strings.Replace(then, "abcdef", "fedcba", 1)
					theirs.Name, theirs.Properties = &others, &of
					of.Probe = nil
					for _, r := range lb.Properties.LoadBalancingRules {
						if *r.Name == "web-TCP-9443" {
							of.BackendAddressPool = r.Properties.BackendAddressPool
						}
					}
					of.FrontendIPConfiguration = &armnetwork.SubResource{ID: new(*lb.ID + "/frontendIPConfigurations/other")}
					lb.Properties.LoadBalancingRules = append(lb.Properties.LoadBalancingRules, &theirs)
				})
				next := internal(service(1, 2))
				next.Ports[0].Port = 82
				var err error
				if gone {
					_, err = converge(t, p, moved, true)
				} else {
					_, err = convergeWith(t, p, next, options)
				}
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				all := strings.Join(c.Snapshot(), "\n")
				if strings.Contains(all, "abcdef") {
					t.Errorf("what was added is left:\n%s", all)
				}
				if !strings.Contains(all, others) {
					t.Errorf("a rule of another frontend is gone:\n%s", all)
				}
			})
		})
	}
}
