package app

import (
	"testing"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
)

// TestNewHooks: webhooks are served where a controller has one, and nobody listens for nothing.
func TestNewHooks(t *testing.T) {
	const nodePort, topology, endpoints = configv1alpha1.ControllerNodePort, configv1alpha1.ControllerTopology, configv1alpha1.ControllerEndpoints
	cases := map[string]struct {
		mode  configv1alpha1.Mode
		names []string
		want  bool
	}{
		"Replace":              {configv1alpha1.ModeReplace, configv1alpha1.Controllers(), true},
		"Coexist":              {configv1alpha1.ModeCoexist, configv1alpha1.Controllers(), true},
		"ReplaceNodePort":      {configv1alpha1.ModeReplace, []string{nodePort}, true},
		"CoexistBalancer":      {configv1alpha1.ModeCoexist, []string{configv1alpha1.ControllerLoadBalancer}, true},
		"CoexistTopology":      {configv1alpha1.ModeCoexist, []string{topology}, true},
		"ReplaceTopology":      {configv1alpha1.ModeReplace, []string{topology, endpoints}, false},
		"CoexistWithoutEither": {configv1alpha1.ModeCoexist, []string{endpoints}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := &configv1alpha1.ManagerConfiguration{Mode: tc.mode}
			c.Default()
			hooks := newHooks(c, tc.names)
			if (hooks != nil) != tc.want || (hooks.server() != nil) != tc.want {
				t.Fatalf("served: %t, want %t", hooks != nil, tc.want)
			}
			if hooks != nil && (hooks.host != "" || hooks.port != 9443 || hooks.keeper.Configuration != configv1alpha1.WebhookConfigurationName) {
				t.Errorf("they are %+v", hooks)
			}
		})
	}
}
