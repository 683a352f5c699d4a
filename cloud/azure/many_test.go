package azure_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
	"github.com/fairlead/fairlead/cloud/cloudtest"
)

// service is the Spec of the n-th Service with one port, IPv4.
func service(n, nodes int) cloud.Spec {
	spec := cloudtest.Spec(cloud.Capabilities{Families: []cloud.Family{cloud.IPv4}}, nodes)
	spec.Owner.ServiceUID = fmt.Sprintf("7f3e0c1a-0000-4000-8000-%012d", n)
	spec.Owner.Name = fmt.Sprintf("cart%d", n)
	return spec
}

// calls counts requests, but for reads.
type calls struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *calls) hook(call azuretest.Call) error {
	if call.After || !call.Write() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[call.Method+" "+call.Type]++
	if call.Type == "loadBalancers" {
		c.seen[call.Method+" "+call.Name]++
	}
	return nil
}

// workers settles many Services with so many passes at once, as the controller does: each pass is one of Converge, and what a
// Service waits for between two grows.
func workers(t *testing.T, p cloud.Provider, n int, specs []cloud.Spec, gone bool) {
	t.Helper()
	places := make(chan struct{}, n)
	errs := make([]error, len(specs))
	var wg sync.WaitGroup
	for i, spec := range specs {
		wg.Go(func() {
			desired, err := p.Desired(spec)
			if gone {
				desired = nil
			}
			for try := 0; try < 40 && err == nil; try++ {
				places <- struct{}{}
				var out cloud.Outcome
				out, err = cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{})
				<-places
				wait := min(time.Second<<min(try, 4), 15*time.Second)
				if err == nil && out.Left.Empty() {
					return
				}
				errs[i] = fmt.Errorf("still to do: %+v, %w", out.Left, err)
				if err != nil {
					wait = max(wait, p.Classify(err).After)
					err = nil
				}
				time.Sleep(wait)
			}
			if err != nil {
				errs[i] = err
			}
			if errs[i] == nil {
				errs[i] = fmt.Errorf("too many passes")
			}
			t.Errorf("Service %d: %v", i, errs[i])
		})
	}
	wg.Wait()
}

// TestManyServices: 500 Services of one port each come up, follow a node that is added, and go, four passes at a time, on as
// many balancers as their rules need and in few writes of each. Each call takes time, and Azure goes on for seconds after it.
// So many rules for one node are more than Azure's limit, which is off here: what is promised is how few writes it takes.
func TestManyServices(t *testing.T) { manyServices(t, 500, 1, service) }

// TestManyOfFourRules: the same for Services of two ports and two families, with as many rules.
func TestManyOfFourRules(t *testing.T) {
	manyServices(t, 124, 1, func(n, nodes int) cloud.Spec {
		spec := service(n, nodes)
		spec.Families = []cloud.Family{cloud.IPv4, cloud.IPv6}
		second := spec.Ports[0]
		second.Port, second.NodePort = 443, 30443
		spec.Ports = append(spec.Ports, second)
		return spec
	})
}

// TestManyServicesWithinTheLimit: the same 500 with Azure's limit of rules for a node, on two clusters' nodes, which share all else: as many
// sets of nodes as the rules need, and a balancer for each.
func TestManyServicesWithinTheLimit(t *testing.T) { manyServices(t, 500, 2, service) }

// ofCluster is the Spec of a Service of the i-th cluster, which has machines of its own.
func ofCluster(i int, spec cloud.Spec) cloud.Spec {
	if i == 0 {
		return spec
	}
	spec.Owner.ClusterID = fmt.Sprintf("%s-%d", spec.Owner.ClusterID, i)
	spec.Owner.ServiceUID = fmt.Sprintf("%d", i) + spec.Owner.ServiceUID[1:]
	spec.Nodes = slices.Clone(spec.Nodes)
	for n, node := range spec.Nodes {
		addresses := slices.Clone(node.Addresses)
		for a := range addresses {
			addresses[a] = strings.NewReplacer("172.30.0.", fmt.Sprintf("172.30.%d.", i), "172:30::", fmt.Sprintf("172:30:%d::", i)).Replace(addresses[a])
		}
		spec.Nodes[n].Addresses = addresses
	}
	return spec
}

// manyServices has Services come and go that are divided among so many clusters. The limit of rules for a node is on where there are several.
func manyServices(t *testing.T, services, clusters int, service func(n, nodes int) cloud.Spec) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const perBalancer, most = 250, 20
		size := len(service(0, 1).Ports) * len(service(0, 1).Families)
		full := perBalancer / len(service(0, 1).Ports) * len(service(0, 1).Ports)
		options := azuretest.Options{Slow: 3 * time.Second}
		if clusters == 1 {
			options.RulesPerMachine = -1
		}
		c := network(t, options)
		empty := c.Snapshot()
		count := &calls{}
		c.SetHook(func(call azuretest.Call) error {
			if !call.After {
				time.Sleep(50 * time.Millisecond)
			}
			return count.hook(call)
		})
		providers := make([]*azure.Provider, clusters)
		specs, more := make([][]cloud.Spec, clusters), make([][]cloud.Spec, clusters)
		for i := range clusters {
			if providers[i] = provider(t, c); clusters == 1 {
				azure.Unlimited(providers[i])
			}
			for n := range services / clusters {
				specs[i], more[i] = append(specs[i], ofCluster(i, service(n, 3))), append(more[i], ofCluster(i, service(n, 4)))
			}
		}
		each := func(specs [][]cloud.Spec, gone bool) {
			var wg sync.WaitGroup
			for i := range clusters {
				wg.Go(func() { workers(t, providers[i], 4, specs[i], gone) })
			}
			wg.Wait()
		}
		start := time.Now()
		each(specs, false)
		balancers, rules := c.Count("loadBalancers")
		if want := (services*size + full - 1) / full; balancers != want || rules != full {
			t.Errorf("%d balancers, the fullest with %d rules; want %d with %d", balancers, rules, want, full)
		}
		t.Logf("%d Services after %v: %v", services, time.Since(start), count.seen)
		atMost(t, count, "PUT fl-", most)
		if n := count.seen["PUT networkSecurityGroups"]; n > 2*most {
			t.Errorf("%d writes of the security group, want at most %d", n, 2*most)
		}

		count.seen = nil
		for i, p := range providers {
			var changes []cloud.TargetChange
			for n, spec := range more[i] {
				changes = append(changes, targetChanges(t, p, specs[i][n].Owner, spec)...)
			}
			for range 10 {
				// The pool of the second family waits for the first's.
				if p.SyncTargets(t.Context(), changes) == nil {
					break
				}
				time.Sleep(5 * time.Second)
				if _, err := p.Observe(t.Context(), more[i][0].Owner); err != nil {
					t.Fatal(err)
				}
			}
		}
		pools := balancers * len(service(0, 1).Families)
		if diff := cmp.Diff(map[string]int{"PUT loadBalancers/backendAddressPools": pools}, count.seen); diff != "" {
			t.Errorf("a node added to %d Services cost other writes (-want +got):\n%s", services, diff)
		}

		count.seen = nil
		time.Sleep(10 * time.Second)
		each(more, true)
		t.Logf("gone after %v: %v", time.Since(start), count.seen)
		atMost(t, count, "PUT fl-", most)
		time.Sleep(10 * time.Second)
		leavesNothing(t, c, empty)
	})
}

func atMost(t *testing.T, count *calls, start string, most int) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(count.seen)) {
		if n := count.seen[name]; strings.HasPrefix(name, start) && n > most {
			t.Errorf("%d times %s, want at most %d", n, name, most)
		}
	}
}

// targetChanges are what the nodes of the Spec change: one thing for each family.
func targetChanges(t *testing.T, p cloud.Provider, owner cloud.Owner, spec cloud.Spec) []cloud.TargetChange {
	t.Helper()
	desired, err := p.Desired(spec)
	if err != nil {
		t.Fatal(err)
	}
	observed, err := p.Observe(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cloud.Compare(owner, desired, observed, cloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := out.Left.TargetChanges(owner)
	if len(all) != len(spec.Families) || !out.Left.TargetsOnly() {
		t.Fatalf("other nodes make other changes: %+v", out.Left)
	}
	return all
}

// TestCalls is the table of what it costs to change something, in writes.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{})
		p := provider(t, c)
		count := &calls{}
		c.SetHook(count.hook)
		hundred := func(nodes int) []cloud.Spec {
			var specs []cloud.Spec
			for n := range 100 {
				specs = append(specs, service(n, nodes))
			}
			return specs
		}
		table := []struct {
			what string
			do   func()
			// want is how many, or of what many do at once how many at most.
			want map[string]int
		}{
			{"the first Service", func() { workers(t, p, 1, []cloud.Spec{service(0, 3)}, false) },
				map[string]int{"PUT publicIPAddresses": 1, "PUT loadBalancers": 1, "PUT loadBalancers/backendAddressPools": 1, "PUT networkSecurityGroups": 1}},
			{"another Service", func() { workers(t, p, 1, []cloud.Spec{service(1, 3)}, false) },
				map[string]int{"PUT publicIPAddresses": 1, "PUT loadBalancers": 1, "PUT networkSecurityGroups": 1}},
			{"98 more at once", func() { workers(t, p, 4, hundred(3)[2:], false) },
				map[string]int{"PUT publicIPAddresses": 98, "PUT loadBalancers": 3, "PUT networkSecurityGroups": 3}},
			{"one node added with 100 Services", func() {
				var changes []cloud.TargetChange
				for _, spec := range hundred(4) {
					changes = append(changes, targetChanges(t, p, spec.Owner, spec)...)
				}
				if errs := p.SyncTargets(t.Context(), changes); errs != nil {
					t.Error(errs)
				}
			}, map[string]int{"PUT loadBalancers/backendAddressPools": 1}},
			{"one port changed", func() {
				spec := service(1, 4)
				spec.Ports[0].Port = 81
				workers(t, p, 1, []cloud.Spec{spec}, false)
			}, map[string]int{"PUT loadBalancers": 1, "PUT networkSecurityGroups": 1}},
			{"nothing", func() { workers(t, p, 4, hundred(4)[2:], false) }, nil},
			{"one Service deleted", func() { workers(t, p, 1, []cloud.Spec{service(1, 4)}, true) },
				map[string]int{"PUT networkSecurityGroups": 1, "PUT loadBalancers": 1, "DELETE publicIPAddresses": 1}},
			{"99 deleted, the last one with them", func() { workers(t, p, 4, hundred(4), true) },
				map[string]int{"PUT networkSecurityGroups": 3, "PUT loadBalancers": 3, "DELETE loadBalancers": 1, "DELETE publicIPAddresses": 99}},
		}
		for _, row := range table {
			count.seen = nil
			row.do()
			maps.DeleteFunc(count.seen, func(name string, _ int) bool { return strings.Contains(name, " fl-") })
			for name, most := range row.want {
				if most == 3 && count.seen[name] < most {
					count.seen[name] = most
				}
			}
			if len(count.seen) == 0 {
				count.seen = nil
			}
			if diff := cmp.Diff(row.want, count.seen); diff != "" {
				t.Errorf("%s: other writes (-want +got):\n%s", row.what, diff)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestOneDoesNotHoldUpOthers: what Azure refuses of one Service is told to that one; the others that were written with it come
// up.
func TestOneDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := network(t, azuretest.Options{Slow: 2 * time.Second})
		p := provider(t, c)
		var good []cloud.Spec
		for n := range 5 {
			good = append(good, internal(service(n, 2)))
		}
		bad := internal(service(9, 2))
		bad.Annotations["service.beta.kubernetes.io/azure-load-balancer-internal-subnet"] = "nowhere"
		var wg sync.WaitGroup
		wg.Go(func() { workers(t, p, 4, good, false) })
		var told error
		wg.Go(func() {
			desired, err := p.Desired(bad)
			if err != nil {
				t.Error(err)
			}
			for range 40 {
				if _, err := cloud.Converge(t.Context(), p, bad.Owner, desired, cloud.Options{}); err != nil && !cloud.IsClass(err, cloud.Pending) {
					told = err
					return
				}
				time.Sleep(time.Second)
			}
		})
		wg.Wait()
		if told == nil || !strings.Contains(told.Error(), "nowhere") || !cloud.IsClass(told, cloud.Conflict) {
			t.Errorf("the Service with a subnet that is not there is told %v", told)
		}
		if _, rules := c.Count("loadBalancers"); rules != len(good) {
			t.Errorf("%d rules, want those of the %d others", rules, len(good))
		}
	})
}

// TestLateFailure: what Azure accepts, and cannot do in the end, is told, and written again.
func TestLateFailure(t *testing.T) {
	for typ, name := range map[string]string{"loadBalancers": "Rules/ipv4", "publicIPAddresses": "", "networkSecurityGroups": ""} {
		t.Run(typ, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reference, c := network(t, azuretest.Options{Slow: 2 * time.Second}), network(t, azuretest.Options{Slow: 2 * time.Second})
				workers(t, provider(t, reference), 1, []cloud.Spec{service(1, 2)}, false)
				c.Inject(azuretest.Fault{Method: http.MethodPut, Kind: typ, Late: true,
					Err: &azuretest.Refusal{Status: http.StatusConflict, Code: "QuotaExceeded", Message: "there is no room in the region"}})
				p := provider(t, c)
				spec := service(1, 2)
				desired, err := p.Desired(spec)
				if err != nil {
					t.Fatal(err)
				}
				var told error
				for range 30 {
					if _, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{}); cloud.IsClass(err, cloud.Quota) {
						told = err
					}
					time.Sleep(time.Second)
				}
				if name != "" && (told == nil || !strings.Contains(told.Error(), name) || !strings.Contains(told.Error(), "no room")) {
					t.Errorf("nobody was told of the failure but %v", told)
				}
				if name != "" && !c.Actions()[readsOperations] {
					t.Error("nobody asked why")
				}
				if diff := cmp.Diff(reference.Snapshot(), c.Snapshot()); diff != "" {
					t.Errorf("it ends up different (-want +got):\n%s", diff)
				}
			})
		})
	}
}
