package azure_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// TestAddressOfAnotherGroup: a public address that is in another resource group is found there, by its name or by what it is, and nothing is
// made or changed there.
func TestAddressOfAnotherGroup(t *testing.T) {
	there := map[string]string{"load-balancer-resource-group": azuretest.OtherGroup}
	requested := with(service(1, 2), there)
	requested.RequestedAddress = ownAddress
	ofClass := with(service(1, 2), map[string]string{"load-balancer-ipv4": ownAddress})
	ofClass.Parameters = []byte(`{"resourceGroup":"` + strings.ToUpper(azuretest.OtherGroup) + `"}`)
	for name, spec := range map[string]cloud.Spec{
		"Requested": requested,
		"Annotated": with(with(service(1, 2), there), map[string]string{"load-balancer-ipv4": ownAddress}),
		"Class":     ofClass,
		"Named":     with(with(service(1, 2), there), map[string]string{"pip-name": "own"}),
	} {
		for _, capitals := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{Slow: time.Second, Capitals: capitals})
				c.MoveAddress("own")
				before := c.Snapshot()
				c.SetHook(func(call azuretest.Call) error {
					if call.Write() && call.Type == "publicIPAddresses" {
						t.Errorf("%s: %s of the public address %s was sent", name, call.Method, call.Name)
					}
					return nil
				})
				out, err := converge(t, provider(t, c), spec, false)
				if diff := cmp.Diff([]cloud.Ingress{{IP: ownAddress}}, cloud.Ingresses(out.Observed)); err != nil || diff != "" {
					t.Fatalf("%s: it has another address (-want +got):\n%s%v", name, diff, err)
				}
				time.Sleep(5 * time.Second)
				p := provider(t, c)
				if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 {
					t.Errorf("%s: after a restart it does %+v (%v)", name, out.Done, err)
				}
				if _, err := converge(t, p, spec, true); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				time.Sleep(5 * time.Second)
				leavesNothing(t, c, before)
			})
		}
	}
}

// TestAddressNotInThatGroup: an address that is in another group than the one that is named is told, and so is that there is no such group.
func TestAddressNotInThatGroup(t *testing.T) {
	for name, tc := range map[string]struct {
		group string
		moved bool
	}{
		"Own":     {azuretest.OtherGroup, false},
		"Others":  {azuretest.ResourceGroup, true},
		"Nowhere": {"theirs", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			if tc.moved {
				c.MoveAddress("own")
			}
			p := provider(t, c)
			_, err := converge(t, p, with(service(1, 2), map[string]string{"load-balancer-resource-group": tc.group, "load-balancer-ipv4": ownAddress}), false)
			if !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "resource group "+tc.group) || !strings.Contains(err.Error(), ownAddress) {
				t.Errorf("%s: it is told %v, want a UserError of the group and the address", name, err)
			}
		})
	}
}

// failAddress has the last change of somebody's public address have failed.
func failAddress(t *testing.T, c *azuretest.Cloud) {
	t.Helper()
	c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: "publicIPAddresses", Late: true, Err: &azuretest.Refusal{Status: http.StatusConflict, Code: "InternalServerError"}})
	changeAddress(t, c)
}

// changeAddress changes somebody's public address, which is over a second later.
func changeAddress(t *testing.T, c *azuretest.Cloud) {
	t.Helper()
	if err := c.EditAddress("own", func(*armnetwork.PublicIPAddress) {}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// TestFailedAddressOfOneThatRuns: that the address of its own which a Service names has failed is told also while nothing of the Service changes,
// and is tried with no write; so is a node that cannot join for it. Once it has not, there is nothing to be done.
func TestFailedAddressOfOneThatRuns(t *testing.T) {
	byAddress := map[string]string{"load-balancer-ipv4": ownAddress}
	for name, tc := range map[string]struct {
		asks    map[string]string
		planted bool // by the other controller
	}{
		"Name":      {map[string]string{"pip-name": "own"}, false},
		"Address":   {byAddress, false},
		"TakenOver": {byAddress, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			p, spec := provider(t, c), with(service(1, 2), tc.asks)
			if tc.planted {
				madeFor(t, c, service(1, 2), func(lb *armnetwork.LoadBalancer, _ string) {
					lb.Properties.FrontendIPConfigurations[0].Properties.PublicIPAddress.ID = new(networkPath + "publicIPAddresses/own")
				})
			}
			if _, err := convergeWith(t, p, spec, cloud.Options{TakeOver: true}); err != nil {
				t.Fatal(err)
			}
			failAddress(t, c)
			isTold := func(what string, err error) {
				t.Helper()
				if !cloud.IsClass(err, cloud.Conflict) || !strings.Contains(err.Error(), "own has failed") {
					t.Errorf("%s, %s: it is told %v, want of the address", name, what, err)
				}
			}
			_, err := converge(t, p, spec, false)
			isTold("nothing changes", err)
			if !tc.planted {
				grown := with(service(2, 2), nil)
				if _, err := converge(t, p, grown, false); err == nil {
					t.Fatal("Azure takes a balancer whose address has failed")
				}
				observed, err := p.Observe(t.Context(), spec.Owner)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range observed {
					if r.Kind == azure.KindRules {
						r.Targets = append(r.Targets, cloud.Target{ID: "10.224.0.99"})
						isTold("a node joins", p.SyncTargets(t.Context(), []cloud.TargetChange{{Owner: spec.Owner, Resource: r}})[0])
					}
				}
			}
			changeAddress(t, c)
			if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 {
				t.Errorf("%s: after another change it does %+v (%v)", name, out.Done, err)
			}
		})
	}
}

// TestRightsOfOneService: where a right is missing that only some Services need, those are told which it is, keep what they have, and nobody else is
// held up: to read an address in a resource group that one names, and the private link services.
func TestRightsOfOneService(t *testing.T) {
	named := with(service(1, 2), map[string]string{"load-balancer-resource-group": azuretest.OtherGroup, "pip-name": "own"})
	for name, tc := range map[string]struct {
		spec cloud.Spec
		deny func(c *azuretest.Cloud, action string)
		what string // of the network
	}{
		"Address": {named, func(c *azuretest.Cloud, action string) { c.DenyOther(action) }, "publicIPAddresses/read"},
		"Links":   {linked(service(1, 2)), func(c *azuretest.Cloud, action string) { c.Deny(action) }, "privateLinkServices/read"},
	} {
		for _, when := range []string{"before", "after"} {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				machines(c, 2)
				c.MoveAddress("own")
				if when == "after" {
					if _, err := converge(t, provider(t, c), tc.spec, false); err != nil {
						t.Fatal(err)
					}
				}
				tc.deny(c, "Microsoft.Network/"+tc.what)
				p := provider(t, c)
				for n := range 2 {
					for _, gone := range []bool{false, true} {
						if _, err := converge(t, p, service(2+n, 2), gone); err != nil {
							t.Errorf("%s, %s: another Service, to be gone (%t), is told %v", name, when, gone, err)
						}
					}
					before := c.Snapshot()
					if _, err := converge(t, p, tc.spec, false); !cloud.IsClass(err, cloud.Retry) || !strings.Contains(err.Error(), tc.what) {
						t.Errorf("%s, %s: it is told %v, want the right that is missing", name, when, err)
					}
					if diff := cmp.Diff(before, c.Snapshot()); diff != "" && n > 0 {
						t.Errorf("%s, %s: it is changed (-before +after):\n%s", name, when, diff)
					}
				}
			})
		}
	}
}

// TestManyAddressesOfAnotherGroup: addresses of another resource group cost a look no read each, and one that is gone is no reason to stop.
func TestManyAddressesOfAnotherGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		var specs []cloud.Spec
		for n := range 20 {
			name := fmt.Sprintf("own-%d", n)
			if err := c.Put("publicIPAddresses", name, publicIP()); err != nil {
				t.Fatal(err)
			}
			c.MoveAddress(name)
			specs = append(specs, with(service(n, 2), map[string]string{"load-balancer-resource-group": azuretest.OtherGroup, "pip-name": name}))
		}
		workers(t, p, 4, specs, false)
		time.Sleep(time.Minute)
		reads := 0
		c.SetHook(func(call azuretest.Call) error {
			if !call.After && call.Type == "publicIPAddresses" {
				reads++
			}
			return nil
		})
		for _, spec := range specs {
			if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 || len(cloud.Ingresses(out.Observed)) != 1 {
				t.Errorf("it does %+v (%v), and has %v", out.Done, err, cloud.Ingresses(out.Observed))
			}
		}
		if reads > 4 {
			t.Errorf("%d Services took %d reads of addresses", len(specs), reads)
		}
	})
}

// TestListOfAnotherGroup: what is not in a list of another resource group's addresses, be it that the manager may only read some of them or that the
// list is behind, and that a frontend has all the same, is read by itself.
func TestListOfAnotherGroup(t *testing.T) {
	for name, answer := range map[string]answering{
		"Denied": {status: http.StatusForbidden, body: `{"error":{"code":"AuthorizationFailed"}}`},
		"Behind": {status: http.StatusOK, body: `{"value":[]}`},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			var specs []cloud.Spec
			for n := range 7 {
				name := fmt.Sprintf("own-%d", n)
				if err := c.Put("publicIPAddresses", name, publicIP()); err != nil {
					t.Fatal(err)
				}
				c.MoveAddress(name)
				specs = append(specs, with(service(n, 2), map[string]string{"load-balancer-resource-group": azuretest.OtherGroup, "pip-name": name}))
			}
			workers(t, provider(t, c), 4, specs, false)
			answer.next, answer.path = c.Transport(), "/"+azuretest.OtherGroup+"/providers/microsoft.network/publicipaddresses"
			p, err := azure.NewForEmulator(config, endpoint, answer)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range specs {
				if out, err := converge(t, p, spec, false); err != nil || len(out.Done) > 0 || len(cloud.Ingresses(out.Observed)) != 1 {
					t.Errorf("%s: it does %+v (%v), and has %v", name, out.Done, err, cloud.Ingresses(out.Observed))
				}
			}
		})
	}
}

// answering gives one answer to all requests whose path, in lower case, ends so.
type answering struct {
	next       policy.Transporter
	path, body string
	status     int
}

func (a answering) Do(request *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(strings.ToLower(request.URL.Path), a.path) {
		return a.next.Do(request)
	}
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body)), Header: http.Header{"Content-Type": {"application/json"}}, Request: request}, nil
}

// TestAddressOfTheGroupAlone: an address that another Service has of another resource group is none of the group that is asked.
func TestAddressOfTheGroupAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		c.MoveAddress("own")
		p := provider(t, c)
		if _, err := converge(t, p, with(service(1, 2), map[string]string{"load-balancer-resource-group": azuretest.OtherGroup, "load-balancer-ipv4": ownAddress}), false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := converge(t, p, with(service(2, 2), map[string]string{"load-balancer-ipv4": ownAddress}), false); !cloud.IsClass(err, cloud.UserError) {
			t.Errorf("it is told %v, want that there is no such address", err)
		}
	})
}

// TestFailedAddressGoes: a Service whose own address has failed can be deleted, and moved to another address: Azure then has no reason to refuse.
func TestFailedAddressGoes(t *testing.T) {
	for name, asks := range map[string]map[string]string{"Name": {"pip-name": "own"}, "Address": {"load-balancer-ipv4": ownAddress}} {
		for _, moves := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				before := c.Snapshot()
				p, spec := provider(t, c), with(service(1, 2), asks)
				if _, err := converge(t, p, spec, false); err != nil {
					t.Fatal(err)
				}
				failAddress(t, c)
				if moves {
					if _, err := convergeWith(t, p, service(1, 2), cloud.Options{Replacement: v1alpha1.ReplacementRecreate}); err != nil {
						t.Errorf("%s: it cannot have another address: %v", name, err)
					}
				}
				if _, err := converge(t, p, spec, true); err != nil {
					t.Errorf("%s, after a move (%t): it cannot be deleted: %v", name, moves, err)
				}
				changeAddress(t, c)
				leavesNothing(t, c, before)
			})
		}
	}
}
