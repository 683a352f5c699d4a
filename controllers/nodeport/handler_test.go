package nodeport

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

// BenchmarkWebhook is the handler alone, in a cluster of that many Services.
func BenchmarkWebhook(b *testing.B) {
	for _, used := range []int{0, 2700} {
		b.Run(fmt.Sprintf("%dInUse", used), func(b *testing.B) {
			book := emptyBook(portalloc.DefaultRange)
			book.numbers = true
			p := &v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NodePortPoolSpec{
				Ranges: []v1alpha1.PortRange{{First: 30000, Last: 32767}}, Sticky: true, Enforcement: v1alpha1.EnforcementEnforce}}
			book.setPool(p)
			for i := range used {
				svc := nodePort(fmt.Sprint("s", i), int32(30000+i))
				svc.Namespace = "web"
				book.setService(svc)
			}
			hook := &Webhook{Book: book, Intn: rand.IntN, Client: known{}}
			request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Namespace: "web", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Service"}}}
			request.Object.Raw = []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"new","namespace":"web"},"spec":{"type":"NodePort","ports":[{"port":80,"protocol":"TCP"}],"selector":{"app":"web"}}}`)
			var times []time.Duration
			for b.Loop() {
				begin := time.Now()
				if response := hook.Handle(b.Context(), request); !response.Allowed || len(response.Patches) != 1 {
					b.Fatalf("got %+v", response)
				}
				times = append(times, time.Since(begin))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}

// known is a cache that has every namespace.
type known struct{ client.Reader }

func (known) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return nil
}

// TestPutsBack: an update that leaves numbers out has them in the answer, and what is chosen beside them is another.
func TestPutsBack(t *testing.T) {
	book := emptyBook(portalloc.DefaultRange)
	book.setPool(&v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NodePortPoolSpec{
		Ranges: []v1alpha1.PortRange{{First: 30000, Last: 30002}}}})
	hook := &Webhook{Book: book, Intn: first, Client: known{}}
	request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Operation: admissionv1.Update, Namespace: "web", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Service"}}}
	request.OldObject.Raw = []byte(`{"metadata":{"name":"a","uid":"1"},"spec":{"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":30001,"ports":[{"name":"http","port":80,"nodePort":30000}]}}`)
	request.Object.Raw = []byte(`{"metadata":{"name":"a","uid":"1"},"spec":{"type":"LoadBalancer","externalTrafficPolicy":"Local","ports":[{"name":"https","port":443},{"name":"http","port":80}]}}`)
	want := []jsonpatch.Operation{
		{Operation: "add", Path: "/spec/ports/0/nodePort", Value: int32(30002)},
		{Operation: "add", Path: "/spec/ports/1/nodePort", Value: int32(30000)},
		{Operation: "add", Path: "/spec/healthCheckNodePort", Value: int32(30001)},
	}
	if diff := cmp.Diff(want, hook.Handle(t.Context(), request).Patches); diff != "" {
		t.Errorf("patches (-want +got):\n%s", diff)
	}
}

// TestNotReady: a manager that does not know yet who has what numbers nothing, and the API server does.
func TestNotReady(t *testing.T) {
	book := NewBook(portalloc.DefaultRange, time.Now)
	book.numbers = true
	book.setPool(&v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NodePortPoolSpec{
		Ranges: []v1alpha1.PortRange{{First: 30000, Last: 30009}}, Enforcement: v1alpha1.EnforcementEnforce}})
	hook := &Webhook{Book: book, Intn: first, Client: known{}}
	request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Namespace: "web", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Service"}}}
	request.Object.Raw = []byte(`{"metadata":{"name":"new"},"spec":{"type":"NodePort","ports":[{"port":80}]}}`)
	if response := hook.Handle(t.Context(), request); !response.Allowed || len(response.Patches) > 0 {
		t.Errorf("it answered %+v", response)
	}
	known := false
	book.synced = append(book.synced, func() bool { return true }, func() bool { return known })
	if response := hook.Handle(t.Context(), request); !response.Allowed || len(response.Patches) > 0 {
		t.Errorf("with half of what there is it answered %+v", response)
	}
	known = true
	if response := hook.Handle(t.Context(), request); !response.Allowed || len(response.Patches) != 1 {
		t.Errorf("knowing everything it answered %+v", response)
	}
}

// TestNewNamespace: of a namespace that the cache has not seen yet the API server is asked; where that does not answer, it is
// said that the ports are from no pool.
func TestNewNamespace(t *testing.T) {
	book := emptyBook(portalloc.DefaultRange)
	book.setPool(&v1alpha1.NodePortPool{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: v1alpha1.NodePortPoolSpec{
		Ranges: []v1alpha1.PortRange{{First: 30000, Last: 30009}}}})
	request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Namespace: "new", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Service"}}}
	request.Object.Raw = []byte(`{"metadata":{"name":"new"},"spec":{"type":"NodePort","ports":[{"port":80}]}}`)
	missing := &failing{known{}, "new", apierrors.NewNotFound(corev1.Resource("namespaces"), "new")}
	hook := &Webhook{Book: book, Intn: first, Client: missing, Reader: known{}}
	if response := hook.Handle(t.Context(), request); !response.Allowed || len(response.Patches) != 1 || len(response.Warnings) > 0 {
		t.Errorf("it answered %+v", response)
	}
	hook.Reader = missing
	if response := hook.Handle(t.Context(), request); !response.Allowed || len(response.Patches) > 0 || len(response.Warnings) != 1 {
		t.Errorf("of one that cannot be read it answered %+v", response)
	}
}
