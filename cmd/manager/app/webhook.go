package app

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/controllers/certificate"
)

// certificateSecret is the name of the Secret of config/webhook.
const certificateSecret = "fairlead-manager-webhook"

// hooks are the one server of all webhooks and its certificate. Nil: no controller has any.
type hooks struct {
	host   string
	port   int
	keeper *certificate.Keeper
}

// newHooks returns nil where none of the controllers has a webhook.
func newHooks(c *configv1alpha1.ManagerConfiguration, names []string) *hooks {
	hints := c.Mode == configv1alpha1.ModeCoexist && slices.Contains(names, configv1alpha1.ControllerTopology)
	if !hints && !slices.Contains(names, configv1alpha1.ControllerNodePort) && !slices.Contains(names, configv1alpha1.ControllerLoadBalancer) {
		return nil
	}
	host, port, _ := net.SplitHostPort(c.Webhook.BindAddress) // It was validated.
	number, _ := strconv.Atoi(port)
	return &hooks{host: host, port: number, keeper: &certificate.Keeper{
		Secret:        types.NamespacedName{Namespace: ownNamespace(c), Name: certificateSecret},
		Configuration: configv1alpha1.WebhookConfigurationName,
	}}
}

// server returns the server to register webhooks with; nil: controller-runtime's own, which nobody asks for.
func (h *hooks) server() webhook.Server {
	if h == nil {
		return nil
	}
	return webhook.NewServer(webhook.Options{
		Host: h.host, Port: h.port,
		TLSOpts: []func(*tls.Config){func(t *tls.Config) { t.GetCertificate = h.keeper.GetCertificate }},
	})
}

// setup keeps the certificate, and the manager from being asked before there is one.
func (h *hooks) setup(mgr ctrl.Manager) error {
	if h == nil {
		return nil
	}
	if err := h.keeper.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("setting up the certificate of the webhooks: %w", err)
	}
	if err := mgr.AddReadyzCheck("webhooks", h.keeper.Ready); err != nil {
		return fmt.Errorf("adding the readiness check of the webhooks: %w", err)
	}
	return nil
}
