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
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/dataplane/model"
)

const (
	configVersion = "config.fairlead.dev/v1alpha1"
	configKind    = "NodeAgentConfiguration"
)

// Modes of a Configuration.
const (
	// modeReplace serves all Services but those of other proxies, and owns the ServiceCIDRs.
	modeReplace = "Replace"
	// modeCoexist serves only Services labelled service.kubernetes.io/service-proxy-name: fairlead.
	modeCoexist = "Coexist"
)

// Configuration is the file given with --config.
type Configuration struct {
	metav1.TypeMeta `json:",inline"`

	// Mode is Replace, the default, or Coexist.
	Mode string `json:"mode,omitempty"`
	// NodePortAddresses are CIDRs, or the words primary (the default), all and localhost.
	NodePortAddresses []string       `json:"nodePortAddresses,omitempty"`
	LocalDetection    LocalDetection `json:"localDetection,omitempty"`
	// MasqueradeAll masquerades every connection to a cluster IP.
	MasqueradeAll bool `json:"masqueradeAll,omitempty"`
	// IgnoreExternalIPs leaves spec.externalIPs of Services unserved.
	IgnoreExternalIPs bool `json:"ignoreExternalIPs,omitempty"`
	// MinSyncPeriod is the least time between two writes, 100ms by default.
	MinSyncPeriod *metav1.Duration `json:"minSyncPeriod,omitempty"`
	// SyncPeriod is the time between full writes, which repair what others changed; 10m by default.
	SyncPeriod *metav1.Duration `json:"syncPeriod,omitempty"`
	// HealthzBindAddress serves /healthz and /livez, :10256 by default; "" turns it off.
	HealthzBindAddress *string `json:"healthzBindAddress,omitempty"`
	// MetricsBindAddress serves /metrics and /proxyMode, 127.0.0.1:10249 by default; "" turns it off.
	MetricsBindAddress *string `json:"metricsBindAddress,omitempty"`
}

// LocalDetection tells Pods from outside clients, by one of its fields.
type LocalDetection struct {
	// ClusterCIDRs are the ranges of all Pods.
	ClusterCIDRs []string `json:"clusterCIDRs,omitempty"`
	// NodeCIDR uses the ranges in this node's spec.podCIDRs.
	NodeCIDR bool `json:"nodeCIDR,omitempty"`
	// InterfacePrefixes begin the names of Pods' interfaces on the node.
	InterfacePrefixes []string `json:"interfacePrefixes,omitempty"`
}

// loadConfiguration reads, completes and checks a file; no path means all defaults. The error names every field that
// is wrong.
func loadConfiguration(path string) (*Configuration, error) {
	c := &Configuration{TypeMeta: metav1.TypeMeta{APIVersion: configVersion, Kind: configKind}}
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		c.TypeMeta = metav1.TypeMeta{}
		if err := yaml.UnmarshalStrict(data, c); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func (c *Configuration) setDefaults() {
	defaultTo := func(field **string, value string) {
		if *field == nil {
			*field = &value
		}
	}
	defaultTo(&c.HealthzBindAddress, ":10256")
	defaultTo(&c.MetricsBindAddress, "127.0.0.1:10249")
	if c.Mode == "" {
		c.Mode = modeReplace
	}
	if c.MinSyncPeriod == nil {
		c.MinSyncPeriod = &metav1.Duration{Duration: 100 * time.Millisecond}
	}
	if c.SyncPeriod == nil {
		c.SyncPeriod = &metav1.Duration{Duration: 10 * time.Minute}
	}
}

func (c *Configuration) validate() error {
	var problems []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	check(c.APIVersion == configVersion, "apiVersion is %q, want %s", c.APIVersion, configVersion)
	check(c.Kind == configKind, "kind is %q, want %s", c.Kind, configKind)
	check(c.Mode == modeReplace || c.Mode == modeCoexist, "mode is %q, want %s or %s", c.Mode, modeReplace, modeCoexist)
	check(c.MinSyncPeriod.Duration >= 0, "minSyncPeriod is %v, want 0 or more", c.MinSyncPeriod.Duration)
	check(c.SyncPeriod.Duration >= time.Second, "syncPeriod is %v, want 1s or more", c.SyncPeriod.Duration)
	_, err := model.ParseNodePortPolicy(c.NodePortAddresses)
	check(err == nil, "nodePortAddresses: %v", err)
	_, err = model.ParsePrefixes(c.LocalDetection.ClusterCIDRs)
	check(err == nil, "localDetection.clusterCIDRs: %v", err)
	check(c.LocalDetection.ways() <= 1, "localDetection: set one of clusterCIDRs, nodeCIDR and interfacePrefixes, not several")
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

func (d LocalDetection) ways() int {
	n := 0
	for _, set := range []bool{len(d.ClusterCIDRs) > 0, d.NodeCIDR, len(d.InterfacePrefixes) > 0} {
		if set {
			n++
		}
	}
	return n
}

func (c *Configuration) coexist() bool { return c.Mode == modeCoexist }

// warn says what the configuration leaves undone.
func (c *Configuration) warn(log logr.Logger) {
	if c.LocalDetection.ways() == 0 && !c.MasqueradeAll {
		log.Info("Cannot tell Pods from outside clients: connections to cluster IPs are not masqueraded, and Pods "+
			"reach external addresses of Local Services like outside clients", "remedy", "set localDetection in the configuration")
	}
}

// modelOptions are what validate has checked.
func (c *Configuration) modelOptions(nodeName string) (model.Options, error) {
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
