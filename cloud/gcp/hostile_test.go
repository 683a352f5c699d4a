package gcp_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestOperationsFailAtOnce: an operation can have failed by the time it is answered.
func TestOperationsFailAtOnce(t *testing.T) {
	for _, method := range []string{"addresses", "regionHealthChecks", "networkEndpointGroups", "regionBackendServices", "forwardingRules", "firewalls"} {
		c := gcptest.New(gcptest.Options{})
		c.Inject(gcptest.Fault{Method: "compute." + method + ".insert", Late: true,
			Err: &gcptest.Refusal{Status: http.StatusForbidden, Reason: "QUOTA_EXCEEDED", Message: "Quota 'THINGS' exceeded."}})
		p, spec := c.Provider(), service(0, 2)
		if _, err := try(t, p, spec.Owner, spec); !cloud.IsClass(err, cloud.Quota) {
			t.Errorf("%s: the error is %v", method, err)
		}
		pass(t, p, spec.Owner, spec)
	}
}

// TestInUseForAWhile: what the API still takes for being in use is deleted later, and nobody is alarmed.
func TestInUseForAWhile(t *testing.T) {
	for _, method := range []string{"addresses", "regionHealthChecks", "networkEndpointGroups", "regionBackendServices", "forwardingRules", "firewalls"} {
		synctest.Test(t, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			p, spec := c.Provider(), service(0, 2)
			pass(t, p, spec.Owner, spec)
			c.Inject(gcptest.Fault{Method: "compute." + method + ".delete", Times: 5,
				Err: &gcptest.Refusal{Status: http.StatusBadRequest, Reason: "resourceInUseByAnotherResource", Message: "It is already being used by something"}})
			if told := settle(t, p, spec.Owner, nil); len(told) > 0 {
				t.Errorf("%s: the user is told %v", method, told)
			}
			if left := c.Snapshot(); len(left) > 0 {
				t.Errorf("%s: left: %q", method, left)
			}
		})
	}
}

// TestGivenAddresses: an address that the balancer cannot have is refused with what to change, and works when it is right.
func TestGivenAddresses(t *testing.T) {
	const names, tier, kind = "networking.gke.io/load-balancer-ip-addresses", "cloud.google.com/network-tier", "networking.gke.io/load-balancer-type"
	for name, tc := range map[string]struct {
		annotations map[string]string
		families    []cloud.Family
		want        []string
	}{
		"Right":      {map[string]string{names: "user-address"}, nil, nil},
		"Missing":    {map[string]string{names: "elsewhere"}, nil, []string{"no address called elsewhere", "region " + gcptest.Region}},
		"Tier":       {map[string]string{names: "user-address", tier: "Standard"}, nil, []string{"network tier PREMIUM", tier}},
		"Scheme":     {map[string]string{names: "user-address", kind: "Internal"}, nil, []string{"is external and the balancer internal", names}},
		"Family":     {map[string]string{names: "user-address"}, []cloud.Family{cloud.IPv6}, []string{"none of the addresses user-address is one of IPv6"}},
		"Twice":      {map[string]string{names: "user-address, user-address"}, []cloud.Family{cloud.IPv4, cloud.IPv6}, []string{"IPv6"}},
		"NotReserve": {nil, nil, []string{"203.0.113.99"}},
	} {
		c := gcptest.New(gcptest.Options{})
		c.ReserveAddress("user-address", gcptest.UserAddress)
		p, spec := c.Provider(), service(0, 2)
		if spec.Annotations = tc.annotations; tc.families != nil {
			spec.Families = tc.families
		}
		if tc.annotations == nil {
			spec.RequestedAddress = "203.0.113.99"
		}
		_, err := try(t, p, spec.Owner, spec)
		if len(tc.want) == 0 && err != nil || len(tc.want) > 0 && !cloud.IsClass(err, cloud.UserError) {
			t.Errorf("%s: the error is %v", name, err)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error does not say %q: %v", name, part, err)
			}
		}
		pass(t, p, spec.Owner, nil)
		if left := c.Snapshot(); len(left) > 0 {
			t.Errorf("%s: left: %q", name, left)
		}
	}
}

// TestAddressOfAnotherService: the address that was reserved for another Service is not to be had, by its name or by itself; or that
// Service could not release it any more.
func TestAddressOfAnotherService(t *testing.T) {
	for _, families := range [][]cloud.Family{{cloud.IPv4}, {cloud.IPv6}} {
		c := gcptest.New(gcptest.Options{})
		p, theirs := c.Provider(), service(1, 2)
		theirs.Families = families
		out := pass(t, p, theirs.Owner, theirs)
		i := slices.IndexFunc(out.Observed, func(r cloud.Resource) bool { return r.Kind == gcp.KindAddress })
		named, literal := service(0, 2), service(0, 2)
		named.Families, literal.Families = families, families
		for _, spec := range []*cloud.Spec{named, literal} {
			spec.Ports[0].Port = 8080
		}
		named.Annotations = map[string]string{"networking.gke.io/load-balancer-ip-addresses": strings.TrimPrefix(out.Observed[i].ID, "addresses/")}
		literal.RequestedAddress = cloud.Ingresses(out.Observed)[0].IP
		for _, spec := range []*cloud.Spec{named, literal} {
			if _, err := try(t, p, spec.Owner, spec); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "another Service's own") {
				t.Errorf("%v: it is taken: %v", families, err)
			}
			pass(t, p, theirs.Owner, theirs)
			pass(t, p, spec.Owner, nil)
		}
		pass(t, p, theirs.Owner, nil)
		if left := c.Snapshot(); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// TestPortsComeAndGo changes the ports of a Service, from any number to any other and to other ones, in place: an internal
// address takes ten rules and no more, in the middle of a change, too.
func TestPortsComeAndGo(t *testing.T) {
	for _, scheme := range []string{"External", "Internal"} {
		c := gcptest.New(gcptest.Options{})
		p := c.Provider()
		var address []cloud.Ingress
		first := int32(1000)
		for _, n := range []int{1, 5, 5, 6, 5, 10, 10, 11, 10, 12, 1, 100, 2} {
			spec := service(0, 2)
			spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": scheme}
			spec.Ports = nil
			for i := range n {
				protocol := []string{"TCP", "UDP"}[i%2]
				first++ // none of those before
				spec.Ports = append(spec.Ports, cloud.Port{Protocol: protocol, Port: first, NodePort: 30000 + first, HealthCheck: service(0, 2).Ports[0].HealthCheck})
			}
			var out cloud.Outcome
			var err error
			for range 3 {
				if out, err = try(t, p, spec.Owner, spec); err != nil || out.Left.Empty() {
					break
				}
			}
			if err != nil || !out.Left.Empty() {
				t.Fatalf("%s, %d ports: left %+v (%v)", scheme, n, out.Left, err)
			}
			now := cloud.Ingresses(out.Observed)
			if address == nil {
				address = now
			}
			if len(now) != 1 || now[0] != address[0] {
				t.Errorf("%s, %d ports: clients connect to %v, before to %v", scheme, n, now, address)
			}
		}
		pass(t, p, service(0, 2).Owner, nil)
		if left := c.Snapshot(); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// TestNodesOfOthers: machines of another project or region, and what is no machine of Google's, are not sent to.
func TestNodesOfOthers(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	spec := service(0, 2)
	zone := gcptest.Zone(0)
	for i, id := range []string{"gce://other/" + zone + "/n3", "gce://" + gcptest.Project + "/elsewhere1-a/n3", "aws:///" + zone + "/i-0", "",
		"gce://" + gcptest.Project + "/" + zone + "/n3/x", "gce://" + gcptest.Project + "/" + zone + "/n3?x=", "gce://" + gcptest.Project + "/" + zone + "/../n3"} {
		spec.Nodes = append(spec.Nodes, cloud.Node{Name: fmt.Sprint("odd", i), ProviderID: id})
	}
	pass(t, c.Provider(), spec.Owner, spec)
	want := []string{" [n1]", " [n2]"}
	for i, line := range groups(c) {
		if i >= len(want) || !strings.HasSuffix(line, want[i]) {
			t.Errorf("there is the group %s", line)
		}
	}
}

// TestFirewallsOfOthers: where the right to firewall rules is missing, as in a shared network, the user reads what to do.
func TestFirewallsOfOthers(t *testing.T) {
	for _, permission := range []string{"compute.firewalls.list", "compute.firewalls.create", "compute.networks.updatePolicy"} {
		c := gcptest.New(gcptest.Options{})
		c.Deny(permission)
		spec := service(0, 2)
		_, err := try(t, c.Provider(), spec.Owner, spec)
		for _, part := range []string{permission, "in project " + gcptest.Project, "firewalls: None"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("without %s the error does not say %q: %v", permission, part, err)
			}
		}
	}
}

// TestStrangeIDs: what a tenant writes as the id of a balancer to adopt reaches no other thing.
func TestStrangeIDs(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, victim := c.Provider(), service(1, 2)
	id, _, err := c.PlantWithoutAddress(victim)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Snapshot()
	c.SetHook(func(call cloudtest.Call) error {
		if call.Write {
			t.Errorf("%s was sent", call.Name)
		}
		return nil
	})
	spec := service(0, 2)
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, strange := range []string{id, "../" + id, "projects/other/regions/x/backendServices/" + id, id + "?alt=json", id + "/", " " + id, strings.Repeat("a", 5000), "a\nb", "%2e%2e"} {
		if out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: strange}); err == nil && len(out.Left.Blocked) == 0 {
			t.Errorf("%.60q is adopted: %+v", strange, out)
		}
	}
	if after := c.Snapshot(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("it was changed: %q, was %q", after, before)
	}
}

// TestConflicts has somebody else write between each read and what is made of it, once: it is told, and done again.
func TestConflicts(t *testing.T) {
	for _, method := range []string{"compute.regionBackendServices.patch", "compute.addresses.setLabels", "compute.forwardingRules.setLabels"} {
		synctest.Test(t, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			p, spec := c.Provider(), service(0, 2)
			id, err := c.Harness().PlantBalancer(cloudtest.Plant{Spec: *service(1, 2)})
			if err != nil {
				t.Fatal(err)
			}
			c.Inject(gcptest.Fault{Method: method, Err: &gcptest.Refusal{Status: http.StatusPreconditionFailed, Reason: "conditionNotMet", Message: "Fingerprint"}})
			desired, err := p.Desired(*spec)
			if err != nil {
				t.Fatal(err)
			}
			conflicts := 0
			for range 10 {
				out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id, Granted: true})
				if cloud.IsClass(err, cloud.Conflict) {
					conflicts++
				} else if err == nil && out.Left.Empty() {
					break
				}
				time.Sleep(time.Second)
			}
			if conflicts != 1 {
				t.Errorf("%s: %d conflicts", method, conflicts)
			}
			pass(t, p, spec.Owner, spec)
		})
	}
}

// TestOthersMarkIsKept: what has got another owner's mark since it was observed is neither changed nor let go.
func TestOthersMarkIsKept(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	out := pass(t, p, spec.Owner, spec)
	for _, r := range out.Observed {
		path, patch := "", `{"labels":{"fairlead-cluster":"cluster-b","fairlead-service-uid":"x"}}`
		switch r.Kind {
		case gcp.KindEndpointGroup:
			continue // nothing is ever written on it
		case gcp.KindAddress, gcp.KindForwardingRule:
			path = "/" + r.ID
		case gcp.KindBackendService:
			path, patch = "/backendServices/"+r.ID, `{"description":"fairlead.dev/owner=cluster-b/x"}`
		default:
			path, patch = "/"+r.ID, `{"description":"fairlead.dev/owner=cluster-b/x"}`
		}
		if err := c.Patch(path, patch); err != nil {
			t.Fatal(err)
		}
		before := c.Snapshot()
		changed, released := r, r
		changed.Attributes = maps.Clone(r.Attributes)
		changed.Attributes["globalAccess"], changed.Attributes["timing"], changed.Attributes["sources"] = "true", "9,1,1,3", "192.0.2.0/24"
		released.Owners = nil
		if err := p.Update(t.Context(), spec.Owner, r, changed); !cloud.IsClass(err, cloud.Conflict) {
			t.Errorf("changing %s gives %v, want a Conflict", r.Name(), err)
		}
		if err := p.Update(t.Context(), spec.Owner, r, released); err != nil {
			t.Errorf("letting go of %s gives %v", r.Name(), err)
		}
		if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
			t.Errorf("%s was changed (-before +after):\n%s", r.Name(), diff)
		}
	}
}

// TestTagsAreTakenOff: without tags in the configuration a firewall rule is for all machines, whatever somebody limits it to.
func TestTagsAreTakenOff(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	config := gcptest.Config()
	config.NodeTags = nil
	p, err := gcp.NewProvider(t.Context(), config, c.Client())
	if err != nil {
		t.Fatal(err)
	}
	spec := service(0, 2)
	pass(t, p, spec.Owner, spec)
	want := c.Snapshot()
	if err := c.Patch("-nodes-ipv4-", `{"targetTags":["a"]}`); err != nil {
		t.Fatal(err)
	}
	pass(t, p, spec.Owner, spec)
	if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
		t.Errorf("not put right (-want +got):\n%s", diff)
	}
}

// TestAddressStays: a Service that asks for another address, without asking for a replacement, is told, and goes on with the one
// that it has, firewall and all; with a replacement it has what it asks for.
func TestAddressStays(t *testing.T) {
	given := map[string]string{"networking.gke.io/load-balancer-ip-addresses": "user-address"}
	for name, tc := range map[string]struct{ before, after map[string]string }{"Given": {nil, given}, "GivenUp": {given, nil}} {
		t.Run(name, func(t *testing.T) {
			made := func(annotations map[string]string) (*gcptest.Cloud, *cloud.Spec) {
				c := gcptest.New(gcptest.Options{})
				c.ReserveAddress("user-address", gcptest.UserAddress)
				spec := service(0, 2)
				spec.Annotations = annotations
				pass(t, c.Provider(), spec.Owner, spec)
				return c, spec
			}
			c, _ := made(tc.before)
			want, spec := made(tc.after)
			firewalls := func(c *gcptest.Cloud) []string {
				return slices.DeleteFunc(c.Snapshot(), func(line string) bool { return !strings.HasPrefix(line, "global/firewalls/") })
			}
			before := firewalls(c)
			for range 3 {
				out, err := try(t, c.Provider(), spec.Owner, spec)
				if err != nil || len(out.Left.Blocked) == 0 {
					t.Fatalf("blocked is %+v (%v)", out.Left.Blocked, err)
				}
			}
			if diff := cmp.Diff(before, firewalls(c)); diff != "" {
				t.Errorf("its firewalls are changed (-before +after):\n%s", diff)
			}
			desired, err := c.Provider().Desired(*spec)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := cloud.Converge(t.Context(), c.Provider(), spec.Owner, desired, cloud.Options{Replacement: v1alpha1.ReplacementRecreate}); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff(want.Snapshot(), c.Snapshot()); diff != "" {
				t.Errorf("replaced, it is not as one made anew (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAsksForItsOwn: a Service that asks, with a replacement, for the address that it has already keeps it, for as long as it is there and
// whether or not it goes on asking.
func TestAsksForItsOwn(t *testing.T) {
	for _, family := range []cloud.Family{cloud.IPv4, cloud.IPv6} {
		for _, by := range []string{"Name", "Address"} {
			t.Run(string(family)+"By"+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
					p, spec := c.Provider(), service(0, 2)
					spec.Families = []cloud.Family{family}
					settle(t, p, spec.Owner, spec)
					out := pass(t, p, spec.Owner, spec)
					before, want := cloud.Ingresses(out.Observed), c.Snapshot()
					asks := *spec
					if by == "Address" {
						asks.RequestedAddress = before[0].IP
					} else {
						i := slices.IndexFunc(out.Observed, func(r cloud.Resource) bool { return r.Kind == gcp.KindAddress })
						asks.Annotations = map[string]string{"networking.gke.io/load-balancer-ip-addresses": strings.TrimPrefix(out.Observed[i].ID, "addresses/")}
					}
					for _, spec := range []*cloud.Spec{&asks, spec} {
						out := replaced(t, p, spec)
						if diff := cmp.Diff(before, cloud.Ingresses(out.Observed)); diff != "" {
							t.Errorf("clients connect elsewhere (-want +got):\n%s", diff)
						}
					}
					if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
						t.Errorf("when it does not ask any more it is not as before (-want +got):\n%s", diff)
					}
					replaced(t, p, &asks)
					settle(t, p, spec.Owner, nil)
					if left := c.Snapshot(); len(left) > 0 {
						t.Errorf("left: %q", left)
					}
				})
			})
		}
	}
}

// replaced passes with a replacement until nothing is left.
func replaced(t *testing.T, p cloud.Provider, spec *cloud.Spec) cloud.Outcome {
	t.Helper()
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	var out cloud.Outcome
	for range 50 {
		out, err = cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Replacement: v1alpha1.ReplacementRecreate})
		if err == nil && out.Left.Empty() {
			return out
		}
		time.Sleep(3 * time.Second)
	}
	t.Fatalf("it does not come to an end: %+v (%v)", out.Left, err)
	return out
}
