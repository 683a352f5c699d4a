package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/go-logr/logr"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// The tests of this package run against a real API server, which all of them share.
var (
	restConfig *rest.Config
	scheme     = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	stop := func() error { return nil }
	if os.Getenv("KUBEBUILDER_ASSETS") != "" {
		env := &envtest.Environment{
			CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
			ErrorIfCRDPathMissing: true,
		}
		env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112")
		var err error
		if restConfig, err = env.Start(); err != nil {
			fmt.Fprintln(os.Stderr, "starting the API server:", err)
			os.Exit(1)
		}
		restConfig.QPS, restConfig.Burst = -1, 0
		stop = env.Stop
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the API server:", err)
	}
	os.Exit(code)
}

// needServer skips where there is no API server.
func needServer(t *testing.T) client.Client {
	t.Helper()
	if restConfig == nil {
		t.Skip("KUBEBUILDER_ASSETS is not set: run `make controlplane` and set it to the folder that it prints")
	}
	c, err := client.New(restConfig, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is one API server's namespace, a cloud, and a manager between them.
type world struct {
	*testing.T
	client.Client
	namespace string
	cloud     *fake.Cloud
	class     *v1alpha1.LoadBalancerClass

	mu     sync.Mutex
	writes int
	stop   func()
}

var pools = []fake.Pool{
	{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")},
	{Name: "six", Prefix: netip.MustParsePrefix("2001:db8:51::/120")},
}

// newWorld makes a namespace, a class of its own that the test's Services name, and a running manager.
func newWorld(t *testing.T, options fake.Options, edit func(*v1alpha1.LoadBalancerClassSpec)) *world {
	c := needServer(t)
	w := &world{T: t, Client: c}
	options.Pools = pools
	options.Hook = func(call fake.Call) error {
		if call.Write() && !call.After {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.writes++
		}
		return nil
	}
	w.cloud = fake.New(options)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "lb-"}}
	w.must(c.Create(t.Context(), ns))
	w.namespace = ns.Name
	w.class = &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: ns.Name},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + ns.Name, Provider: fake.Name}}
	if edit != nil {
		edit(&w.class.Spec)
	}
	w.must(c.Create(t.Context(), w.class))
	t.Cleanup(func() { w.must(client.IgnoreNotFound(c.Delete(context.Background(), w.class))) })
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// start runs a manager until stop, or the test's end. Coexist: tests do not see each other's Services, since each has a
// class of its own.
func (w *world) start() {
	w.Helper()
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}})
	w.must(err)
	r := &Reconciler{Providers: providers{fake.NewProvider(w.cloud)}, ClusterID: "test", Coexist: true}
	w.must(r.SetupWithManager(mgr))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := mgr.Start(ctx); err != nil {
			w.Errorf("the manager ended: %v", err)
		}
	}()
	w.stop = func() { cancel(); <-done }
}

type providers struct{ fake cloud.Provider }

func (p providers) Get(name string) (cloud.Provider, error) {
	if name != fake.Name {
		return nil, fmt.Errorf("no provider is called %q: choose one of fake", name)
	}
	return p.fake, nil
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually polls until check is content.
func (w *world) eventually(check func() error) {
	w.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			w.Fatalf("after 30 s still: %v", err)
		case <-tick.C:
		}
	}
}

// service makes a Service of the world's class.
func (w *world) service(name string, edit func(*corev1.Service)) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class.Spec.ClassName,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	if edit != nil {
		edit(svc)
	}
	w.must(w.Create(w.Context(), svc))
	return svc
}

// update changes a Service, again if somebody else did meanwhile.
func (w *world) update(svc *corev1.Service, edit func(*corev1.Service)) {
	w.Helper()
	w.eventually(func() error {
		if err := w.Get(w.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		edit(svc)
		return w.Update(w.Context(), svc)
	})
}

func (w *world) objects() []fake.Object {
	w.Helper()
	objects, err := w.cloud.List(context.Background(), nil)
	w.must(err)
	return objects
}

func (w *world) countWrites() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes
}
