package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

func TestOrphansOf(t *testing.T) {
	known := map[types.UID]bool{"here": true}
	resource := func(id string, owners ...cloud.OwnerID) cloud.Resource {
		return cloud.Resource{Kind: "Balancer", Key: "main", ID: id, Owners: owners}
	}
	shared, deleting := resource("shared"), resource("deleting", "a/gone")
	shared.Shared, deleting.State = true, cloud.StateDeleting
	found := []cloud.Resource{
		resource("theirs", "a/here"), resource("one of two", "a/gone", "a/here"), resource("orphan", "a/gone"), resource("of two", "a/gone", "a/went"),
		resource("another cluster's", "b/gone"), resource("of both clusters", "a/gone", "b/gone"), resource("like ours", "a-b/gone"),
		resource("nobody's"), shared, deleting, resource("", "a/gone"),
	}
	var got []string
	for _, r := range orphansOf("a", known, found) {
		got = append(got, r.ID)
	}
	if want := []string{"of two", "orphan", "shared"}; !slices.Equal(got, want) {
		t.Errorf("orphans are %q, want %q", got, want)
	}
}

// TestRetainedOfALivingService: what was retained of a Service that lives on, without a balancer or with one of another provider, is no orphan as
// long as its record is there, and then one.
func TestRetainedOfALivingService(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		goes   func(w *world, svc *corev1.Service)
		record func(w *world, svc *corev1.Service) // gone, as the record's message says, or another provider's
	}{
		"WithoutABalancer": {leave, func(w *world, svc *corev1.Service) { w.Must(w.Delete(w.Context(), w.record(svc))) }},
		"OfAnotherProvider": {leave, func(w *world, svc *corev1.Service) {
			otherClass(w)
			apiserver.Change(w.World, svc, func(s *corev1.Service) {
				s.Annotations = nil
				s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(w.class.Spec.ClassName+"-other")
			})
			w.begin(svc).run()
			if got := w.record(svc).Status.Provider; got != emptyCloud {
				w.Errorf("the record is of %s", got)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fake.Options{}, nil)
			w.stop()
			w.grace = time.Nanosecond
			svc := w.service("cart", withAnnotation(v1alpha1.AnnotationPolicy, string(v1alpha1.PolicyRetain)))
			w.begin(svc).run()
			tc.goes(w, svc)
			p := w.begin(svc)
			p.run()
			orphans := func() int {
				for range 2 { // what is seen for the first time is none
					_, err := (&sweepReconciler{p.Reconciler}).Reconcile(w.Context(), named("", fake.Name))
					w.Must(err)
				}
				w.readClass()
				return len(w.class.Status.Orphans)
			}
			if n := orphans(); n != 0 {
				t.Errorf("%d orphans though the record is there", n)
			}
			tc.record(w, svc)
			ids := w.idsOf(svc.UID)
			if n := orphans(); n != len(ids) || n == 0 {
				t.Errorf("%d orphans, want %d", n, len(ids))
			}
			w.askToDelete(ids...)
			p.sweepUntil(func() bool { return len(w.objects()) == 0 })
		})
	}
}

// TestKnownDespiteACopy: a Service whose own record is lost is not made a stranger to its provider by an old copy of a record elsewhere
// that names another one; its own record does that.
func TestKnownDespiteACopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	for _, tc := range []struct {
		record string
		known  bool
	}{{"copy", true}, {"cart", false}} {
		record := &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: tc.record},
			Status: v1alpha1.LoadBalancerRecordStatus{ServiceUID: svc.UID, Provider: emptyCloud}}
		w.Make(record)
		known, err := knownOwners(t.Context(), w.Client, fake.Name)
		w.Must(err)
		if known[svc.UID] != tc.known {
			t.Errorf("with the record %s the Service is known: %t", tc.record, known[svc.UID])
		}
	}
}

func TestGrace(t *testing.T) {
	r := &sweepReconciler{&Reconciler{OrphanGrace: 10 * time.Minute}}
	r.prepare()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a, b := cloud.Resource{Kind: "Balancer", ID: "a"}, cloud.Resource{Kind: "Balancer", ID: "b"}
	look := func(after time.Duration, classes []v1alpha1.LoadBalancerClass, seen ...cloud.Resource) string {
		o := r.gather("fake", classes, seen, start.Add(after))
		return fmt.Sprintf("%s; fresh %d; next %v", names(o.resources), o.fresh, o.ripe)
	}
	for i, step := range []struct {
		after   time.Duration
		seen    []cloud.Resource
		want    string
		classes []v1alpha1.LoadBalancerClass
	}{
		{0, []cloud.Resource{a}, "; fresh 0; next 10m0s", nil},
		{4 * time.Minute, []cloud.Resource{a, b}, "; fresh 0; next 6m0s", nil},
		{10 * time.Minute, []cloud.Resource{a, b}, "Balancer a; fresh 1; next 4m0s", nil},
		{11 * time.Minute, []cloud.Resource{a}, "Balancer a; fresh 0; next 0s", nil},
		// It was not seen in between: the time begins anew.
		{15 * time.Minute, []cloud.Resource{b}, "; fresh 0; next 10m0s", nil},
		{16 * time.Minute, []cloud.Resource{a}, "; fresh 0; next 10m0s", nil},
		// What a class lists was told before a restart.
		{17 * time.Minute, []cloud.Resource{a}, "Balancer a; fresh 0; next 0s", []v1alpha1.LoadBalancerClass{{Status: v1alpha1.LoadBalancerClassStatus{
			Orphans: []v1alpha1.Orphan{{Kind: "Balancer", ID: "a", Since: metav1.NewTime(start)}}}}}},
	} {
		if got := look(step.after, step.classes, step.seen...); got != step.want {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
}

// orphan leaves in the cloud what a Service had, as if somebody had forced the Service away while the manager was down.
func (w *world) orphan(name string, edit func(*corev1.Service)) types.UID {
	w.Helper()
	svc := w.service(name, edit)
	w.begin(svc).run()
	w.force(svc)
	w.Must(w.Delete(w.Context(), &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}))
	return svc.UID
}

// force deletes a Service whatever its finalizers.
func (w *world) force(svc *corev1.Service) {
	w.Helper()
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Finalizers = nil })
	w.Must(w.Delete(w.Context(), svc))
}

// idsOf are the ids of what a Service has in the cloud, sorted by kind and name.
func (w *world) idsOf(uid types.UID, kinds ...string) []string {
	var ids []string
	for _, o := range w.objects() {
		if o.Tags["fairlead.dev/owner/"+string(uid)] != "" && (len(kinds) == 0 || slices.Contains(kinds, o.Kind)) {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// readClass reads the class anew, and into nothing: what it has no more is not sent.
func (w *world) readClass() {
	w.Helper()
	class := &v1alpha1.LoadBalancerClass{}
	w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(w.class), class))
	w.class = class
}

// listed polls until the class lists these orphans and no others.
func (w *world) listed(ids []string) {
	w.Helper()
	w.Eventually(func() error {
		w.readClass()
		var got []string
		for _, o := range w.class.Status.Orphans {
			got = append(got, o.ID)
		}
		if !slices.Equal(got, ids) {
			return fmt.Errorf("the class lists %q, want %q", got, ids)
		}
		return nil
	})
}

func (w *world) askToDelete(ids ...string) {
	w.Helper()
	apiserver.Change(w.World, w.class, func(c *v1alpha1.LoadBalancerClass) {
		c.Annotations = map[string]string{v1alpha1.AnnotationDeleteOrphans: strings.Join(ids, ",")}
	})
}

// answered polls until nothing is asked for any more.
func (w *world) answered() {
	w.Helper()
	w.Eventually(func() error {
		w.readClass()
		if asked := w.class.Annotations[v1alpha1.AnnotationDeleteOrphans]; asked != "" {
			return fmt.Errorf("the class still asks for %q", asked)
		}
		return nil
	})
}

func (w *world) classEvent(reason, about string) {
	w.Helper()
	w.Eventually(func() error {
		var list eventsv1.EventList
		w.Must(w.List(w.Context(), &list))
		for _, e := range list.Items {
			if e.Regarding.Name == w.class.Name && e.Reason == reason && strings.Contains(e.Note, about) {
				return nil
			}
		}
		return fmt.Errorf("no event %s about %s", reason, about)
	})
}

// TestOrphans: what a Service has left is found, listed, told and counted, and deleted when asked, and nothing else is: not
// what a Service has, not what Retain has left, not what is another's.
func TestOrphans(t *testing.T) {
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.grace, w.resync = time.Second, 200*time.Millisecond
	w.node("n1", "172.30.0.11", nil)
	living := w.service("living", nil)
	retained := w.service("retained", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Retain"} })
	w.begin(living, retained).run()
	w.Must(w.Delete(t.Context(), retained))
	w.begin(retained).run()
	w.plant(nil)
	keep := w.describe()
	uid := w.orphan("gone", nil)
	orphans := w.idsOf(uid)
	if len(orphans) != 5 {
		t.Fatalf("the Service left %q", orphans)
	}
	w.start()
	w.listed(orphans)
	for _, o := range w.class.Status.Orphans {
		if !slices.Equal(o.ServiceUIDs, []types.UID{uid}) || o.Kind == "" || o.Key == "" || o.Since.IsZero() {
			t.Errorf("listed is %+v", o)
		}
	}
	w.classEvent(EventOrphans, orphans[0])
	if got := apiserver.Metric(t, "fairlead_loadbalancer_orphans", fake.Name); got != 5 {
		t.Errorf("the metric counts %v", got)
	}
	if got := w.idsOf(uid); !slices.Equal(got, orphans) {
		t.Errorf("left are %q of %q though nobody asked", got, orphans)
	}

	// Only what is an orphan is deleted, whatever is asked for.
	balancer := w.idsOf(living.UID, fake.KindBalancer)[0]
	w.askToDelete(balancer)
	w.answered()
	w.classEvent(EventOrphansKept, balancer)
	// What others use waits for them.
	writes := w.countWrites()
	w.askToDelete(w.idsOf(uid, fake.KindBalancer)...)
	w.Eventually(func() error {
		if w.countWrites() < writes+2 {
			return errors.New("it was not tried twice")
		}
		return nil
	})
	if len(w.idsOf(uid)) != 5 {
		t.Error("something was deleted that others use")
	}
	w.askToDelete(orphans...)
	w.answered()
	w.listed(nil)
	w.classEvent(EventOrphansDeleted, orphans[4])
	if diff := cmp.Diff(keep, w.describe()); diff != "" {
		t.Errorf("the cloud is not as without the orphan (-want +got):\n%s", diff)
	}
	if got := apiserver.Metric(t, "fairlead_loadbalancer_orphans", fake.Name); got != 0 {
		t.Errorf("the metric counts %v", got)
	}
}

// TestServiceBehindTheCache: what the cache does not show yet is looked for past it before anything is deleted.
func TestServiceBehindTheCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.grace = time.Nanosecond
	svc := w.service("cart", nil)
	w.begin(svc).run()
	before := w.objects()
	p := w.begin()
	// As if the cache had heard of nothing since before the Service was made.
	p.Client = behind{p.Client}
	w.askToDelete(w.idsOf(svc.UID)...)
	sweeper := &sweepReconciler{p.Reconciler}
	for range 3 {
		if _, err := sweeper.Reconcile(t.Context(), named("", fake.Name)); err != nil {
			t.Fatal(err)
		}
	}
	w.readClass()
	if len(w.class.Status.Orphans) == 0 {
		t.Fatal("the sweep does not take for orphans what it should: the test tests nothing")
	}
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("a Service lost what it has (-before +after):\n%s", diff)
	}
}

// behind is a client that reads no Services and no records.
type behind struct{ client.Client }

func (b behind) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	switch list.(type) {
	case *corev1.ServiceList, *v1alpha1.LoadBalancerRecordList:
		return nil
	}
	return b.Client.List(ctx, list, opts...)
}

// TestOrphansStoppedAnywhere stops the manager after every call of the deletion of orphans, of a Service by itself and of
// two that shared a balancer, and starts another one.
func TestOrphansStoppedAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.grace = time.Nanosecond
	stops := 0
	for n := 1; ; n++ {
		if n > 60 {
			t.Fatal("the deletion takes more than 60 calls")
		}
		share := func(port int32) func(*corev1.Service) {
			return func(s *corev1.Service) {
				s.Annotations, s.Spec.Ports[0].Port = map[string]string{v1alpha1.AnnotationShare: "web"}, port
			}
		}
		for i, edit := range []func(*corev1.Service){nil, share(80), share(8080)} {
			svc := w.service(fmt.Sprintf("s-%02d-%d", n, i), edit)
			w.begin(svc).run()
			defer func(svc *corev1.Service) { _ = client.IgnoreNotFound(w.Delete(w.Context(), svc)) }(svc)
		}
		var list corev1.ServiceList
		w.Must(w.List(t.Context(), &list, client.InNamespace(w.Namespace)))
		for i := range list.Items {
			w.force(&list.Items[i])
		}
		w.Must(w.DeleteAllOf(t.Context(), &v1alpha1.LoadBalancerRecord{}, client.InNamespace(w.Namespace)))
		var ids []string
		for _, o := range w.objects() {
			ids = append(ids, o.ID)
		}
		p := w.begin()
		p.sweepUntil(func() bool { return len(w.class.Status.Orphans) == len(ids) })
		w.askToDelete(ids...)
		p.stopAt(n)
		stopped := !p.sweepUntil(w.emptied)
		if stopped {
			stops++
		}
		w.setHook(nil)
		w.begin().sweepUntil(w.emptied)
		if left := w.objects(); len(left) > 0 {
			t.Fatalf("stopped after call %d: left are %+v", n, left)
		}
		if !stopped {
			break
		}
	}
	t.Logf("stopped %d times", stops)
}

// TestOrphansAskedForEarly: what is asked for before it was seen for long enough is deleted once it was.
func TestOrphansAskedForEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.grace = time.Nanosecond
	ids := w.idsOf(w.orphan("cart", nil))
	w.askToDelete(ids...)
	w.begin().sweepUntil(func() bool { return w.class.Annotations[v1alpha1.AnnotationDeleteOrphans] == "" })
	if left := w.objects(); len(ids) == 0 || len(left) > 0 {
		t.Errorf("of %v are left %+v", ids, left)
	}
}

// TestOrphansAskedForUnreadably: a request that cannot be read is told of once, taken off, and deletes nothing.
func TestOrphansAskedForUnreadably(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.grace = time.Nanosecond
	ids := w.idsOf(w.orphan("cart", nil))
	before := w.objects()
	w.askToDelete(ids[0], "")
	p, told := w.begin(), &sayings{}
	p.Recorder = told
	stale := w.class.DeepCopy()
	p.sweepUntil(func() bool {
		_, asked := w.class.Annotations[v1alpha1.AnnotationDeleteOrphans]
		return !asked
	})
	// A cache that is behind shows the request still.
	_, err := (&sweepReconciler{p.Reconciler}).askedIDs(t.Context(), &orphanage{classes: []v1alpha1.LoadBalancerClass{*stale}})
	w.Must(err)
	if kept := told.of(EventOrphansKept); len(kept) != 1 || !strings.Contains(kept[0], ids[0]) {
		t.Errorf("it is told %q", kept)
	}
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("the cloud changed (-before +after):\n%s", diff)
	}
}

// emptied reports whether nothing is asked for and nothing listed.
func (w *world) emptied() bool {
	return w.class.Annotations[v1alpha1.AnnotationDeleteOrphans] == "" && len(w.class.Status.Orphans) == 0
}

// sweepUntil sweeps until done says of the class that it is, and reports whether it came so far.
func (p *process) sweepUntil(done func() bool) bool {
	p.Helper()
	var err error
	for range 100 {
		_, err = (&sweepReconciler{p.Reconciler}).Reconcile(p.ctx, named("", fake.Name))
		if p.ctx.Err() != nil {
			return false
		}
		p.readClass()
		if done() {
			return true
		}
	}
	p.Fatalf("after 100 sweeps the class is %+v %+v (%v)", p.class.Annotations, p.class.Status, err)
	return false
}
