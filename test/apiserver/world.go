package apiserver

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// World is one test's namespace and its view of the API server, past every cache.
type World struct {
	*testing.T
	client.Client
	Namespace string
	// Config is how managers that Start runs reach the API server; a test may change it before.
	Config *rest.Config
}

// New makes a namespace for a test.
func New(t *testing.T) *World {
	t.Helper()
	w := &World{T: t, Config: Config(t)}
	var err error
	w.Client, err = client.New(w.Config, client.Options{Scheme: Scheme})
	w.Must(err)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}
	w.Make(ns)
	w.Namespace = ns.Name
	return w
}

// Alone is a cache of the test's namespace alone.
func (w *World) Alone() cache.Options {
	return cache.Options{DefaultNamespaces: map[string]cache.Config{w.Namespace: {}}}
}

// Start runs a manager with the controllers that setup adds, until the test ends or stop is called. It returns when the
// caches are filled. Changes are made to the options of the manager.
func (w *World) Start(caches cache.Options, setup func(ctrl.Manager) error, changes ...func(*ctrl.Options)) (stop func()) {
	w.Helper()
	options := ctrl.Options{
		Scheme:  Scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		// Every test names its controller alike.
		Controller: config.Controller{SkipNameValidation: new(true)},
		Cache:      caches,
	}
	for _, change := range changes {
		change(&options)
	}
	mgr, err := ctrl.NewManager(w.Config, options)
	w.Must(err)
	w.Must(setup(mgr))
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
			w.Errorf("the manager ended with: %v", err)
		}
	}
	w.Cleanup(stop)
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		w.Fatal("the cache does not fill")
	}
	return stop
}

// Must ends the test where err is one.
func (w *World) Must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// Make creates an object.
func (w *World) Make(obj client.Object) {
	w.Helper()
	if err := w.Create(w.Context(), obj); err != nil {
		w.Fatalf("creating %T: %v", obj, err)
	}
}

// Remove deletes an object, at once.
func (w *World) Remove(obj client.Object) {
	w.Helper()
	if err := w.Delete(w.Context(), obj, client.GracePeriodSeconds(0)); err != nil {
		w.Fatalf("deleting %T: %v", obj, err)
	}
}

// Change reads an object anew, changes it, and writes it back.
func Change[T client.Object](w *World, obj T, mutate func(T)) {
	w.Helper()
	w.Eventually(func() error {
		if err := w.Get(w.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		mutate(obj)
		return w.Update(w.Context(), obj)
	})
}

// Eventually polls until check has nothing to say.
func (w *World) Eventually(check func() error) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("still, after %s: %v", patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
