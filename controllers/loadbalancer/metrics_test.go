package loadbalancer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestUpstreamMetrics holds what dashboards rely on: names, types, no labels, buckets.
func TestUpstreamMetrics(t *testing.T) {
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"service_controller_loadbalancer_sync_total":                  "COUNTER",
		"service_controller_nodesync_error_total":                     "COUNTER",
		"service_controller_nodesync_latency_seconds":                 "HISTOGRAM",
		"service_controller_update_loadbalancer_host_latency_seconds": "HISTOGRAM",
	}
	for _, f := range families {
		kind, ours := want[f.GetName()]
		if !ours {
			continue
		}
		delete(want, f.GetName())
		if f.GetType().String() != kind || len(f.GetMetric()) != 1 || len(f.GetMetric()[0].GetLabel()) != 0 {
			t.Errorf("%v, want one %s without labels", f, kind)
			continue
		}
		if kind == "COUNTER" {
			continue
		}
		buckets := f.GetMetric()[0].GetHistogram().GetBucket()
		if len(buckets) != 15 || buckets[0].GetUpperBound() != 1 || buckets[1].GetUpperBound() != 2 || buckets[14].GetUpperBound() != 16384 {
			t.Errorf("%s has buckets %v, want 1, 2, 4 to 16384", f.GetName(), buckets)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// TestNodeMetrics counts balancers that follow the nodes, and those that cannot.
func TestNodeMetrics(t *testing.T) {
	const name, errorName = "service_controller_loadbalancer_sync_total", "service_controller_nodesync_error_total"
	m := newMany(t, 250, 1, fake.Options{})
	synced, failed := apiserver.Metric(t, name, ""), apiserver.Metric(t, errorName, "")
	m.cloud.Inject(fake.Fault{Method: "SyncTargets", Err: errors.New("broken")})
	m.syncNodes(t.Context(), fake.Name, machines(2))
	m.syncNodes(t.Context(), fake.Name, machines(2))
	if got := apiserver.Metric(t, name, "") - synced; got != 250 {
		t.Errorf("%v balancers were counted, want 250: those of the call that failed get a pass of their own", got)
	}
	if got := apiserver.Metric(t, errorName, "") - failed; got != 200 {
		t.Errorf("%v failures were counted, want the 200 of one call", got)
	}
}

// TestServicesAreCounted as they are in the cache, also after a restart.
func TestServicesAreCounted(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	for i := range 3 {
		w.reason(w.service(fmt.Sprintf("good-%d", i), nil), v1alpha1.ReasonEnsured)
	}
	w.reason(w.service("bad", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Aply"}
	}), v1alpha1.ReasonInvalidService)
	counted := func() {
		t.Helper()
		w.Eventually(func() error {
			good, bad := apiserver.Metric(t, "fairlead_loadbalancer_services", v1alpha1.ReasonEnsured), apiserver.Metric(t, "fairlead_loadbalancer_services", v1alpha1.ReasonInvalidService)
			if good != 3 || bad != 1 {
				return fmt.Errorf("%v Services are ensured and %v invalid, want 3 and 1", good, bad)
			}
			return nil
		})
	}
	counted()
	w.stop()
	if got := apiserver.Metric(t, "fairlead_loadbalancer_services", ""); got != 0 {
		t.Errorf("a manager that has ended counts %v Services", got)
	}
	w.start()
	counted()
}

func TestMeter(t *testing.T) {
	measure := func() map[string]float64 {
		found := map[string]float64{}
		families, err := metrics.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, sample := range f.GetMetric() {
				id := f.GetName()
				for _, label := range sample.GetLabel() {
					id += " " + label.GetValue()
				}
				if strings.Contains(id, " moon") {
					found[id] = sample.GetCounter().GetValue() + sample.GetGauge().GetValue() + sample.GetHistogram().GetSampleSum()
				}
			}
		}
		return found
	}
	before := measure() // of an earlier run in this process
	m := Meter("moon")
	m.Done("List", 2*time.Second, "")
	m.Done("List", time.Second, cloud.Quota)
	m.Spent(cloud.Read, 3*time.Second)
	m.Queued(cloud.Write, 2)
	m.Queued(cloud.Write, -1)
	m.Closed(cloud.Write, 5*time.Second)
	found := measure()
	for id, value := range before {
		found[id] -= value
	}
	want := map[string]float64{
		"fairlead_cloud_requests_total OK List moon":        1, // labels are sorted by name
		"fairlead_cloud_requests_total Quota List moon":     1,
		"fairlead_cloud_request_duration_seconds List moon": 3,
		"fairlead_cloud_calls_total read moon":              1,
		"fairlead_cloud_limit_wait_seconds_total read moon": 3,
		"fairlead_cloud_limit_queue write moon":             1,
		"fairlead_cloud_throttled_seconds_total write moon": 5,
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
