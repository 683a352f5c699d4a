package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// absent is a plugin that can go away and come back. While it is away everything that it is asked fails, Desired too.
type absent struct {
	cloud.Provider
	away atomic.Bool
	// asked counts what it was asked while away.
	asked atomic.Int32
	// goes has it go away after so many more answers of Desired; 0: it stays.
	goes atomic.Int32
}

func (a *absent) gone() error {
	if !a.away.Load() {
		return nil
	}
	a.asked.Add(1)
	return &cloud.Error{Class: cloud.RetryAfter, After: waitPlugin, Err: errors.New("plugin away")}
}

func (a *absent) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	if err := a.gone(); err != nil {
		return nil, err
	}
	if a.goes.Load() > 0 && a.goes.Add(-1) == 0 {
		defer a.away.Store(true)
	}
	return a.Provider.Desired(spec)
}

func (a *absent) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	if err := a.gone(); err != nil {
		return nil, err
	}
	return a.Provider.Observe(ctx, owner)
}

func (a *absent) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	if err := a.gone(); err != nil {
		return nil, err
	}
	return cloud.FindAdoptable(ctx, a.Provider, owner, id)
}

func (a *absent) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	if err := a.gone(); err != nil {
		errs := make([]error, len(changes))
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	return a.Provider.SyncTargets(ctx, changes)
}

// TestNodesWhileThePluginIsAway: targets that could not be asked for, or sent, are sent when the plugin is back, without a
// look at any Service, and nothing is taken for unwanted meanwhile.
func TestNodesWhileThePluginIsAway(t *testing.T) {
	const services = 20
	m := newMany(t, services, 3, fake.Options{})
	for answers := range int32(3 * services) {
		plug := &absent{}
		plug.Provider, _ = m.Providers.Get(fake.Name)
		plug.goes.Store(answers)
		plug.away.Store(answers == 0)
		linked := m.Providers
		m.Providers = providers{plug}
		nodes := 4 + int(answers)
		if wait := m.syncNodes(t.Context(), fake.Name, machines(nodes)); plug.asked.Load() > 0 && wait == 0 {
			t.Fatalf("it went after %d answers, and nobody comes again", answers)
		}
		plug.away.Store(false)
		plug.goes.Store(0)
		m.syncNodes(t.Context(), fake.Name, machines(nodes))
		m.expect(nodes)
		m.Providers = linked
	}
	for _, method := range m.methods() {
		if method != "SyncTargets" {
			t.Errorf("a call of %s was made", method)
		}
	}
	if len(m.woken) > 0 {
		t.Errorf("%d Services were given a pass", len(m.woken))
	}
}

// TestDriftWhileThePluginIsAway: what cannot be compared has not drifted.
func TestDriftWhileThePluginIsAway(t *testing.T) {
	m := newMany(t, 1, 3, fake.Options{})
	plug := &absent{}
	plug.Provider, _ = m.Providers.Get(fake.Name)
	observed, err := plug.List(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	e := m.ledger.all(fake.Name)[0]
	plug.away.Store(true)
	if e.drifted(plug, observed) {
		t.Error("while the plugin is away everything has drifted")
	}
	plug.away.Store(false)
	if e.drifted(plug, observed) || !e.drifted(plug, observed[1:]) {
		t.Error("drift is told of where there is none, or none where there is")
	}
}

// later is the provider's place before the plugin first comes.
type later struct {
	providers
	come atomic.Bool
}

func (l *later) Get(name string) (cloud.Provider, error) {
	if name == fake.Name && !l.come.Load() {
		return nil, &cloud.Error{Class: cloud.RetryAfter, After: waitPlugin, Err: errors.New("plugin away")}
	}
	return l.providers.Get(name)
}

// TestPluginComesLater: a class and a Service whose plugin is not there say so, and are served when it comes; one that goes
// takes no balancer with it.
func TestPluginComesLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, nil)
	w.stop()
	plug := &absent{Provider: w.providers().fake}
	late := &later{providers: providers{plug}}
	r := &Reconciler{Providers: late, ClusterID: "test", Coexist: true}
	w.stop = w.Start(w.caches, r.SetupWithManager)
	class := &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace + "-late"},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + w.Namespace + "-late", Provider: fake.Name}}
	w.mine(class)
	w.Make(class)
	t.Cleanup(func() { w.Must(client.IgnoreNotFound(w.Delete(context.Background(), class))) })
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: w.Namespace},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class.Spec.ClassName,
			Ports: []corev1.ServicePort{{Port: 80}}}}
	w.Make(svc)
	says := func(want, onService string) {
		t.Helper()
		w.Eventually(func() error {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(class), class))
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
			c := meta.FindStatusCondition(class.Status.Conditions, v1alpha1.ConditionAccepted)
			s := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
			if c == nil || s == nil || c.Reason != want || s.Reason != onService {
				return fmt.Errorf("the class says %+v, the Service %+v", c, s)
			}
			return nil
		})
	}
	says(v1alpha1.ReasonProviderUnavailable, v1alpha1.ReasonCloudError)
	late.come.Store(true)
	says(v1alpha1.ReasonAccepted, v1alpha1.ReasonEnsured)
	// An annotation of the provider's has the Service asked for anew.
	before := len(w.cloud.Objects())
	plug.away.Store(true)
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	patch := client.MergeFrom(svc.DeepCopy())
	svc.Annotations = map[string]string{"fake.fairlead.dev/unhealthy-threshold": "3"}
	w.Must(w.Patch(t.Context(), svc, patch))
	says(v1alpha1.ReasonAccepted, v1alpha1.ReasonCloudError)
	if after := len(w.cloud.Objects()); after != before || len(svc.Status.LoadBalancer.Ingress) == 0 {
		t.Errorf("of %d resources %d are left, and of addresses %v", before, after, svc.Status.LoadBalancer.Ingress)
	}
	plug.away.Store(false)
	says(v1alpha1.ReasonAccepted, v1alpha1.ReasonEnsured)
}
