package azure_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

func withFamilies(spec cloud.Spec, families ...cloud.Family) cloud.Spec {
	spec.Families = families
	return spec
}

// TestDualStackAlone: a Service of both families comes up as the first of a balancer, and goes as the last, and is told nothing: Azure has no
// balancer with addresses of IPv6 alone.
func TestDualStackAlone(t *testing.T) {
	dual := func(spec cloud.Spec) cloud.Spec { return withFamilies(spec, cloud.IPv6, cloud.IPv4) }
	slow := azuretest.Options{Slow: 3 * time.Second}
	again := &azuretest.Refusal{Status: http.StatusTooManyRequests, Code: "RetryableError", Message: "again"}
	for name, tc := range map[string]struct {
		ask     func(cloud.Spec) cloud.Spec
		options azuretest.Options
		faults  []azuretest.Fault
	}{
		"Public": {dual, azuretest.Options{}, nil},
		"Slow":   {dual, slow, nil},
		"IPv4IsLate": {dual, slow, []azuretest.Fault{{Method: http.MethodPut, Kind: "publicIPAddresses", Err: again},
			{Method: http.MethodPut, Kind: "publicIPAddresses", Err: again, Skip: 1, Times: 2}}},
		"Internal":     {func(s cloud.Spec) cloud.Spec { return internal(dual(s)) }, azuretest.Options{}, nil},
		"SlowInternal": {func(s cloud.Spec) cloud.Spec { return internal(dual(s)) }, slow, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, tc.options)
				p, spec := provider(t, c), tc.ask(service(1, 2))
				before := c.Snapshot()
				c.Inject(tc.faults...)
				out, err := converge(t, p, spec, false)
				if err != nil || len(cloud.Ingresses(out.Observed)) != 2 {
					t.Fatalf("it has %v (%v)", cloud.Ingresses(out.Observed), err)
				}
				time.Sleep(10 * time.Second)
				if _, err := converge(t, p, spec, true); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				leavesNothing(t, c, before)
			})
		})
	}
}

// TestIPv6Alone: a Service of IPv6 alone is told to wait for one that has IPv4 on the same balancer, and that one goes when another one has come,
// or with it.
func TestIPv6Alone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{Slow: time.Second})
		p, before := provider(t, c), c.Snapshot()
		six := withFamilies(service(1, 2), cloud.IPv6)
		told := func(spec cloud.Spec, gone bool, class cloud.Class, want string) {
			t.Helper()
			desired, err := p.Desired(spec)
			if err != nil {
				t.Fatal(err)
			}
			if gone {
				desired = nil
			}
			for range 20 {
				_, err = cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{})
				if err != nil && p.Classify(err).Class == class && strings.Contains(err.Error(), want) {
					return
				}
				time.Sleep(time.Second)
			}
			t.Errorf("it is told %v, want a %s with %q", err, class, want)
		}
		told(six, false, cloud.Conflict, "ask for both families")
		if n, _ := c.Count("loadBalancers"); n != 0 {
			t.Errorf("there are %d balancers", n)
		}
		for _, step := range []struct {
			spec  cloud.Spec
			gone  bool
			waits bool
		}{{spec: service(2, 2)}, {spec: six}, {service(2, 2), true, true}, {spec: service(3, 2)}, {spec: service(2, 2), gone: true}, {service(3, 2), true, true}, {spec: six, gone: true}, {spec: service(3, 2), gone: true}} {
			if step.waits {
				told(step.spec, true, cloud.Pending, "IPv6 alone")
			} else if _, err := converge(t, p, step.spec, step.gone); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		leavesNothing(t, c, before)
	})
}

// TestLinkedDualStack: the IPv6 address of a Service with a private link is on another balancer than its IPv4 one, which Azure has no IPv6 for,
// and so needs another Service's there.
func TestLinkedDualStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		p, before := provider(t, c), c.Snapshot()
		spec, other := withFamilies(linked(service(1, 2)), cloud.IPv4, cloud.IPv6), internal(service(2, 2))
		if _, err := converge(t, p, spec, false); p.Classify(err).Class != cloud.Conflict || !strings.Contains(err.Error(), "no address of IPv4") {
			t.Errorf("alone it is told %v", err)
		}
		for _, s := range []cloud.Spec{other, spec} {
			if out, err := converge(t, p, s, false); err != nil || len(cloud.Ingresses(out.Observed)) != len(s.Families) {
				t.Fatalf("it has %v (%v)", cloud.Ingresses(out.Observed), err)
			}
		}
		for _, s := range []cloud.Spec{spec, other} {
			if _, err := converge(t, p, s, true); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		leavesNothing(t, c, before)
	})
}
