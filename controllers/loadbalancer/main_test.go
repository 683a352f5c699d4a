package loadbalancer

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/test/apiserver"
)

func TestMain(m *testing.M) {
	// Most of their time tests wait, for the API server or for a time to pass, so that more of them run than there are cores.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	// Services stay when their tests end, and more than a thousand hold a node port: of the usual range -count runs out.
	apiserver.Main(m, apiserver.Options{CRDs: "../../config/crd/bases", Flags: map[string]string{"service-node-port-range": "10000-65000"}})
}

// worldLabel is on Nodes and classes, which have no namespace, and says whose they are: tests run side by side.
const worldLabel = "example.com/world"

// mine marks a Node or a class as this world's.
func (w *world) mine(object client.Object) {
	marks := map[string]string{worldLabel: w.Namespace}
	maps.Copy(marks, object.GetLabels())
	object.SetLabels(marks)
}

// see returns the cache of a manager that sees this world alone.
func (w *world) see() cache.Options {
	options := w.Alone()
	alone := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{worldLabel: w.Namespace})}
	options.ByObject = map[client.Object]cache.ByObject{&corev1.Node{}: alone, &v1alpha1.LoadBalancerClass{}: alone}
	return options
}

// seeing is a client that sees one world alone.
type seeing struct {
	client.Client
	world string
}

func (s seeing) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	switch list.(type) {
	case *corev1.NodeList, *v1alpha1.LoadBalancerClassList:
		opts = append(opts, client.MatchingLabels{worldLabel: s.world})
	default:
		opts = append(opts, client.InNamespace(s.world))
	}
	return s.Client.List(ctx, list, opts...)
}

// world is one API server's namespace, a cloud, and a manager between them.
type world struct {
	*apiserver.World
	cloud *fake.Cloud
	class *v1alpha1.LoadBalancerClass
	// edits of what the provider says of itself, and what managers see, from the next start on.
	edits  []func(*cloud.Capabilities)
	caches cache.Options
	// grace of orphans, and how often a cloud is swept; 0: as everywhere.
	grace, resync time.Duration

	// manager that runs, or ran last.
	manager *Reconciler

	mu     sync.Mutex
	writes int
	reads  int
	hook   func(fake.Call) error
	stop   func()
}

var pools = []fake.Pool{
	{Name: "default", Prefix: netip.MustParsePrefix("198.51.100.0/24")},
	{Name: "six", Prefix: netip.MustParsePrefix("2001:db8:51::/120")},
}

// newWorld makes a namespace, a class of its own that the test's Services name, and a running manager.
func newWorld(t *testing.T, options fake.Options, edit func(*v1alpha1.LoadBalancerClassSpec)) *world {
	w := &world{World: apiserver.New(t)}
	w.caches = w.see()
	if options.Pools == nil {
		options.Pools = pools
	}
	options.Hook = func(call fake.Call) error {
		w.mu.Lock()
		hook := w.hook
		switch {
		case call.After:
		case call.Write():
			w.writes++
		default:
			w.reads++
		}
		w.mu.Unlock()
		if hook != nil {
			return hook(call)
		}
		return nil
	}
	w.cloud = fake.New(options)
	w.makeClass(edit)
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// makeClass makes the class, until the test ends.
func (w *world) makeClass(edit func(*v1alpha1.LoadBalancerClassSpec)) {
	w.Helper()
	w.class = &v1alpha1.LoadBalancerClass{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace},
		Spec: v1alpha1.LoadBalancerClassSpec{ClassName: "example.com/" + w.Namespace, Provider: fake.Name}}
	if edit != nil {
		edit(&w.class.Spec)
	}
	w.mine(w.class)
	w.Make(w.class)
	w.Cleanup(func() { w.Must(client.IgnoreNotFound(w.Delete(context.Background(), w.class))) })
}

// start runs a manager until stop, or the test's end.
func (w *world) start() {
	w.Helper()
	r := &Reconciler{Providers: w.providers(), ClusterID: "test", Coexist: true, OrphanGrace: w.grace, Resync: w.resync}
	w.manager, w.stop = r, w.Start(w.caches, r.SetupWithManager)
}

// providers has the fake cloud's provider within the limits that it was given.
func (w *world) providers() providers {
	p := fake.NewProvider(w.cloud, w.edits...)
	return providers{cloud.Limited(p, p.Capabilities().Limits)}
}

// alone is a Reconciler without a manager, which reads past every cache.
func (w *world) alone(c client.Client, recorder events.EventRecorder) *Reconciler {
	c = seeing{c, w.Namespace}
	r := &Reconciler{Client: c, APIReader: c, Recorder: recorder, Providers: w.providers(), ClusterID: "test", Coexist: true, OrphanGrace: w.grace}
	r.prepare()
	r.wake, r.wakeNodes, r.wakeSweep = func(types.NamespacedName, priority) {}, func() {}, func(string, time.Duration) {}
	r.wakeGates = func(types.NamespacedName) {}
	return r
}

// pass has such a Reconciler look at a Service, and returns after how long it is to look again.
func (w *world) pass(r *Reconciler, svc *corev1.Service) time.Duration {
	w.Helper()
	result, err := r.Reconcile(w.Context(), named(svc.Namespace, svc.Name))
	w.Must(err)
	return result.RequeueAfter
}

// lazy is a provider that does not start.
const lazy = "lazy"

// emptyCloud is a provider whose cloud has nothing.
const emptyCloud = "empty"

type providers struct{ fake cloud.Provider }

func (p providers) Get(name string) (cloud.Provider, error) {
	switch name {
	case fake.Name:
		return p.fake, nil
	case emptyCloud:
		return fake.NewProvider(fake.New(fake.Options{})), nil
	}
	if name == lazy {
		return nil, fmt.Errorf("starting provider %q: there is no credential", name)
	}
	return nil, fmt.Errorf("provider %q: %w: choose one of fake", name, cloud.ErrNoProvider)
}

// service makes a Service of the world's class.
func (w *world) service(name string, edit func(*corev1.Service)) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class.Spec.ClassName,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	if edit != nil {
		edit(svc)
	}
	w.Make(svc)
	return svc
}

func (w *world) objects() []fake.Object {
	w.Helper()
	return w.cloud.Objects()
}

func (w *world) countWrites() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes
}

func (w *world) countReads() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads
}
