package loadbalancer

import (
	"context"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

// askForGates has the API server ask a Reconciler for readiness gates, by the configuration as it is installed but for where it
// is, until the test ends.
func (w *world) askForGates(r *Reconciler) *httptest.Server {
	w.Helper()
	server := httptest.NewTLSServer(&webhook.Admission{Handler: injector{r}})
	w.Cleanup(server.Close)
	raw, err := os.ReadFile("../../config/webhook/webhooks.yaml")
	w.Must(err)
	shipped := &admissionregistrationv1.MutatingWebhookConfiguration{}
	w.Must(yaml.UnmarshalStrict(raw, shipped))
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}
	for _, hook := range shipped.Webhooks {
		if hook.ClientConfig.Service.Path == nil || *hook.ClientConfig.Service.Path != WebhookPath {
			continue
		}
		hook.ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: new(server.URL + WebhookPath),
			CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
		configuration.Webhooks = append(configuration.Webhooks, hook)
	}
	if len(configuration.Webhooks) != 2 {
		w.Fatalf("%d webhooks are installed for %s, want 2", len(configuration.Webhooks), WebhookPath)
	}
	w.Make(configuration)
	w.Cleanup(func() { w.Must(w.Delete(context.Background(), configuration)) })
	return server
}

// TestGatesAreGiven: who asks for gates, by the Pod or its namespace, has one for each balancer that will send to it.
func TestGatesAreGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fake.Options{}, toPods)
	w.stop()
	server := w.askForGates(w.alone(w.Client, discard{}))
	picking := func(app string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			withoutNodePorts(s)
			s.Spec.Selector = map[string]string{"app": app}
		}
	}
	w.service("shop", picking("web"))
	w.service("cart", picking("web"))
	w.service("other", picking("db"))
	w.service("nodes", func(s *corev1.Service) {
		picking("web")(s)
		s.Annotations = map[string]string{v1alpha1.AnnotationTargets: "Nodes"}
	})
	w.service("inner", func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: s.Spec.Ports}
	})
	named := func(services ...string) []corev1.PodReadinessGate {
		var gates []corev1.PodReadinessGate
		for _, s := range services {
			gates = append(gates, corev1.PodReadinessGate{ConditionType: gateOf(s)})
		}
		return gates
	}
	own := corev1.PodReadinessGate{ConditionType: "example.com/warm"}
	pod := func(labels map[string]string, gates ...corev1.PodReadinessGate) []corev1.PodReadinessGate {
		t.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, GenerateName: "p-", Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}, ReadinessGates: gates}}
		w.Make(p)
		return p.Spec.ReadinessGates
	}
	expect := func(reason string, got, want []corev1.PodReadinessGate) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
	enabled, disabled := map[string]string{"app": "web", v1alpha1.LabelReadinessGates: "enabled"}, map[string]string{"app": "web", v1alpha1.LabelReadinessGates: "disabled"}
	web := map[string]string{"app": "web"}
	// Of a webhook that was just made the API server learns a little later.
	w.Eventually(func() error {
		if len(pod(enabled)) == 0 {
			return errStopped
		}
		return nil
	})
	expect("a Pod that does not ask", pod(web), nil)
	expect("one that asks", pod(enabled), named("cart", "shop"))
	expect("one that has some", pod(enabled, own, named("shop")[0]), append([]corev1.PodReadinessGate{own}, named("shop", "cart")...))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}
	apiserver.Change(w.World, ns, func(n *corev1.Namespace) { n.Labels[v1alpha1.LabelReadinessGates] = "enabled" })
	w.Eventually(func() error {
		if len(pod(web)) == 0 {
			return errStopped
		}
		return nil
	})
	expect("a Pod whose namespace asks", pod(web), named("cart", "shop"))
	expect("a Pod that does not, in one that does", pod(disabled), nil)
	expect("a Pod of no balancer", pod(map[string]string{"app": "none"}), nil)
	server.Close()
	expect("while nobody answers", pod(web), nil)
	w.Must(w.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(w.Namespace), client.GracePeriodSeconds(0)))
}
