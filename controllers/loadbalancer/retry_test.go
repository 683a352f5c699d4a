package loadbalancer

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// TestProviderStartsLater: a provider that does not start is asked for again, by its Services, its classes and the first sweep,
// whatever kept it from starting; one that there is not never is.
func TestProviderStartsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, func(c *v1alpha1.LoadBalancerClassSpec) { c.Provider = lazy })
	w.stop()
	svc := w.service("cart", nil)
	r := w.alone(w.Client, events.NewFakeRecorder(100))
	soon := func(what string, after, want time.Duration) {
		t.Helper()
		if after < want || after > want+want/10 {
			t.Errorf("%s is looked at again after %v, want %v", what, after, want)
		}
	}
	soon("the Service", w.pass(r, svc), waitBlocked)
	classes := &classReconciler{client: r.Client, providers: r.Providers, sweep: func(string, bool) {}}
	result, err := classes.Reconcile(t.Context(), named("", w.class.Name))
	w.Must(err)
	soon("the class", result.RequeueAfter, waitBlocked)

	r.Providers = &later{providers: providers{w.providers().fake}}
	sweeps := &sweepReconciler{r}
	for provider, want := range map[string]time.Duration{lazy: waitBlocked, fake.Name: waitPlugin} {
		result, err = sweeps.Reconcile(t.Context(), named("", provider))
		w.Must(err)
		soon("the cloud of "+provider, result.RequeueAfter, want)
	}
	result, err = sweeps.Reconcile(t.Context(), named("", "nobody"))
	w.Must(err)
	if result.RequeueAfter < r.Resync*9/10 {
		t.Errorf("a provider that there is not is swept again after %v", result.RequeueAfter)
	}
	// Once Services do not wait for the first list any more there is no hurry.
	r.sweeps.put(fake.Name, &snapshot{})
	result, err = sweeps.Reconcile(t.Context(), named("", fake.Name))
	w.Must(err)
	if result.RequeueAfter < r.Resync*9/10 {
		t.Errorf("a plugin that is away is swept again after %v", result.RequeueAfter)
	}
}

// TestCuredInTheCloud: what the cloud refuses as a mistake is tried again in a while, since it may be put right there, and is told of
// once.
func TestCuredInTheCloud(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	svc := w.service("cart", nil)
	w.cloud.Inject(fake.Fault{Method: "Create", Kind: fake.KindListener, Times: 2, Err: &fake.Error{Code: fake.CodeInvalidParameter, Message: "tag a subnet"}})
	recorder := &notes{}
	r := w.alone(w.Client, recorder)
	pass := func() time.Duration { t.Helper(); return w.pass(r, svc) }
	pass()
	w.reason(svc, v1alpha1.ReasonInvalidService)
	record, told := w.record(svc).ResourceVersion, len(recorder.reasons)
	if after := pass(); after < waitBlocked {
		t.Errorf("it is looked at again after %v, want %v", after, waitBlocked)
	}
	version := svc.ResourceVersion
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	if w.record(svc).ResourceVersion != record || svc.ResourceVersion != version || len(recorder.reasons) != told {
		t.Errorf("the same again was written or told of: %q", recorder.reasons)
	}
	pass()
	w.reason(svc, v1alpha1.ReasonEnsured)
}

// TestTargetsBesideAnOldMistake: targets that could not be sent beside a mistake that nobody corrects are sent soon again, however old
// that mistake is.
func TestTargetsBesideAnOldMistake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.node("n1", "172.30.0.11", nil)
	svc := w.service("cart", nil)
	r := w.alone(w.Client, discard{})
	pass := func() time.Duration { t.Helper(); return w.pass(r, svc) }
	pass()
	w.reason(svc, v1alpha1.ReasonEnsured)
	annotate(w, svc, v1alpha1.AnnotationPolicy, "Aply")
	pass()
	w.reason(svc, v1alpha1.ReasonInvalidService)
	old := metav1.NewTime(time.Now().Add(-time.Hour)).Rfc3339Copy()
	last, _ := r.last.Load(svc.UID)
	last.(*written).status.Conditions[0].LastTransitionTime = old
	w.node("n2", "172.30.0.12", nil)
	w.cloud.Inject(fake.Fault{Method: "SyncTargets", Times: 1, Err: &fake.Error{Code: fake.CodeInvalidParameter, Message: "unknown target"}})
	if after := pass(); after < waitConflict || after > waitConflict+waitConflict/10 {
		t.Errorf("they are sent again after %v, want %v", after, waitConflict)
	}
	pass()
	w.targets("172.30.0.11", "172.30.0.12")
}

// TestMixedProtocols: upstream's condition comes and goes with what it tells of.
func TestMixedProtocols(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.edits = append(w.edits, func(caps *cloud.Capabilities) { caps.MixedProtocols = false })
	w.start()
	svc := w.service("dns", func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "tcp", Port: 53}, {Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP}}
	})
	w.reason(svc, v1alpha1.ReasonInvalidService)
	c := meta.FindStatusCondition(svc.Status.Conditions, corev1.LoadBalancerPortsError)
	if c == nil || c.Status != metav1.ConditionTrue || c.Reason != "LoadBalancerMixedProtocolNotSupported" || c.Message == "" {
		t.Errorf("the condition is %+v", c)
	}
	apiserver.Change(w.World, svc, func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] })
	w.reason(svc, v1alpha1.ReasonEnsured)
	if c := meta.FindStatusCondition(svc.Status.Conditions, corev1.LoadBalancerPortsError); c != nil {
		t.Errorf("with one protocol it still says %+v", c)
	}
}

// TestPatienceUnderChurn: rounds of targets, which others' Pods cause all the time, leave a Service that is over quota to its next
// attempt; a node that comes does not.
func TestPatienceUnderChurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	w.node("n1", "172.30.0.11", nil)
	w.setHook(func(call fake.Call) error {
		if call.Method == "Create" && call.Kind == fake.KindBalancer {
			return &cloud.Error{Class: cloud.Quota, Err: errors.New("no more balancers")}
		}
		return nil
	})
	svc := w.service("cart", nil)
	r := w.alone(w.Client, discard{})
	woken := 0
	r.wake = func(types.NamespacedName, priority) { woken++ }
	_, err := r.Reconcile(t.Context(), named(svc.Namespace, svc.Name))
	w.Must(err)
	w.reason(svc, v1alpha1.ReasonQuotaExceeded)
	for i, want := range []int{0, 1, 1} {
		if i == 1 {
			w.node("n2", "172.30.0.12", nil)
		}
		nodes, err := r.listNodes(t.Context())
		w.Must(err)
		r.syncNodes(t.Context(), fake.Name, cloud.EligibleNodes(nodes))
		if woken != want {
			t.Errorf("after round %d it was given %d passes, want %d", i, woken, want)
		}
	}
}
