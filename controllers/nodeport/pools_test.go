package nodeport

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
)

// pool makes a pool of the world's namespace.
func (w *world) pool(name string, first, last int32, change func(*v1alpha1.NodePortPoolSpec)) *v1alpha1.NodePortPool {
	w.Helper()
	p := &v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodePortPoolSpec{
		Ranges:            []v1alpha1.PortRange{{First: first, Last: last}},
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": w.Namespace}}}}
	if change != nil {
		change(&p.Spec)
	}
	w.Must(w.Create(w.Context(), p))
	return p
}

// becomes polls until a pool is as it should be.
func (w *world) becomes(p *v1alpha1.NodePortPool, check func() string) {
	w.Helper()
	w.Eventually(func() error {
		w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(p), p))
		if problem := check(); problem != "" {
			return fmt.Errorf("%s: %+v", problem, p.Status)
		}
		return nil
	})
}

// is checks counts and the reasons of Accepted, Available and Exclusive.
func is(p *v1alpha1.NodePortPool, size, used, reserved int32, reasons ...string) func() string {
	return func() string {
		s := &p.Status
		if s.Size == nil || *s.Size != size || *s.Used != used || *s.Reserved != reserved || *s.Free != size-used-reserved {
			return fmt.Sprintf("want %d ports, %d used, %d reserved", size, used, reserved)
		}
		for i, name := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionAvailable, v1alpha1.ConditionExclusive} {
			if c := meta.FindStatusCondition(s.Conditions, name); c == nil || c.Reason != reasons[i] || c.ObservedGeneration != p.Generation {
				return fmt.Sprintf("want %s with reason %s", name, reasons[i])
			}
		}
		return ""
	}
}

func nodePort(name string, port int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort,
		Ports: []corev1.ServicePort{{Port: 80, NodePort: port, Protocol: corev1.ProtocolTCP}}}}
}

// create makes a Service of type NodePort with that port.
func (w *world) create(name string, port int32) *corev1.Service {
	w.Helper()
	svc := nodePort(name, port)
	svc.Namespace = w.Namespace
	w.Must(w.Create(w.Context(), svc))
	return svc
}

// TestPoolStatus: counts, and everything that can be wrong with a pool. Nobody loses a port by any of it.
func TestPoolStatus(t *testing.T) {
	w := newWorld(t, first)
	const fine, free, exclusive = v1alpha1.ReasonAccepted, v1alpha1.ReasonAvailable, v1alpha1.ReasonExclusive
	// The names are in the order of age, which is told in seconds.
	web := w.pool("a", 30000, 30004, nil)
	w.becomes(web, is(web, 5, 0, 0, fine, free, exclusive))
	a := w.create("a", 30000)
	w.becomes(web, is(web, 5, 1, 0, fine, free, exclusive))
	for port := int32(30001); port < 30004; port++ {
		w.create(fmt.Sprint("b", port), port)
	}
	w.becomes(web, is(web, 5, 4, 0, fine, v1alpha1.ReasonNearlyExhausted, exclusive))
	w.create("last", 30004)
	w.becomes(web, is(web, 5, 5, 0, fine, v1alpha1.ReasonExhausted, exclusive))

	if used, left := apiserver.Metric(t, subsystem+"_allocated_ports", "a"), apiserver.Metric(t, subsystem+"_available_ports", "a"); used != 5 || left != 0 {
		t.Errorf("the metrics say %v used and %v available", used, left)
	}

	// Narrower, and partly where there is nothing: whoever has a port keeps it, and it is said.
	apiserver.Change(w.World, web, func(p *v1alpha1.NodePortPool) {
		p.Spec.Ranges = []v1alpha1.PortRange{{First: 30001, Last: 30004}, {First: 30039, Last: 30049}}
	})
	w.becomes(web, is(web, 5, 4, 0, v1alpha1.ReasonOutsideRange, v1alpha1.ReasonNearlyExhausted, v1alpha1.ReasonPortsElsewhere))
	if c := meta.FindStatusCondition(web.Status.Conditions, v1alpha1.ConditionAccepted); !strings.Contains(c.Message, "does not hand out 30040-30049") {
		t.Errorf("the message is %q", c.Message)
	}
	if c := meta.FindStatusCondition(web.Status.Conditions, v1alpha1.ConditionExclusive); !strings.Contains(c.Message, "30000 ("+w.Namespace+"/a)") {
		t.Errorf("the message is %q", c.Message)
	}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(a), a))
	if a.Spec.Ports[0].NodePort != 30000 {
		t.Error("a port in use was taken away")
	}

	// A younger pool gets what the older one leaves; when that goes, everything.
	second := w.pool("b", 30004, 30006, func(s *v1alpha1.NodePortPoolSpec) {
		s.NamespaceSelector = metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "default"}}
	})
	w.becomes(second, is(second, 2, 0, 0, v1alpha1.ReasonOverlap, free, exclusive))
	inside := w.pool("c", 30005, 30006, nil)
	w.becomes(inside, is(inside, 0, 0, 0, v1alpha1.ReasonNoPorts, v1alpha1.ReasonNoPorts, v1alpha1.ReasonPortsElsewhere))
	w.Must(w.Delete(t.Context(), inside))
	w.Must(w.Delete(t.Context(), web))
	w.becomes(second, is(second, 3, 1, 0, fine, free, v1alpha1.ReasonForeignServices))

	if used := apiserver.Metric(t, subsystem+"_allocated_ports", "a"); used != 0 {
		t.Errorf("the pool that is gone still has %v ports in the metrics", used)
	}

	// A namespace that is selected meanwhile makes it right.
	ns := &corev1.Namespace{}
	w.Must(w.Get(t.Context(), client.ObjectKey{Name: w.Namespace}, ns))
	apiserver.Change(w.World, second, func(p *v1alpha1.NodePortPool) {
		p.Spec.NamespaceSelector = metav1.LabelSelector{MatchLabels: map[string]string{"team": "web"}}
		p.Spec.Ranges = []v1alpha1.PortRange{{First: 30000, Last: 30006}}
	})
	w.becomes(second, is(second, 7, 5, 0, fine, free, v1alpha1.ReasonForeignServices))
	ns.Labels["team"] = "web"
	w.Must(w.Update(t.Context(), ns))
	w.becomes(second, is(second, 7, 5, 0, fine, free, exclusive))
	// A pass that finds nothing to say writes nothing.
	version, before := second.ResourceVersion, apiserver.Metric(t, subsystem+"_allocated_ports", "")
	elsewhere := nodePort("elsewhere-"+w.Namespace, 30020)
	elsewhere.Namespace = "default"
	w.Make(elsewhere)
	t.Cleanup(func() { w.Must(w.Delete(context.Background(), elsewhere)) })
	w.Eventually(func() error {
		if now := apiserver.Metric(t, subsystem+"_allocated_ports", ""); now != before+1 {
			return fmt.Errorf("%v ports are counted, and %v before", now, before)
		}
		return nil
	})
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(second), second))
	if second.ResourceVersion != version {
		t.Errorf("it was written again: %+v", second.Status)
	}
}

// TestNotEnforced: a manager without the webhook refuses nothing, and says so.
func TestNotEnforced(t *testing.T) {
	w := newWorld(t, first)
	p := w.pool("web", 30000, 30004, enforce)
	w.becomes(p, is(p, 5, 0, 0, v1alpha1.ReasonNotEnforced, v1alpha1.ReasonAvailable, v1alpha1.ReasonExclusive))
	w.create("outside", 30020)
	w.becomes(p, is(p, 5, 0, 0, v1alpha1.ReasonNotEnforced, v1alpha1.ReasonAvailable, v1alpha1.ReasonPortsElsewhere))
}

// TestReservations: what is kept is in the status, outlives the manager, and ends.
func TestReservations(t *testing.T) {
	w := newWorld(t, first)
	p := w.pool("sticky", 30000, 30004, func(s *v1alpha1.NodePortPoolSpec) {
		s.Sticky, s.ReclaimDelay = true, &metav1.Duration{Duration: time.Hour}
	})
	const fine, free, exclusive = v1alpha1.ReasonAccepted, v1alpha1.ReasonAvailable, v1alpha1.ReasonExclusive
	svc := w.create("cart", 30002)
	w.becomes(p, is(p, 5, 1, 0, fine, free, exclusive))
	w.Must(w.Delete(t.Context(), svc))
	w.becomes(p, is(p, 5, 0, 1, fine, free, exclusive))
	kept := p.Status.Reservations[0]
	left := time.Until(kept.Until.Time)
	kept.Until = metav1.Time{}
	if diff := cmp.Diff(v1alpha1.PortReservation{Port: 30002, Namespace: w.Namespace, Name: "cart", Uses: []string{"80/TCP"}}, kept); diff != "" || left < 59*time.Minute || left > time.Hour+time.Second {
		t.Errorf("for %s is kept (-want +got):\n%s", left, diff)
	}
	// Another manager finds it there, keeps it from others, and gives it back.
	w.stop()
	defer w.manager(first)()
	if got := w.reason(w.service("other", corev1.ServicePort{Port: 80}), v1alpha1.ReasonAllocated); got[0] != 30000 {
		t.Errorf("another got %v", got)
	}
	if got := w.reason(w.service("cart", corev1.ServicePort{Port: 80}), v1alpha1.ReasonAllocated); got[0] != 30002 {
		t.Errorf("it got %v back", got)
	}
	w.becomes(p, is(p, 5, 2, 0, fine, free, exclusive))
	if p.Status.Reservations != nil {
		t.Errorf("still kept: %+v", p.Status.Reservations)
	}
	// A delay that is over ends it, although nothing happens.
	apiserver.Change(w.World, p, func(p *v1alpha1.NodePortPool) { p.Spec.ReclaimDelay.Duration = time.Second })
	w.becomes(p, is(p, 5, 2, 0, fine, free, exclusive))
	w.Must(w.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "cart"}}))
	w.becomes(p, is(p, 5, 1, 0, fine, free, exclusive))
}

// TestStaleStatus: a pass that has not seen what another wrote writes nothing: a reservation that is over stays so.
func TestStaleStatus(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	p := w.pool("sticky", 30000, 30004, func(s *v1alpha1.NodePortPoolSpec) { s.Sticky = true })
	book := emptyBook(nodePorts)
	book.setPool(p.DeepCopy())
	gone := nodePort("cart", 30002)
	gone.Namespace = w.Namespace
	book.setService(gone)
	book.deleteService(gone)
	r := &poolReconciler{client: w.Client, recorder: events.NewFakeRecorder(10), book: book}
	stale := p.DeepCopy()
	// Another manager knows that the Service is back.
	p.Status.Used, p.Status.Reserved = new(int32(1)), new(int32(0))
	w.Must(w.Client.Status().Update(t.Context(), p))
	if err := r.write(t.Context(), book.take(nil), stale); !apierrors.IsConflict(err) {
		t.Errorf("the write that came too late was answered with %v", err)
	}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(p), p))
	if p.Status.Reservations != nil || *p.Status.Used != 1 {
		t.Errorf("after it the status is %+v", p.Status)
	}
}

// TestPoolValidation: what the API server refuses, with a word on what to change.
func TestPoolValidation(t *testing.T) {
	w := newWorld(t, first)
	valid := func() *v1alpha1.NodePortPool {
		return &v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{GenerateName: "p-"}, Spec: v1alpha1.NodePortPoolSpec{
			Ranges: []v1alpha1.PortRange{{First: 30000, Last: 30009}, {First: 30020, Last: 30020}}}}
	}
	cases := map[string]struct {
		change func(*v1alpha1.NodePortPoolSpec)
		want   string // "": it is taken
	}{
		"Valid":      {func(*v1alpha1.NodePortPoolSpec) {}, ""},
		"UpsideDown": {func(s *v1alpha1.NodePortPoolSpec) { s.Ranges[0] = v1alpha1.PortRange{First: 2, Last: 1} }, "first must not be above last"},
		"Overlap":    {func(s *v1alpha1.NodePortPoolSpec) { s.Ranges[1].First = 30009 }, "must not overlap"},
		"NoPort":     {func(s *v1alpha1.NodePortPoolSpec) { s.Ranges[1].Last = 65536 }, "65535"},
		"NoRanges":   {func(s *v1alpha1.NodePortPoolSpec) { s.Ranges = []v1alpha1.PortRange{} }, "at least 1"},
		"NotSticky":  {func(s *v1alpha1.NodePortPoolSpec) { s.ReclaimDelay = &metav1.Duration{Duration: time.Minute} }, "needs sticky"},
		"Sticky": {func(s *v1alpha1.NodePortPoolSpec) {
			s.Sticky, s.ReclaimDelay = true, &metav1.Duration{Duration: time.Minute}
		}, ""},
		"TooShort": {func(s *v1alpha1.NodePortPoolSpec) { s.Sticky, s.ReclaimDelay = true, &metav1.Duration{} }, "between 1s and 720h"},
		"NoOperator": {func(s *v1alpha1.NodePortPoolSpec) {
			s.NamespaceSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}
		}, "operator is one of"},
		"NoEnforcing":  {func(s *v1alpha1.NodePortPoolSpec) { s.Enforcement = "Sometimes" }, "BestEffort"},
		"NoAllocation": {func(s *v1alpha1.NodePortPoolSpec) { s.Allocation = "Random" }, "Static"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := valid()
			tc.change(&p.Spec)
			err := w.Create(t.Context(), p, client.DryRunAll)
			if tc.want == "" && err != nil || tc.want != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
