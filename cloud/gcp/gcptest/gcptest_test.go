package gcptest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

func sdk(t *testing.T, c *gcptest.Cloud) *compute.Service {
	t.Helper()
	svc, err := compute.NewService(t.Context(), option.WithHTTPClient(c.Client()))
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

const (
	project, region = gcptest.Project, gcptest.Region
	prefix          = "projects/" + project + "/regions/" + region + "/"
)

// balancer makes what a rule needs.
func balancer(t *testing.T, svc *compute.Service, scheme, protocol string) {
	t.Helper()
	_, err := svc.RegionHealthChecks.Insert(project, region, &compute.HealthCheck{Name: "hc", Type: "TCP", TcpHealthCheck: &compute.TCPHealthCheck{Port: 80}}).Do()
	if err == nil {
		_, err = svc.RegionBackendServices.Insert(project, region, &compute.BackendService{Name: "bs", LoadBalancingScheme: scheme, Protocol: protocol,
			HealthChecks: []string{prefix + "healthChecks/hc"}}).Do()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// refusedAs expects a refusal with a status, a reason and a part of the message.
func refusedAs(t *testing.T, what string, err error, status int, reason, part string) {
	t.Helper()
	e, ok := errors.AsType[*googleapi.Error](err)
	if !ok || e.Code != status || len(e.Errors) != 1 || e.Errors[0].Reason != reason || !strings.Contains(e.Message, part) {
		t.Errorf("%s gives %v, want %d %s with %q", what, err, status, reason, part)
	}
}

func rule(edit func(*compute.ForwardingRule)) *compute.ForwardingRule {
	r := &compute.ForwardingRule{Name: "fr", LoadBalancingScheme: "EXTERNAL", IPProtocol: "TCP", Ports: []string{"80"}, BackendService: prefix + "backendServices/bs"}
	if edit != nil {
		edit(r)
	}
	return r
}

// TestRulesThatAreRefused: what the service refuses is not made.
func TestRulesThatAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*compute.ForwardingRule)
		part string
	}{
		"Name":        {func(r *compute.ForwardingRule) { r.Name = "A" }, "'resource.name'"},
		"LongName":    {func(r *compute.ForwardingRule) { r.Name = strings.Repeat("a", 64) }, "'resource.name'"},
		"SixPorts":    {func(r *compute.ForwardingRule) { r.Ports = []string{"1", "2", "3", "4", "5", "6"} }, "At most 5 ports"},
		"NoPorts":     {func(r *compute.ForwardingRule) { r.Ports = nil }, "Exactly one of ports"},
		"PortsAndAll": {func(r *compute.ForwardingRule) { r.AllPorts = true }, "Exactly one of ports"},
		"Protocol":    {func(r *compute.ForwardingRule) { r.IPProtocol = "UDP" }, "has the protocol TCP"},
		"Scheme": {func(r *compute.ForwardingRule) {
			r.LoadBalancingScheme, r.Network, r.Subnetwork = "INTERNAL", "projects/"+project+"/global/networks/default", prefix+"subnetworks/default"
		}, "'resource.loadBalancingScheme'"},
		"GlobalAccess": {func(r *compute.ForwardingRule) { r.AllowGlobalAccess = true }, "Internal only"},
		"Address":      {func(r *compute.ForwardingRule) { r.IPAddress = "203.0.113.77" }, "not reserved"},
		"Version":      {func(r *compute.ForwardingRule) { r.IpVersion, r.IPAddress = "IPV4", "203.0.113.200" }, "Both IP Version and IP Address"},
		"NoRange": {func(r *compute.ForwardingRule) {
			r.IpVersion, r.Subnetwork, r.IPAddress = "IPV6", prefix+"subnetworks/default", "2001:db8:1:1::"
		}, "/96 range"},
		"StandardSix": {func(r *compute.ForwardingRule) { r.IpVersion, r.NetworkTier = "IPV6", "STANDARD" }, "premium"},
		"Label":       {func(r *compute.ForwardingRule) { r.Labels = map[string]string{"A": "b"} }, "'resource.labels'"},
		"Description": {func(r *compute.ForwardingRule) { r.Description = strings.Repeat("x", 2049) }, "'resource.description'"},
	} {
		c := gcptest.New(gcptest.Options{})
		svc := sdk(t, c)
		balancer(t, svc, "EXTERNAL", "TCP")
		before := len(c.Snapshot())
		_, err := svc.ForwardingRules.Insert(project, region, rule(tc.edit)).Do()
		refusedAs(t, name, err, 400, "invalid", tc.part)
		if len(c.Snapshot()) != before {
			t.Errorf("%s: something was made", name)
		}
	}
}

// TestStandardErrors: the errors of all collections.
func TestStandardErrors(t *testing.T) {
	c := gcptest.New(gcptest.Options{Quotas: map[string]int{"FORWARDING_RULES": 1}})
	svc := sdk(t, c)
	balancer(t, svc, "EXTERNAL", "UNSPECIFIED")
	if _, err := svc.ForwardingRules.Insert(project, region, rule(nil)).Do(); err != nil {
		t.Fatal(err)
	}
	_, err := svc.ForwardingRules.Insert(project, region, rule(nil)).Do()
	refusedAs(t, "a name twice", err, 409, "alreadyExists", "already exists")
	_, err = svc.ForwardingRules.Insert(project, region, rule(func(r *compute.ForwardingRule) { r.Name = "fr2" })).Do()
	refusedAs(t, "one too many", err, 403, "quotaExceeded", "FORWARDING_RULES")
	_, err = svc.RegionBackendServices.Delete(project, region, "bs").Do()
	refusedAs(t, "deleting what is used", err, 400, "resourceInUseByAnotherResource", "forwardingRules/fr")
	_, err = svc.RegionBackendServices.Get(project, region, "gone").Do()
	refusedAs(t, "asking for nothing", err, 404, "notFound", "backendServices/gone")
	_, err = svc.RegionBackendServices.Patch(project, region, "bs", &compute.BackendService{SessionAffinity: "CLIENT_IP", Fingerprint: "b2xk"}).Do()
	refusedAs(t, "an old fingerprint", err, 412, "conditionNotMet", "fingerprint")
	_, err = svc.RegionBackendServices.Patch(project, region, "bs", &compute.BackendService{SessionAffinity: "CLIENT_IP"}).Do()
	refusedAs(t, "no fingerprint", err, 412, "conditionNotMet", "fingerprint")
	c.AddInstanceGroup(region+"-a", "ig")
	if _, err = svc.NetworkEndpointGroups.Insert(project, region+"-a", &compute.NetworkEndpointGroup{Name: "neg", NetworkEndpointType: "GCE_VM_IP",
		Network: "projects/" + project + "/global/networks/default", Subnetwork: prefix + "subnetworks/default"}).Do(); err != nil {
		t.Fatal(err)
	}
	bs, err := svc.RegionBackendServices.Get(project, region, "bs").Do()
	if err != nil {
		t.Fatal(err)
	}
	zone := "projects/" + project + "/zones/" + region + "-a/"
	_, err = svc.RegionBackendServices.Patch(project, region, "bs", &compute.BackendService{Fingerprint: bs.Fingerprint,
		Backends: []*compute.Backend{{Group: zone + "instanceGroups/ig"}, {Group: zone + "networkEndpointGroups/neg"}}}).Do()
	refusedAs(t, "groups of both kinds", err, 400, "invalid", "cannot be mixed")
	_, err = svc.ForwardingRules.SetLabels(project, region, "fr", &compute.RegionSetLabelsRequest{Labels: map[string]string{"a": "b"}, LabelFingerprint: "b2xk"}).Do()
	refusedAs(t, "an old label fingerprint", err, 412, "conditionNotMet", "fingerprint")
	_, err = svc.ForwardingRules.Patch(project, region, "fr", &compute.ForwardingRule{IPProtocol: "UDP"}).Do()
	refusedAs(t, "a protocol that changes", err, 400, "invalid", "cannot be changed")
	_, err = svc.TargetPools.List(project, region).Do()
	refusedAs(t, "a collection that is not there", err, 404, "notFound", "")
	_, err = svc.ForwardingRules.List(project, region).Filter("name = fr OR name = x").Do()
	refusedAs(t, "a filter that is not known", err, 400, "invalid", "filter")
	request, _ := http.NewRequest(http.MethodPost, "https://compute.googleapis.com"+gcptest.BasePath+"projects/"+project+"/global/firewalls", strings.NewReader(`{"name":"a","colour":"red"}`))
	response, err := c.Client().Do(request)
	if err != nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("a field that the schema does not have gives %v (%v)", response, err)
	}
	_ = response.Body.Close()
	_, err = svc.NetworkEndpointGroups.AttachNetworkEndpoints(project, region+"-a", "gone", &compute.NetworkEndpointGroupsAttachEndpointsRequest{NetworkEndpoints: []*compute.NetworkEndpoint{{Instance: "n1"}}}).Do()
	refusedAs(t, "attaching to nothing", err, 404, "notFound", "networkEndpointGroups/gone")
}

// TestPortsOfOneAddress: two rules of one address cannot have a port in common; a rule for every protocol stands back.
func TestPortsOfOneAddress(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	svc := sdk(t, c)
	balancer(t, svc, "EXTERNAL", "UNSPECIFIED")
	if _, err := svc.Addresses.Insert(project, region, &compute.Address{Name: "a"}).Do(); err != nil {
		t.Fatal(err)
	}
	at := func(name, protocol string, ports ...string) error {
		_, err := svc.ForwardingRules.Insert(project, region, rule(func(r *compute.ForwardingRule) {
			r.Name, r.IPProtocol, r.Ports, r.AllPorts, r.IPAddress = name, protocol, ports, len(ports) == 0, prefix+"addresses/a"
		})).Do()
		return err
	}
	for _, err := range []error{at("one", "TCP", "80"), at("two", "TCP", "81", "82"), at("three", "UDP", "80"), at("any", "L3_DEFAULT")} {
		if err != nil {
			t.Error(err)
		}
	}
	refusedAs(t, "a port twice", at("four", "TCP", "82"), 400, "invalid", "in-use")
	refusedAs(t, "all ports beside one", at("five", "UDP"), 400, "invalid", "in-use")
	_, err := svc.Addresses.Delete(project, region, "a").Do()
	refusedAs(t, "deleting an address in use", err, 400, "resourceInUseByAnotherResource", "forwardingRules/any")
}

// TestOperations: what is made is hidden, then not ready, then there; or gone, where the operation fails.
func TestOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Slow: 10 * time.Second})
		svc := sdk(t, c)
		insert := func(name string) *compute.Operation {
			op, err := svc.Addresses.Insert(project, region, &compute.Address{Name: name}).Do()
			if err != nil || op.Status != "PENDING" {
				t.Fatalf("inserting gives %+v (%v)", op, err)
			}
			return op
		}
		insert("a")
		_, err := svc.Addresses.Get(project, region, "a").Do()
		refusedAs(t, "at once", err, 404, "notFound", "")
		_, err = svc.Addresses.Insert(project, region, &compute.Address{Name: "a"}).Do()
		refusedAs(t, "the name again", err, 409, "alreadyExists", "")
		time.Sleep(6 * time.Second)
		if _, err := svc.Addresses.Get(project, region, "a").Do(); err != nil {
			t.Error(err)
		}
		_, err = svc.Addresses.Delete(project, region, "a").Do()
		refusedAs(t, "before it is ready", err, 400, "resourceNotReady", "")
		time.Sleep(5 * time.Second)
		c.Inject(gcptest.Fault{Late: true, Err: &gcptest.Refusal{Status: 403, Reason: "QUOTA_EXCEEDED", Message: "no room"}})
		op := insert("b")
		time.Sleep(6 * time.Second)
		list, err := svc.GlobalOperations.AggregatedList(project).Filter(`status != "DONE"`).Do()
		if scope := list.Items["regions/"+region]; err != nil || len(scope.Operations) != 1 || scope.Operations[0].Name != op.Name {
			t.Errorf("unfinished are %+v (%v)", list.Items, err)
		}
		time.Sleep(5 * time.Second)
		op, err = svc.RegionOperations.Get(project, region, op.Name).Do()
		if err != nil || op.Status != "DONE" || op.Error == nil || op.Error.Errors[0].Code != "QUOTA_EXCEEDED" || op.HttpErrorStatusCode != 403 {
			t.Errorf("the operation ended as %+v (%v)", op, err)
		}
		_, err = svc.Addresses.Get(project, region, "b").Do()
		refusedAs(t, "what failed", err, 404, "notFound", "")
	})
}

// TestRates: what exceeds the account's rate is refused, and goes when there is room again.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := gcptest.New(gcptest.Options{Limits: cloud.Limits{Reads: cloud.Limit{PerSecond: 1, Burst: 2}}, RetryAfter: 3 * time.Second})
		svc := sdk(t, c)
		list := func() error {
			_, err := svc.Addresses.List(project, region).Do()
			return err
		}
		for _, err := range []error{list(), list()} {
			if err != nil {
				t.Error(err)
			}
		}
		err := list()
		refusedAs(t, "the third", err, 403, "rateLimitExceeded", "Quota exceeded")
		if e, _ := errors.AsType[*googleapi.Error](err); e.Header.Get("Retry-After") != "3" {
			t.Errorf("it asks to wait %q", e.Header.Get("Retry-After"))
		}
		time.Sleep(time.Second)
		if err := list(); err != nil {
			t.Error(err)
		}
	})
}

// TestPages: a list that is longer than a page comes in several.
func TestPages(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	svc := sdk(t, c)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := svc.Addresses.Insert(project, region, &compute.Address{Name: name}).Do(); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages := 0
	err := svc.Addresses.List(project, region).MaxResults(2).Pages(t.Context(), func(page *compute.AddressList) error {
		pages++
		for _, a := range page.Items {
			names = append(names, a.Name)
		}
		return nil
	})
	if err != nil || pages != 2 || strings.Join(names, "") != "abc" {
		t.Errorf("%d pages of %v (%v)", pages, names, err)
	}
}
