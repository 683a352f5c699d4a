package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/buildinfo"
)

const (
	// stopWithin is how long controllers may take to finish what they are at. It is below a Pod's usual grace
	// period of 30 s, so that the lease is given back before the process is killed.
	stopWithin = 20 * time.Second
	// reconcileWithin bounds one pass of one controller: a cloud that hangs must not keep a worker for ever.
	reconcileWithin = 5 * time.Minute
)

// inPodNamespace is where a Pod finds the name of its own namespace.
const inPodNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// start connects, wires the controllers and runs them until ctx ends.
func start(ctx context.Context, log logr.Logger, c *configv1alpha1.ManagerConfiguration) error {
	cfg, err := connect(c.ClientConnection)
	if err != nil {
		return err
	}
	names, mistakes := configv1alpha1.SelectControllers(c.Controllers)
	if len(mistakes) > 0 {
		return errors.Join(mistakes...)
	}
	version, err := reach(ctx, cfg, needCustomResources(names), giveUpAfter)
	if err != nil {
		return err
	}
	if c.ClusterID == "" {
		if c.ClusterID, err = clusterID(ctx, cfg); err != nil {
			return err
		}
	}
	log.Info("Starting", "version", buildinfo.Line("manager"), "apiServerVersion", version, "mode", c.Mode,
		"controllers", strings.Join(names, ","), "clusterID", c.ClusterID)

	hooks := newHooks(c, names)
	mgr, err := newManager(cfg, log, c, hooks)
	if err != nil {
		return err
	}
	if err := hooks.setup(mgr); err != nil {
		return err
	}
	if err := wire(mgr, c, names, hooks); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	log.Info("Stopped")
	return nil
}

// newManager makes a manager without controllers.
func newManager(cfg *rest.Config, log logr.Logger, c *configv1alpha1.ManagerConfiguration, hooks *hooks) (ctrl.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	metrics := metricsserver.Options{BindAddress: c.Metrics.BindAddress, CertDir: c.Metrics.CertDir}
	if *c.Metrics.Secure {
		metrics.SecureServing = true
		metrics.FilterProvider = filters.WithAuthenticationAndAuthorization
		// HTTP/2 gains a scraper nothing and has cost servers much (CVE-2023-44487).
		metrics.TLSOpts = []func(*tls.Config){func(t *tls.Config) { t.NextProtos = []string{"http/1.1"} }}
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:  scheme,
		Logger:  log,
		Cache:   cacheOptions(ownNamespace(c)),
		Metrics: metrics,

		WebhookServer: hooks.server(),

		HealthProbeBindAddress:  c.Health.BindAddress,
		GracefulShutdownTimeout: new(stopWithin),

		LeaderElection:          *c.LeaderElection.Enabled,
		LeaderElectionNamespace: ownNamespace(c),
		LeaderElectionID:        c.LeaderElection.Name,
		LeaderElectionConfig:    unlimited(cfg),
		LeaseDuration:           &c.LeaderElection.LeaseDuration.Duration,
		RenewDeadline:           &c.LeaderElection.RenewDeadline.Duration,
		RetryPeriod:             &c.LeaderElection.RetryPeriod.Duration,
		// The process ends when the manager does, so that the next leader need not wait for the lease to run out.
		LeaderElectionReleaseOnCancel: true,

		Controller: config.Controller{
			// Standbys keep their caches filled and take over without listing everything first.
			EnableWarmup:          new(true),
			ReconciliationTimeout: reconcileWithin,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", synced(mgr.GetCache())); err != nil {
		return nil, fmt.Errorf("adding the readiness check: %w", err)
	}
	return mgr, nil
}

// newScheme knows the kinds that the controllers read or write, and no others: a typing mistake in a controller
// fails at once rather than as a request for a kind that it has no rights to.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistrationv1.AddToScheme, corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, fairleadv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering kinds: %w", err)
		}
	}
	return scheme, nil
}

// synced is ready once every cache that was asked for is filled: a leader that has it works, a standby that has
// it can take over.
func synced(c cache.Cache) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), time.Second)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errors.New("caches are still being filled")
		}
		return nil
	}
}

// ownNamespace is where the lease is, and the certificate of the webhooks.
func ownNamespace(c *configv1alpha1.ManagerConfiguration) string {
	if configured := c.LeaderElection.Namespace; configured != "" {
		return configured
	}
	if own, err := os.ReadFile(inPodNamespace); err == nil {
		return strings.TrimSpace(string(own))
	}
	return configv1alpha1.DefaultLeaderElectionNamespace
}
