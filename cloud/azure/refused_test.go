package azure_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
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

// TestRefusedTogether: of a write for many Services that Azure refuses because of one of them, only that one is told: one that asks
// for what is not there, or for something in a place where the manager has no rights.
func TestRefusedTogether(t *testing.T) {
	const bad = 4
	for name, tc := range map[string]struct {
		asks  map[string]string
		class cloud.Class
	}{
		"Subnet": {map[string]string{"load-balancer-internal": "true", "load-balancer-internal-subnet": "nowhere"}, cloud.Conflict},
		"Taken":  {map[string]string{"load-balancer-internal": "true", "load-balancer-ipv4": "10.224.9.9"}, cloud.Conflict},
		"Group":  {map[string]string{"pip-name": "theirs", "load-balancer-resource-group": "theirs"}, cloud.Retry},
	} {
		for _, slow := range []time.Duration{0, 2 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{Slow: slow})
				c.AddMachine("bastion", "10.224.9.9")
				p := provider(t, c)
				writes := 0
				c.SetHook(func(call azuretest.Call) error {
					if !call.After && call.Method == http.MethodPut && call.Type == "loadBalancers" {
						writes++
					}
					return nil
				})
				var specs []cloud.Spec
				for n := range 9 {
					spec := service(n, 2)
					if tc.asks["load-balancer-internal"] != "" {
						spec = internal(spec)
					}
					specs = append(specs, spec)
				}
				specs[bad] = with(specs[bad], tc.asks)
				said := told(t, p, specs)
				if said[bad] == nil || p.Classify(said[bad]).Class != tc.class || len(said) != 1 {
					t.Errorf("%s, each call taking %v: Services are told %v, want that number %d is, of class %s", name, slow, said, bad, tc.class)
				}
				if _, rules := c.Count("loadBalancers"); rules != len(specs)-1 {
					t.Errorf("%s, each call taking %v: there are %d rules, want %d", name, slow, rules, len(specs)-1)
				}
				if writes > 12 {
					t.Errorf("%s, each call taking %v: it took %d writes", name, slow, writes)
				}
			})
		}
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

// TestFailedAddress: an address that is named, and whose last change has failed, is told to who names it, and does not stand in the way of others:
// Azure refuses a balancer that refers to it whole, and says that this may be tried again.
func TestFailedAddress(t *testing.T) {
	for name, asks := range map[string]map[string]string{"Name": {"pip-name": "own"}, "Address": {"load-balancer-ipv4": ownAddress}} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: "publicIPAddresses", Late: true, Err: &azuretest.Refusal{Status: http.StatusConflict, Code: "InternalServerError"}})
			if err := c.EditAddress("own", func(*armnetwork.PublicIPAddress) {}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			p := provider(t, c)
			said := told(t, p, []cloud.Spec{service(1, 2), with(service(2, 2), asks), service(3, 2)})
			if len(said) != 1 || p.Classify(said[1]).Class != cloud.Conflict || !strings.Contains(said[1].Error(), "own has failed") {
				t.Errorf("%s: they are told %v, want that the second one is, of the address", name, said)
			}
			if err := c.EditAddress("own", func(*armnetwork.PublicIPAddress) {}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if _, err := converge(t, p, with(service(2, 2), asks), false); err != nil {
				t.Errorf("%s: after another change it is told %v", name, err)
			}
		})
	}
}

// TestAddressFailsInUse: where the named address of a Service that runs has failed since, others on its balancer are told of it, and by which
// frontend, and go on once it has not.
func TestAddressFailsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p, named := provider(t, c), with(service(2, 2), map[string]string{"pip-name": "own"})
		if err := c.EditAddress("own", func(*armnetwork.PublicIPAddress) {}); err != nil {
			t.Fatal(err)
		}
		if said := told(t, p, []cloud.Spec{named}); len(said) > 0 {
			t.Fatal(said)
		}
		c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: "publicIPAddresses", Late: true, Err: &azuretest.Refusal{Status: http.StatusConflict, Code: "InternalServerError"}})
		if err := c.EditAddress("own", func(*armnetwork.PublicIPAddress) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		said := told(t, p, []cloud.Spec{service(1, 2)})
		if len(said) != 1 || !cloud.IsClass(said[0], cloud.Conflict) || !strings.Contains(said[0].Error(), "own has failed") || !strings.Contains(said[0].Error(), named.Owner.ServiceUID) {
			t.Errorf("it is told %v, want of the address and whose it is", said)
		}
		if err := c.EditAddress("own", func(*armnetwork.PublicIPAddress) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := converge(t, p, service(1, 2), false); err != nil {
			t.Errorf("after another change it is told %v", err)
		}
	})
}

// TestLinkAfterRefusal: a private link service does not wait for a change of rules that was refused, and that nobody wants any more.
func TestLinkAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		p, spec := provider(t, c), with(linked(service(1, 2)), map[string]string{"pls-name": "link"})
		out, err := converge(t, p, spec, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Observed {
			if r.Kind == azure.KindRules {
				azure.Refuse(p, r, errors.New("refused"))
			}
		}
		if err := c.Remove("privateLinkServices", "link"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := converge(t, p, spec, false); err != nil {
			t.Error(err)
		}
		if len(c.Names("privateLinkServices")) != 1 {
			t.Error("there is no private link service")
		}
	})
}

// TestLinkWithConnections: a private link service that others are connected to stays for as long as they are, with all that it needs, and that is told.
func TestLinkWithConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		machines(c, 2)
		before := c.Snapshot()
		p, spec := provider(t, c), with(linked(service(1, 2)), map[string]string{"pls-name": "link"})
		if _, err := converge(t, p, spec, false); err != nil {
			t.Fatal(err)
		}
		connections := func(list ...*armnetwork.PrivateEndpointConnection) {
			t.Helper()
			if err := c.EditLink("link", func(link *armnetwork.PrivateLinkService) { link.Properties.PrivateEndpointConnections = list }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		connections(&armnetwork.PrivateEndpointConnection{Name: new("theirs")})
		all := c.Snapshot()
		if _, err := converge(t, p, spec, true); !cloud.IsClass(err, cloud.Conflict) || !strings.Contains(err.Error(), "connections") {
			t.Errorf("it is told %v, want of the connections", err)
		}
		for _, line := range all {
			if !strings.Contains(line, "security") && !slices.Contains(c.Snapshot(), line) {
				t.Errorf("gone is %s", line)
			}
		}
		connections()
		if _, err := converge(t, p, spec, true); err != nil {
			t.Fatal(err)
		}
		leavesNothing(t, c, before)
	})
}
