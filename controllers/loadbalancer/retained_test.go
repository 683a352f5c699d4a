package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// balancerOf is the id of the balancer in a record.
func balancerOf(record *v1alpha1.LoadBalancerRecord) string {
	for _, o := range record.Status.Resources {
		if o.Kind == fake.KindBalancer {
			return o.ID
		}
	}
	return ""
}

func withAnnotation(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations = map[string]string{key: value} }
}

// TestTakenBack: what a Service left behind under Retain is taken back, as it was, by one of its name that names the balancer, and
// by no other.
func TestTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.node("n1", "172.30.0.11", nil)
	old := w.service("cart", withAnnotation(v1alpha1.AnnotationPolicy, "Retain"))
	w.reason(old, v1alpha1.ReasonEnsured)
	id, address, before := balancerOf(w.record(old)), old.Status.LoadBalancer.Ingress[0].IP, w.describe()
	w.Must(w.Delete(t.Context(), old))
	w.Eventually(func() error { return w.absent(old.Namespace, old.Name, &corev1.Service{}) })

	if message := w.record(old).Status.Conditions[0].Message; !strings.Contains(message, v1alpha1.AnnotationAdopt) {
		t.Errorf("the message is %q", message)
	}

	other := w.service("basket", withAnnotation(v1alpha1.AnnotationAdopt, id))
	if c := w.reason(other, v1alpha1.ReasonAdoptionRefused); !strings.Contains(c.Message, "a Service that is gone (UID "+string(old.UID)+")") {
		t.Errorf("the message is %q", c.Message)
	}
	w.Must(w.Delete(t.Context(), other))

	svc := w.service("cart", withAnnotation(v1alpha1.AnnotationAdopt, id))
	w.reason(svc, v1alpha1.ReasonEnsured)
	if got := svc.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != address {
		t.Errorf("published is %+v, want %s", got, address)
	}
	w.event(svc, EventAdopted)
	if diff := cmp.Diff(before, w.describe()); diff != "" {
		t.Errorf("taken back it is another one (-before +after):\n%s", diff)
	}
	for _, o := range w.objects() {
		if o.Tags["fairlead.dev/owner/"+string(svc.UID)] == "" {
			t.Errorf("%s is not marked as the new Service's: %v", o.Name, o.Tags)
		}
	}
	record := w.record(svc)
	if record.Status.ServiceUID != svc.UID || record.Status.TakesBackFrom != "" || balancerOf(record) != id || !metav1.IsControlledBy(record, svc) {
		t.Errorf("the record is %+v", record)
	}
	w.Must(w.Delete(t.Context(), svc))
	w.gone(svc)
}

// TestNotTakenBack: a Service that takes nothing back, since it names another id, or its policy is Plan, loses nothing of what an earlier
// one left: it can still correct itself, and one after it takes that back.
func TestNotTakenBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		reason, policy, wrong string
		want                  string
		lost                  bool
	}{
		"Mistake":  {"the id has a typing mistake", "Apply", "0", v1alpha1.ReasonAdoptionRefused, false},
		"Lost":     {"and its finalizer is taken off by hand", "Apply", "0", v1alpha1.ReasonAdoptionRefused, true},
		"Retained": {"nor does it leave anything behind itself", "Retain", "0", v1alpha1.ReasonAdoptionRefused, false},
		"Planned":  {"it only says what it would do", "Plan", "", v1alpha1.ReasonPlanned, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fake.Options{}, nil)
			old := w.service("cart", withAnnotation(v1alpha1.AnnotationPolicy, "Retain"))
			w.reason(old, v1alpha1.ReasonEnsured)
			before, left := w.objects(), w.record(old).Status
			id := balancerOf(w.record(old))
			w.Must(w.Delete(t.Context(), old))
			w.Eventually(func() error { return w.absent(old.Namespace, old.Name, &corev1.Service{}) })
			asking := func(s *corev1.Service) {
				s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: id + tc.wrong, v1alpha1.AnnotationPolicy: tc.policy}
			}
			first := w.service("cart", asking)
			w.reason(first, tc.want)
			if record := w.record(first); len(record.OwnerReferences) > 0 {
				t.Errorf("%s: what says what was left goes with the Service: %+v", tc.reason, record.OwnerReferences)
			}
			if tc.lost {
				w.stop()
			}
			w.Must(w.Delete(t.Context(), first))
			if tc.lost {
				apiserver.Change(w.World, first, func(s *corev1.Service) { s.Finalizers = nil })
				w.start()
			}
			w.Eventually(func() error {
				if uid := w.record(old).Status.ServiceUID; uid != old.UID {
					return fmt.Errorf("the record is of %s", uid)
				}
				return w.absent(first.Namespace, first.Name, &corev1.Service{})
			})
			got := w.record(old).Status
			if got.ServiceUID != old.UID || got.TakesBackFrom != "" || got.Policy != v1alpha1.PolicyRetain || len(got.Conditions) != 1 ||
				got.Conditions[0].Reason != v1alpha1.ReasonRetained || !cmp.Equal(left.Resources, got.Resources) || !cmp.Equal(left.Addresses, got.Addresses) {
				t.Errorf("%s: the record is %+v, was %+v", tc.reason, got, left)
			}
			if diff := cmp.Diff(before, w.objects()); diff != "" {
				t.Errorf("%s: what was left was changed (-before +after):\n%s", tc.reason, diff)
			}
			second := w.service("cart", asking)
			w.reason(second, tc.want)
			apiserver.Change(w.World, second, withAnnotation(v1alpha1.AnnotationAdopt, id))
			w.reason(second, v1alpha1.ReasonEnsured)
			if record := w.record(second); balancerOf(record) != id || record.Status.TakesBackFrom != "" || !metav1.IsControlledBy(record, second) {
				t.Errorf("%s: corrected, the record is %+v", tc.reason, record)
			}
			w.Must(w.Delete(t.Context(), second))
			w.gone(second)
		})
	}
}

// TestNoTakeBack: nobody is told to take back what the provider cannot, and whoever asks for it all the same loses nothing.
func TestNoTakeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.edits = append(w.edits, func(c *cloud.Capabilities) { c.TakeBack = false })
	w.start()
	old := w.service("cart", withAnnotation(v1alpha1.AnnotationPolicy, "Retain"))
	w.reason(old, v1alpha1.ReasonEnsured)
	id := balancerOf(w.record(old))
	w.Must(w.Delete(t.Context(), old))
	w.Eventually(func() error { return w.absent(old.Namespace, old.Name, &corev1.Service{}) })
	if message := w.record(old).Status.Conditions[0].Message; strings.Contains(message, v1alpha1.AnnotationAdopt) {
		t.Errorf("the message is %q", message)
	}
	svc := w.service("cart", withAnnotation(v1alpha1.AnnotationAdopt, id))
	w.reason(svc, v1alpha1.ReasonAdoptionRefused)
	if got := w.record(svc).Status.TakesBackFrom; got != old.UID {
		t.Errorf("what was left is known as that of %q", got)
	}
	w.Must(w.Delete(t.Context(), svc))
	w.Eventually(func() error { return w.absent(svc.Namespace, svc.Name, &corev1.Service{}) })
	if got := w.record(old).Status.ServiceUID; got != old.UID {
		t.Errorf("the record is of %s", got)
	}
}

// TestTakingBackStoppedAnywhere stops the manager after every call of a taking back, and starts another one.
func TestTakingBackStoppedAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.node("n1", "172.30.0.11", nil)
	stopped := true
	for n := 1; stopped; n++ {
		if n > 60 {
			t.Fatal("it takes more than 60 calls")
		}
		name := fmt.Sprintf("cart-%03d", n)
		old := w.service(name, withAnnotation(v1alpha1.AnnotationPolicy, "Retain"))
		w.begin(old).run()
		want, id := w.describe(), balancerOf(w.record(old))
		w.Must(w.Delete(t.Context(), old))
		w.begin(old).run()
		w.Must(w.absent(old.Namespace, name, &corev1.Service{}))

		svc := w.service(name, withAnnotation(v1alpha1.AnnotationAdopt, id))
		p := w.begin(svc)
		p.stopAt(n)
		stopped = !p.run()
		w.setHook(nil)
		p.kill()
		if n%2 == 0 {
			annotate(w, svc, "example.com/seen", "true") // which makes no difference
		}
		w.begin(svc).run()
		if diff := cmp.Diff(want, w.describe()); diff != "" {
			t.Errorf("stopped after call %d, it is another one (-want +got):\n%s", n, diff)
		}
		w.Must(w.Delete(t.Context(), svc))
		w.begin(svc).run()
		if left := w.objects(); len(left) > 0 {
			t.Fatalf("stopped after call %d, left in the end: %+v", n, left)
		}
	}
}

// notes are the reasons of events, in their order.
type notes struct {
	events.EventRecorder
	reasons []string
}

func (n *notes) Eventf(_, _ runtime.Object, _, reason, _, _ string, _ ...any) {
	n.reasons = append(n.reasons, reason)
}

// TestDeletionIsToldOnce: also where the cache still shows the record of what was released.
func TestDeletionIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	p := w.begin(svc)
	told := &notes{}
	p.Recorder = told
	p.run()
	leave(w, svc)
	told.reasons = nil
	record := w.record(svc)
	key := client.ObjectKeyFromObject(svc)
	p.services[key] = true
	p.run()
	behind := &view{name: key, service: p.fresh.or(svc), record: record}
	behind.binding = bind(behind.service, record, []v1alpha1.LoadBalancerClass{*w.class}, true, "")
	if _, err := p.exclusively(t.Context(), behind, svc.UID, fake.Name, p.release); err != nil {
		t.Fatal(err)
	}
	if want := []string{EventDeleting, EventDeleted}; !cmp.Equal(want, told.reasons) {
		t.Errorf("the events are %q, want %q", told.reasons, want)
	}
}

// TestDeletionRefusedOnce: a write that the API server refuses, since somebody else was faster, tells nothing twice.
func TestDeletionRefusedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	p := w.begin(svc)
	told := &notes{}
	p.Recorder = told
	p.run()
	leave(w, svc)
	told.reasons = nil
	p.setHook(func(call fake.Call) error {
		//nolint:usestdlibvars // a method of the fake cloud, not of HTTP
		if call.Method == "Delete" && call.Kind == fake.KindAddress && call.After {
			annotate(w, svc, "example.com/seen", "true") // the finalizer's removal is behind now
		}
		return nil
	})
	p.services[client.ObjectKeyFromObject(svc)] = true
	p.run()
	if want := []string{EventDeleting, EventDeleted}; !cmp.Equal(want, told.reasons) {
		t.Errorf("the events are %q, want %q", told.reasons, want)
	}
}

// TestNoSuchClass: a Service that names a class of ours which there is not is told so, and one of another controller's is left alone;
// when the class comes, it is served.
func TestNoSuchClass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	missing, foreign := v1alpha1.ClassPrefix+w.Namespace, "example.com/"+w.Namespace+"-foreign"
	theirs := w.service("theirs", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &foreign })
	svc := w.service("cart", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &missing })
	if c := w.reason(svc, v1alpha1.ReasonClassNotFound); !strings.Contains(c.Message, missing) {
		t.Errorf("the message is %q", c.Message)
	}
	w.event(svc, EventSyncFailed)
	version := theirs.ResourceVersion
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs))
	if theirs.ResourceVersion != version {
		t.Errorf("another controller's Service was written: %+v", theirs.Status)
	}
	class := &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-late"},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: missing, Provider: fake.Name}}
	w.mine(class)
	w.Make(class)
	t.Cleanup(func() { w.Must(client.IgnoreNotFound(w.Delete(context.Background(), class))) })
	w.reason(svc, v1alpha1.ReasonEnsured)
}

// TestNothingToRetain: a Service under Retain that never had anything in the cloud leaves no record behind; whether it had, the cloud says,
// and what a manager made that was stopped before it could say so is recorded, and stays.
func TestNothingToRetain(t *testing.T) {
	t.Parallel()
	refused := func(call fake.Call) error {
		if call.Write() {
			return cloud.Errorf(cloud.Quota, "no room")
		}
		return nil
	}
	taken := func(w *world, svc *corev1.Service) {
		apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Finalizers = nil })
		remove(w, svc)
	}
	for name, goes := range map[string]func(w *world, svc *corev1.Service){"Deleted": remove, "Leaves": leave, "Taken": taken} {
		for _, made := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s/%d", name, made), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, fake.Options{}, nil)
				w.stop()
				svc := w.service("cart", withAnnotation(v1alpha1.AnnotationPolicy, "Retain"))
				p := w.begin(svc)
				if made == 0 {
					w.setHook(refused)
					w.pass(p.Reconciler, svc)
				} else {
					p.stopAt(2) // a look for a balancer that is there already, and a creation
					p.run()
				}
				if record := w.record(svc); len(record.Status.Resources) > 0 || len(w.objects()) != made {
					t.Fatalf("the record is %+v, the cloud has %+v", record, w.objects())
				}
				goes(w, svc)

				w.setHook(func(fake.Call) error { return errors.New("out of order") })
				p = w.begin()
				for range 2 {
					if _, err := p.Reconcile(t.Context(), named(svc.Namespace, svc.Name)); err == nil {
						t.Error("a cloud that cannot be looked at is taken for empty")
					}
				}
				record := w.record(svc)
				if err := w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc); err == nil {
					c := record.Status.Conditions[0]
					if c.Reason != v1alpha1.ReasonDeleting || !strings.Contains(c.Message, "Retain") || !strings.Contains(c.Message, "out of order") || !hasFinalizer(svc) {
						t.Errorf("the condition is %+v, the finalizers are %q", c, svc.Finalizers)
					}
				}

				w.setHook(nil)
				w.begin(svc).run()
				if err := w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc); err == nil && (hasFinalizer(svc) || hasCondition(svc)) {
					t.Errorf("left on the Service: %q, %+v", svc.Finalizers, svc.Status.Conditions)
				}
				if len(w.objects()) != made {
					t.Errorf("the cloud has %+v", w.objects())
				}
				if made == 0 {
					w.Must(w.absent(svc.Namespace, svc.Name, record))
					return
				}
				w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(record), record))
				if len(record.Status.Resources) != 1 || record.Status.Resources[0].ID != w.objects()[0].ID || record.Status.Conditions[0].Reason != v1alpha1.ReasonRetained {
					t.Errorf("the record is %+v", record.Status)
				}
			})
		}
	}
}

// TestRetainedBeforeItIsSeen: that nothing is seen does not count as nothing to retain, as long as the cloud may not show it yet.
func TestRetainedBeforeItIsSeen(t *testing.T) {
	t.Parallel()
	w, svc := deletedUnseen(t, withAnnotation(v1alpha1.AnnotationPolicy, "Retain"))
	w.Eventually(func() error { return w.absent(svc.Namespace, svc.Name, &corev1.Service{}) })
	if record := w.record(svc); len(record.Status.Resources) != 1 || record.Status.Conditions[0].Reason != v1alpha1.ReasonRetained {
		t.Errorf("the record is %+v", record.Status)
	}
	if n := w.events("cart")[EventDeleteFailed]; n > 0 {
		t.Errorf("%d events call a look a failure", n)
	}
}

// TestRetainedBehindTheCache: Retain is asked for right before the Service goes, and the cache shows the Service gone before it shows what
// the record says of that. Nothing that was to stay is deleted.
func TestRetainedBehindTheCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	w.begin(svc).run()
	old, before := w.record(svc), w.objects()
	annotate(w, svc, v1alpha1.AnnotationPolicy, string(v1alpha1.PolicyRetain))
	w.Must(w.Delete(t.Context(), svc))
	w.begin(svc).run()
	w.Must(w.absent(svc.Namespace, svc.Name, &corev1.Service{}))
	r := w.alone(w.Client, discard{})
	r.Client = lagging{r.Client, old}
	w.pass(r, svc)
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("what was to be retained was changed (-before +after):\n%s", diff)
	}
	if record := w.record(svc); record.Status.Conditions[0].Reason != v1alpha1.ReasonRetained {
		t.Errorf("the record is %+v", record.Status)
	}
}

// TestRetainedForGood: what a Service that lives on without a balancer, or is held by somebody else while it goes, has left stays whatever
// it, or its class, says later.
func TestRetainedForGood(t *testing.T) {
	t.Parallel()
	const held = "example.com/held"
	goes := map[string]func(w *world, svc *corev1.Service){"Leaves": leave, "Deleted": remove}
	for name, tc := range map[string]struct {
		class v1alpha1.Policy
		later func(w *world, svc *corev1.Service)
	}{
		"NotAskedForAnyMore": {"", func(w *world, svc *corev1.Service) { annotate(w, svc, v1alpha1.AnnotationPolicy, "") }},
		"Apply":              {"", func(w *world, svc *corev1.Service) { annotate(w, svc, v1alpha1.AnnotationPolicy, "Apply") }},
		"Class": {v1alpha1.PolicyRetain, func(w *world, _ *corev1.Service) {
			w.readClass()
			w.class.Spec.Policy = v1alpha1.PolicyApply
			w.Must(w.Update(w.Context(), w.class))
		}},
	} {
		for how, goes := range goes {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, fake.Options{}, func(c *v1alpha1.LoadBalancerClassSpec) { c.Policy = tc.class })
				w.stop()
				svc := w.service("cart", func(s *corev1.Service) {
					s.Finalizers = []string{held}
					if tc.class == "" {
						withAnnotation(v1alpha1.AnnotationPolicy, "Retain")(s)
					}
				})
				w.begin(svc).run()
				before := w.objects()
				goes(w, svc)
				w.begin(svc).run()
				tc.later(w, svc)
				w.begin(svc).run()
				if diff := cmp.Diff(before, w.objects()); diff != "" || len(before) == 0 {
					t.Errorf("what was to stay was changed (-before +after):\n%s", diff)
				}
				if record := w.record(svc); record.Status.Conditions[0].Reason != v1alpha1.ReasonRetained || balancerOf(record) == "" {
					t.Errorf("the record is %+v", record.Status)
				}
				apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Finalizers = nil })
			})
		}
	}
}
