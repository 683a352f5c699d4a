// Package apiserver gives tests a real API server, which all tests of a package share, and each test a World: a
// namespace to put objects into, to run controllers on, and to watch for what they do.
//
// It is for tests alone, and no cluster: nothing runs but etcd and kube-apiserver, so that Pods have the status that a
// test gives them, and nobody collects garbage.
package apiserver

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Options say what a package's API server is like. It is dual stack.
type Options struct {
	// CRDs is the folder of our kinds' definitions, seen from the package. Empty: the API server does not know them.
	CRDs string
	// Flags are more of kube-apiserver's, by their names without dashes.
	Flags map[string]string
}

// Scheme knows Kubernetes' kinds and ours.
var Scheme = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}()

// patience is for what takes seconds at most on a quiet machine: machines stand still for a while too.
const patience = 2 * time.Minute

// admin is how the API server is reached as its administrator.
var admin *rest.Config

// Main runs the tests of a package, for its TestMain, and ends the process. Where there is no API server, each test
// that asks for one is skipped.
func Main(m *testing.M, opts Options) {
	log.SetLogger(klog.Background())
	flag.Parse()
	// A fuzz worker runs no tests. Its API server would keep open the pipes by which it is told to end, so that fuzzing
	// would not end either.
	worker := flag.Lookup("test.fuzzworker").Value.String() == "true"
	if os.Getenv("KUBEBUILDER_ASSETS") == "" || worker {
		os.Exit(m.Run())
	}
	env := &envtest.Environment{ControlPlaneStartTimeout: patience, ControlPlaneStopTimeout: patience}
	env.CRDInstallOptions.MaxTime = patience
	if opts.CRDs != "" {
		env.CRDDirectoryPaths, env.ErrorIfCRDPathMissing = []string{opts.CRDs}, true
	}
	flags := env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112")
	for name, value := range opts.Flags {
		flags.Set(name, value)
	}
	var err error
	if admin, err = env.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "starting the API server:", err)
		os.Exit(1)
	}
	storage = env.ControlPlane.Etcd.URL.String()
	code := m.Run()
	if err := env.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		code = 1
	}
	os.Exit(code)
}

// Config returns how the API server is reached, to be changed at will, or skips the test where there is none.
func Config(t *testing.T) *rest.Config {
	t.Helper()
	// Asked here, not by way of admin: only what is read after the tests began makes a cached result stale.
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("no API server: run `make controlplane` and set KUBEBUILDER_ASSETS to the folder that it prints")
	}
	return rest.CopyConfig(admin)
}
