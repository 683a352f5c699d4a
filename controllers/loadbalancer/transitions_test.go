package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestEditedByHand: what somebody else writes into our status is put right without waiting for the resync.
func TestEditedByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	want := w.record(svc).Status
	record := w.record(svc)
	record.Status = v1alpha1.LoadBalancerRecordStatus{}
	w.Must(w.Update(t.Context(), record))
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

	// A manager that has just started has not written to the record.
	w.stop()
	w.start()
	w.Eventually(func() error {
		for _, known := range w.manager.ledger.all(fake.Name) {
			if e := w.manager.ledger.resume(known, owesNothing); e != nil {
				defer w.manager.end(e)
				if e.looked {
					return nil
				}
			}
		}
		return errors.New("the manager has not looked at the Service yet")
	})
	record = w.record(svc)
	record.Status.Addresses = []string{"203.0.113.9"}
	w.Must(w.Update(t.Context(), record))
	w.Eventually(func() error {
		if got := w.record(svc).Status.Addresses; !slices.Equal(got, want.Addresses) {
			return fmt.Errorf("the record's addresses are %v, want %v", got, want.Addresses)
		}
		return nil
	})
}

// TestForgotten: nothing is remembered of Services that are gone, whether they had a balancer or were refused.
func TestForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	var services []*corev1.Service
	for i := range 8 {
		services = append(services, w.service(fmt.Sprintf("served-%d", i), nil))
		services = append(services, w.service(fmt.Sprintf("refused-%d", i), func(s *corev1.Service) {
			s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Sometimes"}
		}))
	}
	for i, svc := range services {
		w.reason(svc, []string{v1alpha1.ReasonEnsured, v1alpha1.ReasonInvalidService}[i%2])
	}
	for _, svc := range services {
		w.Must(w.Delete(t.Context(), svc))
	}
	left := func() int { return len(w.manager.ledger.all(fake.Name)) }
	w.Eventually(func() error {
		var list v1alpha1.LoadBalancerRecordList
		w.Must(w.List(t.Context(), &list, client.InNamespace(w.Namespace)))
		if len(list.Items)+left() > 0 {
			return fmt.Errorf("%d records, and %d Services are remembered", len(list.Items), left())
		}
		return nil
	})
}

// TestRefusedServiceLeavesTheType: the condition goes with the reason for it.
func TestRefusedServiceLeavesTheType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Sometimes"} })
	w.reason(svc, v1alpha1.ReasonInvalidService)
	leave(w, svc)
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady); c != nil {
			return fmt.Errorf("a ClusterIP Service has the condition %+v", c)
		}
		return nil
	})
}

// lagging is a cache that still shows an object as it was, also where it is gone.
type lagging struct {
	client.Client
	was client.Object
}

func (l lagging) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	if reflect.TypeOf(object) == reflect.TypeOf(l.was) && key == client.ObjectKeyFromObject(l.was) {
		reflect.ValueOf(object).Elem().Set(reflect.ValueOf(l.was.DeepCopyObject()).Elem())
		return nil
	}
	return l.Client.Get(ctx, key, object, opts...)
}

// TestServiceGoneBeforeTheFirstCall: nothing is made for a Service that cannot be held by the finalizer any more.
func TestServiceGoneBeforeTheFirstCall(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	fixed := func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.77" }
	first := w.service("first", fixed)
	w.reason(first, v1alpha1.ReasonEnsured)
	second := w.service("second", fixed)
	w.reason(second, v1alpha1.ReasonCloudError)
	w.Must(w.Delete(t.Context(), first))
	w.reason(second, v1alpha1.ReasonEnsured)
}

// TestRetainedOnTheWayOut: Retain is asked for when nobody runs, right before the Service goes: no pass has had the record say so.
func TestRetainedOnTheWayOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	before := w.objects()
	w.stop()
	annotate(w, svc, v1alpha1.AnnotationPolicy, string(v1alpha1.PolicyRetain))
	w.Must(w.Delete(t.Context(), svc))
	p := w.begin(svc)
	p.run()
	if err := w.absent(svc.Namespace, svc.Name, &corev1.Service{}); err != nil {
		t.Fatal(err)
	}
	w.begin(svc).run() // the record is there at a start
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("what was to be retained was changed (-before +after):\n%s", diff)
	}
	if record := w.record(svc); len(record.OwnerReferences) != 0 || len(record.Status.Resources) != 5 || record.Status.Policy != v1alpha1.PolicyRetain {
		t.Errorf("the record is %+v", record)
	}
}

// TestPolicyBesideAMistake: a policy that the Service asks for is heeded whatever else is wrong with it, and whatever became of its class, by a
// manager that was there and by one that was not.
func TestPolicyBesideAMistake(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *world, svc *corev1.Service){
		"Mistake":   func(w *world, svc *corev1.Service) { annotate(w, svc, "fairlead.dev/nobody-knows-this", "true") },
		"ClassGone": func(w *world, _ *corev1.Service) { w.Must(w.Delete(w.Context(), w.class)) },
	} {
		for _, seen := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%t", name, seen), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, fake.Options{}, nil)
				w.stop()
				svc := w.service("cart", nil)
				w.begin(svc).run()
				before := w.objects()
				spoil(w, svc)
				annotate(w, svc, v1alpha1.AnnotationPolicy, string(v1alpha1.PolicyPlan))
				w.node("n1", "172.30.0.11", nil)
				w.begin(svc).run()
				if got := w.record(svc).Status.Policy; got != v1alpha1.PolicyPlan {
					t.Errorf("the record says policy %s", got)
				}
				annotate(w, svc, v1alpha1.AnnotationPolicy, string(v1alpha1.PolicyRetain))
				if seen {
					w.begin(svc).run()
					before = w.objects() // targets follow the nodes again
				}
				w.Must(w.Delete(t.Context(), svc))
				w.begin(svc).run()
				if err := w.absent(svc.Namespace, svc.Name, &corev1.Service{}); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(before, w.objects()); diff != "" || len(before) == 0 {
					t.Errorf("what was to stay as it is was changed (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// TestRetainedUnderAnotherClass: a Service that left its balancer behind, and comes back with another class, is served by that.
func TestRetainedUnderAnotherClass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	other := &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-other"},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + w.Namespace + "-other", Provider: fake.Name}}
	w.mine(other)
	w.Make(other)
	t.Cleanup(func() { w.Must(w.Delete(context.Background(), other)) })
	svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Retain"} })
	w.reason(svc, v1alpha1.ReasonEnsured)
	leave(w, svc)
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if hasFinalizer(svc) {
			return fmt.Errorf("the finalizer is still there")
		}
		return nil
	})
	if got := w.record(svc).Status.ServiceFingerprint; got != cloud.Fingerprint(svc) {
		t.Errorf("the record of what is retained is out of date for ever: %s, the Service is %s", got, cloud.Fingerprint(svc))
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, &other.Spec.ClassName
	})
	w.reason(svc, v1alpha1.ReasonEnsured)
	if record := w.record(svc); record.Status.LoadBalancerClass != other.Name || len(svc.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("class %s, published: %+v", record.Status.LoadBalancerClass, svc.Status.LoadBalancer.Ingress)
	}
}

// TestCopiedRecord: a record that was copied, or restored, into another namespace names a Service that lives. What that one has
// stays, whether or not the copy has a Service beside it, and whatever that asks for.
func TestCopiedRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	w.stop()
	before := w.objects()
	other := &world{World: apiserver.New(t), cloud: w.cloud, class: w.class}
	for _, name := range []string{"cart", "alone", "taking"} {
		record := w.record(svc)
		record.ObjectMeta = metav1.ObjectMeta{Namespace: other.Namespace, Name: name}
		if name == "taking" {
			record.Status.Policy = v1alpha1.PolicyRetain
		}
		w.Make(record)
	}
	restored := other.service("cart", func(s *corev1.Service) { s.Spec.Ports[0].Port = 8080 })
	taking := other.service("taking", withAnnotation(v1alpha1.AnnotationAdopt, balancerOf(w.record(svc))))
	r := w.alone(w.Client, events.NewFakeRecorder(100))
	r.Client, r.APIReader = w.Client, w.Client
	for range 3 {
		for _, name := range []string{"cart", "alone", "taking"} {
			if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: other.Namespace, Name: name}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if e := r.ledger.of(svc.UID); e != nil {
		t.Errorf("by the copies of its record the Service %s is known as %s", client.ObjectKeyFromObject(svc), e.name)
	}
	for _, o := range before {
		if diff := cmp.Diff(&o, w.byID(o.ID)); diff != "" {
			t.Errorf("what the Service has was changed (-before +after):\n%s", diff)
		}
	}
	if got := other.record(restored).Status.ServiceUID; got != restored.UID {
		t.Errorf("the record beside the restored Service is of %s", got)
	}
	if c := other.record(taking).Status.Conditions; len(c) != 1 || c[0].Reason != v1alpha1.ReasonAdoptionRefused {
		t.Errorf("by a copy of a Service's record another one takes its balancer: %+v", c)
	}
	if err := w.absent(other.Namespace, "alone", &v1alpha1.LoadBalancerRecord{}); err != nil {
		t.Error(err)
	}
}

// blind is a cache without the Services that the API server has by now.
type blind struct{ client.Client }

func (b blind) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	if _, ok := object.(*corev1.Service); ok {
		return apierrors.NewNotFound(corev1.Resource("services"), key.Name)
	}
	return b.Client.Get(ctx, key, object, opts...)
}

func (b blind) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if services, ok := list.(*corev1.ServiceList); ok {
		services.Items = nil
		return nil
	}
	return b.Client.List(ctx, list, opts...)
}

// TestServiceShownAfterItsRecord: a manager that has just started sees a record, and not its Service yet, or an earlier one of the name. What
// the Service has stays.
func TestServiceShownAfterItsRecord(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]func(w *world, svc *corev1.Service) client.Client{
		"None": func(w *world, _ *corev1.Service) client.Client { return blind{w.Client} },
		"Earlier": func(w *world, svc *corev1.Service) client.Client {
			earlier := svc.DeepCopy()
			earlier.UID = "earlier"
			return lagging{blind{w.Client}, earlier}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fake.Options{}, nil)
			w.stop()
			svc := w.service("cart", nil)
			w.begin(svc).run()
			before, record := w.objects(), w.record(svc)
			r := w.alone(cache(w, svc), events.NewFakeRecorder(100))
			asked := &countingServices{Reader: w.Client}
			r.APIReader = asked
			for range 3 {
				result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)})
				if err != nil || result.RequeueAfter == 0 {
					t.Errorf("%+v, %v: want another pass", result, err)
				}
			}
			if diff := cmp.Diff(before, w.objects()); diff != "" {
				t.Errorf("what a Service has that lives was changed (-before +after):\n%s", diff)
			}
			if got := w.record(svc); got.UID != record.UID {
				t.Errorf("the record was made anew")
			}
			if asked.lists > 0 {
				t.Errorf("all Services were listed %d times", asked.lists)
			}
		})
	}
}

// countingServices counts how often all Services are listed.
type countingServices struct {
	client.Reader
	lists int
}

func (c *countingServices) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	_, whole := list.(*corev1.ServiceList)
	_, parts := list.(*metav1.PartialObjectMetadataList)
	if whole || parts && len(opts) == 0 {
		c.lists++
	}
	return c.Reader.List(ctx, list, opts...)
}

// TestGoneIsAskedOnce: while the cloud takes its time to delete what a Service left behind, the API server is not asked again and again
// whether that lives.
func TestGoneIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	w.begin(svc).run()
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Finalizers = nil })
	w.Must(w.Delete(t.Context(), svc))
	p := w.begin(svc)
	asked := &countingServices{Reader: p.APIReader}
	p.APIReader = asked
	writes := 0
	w.setHook(func(call fake.Call) error {
		if call.Write() && !call.After {
			if writes++; writes < 5 {
				return cloud.Errorf(cloud.Pending, "in use")
			}
		}
		return nil
	})
	p.run()
	if left := w.objects(); len(left) > 0 || asked.lists != 1 {
		t.Errorf("%d objects left, all Services listed %d times", len(left), asked.lists)
	}
	p.Reconciler.gone.Range(func(uid, _ any) bool {
		t.Errorf("%v is remembered", uid)
		return true
	})
}

// replacing is an API server where, right before a record is deleted, somebody else does so and makes another one of the name.
type replacing struct {
	client.Client
	w   *world
	svc *corev1.Service
}

func (r replacing) Delete(ctx context.Context, object client.Object, opts ...client.DeleteOption) error {
	if _, ok := object.(*v1alpha1.LoadBalancerRecord); ok {
		record := r.w.record(r.svc)
		r.w.Must(r.w.Delete(ctx, record))
		record.ObjectMeta = metav1.ObjectMeta{Namespace: record.Namespace, Name: record.Name}
		record.Status.ServiceUID = "later"
		r.w.Make(record)
	}
	return r.Client.Delete(ctx, object, opts...)
}

// TestAnotherRecordOfTheName: a release deletes the record that it is of, and not one that took its place meanwhile.
func TestAnotherRecordOfTheName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	w.begin(svc).run()
	leave(w, svc)
	p := w.begin()
	p.Client = replacing{p.Client, w, svc}
	result, err := p.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)})
	if err != nil || result.RequeueAfter == 0 {
		t.Errorf("%+v, %v: want another pass", result, err)
	}
	if got := w.record(svc).Status.ServiceUID; got != "later" {
		t.Errorf("the record is of %s", got)
	}
}

// TestClassMadeAnew: a class that is deleted, and made again under its name for another className, takes no balancer away.
func TestClassMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	before := w.objects()
	w.stop()
	w.Must(w.Delete(t.Context(), w.class))
	w.class = nil
	w.makeClass(func(c *v1alpha1.LoadBalancerClassSpec) { c.ClassName += "-renamed" })
	w.start()
	c := w.reason(svc, v1alpha1.ReasonClassNotAccepted)
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("the balancer was changed (-before +after):\n%s", diff)
	}
	if len(svc.Status.LoadBalancer.Ingress) != 1 || !strings.Contains(c.Message, "-renamed") {
		t.Errorf("published: %+v, the message: %s", svc.Status.LoadBalancer.Ingress, c.Message)
	}
	w.Must(w.Delete(t.Context(), svc))
	w.gone(svc)
}

// TestLongMistake: a mistake is told whatever it quotes, also where there is a record, whose messages the API server bounds.
func TestLongMistake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	annotate(w, svc, v1alpha1.AnnotationPolicy, strings.Repeat("\u00e9", 40<<10))
	if c := w.reason(svc, v1alpha1.ReasonInvalidService); len(c.Message) > maxMessage || !strings.HasSuffix(c.Message, "...") {
		t.Errorf("the message has %d bytes", len(c.Message))
	}
	annotate(w, svc, v1alpha1.AnnotationPolicy, "")
	w.reason(svc, v1alpha1.ReasonEnsured)
}

// leave makes a Service one of the cluster alone.
func leave(w *world, svc *corev1.Service) {
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil })
}

// TestCapitals: an address that the API server does not take as it is gets published all the same.
func TestCapitals(t *testing.T) {
	out := cloud.Outcome{Observed: []cloud.Resource{{Ingress: []cloud.Ingress{{Hostname: "My-Balancer.Example.COM."}}}}}
	if got := published(&corev1.Service{}, out); len(got) != 1 || got[0].Hostname != "my-balancer.example.com" {
		t.Errorf("published: %+v", got)
	}
}

// TestBlockedHalfMade: a balancer that is not to be finished is not published, and one that is stays so.
func TestBlockedHalfMade(t *testing.T) {
	out := cloud.Outcome{Observed: []cloud.Resource{{Ingress: []cloud.Ingress{{IP: "198.51.100.1"}}}},
		Left: cloud.Plan{Lacking: true, Blocked: []cloud.Block{{Reason: cloud.BlockReplacement}}}}
	svc := &corev1.Service{}
	if got := published(svc, out); len(got) > 0 {
		t.Errorf("published: %+v", got)
	}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}}
	if got := published(svc, out); len(got) != 1 {
		t.Errorf("published: %+v", got)
	}
}

// TestPublishedBeforeTheLastTarget: one node that cannot join keeps no address from being published, as long as others have.
func TestPublishedBeforeTheLastTarget(t *testing.T) {
	three := cloud.Resource{ID: "set", Targets: []cloud.Target{{ID: "a"}, {ID: "b"}, {ID: "c"}}}
	for name, tc := range map[string]struct {
		left []cloud.Operation
		want int
	}{
		"SomeAreThere": {[]cloud.Operation{{Action: cloud.ActionSyncTargets, Resource: three, Add: three.Targets[2:]}}, 1},
		"NoneIsThere":  {[]cloud.Operation{{Action: cloud.ActionSyncTargets, Resource: three, Add: three.Targets}}, 0},
		"NoSet":        {[]cloud.Operation{{Action: cloud.ActionSyncTargets, Resource: cloud.Resource{Targets: three.Targets}, Add: three.Targets[2:]}}, 0},
		"MoreToDo": {[]cloud.Operation{{Action: cloud.ActionSyncTargets, Resource: three, Add: three.Targets[2:]},
			{Action: cloud.ActionCreate}}, 0},
	} {
		out := cloud.Outcome{Observed: []cloud.Resource{{Ingress: []cloud.Ingress{{IP: "198.51.100.1"}}}}, Left: cloud.Plan{Operations: tc.left}}
		if got := published(&corev1.Service{}, out); len(got) != tc.want {
			t.Errorf("%s: published: %+v", name, got)
		}
	}
}

// TestRepetitions: what a provider names twice stands once in the record, whose lists are sets to the API server.
func TestRepetitions(t *testing.T) {
	owner := cloud.Owner{ClusterID: "test", ServiceUID: "u"}
	twice := cloud.Resource{Kind: "Balancer", Key: "main", ID: "b", Owners: []cloud.OwnerID{owner.ID()},
		Ingress: []cloud.Ingress{{IP: "192.0.2.1"}, {IP: "192.0.2.1", IPMode: "Proxy"}}}
	out, err := cloud.Compare(owner, nil, []cloud.Resource{twice, twice}, cloud.Options{})
	if err != nil || len(out.Left.Operations) != 1 {
		t.Errorf("to be done: %+v (%v)", out.Left.Operations, err)
	}
	v := &view{service: &corev1.Service{}, binding: &binding{}}
	status := recordStatus(nil, v, result{observed: true, outcome: out}, metav1.Condition{})
	if len(status.Resources) != 1 || len(status.Addresses) != 1 {
		t.Errorf("the record has %+v, %q", status.Resources, status.Addresses)
	}
}

// TestPendingBesideBlocked: that the cloud is still at something does not hide what waits for a decision.
func TestPendingBesideBlocked(t *testing.T) {
	out := cloud.Outcome{Left: cloud.Plan{Blocked: []cloud.Block{{Reason: cloud.BlockReplacement, Message: "needs another address"}}}}
	pending := cloud.Errorf(cloud.Pending, "at it")
	res := concluded(out, pending, v1alpha1.PolicyApply, nil)
	if res.reason != v1alpha1.ReasonReplacementNeeded || res.message != "needs another address" || res.requeue != waitPending || res.observed {
		t.Errorf("beside a block: %+v", res)
	}
	last := &metav1.Condition{Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Add(-time.Hour))}
	if res := concluded(out, pending, v1alpha1.PolicyApply, last); res.requeue != maxPending {
		t.Errorf("after an hour: again after %v", res.requeue)
	}
	if res := concluded(cloud.Outcome{}, pending, v1alpha1.PolicyApply, nil); res.reason != v1alpha1.ReasonPending {
		t.Errorf("alone: %+v", res)
	}
	if res := concluded(out, cloud.Errorf(cloud.Quota, "full"), v1alpha1.PolicyApply, nil); res.reason != v1alpha1.ReasonQuotaExceeded {
		t.Errorf("a failure beside a block: %+v", res)
	}
}

// TestMistakeBesideWork: what the cloud calls a mistake is looked at again in a while, since it may be put right there, and what the cloud
// is still at beside it is seen to its end.
func TestMistakeBesideWork(t *testing.T) {
	mistake := cloud.Errorf(cloud.UserError, "wrong")
	last := &metav1.Condition{Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Add(-time.Hour))}
	for name, tc := range map[string]struct {
		out  cloud.Outcome
		last *metav1.Condition
		want time.Duration
	}{
		"Alone":   {cloud.Outcome{}, last, waitBlocked},
		"Working": {cloud.Outcome{Working: true}, nil, waitPending},
		"Waiting": {cloud.Outcome{Left: cloud.Plan{Waiting: []string{"Listener/tcp-80"}}}, nil, waitPending},
		"Long":    {cloud.Outcome{Working: true}, last, maxPending},
	} {
		if res := concluded(tc.out, mistake, v1alpha1.PolicyApply, tc.last); res.requeue != tc.want || res.reason != v1alpha1.ReasonInvalidService {
			t.Errorf("%s: %+v, want to come again after %v", name, res, tc.want)
		}
	}
}

// TestPatienceGrows: what somebody has to see to is looked at less and less often, since it may stand in the way of very many Services;
// from when it came to that, however long something else was wrong before.
func TestPatienceGrows(t *testing.T) {
	blocked := func(reason cloud.BlockReason) cloud.Outcome {
		return cloud.Outcome{Left: cloud.Plan{Blocked: []cloud.Block{{Reason: reason}}}}
	}
	for name, tc := range map[string]struct {
		out   cloud.Outcome
		err   error
		least time.Duration
	}{
		"Replacement": {blocked(cloud.BlockReplacement), nil, waitBlocked},
		"Offered":     {blocked(cloud.BlockOffered), nil, waitBlocked},
		"Quota":       {cloud.Outcome{}, cloud.Errorf(cloud.Quota, "full"), waitQuota},
		"Conflict":    {cloud.Outcome{}, cloud.Errorf(cloud.Conflict, "another one's"), waitConflict},
		"Mistake":     {cloud.Outcome{}, cloud.Errorf(cloud.UserError, "wrong"), waitBlocked},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &entry{}
			wait := func(out cloud.Outcome, err error) time.Duration {
				last := &metav1.Condition{Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Add(-24 * time.Hour))}
				res := concluded(out, err, v1alpha1.PolicyApply, last)
				return e.wait(&res)
			}
			expect := func(when string, want time.Duration) {
				t.Helper()
				if got := wait(tc.out, tc.err); got != want {
					t.Errorf("%s, %s: again after %v, want %v", name, when, got, want)
				}
			}
			expect("at first", tc.least)
			time.Sleep(time.Second)
			expect("then", tc.least)
			time.Sleep(tc.least * 8)
			expect("later", tc.least*2+time.Second/4)
			time.Sleep(time.Hour)
			expect("after an hour", maxRetry)
			wait(cloud.Outcome{}, nil)
			expect("anew", tc.least)
			time.Sleep(time.Hour)
			wait(cloud.Outcome{}, cloud.Errorf(cloud.Pending, "at it"))
			expect("after something else", tc.least)
		})
	}
}

// TestPatienceOfADeletion: a deletion in whose way something is waits by how long that is so, not by how long the Service was wrong before.
func TestPatienceOfADeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	r := w.alone(w.Client, discard{})
	pass := func() (time.Duration, *entry) {
		t.Helper()
		after := w.pass(r, svc)
		last, _ := r.last.Load(svc.UID)
		conditions := last.(*written).status.Conditions
		conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Hour)).Rfc3339Copy()
		return after, r.ledger.of(svc.UID)
	}
	pass()
	w.setHook(func(fake.Call) error { return cloud.Errorf(cloud.Conflict, "in use") })
	annotate(w, svc, "example.com/look", "again")
	_, e := pass()
	w.reason(svc, v1alpha1.ReasonConflict)
	e.since = e.since.Add(-time.Hour)
	w.Must(w.Delete(t.Context(), svc))
	for _, when := range []string{"at first", "then"} {
		if after, _ := pass(); after != waitConflict {
			t.Errorf("%s it is looked at again after %v, want %v", when, after, waitConflict)
		}
	}
	e.since = e.since.Add(-time.Hour)
	if after, _ := pass(); after != maxRetry {
		t.Errorf("after an hour it is looked at again after %v, want %v", after, maxRetry)
	}
	w.setHook(nil)
	_, err := r.Reconcile(t.Context(), named(svc.Namespace, svc.Name))
	w.Must(err)
	w.Must(w.absent(svc.Namespace, svc.Name, &corev1.Service{}))
}

// TestSenselessWaits: what a provider says of time that cannot be is as if it had said nothing.
func TestSenselessWaits(t *testing.T) {
	for _, class := range []cloud.Class{cloud.RetryAfter, cloud.Throttled} {
		res := failed(&cloud.Error{Class: class, After: -time.Hour, Err: errStopped}, cloud.Outcome{})
		if res.requeue != 0 || res.err == nil {
			t.Errorf("%s: again after %v (%v)", class, res.requeue, res.err)
		}
	}
}
