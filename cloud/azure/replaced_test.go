package azure_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// TestFrontendStays: a Service that asks for another address, without asking for a replacement, keeps the one that it has, is told,
// and costs no write of its balancer; its ports go on changing.
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
				of := func(what string) []string {
					var lines []string
					for _, line := range c.Snapshot() {
						if strings.HasPrefix(line, "fl-") && strings.Contains(line, what) {
							lines = append(lines, line)
						}
					}
					return lines
				}
				had := append(of(" frontend "), of(" address ")...)
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
				count := &calls{}
				c.SetHook(count.hook)
				passes()
				if n := count.seen["PUT loadBalancers"]; n > 0 {
					t.Errorf("it wrote its balancer %d times", n)
				}
				want.Ports[0].Port = 81
				passes()
				have := strings.Join(append(of(" frontend "), of(" address ")...), "\n")
				for _, line := range had {
					if !strings.Contains(have, line) {
						t.Errorf("%s is not there any more, but\n%s", line, have)
					}
				}
				if rules := of(" rule "); len(rules) != 1 || !strings.Contains(rules[0], `"frontendPort":81`) {
					t.Errorf("with another port there are the rules\n%s", strings.Join(rules, "\n"))
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
