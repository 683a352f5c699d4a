package nodeport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/portalloc"
	"github.com/fairlead/fairlead/test/apiserver"
)

// hooked is an API server with the default range that asks the webhook.
type hooked struct {
	*world
	options  envtest.WebhookInstallOptions
	warnings *warningsOf
	// times are what the handler took.
	mu    sync.Mutex
	times []time.Duration
}

// warningsOf collects what the API server warns of.
type warningsOf struct {
	mu    sync.Mutex
	texts []string
}

func (w *warningsOf) HandleWarningHeaderWithContext(_ context.Context, _ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warningsOf) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.Join(w.texts, "\n")
	w.texts = nil
	return text
}

// newHooked starts the API server. The webhook is not served before manage.
func newHooked(t *testing.T) *hooked {
	t.Helper()
	apiserver.Config(t) // or it is skipped
	env := &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true, WebhookInstallOptions: envtest.WebhookInstallOptions{
		MutatingWebhooks: []*admissionregistrationv1.MutatingWebhookConfiguration{shipped(t)}}}
	env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	cfg, err := env.Start()
	if err != nil {
		t.Fatalf("starting the API server: %v", err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	cfg.QPS = -1
	h := &hooked{options: env.WebhookInstallOptions, warnings: &warningsOf{}}
	cfg.WarningHandlerWithContext = h.warnings
	c, err := client.New(cfg, client.Options{Scheme: apiserver.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	h.world = &world{World: &apiserver.World{T: t, Client: c, Namespace: "web", Config: cfg}}
	h.Must(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web"}}))
	h.Must(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}}))
	return h
}

// shipped is the webhook configuration as it is installed.
func shipped(t *testing.T) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	raw, err := os.ReadFile("../../config/webhook/webhooks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(raw, configuration); err != nil {
		t.Fatal(err)
	}
	return configuration
}

// hookConfiguration is its name.
const hookConfiguration = "fairlead-manager"

// timed is a server that notes what the handler takes.
type timed struct {
	h *hooked
	webhook.Server
}

func (s *timed) Register(path string, hook http.Handler) {
	inner := hook.(*webhook.Admission).Handler
	s.Server.Register(path, &webhook.Admission{Handler: admission.HandlerFunc(func(ctx context.Context, request admission.Request) admission.Response {
		begin := time.Now()
		response := inner.Handle(ctx, request)
		s.h.mu.Lock()
		s.h.times = append(s.h.times, time.Since(begin))
		s.h.mu.Unlock()
		return response
	})})
}

// manage runs a manager with the webhook, and returns when that answers.
func (h *hooked) manage() (stop func()) {
	h.Helper()
	mgr, err := ctrl.NewManager(h.Config, ctrl.Options{Scheme: apiserver.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		WebhookServer: &timed{h, webhook.NewServer(webhook.Options{Host: h.options.LocalServingHost, Port: h.options.LocalServingPort,
			CertDir: h.options.LocalServingCertDir})}})
	h.Must(err)
	r := &Reconciler{Coexist: true, WebhookConfiguration: hookConfiguration}
	h.Must(r.SetupWithManager(mgr))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := mgr.Start(ctx); err != nil {
			h.Errorf("the manager ended: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	h.Cleanup(stop)
	started := mgr.GetWebhookServer().StartedChecker()
	h.Eventually(func() error {
		if !r.Book.ready() {
			return errors.New("the book is not filled")
		}
		return started(&http.Request{})
	})
	return stop
}

// everywhere is a pool of the namespace web with the whole range.
func (h *hooked) everywhere(change func(*v1alpha1.NodePortPoolSpec)) *v1alpha1.NodePortPool {
	p := h.pool("everywhere", int32(portalloc.DefaultRange.First), int32(portalloc.DefaultRange.Last), change)
	h.becomes(p, func() string {
		if p.Status.Size == nil {
			return "there is no status"
		}
		return ""
	})
	return p
}

// enforced polls until Services that do not keep to the pools are refused.
func (h *hooked) enforced() {
	h.Helper()
	probe := nodePort("probe", 80) // no namespace may have it
	probe.Namespace = "other"
	h.Eventually(func() error {
		err := h.Create(h.Context(), probe.DeepCopy(), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "node ports of Service other/probe") {
			return fmt.Errorf("the probe was answered with: %w", err)
		}
		return nil
	})
}

func enforce(s *v1alpha1.NodePortPoolSpec) { s.Enforcement = v1alpha1.EnforcementEnforce }
