package loadbalancer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// reason polls for the reason of the Service's condition.
func (w *world) reason(svc *corev1.Service, want string) *metav1.Condition {
	w.Helper()
	var c *metav1.Condition
	w.Eventually(func() error {
		if err := w.Get(w.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		c = meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
		if c == nil || c.Reason != want {
			return fmt.Errorf("the condition is %+v, want reason %s", c, want)
		}
		return nil
	})
	return c
}

func (w *world) record(svc *corev1.Service) *v1alpha1.LoadBalancerRecord {
	w.Helper()
	record := &v1alpha1.LoadBalancerRecord{}
	w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(svc), record))
	return record
}

// absent returns an error where an object is still there, or cannot be read.
func (w *world) absent(namespace, name string, object client.Object) error {
	err := w.Get(w.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object)
	if err == nil {
		return fmt.Errorf("%T %s is still there", object, name)
	}
	return client.IgnoreNotFound(err)
}

// gone polls until a Service, its record and everything in the cloud are gone.
func (w *world) gone(svc *corev1.Service) {
	w.Helper()
	w.Eventually(func() error {
		for _, object := range []client.Object{&corev1.Service{}, &v1alpha1.LoadBalancerRecord{}} {
			if err := w.absent(svc.Namespace, svc.Name, object); err != nil {
				return err
			}
		}
		if left := w.objects(); len(left) > 0 {
			return fmt.Errorf("left in the cloud: %+v", left)
		}
		return nil
	})
}

func (w *world) targets(want ...string) {
	w.Helper()
	slices.Sort(want)
	w.Eventually(func() error {
		for _, o := range w.objects() {
			if o.Kind == fake.KindTargetSet && !slices.Equal(o.Targets, want) {
				return fmt.Errorf("%s has targets %q, want %q", o.Name, o.Targets, want)
			}
		}
		return nil
	})
}

// node makes a Node that goes with the test.
func (w *world) node(name, address string, edit func(*corev1.Node)) *corev1.Node {
	w.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-" + name}}
	if edit != nil {
		edit(node)
	}
	w.mine(node)
	w.Make(node)
	w.Cleanup(func() { w.Must(client.IgnoreNotFound(w.Delete(context.Background(), node))) })
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	w.Must(w.Status().Update(w.Context(), node))
	return node
}

func TestLifeOfAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	n1 := w.node("n1", "172.30.0.11", nil)
	w.node("n2", "172.30.0.12", nil)
	w.node("excluded", "172.30.0.13", func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""} })

	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	want := []corev1.LoadBalancerIngress{{IP: "198.51.100.1", IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}}
	if diff := cmp.Diff(want, svc.Status.LoadBalancer.Ingress); diff != "" {
		t.Errorf("published addresses (-want +got):\n%s", diff)
	}
	if !hasFinalizer(svc) {
		t.Error("the finalizer is missing")
	}
	record := w.record(svc)
	if record.Status.ServiceUID != svc.UID || record.Status.Provider != "fake" || record.Status.LoadBalancerClass != w.class.Name ||
		!slices.Equal(record.Status.Addresses, []string{"198.51.100.1"}) || len(record.Status.Resources) != 5 || len(record.Status.Plan) != 0 {
		t.Errorf("the record says %+v", record.Status)
	}
	w.targets("172.30.0.11", "172.30.0.12")

	// Nodes come and go.
	w.node("n3", "172.30.0.14", nil)
	w.targets("172.30.0.11", "172.30.0.12", "172.30.0.14")
	n1.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}
	w.Must(w.Update(t.Context(), n1))
	w.targets("172.30.0.12", "172.30.0.14")

	// The policy, the ranges, the ports change; the address stays.
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"}
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}
	})
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		balancers := w.cloud.Balancers()
		if len(balancers) != 1 || len(balancers[0].Listeners) != 2 {
			return fmt.Errorf("the cloud has %+v", balancers)
		}
		for i, l := range balancers[0].Listeners {
			if len(l.SourceRanges) != 1 || l.Affinity == 0 {
				return fmt.Errorf("the listener is %+v", l)
			}
			check := l.HealthCheck
			if check.Protocol != "HTTP" || check.Path != "/healthz" || int32(check.Port) != svc.Spec.HealthCheckNodePort {
				return fmt.Errorf("the health check is %+v", check)
			}
			if want := []string{"198.51.100.1:443", "198.51.100.1:53"}[i]; l.Address.String() != want || len(l.Targets) != 2 {
				return fmt.Errorf("the listener is %+v, want %s", l, want)
			}
		}
		return nil
	})
	w.Must(w.Delete(t.Context(), svc))
	w.gone(svc)

	// What was told: each once or for each change, in upstream's words.
	w.Eventually(func() error {
		counts := w.events("cart")
		for _, reason := range []string{EventEnsuring, EventDeleting, EventDeleted} {
			if counts[reason] != 1 {
				return fmt.Errorf("event %s came %d times: %v", reason, counts[reason], counts)
			}
		}
		if counts[EventUpdated] == 0 || counts[EventEnsured] == 0 {
			return fmt.Errorf("events: %v", counts)
		}
		return nil
	})
}

func (w *world) events(name string) map[string]int {
	w.Helper()
	var list eventsv1.EventList
	w.Must(w.List(w.Context(), &list, client.InNamespace(w.Namespace)))
	counts := map[string]int{}
	for _, e := range list.Items {
		if e.Regarding.Name == name {
			n := 1
			if e.Series != nil {
				n = int(e.Series.Count)
			}
			counts[e.Reason] += n
		}
	}
	return counts
}

func TestDualStack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, func(c *v1alpha1.LoadBalancerClassSpec) {
		c.Parameters = &v1alpha1.Parameters{Fake: &v1alpha1.FakeParameters{IPMode: corev1.LoadBalancerIPModeProxy}}
	})
	svc := w.service("both", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack) })
	w.reason(svc, v1alpha1.ReasonEnsured)
	want := []corev1.LoadBalancerIngress{
		{IP: "198.51.100.1", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)},
		{IP: "2001:db8:51::1", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)},
	}
	if diff := cmp.Diff(want, svc.Status.LoadBalancer.Ingress); diff != "" {
		t.Errorf("published addresses (-want +got):\n%s", diff)
	}
}

func TestTypeChangeReleasesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{Slow: 500 * time.Millisecond}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
		s.Spec.AllocateLoadBalancerNodePorts = nil
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	})
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if left := w.objects(); len(left) > 0 || hasFinalizer(svc) || len(svc.Status.Conditions) > 0 || len(svc.Status.LoadBalancer.Ingress) > 0 {
			return fmt.Errorf("left: %+v, the Service has %v %+v", left, svc.Finalizers, svc.Status)
		}
		return nil
	})
	w.Eventually(func() error {
		return w.absent(svc.Namespace, svc.Name, &v1alpha1.LoadBalancerRecord{})
	})
	w.event(svc, EventDeleted)
	if events := w.events("cart"); events[EventDeleting] != 1 || events[EventDeleted] != 1 || events[EventDeleteFailed] > 0 {
		t.Errorf("of a deletion that merely takes its time the events tell %v", events)
	}
}

func TestBadAnnotationKeepsTheBalancer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	before := w.objects()
	apiserver.Change(w.World, svc, func(s *corev1.Service) {
		s.Annotations = map[string]string{"fairlead.dev/polcy": "Plan", "fake.fairlead.dev/ip-mode": "Bridge"}
	})
	c := w.reason(svc, v1alpha1.ReasonInvalidService)
	if !strings.Contains(c.Message, "fairlead.dev/polcy") || !strings.Contains(c.Message, "fake.fairlead.dev/ip-mode") {
		t.Errorf("the message does not name both annotations: %s", c.Message)
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { delete(s.Annotations, "fairlead.dev/polcy") })
	w.Eventually(func() error {
		if c := w.reason(svc, v1alpha1.ReasonInvalidService); !strings.Contains(c.Message, "fake.fairlead.dev/ip-mode") {
			return fmt.Errorf("the message does not name the provider's annotation: %s", c.Message)
		}
		return nil
	})
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("the balancer was changed (-before +after):\n%s", diff)
	}
	if len(svc.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("the address is no longer published: %+v", svc.Status.LoadBalancer)
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = nil })
	w.reason(svc, v1alpha1.ReasonEnsured)
}

func TestPlanWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, func(c *v1alpha1.LoadBalancerClassSpec) { c.Policy = v1alpha1.PolicyPlan })
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonPlanned)
	if writes := w.countWrites(); writes != 0 {
		t.Errorf("%d writes to the cloud under Plan", writes)
	}
	if plan := w.record(svc).Status.Plan; len(plan) != 5 || plan[0].Action != "Create" {
		t.Errorf("the plan is %+v", plan)
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Apply"} })
	w.reason(svc, v1alpha1.ReasonEnsured)
	apiserver.Change(w.World, svc, func(s *corev1.Service) { delete(s.Annotations, v1alpha1.AnnotationPolicy) })
	w.Must(w.Delete(t.Context(), svc))
	w.Eventually(func() error {
		for _, op := range w.record(svc).Status.Plan {
			if op.Action == "Delete" {
				return nil
			}
		}
		return fmt.Errorf("no deletion is planned")
	})
	if len(w.objects()) == 0 {
		t.Error("the balancer was deleted under Plan")
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Apply"} })
	w.gone(svc)
}

func TestRetain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationPolicy: "Retain"} })
	w.reason(svc, v1alpha1.ReasonEnsured)
	before := w.objects()
	w.Must(w.Delete(t.Context(), svc))
	w.Eventually(func() error {
		return w.absent(svc.Namespace, svc.Name, &corev1.Service{})
	})
	if diff := cmp.Diff(before, w.objects()); diff != "" {
		t.Errorf("what was to be retained was changed (-before +after):\n%s", diff)
	}
	record := w.record(svc)
	ready := meta.FindStatusCondition(record.Status.Conditions, v1alpha1.ConditionReady)
	if len(record.OwnerReferences) != 0 || len(record.Status.Resources) != 5 || ready.Status != metav1.ConditionFalse || ready.Reason != v1alpha1.ReasonRetained {
		t.Errorf("the record is %+v", record)
	}
}

func TestErrorsOfTheCloud(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		reason  string
		options fake.Options
		fault   *fake.Fault
		want    string
	}{
		"Quota": {
			reason:  "the account is full: said, and retried slowly",
			options: fake.Options{Quotas: map[string]int{fake.KindListener: 0}},
			want:    v1alpha1.ReasonQuotaExceeded,
		},
		"Throttled": {
			reason: "the cloud asks for fewer calls: said, and retried after its time",
			fault: &fake.Fault{Method: "Create", Kind: fake.KindBalancer, Times: 1000,
				Err: &fake.Error{Code: fake.CodeThrottled, Message: "slow down", RetryAfterSeconds: 1}},
			want: v1alpha1.ReasonThrottled,
		},
		"Internal": {
			reason: "anything else is retried",
			fault: &fake.Fault{Method: "Create", Kind: fake.KindListener, Times: 1000,
				Err: &fake.Error{Code: fake.CodeInternal, Message: "oops"}},
			want: v1alpha1.ReasonCloudError,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.options, nil)
			if tc.fault != nil {
				w.cloud.Inject(*tc.fault)
			}
			svc := w.service("cart", nil)
			c := w.reason(svc, tc.want)
			if c.Status != metav1.ConditionFalse || len(svc.Status.LoadBalancer.Ingress) != 0 {
				t.Errorf("%s: the Service has %+v", tc.reason, svc.Status)
			}
			w.Must(w.Delete(t.Context(), svc))
			w.gone(svc)
		})
	}
}

func TestRestartWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	before, record := w.countWrites(), w.record(svc)
	w.stop()
	w.start()
	// Once the second Service is served, the first has been looked at too, or will be without a reason to write.
	w.reason(w.service("other", nil), v1alpha1.ReasonEnsured)
	after := w.countWrites()
	if perService := before; after != 2*perService {
		t.Errorf("%d writes after a restart and a second Service, want %d", after, 2*perService)
	}
	if again := w.record(svc); again.ResourceVersion != record.ResourceVersion {
		t.Error("the record was written without a change")
	}
}

func TestClassGoneKeepsTheBalancer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	w.Must(w.Delete(t.Context(), w.class))
	w.reason(svc, v1alpha1.ReasonClassNotAccepted)
	if len(w.objects()) == 0 || len(svc.Status.LoadBalancer.Ingress) != 1 {
		t.Error("the balancer went with its class")
	}
	w.Must(w.Delete(t.Context(), svc))
	w.gone(svc)
}

func TestReplacementNeedsConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.100.77" })
	w.reason(svc, v1alpha1.ReasonReplacementNeeded)
	if got := svc.Status.LoadBalancer.Ingress[0].IP; got != "198.51.100.1" {
		t.Errorf("the address changed to %s without consent", got)
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AnnotationReplacement: "Recreate"} })
	w.reason(svc, v1alpha1.ReasonEnsured)
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if got := svc.Status.LoadBalancer.Ingress[0].IP; got != "198.51.100.77" {
			return fmt.Errorf("the address is %s", got)
		}
		return nil
	})
}

// TestWrongAnnotationFollowsNodes: a Service with a wrong annotation keeps a balancer that works, which one whose nodes
// are gone would not; also when the manager starts with the annotation in place.
func TestWrongAnnotationFollowsNodes(t *testing.T) {
	t.Parallel()
	for name, annotations := range map[string]map[string]string{
		"Ours":         {"fairlead.dev/polcy": "Plan"},
		"TheProviders": {"fake.fairlead.dev/ip-mode": "Bridge", "fake.fairlead.dev/colour": "red"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fake.Options{}, nil)
			n1 := w.node("n1", "172.30.0.11", nil)
			svc := w.service("cart", nil)
			w.reason(svc, v1alpha1.ReasonEnsured)
			apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Annotations = annotations })
			c := w.reason(svc, v1alpha1.ReasonInvalidService)
			for key := range annotations {
				if !strings.Contains(c.Message, key) {
					t.Errorf("the message does not name %s: %s", key, c.Message)
				}
			}
			w.node("n2", "172.30.0.12", nil)
			w.targets("172.30.0.11", "172.30.0.12")
			w.stop()
			w.Must(w.Delete(t.Context(), n1))
			w.start()
			w.targets("172.30.0.12")
			w.node("n3", "172.30.0.13", nil)
			w.targets("172.30.0.12", "172.30.0.13")
			w.reason(svc, v1alpha1.ReasonInvalidService)
			if len(svc.Status.LoadBalancer.Ingress) != 1 || len(w.objects()) != 5 {
				t.Errorf("the balancer is %+v, of %d objects", svc.Status.LoadBalancer, len(w.objects()))
			}
			if w.events("cart")[EventSyncFailed] == 0 {
				t.Error("no event says it")
			}
			w.Must(w.Delete(t.Context(), svc))
			w.gone(svc)
		})
	}
}

// TestForcedDeletion takes the finalizer off by hand, while no manager runs: what is left in the cloud is found by the
// record.
func TestForcedDeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	w.stop()
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Finalizers = nil })
	w.Must(w.Delete(t.Context(), svc))
	again := w.service("cart", nil)
	w.start()
	w.reason(again, v1alpha1.ReasonEnsured)
	w.Eventually(func() error {
		if objects := w.objects(); len(objects) != 5 {
			return fmt.Errorf("the cloud has %d objects, want those of one balancer", len(objects))
		}
		return nil
	})
	if record := w.record(again); record.Status.ServiceUID != again.UID {
		t.Errorf("the record is of %s, want %s", record.Status.ServiceUID, again.UID)
	}
	w.stop()
	apiserver.Change(w.World, again, func(s *corev1.Service) { s.Finalizers = nil })
	w.Must(w.Delete(t.Context(), again))
	w.start()
	w.gone(again)
}

// TestFinalizerComesBack: whoever takes it off a Service in use is wrong.
func TestFinalizerComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	svc := w.service("cart", nil)
	w.reason(svc, v1alpha1.ReasonEnsured)
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Finalizers = nil })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if !hasFinalizer(svc) {
			return fmt.Errorf("the finalizer is still missing")
		}
		return nil
	})
}
