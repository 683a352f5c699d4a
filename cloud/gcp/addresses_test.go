package gcp_test

import (
	"net/netip"
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

const addressNames = "networking.gke.io/load-balancer-ip-addresses"

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

// TestAsksForItsOwn: a Service that asks for the address that it has already keeps it as it is, whether or not it goes on asking, and
// a replacement is not needed for that.
func TestAsksForItsOwn(t *testing.T) {
	for name, families := range map[string][]cloud.Family{"IPv4": {cloud.IPv4}, "IPv6": {cloud.IPv6}, "Both": {cloud.IPv4, cloud.IPv6}} {
		for _, by := range []string{"Name", "Address"} {
			t.Run(name+"By"+by, func(t *testing.T) {
				c := gcptest.New(gcptest.Options{})
				p, spec := c.Provider(), service(0, 2)
				spec.Families = families
				out := pass(t, p, spec.Owner, spec)
				asks := *spec
				if by == "Address" {
					asks.RequestedAddress = cloud.Ingresses(out.Observed)[0].IP
				} else {
					asks.Annotations = map[string]string{addressNames: strings.Join(reservedNames(out.Observed), ", ")}
				}
				before := c.Snapshot()
				for _, spec := range []*cloud.Spec{&asks, spec, &asks} {
					pass(t, p, spec.Owner, spec)
					replaced(t, p, spec)
				}
				if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
					t.Errorf("it is not as before (-want +got):\n%s", diff)
				}
				asks.Ports = append(slices.Clone(asks.Ports), cloud.Port{Protocol: "TCP", Port: 8080, NodePort: 31000, HealthCheck: asks.Ports[0].HealthCheck})
				pass(t, p, asks.Owner, &asks)
				pass(t, p, spec.Owner, spec)
				if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
					t.Errorf("after another port had come and gone it is not as before (-want +got):\n%s", diff)
				}
				pass(t, p, asks.Owner, nil)
				if left := c.Snapshot(); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			})
		}
	}
}

// reservedNames are those of the addresses among resources.
func reservedNames(resources []cloud.Resource) []string {
	var names []string
	for _, r := range resources {
		if r.Kind == gcp.KindAddress {
			names = append(names, strings.TrimPrefix(r.ID, "addresses/"))
		}
	}
	return names
}

// takenOver is a cloud in which the Service was taken over from the service controller, with an address that nobody reserved.
func takenOver(t *testing.T, spec *cloud.Spec, options gcptest.Options) (c *gcptest.Cloud, p *gcp.Provider, address string) {
	t.Helper()
	c = gcptest.New(options)
	id, address, err := c.PlantBalancer(cloudtest.Plant{Spec: *spec, MadeFor: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	p = c.Provider()
	takeOver(t, p, spec, id)
	return c, p, address
}

func takeOver(t *testing.T, p cloud.Provider, spec *cloud.Spec, id string) {
	t.Helper()
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	var out cloud.Outcome
	for range 30 {
		if out, err = cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id, Granted: true}); err == nil && out.Left.Empty() {
			return
		}
		time.Sleep(3 * time.Second)
	}
	t.Fatalf("taking it over leaves %+v (%v)", out.Left, err)
}

// addresses are those that are reserved, of us and of others.
func reservedAddresses(c *gcptest.Cloud) []string {
	return slices.DeleteFunc(c.Snapshot(), func(line string) bool { return !strings.Contains(line, "/addresses/") })
}

// TestAddressIsReservedInPlace: a Service that was taken over, and asks for the address that only its rules have, has it reserved without
// a rule being touched; it is kept when the Service asks no more, and goes with it. An internal one could then be for no other rule, and is
// left to the rule.
func TestAddressIsReservedInPlace(t *testing.T) {
	for _, scheme := range []string{"External", "Internal"} {
		for _, slow := range []time.Duration{0, 10 * time.Second} {
			t.Run(scheme+slow.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					spec := service(0, 2)
					spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": scheme}
					c, p, address := takenOver(t, spec, gcptest.Options{Slow: slow})
					asks := *spec
					asks.RequestedAddress = address
					if list := reservedAddresses(c); len(list) > 0 {
						t.Fatalf("reserved before anybody asks: %q", list)
					}
					var writes []string
					c.SetHook(func(call cloudtest.Call) error {
						if call.Write && !call.After {
							writes = append(writes, call.Name)
						}
						return nil
					})
					for range 2 {
						settle(t, p, asks.Owner, &asks)
						settle(t, p, spec.Owner, spec)
					}
					// It is tried again as long as the API does not show it.
					if scheme == "Internal" {
						if len(writes) > 0 {
							t.Errorf("sent was %q", writes)
						}
					} else if len(slices.Compact(writes)) != 1 || !strings.HasPrefix(writes[0], "POST ") || !strings.HasSuffix(writes[0], "/addresses") {
						t.Errorf("sent was %q, want one reservation", writes)
					}
					if list := reservedAddresses(c); scheme == "External" && len(list) != 1 || slices.ContainsFunc(list, func(a string) bool { return !strings.Contains(list[0], "fairlead.dev/owner=") }) {
						t.Errorf("reserved is %q", list)
					}
					moved := asks
					moved.Ports = slices.Clone(asks.Ports)
					if scheme == "External" { // an internal one is not for a second rule, not even while ports change
						moved.Ports[0].Port = 8080
					}
					settle(t, p, moved.Owner, &moved)
					out := pass(t, p, moved.Owner, &moved)
					if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].IP != address {
						t.Errorf("on other ports clients connect to %v, want %s", got, address)
					}
					settle(t, p, spec.Owner, nil)
					if left := c.Snapshot(); len(left) > 0 {
						t.Errorf("left: %q", left)
					}
				})
			})
		}
	}
}

// TestBroughtAddress: an address of IPv6 that somebody brought, whose range is not of the usual length, is had as a whole.
func TestBroughtAddress(t *testing.T) {
	c, spec := gcptest.New(gcptest.Options{}), service(0, 2)
	p := c.Provider()
	c.ReserveBrought("brought", "2001:db8:9::", 64)
	spec.Families = []cloud.Family{cloud.IPv6}
	spec.Annotations = map[string]string{"networking.gke.io/load-balancer-ip-addresses": "brought"}
	out := pass(t, p, spec.Owner, spec)
	if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].IP != "2001:db8:9::" {
		t.Errorf("clients connect to %v", got)
	}
	if all := strings.Join(c.Snapshot(), "\n"); !strings.Contains(all, `"destinationRanges":["2001:db8:9:0:0:0:0:0/64"]`) {
		t.Errorf("not the whole address is let in:\n%s", all)
	}
	var sent calls
	c.SetHook(sent.hook)
	pass(t, p, spec.Owner, spec)
	if text := sent.String(); !strings.Contains(text, " 0 writes") {
		t.Errorf("a second pass sends %s", text)
	}
	pass(t, p, spec.Owner, nil)
	if !c.Has("regions/" + gcptest.Region + "/addresses/brought") {
		t.Error("the address is gone with the Service")
	}
}

// TestUnreservedAddressStays: the address that only rules have, which were taken over, is kept when other rules of ours come in their place.
func TestUnreservedAddressStays(t *testing.T) {
	spec := service(0, 2)
	c, p, address := takenOver(t, spec, gcptest.Options{})
	for _, port := range []int32{8080, 8081, 80} {
		spec.Ports[0].Port = port
		out := pass(t, p, spec.Owner, spec)
		if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].IP != address {
			t.Errorf("with port %d clients connect to %v, want %s", port, got, address)
		}
	}
	asks := *spec
	asks.RequestedAddress = address
	pass(t, p, asks.Owner, &asks)
	if list := reservedAddresses(c); len(list) != 1 {
		t.Errorf("reserved is %q", list)
	}
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestReservedLater: the address that nobody had reserved when a rule of ours was made at it can be asked for by its name once somebody has.
func TestReservedLater(t *testing.T) {
	spec := service(0, 2)
	c, p, address := takenOver(t, spec, gcptest.Options{})
	spec.Ports[0].Port = 8080
	pass(t, p, spec.Owner, spec)
	c.KeepAddress("theirs", address)
	asks := *spec
	asks.Annotations = map[string]string{addressNames: "theirs"}
	for _, spec := range []*cloud.Spec{&asks, spec} {
		if got := cloud.Ingresses(pass(t, p, spec.Owner, spec).Observed); len(got) != 1 || got[0].IP != address {
			t.Errorf("clients connect to %v, want %s", got, address)
		}
	}
}

// TestTakenOverAtItsAddress: a Service that asked the other controller already for the address that it has is taken over with it, and
// whose that address is stays as it was.
func TestTakenOverAtItsAddress(t *testing.T) {
	for _, by := range []string{"Name", "Address", "NameOnceReserved", "NameOfIPv6", "AddressOfIPv6"} {
		t.Run(by, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			spec := service(0, 2)
			by, six := strings.CutSuffix(by, "OfIPv6")
			if six {
				spec.Families = []cloud.Family{cloud.IPv6}
			}
			id, address, err := c.PlantBalancer(cloudtest.Plant{Spec: *spec, MadeFor: true}, false)
			if err != nil {
				t.Fatal(err)
			}
			if ip, _, ok := strings.Cut(address, "/"); ok {
				address = netip.MustParseAddr(ip).String()
			}
			p := c.Provider()
			if by == "NameOnceReserved" {
				takeOver(t, p, spec, id)
			}
			c.KeepAddress("theirs", address)
			if by == "Address" {
				spec.RequestedAddress = address
			} else {
				spec.Annotations = map[string]string{addressNames: "theirs"}
			}
			takeOver(t, p, spec, id)
			want := pass(t, p, spec.Owner, spec).Observed
			if got := cloud.Ingresses(want); len(got) != 1 || got[0].IP != address {
				t.Errorf("clients connect to %v, want %s", got, address)
			}
			all, err := p.List(t.Context(), spec.Owner.ClusterID)
			if err != nil {
				t.Fatal(err)
			}
			mine := slices.DeleteFunc(all, func(r cloud.Resource) bool { return r.Shared })
			cloud.SortResources(mine)
			want = slices.DeleteFunc(want, func(r cloud.Resource) bool { return r.Shared })
			if diff := cmp.Diff(want, mine); diff != "" {
				t.Errorf("listed it is otherwise (-observed +listed):\n%s", diff)
			}
			pass(t, p, spec.Owner, nil)
			if left := c.Snapshot(); len(left) > 0 || !c.Has("regions/"+gcptest.Region+"/addresses/theirs") {
				t.Errorf("left: %q, or the address went with the Service", left)
			}
		})
	}
}

// TestLentAddressIsNotReserved: the address of a balancer that was adopted by hand, which only its rules have, is not reserved for the Service,
// which could not release it when it lets the balancer go.
func TestLentAddressIsNotReserved(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	id, address, err := c.PlantBalancer(cloudtest.Plant{Spec: *service(1, 2)}, false)
	if err != nil {
		t.Fatal(err)
	}
	spec.RequestedAddress = address
	takeOver(t, p, spec, id)
	if list := reservedAddresses(c); len(list) > 0 {
		t.Errorf("reserved is %q", list)
	}
	pass(t, p, spec.Owner, nil)
	if got := cloud.Ingresses(adoptable(t, p, spec.Owner, id)); len(got) != 1 || got[0].IP != address {
		t.Errorf("let go, its address is %v, was %s", got, address)
	}
}

// TestToldStaysAsItIs: a rule that was told of its address when it was made changes by one patch, and keeps its mark where it is.
func TestToldStaysAsItIs(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.KeepAddress("theirs", "10.128.7.7")
	p, spec := c.Provider(), service(0, 2)
	spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal", addressNames: "theirs"}
	pass(t, p, spec.Owner, spec)
	var writes []string
	c.SetHook(func(call cloudtest.Call) error {
		if call.Write && !call.After {
			writes = append(writes, call.Name)
		}
		return nil
	})
	spec.Annotations["networking.gke.io/internal-load-balancer-allow-global-access"] = "true"
	pass(t, p, spec.Owner, spec)
	spec.Annotations["networking.gke.io/internal-load-balancer-allow-global-access"] = "false"
	pass(t, p, spec.Owner, spec)
	if len(writes) != 2 || !strings.HasPrefix(writes[0], "PATCH ") || writes[0] != writes[1] {
		t.Errorf("global access was given and taken by %q", writes)
	}
}

// TestFreeInternalAddress: an internal address that nobody has is reserved for the Service that asks for it, so that all of its ports have
// it, and released with it. One that another balancer has is refused.
func TestFreeInternalAddress(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
	spec.RequestedAddress = "10.128.7.7"
	spec.Ports = append(spec.Ports, cloud.Port{Protocol: "UDP", Port: 53, NodePort: 31000, HealthCheck: spec.Ports[0].HealthCheck})
	out := pass(t, p, spec.Owner, spec)
	if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].IP != spec.RequestedAddress {
		t.Errorf("clients connect to %v", got)
	}
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	other := service(1, 2)
	other.Annotations = spec.Annotations
	_, address, err := c.PlantBalancer(cloudtest.Plant{Spec: *other}, false)
	if err != nil {
		t.Fatal(err)
	}
	spec.RequestedAddress, spec.Ports = address, spec.Ports[1:]
	if _, err := try(t, p, spec.Owner, spec); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "spec.loadBalancerIP") {
		t.Errorf("the address of another balancer: %v", err)
	}
	if list := reservedAddresses(c); len(list) > 0 {
		t.Errorf("reserved is %q", list)
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
