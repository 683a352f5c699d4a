package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/api/config/kubeproxy"
	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/sysctl"
)

// configuration is the file given with --config, completed and checked.
type configuration struct {
	configv1alpha1.NodeAgentConfiguration

	// kubeProxy is the file as it was read if it is a KubeProxyConfiguration; else nil.
	kubeProxy *kubeproxy.Configuration
	// unknown are things in it that no KubeProxyConfiguration has, notes what has no effect.
	unknown []string
	notes   []kubeproxy.Note
	// names are those of the file, by ours, where they differ.
	names map[string]string
}

// loadConfiguration reads, completes and checks a file of either kind; no path means all defaults. The error names
// every field that is wrong.
func loadConfiguration(path string) (*configuration, error) {
	c := &configuration{}
	var problems []string
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		if problems, err = c.read(data); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	c.setDefaults()
	if problems = append(problems, c.validate()...); len(problems) > 0 {
		return nil, fmt.Errorf("configuration %s: %w", path, errors.New(strings.Join(problems, "; ")))
	}
	return c, nil
}

// read returns what can be read but not be translated to ours, besides what cannot be read at all.
func (c *configuration) read(data []byte) (problems []string, err error) {
	if !kubeproxy.Is(data) {
		return nil, configv1alpha1.Decode(data, &c.NodeAgentConfiguration)
	}
	if c.kubeProxy, c.unknown, err = kubeproxy.Decode(data); err != nil {
		return nil, err
	}
	t := c.kubeProxy.Translate()
	c.NodeAgentConfiguration = *t.Config
	c.notes, c.names = t.Notes, t.Names
	return t.Problems, nil
}

func (c *configuration) setDefaults() {
	c.APIVersion, c.Kind = configv1alpha1.GroupVersion.String(), "NodeAgentConfiguration"
	if c.Mode == "" {
		c.Mode = configv1alpha1.ModeReplace
	}
	if len(c.NodePortAddresses) == 0 {
		c.NodePortAddresses = []string{"primary"}
	}
	defaultTo(&c.ClientConnection.QPS, rest.DefaultQPS)
	defaultTo(&c.ClientConnection.Burst, int32(rest.DefaultBurst))
	defaultTo(&c.HealthzBindAddress, ":10256")
	defaultTo(&c.MetricsBindAddress, "127.0.0.1:10249")
	defaultTo(&c.MasqueradeBit, 14)
	defaultTo(&c.MinSyncPeriod, metav1.Duration{Duration: 100 * time.Millisecond})
	defaultTo(&c.SyncPeriod, metav1.Duration{Duration: 10 * time.Minute})
	perCore, least, established, closeWait := int32(32*1024), int32(128*1024), 24*time.Hour, time.Hour
	if c.coexist() {
		perCore, least, established, closeWait = 0, 0, 0, 0 // the other proxy has set them
	}
	defaultTo(&c.Conntrack.MaxPerCore, perCore)
	defaultTo(&c.Conntrack.Min, least)
	defaultTo(&c.Conntrack.TCPEstablishedTimeout, metav1.Duration{Duration: established})
	defaultTo(&c.Conntrack.TCPCloseWaitTimeout, metav1.Duration{Duration: closeWait})
	defaultTo(&c.Conntrack.CleanFlows, true)
	defaultTo(&c.Conntrack.ResetTerminated, true)
}

func defaultTo[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func (c *configuration) coexist() bool { return c.Mode == configv1alpha1.ModeCoexist }

// warn says what the file asks for in vain, and what the configuration leaves undone. It is said once.
func (c *configuration) warn(log logr.Logger) {
	for _, unknown := range c.unknown {
		log.Info("Passing over something unknown in the configuration", "what", unknown)
	}
	for _, note := range c.notes {
		log.Info("A field of the KubeProxyConfiguration means something else here, or nothing", "field", note.Field, "reason", note.Reason)
	}
	if c.detections() == 0 && !c.MasqueradeAll {
		remedy := "set localDetection in the configuration"
		if c.kubeProxy != nil {
			remedy = "set clusterCIDR or detectLocalMode in the configuration"
		}
		log.Info("Cannot tell Pods from outside clients: connections to cluster IPs are not masqueraded, and Pods "+
			"reach external addresses of Local Services like outside clients", "remedy", remedy)
	}
}

// configz is what /configz serves: the configuration as it holds, and under kube-proxy's name what was read of a
// file of its kind.
func (c *configuration) configz() map[string]any {
	out := map[string]any{configv1alpha1.GroupVersion.Group: c.NodeAgentConfiguration}
	if c.kubeProxy != nil {
		out[kubeproxy.GroupVersion.Group] = c.kubeProxy
	}
	return out
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
			Interfaces:        c.LocalDetection.Interfaces,
		},
	}, nil
}

// conntrack is the part of the configuration that becomes sysctls.
func (c *configuration) conntrack() sysctl.Conntrack {
	seconds := func(d *metav1.Duration) time.Duration {
		if d == nil {
			return 0
		}
		return d.Duration
	}
	return sysctl.Conntrack{
		MaxPerCore:            int(*c.Conntrack.MaxPerCore),
		Min:                   int(*c.Conntrack.Min),
		TCPEstablishedTimeout: seconds(c.Conntrack.TCPEstablishedTimeout),
		TCPCloseWaitTimeout:   seconds(c.Conntrack.TCPCloseWaitTimeout),
		TCPBeLiberal:          c.Conntrack.TCPBeLiberal,
		UDPTimeout:            seconds(c.Conntrack.UDPTimeout),
		UDPStreamTimeout:      seconds(c.Conntrack.UDPStreamTimeout),
	}
}
