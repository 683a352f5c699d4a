package azure_test

import (
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
