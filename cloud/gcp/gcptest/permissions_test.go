package gcptest_test

import (
	"slices"
	"testing"

	"google.golang.org/api/compute/v1"

	"github.com/fairlead/fairlead/cloud/gcp/gcptest"
)

// TestPermissionsOfBackends: a backend service needs the permission on the kind of backend that it is given, and on no other.
func TestPermissionsOfBackends(t *testing.T) {
	c := gcptest.New(gcptest.Options{})
	c.AddInstanceGroup(region+"-a", "ig")
	svc := sdk(t, c)
	balancer(t, svc, "EXTERNAL", "UNSPECIFIED")
	if needed := c.Permissions(); slices.Contains(needed, "compute.instanceGroups.use") || slices.Contains(needed, "compute.networkEndpointGroups.use") {
		t.Errorf("without a backend needed are %q", needed)
	}
	b, err := svc.RegionBackendServices.Get(project, region, "bs").Do()
	if err != nil {
		t.Fatal(err)
	}
	patch := &compute.BackendService{Fingerprint: b.Fingerprint, Backends: []*compute.Backend{{BalancingMode: "CONNECTION",
		Group: "projects/" + project + "/zones/" + region + "-a/instanceGroups/ig"}}}
	c.Deny("compute.instanceGroups.use")
	_, err = svc.RegionBackendServices.Patch(project, region, "bs", patch).Do()
	refusedAs(t, "a group without the permission", err, 403, "forbidden", "compute.instanceGroups.use")
	c.Permit()
	if _, err := svc.RegionBackendServices.Patch(project, region, "bs", patch).Do(); err != nil {
		t.Fatal(err)
	}
	if needed := c.Permissions(); !slices.Contains(needed, "compute.instanceGroups.use") || slices.Contains(needed, "compute.networkEndpointGroups.use") {
		t.Errorf("with an instance group needed are %q", needed)
	}
}

// TestPermissionsOfHealthChecks: a backend service needs the permission on the kind of health check that it is given, each time that it is.
func TestPermissionsOfHealthChecks(t *testing.T) {
	const own, everywhere = "compute.regionHealthChecks.useReadOnly", "compute.healthChecks.useReadOnly"
	c := gcptest.New(gcptest.Options{})
	svc := sdk(t, c)
	balancer(t, svc, "EXTERNAL", "UNSPECIFIED")
	if needed := c.Permissions(); !slices.Contains(needed, own) || slices.Contains(needed, everywhere) {
		t.Errorf("with a regional health check needed are %q", needed)
	}
	c.Deny(own, everywhere)
	for link, needed := range map[string]string{"": "", "regions/" + region: own, "global": everywhere} {
		b, err := svc.RegionBackendServices.Get(project, region, "bs").Do()
		if err != nil {
			t.Fatal(err)
		}
		patch := &compute.BackendService{Fingerprint: b.Fingerprint, SessionAffinity: "CLIENT_IP"}
		if link != "" {
			patch.HealthChecks = []string{"projects/" + project + "/" + link + "/healthChecks/hc"}
		}
		_, err = svc.RegionBackendServices.Patch(project, region, "bs", patch).Do()
		if needed == "" && err != nil {
			t.Errorf("without naming one: %v", err)
		} else if needed != "" {
			refusedAs(t, "one of "+link, err, 403, "forbidden", needed)
		}
	}
}
