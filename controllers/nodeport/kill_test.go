package nodeport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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

// TestKilledAtAnyWrite kills the manager at its first write, at its second, and so on, before and after each. The next
// manager numbers what is to be numbered, mends what is to be mended, and keeps nothing that nobody had.
func TestKilledAtAnyWrite(t *testing.T) {
	apiserver.Config(t) // or it is skipped
	for _, after := range []bool{false, true} {
		for n := int32(1); ; n++ {
			died := false
			t.Run(fmt.Sprintf("After%t/Write%d", after, n), func(t *testing.T) { died = killedAt(t, n, after) })
			if t.Failed() {
				return
			}
			if !died {
				if n < 5 {
					t.Fatalf("only %d writes were made", n)
				}
				break
			}
		}
	}
}

func killedAt(t *testing.T, n int32, after bool) (died bool) {
	w := newWorld(t, first)
	w.stop()
	p := w.pool("web", 30000, 30009, func(s *v1alpha1.NodePortPoolSpec) {
		s.Duplicates, s.Sticky, s.ReclaimDelay = v1alpha1.DuplicateRepairMove, true, &metav1.Duration{Duration: 2 * time.Second}
	})
	keeper := w.create("keeper", 30003)
	young := nodePort("young", 30003)
	young.CreationTimestamp = metav1.NewTime(keeper.CreationTimestamp.Add(time.Hour))
	w.bypass(young)
	numbered := []*corev1.Service{w.service("a", corev1.ServicePort{Port: 80}), w.service("b", corev1.ServicePort{Port: 80})}
	gone := w.create("gone", 30005)

	left, killed := &atomic.Int32{}, make(chan struct{})
	left.Store(n)
	stop := w.managerWith(first, func(c client.Client) client.Client {
		return &mortal{Client: c, left: left, after: after, kill: sync.OnceFunc(func() { close(killed) })}
	})
	// What it does by itself, then what a deletion makes it do.
	settled := func() bool {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(p), p))
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(young), young))
		done := unique(young) != nil && unique(young).Status == metav1.ConditionTrue && p.Status.Used != nil && *p.Status.Used == 5
		for _, svc := range numbered {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
			done = done && findCondition(svc) != nil
		}
		return done
	}
	w.Eventually(func() error {
		select {
		case <-killed:
			return nil
		default:
		}
		if !settled() {
			return errors.New("it does not get on")
		}
		return nil
	})
	w.Must(w.Delete(t.Context(), gone))
	w.Eventually(func() error {
		select {
		case <-killed:
			return nil
		default:
		}
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(p), p))
		if len(p.Status.Reservations) == 0 {
			return errors.New("nothing is kept")
		}
		return nil
	})
	stop()
	select {
	case <-killed:
		died = true
	default:
	}

	w.stop = w.manager(first)
	defer w.stop()
	w.Eventually(func() error {
		var services corev1.ServiceList
		w.Must(w.List(t.Context(), &services, client.InNamespace(w.Namespace)))
		seen := map[int]string{}
		for i := range services.Items {
			svc := &services.Items[i]
			ports := portalloc.PortsOf(svc)
			if len(ports) != 1 || ports[0] > 30009 {
				return fmt.Errorf("%s has %v", svc.Name, ports)
			}
			if seen[ports[0]] != "" {
				return fmt.Errorf("%s and %s have %d", svc.Name, seen[ports[0]], ports[0])
			}
			seen[ports[0]] = svc.Name
			if c := unique(svc); c != nil && c.Status != metav1.ConditionTrue {
				return fmt.Errorf("%s: %+v", svc.Name, c)
			}
		}
		if len(seen) != 4 || seen[30003] != "keeper" {
			return fmt.Errorf("the Services are %v", seen)
		}
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(p), p))
		if p.Status.Used == nil || *p.Status.Used != 4 || *p.Status.Reserved != 0 || p.Status.Reservations != nil {
			return fmt.Errorf("the pool's status is %+v", p.Status)
		}
		return nil
	})
	return died
}
