package nodeport

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
)

// front is where the API server asks: it stands before the replicas, as their Service does.
type front struct {
	mu       sync.Mutex
	replicas []*replica
	asked    int
	// turns sends each request to another replica; otherwise the one that came first has all of them.
	turns bool
}

// newFront has the API server ask, with the configuration as it is installed, until the test ends.
func (w *world) newFront() *front {
	w.Helper()
	f := &front{}
	server := httptest.NewTLSServer(f)
	w.Cleanup(server.Close)
	configuration := shipped(w.T)
	configuration.Webhooks[0].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: new(server.URL + WebhookPath),
		CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
	w.Make(configuration)
	w.Cleanup(func() { w.Must(w.Delete(context.Background(), configuration)) })
	return f
}

func (f *front) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	f.mu.Lock()
	if len(f.replicas) == 0 {
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	r := f.replicas[0]
	if f.turns {
		r = f.replicas[f.asked%len(f.replicas)]
		f.asked++
	}
	f.mu.Unlock()
	r.serve(out, request)
}

// replica is the webhook server of one manager.
type replica struct {
	*front
	book *Book
	hook http.Handler
	// mortal is what the manager dies of; nil: nothing.
	mortal *mortal
}

var _ webhook.Server = (*replica)(nil)

func (r *replica) NeedLeaderElection() bool             { return false }
func (r *replica) Register(_ string, hook http.Handler) { r.hook = hook }
func (r *replica) StartedChecker() healthz.Checker      { return healthz.Ping }
func (r *replica) WebhookMux() *http.ServeMux           { return nil }
func (r *replica) serve(out http.ResponseWriter, request *http.Request) {
	if r.mortal == nil {
		r.hook.ServeHTTP(out, request)
		return
	}
	answered := false
	_ = r.mortal.write(func() error {
		answered = true
		r.hook.ServeHTTP(out, request)
		return nil
	})
	if !answered {
		panic(http.ErrAbortHandler) // the connection is cut
	}
}

func (r *replica) Start(ctx context.Context) error {
	r.mu.Lock()
	r.replicas = append(r.replicas, r)
	r.mu.Unlock()
	<-ctx.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replicas = slices.DeleteFunc(r.replicas, func(other *replica) bool { return other == r })
	return nil
}

// replica runs a manager behind the front; m is what it dies of, nil: nothing.
func (w *world) replica(f *front, m *mortal, changes ...func(*ctrl.Options)) (r *replica, stop func()) {
	w.Helper()
	r = &replica{front: f, mortal: m}
	stop = w.Start(cache.Options{}, func(mgr ctrl.Manager) error {
		reconciler := &Reconciler{Client: mgr.GetClient(), Range: w.ports, Coexist: true, WebhookConfiguration: hookConfiguration}
		if m != nil {
			m.Client = mgr.GetClient()
			reconciler.Client = m
		}
		err := reconciler.SetupWithManager(mgr)
		r.book = reconciler.Book
		return err
	}, append(changes, func(o *ctrl.Options) { o.WebhookServer = r })...)
	w.Eventually(func() error {
		if !r.book.ready() {
			return errors.New("the book is not filled")
		}
		return nil
	})
	return r, stop
}

// TestTwoReplicas: 32 clients whose requests go to two managers in turn, both of which lead, too. Nobody has a port twice, and
// whoever comes back has its own again, whichever of the two is asked, though there is hardly a free one.
func TestTwoReplicas(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	f := w.newFront()
	f.turns = true
	const clients, each, spare = 32, 4, 8
	const begin = 30100
	p := w.pool("web", begin, begin+clients*each+spare-1, func(s *v1alpha1.NodePortPoolSpec) {
		s.Enforcement, s.Sticky = v1alpha1.EnforcementEnforce, true
	})
	a, _ := w.replica(f, nil)
	b, _ := w.replica(f, nil)
	w.becomes(p, func() string {
		if c := conditionOf(p, v1alpha1.ConditionAccepted); c == nil || c.Status != metav1.ConditionTrue {
			return "it is not accepted"
		}
		return ""
	})
	var refused atomic.Int32
	// create makes one, again and again where the two managers chose the same port for two Services: the API server refuses
	// the second.
	create := func(name string) (int32, error) {
		for range 1000 {
			svc := nodePort(name, 0)
			svc.Namespace = w.Namespace
			err := w.Create(t.Context(), svc)
			if apierrors.IsInvalid(err) {
				refused.Add(1)
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("creating %s: %w", name, err)
			}
			return svc.Spec.Ports[0].NodePort, nil
		}
		return 0, fmt.Errorf("creating %s: it is always refused", name)
	}
	life := func(name string) error {
		had, err := create(name)
		if err != nil {
			return err
		}
		for range 3 {
			// What a manager has not seen it does not remember: ADR 14.
			if err := seen(t.Context(), portalloc.Key{Namespace: w.Namespace, Name: name}, int(had), a.book, b.book); err != nil {
				return err
			}
			if err := w.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}); err != nil {
				return fmt.Errorf("deleting %s: %w", name, err)
			}
			got, err := create(name)
			if err != nil {
				return err
			}
			if got != had {
				return fmt.Errorf("%s had %d and comes back with %d", name, had, got)
			}
		}
		return nil
	}
	problems := make(chan error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for j := range each {
				if err := life(fmt.Sprintf("s%d-%d", i, j)); err != nil {
					problems <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
	var services corev1.ServiceList
	w.Must(w.List(t.Context(), &services, client.InNamespace(w.Namespace)))
	ports := map[int32]string{}
	for i := range services.Items {
		port := services.Items[i].Spec.Ports[0].NodePort
		if port < begin || port >= begin+clients*each+spare || ports[port] != "" {
			t.Errorf("%s has %d, as has %q", services.Items[i].Name, port, ports[port])
		}
		ports[port] = services.Items[i].Name
	}
	if len(ports) != clients*each {
		t.Errorf("%d Services have ports, want %d", len(ports), clients*each)
	}
	w.becomes(p, is(p, clients*each+spare, clients*each, 0, v1alpha1.ReasonAccepted, v1alpha1.ReasonNearlyExhausted, v1alpha1.ReasonExclusive))
	t.Logf("the API server refused %d of %d: both managers had chosen the port at the same time", refused.Load(), clients*each*4)
}

// seen polls until the books know that a Service has a port.
func seen(ctx context.Context, key portalloc.Key, port int, books ...*Book) error {
	for _, b := range books {
		for !b.knows(key, port) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
	return nil
}

func (b *Book) knows(key portalloc.Key, port int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.ledger.Claims(), func(c portalloc.Claim) bool { return c.Port == port && slices.Contains(c.Services, key) })
}

// TestNotAsked: where the API server is not told to ask, a pool that says Enforce refuses nothing, and says so; told, it does.
func TestNotAsked(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	p := w.pool("web", 30100, 30109, enforce)
	f := &front{}
	w.replica(f, nil)
	reason := func(want string) {
		t.Helper()
		w.becomes(p, func() string {
			if c := conditionOf(p, v1alpha1.ConditionAccepted); c == nil || c.Reason != want {
				return "want Accepted with reason " + want
			}
			return ""
		})
	}
	policy := func() error {
		return w.Get(t.Context(), client.ObjectKey{Name: PolicyName}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{})
	}
	reason(v1alpha1.ReasonNotEnforced)
	if err := policy(); !apierrors.IsNotFound(err) {
		t.Errorf("there is a policy that refuses what nobody numbers (%v)", err)
	}
	configuration := shipped(t)
	configuration.Webhooks[0].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1" + WebhookPath)}
	w.Make(configuration)
	reason(v1alpha1.ReasonAccepted)
	w.Eventually(policy)
	w.Must(w.Delete(t.Context(), configuration))
	reason(v1alpha1.ReasonNotEnforced)
	w.Eventually(func() error {
		if err := policy(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the policy stands (%w)", err)
		}
		return nil
	})
}
