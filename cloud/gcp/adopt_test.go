package gcp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestGKEHash: GKE's own names for the cluster ksuid123 begin with this.
func TestGKEHash(t *testing.T) {
	if got := gcp.GKEHash("ksuid123"); got != "axyqjz2d" {
		t.Errorf("the hash is %s", got)
	}
}

// TestGKEsBalancers are offered to the Service for which they were made, are taken over with their address, and go with the
// Service; what all of GKE's balancers have stays.
func TestGKEsBalancers(t *testing.T) {
	internal := func(i int) *cloud.Spec {
		spec := service(i, 2)
		spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
		return spec
	}
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	spec := internal(0)
	id, address, err := c.PlantGKE(spec, gcp.GKEHash(spec.Owner.ClusterID))
	if err != nil {
		t.Fatal(err)
	}
	shared := func(line string) bool { return strings.Contains(line, "-l4-shared-hc") }
	before := slices.DeleteFunc(c.Snapshot(), func(line string) bool { return !strings.Contains(strings.Fields(line)[0], "-l4-shared-hc") })
	out, err := try(t, p, spec.Owner, spec)
	if err != nil || len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockOffered || !strings.Contains(out.Left.Blocked[0].Message, id) {
		t.Fatalf("it is not offered: %+v (%v)", out.Left, err)
	}
	for name, other := range map[string]*cloud.Spec{"another Service": internal(1), "the same in another cluster": func() *cloud.Spec {
		s := internal(0)
		s.Owner.ClusterID = "cluster-b"
		return s
	}()} {
		if found, err := p.Adoptable(t.Context(), other.Owner, ""); err != nil || len(found) > 0 {
			t.Errorf("to %s is offered %+v (%v)", name, found, err)
		}
	}
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if out, err = cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id}); err == nil && out.Left.Empty() {
			break
		}
	}
	if err != nil || !out.Left.Empty() {
		t.Fatalf("taking it over leaves %+v (%v)", out.Left, err)
	}
	if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].IP != address {
		t.Errorf("clients connect to %v, before it was %s", got, address)
	}
	pass(t, p, spec.Owner, nil)
	for _, line := range c.Snapshot() {
		if !shared(line) {
			t.Errorf("left: %s", line)
		}
	}
	after := slices.DeleteFunc(c.Snapshot(), func(line string) bool { return !shared(line) })
	if !slices.Equal(before, after) || !c.Has("global/healthChecks/k8s2-"+gcp.GKEHash(spec.Owner.ClusterID)+"-l4-shared-hc") {
		t.Errorf("what all balancers have is %q, was %q", after, before)
	}
}

// TestNamesAloneAreNotEnough: something with a name as GKE gives them, and another Service in its description or none, is not
// offered.
func TestNamesAloneAreNotEnough(t *testing.T) {
	for _, description := range []string{"", "cart0", `{"networking.gke.io/service-name":"shop/other"}`} {
		c := gcptest.New(gcptest.Options{})
		spec := service(0, 2)
		spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
		if _, _, err := c.PlantGKE(spec, gcp.GKEHash(spec.Owner.ClusterID)); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"/backendServices/k8s2", "firewalls/k8s2-" + gcp.GKEHash(spec.Owner.ClusterID) + "-" + spec.Owner.Namespace} {
			if err := c.Patch(part, `{"description":`+quoted(description)+`}`); err != nil {
				t.Fatal(err)
			}
		}
		found, err := c.Provider().Adoptable(t.Context(), spec.Owner, "")
		if err != nil || len(found) > 0 {
			t.Errorf("%q: offered is %+v (%v)", description, found, err)
		}
	}
}

func quoted(text string) string { return `"` + strings.ReplaceAll(text, `"`, `\"`) + `"` }

// TestOwnAddressIsNotTakenOver: a person's address that the other controller's balancer has is not the Service's afterwards.
func TestOwnAddressIsNotTakenOver(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p := c.Provider()
	spec := service(0, 2)
	spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
	id, address, err := c.PlantGKE(spec, gcp.GKEHash(spec.Owner.ClusterID))
	if err != nil {
		t.Fatal(err)
	}
	c.KeepAddress("theirs", address)
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id}); err != nil {
			t.Fatal(err)
		}
	}
	pass(t, p, spec.Owner, nil)
	if !c.Has("regions/" + gcptest.Region + "/addresses/theirs") {
		t.Error("the address went with the Service")
	}
}

// TestAddressOfAnotherBalancer: an address that the other controller reserved for the Service, and that a rule of another balancer
// has by now, is not taken over.
func TestAddressOfAnotherBalancer(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	spec := service(0, 2)
	id, err := c.Harness().PlantBalancer(cloudtest.Plant{Spec: *spec, MadeFor: true})
	if err != nil {
		t.Fatal(err)
	}
	_, address, err := c.PlantWithoutAddress(service(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	name := ("a" + strings.ReplaceAll(spec.Owner.ServiceUID, "-", ""))[:32] + "-first"
	offered := func() bool {
		t.Helper()
		found, err := c.Provider().Adoptable(t.Context(), spec.Owner, "")
		if err != nil || len(found) != 1 || found[0].ID != id {
			t.Fatalf("offered is %+v (%v)", found, err)
		}
		return slices.ContainsFunc(found[0].Resources, func(r cloud.Resource) bool { return strings.HasSuffix(r.ID, name) })
	}
	c.KeepAddress(name, "10.99.99.99")
	if !offered() {
		t.Error("an address that nothing has is not taken over")
	}
	c.KeepAddress(name, address)
	if offered() {
		t.Error("another balancer's address is taken over")
	}
}

// TestCheckOfMachinesIsNotTaken: the health check by which a managed instance group makes its machines anew is not the balancer's
// alone: it stays as it is, and the balancer has another one.
func TestCheckOfMachinesIsNotTaken(t *testing.T) {
	for name, madeFor := range map[string]bool{"ByHand": false, "ServiceController": true} {
		t.Run(name, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			p, spec := c.Provider(), service(0, 2)
			id, err := c.Harness().PlantBalancer(cloudtest.Plant{Spec: *spec, MadeFor: madeFor})
			if err != nil {
				t.Fatal(err)
			}
			c.AddAutohealing(gcptest.Zone(0), "web", id)
			checks := func() (theirs string, others int) {
				for _, line := range c.Snapshot() {
					if path, _, _ := strings.Cut(line, " "); strings.HasSuffix(path, "/healthChecks/"+id) {
						theirs = line
					} else if strings.Contains(path, "/healthChecks/") {
						others++
					}
				}
				return theirs, others
			}
			before, _ := checks()
			desired, err := p.Desired(*spec)
			if err != nil {
				t.Fatal(err)
			}
			options := cloud.Options{Adopt: id, Granted: true}
			c.Deny("compute.instanceGroupManagers.list")
			if _, err := cloud.Converge(t.Context(), p, spec.Owner, desired, options); !cloud.IsClass(err, cloud.RetryAfter) || !strings.Contains(err.Error(), "compute.instanceGroupManagers.list") {
				t.Errorf("where it is not known whose the check is: %v", err)
			}
			c.Permit()
			var out cloud.Outcome
			for range 3 {
				if out, err = cloud.Converge(t.Context(), p, spec.Owner, desired, options); err == nil && out.Left.Empty() {
					break
				}
			}
			if err != nil || !out.Left.Empty() {
				t.Fatalf("adopting leaves %+v (%v)", out.Left, err)
			}
			if after, others := checks(); after != before || others != 1 {
				t.Errorf("there are %d other checks, and theirs is\n%s, was\n%s", others, after, before)
			}
			pass(t, p, spec.Owner, nil)
			if after, _ := checks(); after != before {
				t.Errorf("after the Service their check is\n%s, was\n%s", after, before)
			}
		})
	}
}

// TestConsentStays: the word by which a balancer's owner consents is on it after the Service, which can adopt it again.
func TestConsentStays(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	consent := cloud.AdoptableBy(spec.Owner)
	id, err := c.Harness().PlantBalancer(cloudtest.Plant{Spec: *spec, AdoptableBy: consent})
	if err != nil {
		t.Fatal(err)
	}
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id}); err != nil || !out.Left.Empty() {
			t.Fatalf("adopting leaves %+v (%v)", out.Left, err)
		}
		pass(t, p, spec.Owner, nil)
		if text := strings.Join(c.Snapshot(), "\n"); !strings.Contains(text, "made by hand, in test fairlead.dev/adoptable-by="+consent+`"`) {
			t.Errorf("let go, it is\n%s", text)
		}
	}
}

// TestNameIsTaken: what has the name that we would give to something, and not our mark, is named, and stays as it is.
func TestNameIsTaken(t *testing.T) {
	spec := service(0, 2)
	desired, err := gcptest.New(gcptest.Options{}).Provider().Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range desired {
		c := gcptest.New(gcptest.Options{})
		p := c.Provider()
		if err := c.Harness().PlantForeign(spec.Owner, r); err != nil {
			t.Fatal(err)
		}
		before := c.Snapshot()
		if _, err := try(t, p, spec.Owner, spec); !cloud.IsClass(err, cloud.Conflict) || !strings.Contains(err.Error(), r.Kind) || !strings.Contains(err.Error(), "not this Service's") {
			t.Errorf("%s: the error is %v", r.Name(), err)
		}
		if _, err := try(t, p, spec.Owner, nil); err != nil {
			t.Errorf("%s: deleting: %v", r.Name(), err)
		}
		if after := c.Snapshot(); !slices.Equal(before, after) {
			t.Errorf("%s: there is %q, was %q", r.Name(), after, before)
		}
	}
}

// TestAddressCalledAsARule: an address of a person's that is called as a rule that was taken over, whose own address nobody reserved, is not
// that, and stays when the Service goes.
func TestAddressCalledAsARule(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
	id, _, err := c.PlantGKE(spec, gcp.GKEHash(spec.Owner.ClusterID))
	if err != nil {
		t.Fatal(err)
	}
	takeOver(t, p, spec, id)
	out := pass(t, p, spec.Owner, spec)
	i := slices.IndexFunc(out.Observed, func(r cloud.Resource) bool { return r.Kind == gcp.KindForwardingRule })
	name := strings.TrimPrefix(out.Observed[i].ID, "forwardingRules/")
	c.KeepAddress(name, "10.99.99.99")
	pass(t, p, spec.Owner, nil)
	if !c.Has("regions/" + gcptest.Region + "/addresses/" + name) {
		t.Error("the address went with the Service")
	}
}

// TestGivenGroupsStay: what is let go goes on to send to the groups that somebody else keeps.
func TestGivenGroupsStay(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.AddInstanceGroup("test-west1-a", "mine")
	p, spec := c.Provider(), service(0, 2)
	spec.Parameters = []byte(`{"instanceGroups":["test-west1-a/mine"]}`)
	id, err := c.Harness().PlantBalancer(cloudtest.Plant{Spec: *service(1, 2)})
	if err != nil {
		t.Fatal(err)
	}
	takeOver(t, p, spec, id)
	pass(t, p, spec.Owner, nil)
	if text := strings.Join(c.Snapshot(), "\n"); !strings.Contains(text, "zones/test-west1-a/instanceGroups/mine") {
		t.Errorf("let go, it is\n%s", text)
	}
}
