package certificate

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	admissionreviewv1 "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m, apiserver.Options{}) }

// world is one API server whose webhooks two replicas serve: each answers one of them, so that every request asks both.
type world struct {
	*apiserver.World
	clock    *clocktesting.FakeClock
	secret   types.NamespacedName
	hooks    *admissionv1.MutatingWebhookConfiguration
	replicas []*Keeper
}

const probe = "probe"

func newWorld(t *testing.T, began time.Time) *world {
	t.Helper()
	w := &world{World: apiserver.New(t), clock: clocktesting.NewFakeClock(began)}
	w.secret = types.NamespacedName{Namespace: w.Namespace, Name: "webhook"}
	w.hooks = &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}
	for range 2 {
		k := w.replica()
		w.replicas = append(w.replicas, k)
		w.hook(k.GetCertificate, "asked")
	}
	// A third one is served with the newest certificate, whatever the replicas serve: it tells when the API server trusts it.
	w.hook(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.pairs()[0].tls() }, probe)
	w.Make(w.hooks)
	t.Cleanup(func() { w.Must(w.Delete(context.Background(), w.hooks)) })
	return w
}

// replica is a manager's keeper, as one that has just started.
func (w *world) replica() *Keeper {
	return &Keeper{Client: w.Client, Reader: w.Client, Clock: w.clock, Secret: w.secret, Configuration: w.secret.Namespace}
}

// hook serves a webhook for ConfigMaps with a label, which lets all pass, with a handshake for every request.
func (w *world) hook(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), label string) {
	w.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: certificate})
	w.Must(err)
	server := &http.Server{Handler: http.HandlerFunc(letPass), ErrorLog: log.New(io.Discard, "", 0)}
	server.SetKeepAlivesEnabled(false)
	go func() { _ = server.Serve(listener) }()
	w.Cleanup(func() { w.Must(server.Close()) })
	url, none, fail := "https://"+listener.Addr().(*net.TCPAddr).String()+"/", admissionv1.SideEffectClassNone, admissionv1.Fail
	w.hooks.Webhooks = append(w.hooks.Webhooks, admissionv1.MutatingWebhook{
		Name:         fmt.Sprintf("h%d.fairlead.dev", len(w.hooks.Webhooks)),
		ClientConfig: admissionv1.WebhookClientConfig{URL: &url},
		Rules: []admissionv1.RuleWithOperations{{Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}},
		ObjectSelector:          &metav1.LabelSelector{MatchLabels: map[string]string{label: w.secret.Namespace}},
		FailurePolicy:           &fail,
		TimeoutSeconds:          new(int32(30)), // the longest there may be
		SideEffects:             &none,
		AdmissionReviewVersions: []string{"v1"},
	})
}

func letPass(out http.ResponseWriter, in *http.Request) {
	var review admissionreviewv1.AdmissionReview
	if err := json.NewDecoder(in.Body).Decode(&review); err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	review.Response = &admissionreviewv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	_ = json.NewEncoder(out).Encode(review)
}

// request makes a request that has the webhooks of a label called.
func (w *world) request(ctx context.Context, label string) error {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.secret.Namespace, GenerateName: "r-",
		Labels: map[string]string{label: w.secret.Namespace}}}
	return w.Create(ctx, object, client.DryRunAll)
}

// pairs are those of the Secret.
func (w *world) pairs() []*pair {
	secret := &corev1.Secret{}
	if err := w.Get(context.Background(), w.secret, secret); err != nil {
		w.Error(err)
		return nil
	}
	return pairsOf(context.Background(), secret)
}

// pass has a replica do what there is to do now, and returns when it wants to be asked again.
func (w *world) pass(k *Keeper) time.Duration {
	w.Helper()
	for range 10 {
		result, err := k.Reconcile(w.Context(), ctrl.Request{})
		w.Must(err)
		if result.RequeueAfter > time.Second || result.RequeueAfter == 0 {
			return result.RequeueAfter
		}
	}
	w.Fatal("it loses every race")
	return 0
}

// settle waits until the API server trusts the newest certificate.
func (w *world) settle() {
	w.Helper()
	w.Eventually(func() error { return w.request(w.Context(), probe) })
}

// TestRotation: certificates are renewed under requests, each of which both replicas have to answer, and none fails.
func TestRotation(t *testing.T) {
	// The API server has the real time: what is served must be valid then, too.
	w := newWorld(t, time.Now().Add(-Lifetime+5*24*time.Hour))
	first, second := w.replicas[0], w.replicas[1]
	w.pass(first)
	w.pass(second)
	w.settle()
	was := w.pairs()[0]

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	var made atomic.Int64
	go func() {
		for ctx.Err() == nil {
			if err := w.request(ctx, "asked"); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
			made.Add(1)
		}
		ended <- nil
	}()
	more := func() {
		w.Helper()
		for began := made.Load(); made.Load() < began+10; time.Sleep(time.Millisecond) {
			select {
			case err := <-ended:
				w.Fatalf("a request failed after %d: %v", made.Load(), err)
			default:
			}
		}
	}
	// The clock goes from one thing that there is to do to the next. Either replica may be the first to notice.
	for i, end := 0, time.Now().Add(20*24*time.Hour); ; i++ {
		first, second = second, first
		more()
		wait := w.pass(first)
		more() // One has begun, the other has not heard of it.
		wait = min(wait, w.pass(second))
		w.settle()
		more()
		if w.clock.Now().Add(wait).After(end) {
			break
		}
		w.clock.Step(wait)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("a request failed after %d: %v", made.Load(), err)
	}
	pairs := w.pairs()
	if len(pairs) != 1 || slices.Equal(pairs[0].certificate, was.certificate) {
		t.Errorf("%d certificates are left, renewed %t", len(pairs), !slices.Equal(pairs[0].certificate, was.certificate))
	}
	for i, k := range w.replicas {
		if served, err := k.GetCertificate(nil); err != nil || !slices.Equal(served.Certificate[0], pairs[0].leaf.Raw) {
			t.Errorf("replica %d does not serve the one in the Secret (%v)", i, err)
		}
	}
	w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(w.hooks), w.hooks))
	for _, hook := range w.hooks.Webhooks {
		if !slices.Equal(hook.ClientConfig.CABundle, pairs[0].certificate) {
			t.Errorf("%s trusts others", hook.Name)
		}
	}
}

// TestRace: replicas that start together agree on one certificate.
func TestRace(t *testing.T) {
	w := newWorld(t, time.Now())
	done := make(chan error)
	for range 8 {
		k := w.replica()
		w.replicas = append(w.replicas, k)
	}
	for _, k := range w.replicas {
		go func() {
			for {
				result, err := k.Reconcile(context.Background(), ctrl.Request{})
				if err != nil || result.RequeueAfter > time.Second {
					done <- err
					return
				}
			}
		}()
	}
	for range w.replicas {
		w.Must(<-done)
	}
	pairs := w.pairs()
	if len(pairs) != 1 {
		t.Fatalf("%d certificates", len(pairs))
	}
	for i, k := range w.replicas {
		if served, err := k.GetCertificate(nil); err != nil || !slices.Equal(served.Certificate[0], pairs[0].leaf.Raw) {
			t.Errorf("replica %d serves another (%v)", i, err)
		}
	}
}

// TestReady: a manager's replica is ready once it has a certificate, or where no webhook is configured.
func TestReady(t *testing.T) {
	w := newWorld(t, time.Now())
	k := w.replica()
	k.Client, k.Reader, k.Configuration = nil, nil, "missing"
	if k.Ready(nil) == nil {
		t.Error("it is ready before it has looked")
	}
	w.Start(w.Alone(), k.SetupWithManager)
	w.Eventually(func() error { return k.Ready(nil) })
	if _, err := k.GetCertificate(nil); err == nil {
		t.Error("there is a certificate though no webhook is configured")
	}

	k = w.replica()
	k.Client, k.Reader = nil, nil
	w.Start(w.Alone(), k.SetupWithManager)
	served := func() error {
		certificate, err := k.GetCertificate(nil)
		if err == nil && !slices.Equal(certificate.Certificate[0], w.pairs()[0].leaf.Raw) {
			err = errors.New("it is not the one in the Secret")
		}
		return err
	}
	w.Eventually(func() error { return errors.Join(k.Ready(nil), served()) })

	// Deleting the Secret revokes: another is made, and it alone is trusted.
	before := w.pairs()[0]
	w.Remove(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.secret.Namespace, Name: w.secret.Name}})
	w.Eventually(func() error {
		var secret corev1.Secret
		if err := w.Get(t.Context(), w.secret, &secret); err != nil {
			return err
		}
		w.Must(w.Get(t.Context(), client.ObjectKeyFromObject(w.hooks), w.hooks))
		now := pairsOf(t.Context(), &secret)
		if len(now) != 1 || slices.Equal(now[0].certificate, before.certificate) || !slices.Equal(w.hooks.Webhooks[0].ClientConfig.CABundle, now[0].certificate) {
			return errors.New("the one before still counts")
		}
		return served()
	})
	w.settle()
}
