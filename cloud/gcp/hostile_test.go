package gcp_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
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

// TestOperationsFailAtOnce: an operation can have failed by the time it is answered.
func TestOperationsFailAtOnce(t *testing.T) {
	for _, method := range []string{"addresses", "regionHealthChecks", "networkEndpointGroups", "regionBackendServices", "forwardingRules", "firewalls"} {
		c := gcptest.New(gcptest.Options{})
		c.Inject(gcptest.Fault{Method: "compute." + method + ".insert", Late: true,
			Err: &gcptest.Refusal{Status: http.StatusForbidden, Reason: "QUOTA_EXCEEDED", Message: "Quota 'THINGS' exceeded."}})
		p, spec := c.Provider(), service(0, 2)
		if _, err := try(t, p, spec.Owner, spec); !cloud.IsClass(err, cloud.Quota) {
			t.Errorf("%s: the error is %v", method, err)
		}
		pass(t, p, spec.Owner, spec)
	}
}

// TestNamedAndNotThere: what somebody names and is not there is told as a mistake, not waited for, and comes to be used once it is there; what
// is gone meanwhile of the balancer's own is looked for again.
func TestNamedAndNotThere(t *testing.T) {
	const kind, subnet = "networking.gke.io/load-balancer-type", "networking.gke.io/load-balancer-subnet"
	for name, tc := range map[string]struct {
		annotations map[string]string
		parameters  string
		families    []cloud.Family
	}{
		"Internal": {map[string]string{kind: "Internal", subnet: "other"}, "", []cloud.Family{cloud.IPv4}},
		"IPv6":     {map[string]string{subnet: "other"}, "", []cloud.Family{cloud.IPv6}},
		"Group":    {nil, `{"instanceGroups":["test-west1-a/other"]}`, []cloud.Family{cloud.IPv4}},
	} {
		c := gcptest.New(gcptest.Options{})
		p, plain, spec := c.Provider(), service(0, 2), service(0, 2)
		spec.Annotations, spec.Families = tc.annotations, tc.families
		if tc.parameters != "" {
			spec.Parameters = []byte(tc.parameters)
			pass(t, p, plain.Owner, plain) // it is named for one that is there
		}
		if _, err := try(t, p, spec.Owner, spec); !cloud.IsClass(err, cloud.UserError) || !strings.Contains(err.Error(), "/other'") {
			t.Errorf("%s: the error is %v", name, err)
		}
		if tc.parameters != "" {
			c.AddInstanceGroup("test-west1-a", "other")
			pass(t, p, spec.Owner, spec)
		}
		pass(t, p, spec.Owner, nil)
		if left := c.Snapshot(); len(left) > 0 {
			t.Errorf("%s: left: %q", name, left)
		}
	}
	c := gcptest.New(gcptest.Options{})
	c.SetHook(func(call cloudtest.Call) error {
		if strings.HasSuffix(call.Name, "/forwardingRules") && call.Write || strings.HasPrefix(call.Name, "GET ") && strings.Contains(call.Name, "/backendServices/") {
			return &gcptest.Refusal{Status: http.StatusNotFound, Reason: "notFound", Message: "The backend service was not found"}
		}
		return nil
	})
	spec := service(0, 2)
	if _, err := try(t, c.Provider(), spec.Owner, spec); !cloud.IsClass(err, cloud.NotFound) {
		t.Errorf("without the backend service the error is %v", err)
	}
}

// TestInUseForAWhile: what the API still takes for being in use is deleted later, and nobody is alarmed.
func TestInUseForAWhile(t *testing.T) {
	for _, method := range []string{"addresses", "regionHealthChecks", "networkEndpointGroups", "regionBackendServices", "forwardingRules", "firewalls"} {
		synctest.Test(t, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			p, spec := c.Provider(), service(0, 2)
			pass(t, p, spec.Owner, spec)
			c.Inject(gcptest.Fault{Method: "compute." + method + ".delete", Times: 5,
				Err: &gcptest.Refusal{Status: http.StatusBadRequest, Reason: "resourceInUseByAnotherResource", Message: "It is already being used by something"}})
			if told := settle(t, p, spec.Owner, nil); len(told) > 0 {
				t.Errorf("%s: the user is told %v", method, told)
			}
			if left := c.Snapshot(); len(left) > 0 {
				t.Errorf("%s: left: %q", method, left)
			}
		})
	}
}

// TestUnreachable: what a list leaves out, since a zone or region of ours cannot be reached, is neither taken for gone nor made anew, nor is
// anything else changed; what others cannot reach is no matter.
func TestUnreachable(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	pass(t, p, spec.Owner, spec)
	before := c.Snapshot()
	for _, scope := range []string{"zones/" + gcptest.Zone(1), "regions/" + gcptest.Region, "global"} {
		c.Unreachable(scope)
		for name, asked := range map[string]*cloud.Spec{"gone": nil, "there": spec, "more": service(0, 4)} {
			out, err := try(t, p, spec.Owner, asked)
			if !cloud.IsClass(err, cloud.Retry) || len(out.Done) > 0 {
				t.Errorf("without %s, and the Service %s, it does %+v (%v)", scope, name, out.Done, err)
			}
		}
		if _, err := p.List(t.Context(), spec.Owner.ClusterID); err == nil || p.Classify(err).Class != cloud.Retry {
			t.Errorf("without %s it lists all (%v)", scope, err)
		}
		c.Unreachable("zones/other-east1-b", "regions/other-east1")
		pass(t, p, spec.Owner, spec)
	}
	if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
		t.Errorf("something was changed (-before +after):\n%s", diff)
	}
	c.Unreachable()
	pass(t, p, spec.Owner, nil)
	if left := c.Snapshot(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestNodesWhileUnreachable: while a zone cannot be reached, nodes of the others come and go.
func TestNodesWhileUnreachable(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	out := pass(t, p, spec.Owner, spec)
	c.Unreachable("zones/" + gcptest.Zone(1))
	more, err := p.Desired(*service(0, 6))
	if err != nil {
		t.Fatal(err)
	}
	var changes []cloud.TargetChange
	for _, r := range out.Observed {
		for _, want := range more {
			if r.Kind == gcp.KindEndpointGroup && want.Name() == r.Name() {
				r.Targets = want.Targets[1:]
				changes = append(changes, cloud.TargetChange{Owner: spec.Owner, Resource: r, Add: want.Targets[1:], Remove: want.Targets[:1]})
			}
		}
	}
	errs := p.SyncTargets(t.Context(), changes)
	for i, change := range changes {
		reached, all := !strings.Contains(change.Resource.ID, gcptest.Zone(1)), fmt.Sprint(groups(c))
		if (errs[i] == nil) != reached || strings.Contains(all, change.Add[0].ID) != reached || strings.Contains(all, change.Remove[0].ID) == reached {
			t.Errorf("of the group %s it is told %v, and the groups are %s", change.Resource.ID, errs[i], all)
		}
	}
	if len(changes) != 2 {
		t.Errorf("there are %d groups", len(changes))
	}
}

// TestPartialLists: each way in which a list says that it is not whole counts, if what it lacks may be ours.
func TestPartialLists(t *testing.T) {
	zone, path := gcptest.Zone(0), "/aggregated/networkEndpointGroups"
	for name, tc := range map[string]struct {
		path, answer string
		fails        bool
	}{
		"Warning":      {path, `{"warning":{"code":"PARTIAL_SUCCESS"}}`, true},
		"Harmless":     {path, `{"warning":{"code":"NO_RESULTS_ON_PAGE"}}`, false},
		"Ours":         {path, `{"warning":{"code":"PARTIAL_SUCCESS"},"unreachables":["zones/else-b","https://x/zones/` + zone + `"]}`, true},
		"Others":       {path, `{"warning":{"code":"PARTIAL_SUCCESS"},"unreachables":["zones/else-b"]}`, false},
		"OfRegion":     {"/forwardingRules", `{"warning":{"code":"UNREACHABLE"}}`, true},
		"OfFirewalls":  {"/firewalls", `{"warning":{"code":"LIST_OVERHEAD_QUOTA_EXCEED"}}`, true},
		"OfOperations": {"/aggregated/operations", `{"items":{"global":{"warning":{"code":"UNREACHABLE"}}}}`, true},
		"OfEndpoints":  {"/listNetworkEndpoints", `{"warning":{"code":"UNREACHABLE"}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, spec := gcptest.New(gcptest.Options{}), service(0, 2)
			pass(t, c.Provider(), spec.Owner, spec)
			client := &http.Client{Transport: answering{c.Client().Transport, tc.path, tc.answer}}
			p, err := gcp.NewProvider(t.Context(), gcptest.Config(), client)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Observe(t.Context(), spec.Owner)
			if tc.fails != (err != nil) || err != nil && p.Classify(err).Class != cloud.Retry {
				t.Errorf("observing says %v", err)
			}
		})
	}
}

// TestUnreachableManagers: where it is not known whether a managed instance group makes its machines anew by a health check, nothing is offered that
// could take it.
func TestUnreachableManagers(t *testing.T) {
	c, spec := gcptest.New(gcptest.Options{}), service(0, 2)
	if _, _, err := c.PlantServiceController(spec); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: answering{c.Client().Transport, "/aggregated/instanceGroupManagers", `{"items":{"zones/` + gcptest.Zone(1) + `":{"warning":{"code":"UNREACHABLE"}}}}`}}
	p, err := gcp.NewProvider(t.Context(), gcptest.Config(), client)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := p.Adoptable(t.Context(), spec.Owner, ""); err == nil || p.Classify(err).Class != cloud.Retry {
		t.Errorf("offered are %+v (%v)", found, err)
	}
}

// answering gives one answer to all requests whose path ends so.
type answering struct {
	next         http.RoundTripper
	path, answer string
}

func (a answering) RoundTrip(request *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(request.URL.Path, a.path) {
		return a.next.RoundTrip(request)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(a.answer)), Header: http.Header{}, Request: request}, nil
}

// TestPortsComeAndGo changes the ports of a Service, from any number to any other and to other ones, in place: an internal
// address takes ten rules and no more, in the middle of a change, too.
func TestPortsComeAndGo(t *testing.T) {
	for _, scheme := range []string{"External", "Internal"} {
		c := gcptest.New(gcptest.Options{})
		p := c.Provider()
		var address []cloud.Ingress
		first := int32(1000)
		for _, n := range []int{1, 5, 5, 6, 5, 10, 10, 11, 10, 12, 1, 100, 2} {
			spec := service(0, 2)
			spec.Annotations = map[string]string{"networking.gke.io/load-balancer-type": scheme}
			spec.Ports = nil
			for i := range n {
				protocol := []string{"TCP", "UDP"}[i%2]
				first++ // none of those before
				spec.Ports = append(spec.Ports, cloud.Port{Protocol: protocol, Port: first, NodePort: 30000 + first, HealthCheck: service(0, 2).Ports[0].HealthCheck})
			}
			var out cloud.Outcome
			var err error
			for range 3 {
				if out, err = try(t, p, spec.Owner, spec); err != nil || out.Left.Empty() {
					break
				}
			}
			if err != nil || !out.Left.Empty() {
				t.Fatalf("%s, %d ports: left %+v (%v)", scheme, n, out.Left, err)
			}
			now := cloud.Ingresses(out.Observed)
			if address == nil {
				address = now
			}
			if len(now) != 1 || now[0] != address[0] {
				t.Errorf("%s, %d ports: clients connect to %v, before to %v", scheme, n, now, address)
			}
		}
		pass(t, p, service(0, 2).Owner, nil)
		if left := c.Snapshot(); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// TestNodesOfOthers: machines of another project or region, and what is no machine of Google's, are not sent to.
func TestNodesOfOthers(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	spec := service(0, 2)
	zone := gcptest.Zone(0)
	for i, id := range []string{"gce://other/" + zone + "/n3", "gce://" + gcptest.Project + "/elsewhere1-a/n3", "aws:///" + zone + "/i-0", "",
		"gce://" + gcptest.Project + "/" + zone + "/n3/x", "gce://" + gcptest.Project + "/" + zone + "/n3?x=", "gce://" + gcptest.Project + "/" + zone + "/../n3"} {
		spec.Nodes = append(spec.Nodes, cloud.Node{Name: fmt.Sprint("odd", i), ProviderID: id})
	}
	pass(t, c.Provider(), spec.Owner, spec)
	want := []string{" [n1]", " [n2]"}
	for i, line := range groups(c) {
		if i >= len(want) || !strings.HasSuffix(line, want[i]) {
			t.Errorf("there is the group %s", line)
		}
	}
}

// TestFirewallsOfOthers: where the right to firewall rules is missing, as in a shared network, the user reads what to do.
func TestFirewallsOfOthers(t *testing.T) {
	for _, permission := range []string{"compute.firewalls.list", "compute.firewalls.create", "compute.networks.updatePolicy"} {
		c := gcptest.New(gcptest.Options{})
		c.Deny(permission)
		spec := service(0, 2)
		_, err := try(t, c.Provider(), spec.Owner, spec)
		for _, part := range []string{permission, "in project " + gcptest.Project, "firewalls: None"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("without %s the error does not say %q: %v", permission, part, err)
			}
		}
	}
}

// TestStrangeIDs: what a tenant writes as the id of a balancer to adopt reaches no other thing.
func TestStrangeIDs(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, victim := c.Provider(), service(1, 2)
	id, _, err := c.PlantWithoutAddress(victim)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Snapshot()
	c.SetHook(func(call cloudtest.Call) error {
		if call.Write {
			t.Errorf("%s was sent", call.Name)
		}
		return nil
	})
	spec := service(0, 2)
	desired, err := p.Desired(*spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, strange := range []string{id, "../" + id, "projects/other/regions/x/backendServices/" + id, id + "?alt=json", id + "/", " " + id, strings.Repeat("a", 5000), "a\nb", "%2e%2e"} {
		if out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: strange}); err == nil && len(out.Left.Blocked) == 0 {
			t.Errorf("%.60q is adopted: %+v", strange, out)
		}
	}
	if after := c.Snapshot(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("it was changed: %q, was %q", after, before)
	}
}

// TestConflicts has somebody else write between each read and what is made of it, once: it is told, and done again.
func TestConflicts(t *testing.T) {
	for _, method := range []string{"compute.regionBackendServices.patch", "compute.addresses.setLabels", "compute.forwardingRules.setLabels"} {
		synctest.Test(t, func(t *testing.T) {
			c := gcptest.New(gcptest.Options{})
			p, spec := c.Provider(), service(0, 2)
			id, err := c.Harness().PlantBalancer(cloudtest.Plant{Spec: *service(1, 2)})
			if err != nil {
				t.Fatal(err)
			}
			c.Inject(gcptest.Fault{Method: method, Err: &gcptest.Refusal{Status: http.StatusPreconditionFailed, Reason: "conditionNotMet", Message: "Fingerprint"}})
			desired, err := p.Desired(*spec)
			if err != nil {
				t.Fatal(err)
			}
			conflicts := 0
			for range 10 {
				out, err := cloud.Converge(t.Context(), p, spec.Owner, desired, cloud.Options{Adopt: id, Granted: true})
				if cloud.IsClass(err, cloud.Conflict) {
					conflicts++
				} else if err == nil && out.Left.Empty() {
					break
				}
				time.Sleep(time.Second)
			}
			if conflicts != 1 {
				t.Errorf("%s: %d conflicts", method, conflicts)
			}
			pass(t, p, spec.Owner, spec)
		})
	}
}

// TestOthersMarkIsKept: what has got another owner's mark since it was observed is neither changed nor let go.
func TestOthersMarkIsKept(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	p, spec := c.Provider(), service(0, 2)
	out := pass(t, p, spec.Owner, spec)
	for _, r := range out.Observed {
		path, patch := "", `{"labels":{"fairlead-cluster":"cluster-b","fairlead-service-uid":"x"}}`
		switch r.Kind {
		case gcp.KindEndpointGroup:
			continue // nothing is ever written on it
		case gcp.KindAddress, gcp.KindForwardingRule:
			path = "/" + r.ID
		case gcp.KindBackendService:
			path, patch = "/backendServices/"+r.ID, `{"description":"fairlead.dev/owner=cluster-b/x"}`
		default:
			path, patch = "/"+r.ID, `{"description":"fairlead.dev/owner=cluster-b/x"}`
		}
		if err := c.Patch(path, patch); err != nil {
			t.Fatal(err)
		}
		before := c.Snapshot()
		changed, released := r, r
		changed.Attributes = maps.Clone(r.Attributes)
		changed.Attributes["globalAccess"], changed.Attributes["timing"], changed.Attributes["sources"] = "true", "9,1,1,3", "192.0.2.0/24"
		released.Owners = nil
		if err := p.Update(t.Context(), spec.Owner, r, changed); !cloud.IsClass(err, cloud.Conflict) {
			t.Errorf("changing %s gives %v, want a Conflict", r.Name(), err)
		}
		if err := p.Update(t.Context(), spec.Owner, r, released); err != nil {
			t.Errorf("letting go of %s gives %v", r.Name(), err)
		}
		if diff := cmp.Diff(before, c.Snapshot()); diff != "" {
			t.Errorf("%s was changed (-before +after):\n%s", r.Name(), diff)
		}
	}
}

// TestMarkedTwice: what carries its mark in its description and in labels is found by both, and is one thing.
func TestMarkedTwice(t *testing.T) {
	c, spec := gcptest.New(gcptest.Options{}), service(0, 2)
	p := c.Provider()
	want := len(pass(t, p, spec.Owner, spec).Observed)
	if err := c.Patch("/forwardingRules/", `{"labels":{"fairlead-service-uid":"`+spec.Owner.ServiceUID+`"}}`); err != nil {
		t.Fatal(err)
	}
	if observed, err := p.Observe(t.Context(), spec.Owner); err != nil || len(observed) != want {
		t.Errorf("observed are %+v (%v), want %d", observed, err, want)
	}
}

// TestTagsAreTakenOff: without tags in the configuration a firewall rule is for all machines, whatever somebody limits it to.
func TestTagsAreTakenOff(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	config := gcptest.Config()
	config.NodeTags = nil
	p, err := gcp.NewProvider(t.Context(), config, c.Client())
	if err != nil {
		t.Fatal(err)
	}
	spec := service(0, 2)
	pass(t, p, spec.Owner, spec)
	want := c.Snapshot()
	if err := c.Patch("-nodes-ipv4-", `{"targetTags":["a"]}`); err != nil {
		t.Fatal(err)
	}
	pass(t, p, spec.Owner, spec)
	if diff := cmp.Diff(want, c.Snapshot()); diff != "" {
		t.Errorf("not put right (-want +got):\n%s", diff)
	}
}
