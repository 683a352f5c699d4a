package nodeport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/apiserver"
)

// bypassed counts the Services that were written past the API server.
var bypassed atomic.Int32

// bypass writes a Service past the API server's allocator.
func (w *world) bypass(svc *corev1.Service) {
	w.Helper()
	svc.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	svc.Namespace, svc.UID = w.Namespace, uuid.NewUUID()
	if svc.CreationTimestamp.IsZero() {
		svc.CreationTimestamp = metav1.Now()
	}
	ip := fmt.Sprintf("10.96.200.%d", 1+bypassed.Add(1))
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.SessionAffinity = ip, []string{ip}, corev1.ServiceAffinityNone
	svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol}, new(corev1.IPFamilyPolicySingleStack)
	w.Bypass("services/specs", svc)
}

func unique(svc *corev1.Service) *metav1.Condition {
	return meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePortsUnique)
}

// TestRepair: the older of two Services keeps the port, the other is moved if its pool says so, and told if not.
func TestRepair(t *testing.T) {
	w := newWorld(t, first)
	p := w.pool("web", 30000, 30009, nil)
	keeper := w.create("keeper", 30003)
	young := nodePort("another", 30003)
	young.CreationTimestamp = metav1.NewTime(keeper.CreationTimestamp.Add(time.Hour))
	young.Spec.Ports = append(young.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, NodePort: 30005})
	young.Spec.Ports[0].Name = "http"
	w.bypass(young)
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(young), young))
		if c := unique(young); c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonDuplicate ||
			!strings.Contains(c.Message, w.Namespace+"/keeper") || !strings.Contains(c.Message, "set duplicates to Move") {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	w.becomes(p, is(p, 10, 2, 0, v1alpha1.ReasonAccepted, v1alpha1.ReasonAvailable, v1alpha1.ReasonDuplicates))

	apiserver.Change(w.World, p, func(p *v1alpha1.NodePortPool) { p.Spec.Duplicates = v1alpha1.DuplicateRepairMove })
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(young), young))
		if c := unique(young); c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonMoved {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	if got := []int32{young.Spec.Ports[0].NodePort, young.Spec.Ports[1].NodePort}; got[0] != 30000 || got[1] != 30005 {
		t.Errorf("it has %v, want only the duplicate moved", got)
	}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(keeper), keeper))
	if keeper.Spec.Ports[0].NodePort != 30003 || unique(keeper) != nil {
		t.Errorf("the keeper was touched: %+v, %+v", keeper.Spec.Ports, unique(keeper))
	}
	w.becomes(p, is(p, 10, 3, 0, v1alpha1.ReasonAccepted, v1alpha1.ReasonAvailable, v1alpha1.ReasonExclusive))
}

// TestReportedUntilItIsOver: a health check's port cannot be moved; the condition follows what the user does about it.
func TestReportedUntilItIsOver(t *testing.T) {
	w := newWorld(t, first)
	w.pool("web", 30000, 30009, func(s *v1alpha1.NodePortPoolSpec) { s.Duplicates = v1alpha1.DuplicateRepairMove })
	keeper := w.create("keeper", 30003)
	young := nodePort("another", 30004)
	young.CreationTimestamp = metav1.NewTime(keeper.CreationTimestamp.Add(time.Hour))
	young.Spec.Type, young.Spec.ExternalTrafficPolicy, young.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, 30003
	w.bypass(young)
	reasonIs := func(want string) {
		t.Helper()
		w.Eventually(func() error {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(young), young))
			if c := unique(young); c == nil || c.Reason != want {
				return fmt.Errorf("the condition is %+v", c)
			}
			return nil
		})
	}
	reasonIs(v1alpha1.ReasonDuplicate)
	if c := unique(young); !strings.Contains(c.Message, "healthCheckNodePort cannot be changed") {
		t.Errorf("the message is %q", c.Message)
	}
	w.Must(w.Delete(t.Context(), keeper))
	reasonIs(v1alpha1.ReasonUnique)
	if young.Spec.HealthCheckNodePort != 30003 {
		t.Error("its health check was moved")
	}
}

// TestStaleRepair: what the cache says alone moves nobody, and of two managers that repair at once one does.
func TestStaleRepair(t *testing.T) {
	w := newWorld(t, first)
	w.stop()
	w.ports = serverPorts
	w.pool("web", 30080, 30599, func(s *v1alpha1.NodePortPoolSpec) { s.Duplicates = v1alpha1.DuplicateRepairMove })
	for range 4 {
		w.manager(nil)
	}
	keeper := w.create("keeper", 30083)
	var young []*corev1.Service
	for i := range 5 {
		svc := nodePort(fmt.Sprint("another", i), 30083)
		svc.CreationTimestamp = metav1.NewTime(keeper.CreationTimestamp.Add(time.Hour))
		w.bypass(svc)
		young = append(young, svc)
	}
	w.Eventually(func() error {
		seen := map[int32]types.UID{30083: keeper.UID}
		for _, svc := range young {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
			port := svc.Spec.Ports[0].NodePort
			if seen[port] != "" {
				return fmt.Errorf("%d is had twice", port)
			}
			seen[port] = svc.UID
			// Who lost the race may have said last that there is nothing to do. Nobody was moved twice, or it were from another.
			c := unique(svc)
			if c == nil || c.Reason != v1alpha1.ReasonUnique && (c.Reason != v1alpha1.ReasonMoved || !strings.Contains(c.Message, "from node port 30083")) {
				return fmt.Errorf("the condition of %s is %+v", svc.Name, c)
			}
		}
		return nil
	})
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(keeper), keeper))
	if keeper.Spec.Ports[0].NodePort != 30083 {
		t.Error("the keeper was moved")
	}
}

// repairer is what repairs, with a book that knows of a pool that has every duplicate moved and of those Services as they
// are now. No manager tells it of anything later.
func (w *world) repairer(services ...*corev1.Service) *poolReconciler {
	w.Helper()
	book := emptyBook(serverPorts)
	book.setPool(&v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NodePortPoolSpec{
		Ranges: []v1alpha1.PortRange{{First: 30080, Last: 30599}}, Duplicates: v1alpha1.DuplicateRepairMove}})
	for _, svc := range services {
		book.setService(svc.DeepCopy())
	}
	return &poolReconciler{client: w.Client, reader: w.Client, recorder: events.NewFakeRecorder(10), book: book, intn: first}
}

// repairAll does what a pass does about duplicates.
func (r *poolReconciler) repairAll(ctx context.Context, w *world) error {
	namespaces := map[string]labels.Set{w.Namespace: {}}
	_, err := r.repair(ctx, r.book.take(namespaces), namespaces)
	return err
}

// pair makes two Services with one port, the first of which keeps it.
func (w *world) pair(name string, port int32) (keeper, young *corev1.Service) {
	w.Helper()
	keeper, young = w.create(name+"-keeper", port), nodePort(name+"-young", port)
	young.CreationTimestamp = metav1.NewTime(keeper.CreationTimestamp.Add(time.Hour))
	w.bypass(young)
	return keeper, young
}

// TestRepairLooksAgain: what the cache knew and is not so any more moves nobody, and nothing is said of it.
func TestRepairLooksAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	cases := map[string]struct {
		reason string
		port   int32
		since  func(keeper, young *corev1.Service)
		moved  bool
	}{
		"Still": {"nothing happened", 30060, func(_, _ *corev1.Service) {}, true},
		"KeeperMoved": {"it was moved by hand", 30062, func(keeper, _ *corev1.Service) {
			keeper.Spec.Ports[0].NodePort++
			w.Must(w.Update(t.Context(), keeper))
		}, false},
		"KeeperGone": {"it was deleted", 30064, func(keeper, _ *corev1.Service) { w.Remove(keeper) }, false},
		"KeeperCameBack": {"what has its name and the port now is the younger one", 30066, func(keeper, young *corev1.Service) {
			w.Remove(keeper)
			again := nodePort(keeper.Name, 30066)
			again.CreationTimestamp = metav1.NewTime(young.CreationTimestamp.Add(time.Hour))
			w.bypass(again)
		}, false},
		"Moved": {"another manager was faster", 30068, func(_, young *corev1.Service) {
			young.Spec.Ports[0].NodePort++
			w.Must(w.Update(t.Context(), young))
		}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			keeper, young := w.pair(strings.ToLower(name), tc.port)
			r := w.repairer(keeper, young)
			tc.since(keeper, young)
			version := young.ResourceVersion
			w.Must(r.repairAll(t.Context(), w))
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(young), young))
			if moved := young.ResourceVersion != version; moved != tc.moved || moved && young.Spec.Ports[0].NodePort == tc.port {
				t.Errorf("%s: moved is %t, the port %d and the condition %+v", tc.reason, moved, young.Spec.Ports[0].NodePort, unique(young))
			}
		})
	}
}

// between is a reader after whose first answer something happens.
type between struct {
	client.Reader
	happens func()
}

func (b *between) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	err := b.Reader.Get(ctx, key, object, opts...)
	if happens := b.happens; happens != nil {
		b.happens = nil
		happens()
	}
	return err
}

// TestRepairOverwritesNothing: what somebody writes to the Service after the repair has read it stays.
func TestRepairOverwritesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	keeper, young := w.pair("web", 30070)
	r := w.repairer(keeper, young)
	r.reader = &between{w.Client, func() {
		apiserver.Change(w.World, young, func(svc *corev1.Service) {
			svc.Spec.Ports[0].Name = "http"
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, NodePort: 30071})
		})
	}}
	ports := func() (ports []int32) {
		t.Helper()
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(young), young))
		for _, p := range young.Spec.Ports {
			ports = append(ports, p.NodePort)
		}
		return ports
	}
	if err := r.repairAll(t.Context(), w); !apierrors.IsConflict(err) {
		t.Errorf("the write that came too late was answered with %v", err)
	}
	if diff := cmp.Diff([]int32{30070, 30071}, ports()); diff != "" {
		t.Errorf("node ports after it (-want +got):\n%s", diff)
	}
	w.Must(r.repairAll(t.Context(), w))
	if got := ports(); len(got) != 2 || got[0] == 30070 || got[1] != 30071 {
		t.Errorf("after the next pass it has %v", got)
	}
}

// denying is an API server whose admission denies changes of one Service.
type denying struct {
	client.Client
	name string
}

func (d *denying) Patch(ctx context.Context, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if object.GetName() == d.name {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusForbidden,
			Reason: metav1.StatusReasonForbidden, Message: "admission webhook denied the request: frozen"}}
	}
	return d.Client.Patch(ctx, object, patch, opts...)
}

// TestRepairIsDenied: who may not be changed is told so, and keeps no other from being moved.
func TestRepairIsDenied(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	keeper, frozen := w.pair("a", 30074)
	other, moved := w.pair("b", 30075)
	r := w.repairer(keeper, frozen, other, moved)
	r.client = &denying{w.Client, frozen.Name}
	w.Must(r.repairAll(t.Context(), w))
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(frozen), frozen))
	if c := unique(frozen); c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "denied the request: frozen") {
		t.Errorf("the one that is denied is told %+v", c)
	}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(moved), moved))
	if c := unique(moved); c == nil || c.Reason != v1alpha1.ReasonMoved || moved.Spec.Ports[0].NodePort == 30075 {
		t.Errorf("the other has %+v and is told %+v", moved.Spec.Ports, c)
	}
	// Nor does one that cannot be looked at.
	keeper, stuck := w.pair("c", 30076)
	other, moved = w.pair("d", 30077)
	r = w.repairer(keeper, stuck, other, moved)
	unreadable := errors.New("unreadable")
	r.reader = &failing{w.Client, stuck.Name, unreadable}
	if err := r.repairAll(t.Context(), w); !errors.Is(err, unreadable) {
		t.Errorf("the pass ended with %v", err)
	}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(moved), moved))
	if moved.Spec.Ports[0].NodePort == 30077 {
		t.Error("one that cannot be read kept another from being moved")
	}
}

// failing is a reader that cannot read one object.
type failing struct {
	client.Reader
	name string
	err  error
}

func (f *failing) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	if key.Name == f.name {
		return f.err
	}
	return f.Reader.Get(ctx, key, object, opts...)
}
