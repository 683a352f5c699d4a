package nodeport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
	"github.com/fairlead/fairlead/test/apiserver"
)

var errKilled = errors.New("killed")

// mortal is a client whose process is killed at one of its writes: before it reaches the API server, or after, so that the
// answer is lost. From then on nothing is written any more.
type mortal struct {
	client.Client
	left  *atomic.Int32
	after bool
	kill  func()
}

func (m *mortal) write(send func() error) error {
	switch left := m.left.Add(-1); {
	case left < 0:
		return errKilled
	case left > 0:
		return send()
	}
	var err error
	if m.after {
		err = send()
	}
	m.kill()
	return errors.Join(err, errKilled)
}

func (m *mortal) Patch(ctx context.Context, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
	return m.write(func() error { return m.Client.Patch(ctx, object, patch, opts...) })
}

func (m *mortal) Apply(ctx context.Context, object runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	return m.write(func() error { return m.Client.Apply(ctx, object, opts...) })
}

func (m *mortal) Delete(ctx context.Context, object client.Object, opts ...client.DeleteOption) error {
	return m.write(func() error { return m.Client.Delete(ctx, object, opts...) })
}

func (m *mortal) Status() client.SubResourceWriter { return &mortalStatus{m.Client.Status(), m} }

type mortalStatus struct {
	client.SubResourceWriter
	m *mortal
}

func (s *mortalStatus) Patch(ctx context.Context, object client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	return s.m.write(func() error { return s.SubResourceWriter.Patch(ctx, object, patch, opts...) })
}

func (s *mortalStatus) Apply(ctx context.Context, object runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
	return s.m.write(func() error { return s.SubResourceWriter.Apply(ctx, object, opts...) })
}

// TestKilledAtAnyWrite kills the manager that leads at its first write or answer, at its second, and so on, before each and
// after it, through the whole life of a pool. Another manager goes on: one that stood by and has answered nothing so far, or
// one that is started then. In the end nobody has a port twice, everything is numbered and mended, nothing is held that nobody
// has, and the policy is gone.
func TestKilledAtAnyWrite(t *testing.T) {
	apiserver.Config(t) // or it is skipped
	for name, k := range map[string]killing{
		"AfterAndRestarted": {after: true},
		"BeforeAndStoodBy":  {standby: true},
	} {
		t.Run(name, func(t *testing.T) {
			for n := int32(1); ; n++ {
				died := false
				t.Run(fmt.Sprint("At", n), func(t *testing.T) { died = k.run(t, n) })
				if t.Failed() {
					return
				}
				if !died {
					if n < 12 {
						t.Errorf("only %d writes and answers were made", n-1)
					}
					return
				}
			}
		})
	}
}

type killing struct {
	// after says that what the manager dies of is done, but for its knowing.
	after bool
	// standby says that another manager runs already.
	standby bool
}

// killed counts the runs: each has ports of its own, since those of an update that lost a race are the API server's for a
// while.
var killed atomic.Int32

func (k killing) run(t *testing.T, n int32) (died bool) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	begin := 30100 + killed.Add(1)*10%500
	keeper := w.create("keeper", begin+3)
	young := nodePort("young", begin+3)
	young.CreationTimestamp = metav1.NewTime(keeper.CreationTimestamp.Add(time.Hour))
	w.bypass(young)

	f := w.newFront()
	election := func(o *ctrl.Options) {
		// Long, since a leader that is killed gives the lease back here, and slow machines must not lose it.
		o.LeaderElection, o.LeaderElectionID, o.LeaderElectionNamespace = true, "nodeport", w.Namespace
		o.LeaderElectionReleaseOnCancel = true
		o.LeaseDuration, o.RenewDeadline, o.RetryPeriod = new(60*time.Second), new(40*time.Second), new(100*time.Millisecond)
	}
	m := &mortal{left: &atomic.Int32{}, after: k.after}
	m.left.Store(n)
	death := make(chan struct{})
	m.kill = sync.OnceFunc(func() { close(death) })
	_, stop := w.replica(f, m, election)
	if k.standby {
		w.replica(f, nil, election)
	}
	over := make(chan struct{})
	var undertaker sync.WaitGroup
	undertaker.Go(func() {
		select {
		case <-death:
			stop()
		case <-over:
		}
	})
	defer func() {
		close(over)
		undertaker.Wait()
		select {
		case <-death:
			died = true
		default:
		}
	}()
	restarted := k.standby
	// insist does what a user does who is refused: it again. It starts the next manager, too.
	insist := func(do func() error) {
		t.Helper()
		w.Eventually(func() error {
			select {
			case <-death:
				if !restarted {
					restarted = true
					w.replica(f, nil, election)
				}
			default:
			}
			return do()
		})
	}

	p := w.pool("web", begin, begin+9, func(s *v1alpha1.NodePortPoolSpec) {
		s.Duplicates, s.Enforcement = v1alpha1.DuplicateRepairMove, v1alpha1.EnforcementEnforce
		s.Sticky, s.ReclaimDelay = true, &metav1.Duration{Duration: time.Second}
	})
	insist(func() error { // until then Services may get ports from elsewhere
		return w.Get(t.Context(), client.ObjectKey{Name: PolicyName}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{})
	})
	expose := func(name string) {
		t.Helper()
		insist(func() error {
			svc := nodePort(name, 0)
			svc.Namespace = w.Namespace
			if err := w.Create(t.Context(), svc); err != nil {
				return err
			}
			if port := svc.Spec.Ports[0].NodePort; port < begin || port > begin+9 {
				// The API server has not read the policy yet.
				return errors.Join(fmt.Errorf("%s got %d", name, port), w.Delete(t.Context(), svc))
			}
			return nil
		})
	}
	remove := func(name string) {
		t.Helper()
		w.Must(w.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}))
	}
	expose("a")
	expose("b")
	insist(func() error { // numbered by the controller
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "c"}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class.Spec.ClassName, AllocateLoadBalancerNodePorts: new(false),
			Ports: []corev1.ServicePort{{Port: 80}}}}
		return client.IgnoreAlreadyExists(w.Create(t.Context(), svc))
	})
	remove("a")
	expose("a")
	remove("b")
	all := func() error { return w.numbered(p, map[string]int32{"keeper": begin + 3, "young": 0, "a": 0, "c": 0}) }
	insist(all)
	apiserver.Change(w.World, p, func(p *v1alpha1.NodePortPool) { p.Spec.Enforcement = v1alpha1.EnforcementBestEffort })
	insist(func() error {
		for _, object := range []client.Object{&admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}} {
			if err := w.Get(t.Context(), client.ObjectKey{Name: PolicyName}, object); !apierrors.IsNotFound(err) {
				return fmt.Errorf("the policy is left: %w", err)
			}
		}
		return all()
	})
	return // what is found above
}

// numbered wants those Services and no others, each with a port of the pool, the one that is named here if it is not 0, none
// with another's, and nothing kept.
func (w *world) numbered(p *v1alpha1.NodePortPool, want map[string]int32) error {
	var services corev1.ServiceList
	w.Must(w.List(w.Context(), &services, client.InNamespace(w.Namespace)))
	ranges, seen := p.Spec.Ranges[0], map[int32]string{}
	for i := range services.Items {
		svc := &services.Items[i]
		ports := portalloc.PortsOf(svc)
		if len(ports) != 1 || int32(ports[0]) < ranges.First || int32(ports[0]) > ranges.Last {
			return fmt.Errorf("%s has %v", svc.Name, ports)
		}
		port := int32(ports[0])
		if named, known := want[svc.Name]; !known || seen[port] != "" || named != 0 && named != port {
			return fmt.Errorf("%s has %d, as has %q", svc.Name, port, seen[port])
		}
		seen[port] = svc.Name
		if c := unique(svc); c != nil && c.Status != metav1.ConditionTrue {
			return fmt.Errorf("%s: %+v", svc.Name, c)
		}
	}
	w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(p), p))
	if len(seen) != len(want) || p.Status.Used == nil || int(*p.Status.Used) != len(want) || *p.Status.Reserved != 0 || p.Status.Reservations != nil {
		return fmt.Errorf("the Services are %v and the pool's status %+v", seen, p.Status)
	}
	return nil
}
