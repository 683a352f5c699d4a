package loadbalancer

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestRecordDeletedOfARefusedService: the condition still follows the Service, and the record comes back.
func TestRecordDeletedOfARefusedService(t *testing.T) {
	t.Parallel()
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

// remove deletes a Service.
func remove(w *world, svc *corev1.Service) { w.Must(w.Delete(w.Context(), svc)) }

// unmark takes from a Service what says who served it.
func unmark(w *world, svc *corev1.Service) {
	apiserver.Change(w.World, svc, func(s *corev1.Service) { delete(s.Annotations, v1alpha1.AnnotationServedBy) })
}

// otherClass makes a class of another provider, which knows nothing of what w.class has.
func otherClass(w *world) {
	other := w.class.DeepCopy()
	other.ObjectMeta = metav1.ObjectMeta{Name: w.class.Name + "-other", Labels: w.class.Labels}
	other.Spec.ClassName += "-other"
	other.Spec.Provider = emptyCloud
	w.Make(other)
	w.Cleanup(func() { w.Must(client.IgnoreNotFound(w.Delete(context.Background(), other))) })
}

// TestRecordLost: the record and the class are lost while no manager runs, another class is the only one, and the Service
// leaves the type or is deleted. What the Service had goes, from the cloud that has it.
func TestRecordLost(t *testing.T) {
	t.Parallel()
	for name, goes := range map[string]func(w *world, svc *corev1.Service){
		"Leaves":  leave,
		"Deleted": remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fake.Options{}, nil)
			svc := w.service("cart", nil)
			w.reason(svc, v1alpha1.ReasonEnsured)
			w.stop()
			otherClass(w)
			w.Must(w.Delete(t.Context(), w.class))
			w.Must(w.Delete(t.Context(), w.record(svc)))
			goes(w, svc)
			w.start()
			w.Eventually(func() error {
				err := w.Get(w.Context(), client.ObjectKeyFromObject(svc), svc)
				if left := w.objects(); len(left) > 0 || err == nil && (hasFinalizer(svc) || svc.Annotations[v1alpha1.AnnotationServedBy] != "") {
					return fmt.Errorf("left: %d objects, finalizers %q, annotations %q", len(left), svc.Finalizers, svc.Annotations)
				}
				return client.IgnoreNotFound(err)
			})
		})
	}
}

// TestNobodyKnows: class and record are lost, and so is what the Service itself says of them. It is held, keeps its balancer, and
// says what to do; doing that helps.
func TestNobodyKnows(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		goes    func(w *world, svc *corev1.Service)
		message string
		remedy  func(w *world, svc *corev1.Service)
	}{
		"Deleted": {remove, messageLost,
			func(*world, *corev1.Service) {}},
		"Leaves": {leave, messageLostClass, func(w *world, svc *corev1.Service) {
			apiserver.Change(w.World, svc, func(s *corev1.Service) {
				s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, &w.class.Spec.ClassName
			})
			w.reason(svc, v1alpha1.ReasonEnsured)
			leave(w, svc)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fake.Options{}, nil)
			svc := w.service("cart", nil)
			w.reason(svc, v1alpha1.ReasonEnsured)
			before := w.objects()
			w.stop()
			otherClass(w)
			w.Must(w.Delete(t.Context(), w.class))
			w.Must(w.Delete(t.Context(), w.record(svc)))
			unmark(w, svc)
			tc.goes(w, svc)
			w.start()
			if c := w.reason(svc, v1alpha1.ReasonClassNotAccepted); c.Message != tc.message || !hasFinalizer(svc) {
				t.Errorf("the message is %q, the finalizers are %q", c.Message, svc.Finalizers)
			}
			w.event(svc, EventDeleteFailed)
			if diff := cmp.Diff(before, w.objects()); diff != "" {
				t.Errorf("the balancer was changed (-before +after):\n%s", diff)
			}
			w.makeClass(nil)
			tc.remedy(w, svc)
			w.Eventually(func() error {
				err := w.Get(w.Context(), client.ObjectKeyFromObject(svc), svc)
				if left := w.objects(); len(left) > 0 || err == nil && (hasFinalizer(svc) || hasCondition(svc)) {
					return fmt.Errorf("left: %d objects, %q, %+v", len(left), svc.Finalizers, svc.Status.Conditions)
				}
				return client.IgnoreNotFound(err)
			})
		})
	}
}

// TestMarkIsKept: who takes off what says who served a Service gets it back.
func TestMarkIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	mark := "uid=" + string(svc.UID) + ",provider=fake,class=" + w.class.Name + ",policy=Apply"
	if got := svc.Annotations[v1alpha1.AnnotationServedBy]; got != mark {
		t.Errorf("the Service is marked with %q, want %q", got, mark)
	}
	unmark(w, svc)
	w.Eventually(func() error {
		w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(svc), svc))
		if got := svc.Annotations[v1alpha1.AnnotationServedBy]; got != mark {
			return fmt.Errorf("the Service is marked with %q", got)
		}
		return nil
	})
}

// TestMarkOfARefusedService: one that cannot be served when the first manager comes that writes the mark gets it all the same.
func TestMarkOfARefusedService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	mark := svc.Annotations[v1alpha1.AnnotationServedBy]
	w.stop()
	unmark(w, svc)
	annotate(w, svc, v1alpha1.AnnotationPolicy, "Sometimes")
	w.begin(svc).run()
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	if got := svc.Annotations[v1alpha1.AnnotationServedBy]; got != mark || mark == "" {
		t.Errorf("the Service is marked with %q, want %q", got, mark)
	}
}

// TestReleaseWithoutRecord: a release that fails is told once, and on the Service, whether or not somebody before us served it.
func TestReleaseWithoutRecord(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		served  bool
		goes    func(w *world, svc *corev1.Service)
		coexist bool
	}{
		"Deleted":          {true, remove, true},
		"Leaves":           {true, leave, true},
		"TakenOverDeleted": {false, remove, true},
		"TakenOverLeaves":  {false, leave, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fake.Options{}, nil)
			svc := w.service("cart", nil)
			w.reason(svc, v1alpha1.ReasonEnsured)
			w.stop()
			w.Must(w.Delete(t.Context(), w.record(svc)))
			if !tc.served {
				unmark(w, svc)
				svc.Status.Conditions = nil
				w.Must(w.Status().Update(t.Context(), svc))
			}
			tc.goes(w, svc)
			w.setHook(func(call fake.Call) error {
				if call.Write() {
					return cloud.Errorf(cloud.Conflict, "somebody has it locked")
				}
				return nil
			})
			recorder := events.NewFakeRecorder(100)
			r := w.alone(w.Client, recorder)
			r.Coexist, r.DefaultProvider = tc.coexist, fake.Name
			for range 3 {
				w.pass(r, svc)
			}
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
			c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
			if c == nil || c.Reason != v1alpha1.ReasonDeleting || !strings.Contains(c.Message, "locked") || c.Status != metav1.ConditionFalse {
				t.Errorf("the condition is %+v", c)
			}
			w.setHook(nil)
			for range 5 {
				w.pass(r, svc)
			}
			err := w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc)
			if left := w.objects(); len(left) > 0 || err == nil && (hasFinalizer(svc) || hasCondition(svc)) {
				t.Errorf("left: %d objects, %q, %+v", len(left), svc.Finalizers, svc.Status.Conditions)
			}
			told := map[string]int{}
			for len(recorder.Events) > 0 {
				told[strings.Fields(<-recorder.Events)[1]]++
			}
			want := map[string]int{EventDeleteFailed: 1, EventDeleted: 1}
			if tc.served {
				want[EventDeleting] = 1
			}
			if diff := cmp.Diff(want, told); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
