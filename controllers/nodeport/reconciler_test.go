package nodeport

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
	"github.com/fairlead/fairlead/test/apiserver"
)

var (
	// nodePorts is the range that managers go by: small, so that it can be filled.
	nodePorts = portalloc.Range{First: 30000, Last: 30039}
	// serverPorts is the range of the test's API server. An update that loses a race leaks the port that it wanted there,
	// until the server's repair loop comes by: tests with such races have the ports from 30100 to 30599.
	serverPorts = portalloc.Range{First: 30000, Last: 30999}
)

func TestMain(m *testing.M) {
	apiserver.Main(m, apiserver.Options{
		CRDs: "../../config/crd/bases", Flags: map[string]string{"service-node-port-range": serverPorts.String()},
	})
}

type world struct {
	*apiserver.World
	class *v1alpha1.LoadBalancerClass
	// ports is the range that managers go by.
	ports portalloc.Range
	// stop ends the manager that newWorld runs.
	stop func()
}

// newWorld makes a namespace with a class of balancers, and runs a manager. What is made in it goes with the test.
func newWorld(t *testing.T, intn func(int) int) *world {
	t.Helper()
	w := &world{World: apiserver.New(t), ports: nodePorts}
	w.class = &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + w.Namespace, Provider: "fake", NodePorts: v1alpha1.NodePortsAuto}}
	w.Make(w.class)
	t.Cleanup(func() {
		w.Must(w.Delete(context.Background(), w.class))
		w.Must(w.DeleteAllOf(context.Background(), &v1alpha1.NodePortPool{}))
		for _, object := range []client.Object{ // its manager ended before it could take them away
			&admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, &admissionregistrationv1.ValidatingAdmissionPolicy{}} {
			object.SetName(PolicyName)
			w.Must(client.IgnoreNotFound(w.Delete(context.Background(), object)))
		}
		var services corev1.ServiceList
		w.Must(w.List(context.Background(), &services, client.InNamespace(w.Namespace)))
		for i := range services.Items { // their node ports are the next test's
			w.Must(client.IgnoreNotFound(w.Delete(context.Background(), &services.Items[i])))
		}
	})
	w.stop = w.manager(intn)
	return w
}

// manager runs a manager until the test ends or the returned function is called.
func (w *world) manager(intn func(int) int) (stop func()) {
	w.Helper()
	return w.managerWith(intn, func(c client.Client) client.Client { return c })
}

// managerWith runs a manager that writes by way of another client than its own.
func (w *world) managerWith(intn func(int) int, other func(client.Client) client.Client) (stop func()) {
	w.Helper()
	return w.Start(cache.Options{}, func(mgr ctrl.Manager) error {
		return (&Reconciler{Client: other(mgr.GetClient()), Range: w.ports, Coexist: true, Intn: intn}).SetupWithManager(mgr)
	})
}

// service makes a Service of the class that the API server does not number.
func (w *world) service(name string, ports ...corev1.ServicePort) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class.Spec.ClassName,
		AllocateLoadBalancerNodePorts: ptr.To(false), Ports: ports}}
	w.Make(svc)
	return svc
}

// reason polls for the condition, then returns the node ports.
func (w *world) reason(svc *corev1.Service, want string) []int32 {
	w.Helper()
	w.Eventually(func() error {
		w.Must(w.Get(w.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := findCondition(svc); c == nil || c.Reason != want {
			return fmt.Errorf("the condition is %+v, want reason %s", c, want)
		}
		return nil
	})
	var ports []int32
	for _, p := range svc.Spec.Ports {
		ports = append(ports, p.NodePort)
	}
	return ports
}

func first(int) int { return 0 }

// emptyBook believes that it knows everything.
func emptyBook(server portalloc.Range) *Book {
	b := NewBook(server, time.Now)
	b.synced = append(b.synced, func() bool { return true })
	return b
}

func TestNumbersWhatTheClassAsksFor(t *testing.T) {
	w := newWorld(t, first)
	svc := w.service("cart", corev1.ServicePort{Name: "dns", Port: 53, Protocol: "UDP"},
		corev1.ServicePort{Name: "dns-tcp", Port: 53}, corev1.ServicePort{Name: "http", Port: 80, NodePort: 30020})
	if diff := cmp.Diff([]int32{30016, 30016, 30020}, w.reason(svc, v1alpha1.ReasonAllocated)); diff != "" {
		t.Errorf("node ports (-want +got):\n%s", diff)
	}
	// Neither a Service of another class nor one that the API server numbers is touched.
	other := w.service("other", corev1.ServicePort{Port: 80})
	w.reason(other, v1alpha1.ReasonAllocated)
	foreign := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "foreign"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr.To("example.com/unknown"),
		AllocateLoadBalancerNodePorts: ptr.To(false), Ports: []corev1.ServicePort{{Port: 80}}}}
	w.Make(foreign)
	w.reason(w.service("after", corev1.ServicePort{Port: 80}), v1alpha1.ReasonAllocated)
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
	if foreign.Spec.Ports[0].NodePort != 0 {
		t.Error("a Service of an unknown class was numbered")
	}
}

func TestFollowsTheClass(t *testing.T) {
	w := newWorld(t, first)
	svc := w.service("cart", corev1.ServicePort{Port: 80})
	before := w.reason(svc, v1alpha1.ReasonAllocated)
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(w.class), w.class))
		w.class.Spec.NodePorts = v1alpha1.NodePortsNone
		return w.Update(t.Context(), w.class)
	})
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := findCondition(svc); c != nil {
			return fmt.Errorf("the condition is still %+v", c)
		}
		return nil
	})
	if svc.Spec.Ports[0].NodePort != before[0] {
		t.Error("a node port in use was taken away")
	}
}

// TestRemovedPortStaysAway is about field ownership: we own the node port of a port that is the user's, and must not keep
// the port alive by that.
func TestRemovedPortStaysAway(t *testing.T) {
	w := newWorld(t, first)
	apply := func(ports ...int32) {
		t.Helper()
		spec := corev1ac.ServiceSpec().WithType(corev1.ServiceTypeLoadBalancer).WithLoadBalancerClass(w.class.Spec.ClassName).
			WithAllocateLoadBalancerNodePorts(false)
		for _, p := range ports {
			spec.WithPorts(corev1ac.ServicePort().WithName(fmt.Sprint("p", p)).WithPort(p).WithProtocol(corev1.ProtocolTCP))
		}
		w.Must(w.Apply(t.Context(), corev1ac.Service("cart", w.Namespace).WithSpec(spec), client.FieldOwner("user")))
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "cart"}}
	apply(80, 443)
	ports := w.reason(svc, v1alpha1.ReasonAllocated)
	apply(80)
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	if len(svc.Spec.Ports) != 1 || svc.Spec.Ports[0].NodePort != ports[0] {
		t.Errorf("after the removal of port 443 the ports are %+v", svc.Spec.Ports)
	}
}

func TestRenumbersWhatWasRemoved(t *testing.T) {
	w := newWorld(t, nil)
	svc := w.service("cart", corev1.ServicePort{Port: 80})
	w.reason(svc, v1alpha1.ReasonAllocated)
	svc.Spec.Ports[0].NodePort = 0
	w.Eventually(func() error {
		err := w.Update(t.Context(), svc)
		if err != nil {
			w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
			svc.Spec.Ports[0].NodePort = 0
		}
		return err
	})
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if svc.Spec.Ports[0].NodePort == 0 {
			return fmt.Errorf("there is no node port again")
		}
		return nil
	})
}

func TestServerIsTheArbiter(t *testing.T) {
	w := newWorld(t, first)
	// The server's allocator has this port, and the book knows nothing of the Service that holds it: a stale cache.
	w.service("taken", corev1.ServicePort{Port: 80, NodePort: 30016})
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "late"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr.To("example.com/nobody"),
		AllocateLoadBalancerNodePorts: ptr.To(false), Ports: []corev1.ServicePort{{Port: 80}}}}
	w.Make(svc)
	r := &Reconciler{Client: w.Client, Book: emptyBook(nodePorts), Intn: first}
	w.Must(r.number(t.Context(), svc))
	if svc.Spec.Ports[0].NodePort != 30017 {
		t.Errorf("the node port is %d, want the next after the one that the server refused", svc.Spec.Ports[0].NodePort)
	}
}

// TestNumberOverwritesNothing: what somebody writes to the Service after it was read stays.
func TestNumberOverwritesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	svc := w.service("cart", corev1.ServicePort{Name: "http", Port: 80})
	stale := svc.DeepCopy()
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "https", Port: 443})
	w.Must(w.Update(t.Context(), svc))
	book := emptyBook(nodePorts)
	r := &Reconciler{Client: w.Client, Book: book, Intn: first}
	if err := r.number(t.Context(), stale); !apierrors.IsConflict(err) {
		t.Errorf("the write that came too late was answered with %v", err)
	}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	if len(svc.Spec.Ports) != 2 || svc.Spec.Ports[0].NodePort != 0 {
		t.Fatalf("after it the ports are %+v", svc.Spec.Ports)
	}
	// What was not written is promised to nobody.
	other := w.service("other", corev1.ServicePort{Port: 80})
	w.Must(r.number(t.Context(), other))
	w.Must(r.number(t.Context(), svc))
	got := []int32{other.Spec.Ports[0].NodePort, svc.Spec.Ports[0].NodePort, svc.Spec.Ports[1].NodePort}
	if diff := cmp.Diff([]int32{30016, 30017, 30018}, got); diff != "" {
		t.Errorf("the next times node ports are (-want +got):\n%s", diff)
	}
}

// TestClassOf: a Service that is served already keeps the class that serves it, whatever would be chosen now.
func TestClassOf(t *testing.T) {
	class := func(name string) v1alpha1.LoadBalancerClass {
		return v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + name}}
	}
	classes := []v1alpha1.LoadBalancerClass{class("chosen"), class("serving")}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{UID: "1"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer,
		LoadBalancerClass: new("example.com/chosen")}}
	served := func(uid types.UID, provider, class string) v1alpha1.LoadBalancerRecordStatus {
		return v1alpha1.LoadBalancerRecordStatus{ServiceUID: uid, Provider: provider, LoadBalancerClass: class}
	}
	for name, tc := range map[string]struct {
		reason string
		status v1alpha1.LoadBalancerRecordStatus
		want   string // "": none
	}{
		"New":       {"nothing serves it yet", served("", "", ""), "chosen"},
		"Served":    {"by a class", served("1", "fake", "serving"), "serving"},
		"ClassGone": {"the class that serves it was deleted", served("1", "fake", "gone"), ""},
		"NoClass":   {"the configuration serves it", served("1", "fake", ""), ""},
		"Another":   {"the record is of a Service that had its name", served("2", "fake", "serving"), "chosen"},
		"NotBound":  {"it is not decided yet", served("1", "", ""), "chosen"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if c := classOf(svc, &v1alpha1.LoadBalancerRecord{Status: tc.status}, classes, true); c != nil {
				got = c.Name
			}
			if got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

func TestExhausted(t *testing.T) {
	w := newWorld(t, nil)
	var ports []corev1.ServicePort
	for p := nodePorts.First; p <= nodePorts.Last; p++ {
		ports = append(ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Port: int32(p), NodePort: int32(p)})
	}
	full := w.service("full", ports...)
	svc := w.service("cart", corev1.ServicePort{Port: 80})
	w.reason(svc, v1alpha1.ReasonExhausted)
	w.Must(w.Delete(t.Context(), full))
	// Nobody tells us of a port that is given back: an edit of the Service, or a minute, does.
	w.Eventually(func() error {
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := findCondition(svc); c != nil && c.Reason == v1alpha1.ReasonAllocated {
			return nil
		}
		svc.Annotations = map[string]string{"again": time.Now().String()}
		if err := w.Update(t.Context(), svc); err != nil {
			return err
		}
		return fmt.Errorf("still exhausted")
	})
}

// TestRefusedForGood: what the server refuses whichever port it is, here since the range is not the server's, is said
// once, not with each port anew.
func TestRefusedForGood(t *testing.T) {
	w := newWorld(t, nil)
	w.stop() // to it the Service is nobody's: it would take the condition away
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "cart"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: ptr.To(false), Ports: []corev1.ServicePort{{Port: 80}}}}
	w.Make(svc)
	class := w.class.DeepCopy()
	class.Spec.Default = true
	r := &Reconciler{Client: served{w.Client, class}, Recorder: events.NewFakeRecorder(10),
		Book: emptyBook(portalloc.Range{First: 40000, Last: 40999}), Intn: rand.IntN}
	var said string
	for range 3 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(svc)}); err != nil {
			t.Fatal(err)
		}
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if c := findCondition(svc); c == nil || c.Reason != v1alpha1.ReasonRefused || !strings.Contains(c.Message, serverPorts.String()) {
			t.Fatalf("the condition is %+v, want a refusal that names the server's range", c)
		}
		if said != "" && svc.ResourceVersion != said {
			t.Errorf("written again: %+v", findCondition(svc))
		}
		said = svc.ResourceVersion
	}
}

// served is a client that knows of one class.
type served struct {
	client.Client
	class *v1alpha1.LoadBalancerClass
}

func (s served) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if classes, ok := list.(*v1alpha1.LoadBalancerClassList); ok {
		classes.Items = []v1alpha1.LoadBalancerClass{*s.class}
		return nil
	}
	return s.Client.List(ctx, list, opts...)
}
