package azure_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// told has all Services make passes in turn until none has anything left to do, and returns what each was told that is not
// Pending. A Service that was told something makes no more passes.
func told(t *testing.T, p cloud.Provider, specs []cloud.Spec) map[int]error {
	t.Helper()
	said := map[int]error{}
	for range 60 {
		busy := false
		for i, spec := range specs {
			if said[i] != nil {
				continue
			}
			desired, err := p.Desired(spec)
			if err != nil {
				t.Fatal(err)
			}
			out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{})
			switch {
			case err != nil && !cloud.IsClass(err, cloud.Pending):
				said[i] = err
			case err != nil || !out.Left.Empty():
				busy = true
			}
		}
		if !busy {
			return said
		}
		time.Sleep(time.Second)
	}
	t.Fatal("it never ends")
	return nil
}

// TestRefusedTogether: of a write for many Services that Azure refuses because of one of them, only that one is told.
func TestRefusedTogether(t *testing.T) {
	for _, slow := range []time.Duration{0, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{Slow: slow})
			p := provider(t, c)
			writes := 0
			c.SetHook(func(call azuretest.Call) error {
				if !call.After && call.Method == http.MethodPut && call.Type == "loadBalancers" {
					writes++
				}
				return nil
			})
			const bad = 4
			var specs []cloud.Spec
			for n := range 9 {
				specs = append(specs, internal(service(n, 2)))
			}
			specs[bad].Annotations["service.beta.kubernetes.io/azure-load-balancer-internal-subnet"] = "nowhere"
			said := told(t, p, specs)
			if !cloud.IsClass(said[bad], cloud.Conflict) || len(said) != 1 {
				t.Errorf("each call taking %v, Services are told %v, want that number %d is, of class Conflict", slow, said, bad)
			}
			if _, rules := c.Count("loadBalancers"); rules != len(specs)-1 {
				t.Errorf("each call taking %v, there are %d rules, want %d", slow, rules, len(specs)-1)
			}
			if writes > 20 {
				t.Errorf("each call taking %v, it took %d writes", slow, writes)
			}
		})
	}
}

// TestAddressBeingChanged: a public address that somebody is changing cannot be used for a while, which is waited for, and
// nobody is told. Azure answers with the status of throttling, and nothing is throttled.
func TestAddressBeingChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{Slow: 10 * time.Second})
		p := provider(t, c)
		if err := c.Put("publicIPAddresses", "own", publicIP()); err != nil {
			t.Fatal(err)
		}
		writes := 0
		c.SetHook(func(call azuretest.Call) error {
			if !call.After && call.Method == http.MethodPut && call.Type == "loadBalancers" {
				writes++
			}
			return nil
		})
		said := told(t, p, []cloud.Spec{with(service(1, 2), map[string]string{"pip-name": "own"})})
		if len(said) > 0 || writes < 2 {
			t.Errorf("after %d writes it is told %v, want nothing after some that were refused", writes, said)
		}
	})
}
