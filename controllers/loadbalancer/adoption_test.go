package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// plant makes a balancer by hand, with listeners on the ports 80 and 9443, and returns its id and its address. The tags go on
// the balancer, and on its parts where they say for which Service it was made.
func (w *world) plant(tags map[string]string) (id, address string) {
	w.Helper()
	made := map[string]string{}
	create := func(name string, o fake.Object, refs ...string) fake.Object {
		w.Helper()
		o.Name = fmt.Sprintf("by-hand-%d-%s", len(w.objects()), name)
		if _, parts := tags[fake.TagMadeFor]; parts || o.Kind == fake.KindBalancer {
			o.Tags = tags
		}
		for _, ref := range refs {
			o.Refs = append(o.Refs, made[ref])
		}
		o, err := w.cloud.Create(w.Context(), o)
		w.Must(err)
		made[name] = o.ID
		return o
	}
	address = create("address", fake.Object{Kind: fake.KindAddress, Fields: map[string]string{"family": "IPv4", "pool": "", "requested": ""}}).Address
	create("balancer", fake.Object{Kind: fake.KindBalancer}, "address")
	for _, port := range []string{"80", "9443"} {
		create("check-"+port, fake.Object{Kind: fake.KindHealthCheck, Fields: map[string]string{"protocol": "TCP", "port": "31234",
			"path": "", "intervalSeconds": "7", "threshold": "4"}})
		set := create("set-"+port, fake.Object{Kind: fake.KindTargetSet, Fields: map[string]string{"protocol": "TCP", "port": "31234", "family": "IPv4"}}, "check-"+port)
		w.Must(w.cloud.SyncTargets(w.Context(), []fake.TargetsRequest{{ID: set.ID, Add: []string{"172.30.0.99"}}}))
		create("listener-"+port, fake.Object{Kind: fake.KindListener, Fields: map[string]string{"protocol": "TCP", "port": port, "family": "IPv4",
			"sourceRanges": "", "affinitySeconds": "0"}}, "balancer", "set-"+port)
	}
	return made["balancer"], address
}

// marked returns the names of what carries a mark of ours.
func (w *world) marked() []string {
	var names []string
	for _, o := range w.objects() {
		for tag := range o.Tags {
			if strings.HasPrefix(tag, "fairlead.dev/") && tag != v1alpha1.TagAdoptableBy {
				names = append(names, o.Name)
				break
			}
		}
	}
	return names
}

func (w *world) byID(id string) *fake.Object {
	for _, o := range w.objects() {
		if o.ID == id {
			return &o
		}
	}
	return nil
}

// event polls for an event of the reason on a Service.
func (w *world) event(svc *corev1.Service, reason string) {
	w.Helper()
	w.Eventually(func() error {
		if counts := w.events(svc.Name); counts[reason] == 0 {
			return fmt.Errorf("the events are %v, want %s", counts, reason)
		}
		return nil
	})
}

// left polls until a Service and its record are gone.
func (w *world) left(svc *corev1.Service) {
	w.Helper()
	w.Eventually(func() error {
		for _, object := range []client.Object{&corev1.Service{}, &v1alpha1.LoadBalancerRecord{}} {
			if err := w.absent(svc.Namespace, svc.Name, object); err != nil {
				return err
			}
		}
		return nil
	})
}

func annotate(w *world, svc *corev1.Service, key, value string) {
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		if s.Annotations[key] = value; value == "" {
			delete(s.Annotations, key)
		}
	})
}

// TestAdoption: a balancer that somebody made by hand becomes a Service's with their consent, keeps its address, and is
// somebody's as before when the Service is gone.
func TestAdoption(t *testing.T) {
	t.Parallel()
	for name, granted := range map[string]bool{"Tag": false, "Class": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fake.Options{}, nil)
			w.node("n1", "172.30.0.11", nil)
			tags := map[string]string{v1alpha1.TagAdoptableBy: "test/" + w.Namespace + "/cart"}
			if granted {
				tags = map[string]string{"by": "hand"}
			}
			id, address := w.plant(tags)
			if granted {
				apiserver.Change(w.World, w.class, func(c *v1alpha1.LoadBalancerClass) {
					c.Spec.Adoption = &v1alpha1.Adoption{Grants: []v1alpha1.AdoptionGrant{{Namespace: w.Namespace, Name: "cart", IDs: []string{id}}}}
				})
			}
			svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: id} })
			w.reason(svc, v1alpha1.ReasonEnsured)
			if in := svc.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != address {
				t.Errorf("published is %+v, want %s", in, address)
			}
			w.event(svc, EventAdopted)
			lent := 0
			for _, r := range w.record(svc).Status.Resources {
				if r.Lent {
					lent++
				}
			}
			if lent != 5 || len(w.marked()) != 5 {
				t.Errorf("%d resources are lent, and marked are %q: want address, balancer, and what is of port 80", lent, w.marked())
			}
			for _, b := range w.cloud.Balancers() {
				if len(b.Listeners) != 2 || b.Listeners[0].Targets[0].Addr().String() != "172.30.0.11" {
					t.Errorf("the balancer has %+v", b.Listeners)
				}
			}
			if n := len(w.cloud.Balancers()); n != 1 {
				t.Errorf("there are %d balancers", n)
			}

			// The annotation has done its work.
			writes := w.countWrites()
			annotate(w, svc, v1alpha1.AnnotationAdopt, "")
			annotate(w, svc, "example.com/seen", "true")
			w.reason(svc, v1alpha1.ReasonEnsured)
			w.stop()
			w.start()
			apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
			w.Eventually(func() error {
				if n := w.countWrites() - writes; n != 1 {
					return fmt.Errorf("%d writes, want the one of the affinity", n)
				}
				return nil
			})

			w.Must(w.Delete(t.Context(), svc))
			w.left(svc)
			w.event(svc, EventReleased)
			if marked := w.marked(); len(marked) > 0 {
				t.Errorf("still marked: %q", marked)
			}
			b := w.byID(id)
			if b == nil || !cmp.Equal(tags, b.Tags) {
				t.Fatalf("the balancer is %+v, want one with the tags %v", b, tags)
			}
			for _, o := range w.objects() {
				if want := strings.HasSuffix(o.Name, "set-9443"); o.Kind == fake.KindTargetSet && (len(o.Targets) > 0) != want {
					t.Errorf("%s has the targets %v", o.Name, o.Targets)
				}
			}
		})
	}
}

// TestAdoptedAndMistaken: what is adopted goes on to serve the port that it served while the Service asks for another one and is wrong about
// something else. It becomes what the Service asks for once that is put right.
func TestAdoptedAndMistaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.node("n1", "172.30.0.11", nil)
	id, _ := w.plant(map[string]string{v1alpha1.TagAdoptableBy: "test/" + w.Namespace + "/cart"})
	svc := w.service("cart", withAnnotation(v1alpha1.AnnotationAdopt, id))
	w.reason(svc, v1alpha1.ReasonEnsured)
	before := w.objects()
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		s.Annotations["fairlead.dev/nobody-knows-this"] = "true"
		s.Spec.Ports[0].Port = 8080
	})
	w.reason(svc, v1alpha1.ReasonInvalidService)
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("the balancer was changed (-before +after):\n%s", diff)
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { delete(s.Annotations, "fairlead.dev/nobody-knows-this") })
	w.Eventually(func() error {
		for _, o := range w.objects() {
			if o.Kind == fake.KindListener && o.Fields["port"] == "8080" {
				return nil
			}
		}
		return errors.New("nothing listens on the new port")
	})
}

// TestAdoptionRefused: what cannot be adopted is told in one condition and one event, and a balancer that runs goes on.
func TestAdoptionRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.node("n1", "172.30.0.11", nil)
	id, _ := w.plant(map[string]string{v1alpha1.TagAdoptableBy: "test/" + w.Namespace + "/other"})
	foreign := *w.byID(id)

	// A Service that has none gets none.
	fresh := w.service("fresh", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: id} })
	c := w.reason(fresh, v1alpha1.ReasonAdoptionRefused)
	if !strings.Contains(c.Message, "fairlead.dev/adoptable-by=test/"+w.Namespace+"/fresh") {
		t.Errorf("the message does not say how to consent: %s", c.Message)
	}
	w.event(fresh, EventSyncFailed)
	if len(w.marked()) > 0 {
		t.Errorf("marked: %q", w.marked())
	}

	// One that has one keeps it, and its targets follow the nodes.
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	before := svc.Status.LoadBalancer.Ingress
	for _, wrong := range []string{"nobody-has-this-id", id} {
		annotate(w, svc, v1alpha1.AnnotationAdopt, wrong)
		w.Eventually(func() error {
			if c := w.reason(svc, v1alpha1.ReasonAdoptionRefused); !strings.Contains(c.Message, wrong) {
				return fmt.Errorf("the message is %q", c.Message)
			}
			return nil
		})
	}
	w.node("n2", "172.30.0.12", nil)
	w.Eventually(func() error {
		for _, o := range w.objects() {
			if o.Kind == fake.KindTargetSet && o.Tags["fairlead.dev/service"] != "" && len(o.Targets) != 2 {
				return fmt.Errorf("%s has targets %v", o.Name, o.Targets)
			}
		}
		return nil
	})
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	if diff := cmp.Diff(before, svc.Status.LoadBalancer.Ingress); diff != "" {
		t.Errorf("its addresses changed (-before +after):\n%s", diff)
	}
	if now := w.byID(id); now == nil || !cmp.Equal(foreign, *now) {
		t.Errorf("the balancer that was not adopted is %+v, was %+v", now, foreign)
	}
	annotate(w, svc, v1alpha1.AnnotationAdopt, "")
	w.reason(svc, v1alpha1.ReasonEnsured)

	// Consent comes, and counts.
	_, err := w.cloud.Update(t.Context(), fake.Object{ID: id, Kind: fake.KindBalancer,
		Tags: map[string]string{v1alpha1.TagAdoptableBy: "test/" + w.Namespace + "/fresh"}})
	w.Must(err)
	annotate(w, fresh, "example.com/look", "again")
	w.reason(fresh, v1alpha1.ReasonEnsured)

	// Adopted by one Service it is no other's, whatever the class grants.
	apiserver.Change(w.World, w.class, func(c *v1alpha1.LoadBalancerClass) {
		c.Spec.Adoption = &v1alpha1.Adoption{Grants: []v1alpha1.AdoptionGrant{{Namespace: w.Namespace, Name: "late", IDs: []string{id}}}}
	})
	late := w.service("late", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: id} })
	if c := w.reason(late, v1alpha1.ReasonAdoptionRefused); !strings.Contains(c.Message, "belongs to Service "+w.Namespace+"/fresh:") {
		t.Errorf("the message is %q", c.Message)
	}
	// Nobody is sent for a consent that would not help.
	apiserver.Change(w.World, w.class, func(c *v1alpha1.LoadBalancerClass) { c.Spec.Adoption = nil })
	annotate(w, late, "example.com/look", "again")
	if c := w.reason(late, v1alpha1.ReasonAdoptionRefused); !strings.Contains(c.Message, "belongs to Service") {
		t.Errorf("the message is %q", c.Message)
	}
}

// TestAdoptionPlanned: under policy Plan the plan shows the adoption, and nothing is written.
func TestAdoptionPlanned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, func(c *v1alpha1.LoadBalancerClassSpec) { c.Policy = v1alpha1.PolicyPlan })
	id, address := w.plant(map[string]string{v1alpha1.TagAdoptableBy: "test/" + w.Namespace + "/cart"})
	writes := w.countWrites()
	svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: id} })
	w.reason(svc, v1alpha1.ReasonPlanned)
	var adopts []string
	for _, op := range w.record(svc).Status.Plan {
		if op.Action == string(cloud.ActionAdopt) {
			adopts = append(adopts, op.Kind+"/"+op.Key)
		}
		if op.Action == string(cloud.ActionCreate) {
			t.Errorf("it plans to make %s", op.Kind)
		}
	}
	want := []string{"Address/ipv4", "HealthCheck/tcp-80", "Listener/tcp-80-ipv4", "TargetSet/tcp-80-ipv4", "Balancer/main"}
	if !slices.Equal(adopts, want) {
		t.Errorf("it plans to adopt %q, want %q", adopts, want)
	}
	if n := w.countWrites(); n != writes {
		t.Errorf("%d writes", n-writes)
	}
	annotate(w, svc, v1alpha1.AnnotationPolicy, string(v1alpha1.PolicyApply))
	w.reason(svc, v1alpha1.ReasonEnsured)
	if in := svc.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != address {
		t.Errorf("published is %+v, want %s", in, address)
	}
}

// served is a Service that another controller made a balancer for before the manager started.
func (w *world) served(name string) (svc *corev1.Service, id, address string) {
	w.Helper()
	svc = w.service(name, nil)
	id, address = w.plant(map[string]string{fake.TagMadeFor: "test/" + string(svc.UID), fake.TagMadeBy: "service-controller"})
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	w.Must(w.Status().Update(w.Context(), svc))
	return svc, id, address
}

// TestTakeOver: what another controller made for a Service is offered, and nothing is made beside it until somebody
// decides. Its address stays published meanwhile.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]func(w *world, svc *corev1.Service, id string){
		"Annotation": func(w *world, svc *corev1.Service, id string) { annotate(w, svc, v1alpha1.AnnotationAdopt, id) },
		"Class": func(w *world, _ *corev1.Service, _ string) {
			apiserver.Change(w.World, w.class, func(c *v1alpha1.LoadBalancerClass) {
				c.Spec.Adoption = &v1alpha1.Adoption{TakeOver: v1alpha1.TakeOverAutomatic}
			})
		},
		"None": func(w *world, svc *corev1.Service, _ string) {
			annotate(w, svc, v1alpha1.AnnotationAdopt, v1alpha1.AdoptNone)
		},
		"Delete": func(w *world, svc *corev1.Service, _ string) { w.Must(w.Delete(w.Context(), svc)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fake.Options{}, nil)
			w.stop()
			svc, id, address := w.served("cart")
			before, writes := w.objects(), w.countWrites()
			w.start()
			c := w.reason(svc, v1alpha1.ReasonAdoptionOffered)
			if !strings.Contains(c.Message, id) || !strings.Contains(c.Message, v1alpha1.AnnotationAdopt) {
				t.Errorf("the message is %q", c.Message)
			}
			w.event(svc, EventAdoptionOffered)
			if in := svc.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != address {
				t.Errorf("published is %+v, want %s as before", in, address)
			}
			if w.countWrites() != writes {
				t.Error("something was written to the cloud before anybody decided")
			}
			decide(w, svc, id)
			switch name {
			case "Delete":
				w.left(svc)
				w.event(svc, EventLeft)
				if diff := cmp.Diff(before, w.objects()); diff != "" {
					t.Errorf("the cloud changed (-before +after):\n%s", diff)
				}
				return
			case "None":
				w.reason(svc, v1alpha1.ReasonEnsured)
				if n := len(w.cloud.Balancers()); n != 2 {
					t.Errorf("there are %d balancers", n)
				}
				w.Must(w.Delete(t.Context(), svc))
				w.left(svc)
				if diff := cmp.Diff(before, w.objects()); diff != "" {
					t.Errorf("the other controller's changed (-before +after):\n%s", diff)
				}
				return
			}
			w.reason(svc, v1alpha1.ReasonEnsured)
			if in := svc.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != address {
				t.Errorf("published is %+v, want %s", in, address)
			}
			if b := w.cloud.Balancers(); len(b) != 1 || len(b[0].Listeners) != 1 {
				t.Errorf("the cloud has %+v, want one balancer with the Service's port alone", b)
			}
			w.Must(w.Delete(t.Context(), svc))
			w.gone(svc)
		})
	}
}

// TestDeletedBeforeItWasSeen: what another controller made for a Service that is deleted while nobody runs is told before the Service
// is let go, which that controller's finalizer holds; not where it has been said that it is no matter of ours, and not before the
// cloud could be asked.
func TestDeletedBeforeItWasSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	for name, adopt := range map[string]string{"cart": "", "other": v1alpha1.AdoptNone} {
		svc := w.service(name, func(s *corev1.Service) {
			s.Finalizers = []string{v1alpha1.FinalizerLoadBalancer}
			s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: adopt}
			if adopt == "" {
				s.Annotations = nil
			}
		})
		id, _ := w.plant(map[string]string{fake.TagMadeFor: "test/" + string(svc.UID), fake.TagMadeBy: "service-controller"})
		w.Must(w.Delete(t.Context(), svc))
		before := w.objects()
		p, told := w.begin(svc), &sayings{}
		p.Recorder = told
		if adopt == "" {
			lists := 0
			w.setHook(func(call fake.Call) error {
				if call.Method == "List" && !call.After {
					lists++
				}
				if lists == 2 { // what is the Service's is asked for first
					return &cloud.Error{Class: cloud.Retry, Err: errors.New("out of order")}
				}
				return nil
			})
			if _, err := p.Reconcile(t.Context(), named(svc.Namespace, svc.Name)); err == nil {
				t.Error("it was let go before the cloud could be asked")
			}
			w.setHook(nil)
		}
		p.run()
		if err := w.absent(svc.Namespace, svc.Name, &corev1.Service{}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, w.objects()); diff != "" {
			t.Errorf("the cloud changed (-before +after):\n%s", diff)
		}
		left := told.of(EventLeft)
		if want := adopt == ""; (len(left) == 1) != want || want && !strings.Contains(left[0], id) {
			t.Errorf("of %s of %s is said %q", id, name, left)
		}
	}
}

// sayings is an event recorder that keeps what it is told.
type sayings struct {
	events.EventRecorder
	notes map[string][]string // by reason
}

func (s *sayings) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	if s.notes == nil {
		s.notes = map[string][]string{}
	}
	s.notes[reason] = append(s.notes[reason], fmt.Sprintf(note, args...))
}

func (s *sayings) of(reason string) []string { return s.notes[reason] }

// TestAdoptionStoppedAnywhere stops the manager after every call of an adoption, of what is lent and of what is taken over,
// and starts another one; and after every call of the Service's deletion.
func TestAdoptionStoppedAnywhere(t *testing.T) {
	t.Parallel()
	for name, lent := range map[string]bool{"Lent": true, "TakenOver": false} {
		for _, step := range []string{"adopt", "delete"} {
			t.Run(name+"_"+step, func(t *testing.T) {
				t.Parallel()
				testAdoptionStoppedAnywhere(t, lent, step)
			})
		}
	}
}

func testAdoptionStoppedAnywhere(t *testing.T, lent bool, step string) {
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.node("n1", "172.30.0.11", nil)
	wants := map[string][]string{}
	for n := 0; ; n++ {
		if n > 60 {
			t.Fatalf("%s takes more than 60 calls", step)
		}
		svc, id, _ := w.served(fmt.Sprintf("%s-%03d", step, n))
		if lent {
			_, err := w.cloud.Update(t.Context(), fake.Object{ID: id, Kind: fake.KindBalancer, Tags: map[string]string{
				fake.TagMadeFor: "", v1alpha1.TagAdoptableBy: "test/" + w.Namespace + "/" + svc.Name}})
			w.Must(err)
			for _, o := range w.objects() {
				_, err := w.cloud.Update(t.Context(), fake.Object{ID: o.ID, Kind: o.Kind, Tags: map[string]string{fake.TagMadeFor: ""}})
				w.Must(err)
			}
		}
		annotate(w, svc, v1alpha1.AnnotationAdopt, id)
		stopped := false
		for _, now := range []string{"adopt", "delete"} {
			if now == "delete" {
				w.Must(w.Delete(w.Context(), svc))
			}
			p := w.begin(svc)
			if now == step && n > 0 {
				p.stopAt(n)
				stopped = !p.run()
				w.setHook(nil)
				p.kill()
				p = w.begin(svc)
			}
			p.run()
			got := w.describe()
			if _, ok := wants[now]; !ok {
				wants[now] = got
			}
			if diff := cmp.Diff(wants[now], got); diff != "" {
				t.Errorf("%s, stopped after call %d: after %s it is different (-want +got):\n%s", step, n, now, diff)
			}
		}
		w.left(svc)
		if marked := w.marked(); len(marked) > 0 {
			t.Fatalf("%s, stopped after call %d: still marked: %q", step, n, marked)
		}
		w.clean()
		if n > 0 && !stopped {
			t.Logf("stopped %d times", n-1)
			break
		}
	}
	if !lent && len(wants["delete"]) > 0 {
		t.Errorf("left of what was taken over: %q", wants["delete"])
	}
}

// clean empties the cloud by hand.
func (w *world) clean() {
	w.Helper()
	for _, kind := range []string{fake.KindListener, fake.KindBalancer, fake.KindTargetSet, fake.KindHealthCheck, fake.KindAddress} {
		for _, o := range w.objects() {
			if o.Kind == kind {
				w.Must(w.cloud.Delete(context.Background(), o.ID))
			}
		}
	}
}

// TestGrants: the API server refuses grants that could be understood in two ways.
func TestGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	for name, tc := range map[string]struct {
		grants []v1alpha1.AdoptionGrant
		want   string
	}{
		"one":           {[]v1alpha1.AdoptionGrant{{Namespace: "shop", Name: "cart", IDs: []string{"a", "b"}}}, ""},
		"two":           {[]v1alpha1.AdoptionGrant{{Namespace: "shop", Name: "cart", IDs: []string{"a"}}, {Namespace: "shop", Name: "till", IDs: []string{"b"}}}, ""},
		"one id twice":  {[]v1alpha1.AdoptionGrant{{Namespace: "shop", Name: "cart", IDs: []string{"a"}}, {Namespace: "shop", Name: "till", IDs: []string{"a"}}}, "one Service only"},
		"one Service":   {[]v1alpha1.AdoptionGrant{{Namespace: "shop", Name: "cart", IDs: []string{"a"}}, {Namespace: "shop", Name: "cart", IDs: []string{"b"}}}, "Duplicate"},
		"no id":         {[]v1alpha1.AdoptionGrant{{Namespace: "shop", Name: "cart"}}, "ids"},
		"the word None": {[]v1alpha1.AdoptionGrant{{Namespace: "shop", Name: "cart", IDs: []string{v1alpha1.AdoptNone}}}, "None is no id"},
		"no namespace":  {[]v1alpha1.AdoptionGrant{{Name: "cart", IDs: []string{"a"}}}, "namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			class := &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-dry"}, Spec: v1alpha1.LoadBalancerClassSpec{
				ClassName: w.Namespace + "-dry", Provider: fake.Name, Adoption: &v1alpha1.Adoption{Grants: tc.grants}}}
			err := w.Create(t.Context(), class, client.DryRunAll)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
