package gcp_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/option"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// withPorts is a Service of n TCP ports.
func withPorts(n, nodes int, scheme string) *cloud.Spec {
	spec := service(0, nodes)
	spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": scheme}
	for i := range int32(n - 1) {
		spec.Ports = append(spec.Ports, cloud.Port{Protocol: "TCP", Port: 8000 + i, NodePort: 31000 + i, HealthCheck: spec.Ports[0].HealthCheck})
	}
	return spec
}

// takingOver is one pass by a class that takes over, with or without a replacement.
func takingOver(t *testing.T, p cloud.Provider, spec *cloud.Spec, replacement v1alpha1.Replacement) (cloud.Outcome, error) {
	t.Helper()
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	return cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{TakeOver: true, Replacement: replacement})
}

// taken is a Service of n ports whose balancer, with an address that only its rules have, was taken over from the service controller.
func taken(t *testing.T, n int) (c *gcptest.Cloud, p *gcp.Provider, spec *cloud.Spec, address string) {
	t.Helper()
	c, spec = gcptest.New(gcptest.Options{}), withPorts(n, 2, "External")
	p = c.Provider()
	_, address, err := c.PlantServiceController(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takingOver(t, p, spec, v1alpha1.ReplacementNever); err != nil {
		t.Fatal(err)
	}
	return c, p, spec, address
}

// balancers are the backend services of a cloud as its snapshot shows them.
func balancers(c *gcptest.Cloud) string {
	return strings.Join(slices.DeleteFunc(c.Snapshot(), func(line string) bool {
		return !strings.HasPrefix(line, "regions/"+gcptest.Region+"/backendServices/")
	}), "\n")
}

// TestOneRuleForAllPorts takes over what other controllers make for a Service of several ports: one rule, and a backend service that takes
// its protocol only. It follows the nodes until it may be replaced, by endpoint groups alone, none of which it sends to without a machine, and then
// is as one of ours.
func TestOneRuleForAllPorts(t *testing.T) {
	for maker, plant := range map[string]func(*gcptest.Cloud, *cloud.Spec) error{
		"GKE": func(c *gcptest.Cloud, spec *cloud.Spec) error {
			_, _, err := c.PlantGKE(spec, gcp.GKEHash(spec.Owner.ClusterID))
			return err
		},
		"ServiceController": func(c *gcptest.Cloud, spec *cloud.Spec) error {
			_, _, err := c.PlantServiceController(spec)
			return err
		},
	} {
		for n, why := range map[int]string{3: "ForwardingRule/tcp-80-ipv4 (ports)", 6: "BackendService/main (takesL3_DEFAULT)"} {
			t.Run(fmt.Sprint(maker, n), func(t *testing.T) {
				c := gcptest.New(gcptest.Options{})
				p, spec := c.Provider(), withPorts(n, 2, "Internal")
				if err := plant(c, spec); err != nil {
					t.Fatal(err)
				}
				c.Deny("compute.healthChecks.useReadOnly") // GKE's health check is global, and the manager's own are not
				c.SetHook(func(cloudtest.Call) error {
					for _, group := range groups(c) {
						if path, ok := strings.CutSuffix(group, " []"); ok && strings.Contains(balancers(c), path) {
							t.Errorf("it sends to %s, which has no machine yet", path)
						}
					}
					return nil
				})
				for _, nodes := range []int{2, 4, 3} {
					spec.Nodes = withPorts(n, nodes, "Internal").Nodes
					out, err := takingOver(t, p, spec, v1alpha1.ReplacementNever)
					if err != nil || len(out.Left.Operations) > 0 || len(out.Left.Blocked) != 1 || !strings.HasPrefix(out.Left.Blocked[0].Message, why) {
						t.Fatalf("with %d nodes it leaves %+v (%v), want a block of %s", nodes, out.Left, err, why)
					}
					if all := fmt.Sprint(groups(c)); !strings.Contains(all, gcptest.InstanceName(nodes-1)) || strings.Contains(all, gcptest.InstanceName(nodes)) {
						t.Errorf("of %d nodes the groups are %s", nodes, all)
					}
					if all := balancers(c); strings.Contains(all, "instanceGroups") || !strings.Contains(all, "networkEndpointGroups/fl-") {
						t.Errorf("it sends to others: %s", all)
					}
				}
				var out cloud.Outcome
				var err error
				for range 3 { // an address that only a rule had is told gone in between
					if out, err = takingOver(t, p, spec, v1alpha1.ReplacementRecreate); err == nil && out.Left.Empty() {
						break
					}
				}
				if err != nil || !out.Left.Empty() || len(cloud.Ingresses(out.Observed)) != 1 {
					t.Fatalf("replaced, it leaves %+v (%v)", out.Left, err)
				}
				c.SetHook(nil)
				pass(t, p, spec.Owner, nil)
				left := slices.DeleteFunc(c.Snapshot(), func(line string) bool { return strings.Contains(line, "-l4-shared-hc") })
				if len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			})
		}
	}
}

// TestExternalAddressIsReservedFirst: an external address that only rules have, and that the Service asks for, is reserved before they are replaced,
// whatever comes first: it could not be had again. One of IPv6, which is not reserved in place, stays with its rules.
func TestExternalAddressIsReservedFirst(t *testing.T) {
	for name, passes := range map[string][]v1alpha1.Replacement{
		"Held":   {v1alpha1.ReplacementNever, v1alpha1.ReplacementRecreate, v1alpha1.ReplacementRecreate},
		"AtOnce": {v1alpha1.ReplacementRecreate, v1alpha1.ReplacementRecreate},
	} {
		for _, n := range []int{3, 7, 12} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				c, p, spec, address := taken(t, n)
				spec.RequestedAddress = address
				var out cloud.Outcome
				var err error
				for _, replacement := range passes {
					if out, err = takingOver(t, p, spec, replacement); err != nil && !cloud.IsClass(err, cloud.Pending) {
						t.Fatal(err)
					}
				}
				if got := cloud.Ingresses(out.Observed); err != nil || !out.Left.Empty() || len(got) != 1 || got[0].IP != address {
					t.Errorf("clients connect to %v, want %s; left is %+v (%v)", got, address, out.Left, err)
				}
				pass(t, p, spec.Owner, nil)
				if left := c.Snapshot(); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			})
		}
	}
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), withPorts(3, 2, "External")
	spec.Families = []cloud.Family{cloud.IPv6}
	if _, _, err := c.PlantServiceController(spec); err != nil {
		t.Fatal(err)
	}
	out, err := takingOver(t, p, spec, v1alpha1.ReplacementNever)
	if err != nil {
		t.Fatal(err)
	}
	before := cloud.Ingresses(out.Observed)
	spec.RequestedAddress = before[0].IP
	for range 2 {
		out, err = takingOver(t, p, spec, v1alpha1.ReplacementRecreate)
		if got := cloud.Ingresses(out.Observed); err != nil || len(out.Left.Blocked) == 0 || !slices.Equal(got, before) {
			t.Errorf("clients connect to %v, want %v; left is %+v (%v)", got, before, out.Left, err)
		}
	}
}

// TestRuleInTheWay: a rule that was taken over and has several ports, or an address that no other rule can have beside it, stands in the
// way of those that the Service wants, whatever port its key has: it stays until it may be replaced, and then the Service has its
// own rules at the same address, and one balancer.
func TestRuleInTheWay(t *testing.T) {
	none := func(*cloud.Spec) {}
	dns := func(s *cloud.Spec) {
		s.Ports = append(s.Ports, cloud.Port{Protocol: "UDP", Port: 53, NodePort: 32053, HealthCheck: s.Ports[0].HealthCheck})
	}
	another := func(s *cloud.Spec) { s.Ports = append(s.Ports, withPorts(2, 2, "").Ports[1]) }
	first := func(s *cloud.Spec) { s.Ports = s.Ports[1:] }
	for name, tc := range map[string]struct {
		n             int
		scheme        string
		before, after func(*cloud.Spec)
		tcp           bool // the other controller's rule has all ports of TCP
		why           string
	}{
		"AllOfTCP":           {n: 7, scheme: "External", before: none, after: none, tcp: true, why: "ForwardingRule/tcp-80-ipv4 cannot be there beside ForwardingRule/tcp-all-ipv4"},
		"RangeWithoutFirst":  {n: 7, scheme: "External", before: none, after: first, why: "ForwardingRule/tcp-8000-ipv4 cannot be there beside ForwardingRule/tcp-80-ipv4"},
		"ListWithoutFirst":   {n: 3, scheme: "External", before: none, after: first, why: "ForwardingRule/tcp-8000-ipv4 cannot be there beside ForwardingRule/tcp-80-ipv4"},
		"InternalList":       {n: 3, scheme: "Internal", before: none, after: first, why: "ForwardingRule/tcp-8000-ipv4 cannot be there beside ForwardingRule/tcp-80-ipv4"},
		"InternalFewer":      {n: 7, scheme: "Internal", before: none, after: func(s *cloud.Spec) { s.Ports = s.Ports[:3] }, why: "ForwardingRule/tcp-80-ipv4 cannot be there beside ForwardingRule/tcp-all-ipv4"},
		"InternalOfAll":      {n: 1, scheme: "Internal", before: dns, after: none, why: "ForwardingRule/tcp-80-ipv4 cannot be there beside ForwardingRule/all-ipv4"},
		"InternalAndAnother": {n: 1, scheme: "Internal", before: none, after: another, why: "ForwardingRule/tcp-8000-ipv4 cannot be there beside ForwardingRule/tcp-80-ipv4"},
		"InternalAndUDP":     {n: 1, scheme: "Internal", before: none, after: dns, why: "BackendService/main (takesUDP) cannot change in place"},
		"InternalInstead": {n: 1, scheme: "Internal", before: none, after: func(s *cloud.Spec) { another(s); first(s) },
			why: "ForwardingRule/tcp-8000-ipv4 cannot be there beside ForwardingRule/tcp-80-ipv4"},
	} {
		for _, slow := range []time.Duration{0, 10 * time.Second} {
			t.Run(fmt.Sprint(name, slow), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, spec := gcptest.New(gcptest.Options{Slow: slow}), withPorts(tc.n, 2, tc.scheme)
					p := c.Provider()
					tc.before(spec)
					_, address, err := c.PlantServiceController(spec)
					if err != nil {
						t.Fatal(err)
					}
					if tc.tcp {
						if err := c.Patch("/forwardingRules/", `{"portRange":null,"allPorts":true}`); err != nil {
							t.Fatal(err)
						}
					}
					passes := func(replacement v1alpha1.Replacement, until func(cloud.Outcome) bool) {
						t.Helper()
						for range 60 {
							out, err := takingOver(t, p, spec, replacement)
							if err != nil && !cloud.IsClass(err, cloud.Pending) {
								t.Fatalf("a user reads %v", err)
							}
							if got := cloud.Ingresses(out.Observed); replacement == v1alpha1.ReplacementNever && len(got) > 0 && got[0].IP != address {
								t.Errorf("clients connect to %v, want %s", got, address)
							}
							if err == nil && until(out) {
								return
							}
							time.Sleep(3 * time.Second)
						}
						t.Fatal("it does not come to an end")
					}
					held := func(out cloud.Outcome) bool { return len(out.Left.Operations)+len(out.Left.Waiting) == 0 }
					passes(v1alpha1.ReplacementNever, held)
					tc.after(spec)
					passes(v1alpha1.ReplacementNever, func(out cloud.Outcome) bool {
						if held(out) && (len(out.Left.Blocked) != 1 || !strings.HasPrefix(out.Left.Blocked[0].Message, tc.why)) {
							t.Fatalf("in the way are %+v, want %s", out.Left.Blocked, tc.why)
						}
						return held(out)
					})
					var sent calls
					c.SetHook(sent.hook)
					passes(v1alpha1.ReplacementNever, held)
					if text := sent.String(); !strings.Contains(text, " 0 writes") {
						t.Errorf("held, it sends %s", text)
					}
					c.SetHook(nil)
					spec.RequestedAddress = address
					whole := func(out cloud.Outcome) bool { return out.Left.Empty() }
					passes(v1alpha1.ReplacementRecreate, func(out cloud.Outcome) bool {
						if got := cloud.Ingresses(out.Observed); whole(out) && (len(got) != 1 || got[0].IP != address) {
							t.Errorf("clients connect to %v, want %s", got, address)
						}
						return whole(out)
					})
					sent = calls{}
					c.SetHook(sent.hook)
					passes(v1alpha1.ReplacementNever, whole)
					if text := sent.String(); !strings.Contains(text, " 0 writes") || strings.Contains(balancers(c), "\n") {
						t.Errorf("at its end it sends %s to\n%s", text, balancers(c))
					}
					c.SetHook(nil)
					settle(t, p, spec.Owner, nil)
					if left := c.Snapshot(); len(left) > 0 {
						t.Errorf("left: %q", left)
					}
				})
			})
		}
	}
}

// TestAddressOutlivesCrash: wherever the manager ends while rules at an address that only they have are replaced, the next one has the Service's rules
// at the same address.
func TestAddressOutlivesCrash(t *testing.T) {
	for scheme, n := range map[string]int{"External": 3, "Internal": 1} {
		for _, slow := range []time.Duration{0, 10 * time.Second} {
			for crash, crashed := 1, true; crashed; crash++ {
				synctest.Test(t, func(t *testing.T) {
					c, spec := gcptest.New(gcptest.Options{Slow: slow}), withPorts(n, 2, scheme)
					p, writes := c.Provider(), 0
					_, address, err := c.PlantServiceController(spec)
					if err != nil {
						t.Fatal(err)
					}
					passes := func(replacement v1alpha1.Replacement) (out cloud.Outcome) {
						t.Helper()
						for range 100 {
							before := writes
							if out, err = takingOver(t, p, spec, replacement); err == nil && (out.Left.Empty() || replacement == v1alpha1.ReplacementNever && len(out.Left.Operations)+len(out.Left.Waiting) == 0) {
								return out
							}
							if before < crash && crash <= writes {
								p = c.Provider()
							}
							time.Sleep(3 * time.Second)
						}
						t.Fatalf("%s, each call taking %v, with a crash at write %d: it leaves %+v (%v)", scheme, slow, crash, out.Left, err)
						return out
					}
					passes(v1alpha1.ReplacementNever)
					spec.Ports, spec.RequestedAddress = withPorts(3, 2, scheme).Ports[min(n-1, 1):], address
					c.SetHook(func(call cloudtest.Call) error {
						if call.Write && call.After {
							if writes++; writes == crash {
								return errors.New("killed")
							}
						}
						return nil
					})
					if got := cloud.Ingresses(passes(v1alpha1.ReplacementRecreate).Observed); len(got) != 1 || got[0].IP != address {
						t.Errorf("%s, each call taking %v, with a crash at write %d: clients connect to %v, want %s", scheme, slow, crash, got, address)
					}
					crashed = crash <= writes
				})
			}
		}
	}
}

// TestLentRuleInTheWay: one that somebody lends, and that has several ports, stays theirs, whatever the Service wants.
func TestLentRuleInTheWay(t *testing.T) {
	c, spec := gcptest.New(gcptest.Options{}), withPorts(3, 2, "External")
	p := c.Provider()
	id, _, err := c.PlantServiceController(spec)
	if err != nil {
		t.Fatal(err)
	}
	spec.Owner.ServiceUID = "11111111-0000-4000-8000-000000000000" // to another Service it is somebody's
	spec.Ports = spec.Ports[1:]
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id, Granted: true, Replacement: v1alpha1.ReplacementRecreate})
		if err != nil || len(out.Left.Blocked) != 1 || !strings.HasSuffix(out.Left.Blocked[0].Message, `ports "80,8000,8001"`) {
			t.Errorf("adopted, it leaves %+v (%v)", out.Left, err)
		}
	}
	pass(t, p, spec.Owner, nil)
	if !c.Has("regions/" + gcptest.Region + "/forwardingRules/" + id) {
		t.Error("it is gone")
	}
}

// TestReservedIsLookedForOnce: however many rules a Service asks for, neither addresses nor rules are looked for once for each before those
// that it has are replaced.
func TestReservedIsLookedForOnce(t *testing.T) {
	for name, ask := range map[string]func(c *gcptest.Cloud, spec *cloud.Spec, address string){
		"InUse": func(_ *gcptest.Cloud, spec *cloud.Spec, address string) { spec.RequestedAddress = address },
		"Literal": func(c *gcptest.Cloud, spec *cloud.Spec, address string) {
			c.KeepAddress("mine", address)
			spec.RequestedAddress = address
		},
		"Named": func(c *gcptest.Cloud, spec *cloud.Spec, address string) {
			c.KeepAddress("mine", address)
			spec.Annotations["networking.gke.io/load-balancer-ip-addresses"] = "mine"
		},
	} {
		looks := func(n int) string {
			c, p, spec, address := taken(t, n)
			ask(c, spec, address)
			desired, err := p.Desired(*spec)
			if err != nil {
				t.Fatal(err)
			}
			var counted calls
			c.SetHook(counted.hook)
			options := cloud.Options{TakeOver: true, Replacement: v1alpha1.ReplacementRecreate, Policy: v1alpha1.PolicyPlan} // what is made is looked for one by one
			if _, err := cloud.Converge(t.Context(), p, spec.Owner, desired, options); err != nil && name != "InUse" {       // which is reserved first
				t.Fatal(err)
			}
			return fmt.Sprint(counted.count)
		}
		if few, many := looks(2), looks(5); few != many {
			t.Errorf("%s: of two rules it looks for %s, of five for %s", name, few, many)
		}
	}
}

// TestReservedBesideAnother: an address of IPv4 that only rules have is reserved before they are replaced also where the Service has a reserved one of
// IPv6, while nothing else may change as well as at once.
func TestReservedBesideAnother(t *testing.T) {
	for name, tc := range map[string]struct {
		replacement v1alpha1.Replacement
		asks        func(*cloud.Spec)
	}{
		"Held": {v1alpha1.ReplacementNever, func(s *cloud.Spec) { s.Annotations["networking.gke.io/load-balancer-subnet"] = "other" }}, // where IPv6 would come from
		"AtOnce": {v1alpha1.ReplacementRecreate, func(s *cloud.Spec) {
			s.Ports = append(s.Ports, cloud.Port{Protocol: "UDP", Port: 53, NodePort: 32053, HealthCheck: s.Ports[0].HealthCheck})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, p, spec, address := taken(t, 1)
			for _, families := range [][]cloud.Family{{cloud.IPv4}, {cloud.IPv4, cloud.IPv6}} {
				spec.Families = families
				for range 2 {
					if out, err := takingOver(t, p, spec, v1alpha1.ReplacementNever); err != nil || len(out.Left.Blocked) > 0 {
						t.Fatalf("with %v it leaves %+v (%v)", families, out.Left, err)
					}
				}
			}
			spec.RequestedAddress = address
			tc.asks(spec)
			var out cloud.Outcome
			var err error
			for range 3 {
				if out, err = takingOver(t, p, spec, tc.replacement); err != nil && !cloud.IsClass(err, cloud.Pending) {
					t.Error(err)
				}
			}
			if got := cloud.Ingresses(out.Observed); len(got) != 2 || got[0].IP != address {
				t.Errorf("clients connect to %v, want %s; left is %+v", got, address, out.Left)
			}
			if list := reservedAddresses(c); len(list) != 2 {
				t.Errorf("reserved are %q", list)
			}
		})
	}
}

// TestLongNames: what GKE's controller left beside the balancer is taken over, and goes, however long its name is: it cuts at 63.
func TestLongNames(t *testing.T) {
	c, spec := gcptest.New(gcptest.Options{}), withPorts(1, 2, "Internal")
	p := c.Provider()
	hash := gcp.GKEHash(spec.Owner.ClusterID)
	if _, _, err := c.PlantGKE(spec, hash); err != nil {
		t.Fatal(err)
	}
	svc, err := compute.NewService(t.Context(), option.WithHTTPClient(c.Client()))
	if err != nil {
		t.Fatal(err)
	}
	name := ("k8s2-tcp-" + hash + "-" + strings.Repeat("shop-cart-", 6))[:62] + "x"
	_, err = svc.Addresses.Insert(gcptest.Project, gcptest.Region, &compute.Address{Name: name, AddressType: "INTERNAL", Subnetwork: "projects/" + gcptest.Project + "/regions/" + gcptest.Region + "/subnetworks/" + gcptest.Network,
		Description: `{"networking.gke.io/service-name":"` + spec.Owner.Namespace + "/" + spec.Owner.Name + `"}`}).Do()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, err := takingOver(t, p, spec, v1alpha1.ReplacementNever); err != nil || len(out.Left.Blocked) > 0 {
			t.Fatalf("it leaves %+v (%v)", out.Left, err)
		}
	}
	if c.Has("regions/" + gcptest.Region + "/addresses/" + name) {
		t.Error("it is left")
	}
}

// TestLeftovers: what another controller made for the Service before there was a balancer, or left when it was gone, is taken over and goes.
func TestLeftovers(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), withPorts(1, 2, "External")
	id, _, err := c.PlantServiceController(spec)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := compute.NewService(t.Context(), option.WithHTTPClient(c.Client()))
	if err != nil {
		t.Fatal(err)
	}
	_, ruleErr := svc.ForwardingRules.Delete(gcptest.Project, gcptest.Region, id).Do()
	_, balancerErr := svc.RegionBackendServices.Delete(gcptest.Project, gcptest.Region, id).Do()
	if err := errors.Join(ruleErr, balancerErr); err != nil {
		t.Fatal(err)
	}
	theirs := len(c.Snapshot())
	found, err := p.Adoptable(t.Context(), spec.Owner, "")
	if err != nil || len(found) != 1 || len(found[0].Resources) != theirs || theirs == 0 {
		t.Fatalf("of %d things there are offered %+v (%v)", theirs, found, err)
	}
	for range 3 {
		if _, err := takingOver(t, p, spec, v1alpha1.ReplacementNever); err != nil {
			t.Fatal(err)
		}
	}
	if left := strings.Join(c.Snapshot(), "\n"); strings.Contains(left, id) {
		t.Errorf("theirs is left:\n%s", left)
	}
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
