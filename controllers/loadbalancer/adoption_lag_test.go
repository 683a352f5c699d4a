package loadbalancer

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// passes gives a Service one pass after the other until check has nothing to say.
func (p *process) passes(svc *corev1.Service, check func() error) {
	p.Helper()
	p.Eventually(func() error {
		if _, err := p.Reconcile(p.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)}); err != nil {
			return err
		}
		return check()
	})
}

// TestAdoptedBeforeItIsSeen: the Service stops asking for a balancer right after it adopted that, and the cloud does not show
// yet whose it is. Nobody else's name stands in the way of a second one, as that of what we made ourselves would.
func TestAdoptedBeforeItIsSeen(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		madeFor bool   // another controller made it for this Service: it is taken over, not lent
		restart bool   // by another manager
		cut     bool   // the manager never learns that it adopted
		then    string // what the annotation says then; "other": another balancer, whose owner consents, too
	}{
		"Removed":             {},
		"RemovedAndRestarted": {restart: true},
		"RemovedAndCut":       {restart: true, cut: true},
		"None":                {then: v1alpha1.AdoptNone},
		"Other":               {then: "other"},
		"OtherAndRestarted":   {then: "other", restart: true},
		"TakenOver":           {madeFor: true, then: v1alpha1.AdoptNone},
		"TakenOverAndCut":     {madeFor: true, then: v1alpha1.AdoptNone, restart: true, cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lag = time.Second
			w := newWorld(t, fake.Options{ReadLag: lag}, nil)
			w.stop()
			w.edits = append(w.edits, func(caps *cloud.Capabilities) { caps.ReadLag = lag })
			svc := w.service("cart", nil)
			tags := map[string]string{v1alpha1.TagAdoptableBy: "test/" + w.Namespace + "/cart"}
			if tc.madeFor {
				tags = map[string]string{fake.TagMadeFor: "test/" + string(svc.UID), fake.TagMadeBy: "service-controller"}
			}
			id, address := w.plant(tags)
			other := ""
			if tc.then == "other" {
				other, _ = w.plant(tags)
				tc.then = other
			}
			// What was planted is to be seen before somebody looks for it.
			w.Eventually(func() error {
				found, err := w.cloud.List(t.Context())
				if err == nil && len(found) < len(w.objects()) {
					return fmt.Errorf("the cloud shows %d objects", len(found))
				}
				return err
			})
			annotate(w, svc, v1alpha1.AnnotationAdopt, id)

			ours := func() bool { return owners(*w.byID(id)) == 1 }
			p := w.begin()
			if tc.cut {
				w.setHook(func(call fake.Call) error {
					if call.After && call.Method == "Update" && ours() {
						p.kill()
					}
					return p.ctx.Err()
				})
			}
			for !ours() && p.ctx.Err() == nil {
				if _, err := p.Reconcile(p.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)}); err != nil && !tc.cut {
					t.Fatal(err)
				}
			}
			w.setHook(nil)
			annotate(w, svc, v1alpha1.AnnotationAdopt, tc.then)
			if tc.restart {
				p.kill()
				p = w.begin()
			}
			p.passes(svc, func() error {
				w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
				if n := w.kinds()[fake.KindBalancer]; other == "" && n > 1 {
					t.Fatalf("there are %d balancers", n)
				}
				if other != "" && owners(*w.byID(other)) > 0 {
					t.Fatal("the Service has two balancers")
				}
				if in := svc.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != address {
					return fmt.Errorf("published: %+v, want %s", in, address)
				}
				return nil
			})
		})
	}
}

// asked is a provider that counts how often it is asked what others made.
type asked struct {
	cloud.Provider
	times int
}

func (a *asked) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	a.times++
	return cloud.FindAdoptable(ctx, a.Provider, owner, id)
}

// TestDeletedWithoutAsking: to look once more whether nothing is left of what was ours asks nothing about others, whose answer, or a
// missing right to it, would hold the Service; with or without the record.
func TestDeletedWithoutAsking(t *testing.T) {
	t.Parallel()
	for name, forgotten := range map[string]bool{"Recorded": false, "Forgotten": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lag = time.Second
			w := newWorld(t, fake.Options{}, nil)
			w.stop()
			w.edits = append(w.edits, func(caps *cloud.Capabilities) { caps.ReadLag = lag })
			svc := w.service("cart", nil)
			p := w.begin()
			provider := &asked{Provider: w.providers().fake}
			p.Providers = providers{provider}
			p.passes(svc, func() error {
				w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
				if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady); c == nil || c.Status != metav1.ConditionTrue {
					return fmt.Errorf("it is %+v", c)
				}
				return nil
			})
			if provider.times == 0 {
				t.Fatal("nobody asked what others made before there was a balancer")
			}
			provider.times = 0
			w.Must(w.Delete(t.Context(), svc))
			if forgotten {
				w.Must(w.Delete(t.Context(), w.record(svc)))
				p.last.Delete(svc.UID)
			}
			p.passes(svc, func() error { return w.absent(svc.Namespace, svc.Name, &corev1.Service{}) })
			if provider.times > 0 || len(w.objects()) > 0 {
				t.Errorf("asked %d times what others made; left: %+v", provider.times, w.objects())
			}
		})
	}
}
