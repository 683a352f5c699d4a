package azure_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// TestFrontendStays: a Service that asks for another address, without asking for a replacement, keeps the one that it has, and
// everything else, and is told.
func TestFrontendStays(t *testing.T) {
	own := map[string]string{"pip-name": "own"}
	for name, tc := range map[string]struct{ before, after func(n, nodes int) cloud.Spec }{
		"PublicToNamed":    {service, func(n, nodes int) cloud.Spec { return with(service(n, nodes), own) }},
		"NamedToPublic":    {func(n, nodes int) cloud.Spec { return with(service(n, nodes), own) }, service},
		"PublicToInternal": {service, func(n, nodes int) cloud.Spec { return internal(service(n, nodes)) }},
		"InternalToPublic": {func(n, nodes int) cloud.Spec { return internal(service(n, nodes)) }, service},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p := provider(t, c)
				if _, err := converge(t, p, tc.before(1, 2), false); err != nil {
					t.Fatal(err)
				}
				had := c.Snapshot()
				want := tc.after(1, 2)
				passes := func() {
					desired, err := p.Desired(want)
					if err != nil {
						t.Fatal(err)
					}
					for range 10 {
						out, err := cloud.Converge(t.Context(), p, want.Owner, desired, cloud.Options{})
						if len(out.Left.Blocked) != 1 || out.Left.Blocked[0].Reason != cloud.BlockReplacement || err != nil && !cloud.IsClass(err, cloud.Pending) {
							t.Fatalf("blocked is %+v (%v)", out.Left.Blocked, err)
						}
						time.Sleep(time.Second)
					}
				}
				passes()
				want.Ports[0].Port = 81
				passes()
				if diff := cmp.Diff(had, c.Snapshot()); diff != "" {
					t.Errorf("blocked, it changed (-before +after):\n%s", diff)
				}
				for range 20 { // and with a replacement it gets what it asks for
					desired, err := p.Desired(want)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = cloud.Converge(t.Context(), p, want.Owner, desired, cloud.Options{Replacement: v1alpha1.ReplacementRecreate})
					time.Sleep(time.Second)
				}
				fresh := network(t, azuretest.Options{})
				if _, err := converge(t, provider(t, fresh), want, false); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(fresh.Snapshot(), c.Snapshot()); diff != "" {
					t.Errorf("replaced, it is not as one made anew (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestBlockedFollowsCluster: a frontend whose replacement is blocked is asked for health where the Service's nodes answer, as if it
// had not been asked to be another one.
func TestBlockedFollowsCluster(t *testing.T) {
	local := func(spec cloud.Spec) cloud.Spec {
		spec.LocalOnly = true
		spec.Ports = slices.Clone(spec.Ports)
		for i := range spec.Ports {
			spec.Ports[i].HealthCheck = cloud.HealthCheck{Protocol: "HTTP", Port: 32000, Path: cloud.HealthzPath}
		}
		return spec
	}
	as := func(spec cloud.Spec) cloud.Spec { return spec }
	for name, tc := range map[string]struct{ before, asked, policy, after func(cloud.Spec) cloud.Spec }{
		"PublicToLocal":   {as, internal, as, local},
		"PublicToCluster": {as, internal, local, as},
		"InternalToLocal": {internal, as, as, local},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				had, want := network(t, azuretest.Options{}), network(t, azuretest.Options{})
				p, reference := provider(t, had), provider(t, want)
				for _, r := range []cloud.Provider{p, reference} {
					if _, err := converge(t, r, tc.before(tc.policy(service(1, 2))), false); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := converge(t, reference, tc.before(tc.after(service(1, 2))), false); err != nil {
					t.Fatal(err)
				}
				asked := tc.asked(tc.after(service(1, 2)))
				desired, err := p.Desired(asked)
				if err != nil {
					t.Fatal(err)
				}
				for range 10 {
					out, err := cloud.Converge(t.Context(), p, asked.Owner, desired, cloud.Options{})
					if len(out.Left.Blocked) != 1 || err != nil && !cloud.IsClass(err, cloud.Pending) {
						t.Fatalf("blocked is %+v (%v)", out.Left.Blocked, err)
					}
					time.Sleep(time.Second)
				}
				if diff := cmp.Diff(want.Snapshot(), had.Snapshot()); diff != "" {
					t.Errorf("(-as if not asked for +blocked):\n%s", diff)
				}
			})
		})
	}
}
