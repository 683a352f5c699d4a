package azure_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

// readsOperations is the permission to learn why what Azure accepted came to nothing.
const readsOperations = "Microsoft.Network/locations/operations/read"

const annotation = "service.beta.kubernetes.io/azure-"

func with(spec cloud.Spec, annotations map[string]string) cloud.Spec {
	spec.Annotations = maps.Clone(spec.Annotations)
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	for name, text := range annotations {
		spec.Annotations[annotation+name] = text
	}
	return spec
}

// leavesNothing compares the cloud with a snapshot of before.
func leavesNothing(t *testing.T, c *azuretest.Cloud, before []string) {
	t.Helper()
	if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// converge makes passes until none has anything left to do, or one has an error that is not Pending, which it returns.
func converge(t *testing.T, p cloud.Provider, spec cloud.Spec, gone bool) (cloud.Outcome, error) {
	t.Helper()
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	if gone {
		desired = nil
	}
	for range 60 {
		out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{})
		if err != nil && !cloud.IsClass(err, cloud.Pending) || err == nil && out.Left.Empty() {
			return out, err
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("it never ends")
	return cloud.Outcome{}, nil
}

// lives are Services that have what a plain one does not, by what.
var lives = map[string]struct {
	reason string
	spec   func() cloud.Spec
	// want are parts of lines of the snapshot while it is there.
	want []string
}{
	"AllPorts": {"one rule for all ports", func() cloud.Spec {
		return with(internal(service(1, 2)), map[string]string{"load-balancer-enable-high-availability-ports": "true"})
	}, []string{`"protocol":"All"`, `"frontendPort":0`}},
	"PrivateLink": {"other networks reach the frontend", func() cloud.Spec {
		return with(linked(service(1, 2)), map[string]string{"pls-name": "link", "pls-auto-approval": "*"})
	}, []string{"link private link service", `"autoApproval":{"subscriptions":["*"]}`, "networkInterfaces/nic-n1/ipConfigurations/ipconfig1"}},
	"PrivateLinkOfSet": {"so do they where machines are a uniform scale set's", func() cloud.Spec {
		spec := with(linked(service(1, 2)), map[string]string{"pls-name": "link"})
		for i := range spec.Nodes {
			spec.Nodes[i].ProviderID = "azure:///subscriptions/" + azuretest.Subscription +
				"/resourceGroups/cluster/providers/Microsoft.Compute/virtualMachineScaleSets/pool/virtualMachines/" + strconv.Itoa(i)
		}
		return spec
	}, []string{"link private link service", "virtualMachineScaleSets/pool/virtualMachines/1/networkInterfaces/nodes/ipConfigurations/ipv4"}},
	"NamedAddress": {"somebody's own address is used, and stays", func() cloud.Spec {
		return with(service(1, 2), map[string]string{"pip-name": "own"})
	}, []string{" of own "}},
	"Prefix": {"an address of the prefix", func() cloud.Spec {
		return with(service(1, 2), map[string]string{"pip-prefix-id": "/subscriptions/" + azuretest.Subscription + "/resourceGroups/cluster/providers/Microsoft.Network/publicIPPrefixes/range"})
	}, []string{"prefix=/subscriptions/"}},
	"Restricted": {"others of the network do not reach it", func() cloud.Spec {
		return with(internal(service(1, 2)), map[string]string{"allowed-ip-ranges": "10.1.0.0/16"})
	}, []string{`"access":"Deny"`, `"sourceAddressPrefix":"10.1.0.0/16"`}},
	"Tags": {"each service tag has a rule of its own", func() cloud.Spec {
		return with(service(1, 2), map[string]string{"allowed-service-tags": "AzureCloud,Storage", "allowed-ip-ranges": "192.0.2.0/24,198.51.100.0/24"})
	}, []string{`"sourceAddressPrefix":"AzureCloud"`, `"sourceAddressPrefix":"Storage"`, `"sourceAddressPrefixes":["192.0.2.0/24","198.51.100.0/24"]`}},
	"Overlapping": {"of ranges that others hold there is no need", func() cloud.Spec {
		return with(service(1, 2), map[string]string{"allowed-ip-ranges": "192.0.2.128/25,198.51.100.0/24,192.0.2.0/26,192.0.2.0/24"})
	}, []string{`"sourceAddressPrefixes":["192.0.2.0/24","198.51.100.0/24"]`}},
	"RestrictedNodePorts": {"others of the network do not reach node ports, but probes do", func() cloud.Spec {
		return with(internal(service(1, 2)), map[string]string{"allowed-ip-ranges": "10.1.0.0/16", "disable-load-balancer-floating-ip": "true"})
	}, []string{`"access":"Deny"`, `"destinationPortRange":"30080"`, `"sourceAddressPrefix":"AzureLoadBalancer"`}},
	"Label": {"a name for the address", func() cloud.Spec {
		return with(service(1, 2), map[string]string{"dns-label-name": "cart", "pip-tags": "team=shop"})
	}, []string{"dns=cart", "team=shop"}},
	"NodePorts": {"traffic comes to the node's own address", func() cloud.Spec {
		return with(service(1, 2), map[string]string{"disable-load-balancer-floating-ip": "true"})
	}, []string{`"backendPort":30080`, `"enableFloatingIP":false`, `"destinationPortRange":"30080"`}},
}

func withPrefix(t *testing.T, c *azuretest.Cloud) {
	t.Helper()
	if err := c.Put("publicIPPrefixes", "range", armnetwork.PublicIPPrefix{Location: new(azuretest.Location)}); err != nil {
		t.Fatal(err)
	}
}

// TestLives: each comes up with what it asks for and an address, has nothing to do after a restart, and leaves nothing.
func TestLives(t *testing.T) {
	actions := map[string]bool{}
	for name, tc := range lives {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{Slow: time.Second})
				withPrefix(t, c)
				if name == "PrivateLinkOfSet" {
					c.AddScaleSet("pool", "172.30.0.11", "172.30.0.12")
				}
				machines(c, 2)
				time.Sleep(time.Second)
				before, spec := c.Snapshot(), tc.spec()
				canBeHad(t, provider(t, c), spec)
				out, err := converge(t, provider(t, c), spec, false)
				if err != nil || len(cloud.Ingresses(out.Observed)) != 1 {
					t.Fatalf("%s: it has %v (%v)", tc.reason, cloud.Ingresses(out.Observed), err)
				}
				all := strings.Join(c.Snapshot(), "\n")
				for _, text := range tc.want {
					if !strings.Contains(all, text) {
						t.Errorf("%s: there is no %s in\n%s", tc.reason, text, all)
					}
				}
				time.Sleep(5 * time.Second)
				if out, err := converge(t, provider(t, c), spec, false); err != nil || len(out.Done) > 0 {
					t.Errorf("after a restart it does %+v (%v)", out.Done, err)
				}
				if _, err := converge(t, provider(t, c), spec, true); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				leavesNothing(t, c, before)
				for action := range c.Actions() {
					actions[action] = true
				}
			})
		})
	}
	actions[readsOperations] = true // TestLateFailure
	want := role(t)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(actions))); diff != "" {
		t.Errorf("docs/azure.md has another role than what was done needs (-docs +done):\n%s", diff)
	}
}

// canBeHad expects that nothing that the Service needs looks as if it could not be had.
func canBeHad(t *testing.T, p *azure.Provider, spec cloud.Spec) {
	t.Helper()
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range desired {
		if err := p.Check(t.Context(), spec.Owner, r, nil); err != nil {
			t.Errorf("%s cannot be had, as it seems: %v", r.Name(), err)
		}
	}
}

// role is the list of actions in docs/azure.md.
func role(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/azure.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	text, _, _ := strings.Cut(rest, "```")
	var definition struct{ Actions []string }
	if err := json.Unmarshal([]byte(text), &definition); err != nil {
		t.Fatalf("reading the role in docs/azure.md: %v", err)
	}
	return definition.Actions
}

// TestDenied: a permission that is missing is named, whatever is tried, and nothing else of it is told.
func TestDenied(t *testing.T) {
	for _, action := range []string{"publicIPAddresses/write", "publicIPAddresses/join/action", "loadBalancers/write", "loadBalancers/read",
		"loadBalancers/backendAddressPools/write", "networkSecurityGroups/write", "virtualNetworks/joinLoadBalancer/action"} {
		synctest.Test(t, func(t *testing.T) {
			c := network(t, azuretest.Options{})
			c.Deny("Microsoft.Network/" + action)
			p := provider(t, c)
			_, err := converge(t, p, service(1, 2), false)
			if err == nil || !strings.Contains(err.Error(), "Microsoft.Network/"+action) || p.Classify(err).Class != cloud.Retry {
				t.Errorf("without %s it says %v", action, err)
			}
		})
	}
}

// TestQuota: what the subscription, a subnet or a balancer has no room for is told as that.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{MaxPublicIPs: 1}) // which somebody has
		p := provider(t, c)
		if _, err := converge(t, p, service(1, 2), false); p.Classify(err).Class != cloud.Quota {
			t.Errorf("without room for an address it says %v", err)
		}
		if _, err := converge(t, p, with(internal(service(2, 2)), map[string]string{"load-balancer-internal-subnet": "full"}), false); p.Classify(err).Class != cloud.Quota {
			t.Errorf("without room in the subnet it says %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := provider(t, network(t, azuretest.Options{}))
		var group []cloud.Spec
		for n := range 2 {
			spec := service(n, 2)
			spec.Owner.Group, spec.Ports = "web", nil
			for i := range 130 {
				port := service(n, 2).Ports[0]
				port.Port = int32(1000*(n+1) + i)
				spec.Ports = append(spec.Ports, port)
			}
			group = append(group, spec)
		}
		if _, err := converge(t, p, group[0], false); err != nil {
			t.Fatal(err)
		}
		if _, err := converge(t, p, group[1], false); p.Classify(err).Class != cloud.Quota {
			t.Errorf("a group of 260 ports on one address says %v", err)
		}
	})
}

// TestOthersAreLeftAlone: of another cluster in the same resource group nothing is changed, nor of what stands where ours
// should be.
func TestOthersAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		other := service(1, 2) // its Service has even the same UID
		other.Owner.ClusterID = "cluster-b"
		if _, err := converge(t, provider(t, c), other, false); err != nil {
			t.Fatal(err)
		}
		before := c.Snapshot()
		for _, gone := range []bool{false, true} {
			if _, err := converge(t, provider(t, c), service(1, 2), gone); err != nil {
				t.Fatal(err)
			}
			for _, line := range before {
				if !slices.Contains(c.Snapshot(), line) {
					t.Errorf("the other cluster's is changed: %s", line)
				}
			}
		}
		leavesNothing(t, c, before)
	})
}

// TestDriftIsRepaired: what somebody changes by hand is seen, and put right.
func TestDriftIsRepaired(t *testing.T) {
	for name, change := range map[string]func(lb *armnetwork.LoadBalancer){
		"Port": func(lb *armnetwork.LoadBalancer) {
			lb.Properties.LoadBalancingRules[0].Properties.IdleTimeoutInMinutes = new(int32(29))
		},
		"Probe": func(lb *armnetwork.LoadBalancer) { lb.Properties.Probes[0].Properties.Port = new(int32(1)) },
		"Rule": func(lb *armnetwork.LoadBalancer) {
			lb.Properties.LoadBalancingRules = lb.Properties.LoadBalancingRules[:1]
		},
		"Target": func(lb *armnetwork.LoadBalancer) {
			lb.Properties.BackendAddressPools[0].Properties.LoadBalancerBackendAddresses = nil
		},
		"Frontend": func(lb *armnetwork.LoadBalancer) {
			for _, f := range lb.Properties.FrontendIPConfigurations {
				if strings.Contains(*f.Name, "000000000001") {
					f.Properties.PublicIPAddress.ID = new("/subscriptions/" + azuretest.Subscription + "/resourceGroups/cluster/providers/Microsoft.Network/publicIPAddresses/own")
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := network(t, azuretest.Options{})
				p := provider(t, c)
				specs := []cloud.Spec{service(1, 2), service(2, 2)}
				workers(t, p, 2, specs, false)
				want := c.Snapshot()
				if err := c.Edit(change); err != nil {
					t.Fatal(err)
				}
				if cmp.Equal(want, c.Snapshot()) {
					t.Fatal("nothing was changed")
				}
				time.Sleep(time.Minute)
				workers(t, p, 2, specs, false)
				if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
					t.Errorf("not put right (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestThrottled: Azure says for how long, or does not.
func TestThrottled(t *testing.T) {
	for after, want := range map[int]time.Duration{0: 0, 7: 7 * time.Second} {
		c := network(t, azuretest.Options{})
		c.Inject(azuretest.Fault{Err: &azuretest.Refusal{Status: http.StatusTooManyRequests, Code: "TooManyRequests", RetryAfter: after}})
		p := provider(t, c)
		_, err := p.Observe(t.Context(), service(1, 1).Owner)
		if e := p.Classify(err); e.Class != cloud.Throttled || e.After != want {
			t.Errorf("throttled for %d seconds it says %s after %v (%v)", after, e.Class, e.After, err)
		}
	}
}
