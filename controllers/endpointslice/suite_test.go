package endpointslice

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
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

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// api is the API server that all tests of the package share; each works in a namespace of its own.
var api *rest.Config

func TestMain(m *testing.M) {
	log.SetLogger(klog.Background())
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		os.Exit(m.Run())
	}
	if err := v1alpha1.AddToScheme(scheme.Scheme); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
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
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Pod{}: {Transform: PodTransform},
				&discoveryv1.EndpointSlice{}: {Transform: func(obj any) (any, error) {
					if w.onSlice != nil {
						w.onSlice()
					}
					return obj, nil
				}},
			},
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
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		w.t.Fatal("the cache does not fill")
	}
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

// passes counts the controller's passes so far, of all tests, by how they ended: success, requeue_after, error.
func passes(t *testing.T, result string) float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != "controller_runtime_reconcile_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "result" && label.GetValue() == result {
					total += m.GetCounter().GetValue()
				}
			}
		}
	}
	return total
}

// startAndLook starts the controller and waits until it has looked at the only Service there is.
func (w *world) startAndLook(r *Reconciler) (stop func()) {
	w.t.Helper()
	before := passes(w.t, "success")
	stop = w.start(r)
	w.eventually(func() error {
		if passes(w.t, "success") == before {
			return fmt.Errorf("the controller has not looked at anything")
		}
		return nil
	})
	return stop
}

func (w *world) create(obj client.Object) {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), obj); err != nil {
		w.t.Fatalf("creating %T: %v", obj, err)
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

func (w *world) service(mutate func(*corev1.Service)) *corev1.Service {
	w.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if mutate != nil {
		mutate(s)
	}
	w.create(s)
	return s
}

// node makes a node; nodes are shared by all tests, so that each needs names of its own.
func (w *world) node(name, zone string) *corev1.Node {
	w.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.namespace + "-" + name}}
	if zone != "" {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	w.create(n)
	w.t.Cleanup(func() { _ = w.client.Delete(context.Background(), n) })
	return n
}

// pod makes a running, ready Pod on a node.
func (w *world) pod(name, node string, ip ...string) *corev1.Pod {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName: node,
			Containers: []corev1.Container{{Name: "c", Image: "none", Ports: []corev1.ContainerPort{
				{Name: "web", ContainerPort: 8080},
			}}},
		},
	}
	w.create(p)
	p.Status.Phase = corev1.PodRunning
	for _, a := range ip {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	p.Status.PodIP = ip[0]
	w.ready(p, true)
	return p
}

// ready writes a Pod's status with its Ready condition.
func (w *world) ready(p *corev1.Pod, ready bool) {
	w.t.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	if err := w.client.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatalf("writing the status of %s: %v", p.Name, err)
	}
}

func (w *world) slices() []discoveryv1.EndpointSlice {
	w.t.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.client.List(w.t.Context(), &list, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// shown is what a test compares of an endpoint.
type shown struct {
	Address, Pod, Zone, Conditions, Hints string
}

// show returns every endpoint of every slice of ours in the namespace, by address, and fails on one that is there
// twice.
func (w *world) show() (map[string]shown, error) {
	all := map[string]shown{}
	for _, s := range w.slices() {
		if s.Labels[discoveryv1.LabelManagedBy] != ManagedBy {
			continue
		}
		for _, e := range s.Endpoints {
			address := e.Addresses[0]
			if _, twice := all[address]; twice {
				return nil, fmt.Errorf("%s is there twice", address)
			}
			all[address] = shown{
				Address: address, Pod: e.TargetRef.Name, Zone: deref(e.Zone),
				Conditions: fmt.Sprintf("ready=%v serving=%v terminating=%v", *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating),
				Hints:      hints(e.Hints),
			}
		}
	}
	return all, nil
}

func hints(h *discoveryv1.EndpointHints) string {
	text := ""
	if h == nil {
		return text
	}
	for _, z := range h.ForZones {
		text += "zone " + z.Name
	}
	for _, n := range h.ForNodes {
		text += " node " + n.Name
	}
	return text
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// versions are the resourceVersions of all slices: equal before and after means that nothing was written.
func (w *world) versions() map[types.UID]string {
	w.t.Helper()
	versions := map[types.UID]string{}
	for _, s := range w.slices() {
		versions[s.UID] = s.ResourceVersion
	}
	return versions
}
