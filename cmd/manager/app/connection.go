package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/log"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

const (
	// giveUpAfter is how long the manager waits for an API server that does not answer before it ends, so that
	// whatever started it shows the failure.
	giveUpAfter = 30 * time.Second
	// tryEvery is the pause between two tries; oneTry how long one may take.
	tryEvery = time.Second
	oneTry   = 5 * time.Second
)

// connect makes the client configuration. Nothing is sent yet.
func connect(c configv1alpha1.ClientConnection) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("there is no kubeconfig and this is not a Pod: set clientConnection.kubeconfig or --kubeconfig")
	case err != nil:
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	cfg.QPS, cfg.Burst = *c.QPS, int(*c.Burst)
	// Compressing every event of every watch costs the API server and us more than the network between us.
	cfg.DisableCompression = true
	if cfg.QPS > 0 {
		// One bucket for all clients; each would make its own otherwise.
		cfg.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(cfg.QPS, cfg.Burst)
	}
	// The API server warns of Endpoints, which are deprecated, at every write: once is enough.
	cfg.WarningHandlerWithContext = log.NewKubeAPIWarningLogger(log.KubeAPIWarningLoggerOptions{Deduplicate: true})
	return rest.AddUserAgent(cfg, "fairlead-manager"), nil
}

// unlimited is cfg without a limit of requests. Renewing the lease must never wait behind other requests.
func unlimited(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.RateLimiter, cfg.QPS = nil, -1
	return cfg
}

// reach waits until the API server answers and knows our custom resources, if they are needed, for at most
// patience. It returns the server's version.
func reach(ctx context.Context, cfg *rest.Config, needCustomResources bool, patience time.Duration) (string, error) {
	cfg = unlimited(cfg)
	cfg.Timeout = oneTry
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return "", fmt.Errorf("preparing to reach the API server: %w", err)
	}
	var version string
	var lastErr error
	err = wait.PollUntilContextTimeout(ctx, tryEvery, patience, true, func(ctx context.Context) (bool, error) {
		info, err := client.ServerVersionWithContext(ctx)
		if err == nil && needCustomResources {
			err = haveCustomResources(ctx, client)
		}
		if hopeless(err) {
			return false, err
		}
		if err == nil {
			version = info.GitVersion
			return true, nil
		}
		if lastErr == nil || ctx.Err() == nil { // that patience ran out during a try says less than the try before
			lastErr = err
		}
		return false, nil
	})
	switch {
	case err == nil:
		return version, nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("stopped while waiting for the API server: %w", ctx.Err())
	case errors.Is(lastErr, errNoCustomResources):
		return "", lastErr
	case lastErr != nil && wait.Interrupted(err):
		return "", fmt.Errorf("the API server %s did not answer for %s: check that it runs and that the kubeconfig names it (%w)", cfg.Host, patience, lastErr)
	case apierrors.IsUnauthorized(err):
		return "", fmt.Errorf("the API server %s does not know these credentials: put new ones into the kubeconfig (%w)", cfg.Host, err)
	default:
		return "", fmt.Errorf("the API server %s cannot be trusted: put its certificate authority into the kubeconfig (%w)", cfg.Host, err)
	}
}

// hopeless tells errors that trying again cannot mend.
func hopeless(err error) bool {
	var certificate *tls.CertificateVerificationError
	return apierrors.IsUnauthorized(err) || errors.As(err, &certificate)
}

var errNoCustomResources = errors.New("the API server does not have the CustomResourceDefinitions")

func haveCustomResources(ctx context.Context, client discovery.ServerResourcesInterfaceWithContext) error {
	missing := []string{"endpointselectors", "loadbalancerclasses", "loadbalancerrecords", "nodeportpools"}
	list, err := client.ServerResourcesForGroupVersionWithContext(ctx, fairleadv1alpha1.SchemeGroupVersion.String())
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil {
		for _, r := range list.APIResources {
			missing = slices.DeleteFunc(missing, func(name string) bool { return name == r.Name })
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w %s of %s: apply config/crd, or run without the controllers %s, %s and %s", errNoCustomResources,
			strings.Join(missing, " and "), fairleadv1alpha1.SchemeGroupVersion, configv1alpha1.ControllerEndpointSlice,
			configv1alpha1.ControllerLoadBalancer, configv1alpha1.ControllerNodePort)
	}
	return nil
}

// +kubebuilder:rbac:groups="",resources=namespaces,resourceNames=kube-system,verbs=get

// clusterID is the UID of the namespace kube-system: it lives as long as the cluster and is never given twice.
func clusterID(ctx context.Context, cfg *rest.Config) (string, error) {
	client, err := corev1client.NewForConfig(unlimited(cfg))
	if err != nil {
		return "", fmt.Errorf("preparing to read the namespace kube-system: %w", err)
	}
	namespace, err := client.Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("reading the UID of the namespace kube-system, which is the cluster's id unless clusterID is set: %w", err)
	}
	return string(namespace.UID), nil
}
