package gcp_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestCheck: an address that a Service asks for, and cannot have, is told before the one that it has goes, and nothing is changed.
func TestCheck(t *testing.T) {
	both := []cloud.Family{cloud.IPv4, cloud.IPv6}
	for name, tc := range map[string]struct {
		families []cloud.Family
		asks     func(s *cloud.Spec, own, theirs []cloud.Resource)
		want     []string // parts of the error; nil: there is none
	}{
		"Nothing": {both, func(*cloud.Spec, []cloud.Resource, []cloud.Resource) {}, nil},
		"Named":   {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { names(s, "user-address") }, nil},
		"Literal": {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { s.RequestedAddress = gcptest.UserAddress }, nil},
		"Typo":    {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { names(s, "user-address-1") }, []string{"user-address-1", addressNames}},
		"WrongIP": {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { s.RequestedAddress = "203.0.113.99" }, []string{"203.0.113.99", "spec.loadBalancerIP"}},
		"Family":  {[]cloud.Family{cloud.IPv6}, func(s *cloud.Spec, _, _ []cloud.Resource) { names(s, "user-address") }, []string{"IPv6", addressNames}},
		"Scheme": {nil, func(s *cloud.Spec, _, _ []cloud.Resource) {
			names(s, "user-address")
			s.Annotations["networking.gke.io/load-balancer-type"] = "Internal"
		}, []string{"is external and the balancer internal"}},
		"LiteralScheme": {nil, func(s *cloud.Spec, _, _ []cloud.Resource) {
			s.RequestedAddress, s.Annotations = gcptest.UserAddress, map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
		}, []string{"is external and the balancer internal", "spec.loadBalancerIP"}},
		"TheirName": {nil, func(s *cloud.Spec, _, theirs []cloud.Resource) { names(s, reservedNames(theirs)[0]) }, []string{"another Service's own"}},
		"TheirIP":   {nil, func(s *cloud.Spec, _, theirs []cloud.Resource) { s.RequestedAddress = cloud.Ingresses(theirs)[0].IP }, []string{"another Service's own"}},
		"OneOfItsOwn": {both, func(s *cloud.Spec, own, _ []cloud.Resource) { names(s, "user-address", reservedNames(own)[1]) },
			[]string{"is the Service's own and goes"}},
		"FreeInternal": {nil, func(s *cloud.Spec, _, _ []cloud.Resource) {
			s.RequestedAddress, s.Annotations = "10.128.7.7", map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
		}, nil},
		"OfAMachine":   {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { names(s, "machines") }, []string{"is that of instances/n1 already", addressNames}},
		"OfAMachineIP": {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { s.RequestedAddress = "203.0.113.151" }, []string{"is that of instances/n1 already", "spec.loadBalancerIP"}},
		"PortIsTaken":  {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { names(s, "shared") }, []string{"somebodys", "port 80"}},
		"LiteralPort":  {nil, func(s *cloud.Spec, _, _ []cloud.Resource) { s.RequestedAddress = "203.0.113.150" }, []string{"somebodys", "port 80"}},
		"OtherPort": {nil, func(s *cloud.Spec, _, _ []cloud.Resource) {
			names(s, "shared")
			s.Ports[0].Port = 81
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			c.ReserveAddress("user-address", gcptest.UserAddress)
			c.ReserveAddress("shared", "203.0.113.150")
			c.ReserveAddress("machines", "203.0.113.151", "zones/"+gcptest.Zone(0)+"/instances/n1")
			p, spec, their := c.Provider(), service(0, 2), service(1, 2)
			if tc.families != nil {
				spec.Families = tc.families
			}
			theirs := pass(t, p, their.Owner, their).Observed
			if err := c.PlantRule("somebodys", "shared", 80); err != nil {
				t.Fatal(err)
			}
			own := pass(t, p, spec.Owner, spec).Observed
			tc.asks(spec, own, theirs)
			before := c.Snapshot()
			c.SetHook(func(call cloudtest.Call) error {
				if call.Write {
					t.Errorf("%s was sent", call.Name)
				}
				return nil
			})
			err := check(t, p, spec, own)
			if (err != nil) != (tc.want != nil) || err != nil && !cloud.IsClass(err, cloud.UserError) {
				t.Fatalf("the error is %v", err)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
			if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
				t.Errorf("it was changed (-before +after):\n%s", diff)
			}
		})
	}
}

// TestClassOfTakenPort: that a Service has its ports at the address which a class names is no mistake of the class (owned by nobody).
func TestClassOfTakenPort(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.ReserveAddress("user-address", gcptest.UserAddress)
	p, spec := c.Provider(), service(0, 2)
	spec.Parameters = []byte(`{"addresses":["user-address"]}`)
	pass(t, p, spec.Owner, spec)
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range desired {
		if err := p.Check(t.Context(), cloud.Owner{}, r, nil); err != nil {
			t.Errorf("of %s the class hears: %v", r.Name(), err)
		}
	}
}

// TestGivenIsNotDeleted: an address of somebody else's, as Create returns it, cannot be deleted.
func TestGivenIsNotDeleted(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.ReserveAddress("user-address", gcptest.UserAddress)
	p, spec := c.Provider(), service(0, 2)
	names(spec, "user-address")
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range desired {
		if r.Kind != gcp.KindAddress {
			continue
		}
		made, err := p.Create(t.Context(), spec.Owner, r)
		if err := errors.Join(err, p.Delete(t.Context(), spec.Owner, made)); err != nil {
			t.Error(err)
		}
	}
	if !c.Has("regions/" + gcptest.Region + "/addresses/user-address") {
		t.Error("it is gone")
	}
}

func names(s *cloud.Spec, list ...string) {
	s.Annotations = map[string]string{addressNames: strings.Join(list, ",")}
}

// check looks whether each thing that a Service needs could be made in the place of what it has.
func check(t *testing.T, p *gcp.Provider, spec *cloud.Spec, own []cloud.Resource) error {
	t.Helper()
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, r := range desired {
		r.Owners = []cloud.OwnerID{spec.Owner.ID()}
		err := p.Check(t.Context(), spec.Owner, r, own)
		if err != nil && !cloud.IsClass(err, cloud.UserError) {
			t.Errorf("%s: %v", r.Name(), err)
		}
		errs = append(errs, err)
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	return cloud.Errorf(cloud.Classify(errs[0]).Class, "%w", errors.Join(errs...))
}
