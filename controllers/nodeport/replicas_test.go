package nodeport

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	"github.com/fairlead/fairlead/test/apiserver"
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
// whoever comes back has its own again, whichever of the two is asked and whatever it has seen so far, although others look
// for one of the few that are free.
func TestTwoReplicas(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	f := w.newFront()
	f.turns = true
	const clients, each, spare, intruders = 32, 4, 8, 4
	const begin = 30700
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
		var err error
		for range 1000 {
			svc := nodePort(name, 0)
			svc.Namespace = w.Namespace
			err = w.Create(t.Context(), svc)
			if apierrors.IsInvalid(err) {
				refused.Add(1)
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("creating %s: %w", name, err)
			}
			return svc.Spec.Ports[0].NodePort, nil
		}
		return 0, fmt.Errorf("creating %s: it is always refused: %w", name, err)
	}
	remove := func(name string) error {
		err := w.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}})
		if err != nil {
			return fmt.Errorf("deleting %s: %w", name, err)
		}
		return nil
	}
	at32 := func(do func(client int) error) {
		t.Helper()
		problems := make(chan error, clients)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() { problems <- do(i) })
		}
		all.Wait()
		close(problems)
		for err := range problems {
			w.Must(err)
		}
	}
	had := [clients][each]int32{}
	name := func(i, j int) string { return fmt.Sprintf("s%d-%d", i, j) }
	at32(func(i int) (err error) {
		for j := 0; j < each && err == nil; j++ {
			had[i][j], err = create(name(i, j))
		}
		return err
	})
	t.Logf("the API server refused %d of %d: both managers had chosen the port at the same time", refused.Load(), clients*each)
	w.Eventually(func() error { // what a manager has never seen it does not remember: ADR 14
		for _, book := range []*Book{a.book, b.book} {
			if n := book.used("web"); n != clients*each {
				return fmt.Errorf("a manager knows of %d", n)
			}
		}
		return nil
	})

	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range intruders {
		others.Go(func() {
			for name := fmt.Sprint("intruder", i); ; {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := create(name); err != nil && !apierrors.IsForbidden(err) { // there may be none left
					t.Error(err)
					return
				} else if err == nil {
					if err := remove(name); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	at32(func(i int) error {
		for round := range 3 * each {
			name, had := name(i, round%each), had[i][round%each]
			if err := remove(name); err != nil {
				return err
			}
			if got, err := create(name); err != nil || got != had {
				return fmt.Errorf("%s had %d and comes back with %d (%w)", name, had, got, err)
			}
		}
		return nil
	})
	close(stop)
	others.Wait()
	want := map[string]int32{}
	for i := range clients {
		for j := range each {
			want[name(i, j)] = had[i][j]
		}
	}
	var services corev1.ServiceList
	w.Must(w.List(t.Context(), &services, client.InNamespace(w.Namespace)))
	got, ports := map[string]int32{}, map[int32]bool{}
	for i := range services.Items {
		port := services.Items[i].Spec.Ports[0].NodePort
		got[services.Items[i].Name], ports[port] = port, port >= begin && port < begin+clients*each+spare
	}
	if diff := cmp.Diff(want, got); diff != "" || len(ports) != clients*each || slices.Contains(slices.Collect(maps.Values(ports)), false) {
		t.Errorf("ports, of which %d differ (-want +got):\n%s", len(ports), diff)
	}
	w.becomes(p, func() string {
		if p.Status.Used == nil || *p.Status.Used != clients*each || *p.Status.Reserved > intruders {
			return "want 128 in use, and only those of others reserved"
		}
		return ""
	})
}

// used counts the ports of a pool that Services have.
func (b *Book) used(pool string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledger.Usage(pool).Used
}

// TestNotAsked: where the API server is not told to ask, a pool that says Enforce refuses nothing, and says so; told, it does.
func TestNotAsked(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	p := w.pool("web", 30100, 30109, enforce)
	nowhere := admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1" + WebhookPath)}
	foreign := shipped(t) // of another manager
	foreign.Name, foreign.Webhooks[0].ClientConfig = "another", nowhere
	w.Make(foreign)
	t.Cleanup(func() { w.Must(w.Delete(context.Background(), foreign)) })
	w.replica(&front{}, nil)
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
	configuration.Webhooks[0].ClientConfig = nowhere
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

// TestPutsThePolicyBack: what refuses Services is put back when somebody changes or deletes it.
func TestPutsThePolicyBack(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	w.ports = serverPorts
	w.pool("web", 30100, 30109, enforce)
	w.replica(w.newFront(), nil)
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: PolicyName}}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: PolicyName}}
	stands := func() {
		t.Helper()
		w.Eventually(func() error {
			for _, object := range []client.Object{policy, binding} {
				if err := w.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
					return err
				}
			}
			if a := binding.Spec.ValidationActions; len(a) != 1 || a[0] != admissionregistrationv1.Deny || *policy.Spec.FailurePolicy != admissionregistrationv1.Fail ||
				len(policy.Spec.MatchConditions) != 2 {
				return fmt.Errorf("the binding says %v, the policy %+v", a, policy.Spec)
			}
			return nil
		})
	}
	stands()
	apiserver.Change(w.World, binding, func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
		b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn}
	})
	stands()
	apiserver.Change(w.World, policy, func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
		p.Spec.FailurePolicy = new(admissionregistrationv1.Ignore)
		p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{Name: "never", Expression: "false"})
	})
	stands()
	for _, object := range []client.Object{policy, binding} {
		w.Must(w.Delete(t.Context(), object))
		stands()
	}
}
