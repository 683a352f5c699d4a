package loadbalancer

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
)

// TestThousandServices has a manager serve 1,000 Services, restarts it, and adds a node: a new Service costs two looks; the
// restart writes nothing, to the cloud or to the API server, and costs the cloud one read; the node costs as many calls as
// targets fit into.
func TestThousandServices(t *testing.T) {
	t.Parallel()
	const services = 1000
	w := newWorld(t, fake.Options{Pools: []fake.Pool{{Name: "default", Prefix: netip.MustParsePrefix("198.18.0.0/15")}}}, nil)
	w.node("n1", "172.30.0.11", nil)
	var making sync.WaitGroup
	for from := range 8 {
		making.Go(func() {
			for i := from; i < services; i += 8 {
				svc := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class.Spec.ClassName,
					Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
				svc.Namespace, svc.Name = w.Namespace, fmt.Sprintf("s%04d", i)
				if err := w.Create(w.Context(), svc); err != nil {
					t.Errorf("creating Service %d: %v", i, err)
				}
			}
		})
	}
	making.Wait()
	start := time.Now()
	for quarter := services / 4; quarter <= services; quarter += services / 4 { // each in its time: a slow machine takes minutes
		w.Eventually(func() error {
			var list corev1.ServiceList
			if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
				return err
			}
			ready := 0
			for _, svc := range list.Items {
				if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady); c != nil && c.Status == "True" {
					ready++
				}
			}
			if ready < quarter {
				return fmt.Errorf("%d of %d Services are ready", ready, services)
			}
			return nil
		})
	}
	t.Logf("all are ready %v after the last was made", time.Since(start).Round(time.Millisecond))
	// One look for what another controller made, and one for what came of it. Few Services get a second pass, since somebody
	// else wrote to them meanwhile.
	if got := w.countReads(); got > services*21/10 {
		t.Errorf("making them took %d reads, want two for each", got)
	}
	w.stop()

	requests := w.Count()
	writes, reads := w.countWrites(), w.countReads()
	r := &Reconciler{Providers: w.providers(), ClusterID: "test", Coexist: true}
	w.stop = w.Start(w.caches, r.SetupWithManager)
	w.Eventually(func() error {
		looked := 0
		for _, e := range r.ledger.all(fake.Name) {
			if e := r.ledger.resume(e, owesNothing); e != nil {
				if e.looked && e.sent != nil {
					looked++
				}
				r.end(e)
			}
		}
		if looked != services {
			return fmt.Errorf("%d of %d Services were looked at", looked, services)
		}
		return nil
	})
	if got := w.countWrites() - writes; got != 0 {
		t.Errorf("the restart wrote %d times to the cloud", got)
	}
	if got := w.countReads() - reads; got != 1 {
		t.Errorf("the restart read %d times from the cloud, want once", got)
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, resource := range []string{"services", "loadbalancerrecords", "events"} {
			if n := requests.Of(method, resource); n > 0 {
				t.Errorf("the restart sent %d times %s %s", n, method, resource)
			}
		}
	}

	writes, reads = w.countWrites(), w.countReads()
	start = time.Now()
	w.node("n2", "172.30.0.12", nil)
	w.targets("172.30.0.11", "172.30.0.12")
	took := time.Since(start)
	if got, want := w.countWrites()-writes, services/fake.MaxTargetsPerCall; got != want {
		t.Errorf("the node cost %d calls, want %d", got, want)
	}
	if got := w.countReads() - reads; got != 0 {
		t.Errorf("the node cost %d reads", got)
	}
	t.Logf("the node was everywhere after %v", took.Round(time.Millisecond))
	w.stop()
}
