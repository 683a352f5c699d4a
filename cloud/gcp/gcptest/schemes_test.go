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
