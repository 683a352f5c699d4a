package loadbalancer

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
)

// TestWritesOfAService counts what a Service costs the API server from its creation to its end, Events aside: the record before
// the first call and after the last, the finalizer on and off, one status of the Service, and the record's deletion.
func TestWritesOfAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	requests := w.Count()
	w.start()
	w.node("n1", "172.30.0.11", nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	if len(svc.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("the condition stands, and the addresses are %+v", svc.Status.LoadBalancer.Ingress)
	}
	w.Must(w.Delete(t.Context(), svc))
	w.gone(svc)
	w.stop()
	got := map[string]int{}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, resource := range []string{"services", "loadbalancerrecords"} {
			if n := requests.Of(method, resource); n > 0 {
				got[fmt.Sprint(method, " ", resource)] = n
			}
		}
	}
	want := map[string]int{"PATCH loadbalancerrecords": 2, "PATCH services": 3, "DELETE loadbalancerrecords": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
