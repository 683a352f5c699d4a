package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/dataplane/model"
)

// configuration is the file given with --config, completed and checked.
type configuration struct {
	configv1alpha1.NodeAgentConfiguration
}

// loadConfiguration reads, completes and checks a file; no path means all defaults. The error names every field that
// is wrong.
func loadConfiguration(path string) (*configuration, error) {
	c := &configuration{}
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		if err := configv1alpha1.Decode(data, &c.NodeAgentConfiguration); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func (c *configuration) setDefaults() {
	defaultTo := func(field **string, value string) {
		if *field == nil {
			*field = &value
		}
	}
	defaultTo(&c.HealthzBindAddress, ":10256")
	defaultTo(&c.MetricsBindAddress, "127.0.0.1:10249")
	if c.Mode == "" {
		c.Mode = configv1alpha1.ModeReplace
	}
	if c.MinSyncPeriod == nil {
		c.MinSyncPeriod = &metav1.Duration{Duration: 100 * time.Millisecond}
	}
	if c.SyncPeriod == nil {
		c.SyncPeriod = &metav1.Duration{Duration: 10 * time.Minute}
	}
}

func (c *configuration) validate() error {
	var problems []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	check(c.Mode == configv1alpha1.ModeReplace || c.Mode == configv1alpha1.ModeCoexist,
		"mode is %q, want %s or %s", c.Mode, configv1alpha1.ModeReplace, configv1alpha1.ModeCoexist)
	check(c.MinSyncPeriod.Duration >= 0, "minSyncPeriod is %v, want 0 or more", c.MinSyncPeriod.Duration)
	check(c.SyncPeriod.Duration >= time.Second, "syncPeriod is %v, want 1s or more", c.SyncPeriod.Duration)
	_, err := model.ParseNodePortPolicy(c.NodePortAddresses)
	check(err == nil, "nodePortAddresses: %v", err)
	_, err = model.ParsePrefixes(c.LocalDetection.ClusterCIDRs)
	check(err == nil, "localDetection.clusterCIDRs: %v", err)
	check(c.detections() <= 1, "localDetection: set one of clusterCIDRs, nodeCIDR and interfacePrefixes, not several")
	for _, prefix := range c.LocalDetection.InterfacePrefixes {
		check(prefix != "" && len(prefix) < 16 && !strings.ContainsAny(prefix, "/* \t\n"),
			"localDetection.interfacePrefixes: %q cannot begin an interface's name (1 to 15 characters, no / * or blanks)", prefix)
	}
	check(bindable(*c.HealthzBindAddress), "healthzBindAddress: %q is not address:port", *c.HealthzBindAddress)
	check(bindable(*c.MetricsBindAddress), "metricsBindAddress: %q is not address:port", *c.MetricsBindAddress)
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// bindable accepts address:port, :port, and "" for off. It does not resolve names.
func bindable(address string) bool {
	if address == "" {
		return true
	}
	if strings.HasPrefix(address, ":") {
		address = "0.0.0.0" + address
	}
	_, err := netip.ParseAddrPort(address)
	return err == nil
}

// detections counts the ways of local detection that are asked for.
func (c *configuration) detections() int {
	d, n := c.LocalDetection, 0
	for _, set := range []bool{len(d.ClusterCIDRs) > 0, d.NodeCIDR, len(d.InterfacePrefixes) > 0} {
		if set {
			n++
		}
	}
	return n
}

func (c *configuration) coexist() bool { return c.Mode == configv1alpha1.ModeCoexist }

// warn says what the configuration leaves undone.
func (c *configuration) warn(log logr.Logger) {
	if c.detections() == 0 && !c.MasqueradeAll {
		log.Info("Cannot tell Pods from outside clients: connections to cluster IPs are not masqueraded, and Pods "+
			"reach external addresses of Local Services like outside clients", "remedy", "set localDetection in the configuration")
	}
}

// modelOptions are what validate has checked.
func (c *configuration) modelOptions(nodeName string) (model.Options, error) {
	nodePorts, err := model.ParseNodePortPolicy(c.NodePortAddresses)
	if err != nil {
		return model.Options{}, fmt.Errorf("reading nodePortAddresses: %w", err)
	}
	clusterCIDRs, err := model.ParsePrefixes(c.LocalDetection.ClusterCIDRs)
	if err != nil {
		return model.Options{}, fmt.Errorf("reading localDetection.clusterCIDRs: %w", err)
	}
	return model.Options{
		NodeName:          nodeName,
		Coexist:           c.coexist(),
		MasqueradeAll:     c.MasqueradeAll,
		IgnoreExternalIPs: c.IgnoreExternalIPs,
		NodePorts:         nodePorts,
		LocalDetection: model.LocalDetection{
			ClusterCIDRs:      clusterCIDRs,
			NodeCIDR:          c.LocalDetection.NodeCIDR,
			InterfacePrefixes: c.LocalDetection.InterfacePrefixes,
		},
	}, nil
}
