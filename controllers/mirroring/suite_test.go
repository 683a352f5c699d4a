package mirroring

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// api is the API server that all tests of the package share; each works in a namespace of its own.
var api *rest.Config

func TestMain(m *testing.M) {
	log.SetLogger(klog.Background())
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		os.Exit(m.Run())
	}
	env := &envtest.Environment{}
	env.ControlPlane.GetAPIServer().Configure().
		Set("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112")
	var err error
	if api, err = env.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "starting the API server:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := env.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		code = 1
	}
	os.Exit(code)
}

// world is one test's namespace and its view of the API server, past every cache.
type world struct {
	t         *testing.T
	client    client.Client
	namespace string
	// onSlice, if set, is called with every slice on its way into a cache that is started later.
	onSlice func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Asked here, not by way of api: only what is read after the tests began makes a cached result stale.
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("no API server: run `make controlplane` and set KUBEBUILDER_ASSETS to the folder that it prints")
	}
	c, err := client.New(api, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}
	w := &world{t: t, client: c}
	w.create(ns)
	w.namespace = ns.Name
	return w
}

// start runs the controller for this test's namespace until the test ends, or stop is called.
func (w *world) start(r *Reconciler) (stop func()) {
	w.t.Helper()
	mgr, err := ctrl.NewManager(api, ctrl.Options{
		Metrics: metricsserver.Options{BindAddress: "0"},
		// Every test names its controller alike.
		Controller: config.Controller{SkipNameValidation: new(true)},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{w.namespace: {}},
			ByObject: map[client.Object]cache.ByObject{&discoveryv1.EndpointSlice{}: {Transform: func(obj any) (any, error) {
				if w.onSlice != nil {
					w.onSlice()
				}
				return obj, nil
			}}},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.SetupWithManager(mgr); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the manager ended with: %v", err)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// probe makes one more Service and its Endpoints and waits until they are mirrored: what the controller was told before
// them it has looked at by then, since keys are worked on in the order of their events, but for those that it retries.
func (w *world) probe() {
	w.t.Helper()
	for i := range 2 {
		name := fmt.Sprintf("probe-%d-%d", time.Now().UnixNano(), i)
		w.service(name, nil)
		w.endpoints(name, subset("x:1", "192.0.2.1"))
		w.eventually(func() error {
			for _, slice := range w.slices(name) {
				if len(slice.Endpoints) == 1 {
					return nil
				}
			}
			return fmt.Errorf("%s is not mirrored", name)
		})
	}
}

func (w *world) create(obj client.Object) {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), obj); err != nil {
		w.t.Fatalf("creating %T: %v", obj, err)
	}
}

func (w *world) remove(obj client.Object) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), obj); err != nil {
		w.t.Fatalf("deleting %T: %v", obj, err)
	}
}

// change reads an object anew, changes it, and writes it back.
func change[T client.Object](w *world, obj T, mutate func(T)) {
	w.t.Helper()
	w.eventually(func() error {
		if err := w.client.Get(w.t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		mutate(obj)
		return w.client.Update(w.t.Context(), obj)
	})
}

// eventually polls until check has nothing to say.
func (w *world) eventually(check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("still, after a minute: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) service(name string, selector map[string]string) *corev1.Service {
	w.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Name: "pg", Port: 5432}}},
	}
	w.create(s)
	return s
}

func (w *world) endpoints(name string, subsets ...corev1.EndpointSubset) *corev1.Endpoints {
	w.t.Helper()
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, Subsets: subsets}
	w.create(e)
	return e
}

// subset returns a subset with one port, as name:number, and addresses, those that begin with ! not ready.
func subset(port string, addresses ...string) corev1.EndpointSubset {
	p := corev1.EndpointPort{}
	p.Name, _, _ = strings.Cut(port, ":")
	_, _ = fmt.Sscanf(port[len(p.Name):], ":%d", &p.Port)
	s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{p}}
	for _, address := range addresses {
		if ip, notReady := strings.CutPrefix(address, "!"); notReady {
			s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
		} else {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
		}
	}
	return s
}

// slices returns the slices that mirror the Endpoints of this name; empty: all of the namespace.
func (w *world) slices(name string) []discoveryv1.EndpointSlice {
	w.t.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.client.List(w.t.Context(), &list, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(s discoveryv1.EndpointSlice) bool {
		return name != "" && (s.Labels[discoveryv1.LabelServiceName] != name || s.Labels[discoveryv1.LabelManagedBy] != ManagedBy)
	})
}

// shows waits until the slices of this name are these, each written as its port and addresses as subset takes them.
func (w *world) shows(name string, want ...string) []discoveryv1.EndpointSlice {
	w.t.Helper()
	var found []discoveryv1.EndpointSlice
	w.eventually(func() error {
		found = w.slices(name)
		lines := []string{}
		for _, s := range found {
			var addresses []string
			for _, e := range s.Endpoints {
				mark := ""
				if !*e.Conditions.Ready {
					mark = "!"
				}
				addresses = append(addresses, mark+e.Addresses[0])
			}
			slices.Sort(addresses)
			lines = append(lines, fmt.Sprintf("%s:%d %s", *s.Ports[0].Name, *s.Ports[0].Port, strings.Join(addresses, " ")))
		}
		slices.Sort(lines)
		if !slices.Equal(lines, want) && len(lines)+len(want) > 0 {
			return fmt.Errorf("the slices of %s are %q, want %q", name, lines, want)
		}
		return nil
	})
	return found
}

// versions are the resourceVersions of slices: equal before and after means that nothing was written.
func versions(all []discoveryv1.EndpointSlice) map[types.UID]string {
	versions := map[types.UID]string{}
	for _, s := range all {
		versions[s.UID] = s.ResourceVersion
	}
	return versions
}

// events returns the messages of the events with a reason in the namespace.
func (w *world) events(reason string) []string {
	w.t.Helper()
	var list corev1.EventList
	if err := w.client.List(w.t.Context(), &list, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatal(err)
	}
	var messages []string
	for _, e := range list.Items {
		if e.Reason == reason {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// passes counts the controller's passes so far, of all tests, by how they ended: success, requeue_after, error.
func passes(t *testing.T, result string) float64 {
	t.Helper()
	return sum(t, "controller_runtime_reconcile_total", result)
}

// metric is the sum of one of the controller's metrics, of those samples that have a label with this value, or of all
// where it is empty.
func metric(t *testing.T, name, value string) float64 {
	t.Helper()
	return sum(t, subsystem+"_"+name, value)
}

func sum(t *testing.T, name, value string) (total float64) {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			found := value == ""
			for _, label := range m.GetLabel() {
				found = found || label.GetValue() == value
			}
			if found {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}
