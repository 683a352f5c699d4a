package gcptest_test

import (
	"testing"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestPoliciesOfSchemes: what the service takes for one scheme it refuses for the other.
func TestPoliciesOfSchemes(t *testing.T) {
	for scheme, policies := range map[string]map[string]bool{
		"EXTERNAL":         {"": true, "MAGLEV": true, "WEIGHTED_MAGLEV": true, "WEIGHTED_GCP_RENDEZVOUS": false},
		"INTERNAL":         {"": true, "MAGLEV": false, "WEIGHTED_MAGLEV": false, "WEIGHTED_GCP_RENDEZVOUS": true},
		"INTERNAL_MANAGED": {"": false},
	} {
		for policy, taken := range policies {
			svc := sdk(t, gcptest.New(gcptest.Options{}))
			if _, err := svc.RegionHealthChecks.Insert(project, region, &compute.HealthCheck{Name: "hc", Type: "HTTP", HttpHealthCheck: &compute.HTTPHealthCheck{Port: 80}}).Do(); err != nil {
				t.Fatal(err)
			}
			_, err := svc.RegionBackendServices.Insert(project, region, &compute.BackendService{Name: "bs", LoadBalancingScheme: scheme, Protocol: "UNSPECIFIED",
				LocalityLbPolicy: policy, HealthChecks: []string{prefix + "healthChecks/hc"}}).Do()
			if taken && err != nil {
				t.Errorf("%s %q: %v", scheme, policy, err)
			} else if !taken {
				refusedAs(t, scheme+" "+policy, err, 400, "invalid", "resource.lo") // loadBalancingScheme, localityLbPolicy
			}
		}
	}
}

// TestSharedInternalAddress: rules share an internal address only where it is reserved for that, which one of IPv6 is not known to be.
func TestSharedInternalAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		address compute.Address
		shared  bool
	}{
		"IPv4":       {compute.Address{Purpose: "SHARED_LOADBALANCER_VIP"}, true},
		"IPv4Single": {compute.Address{Purpose: "GCE_ENDPOINT"}, false},
		"IPv6":       {compute.Address{IpVersion: "IPV6", PrefixLength: 96}, false},
	} {
		svc := sdk(t, gcptest.New(gcptest.Options{}))
		balancer(t, svc, "INTERNAL", "UNSPECIFIED")
		a := tc.address
		a.Name, a.AddressType, a.Subnetwork = "a", "INTERNAL", prefix+"subnetworks/default"
		if _, err := svc.Addresses.Insert(project, region, &a).Do(); err != nil {
			t.Fatal(err)
		}
		insert := func(name, protocol string) error {
			_, err := svc.ForwardingRules.Insert(project, region, rule(func(r *compute.ForwardingRule) {
				r.Name, r.IPProtocol, r.LoadBalancingScheme, r.IpVersion = name, protocol, "INTERNAL", tc.address.IpVersion
				r.IPAddress, r.Network, r.Subnetwork = prefix+"addresses/a", "projects/"+project+"/global/networks/default", prefix+"subnetworks/default"
			})).Do()
			return err
		}
		if err := insert("one", "TCP"); err != nil {
			t.Fatal(err)
		}
		if err := insert("two", "UDP"); tc.shared && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !tc.shared {
			refusedAs(t, name, err, 400, "invalid", "share")
		}
	}
}
