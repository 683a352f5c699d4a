package loadbalancer

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestRecordDeletedOfARefusedService: the condition still follows the Service, and the record comes back.
func TestRecordDeletedOfARefusedService(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Sometimes"} })
	w.reason(svc, v1alpha1.ReasonInvalidService)
	w.Must(w.Delete(t.Context(), w.record(svc)))
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		s.Annotations = map[string]string{v1alpha1.AnnotationReplacement: "Sometimes"}
	})
	w.Eventually(func() error {
		c := w.reason(svc, v1alpha1.ReasonInvalidService)
		if want := `annotation fairlead.dev/replacement: "Sometimes" is not one of Never, Recreate`; c.Message != want {
			return fmt.Errorf("the message is %q, want %q", c.Message, want)
		}
		return nil
	})
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = nil })
	w.reason(svc, v1alpha1.ReasonEnsured)
	w.Eventually(func() error {
		return w.Get(t.Context(), client.ObjectKeyFromObject(svc), &v1alpha1.LoadBalancerRecord{})
	})
}

// TestEditedByHand: what somebody else writes into our status is put right without waiting for the resync.
func TestEditedByHand(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	want := w.record(svc).Status
	record := w.record(svc)
	record.Status = v1alpha1.LoadBalancerRecordStatus{}
	w.Must(w.Status().Update(t.Context(), record))
	w.Eventually(func() error {
		if got := w.record(svc).Status; got.ServiceUID != want.ServiceUID || len(got.Resources) != len(want.Resources) || got.Provider != want.Provider {
			return fmt.Errorf("the record's status is %+v, want %+v", got, want)
		}
		return nil
	})
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	svc.Status.Conditions = nil
	w.Must(w.Status().Update(t.Context(), svc))
	w.reason(svc, v1alpha1.ReasonEnsured)
	svc.Status = corev1.ServiceStatus{}
	w.Must(w.Status().Update(t.Context(), svc))
	w.reason(svc, v1alpha1.ReasonEnsured)
	if len(svc.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("the addresses are %+v", svc.Status.LoadBalancer)
	}
}

// TestRefusedServiceLeavesTheType: the condition goes with the reason for it.
func TestRefusedServiceLeavesTheType(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Sometimes"} })
	w.reason(svc, v1alpha1.ReasonInvalidService)
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady); c != nil {
			return fmt.Errorf("a ClusterIP Service has the condition %+v", c)
		}
		return nil
	})
}

// TestEmptyRecord: a manager that ends between the two writes of a record leaves one without a status. It goes when its
// Service does, or leaves the type.
func TestEmptyRecord(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	plain := w.service("plain", func(s *corev1.Service) { s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil })
	var records []*v1alpha1.LoadBalancerRecord
	for _, name := range []string{"gone", plain.Name} {
		record := &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}
		w.Make(record)
		records = append(records, record)
	}
	w.start()
	for _, record := range records {
		w.Eventually(func() error {
			if err := w.Get(t.Context(), client.ObjectKeyFromObject(record), record); !apierrors.IsNotFound(err) {
				return fmt.Errorf("the record %s is still there (%w)", record.Name, err)
			}
			return nil
		})
	}
}

// lagging is a cache that still shows a Service that is gone.
type lagging struct {
	client.Client
	service *corev1.Service
}

func (l lagging) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	if svc, ok := object.(*corev1.Service); ok && key == client.ObjectKeyFromObject(l.service) {
		l.service.DeepCopyInto(svc)
		return nil
	}
	return l.Client.Get(ctx, key, object, opts...)
}

// TestServiceGoneBeforeTheFirstCall: nothing is made for a Service that cannot be held by the finalizer any more.
func TestServiceGoneBeforeTheFirstCall(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	w.Must(w.Delete(t.Context(), svc))
	r := w.alone(lagging{w.Client, svc}, events.NewFakeRecorder(100))
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	if objects := w.objects(); len(objects) > 0 {
		t.Errorf("made for a Service that is gone: %+v", objects)
	}
	w.start()
	w.gone(svc)
}

// TestNamespaceGoes: the record may go first, nothing can be created any more, and the cloud takes its time.
func TestNamespaceGoes(t *testing.T) {
	w := newWorld(t, fake.Options{Slow: 300 * time.Millisecond}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	w.Must(w.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}))
	w.Must(w.Delete(t.Context(), w.record(svc)))
	w.Must(w.Delete(t.Context(), svc))
	w.gone(svc)
}

// TestNamespaceTerminates: in a namespace that is going nothing new is begun, and nothing is said about it.
func TestNamespaceTerminates(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	w.Must(w.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}))
	recorder := events.NewFakeRecorder(100)
	r := w.alone(w.Client, recorder)
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)}); err != nil {
		t.Error(err)
	}
	if n := len(recorder.Events); n > 0 {
		t.Errorf("%d events, the first is %q", n, <-recorder.Events)
	}
	if objects := w.objects(); len(objects) > 0 {
		t.Errorf("made: %+v", objects)
	}
}

// TestOneAddressForTwo: the second waits and gets it when the first lets go.
func TestOneAddressForTwo(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	fixed := func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.77" }
	first := w.service("first", fixed)
	w.reason(first, v1alpha1.ReasonEnsured)
	second := w.service("second", fixed)
	w.reason(second, v1alpha1.ReasonCloudError)
	w.Must(w.Delete(t.Context(), first))
	w.reason(second, v1alpha1.ReasonEnsured)
}
