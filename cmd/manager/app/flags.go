package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/buildinfo"
)

// settings is all that the command line and the configuration file say.
type settings struct {
	configuration *configv1alpha1.ManagerConfiguration
	logFormat     string
	verbosity     int
}

// parse reads flags and the file that --config names; only flags that were given override the file. The error names
// every mistake. Without an error, nil settings mean that all that was asked for has been printed.
func parse(args []string, stdout io.Writer) (*settings, error) {
	s := &settings{configuration: &configv1alpha1.ManagerConfiguration{}}
	var file string
	var version bool
	var given []func(*configv1alpha1.ManagerConfiguration)

	fs := flag.NewFlagSet("manager", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the mistake is printed by the caller, once, and usage only when asked for
	fs.StringVar(&file, "config", "", "`file` with a ManagerConfiguration (config.fairlead.dev/v1alpha1)")
	fs.BoolVar(&version, "version", false, "print the version and exit")
	fs.StringVar(&s.logFormat, "log-format", "json", "json or text")
	fs.IntVar(&s.verbosity, "v", 0, "verbosity of logs: 0 what changed, 1 why nothing did, above 3 libraries too")
	overrides(fs, &given)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			usage(fs, stdout)
			return nil, err
		}
		return nil, fmt.Errorf("%w: see --help", err)
	}
	switch {
	case version:
		fmt.Fprintln(stdout, buildinfo.Line("manager"))
		return nil, nil
	case fs.NArg() > 0:
		return nil, fmt.Errorf("%q is not a flag: flags begin with --, see --help", fs.Arg(0))
	case s.logFormat != "json" && s.logFormat != "text":
		return nil, fmt.Errorf("--log-format: %q is not a format: write json or text", s.logFormat)
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
		if err := configv1alpha1.Decode(data, s.configuration); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, override := range given {
		override(s.configuration)
	}
	s.configuration.Default()
	if err := errors.Join(s.configuration.Validate(), checkCloud(s.configuration.Cloud)); err != nil {
		return nil, err
	}
	return s, nil
}

// overrides declares the flags that stand for fields of the configuration file. Each one that is given adds to
// given what it changes, so that one that is not given changes nothing.
func overrides(fs *flag.FlagSet, given *[]func(*configv1alpha1.ManagerConfiguration)) {
	text := func(name, usage string, set func(*configv1alpha1.ManagerConfiguration, string)) {
		fs.Func(name, usage, func(value string) error {
			*given = append(*given, func(c *configv1alpha1.ManagerConfiguration) { set(c, value) })
			return nil
		})
	}
	truth := func(name, usage string, set func(*configv1alpha1.ManagerConfiguration, *bool)) {
		fs.BoolFunc(name, usage, func(value string) error {
			b, err := strconv.ParseBool(value)
			if err != nil {
				return errors.New("write true or false")
			}
			*given = append(*given, func(c *configv1alpha1.ManagerConfiguration) { set(c, &b) })
			return nil
		})
	}
	number := func(name, usage string, set func(*configv1alpha1.ManagerConfiguration, float64)) {
		fs.Func(name, usage, func(value string) error {
			n, err := strconv.ParseFloat(value, 32)
			if err != nil {
				return errors.New("write a number")
			}
			*given = append(*given, func(c *configv1alpha1.ManagerConfiguration) { set(c, n) })
			return nil
		})
	}
	text("mode", "`Replace` or Coexist (mode)", func(c *configv1alpha1.ManagerConfiguration, v string) { c.Mode = configv1alpha1.Mode(v) })
	text("controllers", "`list` of controllers to run, such as *,-nodeport (controllers); known are "+strings.Join(configv1alpha1.Controllers(), ", "),
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.Controllers = strings.Split(v, ",") })
	text("cluster-id", "`id` of this cluster in clouds (clusterID)", func(c *configv1alpha1.ManagerConfiguration, v string) { c.ClusterID = v })
	text("node-port-range", "the API server's range of node ports, `first-last` (nodePortRange)",
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.NodePortRange = v })
	text("cloud-provider", "`name` of the provider for Services without a class (cloud.provider)",
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.Cloud.Provider = v })
	text("cloud-config", "`file` for the provider (cloud.configFile)", func(c *configv1alpha1.ManagerConfiguration, v string) { c.Cloud.ConfigFile = v })
	text("cloud-fake-endpoint", "`URL` of the fake cloud (cloud.fake.endpoint)",
		func(c *configv1alpha1.ManagerConfiguration, v string) {
			c.Cloud.Fake = &configv1alpha1.FakeCloud{Endpoint: v}
		})
	truth("leader-elect", "compete for a lease before doing anything (leaderElection.enabled)",
		func(c *configv1alpha1.ManagerConfiguration, v *bool) { c.LeaderElection.Enabled = v })
	text("leader-elect-namespace", "`namespace` of the lease (leaderElection.namespace)",
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.LeaderElection.Namespace = v })
	text("metrics-bind-address", "`host:port` of /metrics, or 0 for none (metrics.bindAddress)",
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.Metrics.BindAddress = v })
	truth("metrics-secure", "serve /metrics over HTTPS to those who may read it (metrics.secure)",
		func(c *configv1alpha1.ManagerConfiguration, v *bool) { c.Metrics.Secure = v })
	text("health-probe-bind-address", "`host:port` of /healthz and /readyz, or 0 for none (health.bindAddress)",
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.Health.BindAddress = v })
	text("webhook-bind-address", "`host:port` of the webhooks (webhook.bindAddress)",
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.Webhook.BindAddress = v })
	text("kubeconfig", "`file` that says where the API server is (clientConnection.kubeconfig)",
		func(c *configv1alpha1.ManagerConfiguration, v string) { c.ClientConnection.Kubeconfig = v })
	number("kube-api-qps", "`requests` a second on average (clientConnection.qps)",
		func(c *configv1alpha1.ManagerConfiguration, v float64) { c.ClientConnection.QPS = new(float32(v)) })
	number("kube-api-burst", "`requests` at once (clientConnection.burst)",
		func(c *configv1alpha1.ManagerConfiguration, v float64) { c.ClientConnection.Burst = new(int32(v)) })
}

func usage(fs *flag.FlagSet, w io.Writer) {
	fmt.Fprintln(w, "manager runs Fairlead's controllers. A flag overrides the field of the configuration file that it names.")
	fs.SetOutput(w)
	fs.PrintDefaults()
}
