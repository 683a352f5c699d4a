package gcp_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/gcp"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestWhatIsMade looks, for each thing that a Service can ask for, at what stands in the cloud in the end.
func TestWhatIsMade(t *testing.T) {
	annotate := func(pairs ...string) func(*cloud.Spec) {
		return func(s *cloud.Spec) {
			s.Annotations = map[string]string{}
			for i := 0; i < len(pairs); i += 2 {
				s.Annotations[pairs[i]] = pairs[i+1]
			}
		}
	}
	internal := annotate("networking.gke.io/load-balancer-type", "Internal")
	for name, tc := range map[string]struct {
		edit func(*cloud.Spec)
		// want are parts of lines of the snapshot, by the collection; not are those that must be in none.
		want map[string][]string
		not  []string
	}{
		"External": {func(*cloud.Spec) {}, map[string][]string{
			"/forwardingRules/": {`"loadBalancingScheme":"EXTERNAL"`, `"ports":["80"]`, `"networkTier":"PREMIUM"`, `"IPProtocol":"TCP"`},
			"/backendServices/": {`"protocol":"UNSPECIFIED"`, `"balancingMode":"CONNECTION"`, `"sessionAffinity":"NONE"`, `"drainingTimeoutSec":30`},
			"/healthChecks/":    {`"port":10256`, `"requestPath":"/healthz"`},
			"-nodes-ipv4-":      {`"destinationRanges":["vip/32"]`, `"sourceRanges":["0.0.0.0/0"]`, `"targetTags":["node"]`},
			"-health-ipv4-":     {`["130.211.0.0/22","209.85.152.0/22","209.85.204.0/22","35.191.0.0/16"]`, `"ports":["10256"]`},
			"/addresses/":       {`"addressType":"EXTERNAL"`},
			"zones/test-west1-b/networkEndpointGroups/": {"[n2]", `"networkEndpointType":"GCE_VM_IP"`},
		}, []string{"allowGlobalAccess", "WEIGHTED"}},
		"Internal": {internal, map[string][]string{
			"/forwardingRules/": {`"loadBalancingScheme":"INTERNAL"`, `subnetworks/default"`},
			"/addresses/":       {`"purpose":"SHARED_LOADBALANCER_VIP"`},
		}, []string{"EXTERNAL"}},
		"GlobalAccess": {annotate("networking.gke.io/load-balancer-type", "Internal", "networking.gke.io/internal-load-balancer-allow-global-access", "true"),
			map[string][]string{"/forwardingRules/": {`"allowGlobalAccess":true`}}, nil},
		"Standard": {annotate("cloud.google.com/network-tier", "Standard"), map[string][]string{
			"/forwardingRules/": {`"networkTier":"STANDARD"`}, "/addresses/": {`"networkTier":"STANDARD"`}}, nil},
		"Weighted": {func(s *cloud.Spec) {
			local(s)
			s.Annotations = map[string]string{"networking.gke.io/weighted-load-balancing": "pods-per-node"}
		}, map[string][]string{"/backendServices/": {`"localityLbPolicy":"WEIGHTED_MAGLEV"`}, "/healthChecks/": {`"port":32000`}, "-health-ipv4-": {`"ports":["32000"]`}}, nil},
		"Strong": {func(s *cloud.Spec) {
			s.AffinitySeconds, s.Annotations = 600, map[string]string{"networking.gke.io/l4-strong-session-affinity": "true"}
		}, map[string][]string{"/backendServices/": {`"enableStrongAffinity":true`, `"idleTimeoutSec":600`, `"sessionAffinity":"CLIENT_IP"`}}, nil},
		"Named": {annotate("networking.gke.io/load-balancer-ip-addresses", "user-address"), map[string][]string{
			"-nodes-ipv4-": {`"destinationRanges":["vip/32"]`}}, []string{"/addresses/"}},
		"Ranges": {func(s *cloud.Spec) {
			s.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}, map[string][]string{"-nodes-ipv4-": {`"sourceRanges":["192.0.2.0/24"]`}, "-health-ipv6-": {`["2600:1901:8001:0:0:0:0:0/48","2600:2d00:1:b029:0:0:0:0/64"]`}}, []string{"-nodes-ipv6-"}},
		"ManyPorts": {func(s *cloud.Spec) {
			for i := range int32(11) {
				s.Ports = append(s.Ports, cloud.Port{Protocol: "UDP", Port: 5000 + i, NodePort: 31000 + i, HealthCheck: s.Ports[0].HealthCheck})
			}
		}, map[string][]string{"/forwardingRules/": {`"IPProtocol":"L3_DEFAULT"`, `"allPorts":true`}, "-nodes-ipv4-": {`"5010"`, `"80"`}}, []string{`"ports":["80"],"region"`}},
		"InstanceGroups": {func(s *cloud.Spec) { s.Parameters = []byte(`{"instanceGroups":["test-west1-a/mine"]}`) },
			map[string][]string{"/backendServices/": {"zones/test-west1-a/instanceGroups/mine"}}, []string{"networkEndpointGroups"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			c.ReserveAddress("user-address", gcptest.UserAddress)
			c.AddInstanceGroup("test-west1-a", "mine")
			spec := service(0, 2)
			tc.edit(spec)
			pass(t, c.Provider(), spec.Owner, spec)
			pass(t, c.Provider(), spec.Owner, spec) // observed as it was asked for
			lines := c.Snapshot()
			for collection, parts := range tc.want {
				i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(strings.Fields(line)[0], collection) })
				for _, part := range parts {
					if i < 0 || !strings.Contains(lines[i], part) {
						t.Errorf("%s lacks %s in:\n%s", collection, part, strings.Join(lines, "\n"))
					}
				}
			}
			for _, part := range tc.not {
				if strings.Contains(strings.Join(lines, "\n"), part) {
					t.Errorf("there is %s in:\n%s", part, strings.Join(lines, "\n"))
				}
			}
			// Back to a plain one, as far as that can be in place, and gone.
			if plain := service(0, 2); name != "Internal" && name != "GlobalAccess" && name != "Standard" && name != "Named" {
				pass(t, c.Provider(), plain.Owner, plain)
			}
			pass(t, c.Provider(), spec.Owner, nil)
			if left := c.Snapshot(); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// TestOthersTracking: how somebody else has connections tracked stays, whatever else changes, but for what needs the affinity that the Service gives up.
func TestOthersTracking(t *testing.T) {
	c, spec := gcptest.New(gcptest.Options{}), service(0, 2)
	p := c.Provider()
	spec.AffinitySeconds = 600
	pass(t, p, spec.Owner, spec)
	const theirs = `"connectionTrackingPolicy":{"idleTimeoutSec":1200,"trackingMode":"PER_SESSION"}`
	if err := c.Patch("/backendServices/", "{"+theirs+"}"); err != nil {
		t.Fatal(err)
	}
	spec.Parameters = []byte(`{"drainingSeconds":5}`)
	pass(t, p, spec.Owner, spec)
	if all := balancers(c); !strings.Contains(all, theirs) || !strings.Contains(all, `"drainingTimeoutSec":5`) {
		t.Errorf("after another change it is %s", all)
	}
	spec.AffinitySeconds = 0
	pass(t, p, spec.Owner, spec)
	if all := balancers(c); strings.Contains(all, "connectionTrackingPolicy") {
		t.Errorf("without affinity it is %s", all)
	}
}

func local(s *cloud.Spec) {
	s.LocalOnly = true
	for i := range s.Ports {
		s.Ports[i].HealthCheck = cloud.HealthCheck{Protocol: "HTTP", Port: 32000, Path: cloud.HealthzPath}
	}
}

// TestSchemeIsKept: another scheme is another address. It is done only where the user allows it; until then nothing is changed of the
// balancer that runs, firewalls included.
func TestSchemeIsKept(t *testing.T) {
	other := map[string]string{"External": "Internal", "Internal": "External"}
	for _, from := range []string{"External", "Internal"} {
		for name, families := range map[string][]cloud.Family{"IPv4": {cloud.IPv4}, "IPv6": {cloud.IPv6}, "Both": {cloud.IPv4, cloud.IPv6}} {
			t.Run(from+name, func(t *testing.T) {
				c := gcptest.New(gcptest.Options{})
				p := c.Provider()
				of := func(scheme string) *cloud.Spec {
					spec := service(0, 2)
					spec.Families, spec.Annotations = families, map[string]string{"networking.gke.io/load-balancer-type": scheme}
					return spec
				}
				spec := of(from)
				pass(t, p, spec.Owner, spec)
				before := c.Snapshot()
				desired, err := p.Desired(*of(other[from]))
				if err != nil {
					t.Fatal(err)
				}
				out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{})
				if err != nil || len(out.Left.Blocked) == 0 || out.Left.Blocked[0].Reason != cloud.BlockReplacement {
					t.Fatalf("left %+v (%v), want a block", out.Left, err)
				}
				if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
					t.Errorf("it was changed (-before +after):\n%s", diff)
				}
				for range 3 {
					if out, err = cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Replacement: "Recreate"}); err == nil && out.Left.Empty() {
						break
					}
				}
				if left := fmt.Sprint(c.Snapshot()); err != nil || !out.Left.Empty() || strings.Contains(left, `"`+strings.ToUpper(from)+`"`) {
					t.Errorf("allowed, it leaves %+v (%v) and %s", out.Left, err, left)
				}
			})
		}
	}
}

// TestDraining: how long connections go on is changed in place, to nothing and back.
func TestDraining(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	spec := service(0, 2)
	for _, seconds := range []int{30, 0, 3600} {
		spec.Parameters = fmt.Appendf(nil, `{"drainingSeconds":%d}`, seconds)
		pass(t, c.Provider(), spec.Owner, spec)
		if text, want := strings.Join(c.Snapshot(), "\n"), fmt.Sprintf(`"drainingTimeoutSec":%d}`, seconds); seconds > 0 && !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
}

// TestFirewallDrift: a rule that somebody put behind others, or opened to more machines, is as it was again.
func TestFirewallDrift(t *testing.T) {
	for _, patch := range []string{`{"priority":65534}`, `{"sourceTags":["everybody"]}`, `{"sourceServiceAccounts":["a@p.iam.gserviceaccount.com"]}`,
		`{"targetTags":null,"targetServiceAccounts":["a@p.iam.gserviceaccount.com"]}`} {
		c := gcptest.New(gcptest.Options{})
		spec := service(0, 2)
		pass(t, c.Provider(), spec.Owner, spec)
		want := c.Snapshot()
		if err := c.Patch("-nodes-ipv4-", patch); err != nil {
			t.Fatal(err)
		}
		pass(t, c.Provider(), spec.Owner, spec)
		if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
			t.Errorf("%s is not repaired (-want +got):\n%s", patch, diff)
		}
	}
}

// TestDriftIsRepaired has somebody turn each thing into something else by hand.
func TestDriftIsRepaired(t *testing.T) {
	for path, patch := range map[string]string{
		"-health-ipv4-": `{"allowed":[{"IPProtocol":"tcp","ports":["22"]}]}`, "-nodes-ipv4-": `{"sourceRanges":["10.0.0.0/8"],"destinationRanges":["10.9.9.9/32"]}`,
		"/healthChecks/": `{"httpHealthCheck":{"port":9}}`, "/backendServices/": `{"backends":[],"sessionAffinity":"CLIENT_IP"}`,
		"health-ipv4-": `{"allowed":null,"denied":[{"IPProtocol":"tcp"}]}`, "nodes-ipv4-": `{"disabled":true}`,
		"healthChecks/": `{"type":"TCP","httpHealthCheck":null,"tcpHealthCheck":{"port":9}}`,
	} {
		c := gcptest.New(gcptest.Options{})
		spec := service(0, 2)
		pass(t, c.Provider(), spec.Owner, spec)
		want := c.Snapshot()
		if err := c.Patch(path, patch); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(want, c.Snapshot()) {
			t.Fatalf("%s: nothing was changed by hand", path)
		}
		pass(t, c.Provider(), spec.Owner, spec)
		if got := c.Snapshot(); !slices.Equal(want, got) {
			t.Errorf("%s: repaired it is\n%s, was\n%s", path, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestAddressOfOthersIsKept: a reserved address of the user's is there after the Service, and an address that only the rules of
// an adopted balancer have stays theirs.
func TestAddressOfOthersIsKept(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.ReserveAddress("user-address", gcptest.UserAddress)
	p := c.Provider()
	spec := service(0, 2)
	spec.RequestedAddress = gcptest.UserAddress
	out := pass(t, p, spec.Owner, spec)
	if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].IP != gcptest.UserAddress {
		t.Errorf("clients connect to %v", got)
	}
	pass(t, p, spec.Owner, nil)
	if !c.Has("regions/" + gcptest.Region + "/addresses/user-address") {
		t.Error("the address is gone with the Service")
	}

	plain := service(1, 2)
	id, address, err := c.PlantWithoutAddress(plain)
	if err != nil {
		t.Fatal(err)
	}
	desired, err := p.Desired(*plain)
	if err != nil {
		t.Fatal(err)
	}
	out, err = cloud.Converge(t.Context(), p, plain.Owner, desired, cloud.Options{Adopt: id, Granted: true})
	if err != nil || !out.Left.Empty() {
		t.Fatalf("adopting leaves %+v (%v)", out.Left, err)
	}
	if got := cloud.Ingresses(out.Observed); len(got) != 1 || got[0].IP != address {
		t.Errorf("adopted, clients connect to %v, were at %s", got, address)
	}
	pass(t, p, plain.Owner, nil)
	if got := cloud.Ingresses(adoptable(t, p, plain.Owner, id)); len(got) != 1 || got[0].IP != address {
		t.Errorf("let go, its address is %v, was %s", got, address)
	}
}

func adoptable(t *testing.T, p *gcp.Provider, owner cloud.Owner, id string) []cloud.Resource {
	t.Helper()
	found, err := p.Adoptable(t.Context(), owner, id)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v (%v)", found, err)
	}
	return found[0].Resources
}

// TestRights holds the table of docs/gcp.md to what the calls of a whole life need: creation, every kind of change, adoption,
// operations that take their time, deletion.
func TestRights(t *testing.T) {
	used := map[string]bool{}
	for _, run := range []func(c *gcptest.Cloud){
		func(c *gcptest.Cloud) {
			p := c.Provider()
			spec := service(0, 3)
			pass(t, p, spec.Owner, spec)
			changed := service(0, 2)
			local(changed)
			changed.AffinitySeconds = 60
			pass(t, p, spec.Owner, changed)
			pass(t, p, spec.Owner, changed)
			pass(t, p, spec.Owner, nil)
			inside := service(1, 2)
			inside.Annotations = map[string]string{"networking.gke.io/load-balancer-type": "Internal"}
			pass(t, p, inside.Owner, inside)
			inside.Annotations["networking.gke.io/internal-load-balancer-allow-global-access"] = "true"
			pass(t, p, inside.Owner, inside)
			pass(t, p, inside.Owner, nil)
			c.AddInstanceGroup("test-west1-a", "mine")
			grouped := service(2, 2)
			grouped.Parameters = []byte(`{"instanceGroups":["test-west1-a/mine"]}`)
			pass(t, p, grouped.Owner, grouped)
			pass(t, p, grouped.Owner, nil)
		},
		func(c *gcptest.Cloud) { adopted(t, c) },
	} {
		c := gcptest.New(gcptest.Options{})
		run(c)
		for _, permission := range c.Permissions() {
			used[permission] = true
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		spec := service(0, 2)
		settle(t, c.Provider(), spec.Owner, spec)
		for _, permission := range c.Permissions() {
			used[permission] = true
		}
	})
	var table strings.Builder
	table.WriteString("```\n")
	for _, permission := range slices.Sorted(maps.Keys(used)) {
		table.WriteString(permission + "\n")
	}
	table.WriteString("```\n")
	const path, begin, end = "../../docs/gcp.md", "<!-- permissions -->\n", "<!-- end -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, closed := strings.Cut(rest, end)
	want := before + begin + table.String() + end + after
	switch {
	case !ok || !closed:
		t.Fatalf("%s has no place for the rights", path)
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	case want != string(page):
		t.Errorf("%s has other rights than are used: run go test ./cloud/gcp -run TestRights -update; used are\n%s", path, table.String())
	}
}

// adopted adopts a balancer and lets it go.
func adopted(t *testing.T, c *gcptest.Cloud) {
	t.Helper()
	h := c.Harness()
	p := c.Provider()
	spec := service(0, 2)
	id, err := h.PlantBalancer(cloudtest.Plant{Spec: *service(1, 2)})
	if err != nil {
		t.Fatal(err)
	}
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id, Granted: true}); err != nil || !out.Left.Empty() {
		t.Fatalf("adopting leaves %+v (%v)", out.Left, err)
	}
	pass(t, p, spec.Owner, nil)
}
