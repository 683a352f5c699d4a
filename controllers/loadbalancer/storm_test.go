package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// TestStorm changes a Service and what is around it at random, while managers come and go in the middle of their calls. When the
// storm is over the Service has one balancer, as any other, and leaves nothing behind. What happened is the seed's.
func TestStorm(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := &storm{world: newWorld(t, fake.Options{}, nil), rand: rand.New(rand.NewPCG(seed, 7))}
			s.stop()
			s.other = &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace + "-other"},
				Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + s.Namespace + "-other", Provider: fake.Name}}
			s.mine(s.other)
			s.Make(s.other)
			s.Cleanup(func() { s.Must(client.IgnoreNotFound(s.Delete(context.Background(), s.other))) })
			s.node("n1", "172.30.0.11", nil)
			for range 2 {
				s.blow()
			}
		})
	}
}

type storm struct {
	*world
	rand  *rand.Rand
	other *v1alpha1.LoadBalancerClass
	log   []string
}

// blow is a Service's life.
func (s *storm) blow() {
	s.log = nil
	svc := s.service("cart", nil)
	for range 15 {
		s.change(svc)
		p := s.begin()
		if s.rand.IntN(3) == 0 {
			n := 1 + s.rand.IntN(12)
			s.note("stop at call %d", n)
			p.stopAt(n)
		}
		s.pass(p, svc, 1+s.rand.IntN(4))
		s.setHook(nil)
		p.kill()
	}
	s.edit(svc, func(now *corev1.Service) {
		// It may have begun to share, and stops that now.
		now.Annotations = map[string]string{v1alpha1.AnnotationReplacement: string(v1alpha1.ReplacementRecreate)}
		now.Spec.Type = corev1.ServiceTypeLoadBalancer
		if now.Spec.LoadBalancerClass == nil {
			now.Spec.LoadBalancerClass = &s.class.Spec.ClassName
		}
		now.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
	})
	p := s.begin()
	s.settled(p, svc)
	if got, want := s.kinds(), map[string]int{fake.KindAddress: 1, fake.KindBalancer: 1, fake.KindHealthCheck: 1, fake.KindListener: 1, fake.KindTargetSet: 1}; !cmp.Equal(got, want) {
		s.Fatalf("after %q the cloud has %v", s.log, got)
	}
	s.Must(s.Delete(s.Context(), svc))
	s.pass(p, svc, 5)
	s.pass(s.begin(), svc, 3)
	for _, object := range []client.Object{&corev1.Service{}, &v1alpha1.LoadBalancerRecord{}} {
		if err := s.absent(svc.Namespace, svc.Name, object); err != nil {
			s.Fatalf("after %q: %v", s.log, err)
		}
	}
	if left := s.objects(); len(left) > 0 {
		s.Fatalf("after %q there is left: %+v", s.log, left)
	}
}

func (s *storm) note(format string, args ...any) { s.log = append(s.log, fmt.Sprintf(format, args...)) }

// pass gives the Service so many passes, whatever they come to.
func (s *storm) pass(p *process, svc *corev1.Service, n int) {
	for range n {
		if p.ctx.Err() == nil {
			_, _ = p.Reconcile(p.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)})
			if p.sweep {
				_, err := (&sweepReconciler{p.Reconciler}).Reconcile(p.ctx, named("", fake.Name))
				p.sweep = err != nil
			}
		}
	}
}

// settled has the Service be in order within a few passes.
func (s *storm) settled(p *process, svc *corev1.Service) {
	var c *metav1.Condition
	for range 4 {
		s.pass(p, svc, 3) // the first one only waits for the sweep
		s.Must(s.Get(s.Context(), client.ObjectKeyFromObject(svc), svc))
		c = meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionLoadBalancerReady)
		if c != nil && c.Status == metav1.ConditionTrue && len(svc.Status.LoadBalancer.Ingress) == 1 {
			return
		}
	}
	s.Fatalf("after %q the condition is %+v, published: %+v", s.log, c, svc.Status.LoadBalancer)
}

// edit changes the Service, as far as the API server lets it.
func (s *storm) edit(svc *corev1.Service, change func(*corev1.Service)) {
	s.Must(s.Get(s.Context(), client.ObjectKeyFromObject(svc), svc))
	change(svc)
	if err := s.Update(s.Context(), svc); err != nil && !apierrors.IsInvalid(err) {
		s.Fatal(err)
	}
}

// change does one thing.
func (s *storm) change(svc *corev1.Service) {
	annotations := map[string][]string{
		v1alpha1.AnnotationPolicy: {"Apply", "Plan", "Retain", "Sometimes", ""}, v1alpha1.AnnotationAdopt: {"None", "balancer-999", ""},
		v1alpha1.AnnotationReplacement: {"Recreate", ""}, v1alpha1.AnnotationShare: {"web", "Not A Group", ""},
	}
	switch n := s.rand.IntN(9); n {
	case 0, 1:
		name := []string{v1alpha1.AnnotationPolicy, v1alpha1.AnnotationAdopt, v1alpha1.AnnotationReplacement, v1alpha1.AnnotationShare}[s.rand.IntN(4)]
		value := annotations[name][s.rand.IntN(len(annotations[name]))]
		s.note("%s=%s", name, value)
		annotate(s.world, svc, name, value)
	case 2, 3:
		class := []*v1alpha1.LoadBalancerClass{s.class, s.other}[s.rand.IntN(2)]
		s.note("other type, or class %s", class.Name)
		s.edit(svc, func(now *corev1.Service) {
			if now.Spec.Type == corev1.ServiceTypeLoadBalancer {
				now.Spec.Type, now.Spec.LoadBalancerClass, now.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil, nil
				now.Spec.ExternalTrafficPolicy, now.Spec.HealthCheckNodePort = "", 0
				now.Spec.Ports[0].NodePort = 0
			} else {
				now.Spec.Type, now.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, &class.Spec.ClassName
			}
		})
	case 4:
		port := int32(80 + s.rand.IntN(3))
		s.note("port %d", port)
		s.edit(svc, func(now *corev1.Service) { now.Spec.Ports[0].Port = port })
	case 5:
		s.note("the record is deleted")
		record := &v1alpha1.LoadBalancerRecord{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
		s.Must(client.IgnoreNotFound(s.Delete(s.Context(), record)))
	case 6:
		objects := s.objects()
		if len(objects) > 0 {
			o := objects[s.rand.IntN(len(objects))]
			err := s.cloud.Delete(s.Context(), o.ID)
			s.note("%s is deleted in the cloud (%v)", o.ID, err)
		}
	case 7:
		s.note("the status is wiped")
		s.Must(s.Get(s.Context(), client.ObjectKeyFromObject(svc), svc))
		svc.Status = corev1.ServiceStatus{}
		s.Must(s.Status().Update(s.Context(), svc))
	case 8:
		s.note("the cloud refuses")
		refusals := []error{cloud.Errorf(cloud.Throttled, "slow down"), cloud.Errorf(cloud.Quota, "no room"), errors.New("out of order")}
		err := refusals[s.rand.IntN(len(refusals))]
		s.setHook(func(fake.Call) error { return err })
		s.pass(s.begin(), svc, 2)
		s.setHook(nil)
	}
}
