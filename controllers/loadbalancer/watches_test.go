package loadbalancer

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestWhoGoesFirst: a Service that is to lose its balancer overtakes those that change, and these the many that were
// there when the manager started.
func TestWhoGoesFirst(t *testing.T) {
	service := func(name string, edit func(*corev1.Service)) *corev1.Service {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{v1alpha1.FinalizerLoadBalancer}},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
		if edit != nil {
			edit(svc)
		}
		return svc
	}
	deleted := func(s *corev1.Service) { s.DeletionTimestamp = new(metav1.Now()) }
	q := priorityqueue.New[reconcile.Request]("test")
	defer q.ShutDown()
	h := serviceHandler()
	ctx := t.Context()
	h.Create(ctx, event.CreateEvent{Object: service("old", nil), IsInInitialList: true}, q)
	h.Create(ctx, event.CreateEvent{Object: service("new", nil)}, q)
	h.Create(ctx, event.CreateEvent{Object: service("deleted while nobody looked", deleted), IsInInitialList: true}, q)
	h.Update(ctx, event.UpdateEvent{ObjectOld: service("changed type", nil),
		ObjectNew: service("changed type", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })}, q)
	h.Update(ctx, event.UpdateEvent{ObjectOld: service("unchanged", nil), ObjectNew: service("unchanged", nil)}, q)
	h.Update(ctx, event.UpdateEvent{ObjectOld: service("deleted", nil), ObjectNew: service("deleted", deleted)}, q)
	for _, want := range []string{"deleted while nobody looked", "changed type", "deleted", "new", "old"} {
		got, _ := q.Get()
		if got.Name != want {
			t.Errorf("%q comes, want %q", got.Name, want)
		}
		q.Done(got)
	}
	if left := q.Len(); left != 0 {
		t.Errorf("%d more are queued", left)
	}
}

// TestForgottenWithTheRecord: of a Service that is gone nothing is remembered once somebody deletes its record.
func TestForgottenWithTheRecord(t *testing.T) {
	q := priorityqueue.New[reconcile.Request]("test")
	defer q.ShutDown()
	r := &Reconciler{}
	record := &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"},
		Status: v1alpha1.LoadBalancerRecordStatus{ServiceUID: uid(0)}}
	r.gone.Store(uid(0), nil)
	r.gone.Store(uid(1), nil)
	r.last.Store(uid(0), &written{})
	r.recordHandler().Delete(t.Context(), event.DeleteEvent{Object: record}, q)
	_, gone := r.gone.Load(uid(0))
	_, last := r.last.Load(uid(0))
	_, other := r.gone.Load(uid(1))
	if gone || last || !other {
		t.Errorf("remembered: gone %t, last written %t, another one's %t", gone, last, other)
	}
	if got, _ := q.Get(); got != named("shop", "cart") {
		t.Errorf("%v is woken", got)
	}
}
